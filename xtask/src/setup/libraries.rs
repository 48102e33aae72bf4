//! libtorch and ONNX Runtime from the Python package index, identified by digest.
//!
//! Only the files that the trainer and the daemon load are unpacked, in the layout of the wheels, because the libraries
//! find each other by that layout.

use super::{cache, debian, once, remove, repository, room};
use crate::target::Target;
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Wheel {
    package: &'static str,
    sha256: &'static str,
    /// Members that are unpacked; `*` at the end matches anything.
    members: &'static [&'static str],
}

const TORCH: &str = "2.11.0";
const TORCH_PACKAGE: &str = "torch==2.11.0";
const TORCH_SHA256: &str = "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756";
const ONNXRUNTIME: &str = "1.28.0";
const ONNXRUNTIME_PACKAGE: &str = "onnxruntime==1.28.0";
const ONNXRUNTIME_MEMBERS: &[&str] =
    &["onnxruntime/capi/libonnxruntime.so*", "onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"];
/// Version of Arm Compute Library, as stated in libarm_compute.so of the aarch64 wheel.
const ARM_COMPUTE: &str = "52.6.0";
/// CPU parts of the x86_64 wheels. libtorch_cpu.so needs the two small CUDA libraries for loading, but no GPU.
const WHEELS: [Wheel; 4] = [
    Wheel {
        package: TORCH_PACKAGE,
        sha256: TORCH_SHA256,
        members: &[
            "torch/include/*",
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libc10.so",
            "torch/lib/libgomp*",
            "torch-2.11.0.dist-info/licenses/*",
        ],
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
        package: ONNXRUNTIME_PACKAGE,
        sha256: "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c",
        members: ONNXRUNTIME_MEMBERS,
    },
];
/// The same for aarch64, for linking and packaging. They do not run here, so they need no libraries of NVIDIA.
const AARCH64_WHEELS: [Wheel; 2] = [
    Wheel {
        package: TORCH_PACKAGE,
        sha256: "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f",
        members: &[
            "torch/include/*",
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libc10.so",
            "torch/lib/libarm_compute*",
            "torch-2.11.0.dist-info/licenses/*",
        ],
    },
    Wheel {
        package: ONNXRUNTIME_PACKAGE,
        sha256: "4e81a23df16e7acb9d51b06d30cc098e49315ef9180f97bc2221d167b4b04d9c",
        members: ONNXRUNTIME_MEMBERS,
    },
];
/// Libraries that libtorch_cuda.so needs in addition, and those that cuDNN and libtorch open later.
const CUDA_WHEELS: [Wheel; 12] = [
    Wheel {
        package: TORCH_PACKAGE,
        sha256: TORCH_SHA256,
        members: &[
            "torch/lib/libc10_cuda.so",
            "torch/lib/libcaffe2_nvrtc.so",
            "torch/lib/libtorch_cuda.so",
            "torch/lib/libtorch_nvshmem.so",
        ],
    },
    Wheel {
        package: "nvidia-cublas==13.1.0.3",
        sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        members: &["nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libcublasLt.so.13"],
    },
    Wheel {
        package: "nvidia-cuda-nvrtc==13.0.88",
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        members: &["nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cu13/lib/libnvrtc-builtins.so.*"],
    },
    Wheel {
        package: "nvidia-cudnn-cu13==9.19.0.56",
        sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
        members: &["nvidia/cudnn/lib/*"],
    },
    Wheel {
        package: "nvidia-cufft==12.0.0.61",
        sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        members: &["nvidia/cu13/lib/libcufft.so.12"],
    },
    Wheel {
        package: "nvidia-cufile==1.15.1.6",
        sha256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        members: &["nvidia/cu13/lib/libcufile.so.0"],
    },
    Wheel {
        package: "nvidia-curand==10.4.0.35",
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        members: &["nvidia/cu13/lib/libcurand.so.10"],
    },
    Wheel {
        package: "nvidia-cusparse==12.6.3.3",
        sha256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        members: &["nvidia/cu13/lib/libcusparse.so.12"],
    },
    Wheel {
        package: "nvidia-cusparselt-cu13==0.8.0",
        sha256: "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
        members: &["nvidia/cusparselt/lib/libcusparseLt.so.0"],
    },
    Wheel {
        package: "nvidia-nccl-cu13==2.28.9",
        sha256: "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
        members: &["nvidia/nccl/lib/libnccl.so.2"],
    },
    Wheel {
        package: "nvidia-nvjitlink==13.0.88",
        sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        members: &["nvidia/cu13/lib/libnvJitLink.so.13"],
    },
    Wheel {
        package: "nvidia-nvshmem-cu13==3.4.5",
        sha256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        members: &["nvidia/nvshmem/lib/libnvshmem_host.so.3"],
    },
];
/// The number at the end is increased when other members of the same wheels are unpacked.
const DIRECTORY: &str = "torch-2.11.0_ort-1.28.0_2";
/// Free space that is required, bytes: the wheels, pip's own copy of the largest, and the unpacked files together.
const ROOM: u64 = 2_000_000_000;
/// The same for CUDA.
const CUDA_ROOM: u64 = 6_500_000_000;

