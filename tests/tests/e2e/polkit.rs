//! Who may change things, asked of the polkit that Debian ships, on a system bus, with coft's own policies.

use super::*;
use coft_harness::broker::Broker;
use coft_harness::machine::{self, Machine};
use coft_harness::sd_bus::{self, Answer, Client};
use image::{Rgb, RgbImage};
use nix::unistd::chown;
use std::fs::File;
use std::process::{Child, Output, Stdio};
use std::time::Instant;

/// The service's user and who it asks about, on a machine of their own.
struct Scene<'a> {
    machine: &'a mut Machine,
    programs: Programs,
    coftd: Child,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // Leave nothing running; what has ended already is fine.
        let _ = self.coftd.kill();
        let _ = self.coftd.wait();
    }
}

impl<'a> Scene<'a> {
    /// coftd as its own user, with a first generation that serves.
    fn set(machine: &'a mut Machine) -> Self {
        let programs = Programs::of_this_test().unwrap();
        let place = |name: &str| machine.dir().join(name);
        let (config, state) = (place("coft.toml"), place("state"));
        fs::create_dir(place("in")).unwrap();
        RgbImage::from_pixel(64, 48, Rgb([9, 99, 199])).save(place("in").join("secret-place.png")).unwrap();
        fs::write(&config, format!("[[source]]\npath = {:?}\n{QUICK}", place("in"))).unwrap();
        fs::create_dir(&state).unwrap();
        chown(&state, Some(machine.id("coftd").into()), Some(machine.id("coftd").into())).unwrap();
        let log = File::create(place("coftd.log")).unwrap();
        let mut command = machine.command("coftd", programs.coftd());
        command.arg("--config").arg(&config).arg("--state-dir").arg(&state).args(["--bus", "system"]);
        let coftd = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let scene = Self { machine, programs, coftd };
        let since = Instant::now();
        while !scene.status().is_some_and(|status| status["active_generation"] == 1) {
            assert!(since.elapsed() < LIMIT, "no first generation: {}", scene.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        scene
    }

    fn log(&self) -> String {
        fs::read_to_string(self.machine.dir().join("coftd.log")).unwrap_or_default()
    }

    fn ctl(&self, user: &str, words: &[&str]) -> Output {
        let mut command = self.machine.command(user, self.programs.coftctl());
        command.args(["--bus", "system"]).args(words).output().unwrap()
    }

    /// Exit code, and what was said on standard error.
    fn told(&self, user: &str, words: &[&str]) -> (Option<i32>, String) {
        let output = self.ctl(user, words);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn json(&self, words: &[&str]) -> Option<Value> {
        let output = self.ctl("root", &[&["--json"], words].concat());
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn status(&self) -> Option<Value> {
        self.json(&["status"])
    }

    /// What of the service a caller could have changed.
    fn shown(&self) -> (Option<Value>, Option<Value>) {
        (self.json(&["job", "list"]), self.json(&["generation", "list"]))
    }

    /// What a client that is not ours is told of the answers about pictures.
    fn observations(&self, user: &str) -> String {
        let since = Instant::now();
        loop {
            let mut command = self.machine.command(user, "busctl");
            command.args(["--system", "call", "org.coft.Coft1", "/org/coft/Coft1/sources/0", "org.coft.Coft1.Source"]);
            let output = command.args(["Observations", "tu", "0", "9"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{user}: {output:?}");
            if said.contains("\"generation\"") {
                return said;
            }
            assert!(since.elapsed() < LIMIT, "{said}: {}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What coft-mqtt sends of the next picture where it runs as this user.
    fn sent(&self, user: &str) -> Value {
        let broker = Broker::start("allow_anonymous true\n").unwrap();
        let subscriber = mqtt::Subscriber::start(&broker);
        let dir = self.machine.dir().join(format!("mqtt-{user}"));
        fs::create_dir(&dir).unwrap();
        chown(&dir, Some(self.machine.id(user).into()), Some(self.machine.id(user).into())).unwrap();
        let (config, log) = (dir.join("mqtt.toml"), dir.join("log"));
        fs::write(&config, mqtt::config(&broker)).unwrap();
        let mut command = self.machine.command(user, self.programs.coft_mqtt());
        command.arg("--config").arg(config).arg("--state-dir").arg(&dir).args(["--bus", "system"]);
        let mut bridge = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        mqtt::keeps(&broker, "coft/status", "online");
        let colour = self.machine.id(user).to_le_bytes();
        let picture = RgbImage::from_pixel(64, 48, Rgb([colour[0], colour[1], colour[2]]));
        picture.save(self.machine.dir().join("in").join(format!("secret-of-{user}.png"))).unwrap();
        let sent = subscriber.next();
        bridge.kill().unwrap();
        bridge.wait().unwrap();
        sent.unwrap_or_else(|| panic!("nothing is sent: {}", fs::read_to_string(log).unwrap())).0
    }

    /// A client that is not ours.
    fn foreign(&self, user: &str) -> Client {
        Client::connect(self.machine.command(user, sd_bus::python()), "system").unwrap()
    }
}

/// The rules that the documentation shows, and three more.
fn rules() -> String {
    let of = |docs: &'static str| docs.split_once("```js\n").and_then(|(_, after)| after.split_once("```")).unwrap().0;
    let shown = of(include_str!("../../../docs/dbus.md"));
    let bridge = of(include_str!("../../../docs/bridges.md"));
    assert!(bridge.contains("org.coft.Coft1.observe") && bridge.contains("coft-mqtt"), "{bridge}");
    assert!(shown.contains("org.coft.Coft1.round") && shown.contains("operators"), "{shown}");
    let another = |action: &str| shown.replace("org.coft.Coft1.round", action);
    let others = ["rescan", "import", "observe"].map(|action| another(&format!("org.coft.Coft1.{action}")));
    format!("{shown}\n{bridge}\n{}", others.join("\n"))
}

/// polkit let nobody through: the actions did not name the service's user as their owner.
#[test]
fn polkit_decides_who_may_change_things() {
    if let Some(reason) = machine::missing().or_else(sd_bus::missing) {
        return eprintln!("skipped: {reason}");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Machine::with(&repository, &rules(), |machine| {
        let scene = Scene::set(machine);
        let bundle = scene.machine.dir().join("bundle");
        let (bundle, copy) = (bundle.to_str().unwrap(), scene.machine.dir().join("copy"));
        assert_eq!(scene.told("root", &["export", "1", "--format", "onnx", bundle]).0, Some(0), "root may");
        let before = scene.shown();

        // Looking is for everybody, and nothing else is.
        assert_eq!(scene.told("bob", &["status"]).0, Some(0));
        for (action, words) in [
            ("round", &["round", "start"][..]),
            ("round", &["round", "cancel", "1"]),
            ("rescan", &["rescan"]),
            ("reload", &["reload"]),
            ("export", &["export", "1", "--format", "onnx", copy.to_str().unwrap()]),
            ("import", &["import", bundle]),
            ("import-force", &["import", "--force", bundle]),
            ("activate", &["generation", "activate", "1"]),
            ("configure", &["classifier", "create", "lamps", "--labels", "on,off"]),
            ("configure", &["classifier", "edit", "default", "--labels", "on,off"]),
            ("configure", &["classifier", "remove", "default"]),
            ("configure", &["source", "add", "/srv"]),
            ("configure", &["source", "remove", "/srv"]),
        ] {
            let (code, said) = scene.told("bob", words);
            assert_eq!(code, Some(5), "{words:?}: {said}");
            assert!(said.contains(&format!("polkit does not allow org.coft.Coft1.{action}")), "{words:?}: {said}");
        }
        // Everybody is told what a picture shows, and some are told where it lies.
        for (user, sees) in [("root", true), ("coftd", true), ("ann", true), ("bob", false)] {
            let said = scene.observations(user);
            assert_eq!((said.contains("\"path\""), said.contains("secret-place.png")), (sees, sees), "{user}: {said}");
        }
        for (user, sees) in [("coft-mqtt", true), ("bob", false)] {
            let sent = scene.sent(user);
            let path = sent["path"].as_str().unwrap_or_default();
            assert_eq!(path.ends_with(&format!("secret-of-{user}.png")), sees, "{sent}");
            assert_eq!(sent["path"].is_null(), !sees, "{sent}");
        }
        let (mut bob, refused) = (scene.foreign("bob"), "org.coft.Coft1.Error.NotAuthorized");
        let (root, parts) = ("/org/coft/Coft1", "/org/coft/Coft1/classifiers/default");
        for line in [
            format!("{parts} org.coft.Coft1.Classifier StartRound a{{sv}} 0"),
            format!("{root}/jobs/1 org.coft.Coft1.Job Cancel"),
            format!("{root} org.coft.Coft1.Manager Rescan"),
            format!("{root} org.coft.Coft1.Manager Reload"),
            format!("{root} org.coft.Coft1.Manager CreateClassifier sa{{sv}} lamps 0"),
            format!("{root} org.coft.Coft1.Manager RemoveClassifier sa{{sv}} default 1 purge b true"),
            format!("{parts} org.coft.Coft1.Classifier SetClasses as 2 on off"),
            format!("{parts} org.coft.Coft1.Classifier AddSource sa{{sv}} /srv 0"),
            format!("{parts} org.coft.Coft1.Classifier RemoveSource s /srv"),
            format!("{parts}/generations/1 org.coft.Coft1.Generation Open"),
            format!("{parts}/generations/1 org.coft.Coft1.Generation Activate"),
            format!("{parts} org.coft.Coft1.Classifier Import a{{sh}} 0"),
            format!("{parts} org.coft.Coft1.Classifier ImportGeneration a{{sh}}a{{sv}} 0 1 force b true"),
            format!("{parts} org.coft.Coft1.Classifier ReviewItems u 1"),
            format!("{parts} org.coft.Coft1.Classifier SubmitReview a(ss)a{{sv}} 0 0"),
        ] {
            let Answer::Error { name, text } = bob.call(&line).unwrap() else { panic!("{line} is answered") };
            assert_eq!(name, refused, "{line}: {text}");
        }
        assert_eq!(scene.shown(), before, "nothing has changed");
        assert!(!copy.exists());

        // A group's rule lets its members through, to what it names.
        let (code, said) = scene.told("ann", &["round", "start"]);
        assert_eq!(code, Some(1), "too few images, and no question of who asks: {said}");
        assert!(said.contains("3 images are catalogued"), "{said}");
        assert_eq!(scene.told("ann", &["rescan"]), (Some(0), String::new()));
        assert_eq!(scene.told("ann", &["export", "1", "--format", "onnx", copy.to_str().unwrap()]).0, Some(5));
        // Whoever may import may not do so by force.
        assert_eq!(scene.told("ann", &["import", bundle]).0, Some(0));
        assert_eq!(scene.told("ann", &["import", "--force", bundle]).0, Some(5));
        assert_eq!(scene.told("root", &["import", "--force", bundle]).0, Some(0));
        // Where two generations differ, everybody sees, and some which files those are.
        let since = Instant::now();
        while scene.status().is_none_or(|status| status["unanswered_again"] != 0 || status["active_generation"] == 1) {
            assert!(since.elapsed() < LIMIT, "not answered again: {}", scene.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        for (user, sees) in [("root", true), ("ann", true), ("bob", false)] {
            let output = scene.ctl(user, &["--json", "generation", "diff"]);
            let diff: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{user}: {output:?}"));
            assert_eq!((&diff["compared"], diff["unsure"].as_array().map(Vec::len)), (&3.into(), Some(3)), "{diff}");
            assert_eq!(diff.to_string().contains("secret-place.png"), sees, "{user}: {diff}");
        }
        for user in ["root", "coftd"] {
            assert_eq!(scene.told(user, &["rescan"]), (Some(0), String::new()), "{user}");
        }

        // Without polkit only root and the service's own user are left.
        scene.machine.stop_polkit();
        let (code, said) = scene.told("ann", &["rescan"]);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("polkit cannot be asked"), "{said}");
        assert_eq!(scene.told("root", &["rescan"]).0, Some(0));
        scene.machine.start_polkit().unwrap();
        assert_eq!(scene.told("ann", &["rescan"]), (Some(0), String::new()));
    });
}
