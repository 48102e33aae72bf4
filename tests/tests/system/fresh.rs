use super::*;
use std::thread;
use std::time::Instant;

/// What a person sees who installs the packages and does what docs/install.md says: everything up to a model of their
/// own.
pub fn two_packages_are_all_that_a_bare_debian_needs() {
    let mut system = bare();
    let began = Instant::now();
    install_both(&system);
    let installed = began.elapsed();
    // Nobody started anything, and the configuration is the shipped one.
    system.wait("a first label", |system| label(system).is_some()).unwrap();
    eprintln!("installed in {installed:.1?}, a first label after {:.1?}", began.elapsed());
    let (name, generation) = label(&system).unwrap();
    assert!(PARTS.contains(&name.as_str()), "{name}");
    assert_eq!(generation, 1);
    // The bus did not know the service's user yet: its first start failed, and the next came 5 s later.
    assert_eq!((unit(&system, "ActiveState"), unit(&system, "NRestarts")), ("active".into(), "0".into()));
    system.root(&["systemctl", "is-system-running"]).unwrap();

    // A call starts the service, whoever it comes from.
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    assert_eq!(unit(&system, "ActiveState"), "inactive");
    let (code, said) = told(&system, "ann", &["status"]);
    assert_eq!(code, Some(0), "{said}");
    // It answers before systemd hears that it is ready.
    system.wait("it is up", |system| unit(system, "ActiveState") == "active").unwrap();
    first_generation(&mut system);

    // Changes are asked of polkit.
    configure(&system, FEW);
    restart(&mut system);
    upload(&mut system);
    let (code, said) = told(&system, "ann", &["round", "start"]);
    assert_eq!(code, Some(5), "{said}");
    assert_eq!(json(&system, &["status"])["round"], Value::Null);
    let rule = include_str!("../../../docs/dbus.md").split_once("```js\n").unwrap().1.split_once("```").unwrap().0;
    assert!(rule.contains(OPERATORS), "{rule}");
    fs::write(system.path("/etc/polkit-1/rules.d/50-coft.rules"), rule).unwrap();
    assert_eq!(told(&system, "ann", &["round", "start"]).0, Some(5), "ann is no operator");

    // A whole round, in the sandbox of the unit.
    system
        .wait("the rule is known, and a round can start", |system| {
            told(system, "olga", &["round", "start"]).0 == Some(0)
        })
        .unwrap();
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
    let rounds = json(&system, &["job", "list"]);
    assert_eq!(label(&system).unwrap().1, 2, "{rounds}\n{}", system.journal());
    a_round_uses_every_core(&system);
    configure(&system, VERY_MANY);
    restart(&mut system);
    without_polkit(&mut system);
    // What the camera has uploaded is as it was.
    for file in fs::read_dir(system.path(WATCHED)).unwrap() {
        let file = file.unwrap().path();
        let own = system.path(PICTURES).join(file.file_name().unwrap());
        assert!(fs::read(&file).unwrap() == fs::read(own).unwrap(), "{}", file.display());
    }

    // After a restart of the machine it serves by itself.
    system.power_off().unwrap();
    system.boot().unwrap();
    system.wait("the service is up", |system| unit(system, "ActiveState") == "active").unwrap();
    system.wait("it serves", |system| label(system).is_some_and(|(_, generation)| generation == 2)).unwrap();
}

/// The units refuse what ONNX Runtime and libtorch find out by how many cores there are: the one logged errors, and the
/// other computed on a single one.
fn a_round_uses_every_core(system: &System) {
    let journal = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--unit=coft*"];
    assert_eq!(system.root(&[&journal[..], &["--priority=err"]].concat()).unwrap(), "");
    let said = system.root(&journal).unwrap();
    assert!(said.contains(" works on cpu with "), "{said}");
    let shares_cores =
        fs::read_to_string("/sys/devices/system/cpu/smt/active").is_ok_and(|active| active.trim() == "1");
    let has_several = thread::available_parallelism().unwrap().get() > 1 && !shares_cores;
    assert!(!has_several || !said.contains(" works on cpu with 1 threads"), "{said}");
}

/// Nobody but root may change anything then, and everybody is answered as before.
fn without_polkit(system: &mut System) {
    system.root(&["systemctl", "mask", "--runtime", "--now", "polkit"]).unwrap();
    let (code, said) = told(system, "olga", &["round", "start"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("polkit cannot be asked"), "{said}");
    assert_eq!(label(system).unwrap().1, 2);
    let number = start_round(system);
    let (code, said) = told(system, "root", &["round", "cancel", &number.to_string()]);
    assert_eq!(code, Some(0), "{said}");
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
    system.root(&["systemctl", "unmask", "--runtime", "polkit"]).unwrap();
    let may = |system: &System| told(system, "olga", &["round", "start"]).0 == Some(0);
    system.wait("polkit is asked again", |system| may(system)).unwrap();
    let number = status(system)["round"].as_u64().expect("it has started");
    told(system, "root", &["round", "cancel", &number.to_string()]);
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
}

/// Everything that the packages bring is where it is looked for.
pub fn manuals_units_and_policies_are_found() {
    let system = serving();
    for path in [
        "/usr/share/man/man1/coftctl.1.gz",
        "/usr/share/man/man5/coft.toml.5.gz",
        "/usr/share/man/man5/org.coft.Coft1.5.gz",
        "/usr/share/man/man8/coftd.8.gz",
        "/usr/share/dbus-1/interfaces/org.coft.Coft1.Manager.xml",
        "/usr/share/bash-completion/completions/coftctl",
        "/usr/share/doc/coft/copyright",
        "/usr/share/doc/coft-trainer/copyright",
    ] {
        assert!(system.path(path).exists(), "{path}");
    }
    assert_eq!(system.root(&["systemctl", "is-enabled", "coftd"]).unwrap(), "enabled");
    assert!(system.root(&["pkaction"]).unwrap().contains("org.coft.Coft1.round"));
    for unit in ["coftd.service", "coft-trainer.socket", "coft-trainer@.service"] {
        let path = format!("/usr/lib/systemd/system/{unit}");
        system.root(&["systemd-analyze", "verify", "--man=no", &path]).unwrap();
    }
    // Nothing that a package has put in place is anybody's but root's, and nothing but root may write it.
    let listed = system.root(&["dpkg", "--listfiles", "coft", "coft-trainer"]).unwrap();
    let files: Vec<&str> = listed.lines().filter(|line| line.starts_with('/')).collect();
    assert!(files.len() > 60, "{listed}");
    let find = ["find", "-L"].into_iter().chain(files).chain(["-maxdepth", "0", "(", "!", "-user", "root"]);
    let find: Vec<&str> = find.chain(["-o", "-perm", "/022", "!", "-type", "l", ")"]).collect();
    assert_eq!(system.root(&find).unwrap(), "");
    // The whole licence of each library is there.
    let copyright = fs::read_to_string(system.path("/usr/share/doc/coft-trainer/copyright")).unwrap();
    assert!(
        copyright.contains("torch 2.11.0: BSD-3-Clause") && copyright.contains("Facebook"),
        "no notice of libtorch"
    );
}
