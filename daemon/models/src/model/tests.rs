use super::*;
use crate::fixture::{self, Tensors, hugging_face, save};
use serde_json::json;
use std::fs;

/// The shape of a tensor, and its elements in row-major order.
fn numbers(model: &Model, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor_ref = model.weights.get(name).unwrap();
    let flat: Vec<f32> = model.weights.with_bytes(tensor_ref, |bytes| {
        bytes.chunks(4).map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect()
    });
    let mut at = vec![0];
    for (n, stride) in tensor_ref.shape.iter().zip(&tensor_ref.strides) {
        at = at.iter().flat_map(|start| (0..*n).map(move |i| start + i * stride)).collect();
    }
    (tensor_ref.shape.clone(), at.into_iter().map(|i| flat[i]).collect())
}

fn same(model: &Model, expected: &Tensors) {
    assert_eq!(model.weights.iter().count(), expected.len());
    for (name, tensor) in expected {
        assert_eq!(numbers(model, name), *tensor, "{name}");
    }
}

/// The same model with the tensor names and shapes of OpenCLIP and OpenAI.
fn renamed(tensors: &Tensors) -> Tensors {
    let mut theirs = Tensors::new();
    let turned = |(shape, numbers): &(Vec<usize>, Vec<f32>)| {
        let (rows, columns) = (shape[0], shape[1]);
        let at = |i: usize| numbers[i % rows * columns + i / rows];
        (vec![columns, rows], (0..rows * columns).map(at).collect())
    };
    for (name, tensor) in tensors {
        let name = name
            .replace("vision_model.encoder.layers.", "visual.transformer.resblocks.")
            .replace("text_model.encoder.layers.", "transformer.resblocks.")
            .replace("vision_model.embeddings.class_embedding", "visual.class_embedding")
            .replace("vision_model.embeddings.patch_embedding", "visual.conv1")
            .replace("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding")
            .replace("text_model.embeddings.position_embedding.weight", "positional_embedding")
            .replace("text_model.embeddings.token_embedding", "token_embedding")
            .replace("vision_model.pre_layrnorm", "visual.ln_pre")
            .replace("vision_model.post_layernorm", "visual.ln_post")
            .replace("text_model.final_layer_norm", "ln_final")
            .replace("layer_norm", "ln_")
            .replace("self_attn.out_proj", "attn.out_proj")
            .replace("mlp.fc1", "mlp.c_fc")
            .replace("mlp.fc2", "mlp.c_proj");
        match name.as_str() {
            "visual_projection.weight" => drop(theirs.insert("visual.proj".into(), turned(tensor))),
            "text_projection.weight" => drop(theirs.insert("text_projection".into(), turned(tensor))),
            _ if name.contains("self_attn") => {
                let (block, part) = name.split_once("self_attn.").unwrap();
                let (which, kind) = part.split_once("_proj.").unwrap();
                let key = format!("{block}attn.in_proj_{kind}");
                let fused = theirs.entry(key).or_insert_with(|| {
                    let mut shape = tensor.0.clone();
                    shape[0] *= 3;
                    let count = shape.iter().product();
                    (shape, vec![0.0; count])
                });
                let start = ["q", "k", "v"].iter().position(|w| *w == which).unwrap() * tensor.1.len();
                fused.1[start..start + tensor.1.len()].copy_from_slice(&tensor.1);
            }
            _ => drop(theirs.insert(name, tensor.clone())),
        }
    }
    theirs
}

fn open_clip(dir: &Path, model_cfg: Value) {
    let tensors = fixture::tensors(&fixture::config());
    save(&dir.join("open_clip_model.safetensors"), &renamed(&tensors));
    describe_open_clip(dir, json!({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg()}));
}

fn describe_open_clip(dir: &Path, stated: Value) {
    fs::write(dir.join("open_clip_config.json"), stated.to_string()).unwrap();
}