/// Downloads the libraries if they are missing. Returns libtorch's directory and ONNX Runtime's library.
pub fn install() -> anyhow::Result<(OsString, OsString)> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_os = "linux")),
        "set-up knows the libraries of x86_64 Linux alone; on other machines install libtorch {TORCH} and ONNX Runtime \
         1.23 or later, and set LIBTORCH to the directory with libtorch's lib and include, ORT_DYLIB_PATH to \
         libonnxruntime.so"
    );
    install_for(Target::X86_64)
}

fn install_for(target: Target) -> anyhow::Result<(OsString, OsString)> {
    let home = home(target)?;
    once(&home, || fetch(target, &home))?;
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

/// The libraries for packages.
pub struct Libraries {
    /// libtorch's directory.
    pub torch: PathBuf,
    /// ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    pub bundled: Vec<Bundled>,
}

/// A third-party library in a package.
pub struct Bundled {
    pub package: &'static str,
    pub name: &'static str,
    pub version: &'static str,
    pub licence: &'static str,
    /// Its package URL without the version.
    pub url: &'static str,
    /// SHA-256 of the wheel.
    pub sha256: &'static str,
    pub notices: Vec<PathBuf>,
}

impl Bundled {
    /// As an argument of coft-packaging: the fields and the notices, separated by semicolons.
    pub fn told(&self) -> OsString {
        let mut told =
            OsString::from([self.package, self.name, self.version, self.licence, self.url, self.sha256].join(";"));
        for notice in &self.notices {
            told.push(";");
            told.push(notice);
        }
        told
    }
}

/// The libraries of the set-up, with their notices.
pub fn to_package(target: Target) -> anyhow::Result<Libraries> {
    let (torch, onnxruntime) = install_for(target)?;
    let home = home(target)?;
    let notices = |paths: &[&str]| paths.iter().map(|path| home.join(path)).collect();
    let sha256 = |package: &str| {
        let wheel = wheels(target).iter().find(|wheel| wheel.package == package);
        wheel.expect("each processor has a wheel of each library").sha256
    };
    let mut bundled = vec![
        Bundled {
            package: "coft",
            name: "onnxruntime",
            version: ONNXRUNTIME,
            licence: "MIT",
            url: "pkg:pypi/onnxruntime",
            sha256: sha256(ONNXRUNTIME_PACKAGE),
            notices: notices(&["onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"]),
        },
        Bundled {
            package: "coft-trainer",
            name: "torch",
            version: TORCH,
            licence: "BSD-3-Clause",
            url: "pkg:pypi/torch",
            sha256: sha256(TORCH_PACKAGE),
            notices: notices(&["torch-2.11.0.dist-info/licenses/LICENSE", "torch-2.11.0.dist-info/licenses/NOTICE"]),
        },
    ];
    if target == Target::Aarch64 {
        bundled.push(Bundled {
            package: "coft-trainer",
            name: "arm-compute-library",
            version: ARM_COMPUTE,
            licence: "MIT",
            url: "pkg:github/arm-software/computelibrary",
            sha256: sha256(TORCH_PACKAGE),
            // libtorch's wheel contains this library without its notice.
            notices: vec![repository().join("packaging/notices/arm-compute-library")],
        });
    }
    Ok(Libraries { torch: torch.into(), onnxruntime: onnxruntime.into(), bundled })
}

/// Downloads libtorch's CUDA part and the NVIDIA libraries that it needs, if they are missing, and puts them beside the
/// CPU part.
pub fn install_cuda() -> anyhow::Result<()> {
    let home = home(Target::X86_64)?;
    let mark = home.join("cuda");
    once(&mark, || {
        let wheels = mark.with_extension("wheels");
        remove(&wheels)?; // left by an interrupted set-up
        room(&home, CUDA_ROOM)?;
        eprintln!("downloading libtorch {TORCH}'s CUDA half and NVIDIA's libraries (about 2.3 GB) ...");
        download(Target::X86_64, &CUDA_WHEELS, &wheels)?;
        unpack(&CUDA_WHEELS, &wheels, &home)?;
        remove(&wheels)?;
        fs::create_dir_all(&mark)?;
        eprintln!("CUDA's libraries are in {}", home.display());
        Ok(())
    })
}

/// Whether this is the libtorch that [`install`] has installed.
pub fn is_ours(libtorch: &OsStr) -> anyhow::Result<bool> {
    Ok(Path::new(libtorch) == home(Target::X86_64)?.join("torch"))
}

fn home(target: Target) -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("toolchain").join(directory(target)))
}

