use super::*;
use crate::fixture;

struct Site {
    _place: tempfile::TempDir,
    store: Store,
}

fn site() -> Site {
    let place = tempfile::tempdir().unwrap();
    let store = Store::at(&place.path().join("models"));
    Site { _place: place, store }
}

fn install(store: &Store, name: &str, source: &str) -> Result<Installed, StoreError> {
    let incoming = store.incoming()?;
    fixture::hugging_face(incoming.dir());
    incoming.install(name, source)
}

#[test]
fn a_model_lies_under_its_digest_and_is_found_by_name_and_digits() {
    let Site { store, .. } = &site();
    assert!(store.list().unwrap().is_empty());
    let Installed { entry, already } = install(store, "small", "test").unwrap();
    assert!(!already);
    assert_eq!(entry.dir.file_name().unwrap().to_str().unwrap(), format!("sha256-{}", entry.digest));
    assert_eq!(entry.names, ["small"]);
    for name in ["small", &entry.digest, &entry.digest[..6], &format!("sha256:{}", &entry.digest[..8])] {
        assert_eq!(store.find(name).unwrap().digest, entry.digest, "{name}");
    }
    for name in ["smal", &entry.digest[..5], "ffffff"] {
        assert!(matches!(store.find(name), Err(StoreError::Unknown { .. })), "{name}");
    }
    let weights = entry.dir.join("model.safetensors");
    assert_eq!(entry.record.weights, coft_fs::sha256_file(&weights).unwrap());
    assert!(fs::metadata(&weights).unwrap().permissions().readonly());
    store.verify(&entry, |_, _| {}).unwrap();
}

#[test]
fn the_store_knows_the_digest_of_the_weights_it_holds_and_of_no_others() {
    let Site { store, .. } = &site();
    let place = tempfile::tempdir().unwrap();
    let Installed { entry, .. } = install(store, "small", "test").unwrap();
    let weights = coft_fs::sha256_file(&entry.dir.join("model.safetensors")).unwrap();
    assert_eq!(Record::installed(&entry.dir).unwrap().weights, weights);
    assert_eq!(Model::open(&entry.dir).unwrap().digest().unwrap(), weights);

    // Under another name, under the digest of other content, and with a file whose size has changed.
    let copied = |name: &str| {
        let copy = place.path().join(name);
        fs::create_dir(&copy).unwrap();
        for (path, name) in children(&entry.dir).unwrap() {
            fs::write(copy.join(name), fs::read(path).unwrap()).unwrap();
        }
        copy
    };
    assert!(Record::installed(&copied("copy")).is_none());
    assert!(Record::installed(&copied(&format!("sha256-{weights}"))).is_none());
    let longer = copied(entry.dir.file_name().unwrap().to_str().unwrap());
    assert!(Record::installed(&longer).is_some());
    fs::write(longer.join("config.json"), "{} and more").unwrap();
    assert!(Record::installed(&longer).is_none());
}

#[test]
fn the_same_content_is_kept_once_under_two_names() {
    let Site { store, .. } = &site();
    install(store, "first", "here").unwrap();
    let Installed { entry, already } = install(store, "second", "there").unwrap();
    assert!(already);
    assert_eq!(entry.names, ["first", "second"]);
    assert_eq!(store.list().unwrap().len(), 1);
    store.remove(&entry).unwrap();
    assert!(store.list().unwrap().is_empty());
    let left: Vec<_> = children(store.dir()).unwrap().into_iter().map(|(_, name)| name).collect();
    assert_eq!(left, [LOCK, NAMES], "nothing is left lying about");
    assert!(children(&store.dir().join(NAMES)).unwrap().is_empty());
}

#[test]
fn a_name_is_not_taken_over_from_another_source() {
    let Site { store, .. } = &site();
    install(store, "clip", "a/clip@1").unwrap();
    install(store, "clip", "a/clip@2").unwrap();
    let told = install(store, "clip", "b/clip@1").unwrap_err().to_string();
    assert!(told.contains("a/clip@1") && told.contains("--name"), "{told}");
}

#[test]
fn a_name_cannot_be_a_path_or_a_digest() {
    for name in ["", ".", "..", "a/b", "-x", ".x", "deadbeef", "sha256-0", "a b", &"x".repeat(101)] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    for name in ["clip-vit-base-patch32", "ViT_B.32", "b16"] {
        check_name(name).unwrap();
    }
}

#[test]
fn a_changed_file_is_found_out() {
    let Site { store, .. } = &site();
    let entry = install(store, "small", "test").unwrap().entry;
    let path = entry.dir.join("config.json");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, fs::read_to_string(&path).unwrap() + " ").unwrap();
    let told = store.verify(&entry, |_, _| {}).unwrap_err().to_string();
    assert!(told.contains("config.json") && told.contains("get it again"), "{told}");
}

