//! libtorch and ONNX Runtime from the Python package index, by digest.
//!
//! Only what the trainer and the daemon load is unpacked, in the wheels' own layout: the libraries find each other by it.

use super::{cache, debian, once, room};
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Wheel {
    package: &'static str,
    sha256: &'static str,
    /// Members that are unpacked; `*` at the end stands for anything.
    members: &'static [&'static str],
}

const TORCH: &str = "2.11.0";
/// CPU parts of the x86_64 wheels; libtorch_cpu.so needs the two small CUDA libraries to load, but no GPU.
const WHEELS: [Wheel; 4] = [
    Wheel {
        package: "torch==2.11.0",
        sha256: "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
        members: &["torch/include/*", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp*"],
    },
    Wheel {
        package: "nvidia-cuda-runtime==13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        members: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        package: "nvidia-cuda-cupti==13.0.85",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        members: &["nvidia/cu13/lib/libcupti.so.13"],
    },
    Wheel {
        package: "onnxruntime==1.28.0",
        sha256: "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c",
        members: &["onnxruntime/capi/libonnxruntime.so*"],
    },
];
const DIRECTORY: &str = "torch-2.11.0_ort-1.28.0";
/// Wheels, pip's own copy of the largest, and the unpacked files side by side, bytes.
const ROOM: u64 = 2_000_000_000;

/// libtorch's directory and ONNX Runtime's library, downloaded if they are not there.
pub fn install() -> anyhow::Result<(OsString, OsString)> {
    let home = cache()?.join("toolchain").join(DIRECTORY);
    once(&home, || fetch(&home))?;
    let capi = home.join("onnxruntime/capi");
    let library = fs::read_dir(&capi)
        .with_context(|| format!("reading {}", capi.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so.")))
        .with_context(|| {
            format!("no ONNX Runtime in {}; remove {} and run this again", capi.display(), home.display())
        })?;
    Ok((home.join("torch").into(), library.into()))
}

fn fetch(home: &Path) -> anyhow::Result<()> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_os = "linux")),
        "set-up knows the libraries of x86_64 Linux alone; on other machines install libtorch {TORCH} and ONNX Runtime \
         1.23 or later, and set LIBTORCH to the directory with libtorch's lib and include, ORT_DYLIB_PATH to \
         libonnxruntime.so"
    );
    debian::install(&[debian::PYTHON, debian::PIP])?;
    let parent = home.parent().context("the cache directory has a parent")?;
    let fresh = parent.join(format!("{DIRECTORY}.new"));
    let wheels = parent.join(format!("{DIRECTORY}.wheels"));
    for leftover in [&fresh, &wheels] {
        remove(leftover)?; // of an interrupted set-up
    }
    room(parent, ROOM)?;
    fs::create_dir(&wheels)?;
    download(&wheels)?;
    for wheel in &WHEELS {
        let path = find(&wheels, wheel)?;
        eprintln!("unpacking {}", wheel.package);
        unpack(&path, wheel, &fresh)?;
    }
    symlink("libtorch_cpu.so", fresh.join("torch/lib/libtorch.so"))?;
    fs::write(fresh.join("torch/build-version"), TORCH)?;
    remove(home)?; // without its stamp: made by an older, interrupted set-up
    fs::rename(&fresh, home).with_context(|| format!("moving to {}", home.display()))?;
    remove(&wheels)?;
    eprintln!("libraries are in {}", home.display());
    Ok(())
}

fn download(to: &Path) -> anyhow::Result<()> {
    eprintln!("downloading libtorch {TORCH} and ONNX Runtime (about 570 MB) ...");
    let requirements = to.join("requirements.txt");
    let lines = WHEELS.iter().map(|wheel| format!("{} --hash=sha256:{}\n", wheel.package, wheel.sha256));
    fs::write(&requirements, lines.collect::<String>())?;
    let mut pip = Command::new("python3");
    // pip's own directories may be small: it keeps no copy, and works beside the wheels.
    pip.args(["-m", "pip", "download", "--no-cache-dir", "--disable-pip-version-check"]).env("TMPDIR", to);
    pip.args(["--no-deps", "--require-hashes", "--only-binary=:all:"]);
    pip.args([
        "--python-version",
        "3.12",
        "--implementation",
        "cp",
        "--abi",
        "cp312",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]);
    for glibc in [5, 12, 14, 17, 24, 25, 26, 27, 28, 31, 34] {
        pip.args(["--platform", &format!("manylinux_2_{glibc}_x86_64")]);
    }
    pip.args(["--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"]);
    pip.arg("-r").arg(&requirements).arg("-d").arg(to).stdin(Stdio::null()).stdout(io::stderr());
    ensure!(
        pip.status().context("starting pip")?.success(),
        "the download failed (pip says why above); check the network and the package index, then run this again"
    );
    Ok(())
}

fn find(dir: &Path, wheel: &Wheel) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&path)?, &mut hash)?;
            if format!("{:x}", hash.finalize()) == wheel.sha256 {
                return Ok(path);
            }
        }
    }
    bail!("{} was not among the downloaded files", wheel.package)
}

fn unpack(path: &Path, wheel: &Wheel, to: &Path) -> anyhow::Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(path)?).with_context(|| format!("reading {}", path.display()))?;
    for i in 0..archive.len() {
        let mut member = archive.by_index(i)?;
        let Some(name) = member.enclosed_name().filter(|_| member.is_file() && wheel.wants(member.name())) else {
            continue;
        };
        let target = to.join(name);
        fs::create_dir_all(target.parent().context("a member has a directory")?)?;
        io::copy(&mut member, &mut File::create(&target)?).with_context(|| format!("writing {}", target.display()))?;
    }
    Ok(())
}

impl Wheel {
    fn wants(&self, member: &str) -> bool {
        self.members.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => member.starts_with(start),
            None => member == *wanted,
        })
    }
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
