//! The sides that are measured.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// ONNX Runtime in a loop on ready tensors: the limit.
    Bare,
    /// Over D-Bus, images as descriptors.
    Coftd,
    /// FastAPI, uvicorn, Pillow and onnxruntime.
    FastapiPillow,
    /// The same, JPEGs decoded by libjpeg-turbo alone.
    FastapiSimplejpeg,
    /// LitServe, Pillow and onnxruntime, in batches.
    Litserve,
    /// coftd with mini_clip64, before and while a round trains.
    Round,
}

impl Arm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Coftd => "coftd",
            Self::FastapiPillow => "fastapi-pillow",
            Self::FastapiSimplejpeg => "fastapi-simplejpeg",
            Self::Litserve => "litserve",
            Self::Round => "round",
        }
    }

    /// The script of a server in Python, with its own arguments.
    pub fn script(self) -> Option<&'static [&'static str]> {
        match self {
            Self::FastapiPillow => Some(&["serve_fastapi.py", "--decoder", "pillow"]),
            Self::FastapiSimplejpeg => Some(&["serve_fastapi.py", "--decoder", "simplejpeg"]),
            Self::Litserve => Some(&["serve_litserve.py"]),
            Self::Bare | Self::Coftd | Self::Round => None,
        }
    }

    pub fn is_peer(self) -> bool {
        self.script().is_some()
    }
}
