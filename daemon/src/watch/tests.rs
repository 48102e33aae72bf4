//! The watch on a real directory.

use super::*;
use std::fs::File;
use std::io::Write;
use tempfile::TempDir;

const QUIET: Duration = Duration::from_millis(300);
/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Camera {
    dir: TempDir,
    _watch: Watch,
    notices: mpsc::Receiver<Notice>,
}

impl Camera {
    /// Watches `dir/in`, once `prepare` has made of it what it wants.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("in");
        prepare(&source);
        let (sender, notices) = mpsc::channel(16);
        let settings = Source { path: source, quiet_period: QUIET, rescan_interval: Duration::from_secs(3600) };
        Self { _watch: start(&[settings], &sender).unwrap(), dir, notices }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn next(&mut self, patience: Duration) -> Option<Notice> {
        let end = Instant::now() + patience;
        loop {
            match self.notices.try_recv() {
                Ok(notice) => return Some(notice),
                Err(_) if Instant::now() > end => return None,
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    #[track_caller]
    fn expect_source(&mut self, problem: Option<&str>) {
        match self.next(PATIENCE) {
            Some(Notice::Source { problem: found, .. }) => {
                assert_eq!(found.as_deref().map(|found| found.contains(problem.unwrap_or("?"))), problem.map(|_| true));
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn expect_settled(&mut self, name: &str, bytes: u64) {
        match self.next(PATIENCE) {
            Some(Notice::Settled(sighting)) => {
                assert_eq!((sighting.path, sighting.stamp.bytes), (self.path(name), bytes));
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn expect_silence(&mut self) {
        assert_eq!(self.next(QUIET / 3), None);
    }
}

fn make(source: &Path) {
    fs::create_dir(source).unwrap();
}

#[test]
fn a_file_that_was_there_before_is_found() {
    let mut camera = Camera::new(|source| {
        fs::create_dir_all(source.join("monday")).unwrap();
        fs::write(source.join("monday/a.png"), "abc").unwrap();
    });
    camera.expect_source(None);
    camera.expect_settled("monday/a.png", 3);
    camera.expect_silence();
}

#[test]
fn an_open_file_waits_until_it_is_closed() {
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let mut file = File::create(camera.path("a.png")).unwrap();
    for _ in 0..10 {
        file.write_all(b"0123456789").unwrap();
        camera.expect_silence();
    }
    drop(file);
    camera.expect_settled("a.png", 100);
    camera.expect_silence();
}

#[test]
fn a_file_that_stays_open_settles_by_standing_still() {
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let mut file = File::create(camera.path("a.png")).unwrap();
    file.write_all(b"0123456789").unwrap();
    let written = Instant::now();
    camera.expect_settled("a.png", 10);
    assert!(written.elapsed() >= QUIET, "{:?}", written.elapsed());
}

#[test]
fn a_rename_counts_and_a_temporary_name_does_not() {
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    for hidden in ["a.png.part", ".b.png"] {
        fs::write(camera.path(hidden), "abc").unwrap();
    }
    thread::sleep(QUIET * 2);
    camera.expect_silence();
    fs::rename(camera.path("a.png.part"), camera.path("a.png")).unwrap();
    camera.expect_settled("a.png", 3);
    fs::rename(camera.path("a.png"), camera.path("c.png")).unwrap();
    assert_eq!(camera.next(PATIENCE), Some(Notice::Gone(camera.path("a.png"))));
    camera.expect_settled("c.png", 3);
}

#[test]
fn files_of_a_directory_that_moves_in_are_found() {
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let elsewhere = camera.dir.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("deep")).unwrap();
    fs::write(elsewhere.join("deep/a.png"), "abc").unwrap();
    fs::rename(elsewhere, camera.path("day")).unwrap();
    camera.expect_settled("day/deep/a.png", 3);
}

#[test]
fn a_missing_directory_is_a_problem_until_it_appears() {
    let mut camera = Camera::new(|_| {});
    camera.expect_source(Some("does not exist"));
    let source = camera.path("");
    fs::create_dir(&source).unwrap();
    fs::write(camera.path("a.png"), "abc").unwrap();
    camera.expect_source(None);
    camera.expect_settled("a.png", 3);
    fs::remove_dir_all(&source).unwrap();
    loop {
        match camera.next(PATIENCE).expect("the problem is told") {
            Notice::Source { problem, .. } => {
                assert!(problem.unwrap().contains("does not exist"));
                break;
            }
            other => assert_eq!(other, Notice::Gone(camera.path("a.png"))),
        }
    }
}
