//! PyTorch's `.bin`, `.pt` and TorchScript archives: a ZIP of raw storages, and a pickle that describes the tensors in
//! them. This module finds the tensors; it neither copies nor writes them.
//!
//! A pickle is a program, but nothing is executed here. Only those of its instructions are supported that build plain
//! data. Only those functions may be named that describe tensors, and they are read as descriptions. Everything else is
//! refused, and the error names it. Compressed members are refused too, because tensors are read in place from the
//! mapped file.

mod code;
mod machine;

use machine::{Id, Machine, Node};
use safetensors::Dtype;
use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PickleError {
    #[error(
        "not a PyTorch archive ({0}); files written by PyTorch before 1.6 are not read: save it anew, best as safetensors"
    )]
    NotAnArchive(zip::result::ZipError),
    #[error("the archive has no data.pkl; it was not written by PyTorch")]
    NoPickle,
    #[error("archive member {0} is compressed; PyTorch writes them as they are")]
    Compressed(String),
    #[error("archive member {name}: {source}")]
    Member { name: String, source: std::io::Error },
    #[error("the archive's pickle has {0} bytes; more than {MAX_PICKLE_BYTES} describe no CLIP")]
    TooLarge(u64),
    #[error("its numbers are big-endian; only little-endian ones are read")]
    BigEndian,
    #[error(
        "it asks for {0}, which reading weights does not need; nothing of it was executed. Use safetensors instead"
    )]
    Forbidden(String),
    #[error("damaged pickle at byte {at}: {problem}")]
    Damaged { at: usize, problem: &'static str },
    #[error("pickle instruction 0x{code:02x} at byte {at} is not among those that weights need")]
    Instruction { at: usize, code: u8 },
    #[error("it holds no named tensors")]
    NoTensors,
    #[error("tensor {name}: {problem}")]
    Tensor { name: String, problem: String },
}

/// Longest `data.pkl` that is read. That of the largest CLIP has less than a tenth of this size. [choice]
const MAX_PICKLE_BYTES: u64 = 4 << 20;
/// Deepest nesting of modules that is searched for tensors. [choice]
const MAX_DEPTH: usize = 32;
/// Most values that are visited in the search: modules may share others, so a few bytes can cause an exponential number
/// of visits. [choice]
const MAX_VISITS: usize = 1 << 20;
/// Longest name of a tensor, bytes, and most tensors: a short pickle can repeat a long text many times. [choice]
const MAX_NAME_BYTES: usize = 512;
const MAX_TENSORS: usize = 1 << 15;

struct Walk {
    depth: usize,
    left: usize,
}

/// One tensor of an archive. All of it lies within the archive's bytes.
#[derive(Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    /// Offset of the first element in the file, bytes.
    pub start: usize,
    /// Its dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Distance between neighbouring indices of each dimension, in elements.
    pub strides: Vec<usize>,
}

/// Every named tensor of an archive, sorted by name.
pub fn tensors(bytes: &[u8]) -> Result<Vec<Tensor>, PickleError> {
    let archive = Archive::read(bytes)?;
    let mut machine = Machine::default();
    let root = machine.run(archive.pickle)?;
    let mut found = BTreeMap::new();
    collect(&machine, state(&machine, root), String::new(), &mut Walk { depth: 0, left: MAX_VISITS }, &mut found)?;
    if found.is_empty() {
        return Err(PickleError::NoTensors);
    }
    let tensor = |(name, id): (String, Id)| {
        let problem = |problem: String| PickleError::Tensor { name: name.clone(), problem };
        let Node::Tensor(parts) = machine.node(id) else { unreachable!("only tensors are collected") };
        let tensor = machine.described(*parts).map_err(|fault| problem(fault.to_owned()))?;
        let member = archive.storages.get(tensor.storage);
        let (start, length) = *member.ok_or_else(|| problem(format!("the archive lacks data/{}", tensor.storage)))?;
        let (shape, strides, width) = (tensor.shape, tensor.strides, tensor.dtype.bitsize() / 8);
        if shape.contains(&0) {
            return Ok(Tensor { name, dtype: tensor.dtype, start, shape, strides });
        }
        // All sizes come from the file, so no tensor may reach beyond its storage, and the computation must not
        // overflow.
        let last = shape.iter().zip(&strides).try_fold(tensor.offset, |last, (n, stride)| {
            (n - 1).checked_mul(*stride).and_then(|step| last.checked_add(step))
        });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(width));
        if end.is_none_or(|end| end > length) {
            return Err(problem(format!("shape {shape:?} reaches beyond its storage of {length} bytes")));
        }
        Ok(Tensor { name, dtype: tensor.dtype, start: start + tensor.offset * width, shape, strides })
    };
    found.into_iter().map(tensor).collect()
}

