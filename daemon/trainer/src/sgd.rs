//! SGD with momentum and a cosine schedule, its moments in plain sight.

use coft_core::settings;
use tch::{Tensor, no_grad};

#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    /// The learning rate of each parameter over that of the settings.
    factors: Vec<f64>,
    moments: Vec<Tensor>,
    settings: settings::Sgd,
    steps: u32,
}

impl Sgd {
    /// Takes part in the storage of `parameters`, which must require gradients, and each of which has its learning rate over
    /// that of `settings` beside it; `steps` is where the cosine reaches 0.
    pub fn new(parameters: Vec<(Tensor, f64)>, settings: &settings::Sgd, steps: u32) -> Self {
        let moments = parameters.iter().map(|(parameter, _)| parameter.zeros_like()).collect();
        let (parameters, factors) = parameters.into_iter().unzip();
        Self { parameters, factors, moments, settings: settings.clone(), steps }
    }

    /// Takes up with the moments that [`Sgd::moments`] gave.
    pub fn resume(&mut self, moments: Vec<Tensor>) {
        self.moments = moments;
    }

    /// Multiplies the learning rate.
    pub fn slow_down(&mut self, factor: f64) {
        self.settings.learning_rate *= factor;
    }

    pub fn moments(&self) -> &[Tensor] {
        &self.moments
    }

    /// Step `number`, from 0, along `gradients`, one a parameter, undefined where the loss did not reach it:
    /// g ← ∇ + wd·θ, m ← μ·m + g, θ ← θ − lr·m, with lr on a half cosine.
    pub fn step(&mut self, number: u32, gradients: Vec<Tensor>) {
        let scalar = |value: f64| Tensor::from(value);
        let (decay, rate) = (scalar(self.settings.weight_decay), self.learning_rate(number));
        // The update is not part of any graph.
        no_grad(|| {
            let parameters = self.parameters.iter_mut().zip(&self.factors).zip(&mut self.moments);
            for (((parameter, factor), moment), gradient) in parameters.zip(gradients) {
                if !gradient.defined() {
                    continue;
                }
                *moment *= self.settings.momentum;
                *moment += gradient;
                let _ = moment.addcmul_(parameter, &decay);
                let _ = parameter.addcmul_(moment, &scalar(-rate * factor));
            }
        });
    }

    fn learning_rate(&self, step: u32) -> f64 {
        let progress = f64::from(step) / f64::from(self.steps.max(1));
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
        for factor in [1.0, 3.0] {
            let x = Tensor::from_slice(&[2.0f64]).set_requires_grad(true);
            let mut sgd = Sgd::new(vec![(x.shallow_clone(), factor)], &settings, 2);
            let (mut expected, mut moment) = (2.0f64, 0.0);
            for (number, rate) in [(0, 0.1), (1, 0.05)] {
                let loss = x.square().sum(Kind::Double);
                sgd.step(number, Tensor::run_backward(&[&loss], &[&x], false, false));
                moment = 0.9 * moment + 2.0 * expected + 0.01 * expected;
                expected -= factor * rate * moment;
                assert!((x.double_value(&[0]) - expected).abs() < 1e-12);
            }
        }
    }
}
