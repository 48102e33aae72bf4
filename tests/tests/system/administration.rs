use super::*;

/// What the journal has of the service, in the words of journalctl's arguments.
fn journal(system: &System, arguments: &[&str]) -> String {
    let journalctl = ["journalctl", "--no-pager", "--unit=coftd"];
    system.root(&[&journalctl, arguments].concat()).unwrap()
}

/// What the shipped configuration says of the first number of images that starts a round.
const NEW_IMAGES: &str = "new-images = 200";

fn set_new_images(system: &System, line: &str) {
    let text = fs::read_to_string(system.path(CONFIG)).unwrap();
    let changed: String = text
        .lines()
        .map(|kept| if kept.starts_with("new-images") { line } else { kept })
        .fold(String::new(), |text, line| text + line + "\n");
    assert_ne!(changed, text);
    fs::write(system.path(CONFIG), changed).unwrap();
}

pub fn an_administrator_sees_and_changes_what_the_service_does() {
    let mut system = serving();
    the_journal_explains_its_messages(&system);
    the_log_is_changed_while_the_service_runs(&mut system);
    a_reload_is_used_or_refused(&mut system);
    classifiers_are_made_and_removed(&mut system);
    the_service_goes_on_without_a_journal(&mut system);
    the_example_for_devices_without_a_gpu_works(&mut system);
}

/// `journalctl -x`, with the texts that the package has brought.
fn the_journal_explains_its_messages(system: &System) {
    let started = "MESSAGE_ID=d2db6154117f1b082cd830f903350aaa";
    let found = journal(system, &["--output=cat", started]);
    assert!(found.starts_with("service started on the bus system"), "{found}");
    let explained = journal(system, &["--catalog", started]);
    for wanted in ["Subject: coft answers on the bus", "the catalogue in /var/lib/coft", "coftctl status"] {
        assert!(explained.contains(wanted), "{explained}");
    }
    // Every message that has an id has an explanation, with the facts of the message in it.
    let messages = journal(system, &["--output=json", "--output-fields=MESSAGE_ID,MESSAGE,SYSLOG_IDENTIFIER,PRIORITY"]);
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours: Vec<Value> = messages.filter(|message| message["SYSLOG_IDENTIFIER"] == "coftd").collect();
    let first = ours.iter().find(|message| message["MESSAGE_ID"] == started["MESSAGE_ID=".len()..]);
    assert_eq!(first.expect("it is there")["PRIORITY"], "6", "as systemd calls what is merely said");
    let with_ids: Vec<&str> = ours.iter().filter_map(|message| message["MESSAGE_ID"].as_str()).collect();
    assert!(with_ids.len() > 3, "{ours:#?}");
    for id in with_ids {
        let explained = journal(system, &["--catalog", &format!("MESSAGE_ID={id}")]);
        assert!(explained.contains("Defined-By: coft"), "{id}: {explained}");
        let is_field = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(!explained.split('@').any(is_field), "a field is not filled in: {explained}");
    }
}

/// `systemctl service-log-level`, which root alone may set.
fn the_log_is_changed_while_the_service_runs(system: &mut System) {
    let level = |system: &System, arguments: &[&str]| {
        system.root(&[&["systemctl", "service-log-level", "coftd"], arguments].concat()).unwrap()
    };
    assert_eq!(level(system, &[]), "info");
    level(system, &["debug"]);
    assert_eq!(level(system, &[]), "debug");
    upload(system);
    let said =
        |system: &System| journal(system, &["--output=cat", "--priority=debug"]).contains("is taken in as image");
    system.wait("what is only said at length is logged", |system| said(system)).unwrap();
    level(system, &["info"]);
    assert_eq!(level(system, &[]), "info");
    let refused = system.run("root", &["systemctl", "service-log-level", "coftd", "loud"]).unwrap();
    assert!(!refused.status.success());

    let target = |system: &System| system.root(&["systemctl", "service-log-target", "coftd"]).unwrap();
    assert_eq!(target(system), "journal");
    let object = ["org.coft.Coft1", "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1", "LogLevel"];
    let by_ann = ["busctl", "set-property"].into_iter().chain(object).chain(["s", "debug"]);
    let refused = system.run("ann", &by_ann.collect::<Vec<_>>()).unwrap();
    assert!(!refused.status.success() && system::text(&refused.stderr).contains("denied"), "{refused:?}");
    assert_eq!(level(system, &[]), "info");
}

