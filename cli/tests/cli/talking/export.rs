//! Generations written for other programs.

use super::stage::{Play, Stage};
use coft_core::ids::JobId;
use coft_core::manifest::{FORMAT, MANIFEST, MODEL, Manifest, PROBE, REPORT, WEIGHTS};
use coft_core::settings::Settings;
use coft_core::spec::Method;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// The files of a generation of two classes, 8 px a side.
pub fn files() -> HashMap<&'static str, Vec<u8>> {
    let zeros = vec![0; 4 * 3 * 8 * 8];
    let tensor = |shape: &[usize]| {
        TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..4 * shape.iter().product::<usize>()]).unwrap()
    };
    let probe = [("pixels", tensor(&[1, 3, 8, 8])), ("logits", tensor(&[1, 2])), ("embedding", tensor(&[1, 4]))];
    let probe = safetensors::serialize(probe, None).unwrap();
    let mut files = HashMap::from([
        (MODEL, b"a graph".to_vec()),
        (WEIGHTS, vec![7; 5000]),
        (PROBE, probe),
        (REPORT, b"{}".to_vec()),
    ]);
    let manifest = Manifest {
        format: FORMAT,
        round: JobId(1),
        method: Method::Coft,
        classes: vec!["hex bolt".into(), "wing nut".into()],
        shares: None,
        preprocessing: json!({ "crop_size": 8, "size": 8 }),
        base_model: "0".repeat(64),
        image_set: "1".repeat(64),
        images: 12,
        seed: 0,
        settings: Settings::default(),
        precision: Default::default(),
        temperature: 1.0,
        none_of_these: None,
        producer: "a test".into(),
        files: files.iter().map(|(name, bytes)| ((*name).into(), sha256(bytes))).collect(),
    };
    files.insert(MANIFEST, serde_json::to_vec(&manifest).unwrap());
    files
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below a directory, by its path there.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => found.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes))),
            false => drop(found.insert(name, fs::read(path).unwrap())),
        }
    }
    found
}

async fn exported(stage: &Stage, format: &str, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let told = stage.tell(&["--json", "export", "2", "--format", format, dir.to_str().unwrap()]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let document: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(document, json!({ "generation": 2, "directory": dir.to_str().unwrap() }));
    tree(dir)
}

#[tokio::test]
async fn onnx_is_every_file_as_it_was_and_the_labels() {
    let (stage, place) = (Stage::set(Play::default()).await, tempfile::tempdir().unwrap());
    let mut written = exported(&stage, "onnx", &place.path().join("out")).await;
    assert_eq!(written.remove("labels.txt").unwrap(), b"hex bolt\nwing nut\n");
    let expected: BTreeMap<_, _> = files().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    assert_eq!(written, expected);
}

#[tokio::test]
async fn triton_serves_the_named_version_alone() {
    let (stage, place) = (Stage::set(Play::default()).await, tempfile::tempdir().unwrap());
    let written = exported(&stage, "triton", &place.path().join("out")).await;
    let names: Vec<_> = written.keys().map(String::as_str).collect();
    let expected = ["2/manifest.json", "2/model.onnx", "2/model.onnx.data", "config.pbtxt", "labels.txt"];
    assert_eq!(names, expected.map(|name| format!("parts/{name}")));
    assert_eq!(written["parts/2/model.onnx.data"], files()[WEIGHTS]);
    insta::assert_snapshot!(String::from_utf8_lossy(&written["parts/config.pbtxt"]));
}

#[tokio::test]
async fn an_image_layout_holds_what_its_digests_say_and_is_the_same_each_time() {
    let (stage, place) = (Stage::set(Play::default()).await, tempfile::tempdir().unwrap());
    let written = exported(&stage, "oci", &place.path().join("one")).await;
    assert_eq!(written, exported(&stage, "oci", &place.path().join("two")).await);
    assert_eq!(written["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = &written[&format!("blobs/sha256/{digest}")];
        assert_eq!(sha256(bytes), digest);
        assert_eq!(bytes.len() as u64, descriptor["size"]);
        bytes
    };
    let index: Value = serde_json::from_slice(&written["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "parts-2");
    let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
    let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("{manifest}") };
    assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);

    let unpacked = place.path().join("unpacked");
    tar::Archive::new(&blob(layer)[..]).unpack(&unpacked).unwrap();
    assert_eq!(tree(&unpacked.join("models")), exported(&stage, "triton", &place.path().join("three")).await);
    assert_eq!(written.len(), 5, "nothing is left lying about");
}

#[tokio::test]
async fn what_cannot_be_exported_leaves_nothing() {
    let (stage, place) = (Stage::set(Play { damaged: true, ..Play::default() }).await, tempfile::tempdir().unwrap());
    let (out, there) = (place.path().join("out"), place.path().join("there"));
    fs::create_dir(&there).unwrap();
    let words = |number: &'static str, dir: &Path| {
        ["export", number, "--format", "oci", dir.to_str().unwrap()].map(str::to_owned)
    };
    for (number, dir, code, why) in [
        ("2", &out, 1, "model.onnx.data does not have the digest"),
        ("2", &there, 2, "is there already"),
        ("9", &out, 1, "no generation 9"),
    ] {
        let words = words(number, dir);
        let told = stage.tell(&words.each_ref().map(String::as_str)).await;
        assert!(told.code == code && told.stderr.contains(why), "{}: {}", told.code, told.stderr);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "only what was there before");
}