/// Keys below which training programs store the weights.
const WRAPPED: [&str; 3] = ["state_dict", "model_state_dict", "model"];

fn state(machine: &Machine, root: Id) -> Id {
    let Node::Dict(pairs) = machine.node(root) else { return root };
    let below = |key: &str| {
        let (_, value) = pairs.iter().find(|(found, _)| machine.text(*found) == Some(key))?;
        matches!(machine.node(*value), Node::Dict(_)).then_some(*value)
    };
    WRAPPED.into_iter().find_map(below).unwrap_or(root)
}

/// Collects the tensors. Names of nested modules are joined by dots; values that are not tensors are skipped.
fn collect(
    machine: &Machine,
    id: Id,
    prefix: String,
    walk: &mut Walk,
    found: &mut BTreeMap<String, Id>,
) -> Result<(), PickleError> {
    if walk.depth > MAX_DEPTH || walk.left == 0 {
        return Err(PickleError::Tensor { name: prefix, problem: "nested too deeply for a model".to_owned() });
    }
    walk.left -= 1;
    let pairs: &[(Id, Id)] = match machine.node(id) {
        Node::Dict(pairs) => pairs,
        Node::Object(Some(state)) => match machine.node(*state) {
            Node::Dict(pairs) => pairs,
            _ => return Ok(()),
        },
        Node::Tensor(_) => {
            if found.len() == MAX_TENSORS {
                let problem = format!("more than {MAX_TENSORS} tensors make no CLIP");
                return Err(PickleError::Tensor { name: prefix, problem });
            }
            let twice = found.insert(prefix.clone(), id).is_some_and(|other| other != id);
            let problem = "the name is there twice".to_owned();
            return if twice { Err(PickleError::Tensor { name: prefix, problem }) } else { Ok(()) };
        }
        _ => return Ok(()),
    };
    walk.depth += 1;
    for &(key, value) in pairs {
        if let Some(key) = machine.text(key) {
            if prefix.len() + key.len() > MAX_NAME_BYTES {
                let problem = format!("a name below it has more than {MAX_NAME_BYTES} bytes");
                return Err(PickleError::Tensor { name: prefix, problem });
            }
            let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
            collect(machine, value, name, walk, found)?;
        }
    }
    walk.depth -= 1;
    Ok(())
}

/// The members of an archive.
struct Archive<'a> {
    pickle: &'a [u8],
    /// For each key, the start of a storage in the file, and its length in bytes.
    storages: HashMap<String, (usize, usize)>,
}

impl<'a> Archive<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(PickleError::NotAnArchive)?;
        let mut archive = Archive { pickle: &[], storages: HashMap::new() };
        for i in 0..zip.len() {
            let member = zip.by_index_raw(i).map_err(PickleError::NotAnArchive)?;
            let name = member.name().to_owned();
            // Members lie in a folder with the archive's own name.
            let Some((_, inner)) = name.split_once('/') else { continue };
            let storage = inner.strip_prefix("data/").map(str::to_owned);
            if storage.is_none() && inner != "data.pkl" && inner != "byteorder" {
                continue;
            }
            if member.compression() != zip::CompressionMethod::Stored || member.encrypted() {
                return Err(PickleError::Compressed(name));
            }
            let (start, length) = (member.data_start() as usize, member.size() as usize);
            let Some(content) = start.checked_add(length).and_then(|end| bytes.get(start..end)) else {
                return Err(PickleError::Member { name, source: std::io::ErrorKind::UnexpectedEof.into() });
            };
            match inner {
                "byteorder" if content != b"little" => return Err(PickleError::BigEndian),
                "byteorder" => {}
                "data.pkl" if member.size() > MAX_PICKLE_BYTES => return Err(PickleError::TooLarge(member.size())),
                "data.pkl" => archive.pickle = content,
                _ => drop(archive.storages.insert(storage.expect("it lies below data/"), (start, length))),
            }
        }
        if archive.pickle.is_empty() { Err(PickleError::NoPickle) } else { Ok(archive) }
    }
}

#[cfg(test)]
mod tests;
