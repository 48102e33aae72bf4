//! The residual attention block that both towers repeat.

use super::config::Activation;
use super::tensors::{TensorError, Tensors};
use tch::Tensor;

#[derive(Debug)]
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f64,
}

#[derive(Debug)]
pub struct Linear {
    pub weight: Tensor, // [out, in]
    pub bias: Tensor,   // [out]
}

#[derive(Debug)]
pub struct Block {
    pub norm1: LayerNorm,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub out: Linear,
    pub norm2: LayerNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub heads: i64,
    pub activation: Activation,
}

/// The sizes of a block, as a tower's configuration states them.
#[derive(Clone, Copy, Debug)]
pub struct BlockSize {
    pub width: i64,
    pub hidden: i64,
    pub heads: i64,
    pub activation: Activation,
    pub eps: f64,
}

impl LayerNorm {
    pub fn new(tensors: &Tensors, name: &str, width: i64, eps: f64) -> Result<Self, TensorError> {
        Ok(Self {
            weight: tensors.get(&format!("{name}.weight"), &[width])?,
            bias: tensors.get(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, false)
    }
}

impl Linear {
    fn new(tensors: &Tensors, name: &str, from: i64, to: i64) -> Result<Self, TensorError> {
        Ok(Self {
            weight: tensors.get(&format!("{name}.weight"), &[to, from])?,
            bias: tensors.get(&format!("{name}.bias"), &[to])?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

impl Block {
    pub fn new(tensors: &Tensors, name: &str, size: BlockSize) -> Result<Self, TensorError> {
        let BlockSize { width, hidden, heads, activation, eps } = size;
        let attention = |part: &str| Linear::new(tensors, &format!("{name}.self_attn.{part}_proj"), width, width);
        Ok(Self {
            norm1: LayerNorm::new(tensors, &format!("{name}.layer_norm1"), width, eps)?,
            query: attention("q")?,
            key: attention("k")?,
            value: attention("v")?,
            out: attention("out")?,
            norm2: LayerNorm::new(tensors, &format!("{name}.layer_norm2"), width, eps)?,
            fc1: Linear::new(tensors, &format!("{name}.mlp.fc1"), width, hidden)?,
            fc2: Linear::new(tensors, &format!("{name}.mlp.fc2"), hidden, width)?,
            heads,
            activation,
        })
    }

    /// [B, L, W] → [B, L, W]. `causal`: a token sees itself and those before it.
    pub fn forward(&self, x: &Tensor, causal: bool) -> Tensor {
        let x = x + self.attention(&self.norm1.forward(x), causal);
        let hidden = self.fc1.forward(&self.norm2.forward(&x));
        let hidden = match self.activation {
            Activation::QuickGelu => &hidden * (&hidden * 1.702).sigmoid(),
            Activation::Gelu => hidden.gelu("none"),
        };
        x + self.fc2.forward(&hidden)
    }

    fn attention(&self, x: &Tensor, causal: bool) -> Tensor {
        let (b, l, w) = x.size3().expect("a block's input has three dimensions");
        let split = |x: Tensor| x.view([b, l, self.heads, w / self.heads]).transpose(1, 2); // [B, H, L, W/H]
        let query = split(self.query.forward(x));
        let key = split(self.key.forward(x));
        let value = split(self.value.forward(x));
        let mixed =
            Tensor::scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, causal, None, false);
        self.out.forward(&mixed.transpose(1, 2).reshape([b, l, w]))
    }
}
