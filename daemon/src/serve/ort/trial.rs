//! Checks whether ONNX Runtime is installed and whether a provider computes, by multiplying two matrices. No user's
//! model is needed.

use super::{Provider, SessionError, environment, locate};
use ort::ep::{CUDA, TensorRT};
use ort::session::Session;
use ort::value::TensorRef;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Loads the library and returns its path and the version that it reports.
pub fn library(library: Option<&Path>) -> Result<(PathBuf, String), SessionError> {
    let path = locate(library)?;
    environment(library)?;
    let version = version(&path).unwrap_or_else(|| "of an unknown version, since another file is in use".into());
    Ok((path, version))
}

fn version(path: &Path) -> Option<String> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the library is loaded already and stays loaded; dlopen only raises its reference count for a moment.
    // OrtGetApiBase is the entry to its stable C interface, and the returned text belongs to the library.
    unsafe {
        let loaded = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if loaded.is_null() {
            return None;
        }
        let entry = libc::dlsym(loaded, c"OrtGetApiBase".as_ptr());
        libc::dlclose(loaded);
        if entry.is_null() {
            return None;
        }
        let entry: unsafe extern "C" fn() -> *const ort::sys::OrtApiBase = std::mem::transmute(entry);
        let text = ((*entry()).GetVersionString)();
        Some(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

impl Provider {
    /// Multiplies two matrices on this provider; false where the library was built without it.
    pub fn computes(self, library: Option<&Path>) -> Result<bool, SessionError> {
        if !self.is_built_in(library)? {
            return Ok(false);
        }
        let mut session = self.open(library)?;
        let input = TensorRef::from_array_view(([2usize, 2], [1f32, 2.0, 3.0, 4.0].as_slice()))?;
        let outputs = session.run(ort::inputs!["x" => input])?;
        let output = outputs.get("y").ok_or_else(|| SessionError::Layout("there is no y".into()))?;
        let (_, values) = output.try_extract_tensor::<f32>()?;
        // The tolerance allows for less than single precision: some devices round more.
        let is_right =
            values.len() == 4 && values.iter().zip([7.0, 10.0, 15.0, 22.0]).all(|(y, right)| (y - right).abs() < 0.1);
        match is_right {
            true => Ok(true),
            false => {
                Err(SessionError::Layout(format!("{} computed {values:?} where 7, 10, 15, 22 is right", self.name())))
            }
        }
    }

    fn open(self, library: Option<&Path>) -> Result<Session, SessionError> {
        let environment = environment(library)?;
        let open = || -> ort::Result<Session> {
            let mut builder = Session::builder(&environment)?.with_intra_threads(1)?;
            let provider = match self {
                Self::Cpu => None,
                Self::Cuda => Some(CUDA::default().build()),
                Self::Tensorrt => Some(TensorRT::default().build()),
            };
            if let Some(provider) = provider {
                // Without this entry, the CPU would compute what the provider cannot.
                builder = builder.with_config_entry("session.disable_cpu_ep_fallback", "1")?;
                builder = builder.with_execution_providers([provider.error_on_failure()])?;
            }
            builder.commit_from_memory(&model())
        };
        Ok(open()?)
    }
}

/// y = x·x for a matrix of 2 × 2, as the message ModelProto of onnx.proto (opset 20, IR 9). The bytes are written by
/// hand, because the model has one operator and the fields of the format do not change.
fn model() -> Vec<u8> {
    const FLOAT: u8 = 1;
    let dimension = message(1, &number(1, 2));
    let shape = message(2, &[&dimension[..], &dimension].concat());
    let kind = message(2, &message(1, &[number(1, FLOAT), shape].concat()));
    let value = |name: &str| [text(1, name), kind.clone()].concat();
    let node = [text(1, "x"), text(1, "x"), text(2, "y"), text(4, "MatMul")].concat();
    let graph = [message(1, &node), text(2, "trial"), message(11, &value("x")), message(12, &value("y"))].concat();
    let opset = number(2, 20);
    [number(1, 9), message(7, &graph), message(8, &opset)].concat()
}

/// A protocol buffers field of variable length: a message or a text, here shorter than 128 bytes.
fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    const OF_SOME_LENGTH: u8 = 2;
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 0x80).expect("it is short");
    [&[field << 3 | OF_SOME_LENGTH, length], bytes].concat()
}

fn text(field: u8, text: &str) -> Vec<u8> {
    message(field, text.as_bytes())
}

/// A protocol buffers field with a number below 128.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_and_the_library_says_its_version() {
        assert!(Provider::Cpu.computes(None).unwrap());
        let (path, version) = library(None).unwrap();
        assert!(path.is_file());
        let minor: u32 = version.split('.').nth(1).expect(&version).parse().expect(&version);
        assert!(version.starts_with("1.") && minor >= 23, "{version}");
    }

    /// A provider that is not built in must not pass the check, and no other provider may compute in its place.
    #[test]
    fn a_provider_that_is_not_there_is_not_taken_for_one_that_is() {
        let built_in = Provider::Tensorrt.is_built_in(None).unwrap();
        let computes = Provider::Tensorrt.computes(None);
        assert!(built_in || !computes.unwrap());
    }
}
