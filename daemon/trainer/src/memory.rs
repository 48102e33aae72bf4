//! Estimates whether a round fits into memory, before it starts.
//!
//! The estimate is for libtorch on the CPU with activations in single precision. It counts what grows with the model,
//! the pool, the classes and the batch; the program itself is part of `BASE`. On a GPU the estimate is compared with
//! the GPU's memory and leaves out the pixels of the pool, which stay in CPU memory ([`crate::round`] checks that
//! memory).

use crate::checkpoint::Checkpoint;
use crate::clip::autocast;
use crate::cuda;
use crate::error::RoundError;
use crate::pool::BATCHES;
use crate::prompts::{computes_context_apart, max_segments};
use coft_core::event::Stage;
use coft_core::settings::ContextInit;
use coft_core::spec::{Method, RoundSpec};
use std::fs;
use std::path::Path;
use sysinfo::System;
use tch::{Device, Kind};

/// Values that a block keeps for the backward pass, per token and unit of width: two norms, query, key, value, mixed
/// values, two residual sums, the hidden layer before and after its activation (4 each), and what the activation keeps
/// (4). [choice]
const KEPT: u64 = 20;
const FLOAT: u64 = 4;
/// Numbers per image and class that are kept until the end: probabilities of seven candidates on two views of an image,
/// those of zero-shot without the near-duplicates, and the similarities of both models. [choice]
const ANSWERS: u64 = 21;
/// libtorch, buffers and fragmentation, bytes. [choice]
const BASE: u64 = 300_000_000;

/// What a round needs, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Pixels of the pool and of the batches made ahead, the predictions for the pool, and the pretrained model.
    fixed: u64,
    /// What Phase I adds: a second copy of the weights, where they are cast.
    phase1: u64,
    /// What the two prompts of every class keep for the backward pass in Phase I.
    text: u64,
    /// The largest number of segments that the text features can be computed in.
    segments: usize,
    /// What Phase II adds: weights, gradients and moments of one encoder, and the weights of both models.
    phase2: u64,
    /// What a training image keeps for the backward pass.
    image: u64,
}

impl Estimate {
    /// `pixels` are the bytes of the pool, plus those of the student's pool if it reads its own.
    pub fn new(teacher: &Checkpoint, student: &Checkpoint, pixels: u64, spec: &RoundSpec) -> Self {
        let bytes = |checkpoint: &Checkpoint, prefix: &str| -> u64 {
            let named = checkpoint.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
            named.map(|(_, tensor)| tensor.numel() as u64 * FLOAT).sum()
        };
        let encoder = bytes(student, crate::clip::VisionTower::ENCODER);
        let distils = !std::ptr::eq(teacher, student);
        let pretrained = bytes(teacher, "") + if distils { bytes(student, "") } else { 0 };
        // On a GPU the gradients are joined into one tensor for each step.
        let copies = 5 + u64::from(spec.method == Method::CoftPlus) + u64::from(student.device.is_cuda());
        let prompts = match spec.method {
            Method::Coft | Method::CoftPlus | Method::Upl => prompts(teacher, spec),
            Method::ZeroShot | Method::SelfTraining | Method::Oracle => 0,
        };
        let image = |checkpoint: &Checkpoint| {
            let v = &checkpoint.config.vision_config;
            let side = (v.image_size / v.patch_size) as u64;
            let tokens = 1 + u64::from(spec.settings.phase1.visual_tokens) + side * side;
            v.num_hidden_layers as u64 * tokens * v.hidden_size as u64 * KEPT * FLOAT
        };
        // In bfloat16 the cast copies of the frozen weights are kept while the prompts are trained.
        let width = teacher.config.vision_config.hidden_size;
        let casts = match autocast::kind(spec.settings.mixed_precision, teacher.device, width) {
            Kind::BFloat16 => bytes(teacher, "") / 2,
            _ => 0,
        };
        let answers = spec.images.len() as u64 * spec.classes.len() as u64 * ANSWERS * FLOAT;
        let pixels = if teacher.device == Device::Cpu { pixels } else { 0 };
        let views = if spec.method == Method::CoftPlus { 2 } else { 1 };
        let batch = spec.settings.phase1.sgd.batch.max(views * spec.settings.phase2.sgd.batch);
        let side = |checkpoint: &Checkpoint| checkpoint.config.vision_config.image_size as u64;
        let side = side(teacher).max(side(student));
        let batches = BATCHES as u64 * u64::from(batch) * 3 * side * side * FLOAT;
        let fixed = BASE + pixels + batches + answers + pretrained;
        let image = image(teacher).max(image(student));
        Self {
            fixed,
            phase1: casts,
            text: prompts,
            segments: max_segments(spec.classes.len()),
            phase2: copies * encoder,
            image,
        }
    }

