//! Watching a real directory.

use super::*;
use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

mod limits;
mod mounted;
mod unreadable;

const QUIET: Duration = Duration::from_millis(300);
/// Timeout that is long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Camera {
    dir: TempDir,
    watch: Watch,
}

impl Camera {
    /// Watches `dir/in`, after `prepare` has filled it.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        Self::with(prepare, |_| {})
    }

    fn with(prepare: impl FnOnce(&Path), set: impl FnOnce(&mut Source)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // In some tests the service runs as the user nobody.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("in");
        prepare(&path);
        let mut source = Source { path, quiet_period: QUIET, ..source() };
        set(&mut source);
        let state_dir = dir.path().join("state");
        Self { watch: as_nobody(move || start(&source, &state_dir).unwrap()), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    /// The next notice that is not a remark.
    fn next(&mut self, patience: Duration) -> Option<Notice> {
        loop {
            match self.any(patience) {
                Some(Notice::Remark(_)) => {}
                other => return other,
            }
        }
    }

    fn any(&mut self, patience: Duration) -> Option<Notice> {
        let end = Instant::now() + patience;
        loop {
            match self.watch.notices.try_recv() {
                Ok(notice) => return Some(notice),
                Err(_) if Instant::now() > end => return None,
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Waits for a remark with this text; other notices are ignored.
    #[track_caller]
    fn expect_remark(&mut self, text: &str) {
        loop {
            match self.any(PATIENCE).expect("something is remarked") {
                Notice::Remark(remark) if remark.contains(text) => return,
                _ => {}
            }
        }
    }

    /// Waits for a problem with this text, or for the notice that there is none; files that settle meanwhile are
    /// ignored.
    #[track_caller]
    fn until_problem(&mut self, text: Option<&str>) -> Option<String> {
        loop {
            if let Notice::Problem(problem) =
                self.next(PATIENCE).unwrap_or_else(|| panic!("nothing is told of {text:?}"))
            {
                match (&problem, text) {
                    (None, None) => return None,
                    (Some(problem), Some(text)) if problem.contains(text) => return Some(problem.clone()),
                    _ => eprintln!("on the way: {problem:?}"),
                }
            }
        }
    }

    #[track_caller]
    fn expect_source(&mut self, problem: Option<&str>) {
        match self.next(PATIENCE) {
            Some(Notice::Problem(found)) => {
                let fits = found.as_deref().map(|found| found.contains(problem.unwrap_or("?")));
                assert_eq!(fits, problem.map(|_| true), "{found:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn expect_settled(&mut self, name: &str, bytes: u64) {
        match self.next(PATIENCE) {
            Some(Notice::Settled(observed)) => {
                assert_eq!((observed.path, observed.fingerprint.bytes), (self.path(name), bytes));
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Waits until all these files are reported, in any order; other notices are ignored.
    #[track_caller]
    fn until_settled(&mut self, names: &[&str]) {
        let mut left: HashSet<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        while !left.is_empty() {
            match self.next(PATIENCE).unwrap_or_else(|| panic!("not told: {left:?}")) {
                Notice::Settled(observed) => drop(left.remove(&observed.path)),
                other => eprintln!("on the way: {other:?}"),
            }
        }
    }

    #[track_caller]
    fn expect_silence(&mut self) {
        assert_eq!(self.next(QUIET / 3), None);
    }
}

fn source() -> Source {
    let never = Duration::from_secs(3600);
    let [exclude, include] = [Patterns::default(), Patterns::default()];
    let (classify, state) = (true, Default::default());
    Source {
        path: PathBuf::new(),
        name: None,
        quiet_period: QUIET,
        rescan_interval: never,
        exclude,
        include,
        classify,
        state,
        crop: None,
    }
}

fn patterns(written: &[&str]) -> Patterns {
    written.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>().try_into().unwrap()
}

/// Runs a function, and the threads that it starts, with the rights of the user nobody, because root may read
/// everything.
fn as_nobody<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
        }
        work()
    };
    thread::spawn(work).join().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
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
    let moved = Notice::Moved { from: camera.path("a.png"), to: camera.path("c.png") };
    assert_eq!(camera.next(PATIENCE), Some(moved));
    camera.expect_settled("c.png", 3);
    fs::rename(camera.path("c.png"), camera.dir.path().join("c.png")).unwrap();
    assert_eq!(camera.next(PATIENCE), Some(Notice::Gone(camera.path("c.png"))));
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
            Notice::Problem(problem) => {
                assert!(problem.unwrap().contains("does not exist"));
                break;
            }
            other => assert_eq!(other, Notice::Gone(camera.path("a.png"))),
        }
    }
}

#[test]
fn a_directory_that_gets_another_name_is_told_and_stays_watched() {
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    fs::create_dir_all(camera.path("a/deep")).unwrap();
    fs::write(camera.path("a/deep/1.png"), "abc").unwrap();
    camera.until_settled(&["a/deep/1.png"]);
    for (from, to) in [("a", "b"), ("b", "c")] {
        fs::rename(camera.path(from), camera.path(to)).unwrap();
        fs::write(camera.path(to).join("deep/2.png"), "abcd").unwrap();
        let moved = Notice::Moved { from: camera.path(from), to: camera.path(to) };
        assert_eq!(camera.next(PATIENCE), Some(moved));
        camera.until_settled(&[&format!("{to}/deep/1.png"), &format!("{to}/deep/2.png")]);
    }
}

/// Renaming a file or directory to a name that is skipped counts as its removal.
#[test]
fn a_name_that_is_passed_over_is_no_end_of_a_rename() {
    let mut camera = Camera::with(make, |source| source.exclude = patterns(&["old"]));
    camera.expect_source(None);
    fs::write(camera.path("a.png"), "abc").unwrap();
    camera.expect_settled("a.png", 3);
    fs::rename(camera.path("a.png"), camera.path("a.png.bak")).unwrap();
    assert_eq!(camera.next(PATIENCE), Some(Notice::Gone(camera.path("a.png"))));
    fs::create_dir(camera.path("day")).unwrap();
    fs::write(camera.path("day/b.png"), "abc").unwrap();
    camera.until_settled(&["day/b.png"]);
    fs::rename(camera.path("day"), camera.path("old")).unwrap();
    assert_eq!(camera.next(PATIENCE), Some(Notice::Gone(camera.path("day"))));
    fs::write(camera.path("old/c.png"), "abc").unwrap();
    camera.expect_silence();
}

#[test]
fn patterns_decide_what_is_taken_in() {
    let mut camera = Camera::with(
        |source| {
            for dir in ["thumbs", "day/thumbs", "@eaDir/a.jpg", "lost+found", "#recycle"] {
                fs::create_dir_all(source.join(dir)).unwrap();
                fs::write(source.join(dir).join("a.jpg"), "x").unwrap();
            }
            for file in ["a.jpg", "B.JPG", "a.preview.jpg", "a.png", "day/c.jpg", "a.thm", "b.jpg.bak"] {
                fs::write(source.join(file), "x").unwrap();
            }
            thread::sleep(QUIET);
        },
        |source| {
            source.include = patterns(&["*.jpg"]);
            source.exclude = patterns(&["thumbs", "*.preview.*"]);
        },
    );
    camera.until_settled(&["a.jpg", "B.JPG", "day/c.jpg"]);
    camera.expect_remark("9 by name");
    camera.expect_silence();
}

/// The service reported 0 images and no reason.
#[test]
fn a_tree_of_links_is_told_until_there_is_a_file() {
    let mut camera = Camera::new(|source| {
        fs::create_dir_all(source.join("day")).unwrap();
        symlink("/etc/hostname", source.join("a.jpg")).unwrap();
        symlink("/etc", source.join("day/etc")).unwrap();
    });
    camera.until_problem(Some("2 symbolic links: links are not followed"));
    fs::write(camera.path("b.jpg"), "abc").unwrap();
    camera.until_problem(None);
}

/// Images were reported only after other files in the same directories.
#[test]
fn files_with_the_name_of_an_image_come_first() {
    let mut camera = Camera::new(|source| {
        fs::create_dir_all(source.join("z")).unwrap();
        for file in ["a.mp4", "b.jpg", "z/c.idx", "z/d.PNG"] {
            fs::write(source.join(file), "x").unwrap();
        }
        thread::sleep(QUIET);
    });
    camera.expect_source(None);
    for file in ["b.jpg", "z/d.PNG", "a.mp4", "z/c.idx"] {
        camera.expect_settled(file, 1);
    }
}

/// A scan finds the files whose notices the kernel could not keep.
#[test]
fn more_notices_than_the_kernel_keeps_lose_no_file() {
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if most > 100_000 {
        return eprintln!("skipped: the kernel keeps {most} notices");
    }
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    // No notice is received, so the channel fills, and then the kernel's queue.
    for number in 0..most {
        fs::write(camera.path(&format!("{number}.jpg")), "x").unwrap();
    }
    let mut left: HashSet<PathBuf> = (0..most).map(|number| camera.path(&format!("{number}.jpg"))).collect();
    while !left.is_empty() {
        if let Notice::Settled(observed) = camera.next(PATIENCE).unwrap_or_else(|| panic!("{} are lost", left.len())) {
            left.remove(&observed.path);
        }
    }
}

/// A scan that is asked for again and again still reaches the last directory.
#[test]
fn rescans_do_not_keep_a_scan_from_its_end() {
    let mut camera = Camera::new(|source| {
        for number in 0..200 {
            fs::create_dir_all(source.join(format!("{number:03}"))).unwrap();
        }
        fs::write(source.join("199/a.txt"), "x").unwrap();
        thread::sleep(QUIET);
    });
    let handle = camera.watch.handle();
    let end = Instant::now() + PATIENCE;
    loop {
        handle.rescan();
        match camera.next(Duration::from_millis(1)) {
            Some(Notice::Settled(observed)) => return assert_eq!(observed.path, camera.path("199/a.txt")),
            _ => assert!(Instant::now() < end, "it is never found"),
        }
    }
}

#[test]
fn the_state_directory_is_refused_through_a_link() {
    let mut camera = Camera::with(
        |source| fs::create_dir_all(source.join("s/pixels")).unwrap(),
        |source| symlink("in/s", source.path.parent().unwrap().join("state")).unwrap(),
    );
    camera.expect_source(Some("overlaps with state-dir"));
    fs::write(camera.path("a.png"), "abc").unwrap();
    thread::sleep(2 * QUIET);
    camera.expect_silence();
    fs::remove_file(camera.dir.path().join("state")).unwrap();
    camera.expect_source(None);
    camera.expect_settled("a.png", 3);
}

/// The pixels of another service became images.
#[test]
fn a_state_directory_in_a_source_is_passed_over() {
    let mut camera = Camera::new(|source| {
        fs::create_dir_all(source.join("var/generations")).unwrap();
        fs::create_dir_all(source.join("var/pixels")).unwrap();
        fs::write(source.join("var/catalog.sqlite"), "x").unwrap();
        fs::write(source.join("var/pixels/a.qoi"), "x").unwrap();
    });
    camera.expect_source(None);
    camera.expect_source(Some("in/var is a state directory of coft"));
    camera.expect_silence();
    fs::remove_file(camera.path("var/catalog.sqlite")).unwrap();
    camera.watch.handle().rescan();
    camera.until_problem(None);
}
