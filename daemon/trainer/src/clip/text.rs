//! The text tower: a causal transformer read at the end-of-text token.

use super::block::{Block, BlockSize, LayerNorm};
use super::config::ClipConfig;
use super::tensors::{TensorError, Tensors};
use tch::{Device, Tensor};

#[derive(Debug)]
pub struct TextTower {
    pub tokens: Tensor,    // [vocabulary, W]
    pub positions: Tensor, // [window, W]
    pub blocks: Vec<Block>,
    pub final_norm: LayerNorm,
    pub projection: Tensor, // [D, W]
}

impl TextTower {
    pub fn new(config: &ClipConfig, tensors: &Tensors) -> Result<Self, TensorError> {
        let t = &config.text_config;
        let width = t.hidden_size;
        let size = BlockSize {
            width,
            hidden: t.intermediate_size,
            heads: t.num_attention_heads,
            activation: t.hidden_act,
            eps: t.layer_norm_eps,
        };
        Ok(Self {
            tokens: tensors.get("text_model.embeddings.token_embedding.weight", &[t.vocab_size, width])?,
            positions: tensors
                .get("text_model.embeddings.position_embedding.weight", &[t.max_position_embeddings, width])?,
            blocks: (0..t.num_hidden_layers)
                .map(|i| Block::new(tensors, &format!("text_model.encoder.layers.{i}"), size))
                .collect::<Result<_, _>>()?,
            final_norm: LayerNorm::new(tensors, "text_model.final_layer_norm", width, t.layer_norm_eps)?,
            projection: tensors.get("text_projection.weight", &[config.projection_dim, width])?,
        })
    }

    pub fn window(&self) -> i64 {
        self.positions.size()[0]
    }

    /// Token embeddings of padded ids, without positions: [B, L] → [B, L, W].
    pub fn token_embeddings(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.tokens, ids, -1, false, false)
    }

    /// Text embeddings, not normalised: token embeddings [B, L, W], position of each end-of-text token [B] → [B, D].
    ///
    /// L may be anything up to the window: the tower is causal, so cutting at the longest prompt changes nothing.
    pub fn embed(&self, embeddings: &Tensor, ends: &[i64]) -> Tensor {
        let l = embeddings.size()[1];
        let mut x = embeddings + self.positions.narrow(0, 0, l);
        for block in &self.blocks {
            x = block.forward(&x, true);
        }
        // Only the end token is read, so only it is normalised and projected.
        let width = x.size()[2];
        let ends = Tensor::from_slice(ends).to_device(x.device()).view([-1, 1, 1]).expand([-1, 1, width], false);
        let end = x.gather(1, &ends, false).squeeze_dim(1); // [B, W]
        self.final_norm.forward(&end).linear(&self.projection, None::<&Tensor>)
    }
}

/// Token id sequences as one padded tensor [B, longest] and the position of each one's last token.
///
/// What stands behind the end token is never seen by it, so any id may pad.
pub fn padded(sequences: &[Vec<i64>], device: Device) -> (Tensor, Vec<i64>) {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let pad = |ids: &Vec<i64>| ids.iter().copied().chain(std::iter::repeat(0)).take(longest).collect::<Vec<_>>();
    let flat: Vec<i64> = sequences.iter().flat_map(pad).collect();
    let ids = Tensor::from_slice(&flat).view([sequences.len() as i64, longest as i64]).to_device(device);
    (ids, sequences.iter().map(|ids| ids.len() as i64 - 1).collect())
}