/// `systemctl reload`: systemd waits until the service has read its configuration.
fn a_reload_is_used_or_refused(system: &mut System) {
    let service = unit(system, "MainPID");
    set_new_images(system, "new-images = 150");
    system.root(&["systemctl", "reload", "coftd"]).unwrap();
    let used = |system: &System| journal(system, &["--output=cat"]).contains("used from now on: schedule.new-images");
    system.wait("the new configuration is used", |system| used(system)).unwrap();
    system.wait("systemd knows that it is", |system| unit(system, "SubState") == "running").unwrap();

    set_new_images(system, "new-images = \"many\"");
    system.root(&["systemctl", "reload", "coftd"]).unwrap();
    let shown = |system: &System| unit(system, "StatusText");
    system.wait("what is wrong is told", |system| shown(system).contains("was not reloaded")).unwrap();
    assert!(label(system).is_some());
    set_new_images(system, NEW_IMAGES);
    system.root(&["systemctl", "reload", "coftd"]).unwrap();
    system.wait("it is in order again", |system| !shown(system).contains("was not reloaded")).unwrap();
    assert_eq!(unit(system, "MainPID"), service, "it was never restarted");
}

/// By commands, inside the sandbox of the unit, and as files that an administrator finds where they belong.
fn classifiers_are_made_and_removed(system: &mut System) {
    let service = unit(system, "MainPID");
    let create = ["classifier", "create", "lamps", "--labels", "hex nut,hex bolt"];
    let (code, said) = told(system, "ann", &create);
    assert!(code == Some(5) && said.contains("org.coft.Coft1.configure"), "{said}");
    assert_eq!(told(system, "root", &create), (Some(0), String::new()), "{}", system.journal());
    let of_lamps = |system: &System| json(system, &["--classifier", "lamps", "status"]);
    system.wait("another classifier serves", |system| of_lamps(system)["active_generation"] == 1).unwrap();
    let add = ["--classifier", "lamps", "source", "add", WATCHED, "--name", "lamps"];
    assert_eq!(told(system, "root", &add), (Some(0), String::new()));
    let images = status(system)["images"].clone();
    assert!(images.as_u64().is_some_and(|images| images > 0));
    system.wait("it sees what the first one sees", |system| of_lamps(system)["images"] == images).unwrap();
    let file = fs::read_to_string(system.path("/etc/coft/classifiers.d/lamps.toml")).unwrap();
    assert!(file.contains("name = \"lamps\"\npath = \"/srv/coft/in\""), "{file}");
    let lines = journal(system, &["--output=cat", "COFT_CLASSIFIER=lamps"]);
    assert!(lines.contains("generation 1 serves") || lines.contains("round 1 promoted generation 1"), "{lines}");

    assert_eq!(told(system, "root", &["classifier", "remove", "lamps", "--purge"]), (Some(0), String::new()));
    assert!(!system.path("/etc/coft/classifiers.d/lamps.toml").exists());
    assert!(!system.path(STATE).join("classifiers/lamps").exists());
    assert_eq!((unit(system, "MainPID"), unit(system, "NRestarts")), (service, "0".into()));
    assert!(label(system).is_some());
}

/// Nobody can log, and the service neither ends nor waits.
fn the_service_goes_on_without_a_journal(system: &mut System) {
    let service = unit(system, "MainPID");
    let units = ["systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service"];
    system.root(&[&["systemctl", "stop"], &units[..]].concat()).unwrap();
    for _ in 0..3 {
        system.root(&["systemctl", "reload", "coftd"]).unwrap();
        assert!(label(system).is_some());
    }
    system.root(&[&["systemctl", "start"], &units[..]].concat()).unwrap();
    // What is logged from now on is in the journal again.
    let reloads = |system: &System| journal(system, &["--output=cat"]).matches("was read again").count();
    let known = reloads(system);
    system.root(&["systemctl", "reload", "coftd"]).unwrap();
    system.wait("it logs again", |system| reloads(system) > known).unwrap();
    assert_eq!((unit(system, "MainPID"), unit(system, "NRestarts")), (service, "0".into()));
}

/// The commands in the comment of the example.
fn the_example_for_devices_without_a_gpu_works(system: &mut System) {
    let example = fs::read_to_string(system.path("/usr/share/doc/coft/examples/cpu-only.conf")).unwrap();
    let commands: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    assert_eq!(commands.len(), 4, "{example}");
    let without_sudo = commands.join("\n").replace("sudo ", "");
    system.root(&["sh", "-e", "-c", &without_sudo]).unwrap();
    assert_eq!(unit(system, "PrivateDevices"), "yes");
    first_generation(system);
    configure(system, FEW);
    restart(system);
    start_round(system);
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
    assert_eq!(label(system).unwrap().1, 2, "{}", system.journal());
}