fn preprocess_cfg() -> Value {
    json!({"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "size": [8, 8]})
}

fn open_clip_config() -> Value {
    json!({
        "embed_dim": 6, "quick_gelu": true,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
        "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 4, "heads": 2, "layers": 2},
    })
}

fn refused(dir: &Path) -> String {
    Model::open(dir).unwrap_err().to_string()
}

#[test]
fn a_hugging_face_directory_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = hugging_face(dir.path());
    let model = Model::open(dir.path()).unwrap();
    assert_eq!(model.layout, Layout::HuggingFace);
    same(&model, &tensors);
    assert_eq!(model.digest().unwrap(), coft_fs::sha256_file(&dir.path().join("model.safetensors")).unwrap());
}

#[test]
fn shards_are_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = hugging_face(dir.path());
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let (mut parts, mut map) = ([Tensors::new(), Tensors::new()], serde_json::Map::new());
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        parts[number % 2].insert(name.clone(), tensor.clone());
        map.insert(name.clone(), json!(format!("part-{}.safetensors", number % 2)));
    }
    for (number, part) in parts.iter().enumerate() {
        save(&dir.path().join(format!("part-{number}.safetensors")), part);
    }
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let model = Model::open(dir.path()).unwrap();
    same(&model, &tensors);
    let both: Vec<_> = (0..2).map(|n| dir.path().join(format!("part-{n}.safetensors"))).collect();
    assert_eq!(model.digest().unwrap(), coft_fs::sha256_files(&both).unwrap());

    map.insert("logit_scale".into(), json!("../part-0.safetensors"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert!(refused(dir.path()).contains("not the name of a file beside it"));
    map.insert("logit_scale".into(), json!("part-0.safetensors"));
    map.insert("more".into(), json!("part-0.safetensors"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert!(refused(dir.path()).contains("tensor more is not in part-0.safetensors"));
}

#[test]
fn open_clips_names_and_orientations_are_turned_into_the_usual_ones() {
    let dir = tempfile::tempdir().unwrap();
    open_clip(dir.path(), open_clip_config());
    let model = Model::open(dir.path()).unwrap();
    assert_eq!(model.layout, Layout::OpenClip);
    same(&model, &fixture::tensors(&fixture::config()));
    let expected: ClipConfig = serde_json::from_value(fixture::config()).unwrap();
    assert_eq!(model.config, ClipConfig { logit_scale_init_value: model.config.logit_scale_init_value, ..expected });
    let preprocess = coft_vision::Preprocess::from_json(&model.preprocessing).unwrap();
    assert_eq!((preprocess.crop, preprocess.mean[2]), (8, 0.3));
    assert_eq!(preprocess.filter, coft_vision::Filter::Bilinear);
}

#[test]
fn what_open_clip_can_be_and_clip_is_not_is_refused_by_key() {
    for (section, key, value) in [
        ("vision_cfg", "timm_model_name", json!("vit_base_patch16_siglip_224")),
        ("vision_cfg", "pool_type", json!("avg")),
        ("vision_cfg", "attentional_pool", json!(true)),
        ("vision_cfg", "no_ln_pre", json!(true)),
        ("text_cfg", "hf_model_name", json!("roberta-base")),
        ("text_cfg", "no_causal_mask", json!(true)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = open_clip_config();
        config[section][key] = value;
        open_clip(dir.path(), config);
        let told = refused(dir.path());
        assert!(told.contains("open_clip_config.json") && told.contains(&format!("{section}.{key} is")), "{told}");
    }
}

#[test]
fn a_mismatch_names_the_tensor_and_both_shapes() {
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    let mut config = fixture::config();
    config["vision_config"]["image_size"] = json!(12);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let told = refused(dir.path());
    let name = "vision_model.embeddings.position_embedding.weight";
    assert!(told.ends_with(&format!("tensor {name} has shape [5, 8]; config.json asks for [10, 8]")), "{told}");

    // The configuration has one layer less than the weights.
    let mut config = fixture::config();
    config["text_config"]["num_hidden_layers"] = json!(1);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let told = refused(dir.path());
    assert!(told.contains("tensor text_model.encoder.layers.1.") && told.contains("is no part of"), "{told}");

    let mut config = fixture::config();
    config["text_config"]["num_hidden_layers"] = json!(3);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    assert!(
        refused(dir.path()).contains("text_model.encoder.layers.2.layer_norm1.bias is missing"),
        "{}",
        refused(dir.path())
    );

    // In another layout the error shows the tensor's name in the file.
    let dir = tempfile::tempdir().unwrap();
    let mut config = open_clip_config();
    config["vision_cfg"]["patch_size"] = json!(8);
    open_clip(dir.path(), config);
    assert!(refused(dir.path()).contains(
        "tensor visual.conv1.weight (vision_model.embeddings.patch_embedding.weight) has shape [8, 3, 4, 4]"
    ));
}

#[test]
fn siglip_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    let mut config = fixture::config();
    config["model_type"] = json!("siglip2");
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    assert!(refused(dir.path()).contains("siglip2") && refused(dir.path()).contains("pools by attention"));
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refused(dir.path()).contains("lacks config.json or open_clip_config.json, or a single .pt file"));
    hugging_face(dir.path());
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert!(refused(dir.path()).contains("lacks model.safetensors"));
}

#[test]
fn pickles_are_refused_with_the_command_that_converts_them() {
    let pickled = |names: &[&str], description: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(description), json!({"model_type": "clip"}).to_string()).unwrap();
        for name in names {
            fs::write(dir.path().join(name), "not read").unwrap();
        }
        (refused(dir.path()), dir.path().to_str().unwrap().to_owned())
    };
    for (name, description) in [
        ("pytorch_model.bin", "config.json"),
        ("pytorch_model.bin.index.json", "config.json"),
        ("open_clip_pytorch_model.bin", "open_clip_config.json"),
        ("pytorch_model.bin", "open_clip_config.json"),
        ("epoch_10.pt", "open_clip_config.json"),
        ("ViT-B-32.pt", "README.md"),
    ] {
        let (told, dir) = pickled(&[name], description);
        let expected = format!("{dir}/{name} is a PyTorch pickle");
        assert!(told.starts_with(&expected) && told.contains(&format!("coftctl model import {dir} ")), "{told}");
    }
    let (told, dir) = pickled(&["a.pt", "b.pt"], "README.md");
    let command = format!("which of its 2 .pt files is meant; import one of them: coftctl model import {dir}/FILE.pt");
    assert!(told.ends_with(&command), "{told}");
}

