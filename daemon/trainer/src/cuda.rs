//! CUDA, opened where a round asks for it and nowhere else.
//!
//! The trainer is linked with libtorch's CPU half alone. The CUDA half registers itself as it is opened, so that one binary
//! serves machines with a GPU and machines without one, whose set-up is a sixth of the size.

use crate::error::RoundError;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::error::Error;
use std::ffi::c_int;
use std::sync::OnceLock;
use tch::Device;

const HALF: &str = "libtorch_cuda.so";

/// Never closed: what it registered is used until the process ends.
static OPENED: OnceLock<Library> = OnceLock::new();

/// What a round asks for, ready for use.
///
/// Call it before anything else of libtorch and before other threads exist: libtorch counts the kinds of device it has at the
/// first backward pass, once for good.
pub fn device(wanted: coft_core::spec::Device) -> Result<Device, RoundError> {
    match wanted {
        coft_core::spec::Device::Cpu => Ok(Device::Cpu),
        coft_core::spec::Device::Cuda => open(),
    }
}

/// The first GPU.
fn open() -> Result<Device, RoundError> {
    if OPENED.get().is_none() {
        // In TF32, cuDNN's default for convolutions, answers would differ from the CPU's and the server's in the third digit.
        // SAFETY: the program has no other thread yet. In tests others may read the environment, through Rust's lock.
        unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
        // SAFETY: libtorch's own library, whose initialisers expect to be run like this.
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

/// Nothing where CUDA is not open. A Jetson has one memory for processor and GPU.
pub fn memory() -> Option<Memory> {
    type MemGetInfo = unsafe extern "C" fn(free: *mut usize, total: *mut usize) -> c_int;
    // SAFETY: the type is cudaMemGetInfo's in the CUDA Runtime API. The runtime is found as what the library depends on.
    let ask = unsafe { OPENED.get()?.get::<MemGetInfo>(b"cudaMemGetInfo\0") }.ok()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: both places are written to and not kept.
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
