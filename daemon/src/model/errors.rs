//! Why what a setting names cannot be used.

use coft_core::labels::LabelsError;
use coft_core::shares::SharesError;
use coft_core::shown::{shown, shown_path};
use coft_core::templates::TemplatesError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// The reason why something that a setting names cannot be used.
#[derive(Debug, Error)]
#[error("{setting}: {cause}")]
pub struct SetupError {
    setting: &'static str,
    cause: Box<ModelError>,
}

impl SetupError {
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    pub fn cause(&self) -> &ModelError {
        &self.cause
    }

    /// Whether only a change of the configuration can solve it. All other errors may be solved by files that appear or
    /// change: a disk that is mounted late, a copy that is not finished, a list that somebody corrects.
    pub fn is_configuration(&self) -> bool {
        matches!(
            *self.cause,
            ModelError::ImageSize { .. }
                | ModelError::StudentSize { .. }
                | ModelError::Shares(SharesError::Range { .. } | SharesError::NothingLeft { .. })
        )
    }
}

/// Adds the name of a setting to an error.
pub(super) fn of<E: Into<ModelError>>(setting: &'static str) -> impl FnOnce(E) -> SetupError {
    move |cause| SetupError { setting, cause: Box::new(cause.into()) }
}

#[derive(Debug, Error)]
pub enum ModelError {
    #[error("the label file {} cannot be read: {source}", shown_path(path))]
    ReadLabels { path: PathBuf, source: io::Error },
    #[error("the label file {}: {source}", shown_path(path))]
    Labels { path: PathBuf, source: LabelsError },
    #[error("the template file {} cannot be read: {source}", shown_path(path))]
    ReadTemplates { path: PathBuf, source: io::Error },
    #[error("the template file {}: {source}", shown_path(path))]
    Templates { path: PathBuf, source: TemplatesError },
    #[error("{} has no class names; set classifier.labels to a file with one class name a line", shown_path(dir))]
    NoLabels { dir: PathBuf },
    #[error("there is no class \"{}\"; it has to be named as in the label file", shown(class.as_bytes()))]
    Threshold { class: String },
    #[error("{0}")]
    Model(#[from] coft_models::ModelError),
    #[error("{0}")]
    Shares(#[from] SharesError),
    #[error("{0}; coftctl model list shows what there is")]
    Store(#[from] coft_models::store::StoreError),
    #[error("{0}")]
    Earlier(coft_models::store::StoreError),
    #[error("{side} is not a multiple of the model's patch size {patch}")]
    ImageSize { side: u32, patch: i64 },
    #[error("the model's weights {} cannot be read: {source}", shown_path(path))]
    ReadWeights { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Preprocess(#[from] coft_vision::PreprocessError),
    #[error(
        "the student {} reads images of {asked} px and classifier.model keeps them at {kept} px; choose a student that \
         reads {kept} px or less",
        shown_path(dir)
    )]
    StudentSize { dir: PathBuf, asked: u32, kept: u32 },
    #[error("the demo model cannot be unpacked to {}: {source}", shown_path(dir))]
    Unpack { dir: PathBuf, source: io::Error },
}

impl ModelError {
    /// Whether the file was missing or could not be read.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self, ModelError::ReadLabels { .. } | ModelError::ReadTemplates { .. })
    }
}
