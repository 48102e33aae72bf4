//! `org.coft.Coft1.Classifier`: answers about images, and the start of rounds.

use super::authorisation::{self, Action};
use super::batch;
use super::clients::{Caller, Clients};
use super::errors::{invalid, named, refused, stopping, unanswered, unasked};
use super::job;
use super::manager;
use super::options::{self, Given};
use super::source;
use crate::control::{Command, CommandError, Control, ReviewItem, ReviewStatus, ServiceCommand, Snapshot};
use crate::edit::Edit;
use crate::observation::{self, GenerationDiff};
use crate::serve::{Classification, Options, Priority, ServeError};
use coft_core::ids::{GenerationId, JobId};
use coft_core::manifest::{MANIFEST, STATED, is_of_a_bundle};
use coft_core::review::{MOST, Share};
use coft_core::schedule;
use coft_core::shown::shown_path;
use coft_dbus::{ClassifyDetails, Comparison, Difference, Error, MANY, ManyDetails, NextRound, OBSERVATIONS, Review};
use coft_vision::Region;
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::sync::watch::Ref;
use tokio::sync::{mpsc, oneshot};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Fd, ObjectServer, OwnedFd, OwnedObjectPath, interface};

/// Deadline of a call that names none: a client that gives up after D-Bus's usual 25 s hears why before that.
const DEADLINE: Duration = Duration::from_secs(24);

pub struct Classifier {
    control: Control,
    service_commands: mpsc::Sender<ServiceCommand>,
    clients: Clients,
}

type Labels = Vec<(String, f64)>;

impl Classifier {
    pub fn new(control: Control, service_commands: mpsc::Sender<ServiceCommand>, clients: Clients) -> Self {
        Self { control, service_commands, clients }
    }

    fn snapshot(&self) -> Ref<'_, Snapshot> {
        self.control.snapshot.borrow()
    }

    /// The job of a round that was asked for.
    async fn job(
        &self,
        answer: oneshot::Receiver<Result<JobId, CommandError>>,
        server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        let round = answer.await.map_err(|_| stopping())?.map_err(refused)?;
        job::export(&self.control, round, server).await
    }
}

