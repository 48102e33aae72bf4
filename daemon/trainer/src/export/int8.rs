//! Linear layers whose matrix products use 8-bit integers.
//!
//! Weights have one scale per output, which is known at export. Inputs are rounded at run time with a scale of their
//! own for each token. So the answer for an image does not depend on the others in its batch, and no calibration is
//! needed. The layers are written with QuantizeLinear and DequantizeLinear, so that a runtime without 8-bit products
//! computes the same in single precision. No processor's kernels overflow (see [`PAIR_TOP`]), so all of them give the
//! same answers.

use super::graph::{Attribute, Graph, Value};
use crate::clip::block::Linear;
use tch::Tensor;

/// Largest magnitude of a weight after rounding.
const WEIGHT_TOP: f64 = 127.0;
/// Largest magnitude of the sum of two neighbouring weights with the same sign, after rounding.
///
/// x86 processors without VNNI multiply 8-bit integers in pairs (PMADDUBSW): two inputs of 0 to 255 times two weights;
/// the sum of both products saturates at 16 bits. 255 · 128 is the largest that fits. So a pair whose weights add up to
/// at most 128 never saturates, and these processors compute the same as all others. The steps are chosen for 127,
/// since rounding may add one. [choice, docs/export.md]
const PAIR_TOP: f64 = 127.0;
/// Added before rounding where the values have a lower bound: neither kind of GELU is less than −0.17.
const GELU_FLOOR: f32 = 0.17;
/// Smallest magnitude that a token is scaled by, so that a token of zeros is not divided by zero.
const LEAST: f32 = 1e-12;

/// The range of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    AroundZero,
    /// Outputs of a GELU, which are hardly below zero.
    AboveGeluFloor,
}

/// Values of [B, L, W] after rounding, divided by each token's scale [B, L, 1].
#[derive(Debug)]
pub struct Rounded {
    values: Value,
    scale: Value,
    range: Range,
}

impl Rounded {
    pub fn new(graph: &mut Graph, x: &Value, range: Range) -> Self {
        let axis = graph.integers("axes.last", &[-1]);
        let (x, magnitude, steps, zero) = match range {
            Range::AroundZero => {
                let magnitude = graph.node("Abs", &[x], &[]);
                (x.clone(), magnitude, graph.scalar("int8.step", 1.0 / 127.0), graph.byte("int8.middle", 128))
            }
            Range::AboveGeluFloor => {
                let floor = graph.scalar("int8.floor", GELU_FLOOR);
                let raised = graph.node("Add", &[x, &floor], &[]);
                (raised.clone(), raised, graph.scalar("int8.step.floor", 1.0 / 255.0), graph.byte("int8.bottom", 0))
            }
        };
        let largest = graph.node("ReduceMax", &[&magnitude, &axis], &[Attribute::Int("keepdims", 1)]); // [B, L, 1]
        let least = graph.scalar("int8.least", LEAST);
        let largest = graph.node("Max", &[&largest, &least], &[]);
        let scale = graph.node("Mul", &[&largest, &steps], &[]);
        let divided = graph.node("Div", &[&x, &scale], &[]);
        let one = graph.scalar("int8.one", 1.0);
        let integers = graph.node("QuantizeLinear", &[&divided, &one, &zero], &[]);
        let values = graph.node("DequantizeLinear", &[&integers, &one, &zero], &[]);
        Self { values, scale, range }
    }
}

pub fn linear(graph: &mut Graph, name: &str, layer: &Linear, x: &Rounded) -> Value {
    let (integers, steps) = rounded(&layer.weight.tr());
    let bias = match x.range {
        Range::AroundZero => layer.bias.shallow_clone(),
        // x·W = (x + floor)·W − floor·ΣW
        Range::AboveGeluFloor => {
            &layer.bias - (&integers * &steps).sum_dim_intlist([0i64].as_slice(), false, None) * f64::from(GELU_FLOOR)
        }
    };
    let weight = graph.int8(&format!("{name}.weight"), &integers);
    let zeros = graph.int8(&format!("{name}.zero"), &steps.zeros_like());
    let steps = graph.weight(&format!("{name}.step"), &steps);
    let weight = graph.node("DequantizeLinear", &[&weight, &steps, &zeros], &[Attribute::Int("axis", 1)]);
    let product = graph.node("MatMul", &[&x.values, &weight], &[]);
    let product = graph.node("Mul", &[&product, &x.scale], &[]);
    let bias = graph.weight(&format!("{name}.bias"), &bias);
    graph.node("Add", &[&product, &bias], &[])
}

/// Integers [in, out], and the step of each output [out]: the smallest step that respects [`WEIGHT_TOP`] and
/// [`PAIR_TOP`].
fn rounded(weight: &Tensor) -> (Tensor, Tensor) {
    let largest = weight.abs().amax([0i64].as_slice(), false);
    let steps =
        (largest / WEIGHT_TOP).maximum(&(largest_pair(weight) / PAIR_TOP)).clamp_min(f64::from(LEAST) / WEIGHT_TOP);
    ((weight / &steps).round(), steps)
}

/// For each output, the largest magnitude of the sum of those weights of inputs 2k and 2k + 1 that have the same sign.
/// [in, out] → [out]
fn largest_pair(weight: &Tensor) -> Tensor {
    let (inputs, outputs) = weight.size2().expect("a weight has two dimensions");
    let even = weight.constant_pad_nd([0, 0, 0, inputs % 2]);
    let pairs = even.reshape([-1, 2, outputs]);
    let most = |pairs: &Tensor| {
        pairs.clamp_min(0.0).sum_dim_intlist([1i64].as_slice(), false, None).amax([0i64].as_slice(), false)
    };
    most(&pairs).maximum(&most(&pairs.neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_weight_is_off_by_half_a_step_at_most() {
        tch::manual_seed(0);
        let weight = Tensor::randn([64, 8], (Kind::Float, Device::Cpu))
            * Tensor::from_slice(&[0f32, 1e-9, 1e-3, 1., 2., 5., 1e3, 1e6]);
        let (integers, steps) = rounded(&weight);
        assert!(integers.abs().max().double_value(&[]) <= WEIGHT_TOP);
        let apart = ((&integers * &steps - &weight) / &steps).abs().max().double_value(&[]);
        assert!(apart <= 0.5 + 1e-4, "{apart}");
    }

    /// Processors without VNNI saturate the sum of two products at 16 bits. Because of that, probabilities were wrong
    /// by up to 0.147.
    #[test]
    fn no_pair_of_products_leaves_sixteen_bits() {
        tch::manual_seed(0);
        let drawn = Tensor::randn([65, 32], (Kind::Float, Device::Cpu));
        let alike = Tensor::ones([65, 32], (Kind::Float, Device::Cpu));
        let turned =
            (Tensor::arange(65, (Kind::Float, Device::Cpu)).view([65, 1]) * 0.5).floor().remainder(2.0) * 2.0 - 1.0;
        for weight in [drawn, alike.shallow_clone(), alike.neg(), alike * turned] {
            let (integers, _) = rounded(&weight);
            let rows: Vec<Vec<f32>> = integers.tr().unbind(0).iter().map(crate::clip::to_f32).collect();
            for pair in rows.iter().flat_map(|row| row.chunks(2)) {
                for sign in [1.0, -1.0] {
                    // The inputs that give the largest sum of this sign.
                    let most: f32 = pair.iter().map(|&weight| 255.0 * (sign * weight).max(0.0)).sum();
                    assert!(most <= f32::from(i16::MAX), "{pair:?}");
                }
            }
            assert!(integers.abs().max().double_value(&[]) >= 63.0, "the range is used");
        }
    }
}
