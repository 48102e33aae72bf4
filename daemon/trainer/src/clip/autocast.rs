//! Mixed precision: matrix products of the towers in bfloat16, everything else in single precision.
//!
//! It works like PyTorch's autocast, which tch offers for CUDA alone. The casts are part of the graph, so gradients
//! reach the weights in single precision.

use coft_core::settings::MixedPrecision;
use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// Smallest width of an image tower at which bfloat16 is used on a CPU: at width 128 nothing was gained, at 768 much
/// (decisions/0014). [choice]
const WIDE: i64 = 512;

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Float) };
}

/// Restores the previous kind when it is dropped, also in a panic.
struct Restored(Kind);

impl Drop for Restored {
    fn drop(&mut self) {
        KIND.set(self.0);
    }
}

/// Runs `f` with the matrix products of this thread's towers computed in `kind`.
pub fn autocast<T>(kind: Kind, f: impl FnOnce() -> T) -> T {
    let _restored = Restored(KIND.replace(kind));
    f()
}

/// `x` cast to the kind that matrix products use; the same tensor if it has that kind already.
pub fn cast(x: &Tensor) -> Tensor {
    x.to_kind(KIND.get())
}

/// The kind that `setting` means for an image tower of `width` on `device`. On a CPU `auto` depends on the processor
/// model, never on a measurement, so that a round stays a function of its seed. On a GPU `auto` is single precision
/// (decisions/0015).
pub fn kind(setting: MixedPrecision, device: Device, width: i64) -> Kind {
    let pays = || device == Device::Cpu && width >= WIDE && has_matrix_units();
    match setting {
        MixedPrecision::Bf16 => Kind::BFloat16,
        MixedPrecision::Auto if pays() => Kind::BFloat16,
        MixedPrecision::Auto | MixedPrecision::Off => Kind::Float,
    }
}

/// Whether this processor has instructions for bfloat16 matrix products (AMX-BF16).
fn has_matrix_units() -> bool {
    #[cfg(target_arch = "x86_64")]
    return raw_cpuid::CpuId::new().get_extended_feature_info().is_some_and(|features| features.has_amx_bf16());
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::VisionTower;
    use crate::{fixture, random};

    #[test]
    fn gradients_arrive_in_single_precision_and_point_the_same_way() {
        let checkpoint = fixture::checkpoint();
        let side = checkpoint.config.vision_config.image_size;
        let pixels = random::normal(&mut random::stream(1, "test"), &[4, 3, side, side], 1.0, Device::Cpu);
        let gradients = |kind| {
            let weights = checkpoint.tensors.trainable(VisionTower::ENCODER);
            let projection = checkpoint.vision.projection.shallow_clone();
            let tower = VisionTower::with_projection(&checkpoint.config, &weights, projection).unwrap();
            let loss = autocast(kind, || tower.embed(&pixels, None).square().sum(Kind::Float));
            let named: Vec<&Tensor> = weights.iter().map(|(_, weight)| weight).collect();
            Tensor::run_backward(&[loss], &named, false, false)
        };
        let (single, half) = (gradients(Kind::Float), gradients(Kind::BFloat16));
        assert!(single.iter().zip(&half).any(|(a, b)| !a.equal(b)), "something was computed in bfloat16");
        let dot = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
        let (mut along, mut lengths) = (0.0, [0.0, 0.0]);
        for (a, b) in single.iter().zip(&half) {
            assert_eq!(b.kind(), Kind::Float);
            along += dot(a, b);
            lengths = [lengths[0] + dot(a, a), lengths[1] + dot(b, b)];
        }
        let cosine = along / (lengths[0] * lengths[1]).sqrt();
        assert!(cosine > 0.999, "{cosine}");
    }

    #[test]
    fn the_kind_holds_within_alone_and_a_panic_sets_it_back() {
        let one = Tensor::from_slice(&[1.0f32]);
        assert_eq!(autocast(Kind::BFloat16, || cast(&one).kind()), Kind::BFloat16);
        assert_eq!(cast(&one).kind(), Kind::Float);
        assert!(std::panic::catch_unwind(|| autocast(Kind::BFloat16, || panic!("as when memory ends"))).is_err());
        assert_eq!(cast(&one).kind(), Kind::Float);
    }

    #[test]
    fn what_is_narrow_or_on_a_gpu_stays_in_single_precision_unless_asked() {
        assert_eq!(kind(MixedPrecision::Auto, Device::Cpu, 128), Kind::Float);
        assert_eq!(kind(MixedPrecision::Auto, Device::Cuda(0), 768), Kind::Float);
        assert_eq!(kind(MixedPrecision::Off, Device::Cpu, 768), Kind::Float);
        assert_eq!(kind(MixedPrecision::Bf16, Device::Cpu, 128), Kind::BFloat16);
    }
}
