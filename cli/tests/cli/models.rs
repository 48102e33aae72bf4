//! `coftctl model`, against a store in a temporary directory and a hub on the loopback interface.

mod hub;
mod pickles;

use hub::{Fault, Hub, Manner};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../daemon/assets/demo-model");

struct Site {
    place: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.place.path().join("models")
    }

    fn command(&self, hub: Option<&Hub>, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coftctl"));
        command.args(["model", "--store"]).arg(self.store()).args(words);
        command.env("HF_HOME", self.place.path().join("hf")).env("NO_COLOR", "1").env_remove("HF_HUB_OFFLINE");
        // Nothing here may leave the machine, whatever goes wrong.
        command.env("HF_ENDPOINT", hub.map_or_else(|| "http://127.0.0.1:9".to_owned(), Hub::endpoint));
        command
    }

    fn tell(&self, hub: Option<&Hub>, words: &[&str]) -> Output {
        self.command(hub, words).output().unwrap()
    }

    /// What a command that has to succeed prints as JSON.
    #[track_caller]
    fn json(&self, hub: Option<&Hub>, words: &[&str]) -> Value {
        let told = self.tell(hub, &[&["--json"], words].concat());
        assert!(told.status.success(), "{words:?}: {}", String::from_utf8_lossy(&told.stderr));
        serde_json::from_slice(&told.stdout).unwrap()
    }

    /// What a command that has to fail says.
    #[track_caller]
    fn failure(&self, hub: Option<&Hub>, words: &[&str]) -> String {
        let told = self.tell(hub, words);
        assert!(!told.status.success(), "{words:?} succeeded");
        String::from_utf8(told.stderr).unwrap()
    }

    fn models(&self) -> usize {
        self.json(None, &["list"]).as_array().unwrap().len()
    }
}

#[test]
fn a_directory_is_imported_shown_verified_and_removed() {
    let site = Site::new();
    assert_eq!(site.models(), 0);
    let model = site.json(None, &["import", DEMO, "--name", "parts"]);
    let digest = model["digest"].as_str().unwrap();
    assert_eq!(digest.len(), 64);
    assert_eq!(site.json(None, &["info", "parts"]), model);
    assert_eq!(site.json(None, &["info", &digest[..8]]), model);
    let outside = site.json(None, &["info", DEMO]);
    assert_eq!(outside["digest"], Value::Null);
    assert_eq!(outside["weights_sha256"], model["weights_sha256"]);
    assert_eq!(site.json(None, &["verify"])[0]["problem"], Value::Null);
    let text = String::from_utf8(site.tell(None, &["list"]).stdout).unwrap();
    assert!(text.contains("parts") && text.contains(&digest[..12]), "{text}");
    assert_eq!(site.json(None, &["remove", "parts"])["digest"], model["digest"]);
    assert_eq!(site.models(), 0);
    assert!(site.failure(None, &["info", "parts"]).contains("there is no model \"parts\""));
}

#[test]
fn a_damaged_model_is_told_from_a_sound_one() {
    let site = Site::new();
    let model = site.json(None, &["import", DEMO, "--name", "parts"]);
    let path = Path::new(model["directory"].as_str().unwrap()).join("tokenizer.json");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "{}").unwrap();
    let told = site.tell(None, &["verify"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8(told.stdout).unwrap().contains("tokenizer.json: its SHA-256 is"));
}

#[test]
fn a_model_with_a_broken_tokeniser_is_neither_imported_nor_pulled() {
    let site = Site::new();
    let dir = site.place.path().join("broken");
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(DEMO).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let tokenizer = dir.join("tokenizer.json");
    let whole = fs::read(&tokenizer).unwrap();
    for content in [&whole[..whole.len() / 2], b"{}".as_slice()] {
        fs::write(&tokenizer, content).unwrap();
        let dir = dir.to_str().unwrap();
        let hub = Hub::of(dir, Fault::None);
        for told in [site.failure(None, &["import", dir]), site.failure(Some(&hub), &["pull", "parts/clip"])] {
            assert!(told.contains("tokenizer.json: "), "{told}");
        }
        assert_eq!(site.models(), 0);
    }
    fs::remove_file(&tokenizer).unwrap();
    let told = site.failure(None, &["import", dir.to_str().unwrap()]);
    assert!(told.contains("no tokeniser: tokenizer.json is needed"), "{told}");
}

