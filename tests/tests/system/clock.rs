use super::*;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds by which the service's wall clock is ahead of the machine's, as libfaketime reads them at every look at it.
const AHEAD: &str = "/etc/wall-clock";
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const FIFTY_YEARS: i64 = 50 * 365 * 24 * 3600;
const DAY: i64 = 24 * 3600;
/// The shipped `minimum-interval` of `[schedule]`.
const INTERVAL: i64 = 6 * 3600;

/// A board whose battery is empty starts in 1976, and a wrong time server sends it to 2076. The clock of the machine
/// that runs the test stays as it is: the service alone is told another time.
pub fn a_clock_that_is_wrong_by_fifty_years_and_set_right_stops_nothing() {
    let mut system = serving();
    let files = system::beside("libfaketime").unwrap();
    install(&system, &files.iter().map(|path| path.as_path()).collect::<Vec<_>>());
    assert!(system.path(FAKETIME).exists());
    set_clock(&system, 0);
    let drop_in = system.path("/etc/systemd/system/coftd.service.d/clock.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    // The clocks that nobody sets, and the times of files, stay the kernel's.
    let environment = format!(
        "LD_PRELOAD={FAKETIME} FAKETIME_TIMESTAMP_FILE={AHEAD} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1"
    );
    fs::write(&drop_in, format!("[Service]\nEnvironment={environment}\n")).unwrap();
    system.root(&["systemctl", "daemon-reload"]).unwrap();
    configure(&system, FEW);
    let configured = fs::read_to_string(system.path(CONFIG)).unwrap();
    let eager = configured.replace("new-images = 200", "new-images = 1");
    let eager = eager.replace("quiet-period = \"1m\"", "quiet-period = \"1s\"");
    fs::write(system.path(CONFIG), eager).unwrap();
    restart(&mut system);
    upload(&mut system);
    let first = ended_round(&mut system);

    let mut seen = Seen { rounds: first, drawn: 0 };
    for ahead in [FIFTY_YEARS, 0, -FIFTY_YEARS, 0] {
        let service = unit(&system, "MainPID");
        set_clock(&system, ahead);
        seen.a_picture_is_answered(&mut system, ahead);
        seen.no_round_starts_by_itself(&mut system, ahead);
        assert_eq!((unit(&system, "MainPID"), unit(&system, "NRestarts")), (service, "0".into()), "by {ahead} s");
        // A restart while the clock is wrong: the service waits for nothing, and what has ended has ended.
        restart(&mut system);
        seen.no_round_starts_by_itself(&mut system, ahead);
        // A person starts one all the same.
        if ahead != 0 {
            let number = ended_round(&mut system);
            assert_eq!(number, seen.rounds + 1, "by {ahead} s");
            seen.rounds = number;
        }
        assert!(label(&system).is_some());
    }
    assert_eq!(status(&system)["images"], pictures() + seen.drawn);
    // By the clock of 2076 every answer was too old, and by that of 1976 from the future.
    let kept = |system: &System| json(system, &["results", "--limit", "1000"]).as_array().map(Vec::len);
    assert_eq!(kept(&system), Some(pictures() + seen.drawn));

    // Whoever looks for the reason of odd times is told. The times of files stay the kernel's here, too.
    let preload = format!("LD_PRELOAD={FAKETIME}");
    let doctor = ["env", &preload, "NO_FAKE_STAT=1", &format!("FAKETIME=-{FIFTY_YEARS}"), "coftctl", "doctor"];
    let output = system.run("root", &doctor).unwrap();
    let told = system::text(&output.stdout);
    assert!(told.contains("before coft was made") && told.contains("timedatectl"), "{told}");
}

/// The file is never there half: a look at it may come at any moment.
fn set_clock(system: &System, ahead: i64) {
    let new = system.path(&format!("{AHEAD}.new"));
    fs::write(&new, format!("{ahead:+}\n")).unwrap();
    fs::rename(new, system.path(AHEAD)).unwrap();
}

/// Unix time, s, as the service's clock tells it.
fn now(ahead: i64) -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() + ahead
}

/// Starts a round, which ends well; its number.
fn ended_round(system: &mut System) -> u64 {
    let number = start_round(system);
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
    let ended = round(system, number);
    assert!(["promoted", "kept"].iter().any(|state| ended["state"] == *state), "{ended}");
    assert!(ended["took_seconds"].as_f64().is_some_and(|took| took < DAY as f64), "{ended}");
    number
}

/// What has come so far.
struct Seen {
    rounds: u64,
    /// Pictures beside those that [`bare`] has drawn.
    drawn: usize,
}

impl Seen {
    /// A picture that comes now is taken in, answered, and bears the time of the service's clock.
    fn a_picture_is_answered(&mut self, system: &mut System, ahead: i64) {
        self.drawn += 1;
        let name = format!("new-{}.jpg", self.drawn);
        put_new_picture(system, &name, 1000 + self.drawn as u64);
        let mut time = None;
        let answer = |system: &System| {
            let answers = json(system, &["results", "--limit", "100"]);
            let is_ours = |answer: &&Value| answer["path"].as_str().is_some_and(|path| path.ends_with(&name));
            answers.as_array()?.iter().find(is_ours)?["time"].as_i64()
        };
        system
            .wait("the picture is answered", |system| {
                time = answer(system);
                time.is_some()
            })
            .unwrap();
        let time = time.expect("it was waited for");
        assert!((time - now(ahead)).abs() < DAY, "{time}, and the clock is ahead by {ahead} s");
    }

    /// There is a new picture, and the last round has ended a while ago: the next one comes after the shipped interval,
    /// by a clock that nobody sets.
    fn no_round_starts_by_itself(&self, system: &mut System, ahead: i64) {
        let wait = |system: &System| status(system)["next_round"]["at"].as_i64().map(|at| at - now(ahead));
        let is_sane = |wait: i64| (INTERVAL - 1200..=INTERVAL).contains(&wait);
        system.wait("the next round is told", |system| wait(system).is_some_and(is_sane)).unwrap();
        let status = status(system);
        assert_eq!(status["round"], Value::Null, "by {ahead} s");
        let rounds = json(system, &["job", "list"]);
        assert_eq!(status["last_round"]["round"], self.rounds, "by {ahead} s: {rounds}");
    }
}
