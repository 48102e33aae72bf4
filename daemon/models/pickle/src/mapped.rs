//! The mapped archives, and the tensors in them as safetensors writes them: row by row, without gaps.

use crate::ConvertError;
use crate::archive::Tensor;
use coft_models::WeightsError;
use coft_models::store::{FileRecord, StoreError};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A mapped archive.
pub struct Mapped {
    pub path: PathBuf,
    file: File,
    /// What the file was like before it was mapped.
    before: Metadata,
    map: Mmap,
}

impl Mapped {
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let read = |source| WeightsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let before = file.metadata().map_err(read)?;
        if !before.is_file() {
            return Err(read(io::Error::other("it is no regular file")));
        }
        // SAFETY: the map is only read. If another program changes the file meanwhile, wrong numbers are read, and
        // `record` finds that out; if it is cut short, this program ends with a signal, and has changed nothing yet.
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        coft_models::refuse_lfs_pointer(path, &map)?;
        Ok(Self { path: path.to_owned(), file, before, map })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The name, size and digest of the archive, once it has been read.
    ///
    /// # Errors
    /// The file changed since it was opened, or cannot be read.
    pub fn record(&self) -> Result<(String, FileRecord), ConvertError> {
        let at = StoreError::at(&self.path);
        let sha256 = coft_fs::sha256(self.bytes());
        let known = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if known(&self.file.metadata().map_err(&at)?) != known(&self.before) {
            let problem = "it changed while it was read; try again".to_owned();
            return Err(StoreError::Damaged { path: self.path.clone(), problem }.into());
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, FileRecord { size: self.before.len(), sha256 }))
    }
}

/// A tensor and the archive that it is in.
pub struct Source<'a> {
    pub archive: &'a Mapped,
    pub tensor: Tensor,
}

impl Source<'_> {
    /// Size of the tensor's elements without gaps, bytes; `None` if it has no number.
    pub fn bytes(&self) -> Option<u64> {
        let width = self.tensor.dtype.bitsize() as u64 / 8;
        self.tensor.shape.iter().try_fold(width, |bytes, &n| bytes.checked_mul(n as u64))
    }
}

impl View for &Source<'_> {
    fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let (tensor, width) = (&self.tensor, self.tensor.dtype.bitsize() / 8);
        let mut data = Vec::with_capacity(self.data_len());
        gather(self.archive.bytes(), tensor.start, width, &tensor.shape, &tensor.strides, &mut data);
        // SAFETY: the mapping is a read-only file, so a released page is read again when it is needed. Without the
        // release, data that has been copied would stay resident. A failure to release is harmless.
        let _ = unsafe { self.archive.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        Cow::Owned(data)
    }

    fn data_len(&self) -> usize {
        self.bytes().expect("the sum of all tensors was computed before one is written") as usize
    }
}

/// Appends the elements in row-major order. `start` is the offset of the first of them, bytes.
fn gather(bytes: &[u8], start: usize, width: usize, shape: &[usize], strides: &[usize], data: &mut Vec<u8>) {
    if shape.contains(&0) {
        return;
    }
    if is_dense(shape, strides) {
        data.extend(&bytes[start..start + width * shape.iter().product::<usize>()]);
        return;
    }
    for i in 0..shape[0] {
        gather(bytes, start + i * strides[0] * width, width, &shape[1..], &strides[1..], data);
    }
}

/// Whether the elements lie in row-major order without gaps. The stride of a dimension of size 1 says nothing.
fn is_dense(shape: &[usize], strides: &[usize]) -> bool {
    let mut below = 1;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let dense = n == 1 || stride == below;
        below *= n;
        dense
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_row_by_row_whatever_their_strides() {
        let bytes: Vec<u8> = (0..12).collect();
        for (start, shape, strides, expected) in [
            (0, &[2, 3][..], &[3, 1][..], &[0, 1, 2, 3, 4, 5][..]),
            (0, &[3, 2], &[1, 3], &[0, 3, 1, 4, 2, 5]),
            (1, &[2, 2], &[6, 2], &[1, 3, 7, 9]),
            (4, &[1, 3], &[0, 1], &[4, 5, 6]),
            (5, &[3], &[0], &[5, 5, 5]),
            (7, &[], &[], &[7]),
            (0, &[2, 0], &[9, 9], &[]),
        ] {
            let mut data = Vec::new();
            gather(&bytes, start, 1, shape, strides, &mut data);
            assert_eq!(data, expected, "{shape:?} {strides:?}");
        }
        let mut wide = Vec::new();
        gather(&bytes, 0, 2, &[2, 2], &[1, 3], &mut wide);
        assert_eq!(wide, [0, 1, 6, 7, 2, 3, 8, 9]);
    }
}