#[test]
fn a_model_is_pulled_by_its_digests() {
    let (site, hub) = (Site::new(), Hub::of(DEMO, Fault::None));
    let model = site.json(Some(&hub), &["pull", "parts/clip"]);
    assert_eq!(model["names"][0], "clip");
    assert_eq!(model["source"], format!("parts/clip@{}", hub::COMMIT));
    assert_eq!(site.json(None, &["verify", "clip"])[0]["problem"], Value::Null);
    let fetched = hub.starts("model.safetensors");
    let again = site.json(Some(&hub), &["pull", "parts/clip@main"]);
    assert_eq!(again["digest"], model["digest"]);
    assert_eq!(hub.starts("model.safetensors"), fetched, "what is there is not fetched again");
    assert!(!site.store().join(".downloads").exists(), "what was kept to go on with is gone");
}

#[test]
fn mirrors_that_redirect_or_say_less_are_understood() {
    for manner in [Manner::Moved, Manner::ElsewhereHere, Manner::Linked, Manner::Listed, Manner::Weak, Manner::Whole] {
        let (site, hub) = (Site::new(), Hub::behaving(DEMO, manner));
        fs::create_dir_all(site.place.path().join("hf")).unwrap();
        fs::write(site.place.path().join("hf/token"), "secret\n").unwrap();
        site.json(Some(&hub), &["pull", "parts/clip"]);
        assert_eq!(site.json(None, &["verify", "clip"])[0]["problem"], Value::Null);
        assert_eq!(hub.trusted(), [true, false], "the token is for the hub that was named");
    }
}

#[test]
fn a_mirror_without_parts_of_files_starts_again() {
    let (site, broken) = (Site::new(), Hub::of(DEMO, Fault::BreaksAlways));
    site.failure(Some(&broken), &["pull", "parts/clip"]);
    let hub = Hub::behaving(DEMO, Manner::Whole);
    site.json(Some(&hub), &["pull", "parts/clip"]);
    assert_eq!(site.json(None, &["verify", "clip"])[0]["problem"], Value::Null);
}

#[test]
fn what_a_mirror_does_wrong_is_named_with_the_way_to_another() {
    let digest = "neither an X-Linked-ETag header nor an ETag header that is one";
    for (manner, why) in [
        (Manner::Nowhere, "redirects and has no Location header"),
        (Manner::Circle, "redirected in a circle"),
        (Manner::Endless, "more than 10 redirects"),
        (Manner::Strange, "file:///etc/passwd"),
        (Manner::Undigested, digest),
        (Manner::LinkedToAnotherSize, "X-Linked-Size"),
    ] {
        let (site, hub) = (Site::new(), Hub::behaving(DEMO, manner));
        let told = site.failure(Some(&hub), &["pull", "parts/clip"]);
        assert!(told.contains(why), "{told}");
        assert!(told.contains(&hub.endpoint()) && told.contains("HF_ENDPOINT names another server"), "{told}");
        assert!(!told.contains("panicked") && hub.requests() < 20, "{} requests: {told}", hub.requests());
        assert_eq!(site.models(), 0);
    }
}

#[test]
fn an_endpoint_that_is_no_address_is_named() {
    let site = Site::new();
    for endpoint in ["mirror.example", "ftp://127.0.0.1", "http://"] {
        let told = site.command(None, &["pull", "parts/clip"]).env("HF_ENDPOINT", endpoint).output().unwrap();
        let told = String::from_utf8(told.stderr).unwrap();
        assert!(told.contains(&format!("HF_ENDPOINT is {endpoint:?}")), "{told}");
    }
}

/// A copy of the demo model with what `change` makes of it.
fn changed(site: &Site, change: impl FnOnce(&Path)) -> String {
    let dir = site.place.path().join("changed");
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(DEMO).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    change(&dir);
    dir.to_str().unwrap().to_owned()
}

#[test]
fn the_one_file_that_transformers_5_writes_is_pulled_and_imported() {
    let site = Site::new();
    let dir = changed(&site, |dir| {
        let (old, new) = (dir.join("preprocessor_config.json"), dir.join("processor_config.json"));
        let nested: Value = serde_json::from_slice(&fs::read(&old).unwrap()).unwrap();
        fs::write(
            new,
            serde_json::json!({ "image_processor": nested, "processor_class": "CLIPProcessor" }).to_string(),
        )
        .unwrap();
        fs::remove_file(old).unwrap();
    });
    let hub = Hub::of(&dir, Fault::None);
    let pulled = site.json(Some(&hub), &["pull", "parts/clip"]);
    assert_eq!(pulled["preprocessing"]["size"]["shortest_edge"], 48);
    site.json(None, &["import", &dir]);
}