#[test]
fn safetensors_are_taken_where_there_are_pickles_too() {
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt"] {
        let dir = tempfile::tempdir().unwrap();
        let tensors = hugging_face(dir.path());
        fs::write(dir.path().join(pickle), "not read").unwrap();
        same(&Model::open(dir.path()).unwrap(), &tensors);
    }
    // Also where only the second description has safetensors.
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("pytorch_model.bin")).unwrap();
    open_clip(dir.path(), open_clip_config());
    assert_eq!(Model::open(dir.path()).unwrap().layout, Layout::OpenClip);
    // A file of timm's, which has one tower, is not taken in place of a pickle of OpenCLIP.
    let dir = tempfile::tempdir().unwrap();
    open_clip(dir.path(), open_clip_config());
    let (weights, pickle) = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin");
    fs::rename(dir.path().join(weights), dir.path().join(pickle)).unwrap();
    fs::write(dir.path().join("config.json"), json!({"architecture": "vit_base_patch32_clip_224"}).to_string())
        .unwrap();
    fs::write(dir.path().join("model.safetensors"), "of the image encoder").unwrap();
    assert!(refused(dir.path()).contains(pickle), "{}", refused(dir.path()));
}

/// Opens the fixture's model with a configuration that `change` has modified.
fn configured(change: impl FnOnce(&mut Value)) -> Result<Model, ModelError> {
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    let mut config = fixture::config();
    change(&mut config);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    Model::open(dir.path())
}

#[test]
fn another_model_than_a_clip_is_refused_by_its_name() {
    for (name, why) in [
        ("clip_vision_model", "coft needs the text encoder too"),
        ("siglip_vision_model", "pools by attention"),
        ("align", "only \"clip\" is supported"),
    ] {
        // Files of one tower lack the sizes of the other tower.
        let told =
            configured(|config| *config = json!({"model_type": name, "hidden_size": 8})).unwrap_err().to_string();
        assert!(told.contains("config.json: model_type is") && told.contains(name) && told.contains(why), "{told}");
    }
    let told = configured(|config| *config = json!({"architecture": "vit_base_patch32"})).unwrap_err().to_string();
    assert!(
        told.contains("timm's description of vit_base_patch32") && told.contains("open_clip_config.json"),
        "{told}"
    );
    assert!(configured(|config| *config = json!({})).unwrap_err().to_string().contains("model_type is missing"));
}

#[test]
fn what_a_configuration_says_otherwise_than_it_can_be_done_is_refused() {
    for (section, key, value, why) in [
        ("vision_config", "hidden_act", json!("gelu_pytorch_tanh"), "unknown variant `gelu_pytorch_tanh`"),
        ("vision_config", "num_channels", json!(4), "vision_config.num_channels is 4"),
        ("text_config", "num_attention_heads", json!(3), "multiple of num_attention_heads"),
    ] {
        let told = configured(|config| config[section][key] = value).unwrap_err().to_string();
        assert!(told.contains("config.json: ") && told.contains(why), "{told}");
    }
    let told = configured(|config| config["text_config_dict"] = json!({"hidden_size": 5})).unwrap_err().to_string();
    assert!(told.contains("text_config.hidden_size is 4, and text_config_dict.hidden_size is 5"), "{told}");
    let model =
        configured(|config| config["text_config_dict"] = json!({"hidden_act": "gelu", "hidden_size": 4})).unwrap();
    assert_eq!(model.config.text_config.hidden_act, crate::config::Activation::Gelu);
    assert_eq!(model.config.vision_config.hidden_act, crate::config::Activation::QuickGelu);
}