#[test]
fn what_is_no_model_leaves_nothing_behind() {
    let Site { store, .. } = &site();
    let incoming = store.incoming().unwrap();
    fixture::hugging_face(incoming.dir());
    fs::remove_file(incoming.dir().join("model.safetensors")).unwrap();
    assert!(matches!(incoming.install("x", "test"), Err(StoreError::Model(ModelError::Incomplete { .. }))));
    assert!(store.list().unwrap().is_empty());
    assert!(children(store.dir()).unwrap().iter().all(|(_, name)| !name.starts_with(INCOMING)));
}

#[test]
fn a_model_whose_texts_or_images_cannot_be_prepared_is_refused() {
    for (file, content) in [("tokenizer.json", "{}"), ("preprocessor_config.json", r#"{"size": 8}"#)] {
        let Site { store, .. } = &site();
        let incoming = store.incoming().unwrap();
        fixture::hugging_face(incoming.dir());
        fs::write(incoming.dir().join(file), content).unwrap();
        let told = incoming.install("x", "test").unwrap_err().to_string();
        assert!(told.contains(file), "{told}");
        assert!(store.list().unwrap().is_empty());
    }
}

#[test]
fn an_interrupted_change_is_cleared_by_the_next() {
    let Site { store, .. } = &site();
    let incoming = store.incoming().unwrap();
    fixture::hugging_face(incoming.dir());
    let abandoned = incoming.dir().to_owned();
    let second = store.incoming();
    assert!(matches!(second, Err(StoreError::Busy { .. })), "one at a time");
    std::mem::forget(incoming); // like a power cut
    // A power cut ends the process and releases the lock. This process lives on, so the lock file is removed instead.
    fs::remove_file(store.dir().join(LOCK)).unwrap();
    install(store, "small", "test").unwrap();
    assert!(!abandoned.exists());
    assert_eq!(store.list().unwrap().len(), 1);
}

/// Installs the model as an earlier coft did: with its weights as a pickle. Nothing of the pickle is read.
fn install_pickled(store: &Store, name: &str, source: &str) -> Entry {
    let entry = install(store, name, source).unwrap().entry;
    fs::rename(entry.dir.join("model.safetensors"), entry.dir.join("pytorch_model.bin")).unwrap();
    let mut record = entry.record;
    let weights = record.files.remove("model.safetensors").unwrap();
    record.files.insert("pytorch_model.bin".to_owned(), weights);
    fs::remove_file(entry.dir.join(RECORD)).unwrap();
    record.write(&entry.dir).unwrap();
    let home = store.dir().join(format!("{PREFIX}{}", record.digest()));
    fs::rename(&entry.dir, &home).unwrap();
    for name in &entry.names {
        let link = store.dir().join(NAMES).join(name);
        fs::remove_file(&link).unwrap();
        symlink(&home, link).unwrap();
    }
    store.find(name).unwrap()
}

#[test]
fn a_model_that_an_earlier_coft_kept_as_a_pickle_is_listed_and_replaced_by_the_next_import() {
    let Site { store, .. } = &site();
    let before = install_pickled(store, "small", "a/clip@1");
    assert_eq!(store.list().unwrap().len(), 1);
    let command = format!("run coftctl model --store {0} import {0}/names/small", store.dir().display());
    for told in [before.model().map(drop), before.check_format(), store.verify(&before, |_, _| {})] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("PyTorch pickle pytorch_model.bin") && told.ends_with(&command), "{told}");
    }

    // Another name keeps it; the last name goes with its files.
    let (link, other) = (store.dir().join(NAMES).join("small"), store.dir().join(NAMES).join("other"));
    symlink(fs::read_link(link).unwrap(), other).unwrap();
    let first = install(store, "small", "a/clip@1").unwrap().entry;
    assert_eq!(store.list().unwrap().len(), 2);
    let second = install(store, "other", "a/clip@1").unwrap();
    assert!(second.already);
    let all = store.list().unwrap();
    assert_eq!(
        (all.len(), &all[0].digest, &all[0].names[..]),
        (1, &first.digest, &["other", "small"].map(String::from)[..])
    );
    let left: Vec<_> = children(store.dir()).unwrap().into_iter().map(|(_, name)| name).collect();
    assert_eq!(left, [LOCK.to_owned(), NAMES.to_owned(), format!("{PREFIX}{}", first.digest)]);
}

#[test]
fn the_archives_that_weights_were_converted_from_are_recorded_and_no_part_of_the_digest() {
    let Site { store, .. } = &site();
    let plain = install(store, "small", "test").unwrap().entry;
    assert!(!fs::read_to_string(plain.dir.join(RECORD)).unwrap().contains("converted"));
    store.remove(&plain).unwrap();
    let mut incoming = store.incoming().unwrap();
    fixture::hugging_face(incoming.dir());
    let archive = FileRecord { size: 9, sha256: "00".to_owned() };
    incoming.converted_from.insert("pytorch_model.bin".to_owned(), archive.clone());
    let converted = incoming.install("small", "test").unwrap().entry;
    assert_eq!(converted.digest, plain.digest);
    assert_eq!(Record::read(&converted.dir).unwrap().converted_from["pytorch_model.bin"], archive);
}
