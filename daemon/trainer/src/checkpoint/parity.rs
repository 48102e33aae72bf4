//! Compares features with `transformers` and `open_clip`, at full size, and measures the memory and time of loading.

use super::*;
use crate::clip::text::padded;
use crate::fixture;
use coft_models::ModelFiles;
use std::env;
use std::fs;
use std::process::Command;

/// A script of `tests/peers`; `None` where there is no Python to run it.
fn peer(script: &str) -> Option<Command> {
    let Some(python) = env::var_os("COFT_TEST_PYTHON") else {
        println!("skipped: no Python; cargo xtask test installs one");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers").join(script));
    Some(command)
}

/// The output directory of `clip_features.py` for a case. Pickled weights are converted as `coftctl model import` does
/// it.
fn made(case: &str) -> Option<tempfile::TempDir> {
    let mut script = peer("clip_features.py")?;
    let dir = tempfile::tempdir().unwrap();
    let done = script.arg(case).arg(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::copy(fixture::model_dir().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let files = ModelFiles::find(dir.path()).unwrap();
    if files.is_pickled() {
        let told = Checkpoint::load(dir.path(), Device::Cpu).unwrap_err().to_string();
        assert!(told.contains("is a PyTorch pickle") && told.contains("coftctl model import"), "{told}");
        coft_pickle::convert(&files, dir.path()).unwrap();
    }
    assert_eq!(files.is_pickled(), PICKLED.iter().any(|form| case.ends_with(form)), "{case}");
    Some(dir)
}

/// Formats of `clip_features.py` that are pickles.
const PICKLED: [&str; 4] = [":bin", ":sharded-bin", ":epoch", ":torchscript"];

/// Largest distance between a feature of ours and the other program's, relative to its length.
fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let norm = |x: &Tensor| x.norm_scalaropt_dim(2.0, -1, false);
    (norm(&(ours - theirs)) / norm(theirs)).max().double_value(&[])
}

#[track_caller]
fn agrees(case: &str, tolerance: f64) {
    let Some(dir) = made(case) else { return };
    let _guard = tch::no_grad_guard();
    let checkpoint = Checkpoint::load(dir.path(), Device::Cpu).unwrap();
    let expected = Tensor::read_safetensors(dir.path().join("expected.safetensors")).unwrap();
    let expected = |name: &str| expected.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone();
    let image = apart(&checkpoint.vision.embed(&expected("pixels"), None), &expected("image"));
    let rows: Vec<Vec<i64>> = Vec::try_from(expected("ids")).unwrap();
    let end = 49407;
    let rows: Vec<Vec<i64>> =
        rows.iter().map(|row| row[..=row.iter().position(|id| *id == end).unwrap()].to_vec()).collect();
    let (ids, ends) = padded(&rows, Device::Cpu);
    let text = apart(&checkpoint.text.embed(&checkpoint.text.token_embeddings(&ids), &ends), &expected("text"));
    println!("{case}: image {image:.1e}, text {text:.1e}");
    assert!(image < tolerance && text < tolerance, "{case}: image {image:.1e}, text {text:.1e}");
}

#[test]
fn transformers_b32_from_a_pickle() {
    agrees("transformers:ViT-B-32:bin", 1e-5);
}

#[test]
fn transformers_b16_from_shards() {
    agrees("transformers:ViT-B-16:shards", 1e-5);
}

#[test]
fn transformers_of_odd_sizes_from_shards_that_are_pickles() {
    agrees("transformers:odd:sharded-bin", 1e-5);
}

#[test]
fn transformers_l14() {
    agrees("transformers:ViT-L-14:safetensors", 1e-4);
}

#[test]
fn transformers_ti16() {
    agrees("transformers:ViT-Ti-16:safetensors", 1e-5);
}

#[test]
fn transformers_of_odd_sizes_with_an_activation_in_each_encoder() {
    agrees("transformers:odd:processor", 1e-5);
    agrees("transformers:odd-quick:bf16", 1e-5);
}

#[test]
fn open_clip_of_odd_sizes_with_either_activation() {
    agrees("open_clip:odd:safetensors", 1e-5);
    agrees("open_clip:odd-quick:bin", 1e-5);
}

#[test]
fn a_training_checkpoint_of_open_clip_by_its_configuration() {
    agrees("open_clip:odd:epoch", 1e-5);
}

#[test]
fn open_clip_s32() {
    agrees("open_clip:ViT-S-32:safetensors", 1e-5);
}

#[test]
#[ignore = "1.7 GB of weights"]
fn open_clip_l14_at_336() {
    agrees("open_clip:ViT-L-14-336:safetensors", 1e-4);
}

#[test]
#[ignore = "3.9 GB of weights"]
fn open_clip_h14() {
    agrees("open_clip:ViT-H-14:safetensors", 1e-4);
}

#[test]
fn open_clip_b32_quick_gelu_from_torchscript() {
    agrees("open_clip:ViT-B-32-quickgelu:torchscript", 1e-5);
}

#[test]
fn open_clip_b16_from_a_pickle() {
    agrees("open_clip:ViT-B-16:bin", 1e-5);
}

#[test]
fn open_clip_l14() {
    agrees("open_clip:ViT-L-14:safetensors", 1e-4);
}

/// Environment variable that makes the test below load in a process of its own, so that the process's memory is that of
/// loading alone.
const CHILD: &str = "COFT_TEST_LOAD";

#[test]
fn loading_takes_little_more_memory_than_the_checkpoint_has_bytes() {
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    };
    if let Some(dir) = env::var_os(CHILD) {
        let before = peak();
        let checkpoint = Checkpoint::load(Path::new(&dir), Device::Cpu).unwrap();
        println!("grown {}", peak() - before);
        assert_eq!(checkpoint.device, Device::Cpu);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bytes = zeros_of_b16(dir.path());
    let name = "checkpoint::parity::loading_takes_little_more_memory_than_the_checkpoint_has_bytes";
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    let grown = told.lines().find_map(|line| line.split("grown ").nth(1)).unwrap_or_else(|| panic!("{told}"));
    let share = grown.trim().parse::<f64>().unwrap() / bytes as f64;
    println!("{share:.3} of the checkpoint's {bytes} bytes");
    assert!(share > 0.5, "the measurement itself is broken: {share}");
    assert!(share < 1.3, "{share}");
}

/// Makes a ViT-B/16 directory whose weights occupy their full size on the disk. Returns their bytes.
fn zeros_of_b16(dir: &Path) -> u64 {
    let config = serde_json::json!({"model_type": "clip", "text_config": {}, "vision_config": {"patch_size": 16}});
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let preprocessing = r#"{"size": 224, "crop_size": 224, "do_normalize": false}"#;
    fs::write(dir.join("preprocessor_config.json"), preprocessing).unwrap();
    fs::copy(fixture::model_dir().join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    let config: ClipConfig = serde_json::from_value(config).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in coft_models::expected(&config) {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name, serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = std::io::BufWriter::new(fs::File::create(dir.join("model.safetensors")).unwrap());
    use std::io::Write;
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    for _ in 0..end / 4 {
        file.write_all(&0.01f32.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    (8 + header.len() + end) as u64
}

#[test]
fn positions_for_larger_images_are_interpolated_and_the_class_token_is_not() {
    let plain = fixture::checkpoint();
    let (side, patch) = (plain.config.vision_config.image_size, plain.config.vision_config.patch_size);
    let wider = Checkpoint::load_for(&fixture::model_dir(), Device::Cpu, Some(2 * side as u32)).unwrap();
    let grid = 2 * side / patch;
    assert_eq!(wider.vision.positions.size()[0], 1 + grid * grid);
    assert_eq!(wider.vision.positions.get(0), plain.vision.positions.get(0));
    assert_eq!(i64::from(wider.preprocess.crop), 2 * side);
    // Interpolated values stay within the range of the originals, except for the overshoot of bicubic interpolation.
    let largest = |x: &Tensor| x.abs().max().double_value(&[]);
    assert!(largest(&wider.vision.positions) < 1.5 * largest(&plain.vision.positions));
    let told = Checkpoint::load_for(&fixture::model_dir(), Device::Cpu, Some(patch as u32 + 1)).unwrap_err();
    assert!(told.to_string().contains("not a multiple"), "{told}");
}

#[test]
fn interpolated_positions_equal_those_of_open_clip() {
    let Some(mut script) = peer("clip_positions.py") else { return };
    let plain = fixture::checkpoint();
    let patch = plain.config.vision_config.patch_size;
    // From 6 patches a side to fewer, to a few more, and to twice as many.
    let grids: [i64; 5] = [3, 5, 7, 10, 12];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("positions.safetensors");
    Tensor::write_safetensors(&[("positions", &plain.vision.positions)], &file).unwrap();
    let done = script.arg(&file).args(grids.map(|grid| grid.to_string())).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let theirs = Tensor::read_safetensors(&file).unwrap();
    let theirs = |name: String| theirs.iter().find(|(n, _)| *n == name).unwrap().1.shallow_clone();
    for grid in grids {
        let side = Some((grid * patch) as u32);
        let ours = Checkpoint::load_for(&fixture::model_dir(), Device::Cpu, side).unwrap().vision.positions;
        // Element by element, relative to the largest.
        let from = |theirs: Tensor| {
            assert_eq!(ours.size(), theirs.size());
            ((&ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[])
        };
        let (open_clip, transformers) =
            (from(theirs(format!("open_clip.{grid}"))), from(theirs(format!("transformers.{grid}"))));
        println!("{grid} patches a side: open_clip {open_clip:.1e}, transformers {transformers:.1e}");
        assert!(open_clip <= 1e-5, "{grid} patches a side: {open_clip:.1e}");
        assert!(
            transformers > 1e-3,
            "the two have come together; the comment of positions.rs has not: {transformers:.1e}"
        );
    }
}
