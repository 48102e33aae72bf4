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
    /// Through a batch socket a client, one image under way.
    CoftdStream,
    /// FastAPI, uvicorn, Pillow and onnxruntime.
    FastapiPillow,
    /// The same, JPEGs decoded by libjpeg-turbo alone.
    FastapiSimplejpeg,
    /// LitServe, Pillow and onnxruntime, in batches.
    Litserve,
    /// coftd with mini_clip64, before and while a round trains.
    Round,
    /// coftd with mini_clip64, while a hundred generations take over one after the other.
    Swaps,
}

impl Arm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Coftd => "coftd",
            Self::CoftdStream => "coftd-stream",
            Self::FastapiPillow => "fastapi-pillow",
            Self::FastapiSimplejpeg => "fastapi-simplejpeg",
            Self::Litserve => "litserve",
            Self::Round => "round",
            Self::Swaps => "swaps",
        }
    }

    /// The script of a Python server, with its own arguments.
    pub fn script(self) -> Option<&'static [&'static str]> {
        match self {
            Self::FastapiPillow => Some(&["serve_fastapi.py", "--decoder", "pillow"]),
            Self::FastapiSimplejpeg => Some(&["serve_fastapi.py", "--decoder", "simplejpeg"]),
            Self::Litserve => Some(&["serve_litserve.py"]),
            Self::Bare | Self::Coftd | Self::CoftdStream | Self::Round | Self::Swaps => None,
        }
    }

    pub fn is_peer(self) -> bool {
        self.script().is_some()
    }
}
