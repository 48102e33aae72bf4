//! Archives as PyTorch writes them, for the tests of what reads them.

use anyhow::Result;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A tensor of an archive.
pub struct Pickled<'a> {
    pub name: String,
    /// PyTorch's class of its storage, such as `FloatStorage`.
    pub storage: &'a str,
    pub shape: Vec<usize>,
    /// Its elements in row-major order, little-endian.
    pub data: &'a [u8],
}

/// Saves the tensors as PyTorch's archive of a state dict. If `key` is not empty, the dict is wrapped below that key,
/// as by training programs.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, key: &str, tensors: &[Pickled]) -> Result<()> {
    let mut code = b"\x80\x02}".to_vec();
    if !key.is_empty() {
        code.extend([text("epoch"), number(3), b"s".to_vec(), text(key), b"}".to_vec()].concat());
    }
    let mut zip = zip::ZipWriter::new(File::create(path)?);
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (at, tensor) in tensors.iter().enumerate() {
        zip.start_file(format!("m/data/{at}"), options)?;
        zip.write_all(tensor.data)?;
        let elements = tensor.shape.iter().product();
        code.extend([text(&tensor.name), b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(), text("storage")].concat());
        code.extend(format!("ctorch\n{}\n", tensor.storage).bytes());
        code.extend([text(&at.to_string()), text("cpu"), number(elements), b"tQ".to_vec(), number(0)].concat());
        code.extend([tuple(&tensor.shape), tuple(&dense(&tensor.shape))].concat());
        code.extend(b"\x89ccollections\nOrderedDict\n)RtRs");
    }
    code.extend(if key.is_empty() { &b"."[..] } else { b"s." });
    zip.start_file("m/data.pkl", options)?;
    zip.write_all(&code)?;
    zip.finish()?;
    Ok(())
}

fn number(n: usize) -> Vec<u8> {
    [&b"J"[..], &(n as u32).to_le_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn tuple(numbers: &[usize]) -> Vec<u8> {
    [b"(".to_vec(), numbers.iter().flat_map(|n| number(*n)).collect(), b"t".to_vec()].concat()
}

/// Row-major strides.
fn dense(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect()
}
