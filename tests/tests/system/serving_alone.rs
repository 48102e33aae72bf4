use super::*;

/// A device that only serves has no trainer: what was made elsewhere is imported and answers.
pub fn without_the_trainer_the_service_serves_and_imports() {
    let mut system = serving();
    let exported = "/var/tmp/exported";
    let (code, said) = told(&system, "root", &["export", "1", "--format", "onnx", exported]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(label(&system).unwrap().1, 1);

    // The trainer goes away under a service that runs, and then the service is a new one.
    system.root(&["apt-get", "remove", "--yes", "coft-trainer"]).unwrap();
    assert!(!system.path("/usr/lib/coft/torch").exists());
    system.root(&["systemctl", "restart", "coftd"]).unwrap();
    system.wait("it serves", |system| label(system).is_some()).unwrap();
    let start = |system: &System| told(system, "root", &["round", "start"]);
    system.wait("a refusal says what to install", |system| start(system).1.contains("install coft-trainer")).unwrap();
    assert_ne!(start(&system).0, Some(0));

    // Nothing but the service was ever there.
    system.root(&["apt-get", "purge", "--yes", "coft"]).unwrap();
    install(&system, &[&system::package("coft").unwrap()]);
    assert_eq!(unit(&system, "ActiveState"), "active");
    assert_eq!(label(&system), None);
    let shown = |system: &System| status(system).to_string();
    system.wait("what is missing is told", |system| shown(system).contains("coft-trainer is not installed")).unwrap();
    let (code, said) = told(&system, "root", &["import", exported]);
    assert_eq!(code, Some(0), "{said}\n{}", system.journal());
    system.wait("it serves", |system| label(system).is_some()).unwrap();
}
