//! `coft-trainer check` tests whether libtorch can be loaded and computes, before a round needs it. coftd calls it when
//! somebody asks for a diagnosis.

use crate::cuda;
use anyhow::{Context, ensure};
use coft_core::spec;
use std::fs;
use tch::Tensor;

/// Multiplies two matrices and prints one line: the device and the libtorch that did it.
pub fn run(device: spec::Device) -> anyhow::Result<()> {
    let on = cuda::device(device)?;
    let matrix = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]).to_device(on);
    let product = Vec::<f32>::try_from(matrix.f_matmul(&matrix)?.view([4]))?;
    ensure!(product == [7.0, 10.0, 15.0, 22.0], "libtorch computed {product:?} where 7, 10, 15, 22 is right");
    let libtorch = libtorch().context("libtorch is not among the files of this process")?;
    let device = match device {
        spec::Device::Cpu => "cpu",
        spec::Device::Cuda => "cuda",
    };
    println!("coft-trainer {} computes on {device} with {libtorch}", env!("CARGO_PKG_VERSION"));
    Ok(())
}

/// The file of libtorch that the linker has loaded.
fn libtorch() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let files = maps.lines().filter_map(|line| Some(line[line.find('/')?..].to_owned()));
    files.into_iter().find(|file| file.rsplit('/').next().is_some_and(|name| name.starts_with("libtorch_cpu.so")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_computes_and_is_found() {
        run(spec::Device::Cpu).unwrap();
        assert!(libtorch().unwrap().contains("/libtorch_cpu.so"));
    }
}
