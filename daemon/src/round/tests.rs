//! Tests of the process handling with shell scripts that speak the protocol. End-to-end tests use the real trainer.

use super::*;
use coft_core::ids::JobId;
use coft_core::settings::Settings;
use coft_core::spec::{Device, Method};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use tokio_seqpacket::UnixSeqpacketListener;

const HELLO: &str = r#"echo '{"type":"started","protocol":2,"device":"cpu","threads":1}' >&3"#;

fn launch(dir: &TempDir, script: &str, deadline: Duration) -> Launch {
    let trainer = dir.path().join("trainer");
    fs::write(&trainer, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&trainer, fs::Permissions::from_mode(0o755)).unwrap();
    let scratch = dir.path().join("round");
    let spec = RoundSpec {
        protocol: PROTOCOL,
        round: JobId(1),
        method: Method::Coft,
        model_dir: "/model".into(),
        image_size: None,
        classes: vec!["a".into(), "b".into()],
        student_dir: None,
        class_lines: Vec::new(),
        shares: None,
        template: "a photo of a {}.".into(),
        templates: Vec::new(),
        images: Vec::new(),
        seed: 0,
        device: Device::Cpu,
        precision: Default::default(),
        threads: 0,
        settings: Settings::default(),
        candidate_dir: scratch.join("candidate"),
        journal_dir: scratch.join("journal"),
        diagnostics: None,
    };
    Launch { trainer: Launcher::Program(trainer), spec, scratch, niceness: 5, deadline }
}

/// Runs the trainer as a child and in its own unit, and checks that both give the same.
async fn run(script: &str) -> (Vec<Event>, Outcome) {
    let dir = TempDir::new().unwrap();
    let mut running = spawn(launch(&dir, script, Duration::from_secs(60))).await.unwrap();
    let of_child = ended(&mut running).await;
    let mut running = spawn(in_unit(launch(&dir, script, Duration::from_secs(60)))).await.unwrap();
    let of_unit = ended(&mut running).await;
    assert_eq!(of_child, of_unit);
    of_unit
}

/// Starts the trainer over a socket, as systemd does; for one connection only.
fn in_unit(launch: Launch) -> Launch {
    let Launcher::Program(program) = launch.trainer else { panic!("a program") };
    let socket = program.with_file_name("socket");
    let _ = fs::remove_file(&socket);
    let mut listener = UnixSeqpacketListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let connection = listener.accept().await.unwrap();
        drop(listener);
        coft_launch::attend(connection.into(), &program).await.unwrap();
    });
    Launch { trainer: Launcher::Unit(socket), ..launch }
}

async fn ended(running: &mut TrainerProcess) -> (Vec<Event>, Outcome) {
    let mut events = Vec::new();
    loop {
        match running.next().await.expect("an end is always told") {
            Update::Event(event) => events.push(event),
            Update::Ended(outcome) => return (events, outcome),
        }
    }
}

