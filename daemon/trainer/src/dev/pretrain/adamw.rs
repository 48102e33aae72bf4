//! AdamW (Loshchilov and Hutter, 2019), for pretraining alone.

use tch::{Tensor, no_grad};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98; // CLIP's
const EPSILON: f64 = 1e-6; // CLIP's

pub struct AdamW {
    parameters: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    weight_decay: f64,
    step: i32,
}

impl AdamW {
    pub fn new(parameters: Vec<Tensor>, weight_decay: f64) -> Self {
        let first = parameters.iter().map(Tensor::zeros_like).collect();
        let second = parameters.iter().map(Tensor::zeros_like).collect();
        Self { parameters, first, second, weight_decay, step: 0 }
    }

    /// One step along the gradients of `loss`; gains, biases and the logit scale (fewer than 2 dimensions) do not decay.
    pub fn step(&mut self, loss: &Tensor, rate: f64) {
        for parameter in &mut self.parameters {
            parameter.zero_grad();
        }
        loss.backward();
        self.step += 1;
        let (unbias1, unbias2) = (1.0 - BETA1.powi(self.step), 1.0 - BETA2.powi(self.step));
        let moments = self.first.iter_mut().zip(&mut self.second);
        // The update is not part of any graph.
        no_grad(|| {
            for (parameter, (first, second)) in self.parameters.iter_mut().zip(moments) {
                let gradient = parameter.grad();
                *first *= BETA1;
                *first += &gradient * (1.0 - BETA1);
                *second *= BETA2;
                *second += gradient.square() * (1.0 - BETA2);
                if parameter.dim() >= 2 {
                    *parameter *= 1.0 - rate * self.weight_decay;
                }
                *parameter -= (&*first / unbias1) / ((&*second / unbias2).sqrt() + EPSILON) * rate;
            }
        });
    }
}