#[test]
fn the_one_file_of_transformers_5_says_how_images_are_prepared() {
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    let (plain, nested) = (dir.path().join("preprocessor_config.json"), dir.path().join("processor_config.json"));
    let stated: Value = serde_json::from_slice(&fs::read(&plain).unwrap()).unwrap();
    let nest = |stated: &Value| fs::write(&nested, json!({ "image_processor": stated }).to_string()).unwrap();
    nest(&stated);
    Model::open(dir.path()).unwrap();
    fs::remove_file(&plain).unwrap();
    assert_eq!(Model::open(dir.path()).unwrap().preprocessing, stated);
    // A second, older section that contradicts the first: versions of transformers read either one.
    let mut other = stated.clone();
    other["image_mean"] = json!([0.1, 0.1, 0.1]);
    fs::write(&plain, other.to_string()).unwrap();
    let told = refused(dir.path());
    assert!(told.contains("processor_config.json: its image_processor prepares images otherwise"), "{told}");
    fs::remove_file(&plain).unwrap();
    other["image_mean"] = json!([0.1]);
    nest(&other);
    assert!(refused(dir.path()).contains("processor_config.json: image_mean: [0.1] is not a list of three numbers"));
    fs::write(&nested, json!({"processor_class": "CLIPProcessor"}).to_string()).unwrap();
    let told = refused(dir.path());
    assert!(told.contains("lacks preprocessor_config.json (or processor_config.json"), "{told}");
}

#[test]
fn images_of_another_size_than_the_model_reads_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    Model::open(dir.path()).unwrap().check().unwrap();
    let path = dir.path().join("preprocessor_config.json");
    let stated = json!({"size": 12, "crop_size": 12, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    fs::write(path, stated.to_string()).unwrap();
    let told = Model::open(dir.path()).unwrap().check().unwrap_err().to_string();
    assert!(told.contains("images are prepared to 12 px, and the model reads 8 px"), "{told}");
}

#[test]
fn prefixes_that_all_tensors_share_are_passed_over() {
    let plain = fixture::tensors(&fixture::config());
    let prefixed = |prefix: &str, tensors: &Tensors| -> Tensors {
        tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
    };
    for prefix in [
        "_orig_mod.",
        "module.",
        "model.",
        "clip.",
        "base_model.model.",
        "model._orig_mod.module.clip.",
        "module.module.",
    ] {
        let dir = tempfile::tempdir().unwrap();
        hugging_face(dir.path());
        save(&dir.path().join("model.safetensors"), &prefixed(prefix, &plain));
        same(&Model::open(dir.path()).unwrap(), &plain);
        let dir = tempfile::tempdir().unwrap();
        open_clip(dir.path(), open_clip_config());
        save(&dir.path().join("open_clip_model.safetensors"), &prefixed(prefix, &renamed(&plain)));
        same(&Model::open(dir.path()).unwrap(), &plain);
    }
    // A prefix that a single tensor lacks belongs to the names.
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    let mut mixed = prefixed("module.", &plain);
    mixed.insert("logit_scale".into(), mixed["module.logit_scale"].clone());
    save(&dir.path().join("model.safetensors"), &mixed);
    assert!(refused(dir.path()).contains("is missing"), "{}", refused(dir.path()));
}

#[test]
fn converted_weights_without_a_configuration_are_read_only_if_openai_published_them() {
    let dir = tempfile::tempdir().unwrap();
    let plain = fixture::tensors(&fixture::config());
    save(&dir.path().join("openai.safetensors"), &renamed(&plain));
    let told = refused(dir.path());
    assert!(told.contains("openai.safetensors: it holds weights alone"), "{told}");
    assert!(told.contains("Put a file open_clip_config.json beside it"), "{told}");
    let files = ModelFiles::find(dir.path()).unwrap();
    assert_eq!((files.layout(), files.converted_name()), (Layout::Openai, "openai.safetensors"));
    // A name that says nothing about the layout is not taken.
    fs::rename(dir.path().join("openai.safetensors"), dir.path().join("model.safetensors")).unwrap();
    assert!(refused(dir.path()).contains("lacks config.json or open_clip_config.json"));
}

#[test]
fn the_layout_of_a_single_file_is_that_of_its_name_or_of_the_files_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let layout = |name: &str| ModelFiles::with_weights(&dir.path().join(name)).layout();
    assert_eq!(layout("ViT-B-32.pt"), Layout::Openai);
    fs::write(dir.path().join("config.json"), json!({"model_type": "clip"}).to_string()).unwrap();
    assert_eq!(layout("pytorch_model.bin"), Layout::HuggingFace);
    assert_eq!(layout("pytorch_model.fp16.bin"), Layout::HuggingFace);
    describe_open_clip(dir.path(), json!({}));
    assert_eq!(layout("pytorch_model.bin"), Layout::HuggingFace);
    assert_eq!(layout("open_clip_pytorch_model.bin"), Layout::OpenClip);
    assert_eq!(layout("epoch_10.pt"), Layout::OpenClip);
}

