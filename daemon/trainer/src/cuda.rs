//! Opens CUDA when a round asks for it, and only then.
//!
//! The trainer is linked with libtorch's CPU libraries alone. The CUDA library registers itself when it is opened. So
//! one binary serves machines with a GPU and machines without one, whose installation is a sixth of the size.

use crate::error::RoundError;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::error::Error;
use std::ffi::c_int;
use std::sync::OnceLock;
use tch::Device;

const HALF: &str = "libtorch_cuda.so";

/// The library is never closed: libtorch uses what it registered until the process ends.
static OPENED: OnceLock<Library> = OnceLock::new();

/// The device that a round asks for, ready for use.
///
/// Call this before any other function of libtorch and before other threads exist: at the first backward pass, libtorch
/// counts the kinds of device once and for all.
pub fn device(wanted: coft_core::spec::Device) -> Result<Device, RoundError> {
    match wanted {
        coft_core::spec::Device::Cpu => Ok(Device::Cpu),
        coft_core::spec::Device::Cuda => open(),
    }
}

/// Opens CUDA and returns the first GPU.
fn open() -> Result<Device, RoundError> {
    if OPENED.get().is_none() {
        // TF32 is cuDNN's default for convolutions. With it, answers would differ from the CPU's and the server's in
        // the third digit.
        // SAFETY: the program has no other thread yet. In tests, other threads may read the environment, but through
        // Rust's lock.
        unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
        // SAFETY: this is libtorch's own library, whose initialisers are meant to run like this.
        let library = unsafe { Library::open(Some(HALF), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            RoundError::Cuda(format!("{cause}; this libtorch is for CPUs, or a library of CUDA is missing beside it"))
        })?;
        let _ = OPENED.set(library);
    }
    if !tch::Cuda::is_available() {
        let cause =
            "libtorch finds no GPU that this process may use, or no driver that is new enough; nvidia-smi tells";
        return Err(RoundError::Cuda(cause.to_owned()));
    }
    Ok(Device::Cuda(0))
}

/// The GPU's memory, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub free: u64,
    pub total: u64,
}

/// `None` where CUDA is not open. On a Jetson, processor and GPU share one memory.
pub fn memory() -> Option<Memory> {
    type MemGetInfo = unsafe extern "C" fn(free: *mut usize, total: *mut usize) -> c_int;
    // SAFETY: the type is that of cudaMemGetInfo in the CUDA Runtime API. dlsym finds the runtime because the library
    // depends on it.
    let ask = unsafe { OPENED.get()?.get::<MemGetInfo>(b"cudaMemGetInfo\0") }.ok()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the function writes to both pointers and does not keep them.
    let status = unsafe { ask(&mut free, &mut total) };
    (status == 0).then_some(Memory { free: free as u64, total: total as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::no_memory;
    use crate::fixture;
    use tch::{Kind, Tensor};

    #[test]
    fn an_allocation_that_fails_is_told_from_other_faults() {
        if fixture::device() != coft_core::spec::Device::Cuda {
            println!("skipped: COFT_TEST_DEVICE is not cuda");
            return;
        }
        let gpu = device(fixture::device()).unwrap();
        let Memory { free, total } = memory().unwrap();
        assert!(0 < free && free <= total, "{free} of {total}");
        let allocate = || Tensor::empty([2 * total as i64], (Kind::Uint8, gpu));
        let panic = std::panic::catch_unwind(allocate).unwrap_err();
        assert!(no_memory(&*panic));
        let panic = std::panic::catch_unwind(|| Tensor::zeros([2], (Kind::Float, gpu)).view([3])).unwrap_err();
        assert!(!no_memory(&*panic));
    }
}
