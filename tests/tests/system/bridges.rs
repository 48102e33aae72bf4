use super::*;

/// coft-exporter and coft-mqtt as docs/bridges.md describes them, from their installation to their purge.
pub fn bridges_answer_prometheus_and_a_broker_and_leave_nothing_behind() {
    let mut system = serving();
    // As Debian's installer writes it; debootstrap leaves "localhost" without a number.
    fs::write(system.path("/etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    upload(&mut system);
    let bridges = ["coft-mqtt", "coft-exporter"].map(|name| system::package(name).unwrap());
    install(&system, &bridges.each_ref().map(|path| path.as_path()));
    the_exporter_answers_from_its_installation_on(&mut system);
    the_mqtt_bridge_waits_for_its_broker_and_then_sends(&mut system);
    an_upgrade_lets_both_go_on(&mut system);
    a_purge_leaves_nothing(&mut system);
}

/// What a service of this name says to `systemctl show`.
fn property(system: &System, unit: &str, property: &str) -> String {
    system.root(&["systemctl", "show", "--value", &format!("--property={property}"), unit]).unwrap()
}

/// The answer of the exporter to a user of the machine; empty where nothing listens.
fn scraped(system: &System) -> String {
    let ask = "exec 3<>/dev/tcp/127.0.0.1/9077; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    system::text(&system.run("ann", &["bash", "-c", ask]).unwrap().stdout)
}

fn is_up(system: &System, value: &str) -> bool {
    scraped(system).lines().any(|line| line == format!("coft_up {value}"))
}

/// It starts nothing: a scrape while coftd is stopped says so, and coftd stays stopped.
fn the_exporter_answers_from_its_installation_on(system: &mut System) {
    system.wait("the exporter answers", |system| is_up(system, "1")).unwrap();
    let metrics = scraped(system);
    let images = format!("coft_images_total{{classifier=\"default\"}} {}", pictures());
    assert!(metrics.starts_with("HTTP/1.") && metrics.contains(&images), "{metrics}");
    assert_eq!(property(system, "coft-exporter", "UnitFileState"), "enabled");

    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    system.wait("coftd is missed", |system| is_up(system, "0")).unwrap();
    assert_eq!(unit(system, "ActiveState"), "inactive", "a scrape has started it");
    system.root(&["systemctl", "start", "coftd"]).unwrap();
    system.wait("coftd is back", |system| is_up(system, "1")).unwrap();
    assert_eq!(property(system, "coft-exporter", "NRestarts"), "0");
}

/// Messages that the broker keeps: topic and payload.
fn kept(system: &System) -> String {
    let listen = ["mosquitto_sub", "-t", "coft/#", "--retained-only", "-W", "1", "-F", "%t %p"];
    system::text(&system.run("ann", &listen).unwrap().stdout)
}

fn the_mqtt_bridge_waits_for_its_broker_and_then_sends(system: &mut System) {
    // Nobody has named a broker yet.
    assert_eq!(property(system, "coft-mqtt", "ActiveState"), "inactive");
    assert_eq!(property(system, "coft-mqtt", "UnitFileState"), "disabled");
    system.root(&["systemctl", "enable", "--now", "coft-mqtt"]).unwrap();
    let shown = |system: &System| {
        let output = system.run("ann", &["systemctl", "status", "--no-pager", "--lines=0", "coft-mqtt"]).unwrap();
        system::text(&output.stdout)
    };
    system.wait("a missing broker is told", |system| shown(system).contains("nothing listens at port 1883")).unwrap();
    assert_eq!(property(system, "coft-mqtt", "ActiveState"), "active");

    // Debian's broker, as it is shipped: for this machine alone, and for everybody on it.
    for package in ["mosquitto", "mosquitto-clients"] {
        let files = system::beside(package).unwrap();
        install(system, &files.iter().map(|path| path.as_path()).collect::<Vec<_>>());
    }
    system.wait("the service is online", |system| kept(system).contains("coft/status online")).unwrap();
    let messages = kept(system);
    assert!(messages.contains("coft/srv-coft-in/state "), "{messages}");
    assert!(!shown(system).contains("nothing listens"), "{}", shown(system));

    // An answer is sent once: whoever listens hears of a picture that comes now.
    let heard = "/var/tmp/heard";
    let listen = format!("mosquitto_sub -i listener -t 'coft/+/observation' -F %p > {heard} 2>&1 &");
    system.root(&["sh", "-c", &listen]).unwrap();
    let subscribed = "grep -q 'New client connected .* as listener ' /var/log/mosquitto/mosquitto.log";
    system.wait("somebody listens", |system| system.root(&["sh", "-c", subscribed]).is_ok()).unwrap();
    put_new_picture(system, "late.jpg", 1000);
    let said = |system: &System| fs::read_to_string(system.path(heard)).unwrap_or_default();
    system.wait("the answer is heard", |system| said(system).contains("\"sequence\"")).unwrap();
    let answer: Value = serde_json::from_str(said(system).lines().next().unwrap()).unwrap();
    assert_eq!((&answer["generation"], &answer["path"]), (&Value::from(1), &Value::Null), "{answer}");
}

fn an_upgrade_lets_both_go_on(system: &mut System) {
    let older = ["coft-mqtt", "coft-exporter"].map(|name| property(system, name, "MainPID"));
    let dir = tempfile::TempDir::new_in("/var/tmp").unwrap();
    let newer = ["coft", "coft-trainer", "coft-mqtt", "coft-exporter"];
    let newer = newer.map(|name| {
        let package = system::package(name).unwrap();
        system::renumbered(&package, versions::NEWER, dir.path()).unwrap()
    });
    install(system, &newer.each_ref().map(|path| path.as_path()));
    let states = |system: &System| {
        ["coft-mqtt", "coft-exporter"]
            .map(|name| (property(system, name, "MainPID"), property(system, name, "ActiveState")))
    };
    let is_new = |(now, before): (&(String, String), &String)| now.1 == "active" && now.0 != *before;
    let are_new = |system: &System| states(system).iter().zip(&older).all(is_new);
    system.wait("both are started again", |system| are_new(system)).unwrap();
    system.wait("the exporter answers", |system| is_up(system, "1")).unwrap();
    system.wait("the service is online", |system| kept(system).contains("coft/status online")).unwrap();
}

fn a_purge_leaves_nothing(system: &mut System) {
    let names = ["coft-mqtt", "coft-exporter"];
    for name in names {
        assert_ne!(system.run("root", &["getent", "passwd", name]).unwrap().stdout, b"", "{name} has a user");
    }
    system.root(&[&["apt-get", "purge", "--yes"], &names[..]].concat()).unwrap();
    for name in names {
        assert_eq!(property(system, name, "LoadState"), "not-found", "{name}");
        assert_eq!(process(system, name), None, "{name}");
        for list in ["passwd", "group"] {
            assert_eq!(system.run("root", &["getent", list, name]).unwrap().stdout, b"", "{list} {name}");
        }
    }
    assert_eq!(scraped(system), "");
    // Not looked at: /var/tmp, where the packages lie.
    let find = "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /var/tmp -prune -o \
                ( -name *coft-mqtt* -o -name *coft-exporter* -o -name mqtt.toml -o -nouser -o -nogroup ) -print";
    assert_eq!(system.root(&find.split_whitespace().collect::<Vec<_>>()).unwrap(), "");
    // Neither was more than a client.
    assert!(label(system).is_some());
    assert_eq!(unit(system, "ActiveState"), "active");
    system.root(&["systemctl", "is-system-running"]).unwrap();
}
