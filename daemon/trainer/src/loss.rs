//! The losses of Phase I. B images of a batch, C classes.

use tch::{Kind, Reduction, Tensor};

/// Eq. 4: cross-entropy of softmax(s⁺/τ) with the pseudo-labels; mean over the batch.
///
/// `positive` [B, C] cosine similarities, `labels` [B], `scale` = 1/τ.
pub fn supervised(positive: &Tensor, labels: &Tensor, scale: f64) -> Tensor {
    (positive * scale).cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)
}

/// Eq. 6 on Eq. 5: −mean[log p_clean_y + log(1 − p_clean_c)], p_clean_k = sigmoid((s⁺_k − s⁻_k)/τ).
///
/// `labels` and `complements` [B], with complement ≠ label. Both logarithms are taken as log-sigmoid: at τ = 0.01 a
/// clamped probability would lose its gradient.
pub fn negative(positive: &Tensor, negative: &Tensor, labels: &Tensor, complements: &Tensor, scale: f64) -> Tensor {
    let gap = (positive - negative) * scale; // [B, C]
    let at = |classes: &Tensor| gap.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1);
    -(at(labels).log_sigmoid() + (-at(complements)).log_sigmoid()).mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(y: (f32, f32), c: (f32, f32), scale: f64) -> f64 {
        let positive = Tensor::from_slice(&[y.0, c.0]).view([1, 2]);
        let opposed = Tensor::from_slice(&[y.1, c.1]).view([1, 2]);
        negative(&positive, &opposed, &Tensor::from_slice(&[0i64]), &Tensor::from_slice(&[1i64]), scale)
            .double_value(&[])
    }

    #[test]
    fn the_negative_loss_falls_where_it_should() {
        let base = value((0.3, 0.2), (0.1, 0.2), 10.0);
        assert!(value((0.4, 0.2), (0.1, 0.2), 10.0) < base, "positive similarity of the label rises");
        assert!(value((0.3, 0.1), (0.1, 0.2), 10.0) < base, "negative similarity of the label falls");
        assert!(value((0.3, 0.2), (0.0, 0.2), 10.0) < base, "positive similarity of the complement falls");
        assert!(value((0.3, 0.2), (0.1, 0.3), 10.0) < base, "negative similarity of the complement rises");
    }

    #[test]
    fn the_negative_loss_is_finite_at_the_ends() {
        for (y, c) in [((-1.0, 1.0), (1.0, -1.0)), ((1.0, -1.0), (-1.0, 1.0))] {
            assert!(value(y, c, 100.0).is_finite());
        }
        assert!((value((-1.0, 1.0), (1.0, -1.0), 100.0) - 400.0).abs() < 1e-3, "linear, not clamped");
    }

    #[test]
    fn the_supervised_loss_is_cross_entropy() {
        let positive = Tensor::from_slice(&[0.5f32, 0.1, 0.0]).view([1, 3]);
        let expected = -(5f64.exp() / (5f64.exp() + 1f64.exp() + 1.0)).ln();
        let got = supervised(&positive, &Tensor::from_slice(&[0i64]), 10.0).double_value(&[]);
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
    }
}
