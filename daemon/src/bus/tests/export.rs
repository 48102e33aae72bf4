//! The files of a generation, handed out as descriptors.

use super::*;
use coft_core::manifest::{MANIFEST, MODEL, PROBE, REPORT, WEIGHTS};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;

async fn opened(stage: &Stage) -> Result<HashMap<String, zbus::OwnedFd>, coft_dbus::Error> {
    stage.generation(1).await.open().await
}

#[tokio::test]
async fn a_generation_hands_out_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let files = [MANIFEST, MODEL, WEIGHTS, PROBE, REPORT];
    for name in files {
        fs::write(dir.path().join(name), format!("what {name} holds")).unwrap();
    }
    fs::write(dir.path().join("generation.json"), "the store's own").unwrap();
    let generation = GenerationStatus { dir: dir.path().into(), ..generation(1, true) };
    let stage = Stage::set(Snapshot { generations: vec![generation], ..grown() }).await;

    let opened_files = opened(&stage).await.unwrap();
    assert_eq!(opened_files.len(), files.len());
    for (name, descriptor) in opened_files {
        let mut text = String::new();
        File::from(OwnedFd::from(descriptor)).read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("what {name} holds"));
    }

    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    let error = opened(&stage).await.unwrap_err().to_string();
    assert!(error.contains("model.onnx.data"), "{error}");
}
