//! Models whose weights PyTorch has pickled: `import` and `pull` convert them, everything else names what to do.

use super::hub::{COMMIT, Fault, Hub};
use super::{DEMO, Site, changed, limited};
use coft_harness::archive::{Pickled, save};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Moves the tensors of a directory's `model.safetensors` into archives of these names, one behind the other.
fn pickle(dir: &Path, archives: &[&str]) {
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &String| {
        let view = weights.tensor(name).unwrap();
        let storage = if view.dtype() == Dtype::F16 { "HalfStorage" } else { "FloatStorage" };
        Pickled { name: name.clone(), storage, shape: view.shape().to_vec(), data: view.data() }
    };
    let mut names: Vec<String> = weights.names().into_iter().map(String::from).collect();
    names.sort();
    for (part, archive) in names.chunks(names.len().div_ceil(archives.len())).zip(archives) {
        save(&dir.join(archive), "", &part.iter().map(tensor).collect::<Vec<_>>()).unwrap();
    }
    if archives.len() > 1 {
        let parts = names.chunks(names.len().div_ceil(archives.len())).zip(archives);
        let map: BTreeMap<_, _> =
            parts.flat_map(|(part, archive)| part.iter().map(move |name| (name, archive))).collect();
        fs::write(dir.join("pytorch_model.bin.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    }
    fs::remove_file(path).unwrap();
}

/// Names, types, shapes and bytes of a file's tensors.
fn content(path: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
    tensors.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

/// Checks that a model of the store is the demo model, and that no pickle is in the store.
fn is_demo(site: &Site, model: &Value) {
    let dir = Path::new(model["directory"].as_str().unwrap());
    let weights = Path::new(DEMO).join("model.safetensors");
    assert_eq!(content(&dir.join("model.safetensors")), content(&weights));
    assert_eq!(model["layout"], "hugging-face");
    assert_eq!(site.json(None, &["verify"])[0]["problem"], Value::Null);
    for entry in walk(&site.store()) {
        assert!(!entry.contains(".bin") && !entry.contains(".pt"), "{entry}");
    }
}

fn walk(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let below = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => walk(&entry.path()),
        false => vec![entry.path().to_str().unwrap().to_owned()],
    };
    entries.flat_map(below).collect()
}

#[test]
fn a_directory_with_a_pickle_is_imported_as_safetensors_once() {
    let site = Site::new();
    let dir = changed(&site, |dir| pickle(dir, &["pytorch_model.bin"]));
    let told = site.failure(None, &["info", &dir]);
    assert!(told.contains(&format!("run coftctl model import {dir} --name NAME")), "{told}");
    let model = site.json(None, &["import", &dir, "--name", "parts"]);
    is_demo(&site, &model);
    let digest = coft_fs::sha256_file(&Path::new(&dir).join("pytorch_model.bin")).unwrap();
    assert_eq!(model["converted_from"], json!({ "pytorch_model.bin": digest }));
    let shown = String::from_utf8(site.tell(None, &["info", "parts"]).stdout).unwrap();
    assert!(shown.contains(&format!("from pytorch_model.bin, sha256 {digest}")), "{shown}");
    let again = site.json(None, &["import", &dir, "--name", "again"]);
    assert_eq!(again["digest"], model["digest"]);
    assert_eq!(site.models(), 1);

    // Where there are safetensors, they are taken, and a pickle beside them is left behind.
    let plain = Path::new(model["directory"].as_str().unwrap()).join("model.safetensors");
    fs::copy(plain, Path::new(&dir).join("model.safetensors")).unwrap();
    let plain = site.json(None, &["import", &dir, "--name", "plain"]);
    assert_eq!((&plain["digest"], &plain["converted_from"]), (&model["digest"], &model["converted_from"]));
    is_demo(&site, &plain);
}

#[test]
fn one_of_several_archives_is_imported_by_its_file() {
    let site = Site::new();
    let dir = changed(&site, |dir| {
        pickle(dir, &["epoch_10.pt"]);
        fs::write(dir.join("epoch_9.pt"), "another one").unwrap();
        fs::write(dir.join("notes.txt"), "no part of the model").unwrap();
    });
    site.failure(None, &["import", &dir]);
    let file = Path::new(&dir).join("epoch_10.pt");
    let model = site.json(None, &["import", file.to_str().unwrap()]);
    assert_eq!(model["names"], json!(["epoch_10"]));
    assert_eq!(model["source"], format!("file {}", file.display()));
    is_demo(&site, &model);
    assert!(!Path::new(model["directory"].as_str().unwrap()).join("notes.txt").exists());

    // The same for safetensors, under any name.
    let file = Path::new(&dir).join("best.safetensors");
    fs::copy(Path::new(model["directory"].as_str().unwrap()).join("model.safetensors"), &file).unwrap();
    let best = site.json(None, &["import", file.to_str().unwrap()]);
    assert_eq!(best["digest"], model["digest"]);
}

#[test]
fn pickles_are_pulled_and_converted_and_not_downloaded_again() {
    let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    for archives in [&["pytorch_model.bin"][..], &shards] {
        let site = Site::new();
        let dir = changed(&site, |dir| {
            pickle(dir, archives);
            fs::remove_file(dir.join("labels.txt")).unwrap(); // which pull does not ask for
        });
        let hub = Hub::of(&dir, Fault::None);
        let model = site.json(Some(&hub), &["pull", "parts/clip"]);
        is_demo(&site, &model);
        assert_eq!(model["converted_from"].as_object().unwrap().len(), archives.len());
        let again = site.json(Some(&hub), &["pull", "parts/clip"]);
        assert_eq!((&again["digest"], hub.starts(archives[0]).len()), (&model["digest"], 1));
        // A directory with the same files is the same model.
        let imported = site.json(None, &["import", &dir, "--name", "imported"]);
        assert_eq!(imported["digest"], model["digest"]);
    }
}

/// Turns the model `parts` into what an earlier coft has stored: its weights as a pickle, from this origin.
fn as_earlier(site: &Site, source: &str) {
    let model = site.json(None, &["import", DEMO, "--name", "parts"]);
    let dir = Path::new(model["directory"].as_str().unwrap());
    pickle(dir, &["pytorch_model.bin"]);
    let path = dir.join("pytorch_model.bin");
    let file = json!({ "size": fs::metadata(&path).unwrap().len(), "sha256": coft_fs::sha256_file(&path).unwrap() });
    let path = dir.join("model.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["source"] = source.into();
    let files = record["files"].as_object_mut().unwrap();
    files.remove("model.safetensors");
    files.insert("pytorch_model.bin".to_owned(), file);
    let lines: String =
        files.iter().map(|(name, file)| format!("{}  {name}\n", file["sha256"].as_str().unwrap())).collect();
    fs::remove_file(&path).unwrap();
    fs::write(path, record.to_string()).unwrap();
    let home = site.store().join(format!("sha256-{}", coft_fs::sha256(lines.as_bytes())));
    fs::rename(dir, &home).unwrap();
    let link = site.store().join("names/parts");
    fs::remove_file(&link).unwrap();
    symlink(home, link).unwrap();
}

#[test]
fn a_model_that_an_earlier_coft_stored_is_named_with_what_to_do_and_replaced() {
    let site = Site::new();
    let source = format!("parts/clip@{COMMIT}");
    as_earlier(&site, &source);
    site.json(None, &["import", DEMO, "--name", "other"]);
    let names = site.store().join("names/parts");
    let command = format!("run coftctl model --store {} import {}", site.store().display(), names.display());
    let list = site.json(None, &["list"]);
    assert_eq!((&list[0]["names"][0], list[0]["problem"].as_str()), (&json!("other"), None));
    let problem = list[1]["problem"].as_str().unwrap();
    assert!(problem.contains("pytorch_model.bin") && problem.ends_with(&command), "{problem}");
    let shown = String::from_utf8(site.tell(None, &["list"]).stdout).unwrap();
    assert!(shown.contains(&format!("parts cannot be used: {problem}")), "{shown}");
    assert!(site.failure(None, &["info", "parts"]).contains(&command));
    let verified = site.tell(None, &["verify", "parts"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8(verified.stdout).unwrap().contains(&command));

    site.json(None, &["remove", "other"]);
    let model = site.json(None, &["import", names.to_str().unwrap()]);
    assert_eq!((&model["names"], &model["source"]), (&json!(["parts"]), &json!(source)));
    assert_eq!(site.models(), 1);
    is_demo(&site, &model);

    // Pulling it again replaces it, too.
    let site = Site::new();
    as_earlier(&site, &source);
    let hub = Hub::of(&changed(&site, |dir| pickle(dir, &["pytorch_model.bin"])), Fault::None);
    let pulled = site.json(Some(&hub), &["pull", "parts/clip", "--name", "parts"]);
    assert_eq!((&pulled["weights_sha256"], site.models()), (&model["weights_sha256"], 1));
    is_demo(&site, &pulled);
}

#[test]
fn what_is_wrong_with_a_pickled_model_is_told_of_the_users_own_files() {
    let site = Site::new();
    let dir = changed(&site, |dir| pickle(dir, &["pytorch_model.bin"]));
    let (dir, archive) = (Path::new(&dir), Path::new(&dir).join("pytorch_model.bin"));
    let told = |what: &Path| {
        let told = site.failure(None, &["import", what.to_str().unwrap()]);
        assert!(!told.contains(".incoming"), "{told}");
        assert_eq!(site.models(), 0);
        told
    };
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    fs::write(dir.join("config.json"), config.replace("\"projection_dim\": ", "\"projection_dim\": 1")).unwrap();
    assert!(told(dir).contains(&format!("{}: tensor ", archive.display())), "{}", told(dir));
    fs::write(dir.join("config.json"), &config).unwrap();
    fs::rename(dir.join("tokenizer.json"), dir.join("away")).unwrap();
    assert!(told(dir).contains("no tokeniser"), "{}", told(dir));
    fs::rename(dir.join("away"), dir.join("tokenizer.json")).unwrap();
    // Without a configuration these are taken for OpenAI's.
    fs::remove_file(dir.join("config.json")).unwrap();
    let renamed = dir.join("ViT-B-32.pt");
    fs::rename(&archive, &renamed).unwrap();
    let expected = format!("{}: tensor visual.positional_embedding is missing", renamed.display());
    assert!(told(dir).contains(&expected), "{}", told(dir));
    fs::write(&renamed, "cos\nsystem\n(X\u{1}\0\0\0xtR.").unwrap();
    assert!(told(&renamed).contains("ViT-B-32.pt: not a PyTorch archive"), "{}", told(&renamed));
}

#[test]
fn a_disk_that_fills_up_while_a_pickle_is_converted_leaves_the_store_as_it_was() {
    let site = Site::new();
    let dir = changed(&site, |dir| pickle(dir, &["pytorch_model.bin"]));
    let (code, told) = limited(&site, None, &["import", &dir, "--name", "parts"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("no space is left on the disk"), "{told}");
    let left: Vec<_> = fs::read_dir(site.store()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".lock" || name == "names"), "{left:?}");
    is_demo(&site, &site.json(None, &["import", &dir, "--name", "parts"]));
}
