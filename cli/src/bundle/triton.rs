//! A Triton model repository: `NAME/config.pbtxt`, `NAME/labels.txt`, and the model with the generation's number as its
//! version.
//!
//! The fields are those of Triton Inference Server's `model_config.proto`, in protobuf's text format.

use super::{Bundle, LABELS, Shape, create_dir, write_new};
use crate::error::CliError;
use coft_core::manifest::{MANIFEST, MODEL, WEIGHTS};
use std::path::Path;

/// Most images in a batch. [choice]
const MAX_BATCH: u32 = 64;
/// Longest time that a request waits for others to share its batch, µs. [choice]
const MAX_QUEUE_DELAY_US: u32 = 2000;

pub fn write(bundle: &Bundle, dir: &Path) -> Result<(), CliError> {
    let model = dir.join(&bundle.name);
    let version = model.join(bundle.generation.to_string());
    create_dir(&model)?;
    create_dir(&version)?;
    for name in [MODEL, WEIGHTS] {
        bundle.copy(name, &version)?;
    }
    write_new(&version.join(MANIFEST), &bundle.stated)?;
    write_new(&model.join(LABELS), bundle.labels().as_bytes())?;
    write_new(&model.join("config.pbtxt"), config(bundle).as_bytes())
}

/// The configuration names this one version. Another version that is put beside it does not serve because it is the
/// latest, but only if this file names it.
fn config(bundle: &Bundle) -> String {
    let Shape { side, classes, embedding } = bundle.shape;
    // The escapes in JSON strings are valid in the text format too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (name, labels) = (quoted(&bundle.name), quoted(LABELS));
    let preprocessing = quoted(&bundle.manifest.preprocessing.to_string());
    let generation = bundle.generation;
    format!(
        r#"name: {name}
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input {{ name: "pixels" data_type: TYPE_FP32 dims: [3, {side}, {side}] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [{classes}] label_filename: {labels} }}
output {{ name: "logits" data_type: TYPE_FP32 dims: [{classes}] }}
output {{ name: "embedding" data_type: TYPE_FP32 dims: [{embedding}] }}
version_policy {{ specific {{ versions: [{generation}] }} }}
dynamic_batching {{ max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US} }}
model_warmup {{
  name: "one image"
  batch_size: 1
  inputs {{ key: "pixels" value {{ data_type: TYPE_FP32 dims: [3, {side}, {side}] random_data: true }} }}
}}
parameters {{ key: "preprocessing" value {{ string_value: {preprocessing} }} }}
"#
    )
}
