//! SGD with momentum and a cosine schedule, its moments in plain sight.

use coft_core::settings;
use tch::{Tensor, no_grad};

#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    moments: Vec<Tensor>,
    settings: settings::Sgd,
    step: u32,
    steps: u32,
}

impl Sgd {
    /// Takes part in the storage of `parameters`, which must require gradients; `steps` is where the cosine reaches 0.
    pub fn new(parameters: Vec<Tensor>, settings: &settings::Sgd, steps: u32) -> Self {
        let moments = parameters.iter().map(Tensor::zeros_like).collect();
        Self { parameters, moments, settings: settings.clone(), step: 0, steps }
    }

    /// One step along the gradients of `loss`: g ← ∇ + wd·θ, m ← μ·m + g, θ ← θ − lr·m, with lr on a half cosine.
    pub fn step(&mut self, loss: &Tensor) {
        // Gradients that are returned live until the step is done; those of `backward` would stay through the next batch.
        let gradients = Tensor::run_backward(&[loss], &self.parameters, false, false);
        let scalar = |value: f64| Tensor::from(value);
        let (decay, rate) = (scalar(self.settings.weight_decay), scalar(-self.learning_rate()));
        // The update is not part of any graph.
        no_grad(|| {
            for ((parameter, moment), gradient) in self.parameters.iter_mut().zip(&mut self.moments).zip(gradients) {
                if !gradient.defined() {
                    continue; // the loss did not reach it
                }
                *moment *= self.settings.momentum;
                *moment += gradient;
                let _ = moment.addcmul_(parameter, &decay);
                let _ = parameter.addcmul_(moment, &rate);
            }
        });
        self.step += 1;
    }

    fn learning_rate(&self) -> f64 {
        let progress = f64::from(self.step) / f64::from(self.steps.max(1));
        self.settings.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_step_is_the_textbook_one() {
        let settings = settings::Sgd {
            learning_rate: 0.1,
            momentum: 0.9,
            weight_decay: 0.01,
            epochs: 1,
            batch: 1,
            minimum_steps: 2,
        };
        let x = Tensor::from_slice(&[2.0f64]).set_requires_grad(true);
        let mut sgd = Sgd::new(vec![x.shallow_clone()], &settings, 2);
        let (mut expected, mut moment) = (2.0f64, 0.0);
        for rate in [0.1, 0.05] {
            sgd.step(&x.square().sum(Kind::Double));
            moment = 0.9 * moment + 2.0 * expected + 0.01 * expected;
            expected -= rate * moment;
            assert!((x.double_value(&[0]) - expected).abs() < 1e-12);
        }
    }
}
