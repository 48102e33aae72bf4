//! Trains a small CLIP from pictures and captions: how the embedded demo model was made.
//!
//! Contrastive loss. Every caption of a class is a positive for every picture of that class, so that pictures of one
//! part do not push each other away. Writes the Hugging Face layout in half precision. B pictures of a batch, D
//! embedding width.

mod adamw;
mod vocabulary;

use crate::clip::config::{Activation, TextConfig, VisionConfig};
use crate::clip::tensors::to_safetensors;
use crate::clip::text::padded;
use crate::clip::{ClipConfig, Tensors, TextTower, VisionTower, normalised};
use crate::random;
use adamw::AdamW;
use anyhow::{Context, ensure};
use coft_vision::{Preprocess, random_resized_crop};
use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::{Device, Kind, Tensor, no_grad};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Directory with `pictures.u8` ([N, side, side, 3] bytes) and `captions.jsonl` (`{"caption", "class"}` a picture).
    #[arg(long)]
    pictures: PathBuf,
    /// Side of the pictures, px.
    #[arg(long)]
    side: u32,
    /// Where the model's files are written; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Optimiser steps.
    #[arg(long, default_value_t = 1500)]
    steps: u32,
    /// Pictures a step.
    #[arg(long, default_value_t = 128)]
    batch: usize,
}

#[derive(Deserialize)]
struct Caption {
    caption: String,
    class: i64,
}

const IMAGE_SIZE: u32 = 48;
const LEARNING_RATE: f64 = 1e-3;
const WEIGHT_DECAY: f64 = 0.05;
const WARM_UP_STEPS: f64 = 100.0;
/// CLIP limits 1/τ to 100.
const MAX_LOGIT_SCALE: f64 = 4.605_170_185_988_092;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let pictures = pictures(&args.pictures, args.side)?;
    let captions = captions(&args.pictures)?;
    ensure!(pictures.len() == captions.len(), "{} pictures, {} captions", pictures.len(), captions.len());
    let tokenizer = vocabulary::train(captions.iter().map(|c| c.caption.as_str()))?;
    let config = config(tokenizer.get_vocab_size(true) as i64);
    let preprocessing = preprocessing();
    let preprocess = Preprocess::from_json(&preprocessing).context("the demo's own preprocessing")?;
    let ids: Vec<Vec<i64>> = captions
        .iter()
        .map(|c| {
            let encoding = tokenizer.encode(c.caption.as_str(), true).map_err(anyhow::Error::msg)?;
            Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
        })
        .collect::<anyhow::Result<_>>()?;

    let tensors = fresh(&config, args.seed);
    let vision = VisionTower::new(&config, &tensors)?;
    let text = TextTower::new(&config, &tensors)?;
    let logit_scale = tensors.get("logit_scale", &[])?;
    let mut optimiser = AdamW::new(tensors.iter().map(|(_, t)| t.shallow_clone()).collect(), WEIGHT_DECAY);
    let mut rng = random::stream(args.seed, "pretrain batches");
    let (began, mut mean_loss) = (Instant::now(), f64::NAN);
    for step in 0..args.steps {
        let chosen: Vec<usize> = (0..args.batch).map(|_| rng.random_range(0..pictures.len())).collect();
        let pixels = augmented(&pictures, &chosen, &preprocess, &mut rng);
        let (tokens, ends) = padded(&chosen.iter().map(|&i| ids[i].clone()).collect::<Vec<_>>(), Device::Cpu);
        let classes = Tensor::from_slice(&chosen.iter().map(|&i| captions[i].class).collect::<Vec<_>>());

        let image = normalised(&vision.embed(&pixels, None)); // [B, D]
        let caption = normalised(&text.embed(&text.token_embeddings(&tokens), &ends)); // [B, D]
        let logits = image.matmul(&caption.tr()) * logit_scale.exp(); // [B, B]
        let same = classes.unsqueeze(0).eq_tensor(&classes.unsqueeze(1)).to_kind(Kind::Float);
        let targets = &same / same.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let towards = |logits: &Tensor| -(&targets * logits.log_softmax(-1, Kind::Float)).sum(Kind::Float);
        let loss = (towards(&logits) + towards(&logits.tr())) / (2.0 * args.batch as f64);
        optimiser.step(&loss, rate(step, args.steps));
        // The scale is clamped as in CLIP; this is not part of any graph.
        let _ = no_grad(|| logit_scale.shallow_clone().clamp_max_(MAX_LOGIT_SCALE));

        let value = loss.double_value(&[]);
        mean_loss = if mean_loss.is_nan() { value } else { 0.95 * mean_loss + 0.05 * value };
        if (step + 1) % 50 == 0 {
            let rate = f64::from(step + 1) * args.batch as f64 / began.elapsed().as_secs_f64();
            eprintln!("step {}/{}  loss {mean_loss:.3}  {rate:.0} pictures/s", step + 1, args.steps);
        }
    }
    save(&args.out, &config, &preprocessing, &tensors)?;
    tokenizer.save(args.out.join("tokenizer.json"), true).map_err(anyhow::Error::msg)
}

