//! `org.coft.Coft1.Source`: a watched directory, and what its pictures show.

use super::authorisation::{self, Action};
use super::errors::unasked;
use super::options::{self, Given};
use crate::control::{Control, SourceStatus};
use crate::observation::{self, Observation};
use coft_core::answer::UNKNOWN;
use coft_core::shown::shown_path;
use coft_dbus::{DifferenceDetails, Error, OBSERVATIONS, ObservationDetails};
use std::path::PathBuf;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, fdo, interface};

pub struct Source {
    control: Control,
    number: usize,
}

impl Source {
    pub fn new(control: Control, number: usize) -> Self {
        Self { control, number }
    }

    fn status<T>(&self, read: impl FnOnce(&SourceStatus) -> T) -> fdo::Result<T> {
        let snapshot = self.control.snapshot.borrow();
        let status = snapshot.sources.iter().find(|source| source.number == self.number).map(read);
        status.ok_or_else(|| fdo::Error::UnknownObject(format!("source {} is gone", self.number)))
    }

    fn key(&self) -> fdo::Result<PathBuf> {
        self.status(|status| status.key.clone())
    }
}

#[interface(name = "org.coft.Coft1.Source")]
impl Source {
    /// Lists answers whose sequence numbers are larger than `after`, in their order, at most `limit` and at most
    /// 1000. An answer is its sequence number, the image's id (SHA-256 of the file, in hex), the labels with their
    /// probabilities, the likeliest first, and details. Paths are told to callers who may see them.
    ///
    /// Errors: NotReady, Failed.
    #[zbus(out_args("observations"))]
    async fn observations(
        &self,
        after: u64,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<coft_dbus::Observation>, Error> {
        let key = self.key()?;
        let found = self.control.answers.after(&key, after, limit.min(OBSERVATIONS) as usize).await;
        told(found.map_err(unasked)?, &header, connection).await
    }

    /// Lists answers that a filter lets through, the latest first, at most `limit` and at most 1000. `filter` may
    /// have `label` (`s`), `doubtful` (`b`), `since` (`x`), `generation` (`t`), `classifier` (`s`), `changed` (`b`)
    /// and `before` (`t`). Paths are told to callers who may see them.
    ///
    /// Errors: InvalidArgs, NotReady, Failed.
    #[zbus(out_args("observations"))]
    async fn find_observations(
        &self,
        filter: Given,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<coft_dbus::Observation>, Error> {
        let filter = options::of_observations(filter, true)?;
        let found = self.control.answers.find(&self.key()?, filter, limit.min(OBSERVATIONS) as usize).await;
        told(found.map_err(unasked)?, &header, connection).await
    }

    /// Counts answers by hour and label. `filter` may have `label`, `doubtful`, `since` and `generation`. `counts`
    /// are the Unix time at which the hour begins, s, the label, and the number of answers.
    ///
    /// Errors: InvalidArgs, NotReady, Failed.
    #[zbus(out_args("counts"))]
    async fn count_observations(&self, filter: Given) -> Result<Vec<(i64, String, u64)>, Error> {
        let filter = options::of_observations(filter, false)?;
        self.control.answers.count(&self.key()?, filter).await.map_err(unasked)
    }

    /// A picture was answered. The arguments are those of an answer that `Observations` lists; `details` have no
    /// path.
    #[zbus(signal)]
    pub async fn observed(
        emitter: &SignalEmitter<'_>,
        sequence: u64,
        image: &str,
        labels: &[(String, f64)],
        details: ObservationDetails,
    ) -> zbus::Result<()>;

    /// Directory that is watched.
    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> fdo::Result<String> {
        self.status(|status| status.path.display().to_string())
    }

    /// Name of the classifier that answers its pictures and learns from them.
    #[zbus(property(emits_changed_signal = "const"))]
    fn classifier(&self) -> String {
        self.control.name.clone()
    }

    /// Name of the source, or its path where it has none. No other source has the same.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> fdo::Result<String> {
        self.status(|status| shown_path(&status.key).into_owned())
    }

    /// Images of the catalogue that were seen in this source.
    #[zbus(property)]
    fn images(&self) -> fdo::Result<u64> {
        self.status(|status| status.images)
    }

    /// Files of this source that were looked at and refused.
    #[zbus(property)]
    fn quarantined(&self) -> fdo::Result<u64> {
        self.status(|status| status.quarantined)
    }

    /// Why the directory cannot be watched now; empty where it can.
    #[zbus(property)]
    fn problem(&self) -> fdo::Result<String> {
        self.status(|status| status.problem.clone().unwrap_or_default())
    }

    /// Whether its pictures are answered as they come.
    #[zbus(property(emits_changed_signal = "const"))]
    fn classifies(&self) -> fdo::Result<bool> {
        self.status(|status| status.answers.wanted)
    }

    /// Sequence number of the latest answer; 0 before the first.
    #[zbus(property)]
    fn last_sequence(&self) -> fdo::Result<u64> {
        self.status(|status| status.answers.standing.sequence)
    }

    /// Files that are complete and wait to be looked at. Of files that come together, the latest is taken in first.
    #[zbus(property)]
    fn waiting_files(&self) -> fdo::Result<u64> {
        self.status(|status| status.waiting)
    }

    /// Pictures that wait for their answer.
    #[zbus(property)]
    fn unanswered(&self) -> fdo::Result<u64> {
        self.status(|status| status.answers.standing.waiting)
    }

    /// Why pictures that wait are not answered now; empty where they are.
    #[zbus(property)]
    fn answers_problem(&self) -> fdo::Result<String> {
        self.status(|status| status.answers.problem.clone())
    }

    /// What its latest pictures show together: a class, `none-of-these` or `unknown`.
    #[zbus(property)]
    fn state(&self) -> fdo::Result<String> {
        self.status(|status| status.answers.standing.state.clone().unwrap_or_else(|| UNKNOWN.to_owned()))
    }

    /// When the picture came that made `State` what it is, Unix time, s; 0 where none has.
    #[zbus(property)]
    fn state_since(&self) -> fdo::Result<i64> {
        self.status(|status| status.answers.standing.since)
    }

    /// Label that counts in the answer about the latest picture; empty before the first.
    #[zbus(property)]
    fn last_label(&self) -> fdo::Result<String> {
        self.status(|status| status.answers.standing.last.as_ref().map(|last| last.label.clone()).unwrap_or_default())
    }

    /// Id of the latest picture that was answered: the SHA-256 of the file, in hex; empty before the first.
    #[zbus(property)]
    fn last_image(&self) -> fdo::Result<String> {
        self.status(|status| status.answers.standing.last.as_ref().map(|last| last.image.0.clone()).unwrap_or_default())
    }

    /// When the latest picture that was answered came, Unix time, s; 0 before the first.
    #[zbus(property)]
    fn last_time(&self) -> fdo::Result<i64> {
        self.status(|status| status.answers.standing.last.as_ref().map_or(0, |last| last.time))
    }
}

/// Tells everybody on the bus of an answer, but for the path.
pub async fn tell(emitter: &SignalEmitter<'_>, observation: Observation) -> zbus::Result<()> {
    let (sequence, image, labels, details) = shown(observation, false);
    Source::observed(emitter, sequence, &image, &labels, details).await
}

/// What a caller is told of answers: with paths if it may see them.
async fn told(
    found: Vec<Observation>,
    header: &Header<'_>,
    connection: &Connection,
) -> Result<Vec<coft_dbus::Observation>, Error> {
    let with_paths = !found.is_empty() && authorisation::may(connection, header, Action::Observe).await;
    Ok(found.into_iter().map(|observation| shown(observation, with_paths)).collect())
}

fn shown(observation: Observation, with_path: bool) -> coft_dbus::Observation {
    let details = ObservationDetails {
        time: observation.time,
        classifier: observation.classifier,
        generation: observation.generation.0,
        margin: observation.margin,
        doubtful: observation.doubtful,
        none_of_these: observation.none_of_these,
        decision: observation.decision,
        later_generation: observation.later.as_ref().map(|(generation, _)| generation.0),
        later_label: observation.later.as_ref().map(|(_, said)| said.label.clone()),
        later_probability: observation.later.and_then(|(_, said)| said.probability),
        path: with_path.then(|| shown_path(&observation.path).into_owned()),
    };
    (observation.sequence, observation.image.0, observation.labels, details)
}

/// What two generations say of a picture.
pub fn difference(found: observation::Difference, with_path: bool) -> coft_dbus::Difference {
    let details = DifferenceDetails {
        old_label: found.old.label,
        old_probability: found.old.probability,
        new_label: found.new.label,
        new_probability: found.new.probability,
        margin: found.margin,
        time: found.time,
        source: shown_path(&found.source).into_owned(),
        path: with_path.then(|| shown_path(&found.path).into_owned()),
    };
    (found.image.0, details)
}
