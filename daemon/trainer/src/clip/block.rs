//! The residual attention block that both towers repeat.

use super::autocast::cast;
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
    /// The weights that QuickGELU is computed with, prepared once where the block's weights are frozen.
    frozen: Option<Factored>,
}

/// The layer norm before the MLP, and the MLP, with the slope of QuickGELU multiplied in.
#[derive(Debug)]
struct Factored {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// Keys and values of L tokens, [B, L, W] each.
#[derive(Debug)]
pub struct KeyValue {
    key: Tensor,
    value: Tensor,
}

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug)]
pub enum AttentionMask<'a> {
    /// All keys.
    None,
    /// The keys of its own token and of the tokens before it. Every token has a query.
    Causal,
    /// The keys where the tensor, which broadcasts to [B, H, Q, L], is true.
    Bool(&'a Tensor),
}

/// a of QuickGELU, x · sigmoid(ax).
const QUICK_GELU_SLOPE: f64 = 1.702;

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

    /// A layer norm whose output is `factor` times this one's.
    fn scaled(&self, factor: f64) -> Self {
        Self { weight: &self.weight * factor, bias: &self.bias * factor, eps: self.eps }
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
        cast(x).linear(&cast(&self.weight), Some(&cast(&self.bias)))
    }

    fn with_bias_scaled(&self, factor: f64) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: &self.bias * factor }
    }
}

impl KeyValue {
    /// L, the number of tokens in each row.
    pub fn len(&self) -> i64 {
        self.key.size()[1]
    }

    /// Both, concatenated along L. Where one of them has a batch of 1, it is expanded to the batch of the other.
    pub fn and(&self, other: &KeyValue) -> KeyValue {
        let behind = |a: &Tensor, b: &Tensor| {
            let batch = a.size()[0].max(b.size()[0]);
            Tensor::cat(&[a.expand([batch, -1, -1], false), b.expand([batch, -1, -1], false)], 1)
        };
        KeyValue { key: behind(&self.key, &other.key), value: behind(&self.value, &other.value) }
    }

    /// Repeats each row `times` times, next to each other: [B, L, W] → [B·times, L, W].
    pub fn repeated(&self, times: i64) -> KeyValue {
        let repeat = |x: &Tensor| x.unsqueeze(1).expand([-1, times, -1, -1], false).flatten(0, 1);
        KeyValue { key: repeat(&self.key), value: repeat(&self.value) }
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
            frozen: None,
        })
    }

    /// The same block with frozen weights, which never change from here on.
    pub fn frozen(self) -> Self {
        let frozen = (self.activation == Activation::QuickGelu).then(|| self.factored());
        Self { frozen, ..self }
    }

    fn factored(&self) -> Factored {
        Factored {
            norm: self.norm2.scaled(QUICK_GELU_SLOPE),
            fc1: self.fc1.with_bias_scaled(QUICK_GELU_SLOPE),
            fc2: self.fc2.with_bias_scaled(QUICK_GELU_SLOPE),
        }
    }

    /// [B, L, W] → [B, L, W]; every token has a query.
    pub fn forward(&self, x: &Tensor, attn_mask: AttentionMask) -> Tensor {
        let normed = self.norm1.forward(x);
        self.attend(x, &normed, &self.key_value(&normed), attn_mask)
    }

    /// Keys and values of tokens, from the output of their first layer norm: [B, L, W].
    pub fn key_value(&self, normed: &Tensor) -> KeyValue {
        KeyValue { key: self.key.forward(normed), value: self.value.forward(normed) }
    }

    /// The output of the block for the tokens `x`; `normed` is the output of their first layer norm. Both [B, Q, W] →
    /// [B, Q, W].
    ///
    /// Tokens whose output is not read need no query. Computing only their keys and values takes a sixth of a block's
    /// arithmetic.
    pub fn attend(&self, x: &Tensor, normed: &Tensor, key_value: &KeyValue, attn_mask: AttentionMask) -> Tensor {
        let width = x.size()[2];
        let by_head = |x: &Tensor| x.unflatten(2, [self.heads, width / self.heads]).transpose(1, 2); // [B, H, ., W/H]
        let query = by_head(&self.query.forward(normed));
        let (mask, causal) = match attn_mask {
            AttentionMask::None => (None, false),
            AttentionMask::Causal => (None, true),
            AttentionMask::Bool(mask) => (Some(mask), false),
        };
        let (key, value) = (by_head(&key_value.key), by_head(&key_value.value));
        let mixed = Tensor::scaled_dot_product_attention(&query, &key, &value, mask, 0.0, causal, None, false);
        let x = x + self.out.forward(&mixed.transpose(1, 2).flatten(2, 3));
        &x + self.mlp(&x)
    }

    fn mlp(&self, x: &Tensor) -> Tensor {
        match self.activation {
            // x·sigmoid(ax) = silu(ax)/a needs one pass over the widest tensor. The factors a and 1/a are applied to
            // narrower tensors, which is exact except for rounding.
            Activation::QuickGelu => {
                let fresh;
                let Factored { norm, fc1, fc2 } = match &self.frozen {
                    Some(factored) => factored,
                    None => {
                        fresh = self.factored();
                        &fresh
                    }
                };
                fc2.forward(&fc1.forward(&norm.forward(x)).silu()) / QUICK_GELU_SLOPE
            }
            Activation::Gelu => self.fc2.forward(&self.fc1.forward(&self.norm2.forward(x)).gelu("none")),
        }
    }
}