#[track_caller]
fn message(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.message,
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_finished_run_leaves_its_candidate() {
    let script = format!("{HELLO}\nmkdir \"$(dirname $2)/candidate\"\necho '{{\"type\":\"finished\"}}' >&3");
    let (events, outcome) = run(&script).await;
    assert_eq!(events.len(), 2);
    assert!(matches!(&outcome, Outcome::Candidate(dir) if dir.ends_with("round/candidate")), "{outcome:?}");
}

#[tokio::test]
async fn finished_without_a_candidate_is_a_failure() {
    let (_, outcome) = run(&format!("{HELLO}\necho '{{\"type\":\"finished\"}}' >&3")).await;
    assert!(message(outcome).contains("without a candidate"));
}

#[tokio::test]
async fn a_failure_keeps_the_trainers_own_words() {
    let failed = r#"{"type":"failed","kind":"bad-model","message":"tensor x is missing","hint":"get it"}"#;
    let (_, outcome) = run(&format!("{HELLO}\necho '{failed}' >&3\nexit 1")).await;
    let expected = Outcome::Failed(Failure::new(FailureKind::BadModel, "tensor x is missing", "get it"));
    assert_eq!(outcome, expected);
}

#[tokio::test]
async fn a_killed_trainer_is_explained() {
    let (_, outcome) = run(&format!("{HELLO}\nkill -9 $$")).await;
    assert_eq!(message(outcome), "the trainer was killed (SIGKILL)");
    let (_, outcome) = run("echo out of luck >&2; exit 7").await;
    assert_eq!(message(outcome), "the trainer ended without a candidate (exit status: 7); its last words: out of luck");
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let other = HELLO.replace(&format!("\"protocol\":{PROTOCOL}"), "\"protocol\":99");
    let (_, outcome) = run(&format!("{other}\nexec sleep 60")).await;
    assert!(message(outcome).contains(&format!("it speaks version 99, this is {PROTOCOL}")));
    let (_, outcome) = run("echo hello >&3\nexec sleep 60").await;
    assert!(message(outcome).contains("protocol"));
}

/// `Cancel` promises 2 s; the bound is higher for busy machines.
#[tokio::test]
async fn a_stubborn_trainer_is_cancelled_all_the_same_and_soon() {
    let dir = TempDir::new().unwrap();
    let script = format!("trap '' TERM\n{HELLO}\nwhile :; do sleep 0.1; done");
    let launch = |is_unit| match launch(&dir, &script, Duration::from_secs(60)) {
        launch if is_unit => in_unit(launch),
        launch => launch,
    };
    for is_unit in [false, true] {
        let mut running = spawn(launch(is_unit)).await.unwrap();
        assert!(matches!(running.next().await, Some(Update::Event(Event::Started { .. }))));
        let since = Instant::now();
        running.cancel();
        assert_eq!(ended(&mut running).await.1, Outcome::Cancelled);
        let took = since.elapsed();
        assert!(took >= GRACE, "it was killed before it could end by itself, after {took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[tokio::test]
async fn a_late_trainer_is_stopped() {
    let dir = TempDir::new().unwrap();
    let mut running = spawn(launch(&dir, "exec sleep 60", Duration::from_millis(200))).await.unwrap();
    assert!(message(ended(&mut running).await.1).starts_with("the trainer took longer than 200ms"));
}

#[tokio::test]
async fn a_trainer_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    let mut launch = launch(&dir, "true", Duration::from_secs(1));
    launch.trainer = Launcher::Program(dir.path().join("nowhere"));
    let error = spawn(launch).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn a_unit_without_a_trainer_says_so() {
    let dir = TempDir::new().unwrap();
    let launch = in_unit(launch(&dir, "true", Duration::from_secs(60)));
    fs::remove_file(dir.path().join("trainer")).unwrap();
    let message = message(ended(&mut spawn(launch).await.unwrap()).await.1);
    assert!(message.contains("cannot start") && message.contains("No such file"), "{message}");
}

#[tokio::test]
async fn a_unit_whose_socket_nobody_listens_on_is_named() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    drop(UnixSeqpacketListener::bind(&socket).unwrap());
    let launch = Launch { trainer: Launcher::Unit(socket), ..launch(&dir, "true", Duration::from_secs(60)) };
    let error = spawn(launch).await.unwrap_err();
    assert!(error.to_string().contains("socket: Connection refused"), "{error}");
    assert!(error.hint().contains("systemctl start coft-trainer.socket"));
}

/// The unit was killed together with its trainer, for example because memory ran out.
#[tokio::test]
async fn a_unit_that_ends_without_a_word_is_a_failure() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let mut listener = UnixSeqpacketListener::bind(&socket).unwrap();
    let launch = Launch { trainer: Launcher::Unit(socket), ..launch(&dir, "true", Duration::from_secs(60)) };
    let mut running = spawn(launch).await.unwrap();
    drop(listener.accept().await.unwrap());
    assert!(message(ended(&mut running).await.1).contains("unit ended before it could tell"));
}

/// The trainer ends with the service, however the service is stopped.
#[tokio::test]
async fn a_trainer_in_a_unit_ends_with_the_service() {
    let dir = TempDir::new().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("trap '' TERM\necho $$ > {}\n{HELLO}\nwhile :; do sleep 0.1; done", pid.display());
    let mut running = spawn(in_unit(launch(&dir, &script, Duration::from_secs(60)))).await.unwrap();
    assert!(matches!(running.next().await, Some(Update::Event(Event::Started { .. }))));
    drop(running);
    let stat = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
    let gone = async {
        while !fs::read_to_string(&stat).unwrap_or(") Z".into()).contains(") Z") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.expect("it ends");
}

#[tokio::test]
async fn the_least_of_priorities_is_the_idle_class() {
    for (niceness, class) in [(5, "0"), (19, "5")] {
        let dir = TempDir::new().unwrap();
        // Field 41 of proc_pid_stat(5) is the scheduling policy; 5 is SCHED_IDLE. The name in field 2 has no space.
        let script = format!("{HELLO}\nset -- $(cat /proc/$$/stat)\nshift 40\nexit $((10 + $1))");
        let mut running = spawn(Launch { niceness, ..launch(&dir, &script, Duration::from_secs(60)) }).await.unwrap();
        let message = message(ended(&mut running).await.1);
        assert!(message.contains(&format!("exit status: 1{class}")), "{niceness}: {message}");
    }
}

#[tokio::test]
async fn a_trainer_that_is_to_end_need_not_wait_for_the_processor() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: only root may raise a priority");
        return;
    }
    let dir = TempDir::new().unwrap();
    let seen = dir.path().join("seen");
    let stat = "$(cat /proc/$$/stat)";
    // Field 19 is the nice value, 41 the scheduling policy.
    let told = format!("set -- {stat}; echo ${{19}} ${{41}} > {}; exit", seen.display());
    let script = format!("trap '{told}' TERM\n{HELLO}\nwhile :; do sleep 0.1; done");
    let mut running = spawn(Launch { niceness: 19, ..launch(&dir, &script, Duration::from_secs(60)) }).await.unwrap();
    assert!(matches!(running.next().await, Some(Update::Event(Event::Started { .. }))));
    running.cancel();
    assert_eq!(ended(&mut running).await.1, Outcome::Cancelled);
    assert_eq!(fs::read_to_string(seen).unwrap().trim(), "0 0");
}

/// zbus leaves the descriptors that it receives open across exec, so the trainer inherited them.
#[tokio::test]
async fn a_trainer_inherits_no_descriptor_of_a_call() {
    let image = tempfile::NamedTempFile::new().unwrap();
    fcntl(image.as_file(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let name = image.path().display();
    let script = format!("{HELLO}\nif ls -l /proc/self/fd | grep -qF {name}; then exit 7; else exit 8; fi");
    let (events, outcome) = run(&script).await;
    assert_eq!(events.len(), 1, "its own descriptor is there");
    assert_eq!(message(outcome), "the trainer ended without a candidate (exit status: 8)");
}

/// A byte that is not UTF-8 closed the pipe. The trainer then died before it could report what was wrong.
#[tokio::test]
async fn a_trainer_may_say_what_is_no_text() {
    let failed = r#"{"type":"failed","kind":"bad-images","message":"x.qoi is damaged","hint":""}"#;
    // The script fails if its standard error is closed, as Rust's eprintln! does.
    let say = "printf '\\377\\376\\n' >&2; sleep 0.2; i=0; while [ $i -lt 9 ]; do echo line $i >&2 || exit 101; i=$((i+1)); done";
    let (_, outcome) = run(&format!("{HELLO}\n{say}\necho '{failed}' >&3\nexit 1")).await;
    assert_eq!(message(outcome), "x.qoi is damaged");
    let (_, outcome) = run("printf 'bad byte \\377 here' >&2; exit 7").await;
    assert!(message(outcome).ends_with("its last words: bad byte \u{fffd} here"));
}

#[tokio::test]
async fn a_line_without_an_end_is_cut() {
    let (_, outcome) = run("head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 7").await;
    let message = message(outcome);
    assert!(message.ends_with("xxx…") && message.len() < 2 * STDERR_LINE, "{} bytes", message.len());
    let (_, outcome) = run("head -c 20000000 /dev/zero | tr '\\0' x >&3; exec sleep 60").await;
    let Outcome::Failed(Failure { message, .. }) = outcome else { panic!("no protocol") };
    assert!(message.contains("an event of more than 1048576 bytes"), "{message:.200}");
}

#[tokio::test]
async fn an_event_that_is_no_text_is_another_protocol() {
    let (_, outcome) = run(&format!("{HELLO}\nprintf '\\377\\n' >&3; exec sleep 60")).await;
    assert!(message(outcome).contains("protocol"));
}

/// A program started by the trainer held the trainer's standard error, so a cancelled round stayed open as long as that
/// program ran. If it held the pipe of events as well, a round that had ended stayed open, too.
#[tokio::test]
async fn who_holds_a_pipe_of_the_trainer_does_not_hold_up_the_round() {
    for (held, end) in [("3>&-", "exec sleep 600"), ("", "exec sleep 600"), ("", "kill -9 $$")] {
        let dir = TempDir::new().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 600 {held} &\necho $! > {}\n{HELLO}\n{end}", pid.display());
        let mut running = spawn(launch(&dir, &script, Duration::from_secs(600))).await.unwrap();
        assert!(matches!(running.next().await, Some(Update::Event(Event::Started { .. }))));
        running.cancel();
        timeout(Duration::from_secs(60), ended(&mut running)).await.expect("nobody else is waited for");
        let pid = fs::read_to_string(pid).unwrap();
        // On a busy machine even a killed process ends only when it gets the processor. Afterwards it may remain as a
        // zombie, because no process waits for it.
        let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or(") Z".into());
        let gone = async {
            while !state().contains(") Z") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.expect("it ends with the trainer");
    }
}

/// A process that left the trainer's process group outlives the trainer, and the round does not wait for it either.
#[tokio::test]
async fn who_left_the_trainer_s_group_does_not_hold_up_the_round() {
    let dir = TempDir::new().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 600' &\n{HELLO}\nsleep 0.5; exit 7", pid.display());
    let mut running = spawn(launch(&dir, &script, Duration::from_secs(600))).await.unwrap();
    let (_, outcome) = timeout(Duration::from_secs(60), ended(&mut running)).await.expect("nobody else is waited for");
    assert!(message(outcome).contains("exit status: 7"));
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
