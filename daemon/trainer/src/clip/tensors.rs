//! Named tensors: the weights of a checkpoint, or trainable copies of some of them.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, View};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    #[error("tensor {name} is missing; expected shape {expected:?}")]
    Missing { name: String, expected: Vec<i64> },
    #[error("tensor {name} has shape {found:?}; config.json asks for {expected:?}")]
    Shape { name: String, expected: Vec<i64>, found: Vec<i64> },
}

impl FromIterator<(String, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

#[derive(Debug, Default)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }

    /// The tensor of that name, which must have that shape. The result shares its storage.
    pub fn get(&self, name: &str, expected: &[i64]) -> Result<Tensor, TensorError> {
        match self.0.get(name) {
            None => Err(TensorError::Missing { name: name.to_owned(), expected: expected.to_vec() }),
            Some(tensor) if tensor.size() != expected => {
                Err(TensorError::Shape { name: name.to_owned(), expected: expected.to_vec(), found: tensor.size() })
            }
            Some(tensor) => Ok(tensor.shallow_clone()),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A copy of the tensors whose names start with `prefix`, with its own storage and gradients.
    pub fn trainable(&self, prefix: &str) -> Tensors {
        let copy = |t: &Tensor| t.detach().copy().set_requires_grad(true);
        Tensors(self.0.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(n, t)| (n.clone(), copy(t))).collect())
    }
}

/// The tensors of a safetensors file, on `device`. `None` where the file is damaged or holds element types that
/// [`to_safetensors`] does not write.
pub fn from_safetensors(bytes: &[u8], device: Device) -> Option<BTreeMap<String, Tensor>> {
    let file = safetensors::SafeTensors::deserialize(bytes).ok()?;
    let tensor = |(name, view): (String, TensorView)| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::I64 => Kind::Int64,
            Dtype::U8 => Kind::Uint8,
            _ => return None,
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Some((name, Tensor::from_data_size(view.data(), &shape, kind).to_device(device)))
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// Named tensors as the bytes of a safetensors file. Element types: f32, f16, i64 and u8.
pub fn to_safetensors(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    safetensors::serialize(written(tensors), None).expect("names are distinct and shapes fit")
}

/// Writes the tensors to the file at `path` one after the other, without a second copy of all of them in memory.
pub fn write_safetensors(path: &Path, tensors: &[(&str, Tensor)]) -> std::io::Result<()> {
    safetensors::serialize_to_file(written(tensors), None, path).map_err(|error| match error {
        SafeTensorError::IoError(cause) => cause,
        other => std::io::Error::other(other),
    })
}

fn written<'a>(tensors: &'a [(&str, Tensor)]) -> impl Iterator<Item = (&'a str, Written<'a>)> {
    tensors.iter().map(|(name, tensor)| {
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        (*name, Written { tensor, shape })
    })
}

/// A tensor to be written. Its values are copied to the CPU only when it is written.
struct Written<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        match self.tensor.kind() {
            Kind::Half => Dtype::F16,
            Kind::Int64 => Dtype::I64,
            Kind::Uint8 => Dtype::U8,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // Detached: only the values are written, without the graph that they may belong to.
        let tensor = self.tensor.detach().to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0u8; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.dtype().bitsize() / 8
    }
}
