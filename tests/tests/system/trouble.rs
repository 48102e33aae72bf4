use super::*;

/// Starts a round that takes hours and waits until its trainer works; its number.
fn training(system: &mut System) -> u64 {
    let number = start_round(system);
    at_work(system, number);
    number
}

fn at_work(system: &mut System, number: u64) {
    let is_training = |system: &System| {
        let stage = round(system, number)["stage"].as_str().unwrap_or_default().to_owned();
        stage.starts_with("phase1") && process(system, "coft-trainer").is_some()
    };
    system.wait("the trainer works", |system| is_training(system)).unwrap();
}

/// 19, and SCHED_IDLE. The unit of the trainer gives them; nobody inside may change them.
const LOWEST: &str = "19 5";

/// Nice value and scheduling policy of a process of the system.
fn priority(system: &System, process: u32) -> String {
    let stat = system.root(&["cat", &format!("/proc/{process}/stat")]).unwrap();
    // Fields 19 and 41 of proc_pid_stat(5); the name in field 2 has no blank.
    let fields: Vec<&str> = stat.split(' ').collect();
    format!("{} {}", fields[18], fields[40])
}

/// The round that has taken up the work of another.
fn continued(system: &mut System, interrupted: u64) -> u64 {
    let mut found = None;
    let is_next = |value: &Value| value["round"].as_u64().filter(|&number| number > interrupted);
    system
        .wait("the work is taken up", |system| {
            found = is_next(&status(system));
            found.is_some()
        })
        .unwrap();
    let number = found.expect("it was found");
    assert_eq!(round(system, number)["continues"], interrupted);
    number
}