#[interface(name = "org.coft.Coft1.Classifier")]
impl Classifier {
    /// Answers one image with class names and their probabilities, 0 to 1, the likeliest first. `image` is an
    /// opened regular file or memfd with an encoded image; it is read from its beginning. `options` are `top-k`
    /// (`u`), `threshold` (`d`), `embedding` (`b`), `deadline-seconds` (`d`, 24 by default) and `priority` (`s`,
    /// `interactive` by default, or `bulk`). `details` tell of the answer: `none-of-these`, `decision`,
    /// `embedding`, `generation`, `queue-seconds`, `decode-seconds`, `inference-seconds` and `provider`.
    ///
    /// Errors: InvalidArgs, BadImage, Busy, DeadlineExceeded, NotReady, Stopping, Failed.
    #[zbus(out_args("labels", "details"))]
    async fn classify(
        &self,
        image: OwnedFd,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(Labels, ClassifyDetails), Error> {
        let options = options::of_classify(options, Priority::Interactive, Some(DEADLINE))?;
        let caller = self.clients.caller(&header, connection).await.map_err(unanswered)?;
        let options = Options { party: caller.party, ..options };
        let work = self.control.classifier.classify(image.into(), &options);
        Ok(answer(held_back(while_there(caller, work).await).await?))
    }

    /// Answers up to 16 images in their order, with the options of `Classify`. All of the images are taken in, or
    /// none. An image that fails has no labels; its details are `error`, which is the last part of the error's
    /// name, and `message`.
    ///
    /// Errors of the call as a whole: InvalidArgs, Busy, Stopping.
    #[zbus(out_args("answers"))]
    async fn classify_many(
        &self,
        images: Vec<Fd<'_>>,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<(Labels, ManyDetails)>, Error> {
        let options = options::of_classify(options, Priority::Interactive, Some(DEADLINE))?;
        if images.len() > MANY {
            let count = images.len();
            return Err(invalid(format!("{count} images; at most {MANY} go into a call, OpenBatch takes more")));
        }
        // Descriptors of our own only now that they are counted.
        let images = images.iter().map(owned).collect::<Result<_, _>>()?;
        let caller = self.clients.caller(&header, connection).await.map_err(unanswered)?;
        let options = Options { party: caller.party, ..options };
        let work = self.control.classifier.classify_many(images, &options);
        let answers = held_back(while_there(caller, work).await).await?;
        let told = |classified: Result<Classification, ServeError>| match classified.map(answer) {
            Ok((labels, details)) => (labels, details.into()),
            Err(error) => {
                let (name, message) = named(unanswered(error));
                (Vec::new(), ManyDetails { error: Some(name), message: Some(message), ..ManyDetails::default() })
            }
        };
        Ok(answers.into_iter().map(told).collect())
    }

    /// Opens a SOCK_SEQPACKET socket for any number of images, one image a message. A request is a JSON object with
    /// an `id`, and the image's descriptor beside it; the answer has the same `id`. `options` are those of
    /// `Classify`; here `priority` is `bulk` by default, and an image has no deadline by default.
    ///
    /// Errors: InvalidArgs, Busy, Stopping, Failed.
    #[zbus(out_args("socket"))]
    async fn open_batch(
        &self,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedFd, Error> {
        let options = options::of_classify(options, Priority::Bulk, None)?;
        let caller = self.clients.caller(&header, connection).await.map_err(unanswered)?;
        let options = Options { party: caller.party, ..options };
        Ok(batch::open(self.control.classifier.clone(), options, caller).map_err(unanswered)?.into())
    }

    /// Starts an adaptation round and returns the path of its job at once. The option `seed` (`t`) takes the place
    /// of the configured seed.
    ///
    /// Errors: InvalidArgs, NotAuthorized, Busy, TooFewImages, NoRoom, NoTrainer, NotReady, Stopping, Failed.
    #[zbus(out_args("job"))]
    async fn start_round(
        &self,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        authorisation::check(connection, &header, Action::Round).await?;
        let request = options::of_round(options)?;
        let (reply, answer) = oneshot::channel();
        self.control.commands.send(Command::StartRound { request, reply }).await.map_err(|_| stopping())?;
        self.job(answer, server).await
    }

    /// Has the classifier know these classes from now on. What serves goes on answering until a zero-shot
    /// generation of the new classes does, within seconds, or one that has learnt exactly these classes before.
    /// Only a classifier with a file of its own in `classifiers.d` can be changed.
    ///
    /// Errors: InvalidArgs, NotAuthorized, NotReloaded, Stopping, Failed.
    async fn set_classes(
        &self,
        classes: Vec<String>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Configure).await?;
        let name = self.control.name.clone();
        manager::edit(&self.service_commands, Edit::SetClasses { name, classes }).await
    }

    /// Has the classifier watch one more directory. `path` begins with `/`. The option `name` (`s`) is the source's
    /// name; without it the source is called as its directory.
    ///
    /// Errors: those of `SetClasses`.
    async fn add_source(
        &self,
        path: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Configure).await?;
        let (name, path, called) = (self.control.name.clone(), options::directory(path)?, options::of_source(options)?);
        manager::edit(&self.service_commands, Edit::AddSource { name, path, called }).await
    }

