use super::*;
use coft_harness::archive::{Pickled, save};
use coft_models::Model;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::fs;

/// A model of two megabytes in Hugging Face's layout, in half precision.
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model");
const WEIGHTS: &str = "model.safetensors";

/// A copy of the demo model without its weights, and the bytes of the weights.
fn demo() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(DEMO).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with(WEIGHTS) {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    (dir, fs::read(Path::new(DEMO).join(WEIGHTS)).unwrap())
}

/// The tensors of a safetensors file for an archive, under other names.
fn pickled<'a>(weights: &SafeTensors<'a>, name: impl Fn(String) -> String) -> Vec<Pickled<'a>> {
    let storage = |dtype| match dtype {
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        other => panic!("the demo model has {other}"),
    };
    let tensors = weights.tensors().into_iter();
    let tensor = |(tensor, view): (String, TensorView<'a>)| Pickled {
        name: name(tensor),
        storage: storage(view.dtype()),
        shape: view.shape().to_vec(),
        data: view.data(),
    };
    tensors.map(tensor).collect()
}

/// Names, types, shapes and bytes of a file's tensors.
fn content(bytes: &[u8]) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let tensors = SafeTensors::deserialize(bytes).unwrap().tensors().into_iter();
    tensors.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

#[test]
fn a_pickle_becomes_the_same_tensors_and_the_same_bytes_each_time() {
    let (dir, weights) = demo();
    let archive = dir.path().join("pytorch_model.bin");
    save(&archive, "", &pickled(&SafeTensors::deserialize(&weights).unwrap(), |name| name)).unwrap();
    let told = Model::open(dir.path()).unwrap_err().to_string();
    assert!(told.contains("pytorch_model.bin is a PyTorch pickle"), "{told}");

    let files = ModelFiles::find(dir.path()).unwrap();
    let read = convert(&files, dir.path()).unwrap();
    let digest = coft_fs::sha256_file(&archive).unwrap();
    assert_eq!((read.len(), &read["pytorch_model.bin"].sha256), (1, &digest));
    let first = fs::read(dir.path().join(WEIGHTS)).unwrap();
    assert_eq!(content(&first), content(&weights));
    Model::open(dir.path()).unwrap().check().unwrap();

    // The archive of the same tensors in another order.
    let mut tensors = pickled(&SafeTensors::deserialize(&weights).unwrap(), |name| name);
    tensors.reverse();
    save(&archive, "", &tensors).unwrap();
    assert_ne!(coft_fs::sha256_file(&archive).unwrap(), digest);
    convert(&files, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join(WEIGHTS)).unwrap(), first);
}

#[test]
fn shards_become_one_file() {
    let (dir, weights) = demo();
    let all = SafeTensors::deserialize(&weights).unwrap();
    let (mut first, mut second) = (pickled(&all, |name| name), Vec::new());
    second.extend(first.drain(first.len() / 2..));
    let names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    let index = |of: &[(&Vec<Pickled>, &str)]| {
        let entry = |(tensors, shard): &(&Vec<Pickled>, &str)| {
            tensors.iter().map(|tensor| format!("{:?}: {shard:?}", tensor.name)).collect::<Vec<_>>()
        };
        let entries = of.iter().flat_map(entry).collect::<Vec<_>>().join(", ");
        let text = format!(r#"{{"weight_map": {{{entries}}}}}"#);
        fs::write(dir.path().join("pytorch_model.bin.index.json"), text).unwrap();
    };
    for (tensors, name) in [(&first, names[0]), (&second, names[1])] {
        save(&dir.path().join(name), "", tensors).unwrap();
    }
    index(&[(&first, names[0]), (&second, names[1])]);
    let files = ModelFiles::find(dir.path()).unwrap();
    let read = convert(&files, dir.path()).unwrap();
    assert_eq!(read.keys().collect::<Vec<_>>(), names);
    assert_eq!(content(&fs::read(dir.path().join(WEIGHTS)).unwrap()), content(&weights));

    index(&[(&first, names[1]), (&second, names[1])]);
    let told = convert(&files, dir.path()).unwrap_err().to_string();
    assert!(told.contains("pytorch_model.bin.index.json: tensor") && told.contains("where the index says"), "{told}");
    index(&[(&first, names[0]), (&second, names[1])]);
    save(&dir.path().join(names[1]), "", &pickled(&all, |name| name)).unwrap();
    let told = convert(&files, dir.path()).unwrap_err().to_string();
    assert!(told.contains("-00001-of-00002.bin too"), "{told}");
}

/// Names stay as they are in the file, because layouts and prefixes are recognised from them.
#[test]
fn an_archive_of_any_name_gets_the_name_of_its_layout_and_keeps_the_names_of_its_tensors() {
    let (dir, weights) = demo();
    fs::remove_file(dir.path().join("config.json")).unwrap();
    let all = SafeTensors::deserialize(&weights).unwrap();
    let to = tempfile::tempdir().unwrap();
    for (file, key, config, converted) in [
        ("epoch_10.pt", "state_dict", true, "open_clip_model.safetensors"),
        ("ViT-B-32.pt", "", false, "openai.safetensors"),
    ] {
        let (archive, description) = (dir.path().join(file), dir.path().join("open_clip_config.json"));
        save(&archive, key, &pickled(&all, |name| format!("module.{name}"))).unwrap();
        if config {
            fs::write(&description, "{}").unwrap();
        }
        for files in [ModelFiles::find(dir.path()).unwrap(), ModelFiles::with_weights(&archive)] {
            convert(&files, to.path()).unwrap();
            let written = content(&fs::read(to.path().join(converted)).unwrap());
            let expected = content(&weights).into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor));
            assert_eq!(written, expected.collect(), "{file}");
        }
        fs::remove_file(archive).unwrap();
        _ = fs::remove_file(description);
    }
}

