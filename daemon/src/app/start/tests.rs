//! The start on real directories; the tests play the clients and the clock.

use super::*;
use crate::app::promoter::tests::candidate;
use crate::control::{RoundRequest, Snapshot};
use crate::decode_budget::DecodeBudget;
use crate::serve::{Classifier, Settings};
use crate::store::Store;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch as channel};

struct Site {
    dir: TempDir,
    config: Config,
}

impl Site {
    /// A service that has a generation.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let staged = store.stage(&candidate(dir.path(), "soft")).unwrap();
        store.activate(staged, 0.0, None).unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the start beside the clients' work. If `work` returns false, the start is stopped then. Returns the service
    /// if it was complete by then.
    async fn run(
        &self,
        work: impl AsyncFnOnce(mpsc::Sender<Command>, &mut channel::Receiver<Snapshot>) -> bool,
    ) -> Option<Complete> {
        let (publisher, mut seen) = StatusPublisher::new(Snapshot::default());
        let (sender, mut commands) = mpsc::channel(4);
        let start = Start::new(
            self.config.clone(),
            publisher,
            Classifier::start(Settings::default(), DecodeBudget::default()),
            (DecodeBudget::default(), Reserve::of(0)),
            crate::answers::channel().0,
            Member::alone(),
        );
        let (stop, stopped) = oneshot::channel();
        let mut stopped = pin!(async { stopped.await.unwrap_or(()) });
        let work = async {
            match work(sender, &mut seen).await {
                true => std::mem::forget(stop), // nobody stops it
                false => drop(stop),
            }
        };
        let (complete, ()) = tokio::join!(start.run(&mut commands, stopped.as_mut()), work);
        complete.unwrap()
    }
}

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

async fn serving(seen: &mut channel::Receiver<Snapshot>) {
    seen.wait_for(|seen| !seen.provider.is_empty()).await.unwrap();
}

async fn told(seen: &mut channel::Receiver<Snapshot>, what: &str) -> String {
    seen.wait_for(|seen| seen.setup_problem.contains(what)).await.unwrap().setup_problem.clone()
}