#[test]
fn open_clips_files_are_taken_beside_those_of_timm() {
    let timm =
        json!({"architecture": "vit_base_patch32_clip_224", "num_classes": 6, "pretrained_cfg": {"tag": "openai"}});
    for weights in ["open_clip_model.safetensors", "model.safetensors"] {
        let dir = tempfile::tempdir().unwrap();
        open_clip(dir.path(), open_clip_config());
        fs::write(dir.path().join("config.json"), timm.to_string()).unwrap();
        fs::write(dir.path().join("model.safetensors"), "of the image encoder").unwrap();
        fs::rename(dir.path().join("open_clip_model.safetensors"), dir.path().join(weights)).unwrap();
        assert_eq!(Model::open(dir.path()).unwrap().layout, Layout::OpenClip, "{weights}");
    }
    // If both files describe a CLIP, the first is used.
    let dir = tempfile::tempdir().unwrap();
    open_clip(dir.path(), open_clip_config());
    hugging_face(dir.path());
    assert_eq!(Model::open(dir.path()).unwrap().layout, Layout::HuggingFace);
}

#[test]
fn open_clips_preprocessing_is_done_or_refused_by_key() {
    let dir = tempfile::tempdir().unwrap();
    open_clip(dir.path(), open_clip_config());
    let read = |change: &dyn Fn(&mut Value)| {
        let mut stated = json!({"model_cfg": open_clip_config(), "preprocess_cfg": preprocess_cfg()});
        change(&mut stated);
        describe_open_clip(dir.path(), stated);
        let model = Model::open(dir.path()).map_err(|error| error.to_string())?;
        Ok::<_, String>(coft_vision::Preprocess::from_json(&model.preprocessing).unwrap())
    };
    assert!(!read(&|_| {}).unwrap().squash);
    assert!(read(&|stated| stated["preprocess_cfg"]["resize_mode"] = json!("squash")).unwrap().squash);
    let bicubic = read(&|stated| stated["preprocess_cfg"]["interpolation"] = Value::Null).unwrap();
    assert_eq!(bicubic.filter, coft_vision::Filter::Bicubic);
    for (key, value, why) in [
        ("resize_mode", json!("longest"), "resize_mode is \"longest\""),
        ("interpolation", json!("random"), "interpolation is \"random\""),
        ("mean", Value::Null, "preprocess_cfg.mean is missing"),
        ("std", Value::Null, "preprocess_cfg.std is missing"),
        ("mode", json!("L"), "preprocess_cfg.mode is"),
    ] {
        let told = read(&|stated| stated["preprocess_cfg"][key] = value.clone()).unwrap_err();
        assert!(told.contains("open_clip_config.json: ") && told.contains(why), "{told}");
    }
    let told = read(&|stated| stated["preprocess_cfg"] = Value::Null).unwrap_err();
    assert!(told.contains("preprocess_cfg is no object"), "{told}");
    let told = read(&|stated| drop(stated.as_object_mut().unwrap().remove("preprocess_cfg"))).unwrap_err();
    assert!(told.contains("preprocess_cfg is missing; add it"), "{told}");
    let told = read(&|stated| stated["model_cfg"]["quick_gelu"] = json!("true")).unwrap_err();
    assert!(told.contains("model_cfg.quick_gelu is \"true\"; write true or false"), "{told}");
    let told = read(&|stated| *stated = open_clip_config()).unwrap_err();
    assert!(told.contains("model_cfg is missing"), "{told}");
}

#[test]
fn what_stands_for_weights_and_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    hugging_face(dir.path());
    let path = dir.path().join("model.safetensors");
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n").unwrap();
    assert!(refused(dir.path()).contains("run git lfs pull"), "{}", refused(dir.path()));
    fs::write(&path, "<!DOCTYPE html>").unwrap();
    assert!(refused(dir.path()).contains("model.safetensors: its header has"), "{}", refused(dir.path()));
}
