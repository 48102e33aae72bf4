//! One tensor in a file: the position, type, shape and strides of its elements.
//!
//! A [`TensorRef`] can be narrowed and transposed without copying. That is how other layouts become the one that coft
//! uses. It does not access its file.

/// Type of a tensor's elements, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// Half precision (IEEE 754 binary16).
    F16,
    /// bfloat16.
    BF16,
    /// Any other type: errors show it, and weights never have it.
    Other(&'static str),
}

impl Element {
    /// Size of an element, bytes; 1 for [`Element::Other`], whose size is not known.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::BF16 => 2,
            Element::Other(_) => 1,
        }
    }
}

/// One tensor: its position in a file, and how to step through its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// The tensor's name in its file.
    pub name: String,
    pub(crate) file: usize,
    /// Offset of the first element in the file, bytes.
    pub(crate) offset: usize,
    /// Type of its elements.
    pub element: Element,
    /// Its dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Distance between neighbouring indices of each dimension, in elements.
    pub strides: Vec<usize>,
}

impl TensorRef {
    /// Row-major strides of a shape.
    pub(crate) fn dense(shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        strides
    }

    /// Number of elements from the first to the last, including both.
    pub fn span(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        1 + self.shape.iter().zip(&self.strides).map(|(n, stride)| (n - 1) * stride).sum::<usize>()
    }

    /// Rows `first..first + rows` of the first dimension.
    pub(crate) fn rows(&self, first: usize, rows: usize) -> Self {
        let mut part = self.clone();
        part.offset += first * self.strides[0] * self.element.bytes();
        part.shape[0] = rows;
        part
    }

    pub(crate) fn transposed(&self) -> Self {
        let mut turned = self.clone();
        turned.shape.reverse();
        turned.strides.reverse();
        turned
    }
}