/// A missing model ended the service with exit code 2, after which it is never started again, and the generation that
/// had served before did not serve.
#[tokio::test]
async fn a_model_that_comes_late_is_waited_for_and_what_served_serves() {
    let mut site = Site::new();
    let model = site.path("usb/clip");
    site.config.classifier.model = Some(model.clone());
    let complete = site
        .run(async |commands, seen| {
            serving(seen).await;
            told(seen, "classifier.model: ").await;
            let whole = |seen: &Snapshot| !seen.setup_problem.contains("is starting");
            let problem = seen.wait_for(whole).await.unwrap().setup_problem.clone();
            assert!(problem.contains(model.to_str().unwrap()) && problem.contains("every 5 s"), "{problem}");
            let classes = seen.borrow().classes.clone();
            assert!(!classes.is_empty(), "those of the generation that serves");
            let (reply, answer) = oneshot::channel();
            commands.send(Command::StartRound { request: RoundRequest::default(), reply }).await.unwrap();
            assert_eq!(answer.await.unwrap(), Err(CommandError::NotReady(problem)));
            // A copy that is not complete yet.
            let copied = model.with_extension("copy");
            copy(&demo_model(), &copied);
            let weights = fs::read(copied.join("model.safetensors")).unwrap();
            fs::write(copied.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
            fs::rename(&copied, &model).unwrap();
            told(seen, model.join("model.safetensors").to_str().unwrap()).await;
            fs::write(model.join("model.safetensors"), &weights).unwrap();
            true
        })
        .await;
    assert!(complete.is_some());
}

/// The generation that serves meanwhile uses the threshold already, if it knows the class.
#[tokio::test]
async fn a_threshold_of_a_class_that_the_label_file_lacks_is_waited_for() {
    let mut site = Site::new();
    let labels = site.path("labels.txt");
    fs::write(&labels, "nut\nbolt\n").unwrap();
    site.config.classifier.labels = Some(labels.clone());
    site.config.classifier.thresholds = [("gear".to_owned(), 0.8)].into();
    let complete = site
        .run(async |_, seen| {
            let problem = told(seen, "classifier.thresholds: ").await;
            assert!(problem.contains("there is no class \"gear\"") && problem.contains("every 5 s"), "{problem}");
            fs::write(&labels, "nut\nbolt\ngear\n").unwrap();
            true
        })
        .await;
    assert!(complete.is_some());
}

#[tokio::test]
async fn every_file_of_a_setting_is_waited_for_by_name() {
    for (setting, set) in [
        ("labels", (|to, path| to.labels = Some(path)) as fn(&mut model::Settings, PathBuf)),
        ("templates", |to, path| to.templates = Some(path)),
        ("student", |to, path| to.student = Some(path)),
        ("model", |to, path| to.model = Some(path)),
        ("model", |to, _| to.model = Some("absent".into())),
    ] {
        let mut site = Site::new();
        let path = site.path("late").join(setting);
        set(&mut site.config.classifier, path.clone());
        let complete = site
            .run(async |_, seen| {
                let problem = told(seen, &format!("classifier.{setting}: ")).await;
                assert!(problem.contains(path.to_str().unwrap()) || problem.contains("\"absent\""), "{problem}");
                serving(seen).await;
                false
            })
            .await;
        assert!(complete.is_none(), "{setting}");
    }
}

/// A list that was being copied or edited, or could not be opened, also stopped the generation that served.
#[tokio::test]
async fn a_label_file_with_a_mistake_is_named_by_line_and_read_again() {
    let mut site = Site::new();
    let labels = site.path("labels.txt");
    fs::write(&labels, "hex bolt\nhex nut\nhex bolt\n").unwrap();
    site.config.classifier.labels = Some(labels.clone());
    let complete = site
        .run(async |_, seen| {
            serving(seen).await;
            told(seen, "line 3").await;
            fs::write(&labels, "hex bolt\nhex nut\n").unwrap();
            true
        })
        .await;
    assert!(complete.is_some());
}

#[tokio::test]
async fn a_value_that_contradicts_the_model_ends_the_service() {
    let mut site = Site::new();
    site.config.classifier.image_size = Some(65);
    let (publisher, seen) = StatusPublisher::new(Snapshot::default());
    let start = Start::new(
        site.config.clone(),
        publisher,
        Classifier::start(Settings::default(), DecodeBudget::default()),
        (DecodeBudget::default(), Reserve::of(0)),
        crate::answers::channel().0,
        Member::alone(),
    );
    let ended = start.run(&mut mpsc::channel(1).1, pin!(std::future::pending())).await;
    let error = ended.err().expect("no waiting mends it");
    assert!(error.is_configuration() && error.to_string().starts_with("classifier.image-size: 65 "), "{error}");
    // The active generation may still be loading, which is reported as well.
    let told = seen.borrow().setup_problem.clone();
    assert!(
        [error.to_string(), format!("{error}; the service is starting: generation 1 is loaded")].contains(&told),
        "{told}"
    );
}

/// The service ended with exit code 1 every five seconds.
#[tokio::test]
async fn a_catalogue_that_cannot_be_opened_is_waited_for_and_what_served_serves() {
    let site = Site::new();
    let catalog = site.path("catalog.sqlite");
    fs::create_dir(&catalog).unwrap();
    let complete = site
        .run(async |_, seen| {
            serving(seen).await;
            told(seen, catalog.to_str().unwrap()).await;
            fs::remove_dir(&catalog).unwrap();
            true
        })
        .await;
    assert!(complete.is_some());
}

#[tokio::test]
async fn a_catalogue_of_a_newer_version_is_left_alone_and_what_served_serves() {
    let site = Site::new();
    let catalog = site.path("catalog.sqlite");
    drop(Catalog::open(&catalog).unwrap());
    // The catalogue's thread closes the file, which writes the log into it.
    while site.path("catalog.sqlite-wal").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rusqlite::Connection::open(&catalog).unwrap().pragma_update(None, "user_version", 7000).unwrap();
    let before = fs::read(&catalog).unwrap();
    let complete = site
        .run(async |_, seen| {
            serving(seen).await;
            told(seen, "newer version").await;
            false
        })
        .await;
    assert!(complete.is_none());
    assert_eq!(fs::read(&catalog).unwrap(), before);
}

/// Numbers began at 1 again, and an interrupted round could be taken for the one that had promoted the active
/// generation.
#[tokio::test]
async fn a_lost_catalogue_does_not_begin_numbers_again() {
    let site = Site::new();
    let (number, journal) = (Store::open(site.dir.path()).unwrap().last_job(), site.path("journal"));
    assert!(number.0 > 0);
    let complete = async || {
        let complete = site.run(async |_, _| true).await.expect("nothing is missing");
        complete.supervisor.last_job()
    };
    assert_eq!(complete().await, number);
    fs::create_dir(&journal).unwrap();
    fs::write(journal.join("spec.json"), "no journal").unwrap();
    assert_eq!(complete().await, number);
}

#[tokio::test]
async fn a_stop_is_obeyed_while_a_disk_hangs() {
    let site = Site::new();
    fs::remove_file(site.path("lock")).unwrap_or(());
    // Opening the pipe for writing waits for a reader.
    nix::unistd::mkfifo(&site.path("lock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let complete = site
        .run(async |commands, seen| {
            told(seen, "the state directory").await;
            let (reply, answer) = oneshot::channel();
            commands.send(Command::Rescan { reply }).await.unwrap();
            assert!(matches!(answer.await.unwrap(), Err(CommandError::NotReady(why)) if why.contains("is starting")));
            false
        })
        .await;
    assert!(complete.is_none());
    // The blocked task has to end, since it belongs to the test's own runtime.
    let reader = fs::File::options().read(true).write(true).open(site.path("lock")).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(reader.as_raw_fd() > 0);
}
