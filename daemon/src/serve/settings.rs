//! `[serve]` of the configuration.

use super::Provider;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[serve]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Path of ONNX Runtime's library. If absent, the path in `ORT_DYLIB_PATH` is used, then the directories of an
    /// installation.
    pub library: Option<PathBuf>,
    /// Execution providers, in order of preference. A session uses the first one that opens the model and answers the
    /// probe.
    pub providers: Vec<Provider>,
    /// Most images of one user and one priority that may wait or be under way. Beyond it, a call is refused as busy.
    /// All users together may have four times as many. ≥ 16, the most images of one call. 64 [choice].
    pub queue: usize,
    /// Most images in one run of the session. A run takes fewer where more images would not increase the images per
    /// second. ≥ 1. 16 [choice].
    pub max_batch: usize,
    /// How long the first image of a batch waits for others while no batch runs. 0 [choice]: a batch fills anyway,
    /// while the batch before it runs and for a moment after.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// CPU threads of the session; 0 for one a core. 0 [choice].
    pub threads: usize,
    /// Threads that decode small images, and as many again for large ones; 0 for one per core. Each kind has one thread
    /// more, so that one user never occupies all of them. 0 [choice].
    pub decoders: usize,
    /// Memory that the open models of all classifiers may take together. Beyond it, the model used longest ago is
    /// closed until the next request for it. If absent, half of the machine's memory. [choice]
    pub memory: Option<bytesize::ByteSize>,
    /// How long a session on a GPU may be idle before it is closed; the next request opens it again. ≥ 1 s. 10 min
    /// [choice].
    #[serde(with = "humantime_serde")]
    pub gpu_idle: Duration,
    /// Largest file that is read. 64 MiB [choice].
    pub file_limit: bytesize::ByteSize,
    /// Whether answers say that an image is none of the classes. false [choice].
    pub none_of_these: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            library: None,
            providers: vec![Provider::Tensorrt, Provider::Cuda, Provider::Cpu],
            queue: 64,
            max_batch: 16,
            max_delay: Duration::ZERO,
            threads: 0,
            decoders: 0,
            memory: None,
            gpu_idle: Duration::from_secs(600),
            file_limit: bytesize::ByteSize::mib(64),
            none_of_these: false,
        }
    }
}
