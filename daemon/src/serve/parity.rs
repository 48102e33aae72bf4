//! The test that every export carries: ONNX Runtime's answers for the probe are compared with torch's.

use super::LoadError;
use super::ort::Session;
use coft_vision::Preprocess;
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

/// How much ONNX Runtime differs from torch on the probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    /// Largest absolute difference of a probability; NaN where an answer is NaN.
    pub max_abs_diff: f64,
}

/// Runs the probe through the session twice, in batches and image by image, because batching must not change the
/// answers.
pub fn replay(
    session: &mut Session,
    max_batch: usize,
    probe: &Path,
    preprocess: &Preprocess,
) -> Result<Parity, LoadError> {
    let fault = |fault: String| LoadError::Probe { path: probe.to_owned(), fault };
    let bytes = fs::read(probe).map_err(|error| fault(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| fault(error.to_string()))?;
    let (shape, pixels) = floats(&file, "pixels").map_err(fault)?;
    let side = preprocess.crop as usize;
    if !matches!(shape[..], [n, 3, height, width] if n > 0 && height == side && width == side) {
        return Err(fault(format!("pixels have shape {shape:?}; the model looks at {side} × {side}")));
    }
    let (_, expected) = floats(&file, "probabilities").map_err(fault)?;
    let mut probabilities = |max_batch: usize| -> Result<Vec<f32>, LoadError> {
        let image = 3 * side * side;
        let mut all = Vec::new();
        for batch in pixels.chunks(max_batch * image) {
            let outputs = session.run(batch, batch.len() / image)?;
            all.extend(outputs.into_iter().flat_map(|outputs| outputs.probabilities));
        }
        Ok(all)
    };
    let (together, alone) = (probabilities(max_batch)?, probabilities(1)?);
    if together.len() != expected.len() {
        return Err(fault(format!("{} probabilities, the model gives {}", expected.len(), together.len())));
    }
    let difference = |found: &[f32]| {
        let each = expected.iter().zip(found).map(|(a, b)| f64::from((a - b).abs()));
        // `f64::max` would ignore a NaN.
        each.fold(0.0, |worst: f64, d| if d.is_nan() || d > worst { d } else { worst })
    };
    let (a, b) = (difference(&together), difference(&alone));
    Ok(Parity { max_abs_diff: if a.is_nan() || a > b { a } else { b } })
}

fn floats(file: &SafeTensors, name: &str) -> Result<(Vec<usize>, Vec<f32>), String> {
    let view = file.tensor(name).map_err(|error| error.to_string())?;
    if view.dtype() != safetensors::Dtype::F32 {
        return Err(format!("{name} has element type {:?}; F32 is expected", view.dtype()));
    }
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok((view.shape().to_vec(), values))
}
