//! What the last bits of a round depend on, beside its spec.
//!
//! The same sums in another order end with other last bits. The order is that of the kernels which libtorch, oneDNN and
//! MKL choose for this processor, of the number of threads, and of the micro-batches that a batch is computed in. A
//! round therefore ends with the same bits where all of these are the same; elsewhere it ends near them, as good. Here
//! is what tells whether a journal goes on where it was begun.

use crate::clip::to_f32;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, no_grad};

/// Variables by which libtorch, oneDNN and MKL are told which instructions to take.
const VARIABLES: [&str; 5] =
    ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"];

/// Facts by name, a line each: `name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic(BTreeMap<&'static str, String>);

impl Arithmetic {
    /// Of this process, once its number of threads is set. `kind` is what trainings multiply matrices in,
    /// `micro_batches` how many a batch is computed in.
    pub fn here(device: Device, kind: Kind, micro_batches: usize) -> Self {
        let set = VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        let facts = [
            ("device", format!("{device:?}").to_lowercase()),
            ("libtorch", libtorch().unwrap_or_else(|| "unknown".to_owned())),
            ("parts", micro_batches.to_string()), // as journals name it
            ("products", format!("{kind:?}").to_lowercase()),
            ("processor", processor()),
            ("sample", sample(device)),
            ("threads", tch::get_num_threads().to_string()),
            ("variables", set.collect::<Vec<_>>().join(" ")),
        ];
        Self(facts.into_iter().collect())
    }

    /// The digest of a computation.
    #[cfg(test)]
    pub fn sample(&self) -> &str {
        &self.0["sample"]
    }

    /// How these facts differ from those that [`Arithmetic::to_string`] gave `before`.
    pub fn changed_since(&self, before: &str) -> Option<String> {
        let before: BTreeMap<&str, &str> = before.lines().filter_map(|line| line.split_once(": ")).collect();
        let was = |name: &str| before.get(name).copied().unwrap_or("unknown");
        let changed: Vec<String> = self
            .0
            .iter()
            .filter(|(name, now)| was(name) != now.as_str())
            .map(|(name, now)| match *name {
                "libtorch" | "sample" => format!("another {name}"),
                name => format!("{name} {now:?} instead of {:?}", was(name)),
            })
            .collect();
        (!changed.is_empty()).then(|| changed.join(", "))
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(out, "{name}: {value}"))
    }
}

/// The processor's name and the instructions that kernels are chosen by.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let id = raw_cpuid::CpuId::new();
        let name = id.get_processor_brand_string().map(|brand| brand.as_str().trim().to_owned()).unwrap_or_default();
        let features = id.get_extended_feature_info();
        let has = |of: fn(&raw_cpuid::ExtendedFeatures) -> bool| features.as_ref().is_some_and(of);
        let known = [
            ("avx2", has(raw_cpuid::ExtendedFeatures::has_avx2)),
            ("avx512f", has(raw_cpuid::ExtendedFeatures::has_avx512f)),
            ("avx512bw", has(raw_cpuid::ExtendedFeatures::has_avx512bw)),
            ("avx512vnni", has(raw_cpuid::ExtendedFeatures::has_avx512vnni)),
            ("avx512bf16", has(raw_cpuid::ExtendedFeatures::has_avx512_bf16)),
            ("amx-bf16", has(raw_cpuid::ExtendedFeatures::has_amx_bf16)),
        ];
        let found = known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name);
        std::iter::once(name.as_str()).chain(found).collect::<Vec<_>>().join(" ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_owned()
}

/// Which libtorch is loaded: the length of its file, and the digest of its first page, where its build id is.
fn libtorch() -> Option<String> {
    const NAME: &str = "/libtorch_cpu.so";
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().find_map(|line| Some(PathBuf::from(&line[line.find('/')?..])).filter(|_| line.ends_with(NAME)))?;
    let mut page = Vec::new();
    File::open(&path).ok()?.take(4096).read_to_end(&mut page).ok()?;
    Some(format!("{} {:x}", fs::metadata(&path).ok()?.len(), Sha256::digest(&page)))
}

/// The digest of a small computation with every kind of kernel that a round takes, so that kernels differ by what they
/// compute and not by their names alone.
fn sample(device: Device) -> String {
    // Values that every machine makes alike: integers over a power of two.
    let values = |shape: &[i64], step: i64| {
        let count: i64 = shape.iter().product();
        let integers = (Tensor::arange(count, (Kind::Int64, device)) * step).remainder(509) - 254;
        integers.to_kind(Kind::Float).view(shape) / 256.0
    };
    let found = no_grad(|| {
        let (x, weight, bias) = (values(&[67, 192], 7), values(&[160, 192], 31), values(&[160], 5));
        let hidden = x.linear(&weight, Some(&bias));
        let activated = hidden.gelu("none") + (&hidden * 1.702).sigmoid();
        let normed = activated.layer_norm([160], None::<&Tensor>, None::<&Tensor>, 1e-5, false);
        let attended = normed.view([1, 67, 4, 40]).transpose(1, 2);
        let weights = attended.matmul(&attended.transpose(-1, -2)).softmax(-1, Kind::Float);
        let pixels =
            values(&[2, 3, 32, 32], 11).conv2d(&values(&[24, 3, 8, 8], 13), None::<&Tensor>, [8, 8], [0, 0], [1, 1], 1);
        let sums = normed.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
        let loss = weights.log_softmax(-1, Kind::Float);
        Tensor::cat(&[weights.flatten(0, -1), pixels.flatten(0, -1), sums, loss.flatten(0, -1)], 0)
    });
    let mut hash = Sha256::new();
    to_f32(&found).iter().for_each(|value| hash.update(value.to_le_bytes()));
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_process_computes_the_same_and_another_machine_is_noticed() {
        let here = Arithmetic::here(Device::Cpu, Kind::Float, 1);
        assert_eq!(here, Arithmetic::here(Device::Cpu, Kind::Float, 1));
        assert!(here.0.values().all(|value| value != "unknown"), "{here}");
        let text = here.to_string();
        assert_eq!(here.changed_since(&text), None);
        let threads = format!("threads: {}\n", here.0["threads"]);
        let elsewhere = text.replace(&threads, "threads: 1000\n").replace("sample: ", "sample: 0");
        let told = here.changed_since(&elsewhere).unwrap();
        assert_eq!(told, format!("another sample, threads {:?} instead of \"1000\"", here.0["threads"]));
        assert!(here.changed_since("").is_some(), "of a journal that does not say");
    }
}