fn pictures(dir: &Path, side: u32) -> anyhow::Result<Vec<RgbImage>> {
    let path = dir.join("pictures.u8");
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let each = (side * side * 3) as usize;
    ensure!(each > 0 && bytes.len() % each == 0, "{} does not hold pictures of {side}×{side}", path.display());
    let picture = |raw: &[u8]| RgbImage::from_raw(side, side, raw.to_vec()).expect("the right number of bytes");
    Ok(bytes.chunks_exact(each).map(picture).collect())
}

fn captions(dir: &Path) -> anyhow::Result<Vec<Caption>> {
    let path = dir.join("captions.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let parse = |(line, text): (usize, &str)| {
        serde_json::from_str(text).with_context(|| format!("{} line {}", path.display(), line + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

fn augmented(pictures: &[RgbImage], chosen: &[usize], preprocess: &Preprocess, rng: &mut ChaCha8Rng) -> Tensor {
    let each = 3 * (IMAGE_SIZE * IMAGE_SIZE) as usize;
    let draws: Vec<([f32; 4], bool)> = chosen.iter().map(|_| (rng.random(), rng.random())).collect();
    let mut pixels = vec![0f32; chosen.len() * each];
    pixels.par_chunks_exact_mut(each).zip(chosen.par_iter().zip(&draws)).for_each(|(out, (&i, &(draws, flip)))| {
        let picture = &pictures[i];
        let window = random_resized_crop(picture.width(), picture.height(), 0.6, draws);
        preprocess.augmented(picture, window, flip, out);
    });
    let side = i64::from(IMAGE_SIZE);
    Tensor::from_slice(&pixels).view([-1, 3, side, side])
}

/// Linear warm-up, then a half cosine to zero.
fn rate(step: u32, steps: u32) -> f64 {
    let warm = (f64::from(step + 1) / WARM_UP_STEPS).min(1.0);
    let progress = f64::from(step) / f64::from(steps);
    LEARNING_RATE * warm * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

fn config(vocab_size: i64) -> ClipConfig {
    ClipConfig {
        model_type: "clip".to_owned(),
        projection_dim: 96,
        logit_scale_init_value: 2.6592,
        text_config: TextConfig {
            hidden_size: 64,
            intermediate_size: 256,
            num_attention_heads: 2,
            num_hidden_layers: 2,
            max_position_embeddings: 77,
            vocab_size,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        },
        vision_config: VisionConfig {
            hidden_size: 128,
            intermediate_size: 512,
            num_attention_heads: 4,
            num_hidden_layers: 4,
            image_size: i64::from(IMAGE_SIZE),
            patch_size: 8,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        },
    }
}

/// CLIP's own preprocessing at the demo's image size.
fn preprocessing() -> serde_json::Value {
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": true, "size": {"shortest_edge": IMAGE_SIZE}, "resample": 3,
        "do_center_crop": true, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": true, "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
        "do_convert_rgb": true,
    })
}

/// Trainable tensors with CLIP's initialisation: normal, with deviations that shrink with width and depth.
fn fresh(config: &ClipConfig, seed: u64) -> Tensors {
    let (t, v) = (&config.text_config, &config.vision_config);
    let grid = v.image_size / v.patch_size;
    let mut made = Maker { tensors: Tensors::default(), rng: random::stream(seed, "pretrain weights") };
    made.normal("vision_model.embeddings.class_embedding", &[v.hidden_size], (v.hidden_size as f64).powf(-0.5));
    let patch = [v.hidden_size, 3, v.patch_size, v.patch_size];
    made.normal("vision_model.embeddings.patch_embedding.weight", &patch, 0.02);
    made.normal("vision_model.embeddings.position_embedding.weight", &[1 + grid * grid, v.hidden_size], 0.02);
    made.norm("vision_model.pre_layrnorm", v.hidden_size);
    made.blocks("vision_model", v.num_hidden_layers, v.hidden_size, v.intermediate_size);
    made.norm("vision_model.post_layernorm", v.hidden_size);
    let projection = |width: i64| (width as f64).powf(-0.5);
    made.normal("visual_projection.weight", &[config.projection_dim, v.hidden_size], projection(v.hidden_size));
    made.normal("text_model.embeddings.token_embedding.weight", &[t.vocab_size, t.hidden_size], 0.02);
    made.normal("text_model.embeddings.position_embedding.weight", &[t.max_position_embeddings, t.hidden_size], 0.01);
    made.blocks("text_model", t.num_hidden_layers, t.hidden_size, t.intermediate_size);
    made.norm("text_model.final_layer_norm", t.hidden_size);
    made.normal("text_projection.weight", &[config.projection_dim, t.hidden_size], projection(t.hidden_size));
    made.constant("logit_scale", &[], config.logit_scale_init_value);
    made.tensors
}

struct Maker {
    tensors: Tensors,
    rng: ChaCha8Rng,
}

impl Maker {
    fn normal(&mut self, name: &str, shape: &[i64], deviation: f64) {
        let tensor = random::normal(&mut self.rng, shape, deviation, Device::Cpu);
        self.tensors.insert(name, tensor.set_requires_grad(true));
    }

    fn constant(&mut self, name: &str, shape: &[i64], value: f64) {
        let tensor = Tensor::full(shape, value, (Kind::Float, Device::Cpu));
        self.tensors.insert(name, tensor.set_requires_grad(true));
    }

    fn norm(&mut self, name: &str, width: i64) {
        self.constant(&format!("{name}.weight"), &[width], 1.0);
        self.constant(&format!("{name}.bias"), &[width], 0.0);
    }

    fn blocks(&mut self, tower: &str, layers: i64, width: i64, hidden: i64) {
        let towards = (width as f64).powf(-0.5);
        let residual = towards * (2.0 * layers as f64).powf(-0.5);
        for layer in 0..layers {
            let name = format!("{tower}.encoder.layers.{layer}");
            self.norm(&format!("{name}.layer_norm1"), width);
            for part in ["q", "k", "v", "out"] {
                let deviation = if part == "out" { residual } else { towards };
                self.normal(&format!("{name}.self_attn.{part}_proj.weight"), &[width, width], deviation);
                self.constant(&format!("{name}.self_attn.{part}_proj.bias"), &[width], 0.0);
            }
            self.norm(&format!("{name}.layer_norm2"), width);
            self.normal(&format!("{name}.mlp.fc1.weight"), &[hidden, width], (2.0 * width as f64).powf(-0.5));
            self.constant(&format!("{name}.mlp.fc1.bias"), &[hidden], 0.0);
            self.normal(&format!("{name}.mlp.fc2.weight"), &[width, hidden], residual);
            self.constant(&format!("{name}.mlp.fc2.bias"), &[width], 0.0);
        }
    }
}

fn save(out: &Path, config: &ClipConfig, preprocessing: &serde_json::Value, tensors: &Tensors) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let mut json = serde_json::to_value(config)?;
    json["architectures"] = json!(["CLIPModel"]);
    json["dtype"] = json!("float16");
    for tower in ["text_config", "vision_config"] {
        json[tower]["projection_dim"] = json!(config.projection_dim);
    }
    json["text_config"]["bos_token_id"] = json!(vocabulary::START_ID);
    json["text_config"]["eos_token_id"] = json!(vocabulary::END_ID);
    json["text_config"]["pad_token_id"] = json!(vocabulary::END_ID);
    let halves: Vec<(&str, Tensor)> = tensors.iter().map(|(n, t)| (n, t.detach().to_kind(Kind::Half))).collect();
    let write = |name: &str, bytes: Vec<u8>| {
        std::fs::write(out.join(name), bytes).with_context(|| format!("writing {}", out.join(name).display()))
    };
    write("config.json", serde_json::to_vec_pretty(&json)?)?;
    write("preprocessor_config.json", serde_json::to_vec_pretty(preprocessing)?)?;
    write("model.safetensors", to_safetensors(&halves))
}