pub fn the_service_survives_what_kills_and_stops_it() {
    let mut system = serving();
    configure(&system, VERY_MANY);
    restart(&mut system);
    upload(&mut system);

    // The trainer is killed: its round has failed, and the service has noticed nothing else.
    let number = training(&mut system);
    let service = unit(&system, "MainPID");
    let trainer = process(&system, "coft-trainer").unwrap();
    assert_eq!(priority(&system, trainer), LOWEST);
    system.root(&["sh", "-c", &format!("kill -KILL {trainer}")]).unwrap();
    system.wait("the round has failed", |system| round(system, number)["state"] == "failed").unwrap();
    assert!(round(&system, number)["result"]["message"].as_str().unwrap().contains("killed"));
    assert_eq!(unit(&system, "MainPID"), service);
    assert_eq!(label(&system).unwrap().1, 1);

    // The service is killed: systemd starts it again, its trainer has ended, and the work goes on.
    let number = training(&mut system);
    let trainer = process(&system, "coft-trainer").unwrap();
    system.root(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", "coftd"]).unwrap();
    system.wait("systemd starts it again", |system| unit(system, "NRestarts") == "1").unwrap();
    first_generation(&mut system);
    system.wait("the round is interrupted", |system| round(system, number)["state"] == "interrupted").unwrap();
    let is_there = |system: &System| system.root(&["test", "-e", &format!("/proc/{trainer}")]).is_ok();
    system.wait("the trainer has ended", |system| !is_there(system)).unwrap();
    assert_eq!(label(&system).unwrap().1, 1);
    let number = continued(&mut system, number);
    at_work(&mut system, number);

    // It is stopped while a round runs, and started again.
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    assert_eq!((unit(&system, "Result"), unit(&system, "ActiveState")), ("success".into(), "inactive".into()));
    system.wait("the trainer has ended", |system| process(system, "coft-trainer").is_none()).unwrap();
    system.root(&["systemctl", "start", "coftd"]).unwrap();
    first_generation(&mut system);
    system.wait("the round is interrupted", |system| round(system, number)["state"] == "interrupted").unwrap();
    // By itself the work is taken up after some minutes, since it came no further; a person need not wait.
    let next = training(&mut system);
    assert_eq!(round(&system, next)["continues"], number);

    let (code, said) = told(&system, "root", &["round", "cancel", &next.to_string()]);
    assert_eq!(code, Some(0), "{said}");

    // It hangs as a whole: systemd, which hears nothing of it, ends it and starts it again.
    let drop_in = system.path("/etc/systemd/system/coftd.service.d/impatient.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    fs::write(&drop_in, "[Service]\nWatchdogSec=20s\n").unwrap();
    system.root(&["systemctl", "daemon-reload"]).unwrap();
    restart(&mut system);
    let (service, restarts) = (unit(&system, "MainPID"), unit(&system, "NRestarts"));
    system.root(&["sh", "-c", &format!("kill -STOP {service}")]).unwrap();
    system.wait("it is started again", |system| unit(system, "NRestarts") > restarts).unwrap();
    first_generation(&mut system);
    assert_ne!(unit(&system, "MainPID"), service);
    assert!(system.unit_log().contains("Watchdog timeout"), "{}", system.unit_log());
    assert_eq!(label(&system).unwrap().1, 1);

    // The bus is restarted: the service comes back by itself.
    let service = unit(&system, "MainPID");
    system.root(&["systemctl", "restart", "dbus"]).unwrap();
    system.wait("it has come back", |system| !["0", &service].contains(&unit(system, "MainPID").as_str())).unwrap();
    system.wait("it serves", |system| label(system).is_some()).unwrap();
    assert_eq!(status(&system)["images"], pictures());
}

/// A disk that is full, or can only be read, stops what writes, and a disk that is not there stops what is read from
/// it: each is told, and nothing else is stopped.
pub fn disks_that_are_full_closed_or_late_are_told_and_mended() {
    let mut system = bare();
    // The state directory on a small disk of its own.
    fs::create_dir_all(system.path(STATE)).unwrap();
    system.root(&["mount", "-t", "tmpfs", "-o", "size=200M,mode=0700", "none", STATE]).unwrap();
    install_both(&system);
    first_generation(&mut system);
    let said = |system: &System| system::text(&ctl(system, "ann", &["status"]).stdout).to_lowercase();
    system.root(&["usermod", "--append", "--groups", "coft-upload", "camera"]).unwrap();
    system.root(&["chmod", "-R", "a+rX", "/home/ann"]).unwrap();
    let copy = |system: &System, files: &str, to: &str| {
        let output = system.run("camera", &["sh", "-c", &format!("cp {PICTURES}/{files} {to}/")]).unwrap();
        assert!(output.status.success(), "{}", system::text(&output.stderr));
    };

    let fill = "head -c 1G /dev/zero > /var/lib/coft/filler; true";
    system.root(&["sh", "-c", fill]).unwrap();
    system.root(&["systemctl", "restart", "coftd"]).unwrap();
    system.wait("it serves", |system| label(system).is_some()).unwrap();
    copy(&system, "000*", WATCHED);
    system.wait("the full disk is told", |system| said(system).contains("disk")).unwrap();
    assert!(label(&system).is_some());
    assert_eq!(unit(&system, "ActiveState"), "active");
    system.root(&["rm", "-f", "/var/lib/coft/filler"]).unwrap();
    system.wait("ten pictures catalogued", |system| status(system)["images"] == 10).unwrap();

    // The disk can only be read, as after an error of the disk: what was made serves, the service says what it waits
    // for and why, and goes on after a restart: the unit has its own view of the mounts, made when it started.
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    system.root(&["mount", "-o", "remount,ro", STATE]).unwrap();
    copy(&system, "001*", WATCHED);
    system.root(&["systemctl", "start", "coftd"]).unwrap();
    system
        .wait("it is told", |system| {
            said(system).contains("/var/lib/coft/catalog.sqlite cannot be written: its file system is read-only")
        })
        .unwrap();
    system.wait("it serves", |system| label(system).is_some()).unwrap();
    assert!(system.journal().contains("its file system is read-only"), "{}", system.journal());
    let (code, checks) = told_by_the_doctor(&system);
    assert!(code == Some(1) && checks.contains("read-only"), "{checks}");
    assert_eq!((unit(&system, "ActiveState"), unit(&system, "NRestarts")), ("active".into(), "0".into()));
    system.root(&["mount", "-o", "remount,rw", STATE]).unwrap();
    system.root(&["systemctl", "restart", "coftd"]).unwrap();
    system.wait("twenty pictures catalogued", |system| status(system)["images"] == 20).unwrap();
    first_generation(&mut system);

    // A second source lies on a disk that is not there yet.
    let late = "/mnt/camera/in";
    let configured = fs::read_to_string(system.path(CONFIG)).unwrap();
    fs::write(system.path(CONFIG), format!("{configured}\n[[source]]\npath = \"{late}\"\n")).unwrap();
    system.root(&["systemctl", "restart", "coftd"]).unwrap();
    let source = |system: &System| said(system).lines().find(|line| line.contains(late)).map(str::to_owned);
    system.wait("it is missed", |system| source(system).is_some_and(|line| line.contains("does not exist"))).unwrap();
    fs::create_dir_all(system.path("/mnt/camera")).unwrap();
    system.root(&["mount", "-t", "tmpfs", "none", "/mnt/camera"]).unwrap();
    system.root(&["install", "-d", "-o", "camera", late]).unwrap();
    copy(&system, "002*", late);
    system.wait("its pictures are catalogued", |system| status(system)["images"] == 30).unwrap();
    system.root(&["umount", "/mnt/camera"]).unwrap();
    system.wait("it is missed", |system| source(system).is_some_and(|line| line.contains("does not exist"))).unwrap();
    assert!(label(&system).is_some());
}

/// A model and the names of its classes on a disk that is not mounted when the service starts: before there is any
/// generation nothing can be answered, and afterwards what served before serves.
pub fn a_model_on_a_disk_that_comes_late_is_waited_for() {
    let mut system = bare();
    install_both(&system);
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    system.root(&["sh", "-c", &format!("rm -rf {STATE}/*")]).unwrap();
    let disk = "/mnt/models";
    let not_mounted = system.path("/srv/disk/clip");
    fs::create_dir_all(&not_mounted).unwrap();
    fs::create_dir_all(system.path(disk)).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/assets/demo-model");
    for file in fs::read_dir(model).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), not_mounted.join(file.file_name())).unwrap();
    }
    configure(&system, FEW);
    let configured = fs::read_to_string(system.path(CONFIG)).unwrap();
    let named = format!("\n[classifier]\nmodel = \"{disk}/clip\"\nlabels = \"{disk}/clip/labels.txt\"\n");
    fs::write(system.path(CONFIG), configured.replace("\n[classifier]\n", &named)).unwrap();
    let mount = |system: &System| system.root(&["mount", "--bind", "/srv/disk", disk]).unwrap();
    let said = |system: &System| system::text(&ctl(system, "ann", &["status"]).stdout);
    let is_missed = |system: &System| said(system).contains(&format!("{disk}/clip"));
    let shown = |system: &System| unit(system, "StatusText");

    system.root(&["systemctl", "start", "coftd"]).unwrap();
    system.wait("the model is missed", |system| is_missed(system)).unwrap();
    system.wait("systemctl status says so", |system| shown(system).contains(disk)).unwrap();
    assert_eq!(label(&system), None);
    put_pictures(&system);
    mount(&system);
    first_generation(&mut system);
    system.wait("every picture catalogued", |system| status(system)["images"] == pictures()).unwrap();
    assert!(!is_missed(&system), "{}", said(&system));
    system.wait("it serves", |system| label(system).is_some_and(|(_, generation)| generation == 1)).unwrap();
    assert_eq!(unit(&system, "NRestarts"), "0");

    // The next start of the machine, and the disk is late again.
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    system.root(&["umount", disk]).unwrap();
    system.root(&["systemctl", "start", "coftd"]).unwrap();
    system.wait("the model is missed", |system| is_missed(system)).unwrap();
    system.wait("it serves", |system| label(system).is_some_and(|(_, generation)| generation == 1)).unwrap();
    let (code, refused) = told(&system, "root", &["round", "start"]);
    assert!(code == Some(6) && refused.contains(disk), "{code:?} {refused}");
    mount(&system);
    first_generation(&mut system);
    let number = start_round(&mut system);
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
    assert_eq!(round(&system, number)["state"], "promoted", "{}", system.journal());
    assert_eq!(label(&system).unwrap().1, 2, "{}", system.journal());
}

/// How coftctl doctor ends, and what it shows.
fn told_by_the_doctor(system: &System) -> (Option<i32>, String) {
    let output = ctl(system, "root", &["doctor"]);
    (output.status.code(), system::text(&output.stdout).to_lowercase())
}
