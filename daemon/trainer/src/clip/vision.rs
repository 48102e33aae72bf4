//! The image tower: a Vision Transformer that can take visual prompts (VPT).

use super::block::{AttentionMask, Block, BlockSize, LayerNorm};
use super::config::ClipConfig;
use super::tensors::{TensorError, Tensors};
use tch::{IndexOp, Tensor};

#[derive(Debug)]
pub struct VisionTower {
    pub patch: Tensor,     // [W, 3, P, P]
    pub class: Tensor,     // [W]
    pub positions: Tensor, // [1 + G², W]
    pub pre_norm: LayerNorm,
    pub blocks: Vec<Block>,
    pub post_norm: LayerNorm,
    /// Projects the class token to the shared embedding space.
    pub projection: Tensor, // [D, W]
}

impl VisionTower {
    /// Prefix of the tensors that full fine-tuning of the image encoder trains.
    pub const ENCODER: &str = "vision_model.";
    pub const PROJECTION: &str = "visual_projection.weight";

    pub fn new(config: &ClipConfig, tensors: &Tensors) -> Result<Self, TensorError> {
        let projection = tensors.get(Self::PROJECTION, &[config.projection_dim, config.vision_config.hidden_size])?;
        Self::with_projection(config, tensors, projection)
    }

    /// The encoder from `tensors`, with a projection from elsewhere.
    pub fn with_projection(config: &ClipConfig, tensors: &Tensors, projection: Tensor) -> Result<Self, TensorError> {
        let v = &config.vision_config;
        let (width, grid) = (v.hidden_size, v.image_size / v.patch_size);
        let size = BlockSize {
            width,
            hidden: v.intermediate_size,
            heads: v.num_attention_heads,
            activation: v.hidden_act,
            eps: v.layer_norm_eps,
        };
        let norm = |name: &str| LayerNorm::new(tensors, &format!("vision_model.{name}"), width, v.layer_norm_eps);
        Ok(Self {
            patch: tensors
                .get("vision_model.embeddings.patch_embedding.weight", &[width, 3, v.patch_size, v.patch_size])?,
            class: tensors.get("vision_model.embeddings.class_embedding", &[width])?,
            positions: tensors.get("vision_model.embeddings.position_embedding.weight", &[1 + grid * grid, width])?,
            pre_norm: norm("pre_layrnorm")?, // the checkpoints spell it so
            blocks: (0..v.num_hidden_layers)
                .map(|i| Block::new(tensors, &format!("vision_model.encoder.layers.{i}"), size))
                .collect::<Result<_, _>>()?,
            post_norm: norm("post_layernorm")?,
            projection,
        })
    }

    /// The same tower with frozen weights, which never change from here on.
    pub fn frozen(self) -> Self {
        Self { blocks: self.blocks.into_iter().map(Block::frozen).collect(), ..self }
    }

    /// The class token after the final layer norm, before projection: [B, 3, S, S] → [B, W].
    ///
    /// `prompts` [blocks or 1, T, W]: visual prompt tokens beside the image's own tokens. With a set for each block
    /// (deep VPT), only that block attends to the set. The tokens of such a set have keys and values but no queries,
    /// since nothing reads their output; so they are computed once for all images. A single set (shallow VPT) passes
    /// through all blocks.
    pub fn class_token(&self, pixels: &Tensor, prompts: Option<&Tensor>) -> Tensor {
        let b = pixels.size()[0];
        let width = self.class.size()[0];
        let stride = self.patch.size()[2];
        let patches = pixels.conv2d(&self.patch, None::<&Tensor>, [stride, stride], [0, 0], [1, 1], 1); // [B, W, G, G]
        let patches = patches.flatten(2, 3).transpose(1, 2); // [B, G², W]
        let class = self.class.view([1, 1, width]).expand([b, 1, width], false);
        let tokens = Tensor::cat(&[class, patches], 1) + &self.positions; // [B, 1 + G², W]
        let mut x = self.pre_norm.forward(&tokens);
        let deep = prompts.filter(|prompts| prompts.size()[0] == self.blocks.len() as i64);
        if let (Some(prompts), None) = (prompts, deep) {
            x = Tensor::cat(&[x, prompts.i(0..1).expand([b, -1, -1], false)], 1);
        }
        for (i, block) in self.blocks.iter().enumerate() {
            let normed = block.norm1.forward(&x);
            let mut key_value = block.key_value(&normed);
            if let Some(prompts) = deep {
                let own = prompts.i(i as i64).unsqueeze(0); // [1, T, W]
                key_value = key_value.and(&block.key_value(&block.norm1.forward(&own)));
            }
            // In the last block only the class token is read.
            let queries = if i + 1 == self.blocks.len() { 1 } else { x.size()[1] };
            x = block.attend(&x.narrow(1, 0, queries), &normed.narrow(1, 0, queries), &key_value, AttentionMask::None);
        }
        self.post_norm.forward(&x.select(1, 0))
    }

    /// The image embedding v(x), not normalised: [B, 3, S, S] → [B, D].
    pub fn embed(&self, pixels: &Tensor, prompts: Option<&Tensor>) -> Tensor {
        self.class_token(pixels, prompts).linear(&self.projection, None::<&Tensor>)
    }
}