#[test]
fn weights_of_the_description_that_counts_are_pulled() {
    let site = Site::new();
    let dir = changed(&site, |dir| {
        // As timm's repositories of CLIPs are: its own description and weights of the image encoder beside OpenCLIP's.
        fs::write(dir.join("config.json"), r#"{"architecture": "vit_base_patch32_clip_224", "num_classes": 96}"#)
            .unwrap();
        fs::write(dir.join("open_clip_config.json"), r#"{"model_cfg": {"embed_dim": 96}}"#).unwrap();
        fs::rename(dir.join("model.safetensors"), dir.join("open_clip_model.safetensors")).unwrap();
        fs::write(dir.join("model.safetensors"), "of the image encoder").unwrap();
    });
    let hub = Hub::of(&dir, Fault::None);
    let told = site.failure(Some(&hub), &["pull", "parts/clip"]);
    assert!(told.contains("open_clip_config.json"), "{told}");
    assert_eq!(hub.starts("open_clip_model.safetensors").len(), 1);
    assert_eq!(hub.starts("model.safetensors").len(), 0);
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_stopped() {
    let (site, hub) = (Site::new(), Hub::of(DEMO, Fault::Breaks));
    site.json(Some(&hub), &["pull", "parts/clip"]);
    let starts = hub.starts("model.safetensors");
    assert!(starts.len() >= 2 && starts.iter().any(|start| *start > 0), "it asked for the rest alone: {starts:?}");
    assert_eq!(site.json(None, &["verify", "clip"])[0]["problem"], Value::Null);
}

#[test]
fn an_interrupted_pull_is_gone_on_with_by_the_next() {
    let site = Site::new();
    let hub = Hub::of(DEMO, Fault::BreaksAlways);
    let told = site.failure(Some(&hub), &["pull", "parts/clip"]);
    assert!(told.contains("run the same command again"), "{told}");
    assert_eq!(site.models(), 0);
    hub.heal();
    let before = hub.starts("model.safetensors").len();
    site.json(Some(&hub), &["pull", "parts/clip"]);
    assert!(hub.starts("model.safetensors")[before..].iter().all(|start| *start > 0), "nothing is fetched twice");
}

#[test]
fn a_file_that_is_not_what_was_announced_is_refused() {
    for name in ["model.safetensors", "config.json"] {
        let (site, hub) = (Site::new(), Hub::of(DEMO, Fault::Changes(name)));
        let told = site.failure(Some(&hub), &["pull", "parts/clip"]);
        assert!(told.contains(&format!("{name} is not what the hub announced")), "{told}");
        assert_eq!(site.models(), 0);
        hub.heal();
        site.json(Some(&hub), &["pull", "parts/clip"]);
    }
}

/// The exit code and the errors of a command that can write no file of more than half a megabyte. This limit stands for
/// the end of the disk: it is smaller than the weights, and larger than the rest.
fn limited(site: &Site, hub: Option<&Hub>, words: &[&str]) -> (Option<i32>, String) {
    let program = site.command(hub, words);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"]).arg(program.get_program());
    shell.args(program.get_args());
    for (key, value) in program.get_envs() {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    let told = shell.output().unwrap();
    (told.status.code(), String::from_utf8(told.stderr).unwrap())
}

#[test]
fn a_full_disk_is_named_and_leaves_the_store_as_it_was() {
    let (site, hub) = (Site::new(), Hub::of(DEMO, Fault::None));
    for words in [["pull", "parts/clip"], ["import", DEMO]] {
        let (code, told) = limited(&site, Some(&hub), &words);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("no space is left on the disk"), "{told}");
        assert_eq!(site.models(), 0);
    }
    site.json(Some(&hub), &["pull", "parts/clip"]);
}

#[test]
fn offline_nothing_is_asked_and_the_cache_is_taken() {
    let (site, hub) = (Site::new(), Hub::of(DEMO, Fault::None));
    let offline = |words: &[&str]| site.command(Some(&hub), words).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let told = String::from_utf8(offline(&["pull", "parts/clip"]).stderr).unwrap();
    assert!(told.contains("HF_HUB_OFFLINE is set"), "{told}");
    hub.fill_cache(&site.place.path().join("hf/hub"));
    let told = offline(&["pull", "parts/clip"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(hub.requests(), 0);
    assert_eq!(site.models(), 1);
}

#[test]
fn what_is_no_repository_is_refused_before_anything_is_asked() {
    let (site, hub) = (Site::new(), Hub::of(DEMO, Fault::None));
    for words in ["../x", "a/b/c", "a/", "a/b@", "http://x/y"] {
        assert_eq!(site.tell(Some(&hub), &["pull", words]).status.code(), Some(2), "{words}");
    }
    assert_eq!(hub.requests(), 0);
    let told = site.failure(Some(&hub), &["pull", "parts/absent"]);
    assert!(told.contains("is there such a repository"), "{told}");
}
