//! One tensor of a file: where its elements lie, of what type they are, and how to step through them.
//!
//! A [`TensorRef`] may be narrowed and transposed without touching a byte, which is how other layouts turn into the one
//! that is used. It knows nothing of the file that it lies in.

/// Type of a tensor's elements, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// Half precision (IEEE 754 binary16).
    F16,
    /// bfloat16.
    BF16,
    /// Anything else: named by errors, and never a weight.
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

/// One tensor: where it lies and how to step through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// The tensor's name in its file.
    pub name: String,
    pub(crate) file: usize,
    /// Of the first element in the file, bytes.
    pub(crate) offset: usize,
    /// Type of its elements.
    pub element: Element,
    /// Its dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    pub strides: Vec<usize>,
}

impl TensorRef {
    /// Row-major strides.
    pub(crate) fn dense(shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        strides
    }

    /// Elements from the first to the last, both included.
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
