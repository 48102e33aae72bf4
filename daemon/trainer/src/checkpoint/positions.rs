//! Position embeddings for images of another size than that of the model's training.
//!
//! This is OpenCLIP's interpolation, because checkpoints are fine-tuned to larger images with it. `transformers`
//! interpolates with another cubic kernel and without antialiasing; its results differ by 7 to 48 % of the largest
//! number (embedded model, 6 patches a side to 3..12).
//!
//! G and H patches a side before and after, W width of the tower.

use crate::clip::{ClipConfig, Tensors};
use tch::Tensor;

const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";

/// Interpolates the positions of the patches, bicubic and antialiased like OpenCLIP. The class token keeps its
/// position.
pub fn interpolate(config: &mut ClipConfig, tensors: &mut Tensors, side: i64) -> Result<(), String> {
    let v = &mut config.vision_config;
    if side <= 0 || side % v.patch_size != 0 {
        return Err(format!("image-size {side} is not a multiple of the model's patch_size {}", v.patch_size));
    }
    let (g, h, width) = (v.image_size / v.patch_size, side / v.patch_size, v.hidden_size);
    v.image_size = side;
    if g == h {
        return Ok(());
    }
    let positions = tensors.get(POSITIONS, &[1 + g * g, width]).map_err(|error| error.to_string())?;
    let grid = positions.narrow(0, 1, g * g).view([1, g, g, width]).permute([0, 3, 1, 2]); // [1, W, G, G]
    let grid = grid.internal_upsample_bicubic2d_aa([h, h], false, None, None);
    let grid = grid.permute([0, 2, 3, 1]).reshape([h * h, width]);
    tensors.insert(POSITIONS, Tensor::cat(&[positions.narrow(0, 0, 1), grid], 0));
    Ok(())
}
