//! Reads the bytes of a pickle, and knows the functions that a pickle may name.

use super::PickleError;
use safetensors::Dtype;

/// The functions that a pickle may name.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageType(Dtype),
    /// A class of a TorchScript archive.
    Script,
    /// A list of numbers with its type, in a TorchScript archive.
    TypedList,
}

/// The function of that name; this includes classes.
pub fn function(module: &str, name: &str) -> Result<Function, PickleError> {
    let storage = Function::StorageType;
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Function::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Function::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Function::RebuildParameter,
        ("torch", "DoubleStorage") => storage(Dtype::F64),
        ("torch", "FloatStorage") => storage(Dtype::F32),
        ("torch", "HalfStorage") => storage(Dtype::F16),
        ("torch", "BFloat16Storage") => storage(Dtype::BF16),
        ("torch", "LongStorage") => storage(Dtype::I64),
        ("torch", "IntStorage") => storage(Dtype::I32),
        ("torch", "BoolStorage") => storage(Dtype::BOOL),
        ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist") => Function::TypedList,
        // Compiled modules; their names are not checked further.
        (module, _) if module.starts_with("__torch__") => Function::Script,
        _ => return Err(PickleError::Forbidden(format!("{module}.{name}").chars().take(200).collect())),
    })
}

pub struct Input<'a> {
    pub bytes: &'a [u8],
    /// Position of the next byte.
    pub at: usize,
}

impl<'a> Input<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(PickleError::Damaged { at: self.at, problem: "it ends too early" })?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    /// Reads an unsigned little-endian number.
    pub fn number(&mut self, width: usize) -> Result<i64, PickleError> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | i64::from(byte)))
    }

    pub fn line(&mut self) -> Result<&'a str, PickleError> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n').unwrap_or(self.bytes.len());
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length])
            .map_err(|_| PickleError::Damaged { at: self.at, problem: "a name that is not UTF-8" })
    }
}