    /// Has the classifier no longer watch a source, by its name, or by its directory where it has no name. Its
    /// images have no part in rounds from then on.
    ///
    /// Errors: those of `SetClasses`.
    async fn remove_source(
        &self,
        source: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Configure).await?;
        let name = self.control.name.clone();
        manager::edit(&self.service_commands, Edit::RemoveSource { name, source }).await
    }

    /// Starts to take in a generation that another service has exported, and returns the path of the job at once.
    /// `files` are the opened files by name, as `Generation.Open` hands them out, and the signature
    /// `manifest.json.sig` where there is one.
    ///
    /// Errors: InvalidArgs, NotAuthorized, Busy, NotReady, Stopping, Failed.
    #[zbus(out_args("job"))]
    async fn import(
        &self,
        files: HashMap<String, Fd<'_>>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        self.import_generation(files, Given::new(), header, connection, server).await
    }

    /// Does what `Import` does, with options. Where the option `force` (`b`) is true, the generation serves
    /// whatever it answers on the images of this service; everything else is checked all the same.
    ///
    /// Errors: those of `Import`.
    #[zbus(out_args("job"))]
    async fn import_generation(
        &self,
        files: HashMap<String, Fd<'_>>,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        let force = options::of_import(options)?;
        match force {
            true => authorisation::check(connection, &header, Action::ImportForce).await?,
            false => authorisation::check(connection, &header, Action::Import).await?,
        }
        let files = bundle(files)?;
        let (reply, answer) = oneshot::channel();
        self.control.commands.send(Command::Import { files, force, reply }).await.map_err(|_| stopping())?;
        self.job(answer, server).await
    }

    /// Lists at most `limit` pictures that a person is asked about, and never more than 60. `items` are ids of
    /// images (as in `Observations`), each with `path`, `present` and `candidate`: a file that holds the image, the
    /// class that the serving generation gives it, and the class that the candidate gives it. If the image is a part
    /// of the file's picture, `crop` (`(dddd)`) tells which: the distance from the left and from the top, the width
    /// and the height, as shares of the picture's. `review` is the property `Review`.
    ///
    /// Errors: NotAuthorized, NotReady, Stopping, Failed.
    #[zbus(out_args("items", "review"))]
    async fn review_items(
        &self,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(Vec<(String, coft_dbus::ReviewItem)>, Review), Error> {
        authorisation::check(connection, &header, Action::Review).await?;
        let (reply, answer) = oneshot::channel();
        let command = Command::ReviewItems { limit: limit as usize, reply };
        self.control.commands.send(command).await.map_err(|_| stopping())?;
        let (items, status) = answer.await.map_err(|_| stopping())?.map_err(refused)?;
        Ok((items.into_iter().map(item).collect(), review(&status)))
    }

    /// Takes a person's answers, all of them or none. `labels` are pairs of an image's id and the name of its
    /// class; the name is empty where the person cannot tell. The option `undo` (`b`), without labels, takes the
    /// last answer back. `review` is the property `Review` as it is afterwards.
    ///
    /// Errors: InvalidArgs, NotAuthorized, NotReady, Stopping, Failed.
    #[zbus(out_args("review"))]
    async fn submit_review(
        &self,
        labels: Vec<(String, String)>,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Review, Error> {
        authorisation::check(connection, &header, Action::Review).await?;
        let answers = options::of_review(labels, options)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::SubmitReview { answers, reply };
        self.control.commands.send(command).await.map_err(|_| stopping())?;
        Ok(review(&answer.await.map_err(|_| stopping())?.map_err(refused)?))
    }

    /// Compares what two generations say of the latest pictures, as far as both have answered them. `limit` bounds
    /// each list of pictures; no list is longer than 1000. `summary` counts the pictures: `compared`, `changed` and
    /// `waiting`. `moves` are the old label, the new label and the number of pictures, the largest number first.
    /// `changes` are pictures with another label; those come first of which both generations are surest. `unsure`
    /// are the pictures of which the newer generation is least sure. Paths are told to callers who may see them.
    ///
    /// Errors: NotReady, Failed.
    #[zbus(out_args("summary", "moves", "changes", "unsure"))]
    async fn compare_generations(
        &self,
        old: u64,
        new: u64,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(Comparison, Vec<(String, String, u64)>, Vec<Difference>, Vec<Difference>), Error> {
        let (old, new) = (GenerationId(old), GenerationId(new));
        let found = self.control.answers.compare(old, new, limit.min(OBSERVATIONS) as usize).await;
        let GenerationDiff { compared, changed, waiting, moves, changes, unsure } = found.map_err(unasked)?;
        let with_paths = !unsure.is_empty() && authorisation::may(connection, &header, Action::Observe).await;
        let told = |found: Vec<observation::Difference>| {
            found.into_iter().map(|difference| source::difference(difference, with_paths)).collect()
        };
        Ok((Comparison { compared, changed, waiting }, moves, told(changes), told(unsure)))
    }

    /// Another generation answers from now on. `generation` is its number; `replaces` is the number of the
    /// generation that answered before, 0 where there was none.
    #[zbus(signal)]
    pub async fn generation_activated(emitter: &SignalEmitter<'_>, generation: u64, replaces: u64) -> zbus::Result<()>;

    /// Name of the classifier, which is the last part of the object's path.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.control.name.clone()
    }

    /// Names of the classes that are answered with, in the order of the model's outputs.
    #[zbus(property)]
    fn classes(&self) -> Vec<String> {
        self.snapshot().classes.clone()
    }

    /// Number of the generation that answers; 0 where there is none yet.
    #[zbus(property)]
    fn active_generation(&self) -> u64 {
        self.snapshot().active.map_or(0, |id| id.0)
    }

    /// Pictures that earlier generations have answered and that the active generation has not answered again yet.
    #[zbus(property)]
    fn unanswered_again(&self) -> u64 {
        self.snapshot().unanswered_again
    }

    /// Images that were ever taken in from the sources. The number never falls.
    #[zbus(property)]
    fn images(&self) -> u64 {
        self.snapshot().images
    }

    /// Files of the sources that were looked at and refused.
    #[zbus(property)]
    fn quarantined(&self) -> u64 {
        self.snapshot().quarantined
    }

    /// Why images cannot be stored now; empty where they can.
    #[zbus(property)]
    fn intake_problem(&self) -> String {
        self.snapshot().intake_problem.clone()
    }

    /// Why the active generation does not serve; empty where it does, or where there is none yet.
    #[zbus(property)]
    fn serving_problem(&self) -> String {
        self.snapshot().serving_problem.clone()
    }

    /// What the service waits for before it is set up as configured; empty once it is.
    #[zbus(property)]
    fn setup_problem(&self) -> String {
        self.snapshot().setup_problem.clone()
    }

    /// Execution provider that runs the model, as ONNX Runtime names it; empty where no generation serves.
    #[zbus(property)]
    fn provider(&self) -> String {
        self.snapshot().provider.clone()
    }

    /// Why a provider that comes before it in the configuration does not run the model; empty where none failed.
    #[zbus(property)]
    fn provider_problem(&self) -> String {
        self.snapshot().provider_problem.clone()
    }

    /// Why no round can start now; empty where one can.
    #[zbus(property)]
    fn round_problem(&self) -> String {
        self.snapshot().round_problem.clone()
    }

    /// Path of the job that runs, or `/` if none runs. A job of the trainer comes before an import or an activation.
    #[zbus(property)]
    fn round(&self) -> OwnedObjectPath {
        let running = self.snapshot().running().map(|job| job.id);
        running.map_or_else(OwnedObjectPath::default, |job| job::path(&self.control, job))
    }

    /// When a round starts by itself, unless one runs. `images` (`t`) is the number of images that have to come
    /// first; `at` (`x`) is a Unix time, s, 0 where the round starts as soon as none runs; `waits-for` (`s`) is the
    /// classifier whose job has to end first, where a job is due and waits for its turn. Empty where rounds are
    /// started by hand alone.
    #[zbus(property)]
    fn next_round(&self) -> NextRound {
        let snapshot = self.snapshot();
        let (images, at) = match snapshot.next_round {
            schedule::NextRound::ByHand => (None, None),
            schedule::NextRound::Images(images) => (Some(images), None),
            schedule::NextRound::At(at) => (None, Some(at)),
            schedule::NextRound::Due => (None, Some(0)),
        };
        NextRound { images, at, waits_for: snapshot.waits_for.clone() }
    }

    /// What a person is asked, or was asked last while the same generation has served: `state`, `round`,
    /// `candidate`, `present`, `compared`, `differs`, `answered`, `most`, `shares` and `activation`. Empty where
    /// nothing was asked.
    #[zbus(property)]
    fn review(&self) -> Review {
        self.snapshot().review.as_ref().map(review).unwrap_or_default()
    }
}

fn review(status: &ReviewStatus) -> Review {
    let share = |(class, found): &(String, Share)| (class.clone(), found.share, found.low, found.high);
    Review {
        state: Some(status.state.as_str().to_owned()),
        round: Some(status.round.0),
        candidate: Some(status.candidate.0),
        present: Some(status.present.0),
        differs: Some(status.differing as f64 / status.compared.max(1) as f64),
        compared: Some(status.compared),
        answered: Some(status.answered),
        most: Some(MOST),
        shares: Some(status.shares.iter().map(share).collect()),
        activation: status.activation.map(|round| round.0),
    }
}

fn item(ReviewItem { image, path, crop, present, candidate }: ReviewItem) -> (String, coft_dbus::ReviewItem) {
    let crop = crop.map(|Region { x, y, width, height }| (x, y, width, height));
    (image.0, coft_dbus::ReviewItem { path: shown_path(&path).into_owned(), crop, present, candidate })
}

/// Works for a caller until it is done or the caller has gone.
async fn while_there<T>(caller: Caller, work: impl Future<Output = Result<T, ServeError>>) -> Result<T, Error> {
    // Nobody reads the answer of a call that is cut off.
    caller.while_there(work).await.unwrap_or(Err(ServeError::Stopped)).map_err(unanswered)
}

/// The files of an export, as descriptors of our own. What no export can be is refused before a round begins.
fn bundle(files: HashMap<String, Fd<'_>>) -> Result<HashMap<String, std::os::fd::OwnedFd>, Error> {
    const ADVICE: &str = "hand over the files that Open of a generation hands out";
    if let Some(name) = files.keys().filter(|name| !is_of_a_bundle(name)).min() {
        return Err(invalid(format!("{name:?} is no file of an exported generation; {ADVICE}")));
    }
    if let Some(missing) = [MANIFEST].iter().chain(&STATED).find(|name| !files.contains_key(**name)) {
        return Err(invalid(format!("there is no {missing} among the files; {ADVICE}")));
    }
    files.into_iter().map(|(name, file)| Ok((name, owned(&file)?))).collect()
}

/// How long it takes to say that the queue is full. 200 ms [choice]: who asks again at once, thousands of times a second, would take
/// the processors that answer everybody else.
const HELD_BACK: Duration = Duration::from_millis(200);

async fn held_back<T>(answered: Result<T, Error>) -> Result<T, Error> {
    if matches!(answered, Err(Error::Busy(_))) {
        tokio::time::sleep(HELD_BACK).await;
    }
    answered
}

fn owned(descriptor: &Fd<'_>) -> Result<std::os::fd::OwnedFd, Error> {
    let owned = descriptor.as_fd().try_clone_to_owned();
    owned.map_err(|error| Error::Busy(format!("no descriptor is left: {error}; try again in a moment")))
}

fn answer(classified: Classification) -> (Labels, ClassifyDetails) {
    let details = ClassifyDetails {
        none_of_these: classified.none_of_these,
        decision: classified.decision,
        embedding: classified.embedding.map(|values| values.into_iter().map(f64::from).collect()),
        generation: classified.generation.0,
        queue_seconds: classified.queue.as_secs_f64(),
        decode_seconds: classified.decode.as_secs_f64(),
        inference_seconds: classified.inference.as_secs_f64(),
        provider: classified.provider.name().to_owned(),
    };
    (classified.labels, details)
}
