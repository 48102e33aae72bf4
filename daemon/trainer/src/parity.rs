//! Compares the towers, losses and gradients with PyTorch's (`tests/peers/coft_torch.py`, on transformers' CLIPModel),
//! in single precision on the same weights and batches.
//!
//! Two tensors differ by ‖ours − theirs‖₂ / ‖theirs‖₂. B images of a batch, C classes, D embedding width.

use crate::checkpoint::Checkpoint;
use crate::clip::tensors::to_safetensors;
use crate::clip::text::padded;
use crate::clip::{TextTower, normalised};
use crate::fit::Objective;
use crate::fixture;
use crate::phase1;
use crate::phase2::{Clean, FineTuning};
use crate::pool::{Batch, Pool};
use crate::prompts::{ClassTokens, Prompts};
use crate::random;
use coft_core::candidate::ModelIndex;
use coft_core::settings::{ContextInit, Contrast, Phase1, Phase2};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::{Device, IndexOp, Kind, Tensor, no_grad};

/// Largest relative difference of a tensor.
const TOLERANCE: f64 = 1e-5;

/// The tensors that the PyTorch script computes from `given`.
fn theirs(model: &Path, phase: &str, given: &[(&str, Tensor)]) -> BTreeMap<String, Tensor> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("given.safetensors"), to_safetensors(given)).unwrap();
    std::fs::write(dir.path().join("model"), model.to_str().unwrap()).unwrap();
    let python = std::env::var_os("COFT_TEST_PYTHON").expect("run by `cargo xtask test`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/coft_torch.py");
    let mut command = Command::new(python);
    command.arg(script).arg("check").arg(dir.path()).args(["--phase", phase]);
    let output = command.env("HF_HUB_OFFLINE", "1").env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Tensor::read_safetensors(dir.path().join("found.safetensors")).unwrap().into_iter().collect()
}

fn length(x: &Tensor) -> f64 {
    x.to_kind(Kind::Double).norm().double_value(&[])
}

/// Both sides have the same tensors, and they agree. `scale` names the tensor by whose length a difference is divided.
fn agree(ours: &BTreeMap<String, Tensor>, theirs: &BTreeMap<String, Tensor>, scale: impl Fn(&str) -> String) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let difference = |(name, their): (&String, &Tensor)| {
        let our = &ours[name];
        assert_eq!(our.size(), their.size(), "{name}");
        (length(&(our - their)) / length(&theirs[&scale(name)]), name.clone())
    };
    let mut differences: Vec<(f64, String)> = theirs.iter().map(difference).collect();
    differences.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("{} tensors, the worst: {:?}", differences.len(), &differences[..differences.len().min(3)]);
    // `<=` and not "none is above": NaN must fail too.
    let agreed = differences.iter().all(|(difference, _)| *difference <= TOLERANCE);
    assert!(agreed, "{differences:?}");
}

/// A model with class names and a template from its training. For unknown names, all features are nearly alike.
struct Known {
    model: PathBuf,
    classes: Vec<String>,
    template: &'static str,
}

/// The embedded model, and the small real one where there is test data.
fn models() -> Vec<Known> {
    let demo = Known { model: fixture::model_dir(), classes: fixture::classes(), template: fixture::TEMPLATE };
    let Some(data) = std::env::var_os("COFT_TEST_DATA") else {
        println!("mini_clip64 skipped: no data");
        return vec![demo];
    };
    let words = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse"];
    let classes = words.map(str::to_owned).into();
    vec![demo, Known { model: Path::new(&data).join("mini_clip64"), classes, template: "a photo of a {}." }]
}

