//! What a classifier is made from, and what is said of mistakes.

use super::*;
use std::fs;

#[test]
fn the_demo_model_is_complete() {
    let state = tempfile::tempdir().unwrap();
    let base = prepare(&Settings::default(), state.path()).unwrap();
    assert_eq!(base.dir, state.path().join("demo"));
    assert!(base.classes.len() >= 2);
    assert_eq!(base.digest.len(), 64);
}

#[test]
fn a_bad_label_file_names_its_line() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("labels.txt");
    fs::write(&path, "nut\nbolt\nnut\n").unwrap();
    let settings = Settings { labels: Some(path.clone()), ..Settings::default() };
    let error = prepare(&settings, state.path()).unwrap_err().to_string();
    let expected = "line 3: class \"nut\" was already named on line 1; remove one of them";
    assert_eq!(error, format!("classifier.labels: the label file {}: {expected}", path.display()));
}

/// The label file may be created or corrected later.
#[test]
fn a_threshold_of_a_class_that_is_not_in_the_list_is_named_with_its_setting() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("labels.txt");
    fs::write(&path, "nut\nbolt\n").unwrap();
    let with = |class: &str| {
        let thresholds = [(class.to_owned(), 0.8)].into();
        prepare(&Settings { labels: Some(path.clone()), thresholds, ..Settings::default() }, state.path())
    };
    with("bolt").unwrap();
    let error = with("screw").unwrap_err();
    let expected = "classifier.thresholds: there is no class \"screw\"; it has to be named as in the label file";
    assert_eq!((error.to_string().as_str(), error.is_configuration()), (expected, false));
}

#[test]
fn a_model_is_found_in_the_store_by_its_name() {
    let state = tempfile::tempdir().unwrap();
    let demo = prepare(&Settings::default(), state.path()).unwrap();
    let store = Store::at(state.path());
    let incoming = store.incoming().unwrap();
    for (name, content) in DEMO {
        fs::write(incoming.dir().join(name), content).unwrap();
    }
    let entry = incoming.install("parts", "test").unwrap().entry;
    for model in ["parts", &entry.digest] {
        let base = prepare(&Settings { model: Some(model.into()), ..Settings::default() }, state.path()).unwrap();
        assert_eq!((base.dir, base.digest), (entry.dir.clone(), demo.digest.clone()));
    }
    let settings = Settings { model: Some("absent".into()), ..Settings::default() };
    let told = prepare(&settings, state.path()).unwrap_err().to_string();
    assert!(told.contains("there is no model \"absent\"") && told.contains("coftctl model list"), "{told}");
}

/// Nothing of the pickle is read here: any content will do.
#[test]
fn a_pickle_is_named_with_the_command_that_converts_it() {
    let (state, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pickled = |dir: &Path| {
        unpack(&DEMO, dir).unwrap();
        fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap();
    };
    let dir = place.path().join("clip");
    pickled(&dir);
    let told = |model: &Path| {
        let settings = Settings { model: Some(model.into()), ..Settings::default() };
        let (_, found) = look_over(&settings, state.path(), true);
        assert_eq!(found.len(), 1);
        let started = prepare(&settings, state.path()).unwrap_err();
        assert_eq!(found[0].to_string(), started.to_string());
        assert!(!started.is_configuration(), "the files may still be exchanged");
        started.to_string()
    };
    assert_eq!(
        told(&dir),
        format!(
            "classifier.model: {0}/pytorch_model.bin is a PyTorch pickle, which coft reads only to import it: run \
             coftctl model import {0} --name NAME, then use NAME in place of the directory",
            dir.display()
        )
    );

    // A model that an earlier coft has put into the store with its pickle.
    let entry = state.path().join(format!("sha256-{}", "0".repeat(64)));
    pickled(&entry);
    let record = r#"{"format": 1, "source": "a/clip@1", "weights": "", "files": {}}"#;
    fs::write(entry.join("model.json"), record).unwrap();
    fs::create_dir(state.path().join("names")).unwrap();
    std::os::unix::fs::symlink(&entry, state.path().join("names/clip")).unwrap();
    let told = told(Path::new("clip"));
    let command = format!("run coftctl model --store {0} import {0}/names/clip", state.path().display());
    assert!(told.contains("an earlier coft imported this model") && told.ends_with(&command), "{told}");

    // Beside safetensors, a pickle does not matter.
    fs::copy(dir.join("pytorch_model.bin"), dir.join("model.safetensors")).unwrap();
    let settings = Settings { model: Some(dir), ..Settings::default() };
    prepare(&settings, state.path()).unwrap();
}

#[test]
fn an_image_size_has_to_fit_the_models_patches() {
    let state = tempfile::tempdir().unwrap();
    let plain = prepare(&Settings::default(), state.path()).unwrap();
    let side = 2 * plain.preprocess.crop;
    let wider = Settings { image_size: Some(side), ..Settings::default() };
    assert_eq!(prepare(&wider, state.path()).unwrap().preprocess.crop, side);
    let odd = Settings { image_size: Some(side + 1), ..Settings::default() };
    assert!(prepare(&odd, state.path()).unwrap_err().to_string().contains("classifier.image-size"));
}

#[test]
fn an_incomplete_model_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let settings = Settings { model: Some(dir.path().into()), ..Settings::default() };
    let error = prepare(&settings, dir.path()).unwrap_err().to_string();
    assert!(error.contains("lacks model.safetensors"), "{error}");
}
