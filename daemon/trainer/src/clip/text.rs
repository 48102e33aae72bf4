//! The text tower: a causal transformer read at the end-of-text token.

use super::block::{AttentionMask, Block, BlockSize, KeyValue, LayerNorm};
use super::config::ClipConfig;
use super::tensors::{TensorError, Tensors};
use tch::{Device, Kind, Tensor};

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

    /// The same tower with frozen weights, which never change from here on.
    pub fn frozen(self) -> Self {
        Self { blocks: self.blocks.into_iter().map(Block::frozen).collect(), ..self }
    }

    pub fn window(&self) -> i64 {
        self.positions.size()[0]
    }

    /// Token embeddings of padded ids, without positions: [B, L] → [B, L, W].
    pub fn token_embeddings(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.tokens, ids, -1, false, false)
    }

    /// Text embeddings, not normalised: token embeddings [B, L, W] and the position of each end-of-text token [B] → [B,
    /// D].
    ///
    /// L may be anything up to the window. The tower is causal, so cutting at the longest prompt changes nothing.
    pub fn embed(&self, embeddings: &Tensor, ends: &[i64]) -> Tensor {
        let mut x = embeddings + self.positions.narrow(0, 0, embeddings.size()[1]);
        let (last, before) = self.blocks.split_last().expect("a tower has blocks");
        for block in before {
            x = block.forward(&x, AttentionMask::Causal);
        }
        let normed = last.norm1.forward(&x);
        self.read(last, &x, &normed, &last.key_value(&normed), ends)
    }

    /// Text embeddings of all pairs of P beginnings [P, L₀, W] and C endings [C, L₁, W]: [P·C, D]; the pairs of the
    /// first beginning come first. `ends` [C] counts from the first token of the ending.
    pub fn embed_pairs(&self, beginnings: &Tensor, endings: &Tensor, ends: &[i64]) -> Tensor {
        let (p, l0, _) = beginnings.size3().expect("beginnings have three dimensions");
        let c = endings.size()[0];
        let beginnings = beginnings.unsqueeze(1).expand([-1, c, -1, -1], false).flatten(0, 1); // [P·C, L₀, W]
        let pairs = Tensor::cat(&[beginnings, endings.repeat([p, 1, 1])], 1); // [P·C, L₀ + L₁, W]
        let ends: Vec<i64> = ends.iter().map(|end| l0 + end).collect();
        self.embed(&pairs, &ends.repeat(p as usize))
    }

    /// The same result as [`TextTower::embed_pairs`]. The tower is causal, so the tokens of a beginning do not depend
    /// on the ending. Each beginning is computed once for all its endings.
    pub fn embed_pairs_apart(&self, beginnings: &Tensor, endings: &Tensor, ends: &[i64]) -> Tensor {
        let (p, l0, _) = beginnings.size3().expect("beginnings have three dimensions");
        let (c, l1, _) = endings.size3().expect("endings have three dimensions");
        let mut begun = beginnings + self.positions.narrow(0, 0, l0);
        let mut x = (endings + self.positions.narrow(0, l0, l1)).repeat([p, 1, 1]); // [P·C, L₁, W]
        // A token of an ending attends to the whole beginning, and to the ending up to itself.
        let mask = Tensor::ones([l1, l0 + l1], (Kind::Bool, x.device())).tril(l0);
        let (last, before) = self.blocks.split_last().expect("a tower has blocks");
        for block in before {
            let (begun_normed, normed) = (block.norm1.forward(&begun), block.norm1.forward(&x));
            let key_value = block.key_value(&begun_normed);
            let both = key_value.repeated(c).and(&block.key_value(&normed));
            begun = block.attend(&begun, &begun_normed, &key_value, AttentionMask::Causal);
            x = block.attend(&x, &normed, &both, AttentionMask::Bool(&mask));
        }
        let normed = last.norm1.forward(&x);
        let key_value = last.key_value(&last.norm1.forward(&begun)).repeated(c).and(&last.key_value(&normed));
        self.read(last, &x, &normed, &key_value, &ends.repeat(p as usize))
    }

    /// The last block for the end token of each row, which attends to the tokens up to itself; then norm and
    /// projection.
    fn read(&self, last: &Block, x: &Tensor, normed: &Tensor, key_value: &KeyValue, ends: &[i64]) -> Tensor {
        let (b, l, width) = x.size3().expect("tokens have three dimensions");
        let ends = Tensor::from_slice(ends).to_device(x.device()).view([b, 1, 1]);
        let places = ends.expand([b, 1, width], false);
        let before = key_value.len() - l;
        let tokens = Tensor::arange(key_value.len(), (Kind::Int64, x.device()));
        let mask = tokens.le_tensor(&(&ends + before)); // [B, 1, L₀ + L]
        let (x, normed) = (x.gather(1, &places, false), normed.gather(1, &places, false)); // [B, 1, W]
        let end = last.attend(&x, &normed, key_value, AttentionMask::Bool(&mask.unsqueeze(1))).squeeze_dim(1); // [B, W]
        self.final_norm.forward(&end).linear(&self.projection, None::<&Tensor>)
    }
}

/// Token id sequences as one padded tensor [B, longest], and the position of the last token of each.
///
/// The end token does not attend to the tokens after it, so any id may be used for padding.
pub fn padded(sequences: &[Vec<i64>], device: Device) -> (Tensor, Vec<i64>) {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let pad = |ids: &Vec<i64>| ids.iter().copied().chain(std::iter::repeat(0)).take(longest).collect::<Vec<_>>();
    let flat: Vec<i64> = sequences.iter().flat_map(pad).collect();
    let ids = Tensor::from_slice(&flat).view([sequences.len() as i64, longest as i64]).to_device(device);
    (ids, sequences.iter().map(|ids| ids.len() as i64 - 1).collect())
}