/// Loads the checkpoint, and some pictures as it reads them, [B, 3, S, S].
fn opened(model: &Path) -> (Checkpoint, Tensor) {
    let checkpoint = Checkpoint::load(model, Device::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let images = fixture::images(dir.path(), 1);
    let paths: Vec<&Path> = images.iter().map(|image| image.path.as_path()).collect();
    let pixels = {
        let pool = Pool::load(&paths, &checkpoint.preprocess, Device::Cpu).unwrap();
        pool.batch(&(0..pool.len()).collect::<Vec<_>>())
    };
    (checkpoint, pixels)
}

/// Ids [C, window] and the positions of the end tokens.
fn whole_window(checkpoint: &Checkpoint, ids: &[Vec<i64>]) -> (Tensor, Tensor) {
    let (ids, ends) = padded(ids, Device::Cpu);
    (ids.constant_pad_nd([0, checkpoint.text.window() - ids.size()[1]]), Tensor::from_slice(&ends))
}

#[test]
fn features_are_those_of_transformers() {
    for Known { model, classes, template } in models() {
        let (checkpoint, pixels) = opened(&model);
        let prompts = checkpoint.prompts(template, &classes, 0).unwrap();
        let (short, ends) = padded(&prompts, Device::Cpu);
        let (ids, _) = whole_window(&checkpoint, &prompts);
        let ours = no_grad(|| {
            let text = checkpoint.text.embed(&checkpoint.text.token_embeddings(&short), &ends);
            [("image".to_owned(), checkpoint.vision.embed(&pixels, None)), ("text".to_owned(), text)].into()
        });
        let theirs = theirs(&model, "features", &[("pixels", pixels), ("ids", ids)]);
        agree(&ours, &theirs, str::to_owned);
    }
}

#[test]
fn losses_and_gradients_of_phase_1_are_pytorchs() {
    let contexts = [ContextInit::Template, ContextInit::Random];
    for (Known { model, classes, template }, context) in
        models().iter().flat_map(|known| contexts.map(|context| (known, context)))
    {
        let (checkpoint, pixels) = opened(model);
        // Contexts far apart. If they were nearly alike, the gradient of the negative loss would be a small difference
        // of large terms, which single precision cannot resolve.
        let settings = Phase1 { context, context_deviation: 0.5, ..Phase1::default() };
        let tokens = ClassTokens::new(&checkpoint, template, classes, &settings).unwrap();
        let prompts = Prompts::new(&checkpoint, &tokens, &settings, 3, "parity");
        let pool = Pool::load(&[], &checkpoint.preprocess, Device::Cpu).unwrap();
        let task = fixture::prompt_tuning(&checkpoint, &pool, &tokens, &settings);
        let labels = Tensor::arange(pixels.size()[0], (Kind::Int64, Device::Cpu)).remainder(classes.len() as i64);
        let complements = (&labels + 1).remainder(classes.len() as i64);

        let parameters: Vec<Tensor> = prompts.named().into_iter().map(|(_, prompt)| prompt).collect();
        let (supervised, negative) =
            phase1::losses(&task, &prompts, prompts.text(&checkpoint, &tokens), &pixels, (&labels, &complements));
        let mut ours = BTreeMap::new();
        for (name, loss) in [("supervised", &supervised), ("negative", &negative)] {
            ours.insert(name.to_owned(), loss.detach());
            let gradients = Tensor::run_backward(&[loss], &parameters, true, false);
            for (prompt, gradient) in ["positive", "negative", "visual"].iter().zip(gradients) {
                // The supervised loss does not reach the negative prompt. Its gradient is zero here, because both
                // prompts share a batch.
                if gradient.defined() && length(&gradient) > 0.0 {
                    ours.insert(format!("{name} of {prompt}"), gradient);
                }
            }
        }
        let (ids, ends) = whole_window(&checkpoint, &tokens.ids);
        let [positive, negative, visual] = [0, 1, 2].map(|i| parameters[i].detach());
        let given = [
            ("ids", ids),
            ("ends", ends),
            ("positive", positive),
            ("negative", negative),
            ("visual", visual),
            ("pixels", pixels),
            ("labels", labels),
            ("complements", complements),
        ];
        let theirs = theirs(model, "phase1", &given);
        assert_eq!(theirs.len(), 7);
        agree(&ours, &theirs, str::to_owned);
    }
}

/// The loss and gradients of the first step of Phase II; or, with momentum contrast, those of the second step after a
/// plain step of gradient descent.
fn phase_2(contrast: bool) {
    for Known { model, classes, .. } in models() {
        let checkpoint = Checkpoint::load(&model, Device::Cpu).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let images = fixture::images(dir.path(), 1);
        let paths: Vec<&Path> = images.iter().map(|image| image.path.as_path()).collect();
        let pool = Pool::load(&paths, &checkpoint.preprocess, Device::Cpu).unwrap();
        let positions = pool.everything();
        let (pixels, other) = (pool.batch(&positions), pool.shifted(&positions));
        let classes = classes.len();
        let width = checkpoint.vision.projection.size()[0];
        let text =
            normalised(&random::normal(&mut random::stream(3, "parity"), &[classes as i64, width], 1.0, Device::Cpu));
        let labels: Vec<usize> = positions.iter().map(|image| image % classes).collect();
        // Momentum that moves the keys visibly, and a weight that makes the contrast loss visible beside the other.
        let of_contrast = Contrast { weight: 0.5, momentum: 0.5, temperature: 0.2, ..Contrast::default() };
        let settings = Phase2 { contrast: of_contrast.clone(), ..Phase2::default() };
        let task = FineTuning {
            checkpoint: &checkpoint,
            pool: &pool,
            text: &text,
            embedding_norm: 10.0,
            settings: &settings,
            flip: false,
            contrast,
            seed: 3,
            model: ModelIndex::First,
        };
        let kept = vec![true; labels.len()];
        let clean = Clean { kept: &kept, labels: &labels };
        let mut objective = task.objective(&clean, "parity");
        let batch = Batch { step: 0, views: vec![pixels.shallow_clone(), other.shallow_clone()], positions };
        let short = |name: String| name.strip_prefix("head.").map(str::to_owned).unwrap_or(name);
        let parameters: Vec<(String, Tensor)> =
            objective.parameters().into_iter().map(|(name, tensor)| (short(name), tensor)).collect();
        let head = parameters.iter().filter(|(name, _)| ["weight", "bias"].contains(&&name[..]));
        let head: BTreeMap<String, Tensor> =
            head.map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect();

        let inputs: Vec<&Tensor> = parameters.iter().map(|(_, parameter)| parameter).collect();
        let learn = |objective: &mut dyn Objective| {
            let terms = objective.losses(&batch, 0..labels.len());
            let loss = terms.iter().map(|(_, term)| term.shallow_clone()).reduce(|a, b| a + b).unwrap();
            let gradients = Tensor::run_backward(&[&loss], &inputs, false, false);
            (terms.len(), loss.detach(), gradients)
        };
        let (terms, mut loss, mut gradients) = learn(&mut objective);
        assert_eq!(terms, 1);
        const RATE: f64 = 0.01;
        if contrast {
            tch::no_grad(|| {
                for (parameter, gradient) in inputs.iter().zip(&gradients) {
                    let _ = parameter.shallow_clone().g_sub_(&(gradient * RATE));
                }
            });
            objective.stepped();
            let terms;
            (terms, loss, gradients) = learn(&mut objective);
            assert_eq!(terms, 2);
        }
        let mut ours: BTreeMap<String, Tensor> =
            parameters.iter().zip(gradients).map(|((name, _), gradient)| (name.clone(), gradient)).collect();
        ours.insert("loss".to_owned(), loss);

        let Contrast { weight, momentum, temperature, .. } = of_contrast;
        let numbers = [RATE, momentum, temperature, weight, (pool.len() / 2) as f64];
        let labels = Tensor::from_slice(&labels.iter().map(|&label| label as i64).collect::<Vec<_>>());
        let numbers = Tensor::from_slice(&numbers.map(|number| number as f32));
        let mut given = vec![("pixels", pixels), ("other", other), ("labels", labels), ("numbers", numbers)];
        given.extend(head.iter().map(|(name, tensor)| (&name[..], tensor.shallow_clone())));
        // The bias of the keys shifts all scores of a query equally, and softmax ignores such a shift. So its gradient
        // is zero except for rounding, and is compared on the scale of the gradient of the keys' weight.
        let theirs = theirs(&model, if contrast { "contrast" } else { "phase2" }, &given);
        agree(&ours, &theirs, |name| name.replace("k_proj.bias", "k_proj.weight"));
    }
}

#[test]
fn losses_and_gradients_of_phase_2_are_pytorchs() {
    phase_2(false);
}

#[test]
fn losses_and_gradients_of_momentum_contrast_are_pytorchs() {
    phase_2(true);
}

#[test]
fn prompts_computed_by_their_parts_are_the_same_as_whole() {
    let checkpoint = fixture::checkpoint();
    let (ids, ends) = padded(&checkpoint.prompts(fixture::TEMPLATE, &fixture::classes(), 0).unwrap(), Device::Cpu);
    let (tower, m) = (&checkpoint.text, 3);
    no_grad(|| {
        let whole = tower.token_embeddings(&ids);
        let beginnings = Tensor::cat(&[whole.i((0..1, 0..m)), whole.i((0..1, 0..m)) * 2.0], 0);
        let ends_behind: Vec<i64> = ends.iter().map(|end| end - m).collect();
        let endings = whole.i((.., m..));
        let doubled = Tensor::cat(&[whole.i((.., 0..m)) * 2.0, endings.shallow_clone()], 1);
        let expected = Tensor::cat(&[tower.embed(&whole, &ends), tower.embed(&doubled, &ends)], 0);
        for embed in [TextTower::embed_pairs, TextTower::embed_pairs_apart] {
            let difference =
                length(&(embed(tower, &beginnings, &endings, &ends_behind) - &expected)) / length(&expected);
            assert!(difference < 1e-6, "{difference}");
        }
    });
}
