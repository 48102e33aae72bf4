//! What the last bits of a round's result depend on, besides its spec.
//!
//! Floating-point sums that are taken in another order have other last bits. The order depends on the kernels that
//! libtorch, oneDNN and MKL choose for this processor, on the number of threads, and on the micro-batches that a batch
//! is computed in. So a round ends with the same bits where all of these are the same. Elsewhere its result is near and
//! as good. The facts in this module show whether a journal is continued under the arithmetic that began it.

use crate::clip::to_f32;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, no_grad};

/// Environment variables that limit the instructions that libtorch, oneDNN and MKL use.
const VARIABLES: [&str; 5] =
    ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"];

/// Facts by name. Written as text, each is a line: `name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic(BTreeMap<&'static str, String>);

impl Arithmetic {
    /// The facts of this process. Call it after the number of threads is set. `kind` is the element type of the matrix
    /// products in training, `micro_batches` the number of micro-batches that a batch is computed in.
    pub fn here(device: Device, kind: Kind, micro_batches: usize) -> Self {
        let set = VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        let facts = [
            ("device", format!("{device:?}").to_lowercase()),
            ("libtorch", libtorch().unwrap_or_else(|| "unknown".to_owned())),
            ("parts", micro_batches.to_string()), // the name that journals use
            ("products", format!("{kind:?}").to_lowercase()),
            ("processor", processor()),
            ("sample", sample(device)),
            ("threads", tch::get_num_threads().to_string()),
            ("variables", set.collect::<Vec<_>>().join(" ")),
        ];
        Self(facts.into_iter().collect())
    }

    /// The digest of the sample computation.
    #[cfg(test)]
    pub fn sample(&self) -> &str {
        &self.0["sample"]
    }

    /// The differences between these facts and `before`, which an earlier [`Arithmetic::to_string`] returned.
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

/// The processor's name and the instruction sets by which libraries choose their kernels.
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

/// Identifies the libtorch that is loaded: the length of its file, and the digest of its first page, which holds the
/// build id.
fn libtorch() -> Option<String> {
    const NAME: &str = "/libtorch_cpu.so";
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().find_map(|line| Some(PathBuf::from(&line[line.find('/')?..])).filter(|_| line.ends_with(NAME)))?;
    let mut page = Vec::new();
    File::open(&path).ok()?.take(4096).read_to_end(&mut page).ok()?;
    Some(format!("{} {:x}", fs::metadata(&path).ok()?.len(), Sha256::digest(&page)))
}

/// The digest of a small computation that uses every kind of kernel that a round uses. It shows differences in what the
/// kernels compute, not only in their names.
fn sample(device: Device) -> String {
    // Inputs that are equal on every machine: integers divided by a power of two.
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