fn directory(target: Target) -> String {
    match target {
        Target::X86_64 => DIRECTORY.into(),
        Target::Aarch64 => format!("{DIRECTORY}_{}", target.name()),
    }
}

fn wheels(target: Target) -> &'static [Wheel] {
    match target {
        Target::X86_64 => &WHEELS,
        Target::Aarch64 => &AARCH64_WHEELS,
    }
}

fn fetch(target: Target, home: &Path) -> anyhow::Result<()> {
    debian::install(&[debian::PYTHON, debian::PIP])?;
    let parent = home.parent().context("the cache directory has a parent")?;
    let fresh = parent.join(format!("{}.new", directory(target)));
    let downloaded = parent.join(format!("{}.wheels", directory(target)));
    for leftover in [&fresh, &downloaded] {
        remove(leftover)?; // left by an interrupted set-up
    }
    room(parent, ROOM)?;
    let size = if target == Target::X86_64 { 570 } else { 440 };
    eprintln!("downloading libtorch {TORCH} and ONNX Runtime for {} (about {size} MB) ...", target.name());
    download(target, wheels(target), &downloaded)?;
    unpack(wheels(target), &downloaded, &fresh)?;
    symlink("libtorch_cpu.so", fresh.join("torch/lib/libtorch.so"))?;
    fs::write(fresh.join("torch/build-version"), TORCH)?;
    remove(home)?; // it has no stamp, so an older, interrupted set-up made it
    fs::rename(&fresh, home).with_context(|| format!("moving to {}", home.display()))?;
    remove(&downloaded)?;
    eprintln!("libraries are in {}", home.display());
    Ok(())
}

/// Downloads the wheels into a new directory.
fn download(target: Target, wheels: &[Wheel], to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("making {}", to.display()))?;
    let requirements = to.join("requirements.txt");
    let lines = wheels.iter().map(|wheel| format!("{} --hash=sha256:{}\n", wheel.package, wheel.sha256));
    fs::write(&requirements, lines.collect::<String>())?;
    let mut pip = Command::new("python3");
    // pip's default directories may be too small: it keeps no copy, and works beside the wheels.
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
    let platforms = [5, 12, 14, 17, 18, 24, 25, 26, 27, 28, 31, 34].map(|glibc| format!("_2_{glibc}"));
    for platform in platforms.iter().map(String::as_str).chain(["2014", "1"]) {
        pip.args(["--platform", &format!("manylinux{platform}_{}", target.name())]);
    }
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

fn unpack(wheels: &[Wheel], from: &Path, to: &Path) -> anyhow::Result<()> {
    for wheel in wheels {
        eprintln!("unpacking {}", wheel.package);
        unpack_one(&find(from, wheel)?, wheel, to)?;
    }
    Ok(())
}

fn unpack_one(path: &Path, wheel: &Wheel, to: &Path) -> anyhow::Result<()> {
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
