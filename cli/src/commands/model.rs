//! `coftctl model`: the store of pretrained models. Works on its directory, also when no service runs.

mod import;
mod info;
mod list;
mod pull;
mod remove;
mod verify;

use crate::args::{Model, ModelVerb};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::view;
use coft_models::store::{Entry, Store, StoreError};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn run(output: Output, model: Model) -> Result<Exit, CliError> {
    let store = Store::at(&model.store);
    match model.verb {
        ModelVerb::List => list::run(&store, output),
        ModelVerb::Info { model } => info::run(&store, output, &model),
        ModelVerb::Verify { model } => verify::run(&store, output, model.as_deref()),
        ModelVerb::Import { path, name } => import::run(&store, output, &path, name),
        ModelVerb::Pull { repository, name } => pull::run(&store, output, &repository, name),
        ModelVerb::Remove { model } => remove::run(&store, output, &model),
    }
}

/// A model of the store, as it is printed; its sizes are read from its files.
fn shown(entry: Entry) -> Result<view::Model, CliError> {
    let mut shown = described(&entry.model()?)?;
    shown.size_bytes = entry.record.size();
    shown.weights_sha256 = entry.record.weights;
    let archives = entry.record.converted_from.into_iter();
    shown.converted_from = archives.map(|(name, file)| (name, file.sha256)).collect();
    (shown.names, shown.digest, shown.source) = (entry.names, Some(entry.digest), Some(entry.record.source));
    Ok(shown)
}

/// A model directory, as it is printed; without a digest, because that needs reading all its files.
fn described(model: &coft_models::Model) -> Result<view::Model, CliError> {
    let (t, v) = (&model.config.text_config, &model.config.vision_config);
    let read = |error| StoreError::at(&model.dir)(error);
    let encoder = |(name, tensor_ref): (&str, &coft_models::TensorRef)| {
        let size = tensor_ref.shape.iter().map(|&n| n as u64).product::<u64>();
        if name.starts_with("vision_model.") { size } else { 0 }
    };
    Ok(view::Model {
        names: Vec::new(),
        digest: None,
        source: None,
        weights_sha256: String::new(),
        directory: view::file_name(&model.dir),
        layout: serde_json::to_value(model.layout).expect("a layout is a word").as_str().unwrap_or("").to_owned(),
        size_bytes: model.bytes().map_err(read)?,
        parameters: model.parameters(),
        image_encoder_parameters: model.weights.iter().map(encoder).sum(),
        image_size: v.image_size as u64,
        patch_size: v.patch_size as u64,
        image_layers: v.num_hidden_layers as u64,
        image_width: v.hidden_size as u64,
        text_layers: t.num_hidden_layers as u64,
        text_width: t.hidden_size as u64,
        text_window: t.max_position_embeddings as u64,
        embedding: model.config.projection_dim as u64,
        activation: serde_json::to_value(v.hidden_act)
            .expect("an activation is a word")
            .as_str()
            .unwrap_or("")
            .to_owned(),
        preprocessing: model.preprocessing.clone(),
        converted_from: BTreeMap::new(),
    })
}

/// Prints the result of `import` and `pull`.
fn installed(output: Output, installed: coft_models::store::Installed) -> Result<Exit, CliError> {
    let already = installed.already;
    let model = shown(installed.entry)?;
    output.document(&model, || {
        let how = if already { "was there already" } else { "is in the store" };
        format!("{} {how} as {}\n", model.names.join(", "), model.digest.as_deref().unwrap_or_default())
            + "name it in the configuration of a classifier: model = \"…\", then restart coftd\n"
    })?;
    Ok(Exit::Done)
}

/// Whether the argument means a directory and not a model of the store.
fn is_directory(model: &OsStr) -> bool {
    model.as_bytes().contains(&b'/') && Path::new(model).is_dir()
}