    /// The part of this estimate that a training of `stage` needs.
    pub fn of(self, stage: Stage) -> Self {
        match stage {
            Stage::Phase2Model1 | Stage::Phase2Model2 => Self { phase1: 0, text: 0, segments: 0, ..self },
            _ => Self { phase2: 0, ..self },
        }
    }

    /// The number of micro-batches that a batch has to be computed in to fit into `available` bytes. In Phase I the
    /// text features are computed in about as many segments. An error where one image does not fit.
    pub fn micro_batches(self, batch: usize, available: u64) -> Result<usize, RoundError> {
        let needed = |micro_batches: usize| {
            let (text, images) =
                (self.text.div_ceil(micro_batches as u64), batch.div_ceil(micro_batches) as u64 * self.image);
            // With micro-batches, the memory of the images is free again when the text features are computed again.
            let prompted = if micro_batches > 1 { text.max(images) } else { text + images };
            self.fixed + (self.phase1 + prompted).max(self.phase2 + images)
        };
        let mut micro_batches = 1;
        while needed(micro_batches) > available {
            if micro_batches >= batch.max(self.segments) {
                return Err(RoundError::Memory { needed: needed(micro_batches), available });
            }
            micro_batches *= 2;
        }
        Ok(micro_batches)
    }
}

/// Bytes that the positive and the negative prompt of every class keep for the backward pass: the class name, the text
/// after it and the end token, padded to the longest; and the start token and the context, as far as each class
/// computes its own.
fn prompts(teacher: &Checkpoint, spec: &RoundSpec) -> u64 {
    let t = &teacher.config.text_config;
    let (begin, rest) = spec.template.split_once("{}").unwrap_or_default();
    // The start token is counted with the context.
    let tokens = |class: &String| teacher.tokens(&(class.replace('_', " ") + rest)).len() as u64 - 1;
    let longest = spec.classes.iter().map(tokens).max().unwrap_or(0);
    let words = teacher.tokens(begin).len() as u64 - 2;
    let context = 1 + match spec.settings.phase1.context {
        ContextInit::Template if words > 0 => words,
        _ => u64::from(spec.settings.phase1.context_tokens),
    };
    let of_class = match computes_context_apart(teacher.device, spec.classes.len()) {
        true => longest * KEPT + context * 2, // the context's keys and values
        false => (context + longest) * KEPT,
    };
    2 * spec.classes.len() as u64 * of_class * t.num_hidden_layers as u64 * t.hidden_size as u64 * FLOAT
}

/// Memory that this process may still use, bytes: that of the GPU; or that of the machine or of one of its control
/// groups, whichever is less. `None` where it is unknown.
pub fn available(device: Device) -> Option<u64> {
    if device != Device::Cpu {
        return cuda::memory().map(|memory| memory.free);
    }
    let mut system = System::new();
    system.refresh_memory();
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|line| free_in_groups(Path::new("/sys/fs/cgroup"), line));
    Some(group.unwrap_or(u64::MAX).min(system.available_memory()))
}

