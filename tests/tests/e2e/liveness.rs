//! A service that is held up from outside ends, or says what holds it up.

use super::*;
use coft_harness::file_systems::Bindfs;
use image::{Rgb, RgbImage};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc;
use std::time::Instant;

/// What ends later than this after a signal has not heard it.
const STOP: Duration = Duration::from_secs(25);
/// coftd's thread that runs the model.
const RUNS_THE_MODEL: &str = "classify";

/// Waits until something has come, and fails where that does not happen.
#[track_caller]
fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The process did not end within 80 s: a thread was in a read of 128 KiB, which no signal interrupts.
#[test]
fn a_stop_does_not_wait_for_a_slow_source() {
    let mut site = site(QUICK);
    let behind = site.dir().join("behind");
    fs::create_dir(&behind).unwrap();
    let mut state = 1u32;
    for number in 0..12 {
        // Pixels that do not compress: 480 kB a file.
        let noise = RgbImage::from_fn(400, 400, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        noise.save(behind.join(format!("{number}.png"))).unwrap();
    }
    let Some(_slow) = Bindfs::mount(&behind, &site.watched(), &["--read-rate=1k"]) else { return };
    site.start().unwrap();
    let slow = |status: &Value| text(&status["sources"][0]["problem"]).contains("has been read for more than 10 s");
    site.wait("the slow source told", LIMIT, slow).unwrap();
    site.signal("TERM").unwrap();
    let ended = until("the end of a service that reads from a slow source", STOP, || site.ended().unwrap());
    assert!(ended.success(), "{ended}\n{}", site.log());
}

/// A thread of another process that does nothing, as one does whose library waits for a driver that does not answer.
struct Halted(Pid);

impl Halted {
    fn thread(pid: u32, name: &str) -> Self {
        let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
        let task = tasks.find(named).unwrap_or_else(|| panic!("no thread is called {name}"));
        let thread = Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap());
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }

    /// Whether it has ended. Its process cannot be waited for before that was asked.
    fn has_ended(&self) -> bool {
        let status = waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap();
        matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        // It may have ended.
        let _ = ptrace::detach(self.0, None);
    }
}

/// The exit code of `coftctl classify`, and what it said on standard error.
fn asked(site: &Site) -> (Option<i32>, String) {
    let answer = site.ctl(&["classify", site.watched().join("0000.jpg").to_str().unwrap()]).unwrap();
    (answer.status.code(), String::from_utf8_lossy(&answer.stderr).into_owned())
}

/// Stops the thread that runs the model and asks for an answer all the same.
fn hang(site: &Site) -> Halted {
    assert_eq!(asked(site), (Some(0), String::new()));
    let halted = Halted::thread(site.pid().unwrap(), RUNS_THE_MODEL);
    let (code, said) = asked(site);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("the deadline passed before the image was answered"), "{said}");
    assert!(site.status().is_ok(), "everything else is answered");
    halted
}

/// Every request failed for ever, and the status was healthy.
#[test]
fn a_run_of_the_model_that_hangs_ends_the_service() {
    let mut site = serving(QUICK, 1);
    let halted = hang(&site);
    until("the end of a service whose model hangs", LIMIT, || halted.has_ended().then_some(()));
    let ended = site.end().unwrap();
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "{ended}\n{}", site.log());
    assert!(site.log().contains("a run of the model has not ended for 60 s"), "{}", site.log());
}

/// systemd's watchdog was fed for ever.
#[test]
fn the_watchdog_is_not_fed_while_a_run_of_the_model_hangs() {
    let mut site = site(QUICK);
    let socket = site.dir().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    site.set_variable("NOTIFY_SOCKET", socket);
    site.set_variable("WATCHDOG_USEC", "3000000");
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(size) = systemd.recv(&mut message) {
            if sender.send(String::from_utf8_lossy(&message[..size]).into_owned()).is_err() {
                break;
            }
        }
    });
    let fed = || told.try_iter().filter(|message| message.contains("WATCHDOG=1")).count() > 0;
    site.start().unwrap();
    fill(&site, 1);
    first_generation(&site);
    until("the watchdog is fed", LIMIT, || fed().then_some(()));
    let halted = hang(&site);
    let hangs = |status: &Value| text(&status["serving_problem"]).contains("has not ended for 60 s");
    site.wait("the hanging run told", LIMIT, hangs).unwrap();
    // What was sent before that.
    std::thread::sleep(Duration::from_millis(200));
    fed();
    std::thread::sleep(Duration::from_secs(5));
    assert!(!fed(), "the watchdog is fed all the same");
    assert!(site.status().is_ok(), "it is systemd that ends the service");
    site.signal("TERM").unwrap();
    until("the end after SIGTERM", STOP, || halted.has_ended().then_some(()));
    site.end().unwrap();
}
