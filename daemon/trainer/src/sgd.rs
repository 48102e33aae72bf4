//! SGD with momentum and a cosine schedule. Its moments can be read and restored.

use coft_core::settings;
use tch::{Tensor, no_grad};

#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    /// The learning rate of each parameter, divided by that of the settings.
    lr_multipliers: Vec<f64>,
    moments: Vec<Tensor>,
    /// All parameters and all moments, each joined into one tensor, where they are updated together.
    joined: Option<(Tensor, Tensor)>,
    settings: settings::Sgd,
    steps: u32,
}

impl Sgd {
    /// Shares the storage of `parameters`, which must require gradients. Beside each is its learning rate, divided by
    /// that of `settings`. The cosine reaches 0 at `steps`. On a GPU the parameters move to a new storage: shallow
    /// clones follow them, but earlier views and detached tensors do not.
    pub fn new(parameters: Vec<(Tensor, f64)>, settings: &settings::Sgd, steps: u32) -> Self {
        let moments = parameters.iter().map(|(parameter, _)| parameter.zeros_like()).collect();
        let (parameters, lr_multipliers) = parameters.into_iter().unzip();
        let mut sgd = Self { parameters, lr_multipliers, moments, joined: None, settings: settings.clone(), steps };
        let on_gpu = sgd.parameters.first().is_some_and(|parameter| parameter.device().is_cuda());
        if on_gpu && sgd.lr_multipliers.iter().all(|&lr_multiplier| lr_multiplier == sgd.lr_multipliers[0]) {
            sgd.join();
        }
        sgd
    }

    /// Updates all parameters together from here on: on a GPU, starting a kernel for each takes longer than computing
    /// it.
    fn join(&mut self) {
        // Moving the values is not part of any graph.
        self.joined = Some(no_grad(|| (joined(&mut self.parameters), joined(&mut self.moments))));
    }

    /// Continues with the moments that [`Sgd::moments`] returned.
    pub fn resume(&mut self, moments: &[Tensor]) {
        for (moment, saved) in self.moments.iter_mut().zip(moments) {
            moment.copy_(saved);
        }
    }

    /// Multiplies the learning rate.
    pub fn slow_down(&mut self, factor: f64) {
        self.settings.learning_rate *= factor;
    }

    pub fn moments(&self) -> &[Tensor] {
        &self.moments
    }

    /// Does step `number`, from 0, along `gradients`, one for each parameter, undefined where the loss did not reach
    /// it: g ← ∇ + wd·θ, m ← μ·m + g, θ ← θ − lr·m, with lr on a half cosine.
    pub fn step(&mut self, number: u32, gradients: Vec<Tensor>) {
        let scalar = |value: f64| Tensor::from(value);
        let (decay, rate) = (scalar(self.settings.weight_decay), self.learning_rate(number));
        let momentum = self.settings.momentum;
        let update = |parameter: &mut Tensor, moment: &mut Tensor, gradient: &Tensor, lr_multiplier: f64| {
            *moment *= momentum;
            *moment += gradient;
            let _ = moment.addcmul_(parameter, &decay);
            let _ = parameter.addcmul_(moment, &scalar(-rate * lr_multiplier));
        };
        // The update is not part of any graph.
        no_grad(|| match &mut self.joined {
            Some((parameters, moments)) if gradients.iter().all(Tensor::defined) => {
                let gradient = Tensor::cat(&gradients.iter().map(flat).collect::<Vec<_>>(), 0);
                update(parameters, moments, &gradient, self.lr_multipliers[0]);
            }
            _ => {
                let parameters = self.parameters.iter_mut().zip(&mut self.moments).zip(&self.lr_multipliers);
                for (((parameter, moment), lr_multiplier), gradient) in parameters.zip(gradients) {
                    if gradient.defined() {
                        update(parameter, moment, &gradient, *lr_multiplier);
                    }
                }
            }
        });
    }

    fn learning_rate(&self, step: u32) -> f64 {
        let progress = f64::from(step) / f64::from(self.steps.max(1));
        self.settings.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

/// All values as one dimension: [numel].
fn flat(tensor: &Tensor) -> Tensor {
    tensor.flatten(0, -1)
}

/// Moves the values of `tensors` into one tensor [sum of their numel]. Each of `tensors` is then a view of a part of
/// it.
fn joined(tensors: &mut [Tensor]) -> Tensor {
    let whole = Tensor::cat(&tensors.iter().map(flat).collect::<Vec<_>>(), 0);
    let sizes: Vec<i64> = tensors.iter().map(|tensor| tensor.numel() as i64).collect();
    for (tensor, part) in tensors.iter_mut().zip(whole.split_with_sizes(&sizes, 0)) {
        tensor.set_data(&part.view_as(tensor));
    }
    whole
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
        for lr_multiplier in [1.0, 3.0] {
            let x = Tensor::from_slice(&[2.0f64]).set_requires_grad(true);
            let mut sgd = Sgd::new(vec![(x.shallow_clone(), lr_multiplier)], &settings, 2);
            let (mut expected, mut moment) = (2.0f64, 0.0);
            for (number, rate) in [(0, 0.1), (1, 0.05)] {
                let loss = x.square().sum(Kind::Double);
                sgd.step(number, Tensor::run_backward(&[&loss], &[&x], false, false));
                moment = 0.9 * moment + 2.0 * expected + 0.01 * expected;
                expected -= lr_multiplier * rate * moment;
                assert!((x.double_value(&[0]) - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn stepped_together_parameters_go_where_each_would_have_gone() {
        let settings = settings::Sgd { learning_rate: 0.1, ..crate::fixture::Bench::new(1).settings.phase2.sgd };
        let trained = |join: bool| {
            let start = |values: &[f64]| Tensor::from_slice(values).set_requires_grad(true);
            let (a, b) = (start(&[1.0, -2.0, 0.5]).view([3, 1]).detach().set_requires_grad(true), start(&[4.0]));
            let others = a.shallow_clone(); // like a tower that was made before
            let mut sgd = Sgd::new(vec![(a.shallow_clone(), 1.0), (b.shallow_clone(), 1.0)], &settings, 6);
            if join {
                sgd.join();
            }
            for step in 0..6 {
                let loss = match step {
                    3 => others.square().sum(Kind::Double), // does not reach b
                    _ => (&others * &b).square().sum(Kind::Double),
                };
                sgd.step(step, Tensor::run_backward(&[loss], &[&a, &b], false, false));
                let saved: Vec<Tensor> = sgd.moments().iter().map(Tensor::copy).collect();
                sgd.resume(&saved); // as after an interruption
            }
            [a, b].map(|tensor| Vec::<f64>::try_from(tensor.detach().view(-1)).unwrap())
        };
        assert_eq!(trained(true), trained(false));
        assert_ne!(trained(true)[1], [4.0]);
    }
}
