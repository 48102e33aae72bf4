use super::*;
use crate::fixture::{self, Tensors, hugging_face, save};
use serde_json::json;
use std::fs;

/// The numbers of a tensor, row by row.
fn numbers(model: &Model, name: &str) -> (Vec<usize>, Vec<f32>) {
    let place = model.weights.get(name).unwrap();
    let flat: Vec<f32> = model.weights.with_bytes(place, |bytes| {
        bytes.chunks(4).map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect()
    });
    let mut at = vec![0];
    for (n, stride) in place.shape.iter().zip(&place.strides) {
        at = at.iter().flat_map(|start| (0..*n).map(move |i| start + i * stride)).collect();
    }
    (place.shape.clone(), at.into_iter().map(|i| flat[i]).collect())
}

fn same(model: &Model, expected: &Tensors) {
    assert_eq!(model.weights.iter().count(), expected.len());
    for (name, tensor) in expected {
        assert_eq!(numbers(model, name), *tensor, "{name}");
    }
}

/// The same model as OpenCLIP and OpenAI would name and lay it out.
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
    let stated = json!({"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "interpolation": "bilinear", "size": [8, 8]}});
    fs::write(dir.join("open_clip_config.json"), stated.to_string()).unwrap();
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
    assert_eq!(model.digest().unwrap(), crate::file_digest(&dir.path().join("model.safetensors")).unwrap());
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
    assert_eq!(model.digest().unwrap(), crate::digest(&both).unwrap());

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

    // One layer less than the weights have.
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

    // In another layout by the name in the file.
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
    fs::write(dir.path().join("pytorch_model.bin"), "no archive").unwrap();
    assert!(refused(dir.path()).contains("pytorch_model.bin: not a PyTorch archive"));
}