#[test]
fn every_type_of_element_is_kept() {
    let (dir, _) = demo();
    let types = [
        ("DoubleStorage", Dtype::F64),
        ("FloatStorage", Dtype::F32),
        ("HalfStorage", Dtype::F16),
        ("BFloat16Storage", Dtype::BF16),
        ("LongStorage", Dtype::I64),
        ("IntStorage", Dtype::I32),
        ("BoolStorage", Dtype::BOOL),
    ];
    let data = [1; 16];
    let tensor = |&(storage, dtype): &(&'static str, Dtype)| {
        let width = dtype.bitsize() / 8;
        Pickled { name: storage.to_owned(), storage, shape: vec![2, 1], data: &data[..2 * width] }
    };
    let mut tensors: Vec<Pickled> = types.iter().map(tensor).collect();
    // A size, as in OpenAI's archives.
    tensors.push(Pickled { name: "vocab_size".into(), storage: "LongStorage", shape: vec![], data: &data[..8] });
    save(&dir.path().join("pytorch_model.bin"), "", &tensors).unwrap();
    convert(&ModelFiles::find(dir.path()).unwrap(), dir.path()).unwrap();
    let written = content(&fs::read(dir.path().join(WEIGHTS)).unwrap());
    for (name, dtype) in types {
        assert_eq!(written[name], (dtype, vec![2, 1], data[..dtype.bitsize() / 4].to_vec()), "{name}");
    }
    assert_eq!(written["vocab_size"], (Dtype::I64, vec![], data[..8].to_vec()));
}

#[test]
fn what_cannot_be_converted_is_named_and_leaves_nothing() {
    let (dir, _) = demo();
    let archive = dir.path().join("pytorch_model.bin");
    let before = fs::read_dir(dir.path()).unwrap().count();
    let told = |bytes: &[u8]| {
        fs::write(&archive, bytes).unwrap();
        let told = convert(&ModelFiles::find(dir.path()).unwrap(), dir.path()).unwrap_err().to_string();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before + 1, "{told}");
        assert!(told.contains("pytorch_model.bin: "), "{told}");
        told
    };
    assert!(told(b"no archive").contains("not a PyTorch archive"));
    assert!(told(b"version https://git-lfs.github.com/spec/v1\n").contains("run git lfs pull"));
    assert!(told(b"").contains("pytorch_model.bin"));
}

/// A few bytes of a pickle describe a matrix of a terabyte by strides of nothing, or one storage many times.
#[test]
fn an_archive_does_not_grow_into_a_file_of_any_size() {
    let (dir, _) = demo();
    let archive = dir.path().join("pytorch_model.bin");
    let numbers = [0; 1 << 12];
    let tensor =
        |name: usize| Pickled { name: name.to_string(), storage: "FloatStorage", shape: vec![1 << 10], data: &numbers };
    save(&archive, "", &[tensor(0)]).unwrap();
    let files = ModelFiles::find(dir.path()).unwrap();
    convert(&files, dir.path()).unwrap();
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    // The shape and the stride of the only tensor.
    let whole = fs::read(&archive).unwrap();
    let from = [&b"(J"[..], &1024u32.to_le_bytes(), b"t(J", &1u32.to_le_bytes(), b"t"].concat();
    let wide = [&b"(J"[..], &i32::MAX.to_le_bytes(), b"t(J", &0u32.to_le_bytes(), b"t"].concat();
    let at = whole.windows(from.len()).position(|window| window == from).unwrap();
    let changed = [&whole[..at], &wide, &whole[at + from.len()..]].concat();
    fs::write(&archive, changed).unwrap();
    let told = convert(&files, dir.path()).unwrap_err();
    assert!(matches!(told, ConvertError::Inflated { .. }), "{told}");
    assert!(!dir.path().join(WEIGHTS).exists());
}

#[test]
fn a_conversion_holds_one_tensor_at_a_time() {
    let (dir, _) = demo();
    let data = vec![1; 4 << 20];
    let tensor =
        |n: usize| Pickled { name: n.to_string(), storage: "HalfStorage", shape: vec![1 << 11, 1 << 10], data: &data };
    save(&dir.path().join("pytorch_model.bin"), "", &(0..16).map(tensor).collect::<Vec<_>>()).unwrap();
    let files = ModelFiles::find(dir.path()).unwrap();
    let held = memory::held(|| _ = convert(&files, dir.path()).unwrap());
    println!("{held} bytes held for 16 tensors of {} bytes", data.len());
    assert!(held > data.len(), "the measurement itself is broken");
    // The tensor, the buffer in which a file is hashed, and descriptions.
    assert!(held < data.len() + (2 << 20), "{held}");
}