/// Bytes that the limits of a control group and of its ancestors leave; `None` where none of them has a limit. `line`
/// is the content of /proc/self/cgroup; only its line for version 2 is used, not version 1 (cgroups(7)). Cached files
/// count as free, since the kernel evicts them.
fn free_in_groups(root: &Path, line: &str) -> Option<u64> {
    let path = line.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let free = |group: &Path| {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        // The file holds "max" where there is no limit.
        let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min()?;
        let used = number("memory.current")?;
        let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
        let of = |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        let cached = of("inactive_file ").unwrap_or(0) + of("active_file ").unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    };
    root.join(path).ancestors().take_while(|group| group.starts_with(root)).filter_map(free).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;

    #[test]
    fn a_batch_is_split_until_it_fits_and_refused_with_numbers_where_one_image_does_not() {
        let estimate = Estimate { fixed: 800, phase1: 50, text: 0, segments: 0, phase2: 200, image: 10 };
        assert_eq!(estimate.micro_batches(64, 1640).unwrap(), 1);
        assert_eq!(estimate.micro_batches(64, 1639).unwrap(), 2);
        assert_eq!(estimate.micro_batches(64, 1010).unwrap(), 64);
        let refused = estimate.micro_batches(64, 1009).unwrap_err().to_string();
        assert_eq!(refused, "the round needs 1010 B of memory even with one image at a time; 1009 B are free");
    }

    #[test]
    fn the_text_of_many_classes_is_split_with_the_batch_and_further() {
        let estimate = Estimate { fixed: 800, phase1: 50, text: 1000, segments: 200, phase2: 200, image: 10 };
        assert_eq!(estimate.micro_batches(64, 800 + 50 + 1000 + 640).unwrap(), 1);
        assert_eq!(estimate.micro_batches(64, 800 + 50 + 500).unwrap(), 2, "text and images one after the other");
        assert_eq!(estimate.micro_batches(1, 800 + 200 + 10).unwrap(), 8, "more micro-batches than images");
        assert!(estimate.micro_batches(64, 800 + 200 + 9).is_err());
        let of = |stage| estimate.of(stage);
        assert_eq!(of(Stage::Phase2Model1).micro_batches(64, 800 + 200 + 640).unwrap(), 1, "which has no text");
        assert_eq!(of(Stage::Phase1Model1).micro_batches(64, 800 + 50 + 125).unwrap(), 8);
        assert_eq!(of(Stage::Phase1Model1).micro_batches(1, 800 + 50 + 10).unwrap(), 128);
    }

    #[test]
    fn the_narrowest_control_group_decides_and_cached_files_count_as_free() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, files: [(&str, &str); 3]| {
            let dir = root.path().join(path);
            fs::create_dir_all(&dir).unwrap();
            for (name, text) in files {
                fs::write(dir.join(name), text).unwrap();
            }
        };
        let free = || free_in_groups(root.path(), "0::/system.slice/coftd.service\n");
        assert_eq!(free(), None, "no limit anywhere");
        let stat = ("memory.stat", "anon 70\ninactive_file 20\nactive_file 10\n");
        group("system.slice", [("memory.max", "500\n"), ("memory.current", "100\n"), stat]);
        group("system.slice/coftd.service", [("memory.max", "max\n"), ("memory.current", "100\n"), stat]);
        assert_eq!(free(), Some(430));
        group("system.slice/coftd.service", [("memory.max", "120\n"), ("memory.current", "100\n"), stat]);
        assert_eq!(free(), Some(50));
    }

    #[test]
    fn the_demo_model_fits_anywhere_and_contrast_costs_an_encoder() {
        let bench = Bench::new(1);
        let of = |method| Estimate::new(&bench.checkpoint, &bench.checkpoint, 100_000, &bench.spec(method));
        let plus = of(Method::CoftPlus);
        assert!(plus.phase2 > of(Method::Coft).phase2);
        let megabytes = (plus.fixed + plus.phase2 + 64 * plus.image) / 1_000_000;
        assert!((300..1000).contains(&megabytes), "{megabytes} MB");
        assert!(available(Device::Cpu).unwrap() > 0);
    }

    /// The estimate did not count classes, but a round of a thousand classes took 113 MB more than one of ten.
    #[test]
    fn a_thousand_classes_are_counted() {
        let bench = Bench::new(1);
        let text = |classes| {
            let spec = RoundSpec { classes, ..bench.spec(Method::Coft) };
            Estimate::new(&bench.checkpoint, &bench.checkpoint, 0, &spec).text
        };
        let megabytes =
            (text(vec!["black zinc hex bolt".to_owned(); 1000]) - text(crate::fixture::classes())) / 1_000_000;
        assert!((100..140).contains(&megabytes), "{megabytes} MB");
    }
}
