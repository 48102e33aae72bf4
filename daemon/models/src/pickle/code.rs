//! Reads the bytes of a pickle, and knows the functions that a pickle may name.

use super::PickleError;
use crate::tensor::Element;

/// The functions that a pickle may name.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageType(Numbers),
    /// A class of a TorchScript archive.
    Script,
    /// A list of numbers with its type, in a TorchScript archive.
    TypedList,
}

/// Element type of a storage.
#[derive(Clone, Copy, Debug)]
pub enum Numbers {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    Bool,
}

impl Numbers {
    pub fn element(self) -> Element {
        match self {
            Self::F64 => Element::Other("F64"),
            Self::F32 => Element::F32,
            Self::F16 => Element::F16,
            Self::BF16 => Element::BF16,
            Self::I64 => Element::Other("I64"),
            Self::I32 => Element::Other("I32"),
            Self::Bool => Element::Other("BOOL"),
        }
    }

    /// Size of an element, bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Bool => 1,
        }
    }
}

/// The function of that name; this includes classes.
pub fn function(module: &str, name: &str) -> Result<Function, PickleError> {
    let storage = Function::StorageType;
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Function::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Function::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Function::RebuildParameter,
        ("torch", "DoubleStorage") => storage(Numbers::F64),
        ("torch", "FloatStorage") => storage(Numbers::F32),
        ("torch", "HalfStorage") => storage(Numbers::F16),
        ("torch", "BFloat16Storage") => storage(Numbers::BF16),
        ("torch", "LongStorage") => storage(Numbers::I64),
        ("torch", "IntStorage") => storage(Numbers::I32),
        ("torch", "BoolStorage") => storage(Numbers::Bool),
        ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist") => Function::TypedList,
        // Compiled modules; their names are not checked further.
        (module, _) if module.starts_with("__torch__") => Function::Script,
        _ => return Err(PickleError::Forbidden(format!("{module}.{name}"))),
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
