//! Makes Debian packages of coft with debhelper, from the list in `packaging/files`. `cargo xtask package` builds the
//! programs and runs this program.
//!
//! Two runs on one commit make the same bytes, wherever the checkout is: times come from the commit, and paths of the
//! building machine are kept out of the programs.

mod copyright;
mod crates;
mod list;
mod manual;
mod platform;
#[cfg(test)]
mod reference;
mod sbom;

use anyhow::{Context, ensure};
use clap::Parser;
use platform::Platform;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Makes Debian packages of coft; `cargo xtask package` runs it.
#[derive(Parser)]
struct Args {
    /// Directory of the programs.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// Directory that gets the packages.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(long, value_name = "DIR")]
    libtorch: PathBuf,
    #[arg(long, value_name = "FILE")]
    onnxruntime: PathBuf,
    /// A library of others, as PACKAGE;NAME;VERSION;LICENCE;URL;SHA256;NOTICE...
    #[arg(long, value_name = "LIBRARY", value_parser = bundled)]
    bundled: Vec<Bundled>,
    /// Makes large packages quickly, with the version VERSION~test1, and none of debug symbols.
    #[arg(long)]
    for_tests: bool,
    /// Makes packages of arm64, in the Debian in this directory, which compiles for it; as root.
    #[arg(long, value_name = "DIR")]
    arm64_within: Option<PathBuf>,
}

/// A third-party library in a package.
#[derive(Clone, Debug)]
struct Bundled {
    package: String,
    name: String,
    version: String,
    licence: String,
    /// Its package URL without the version.
    url: String,
    /// SHA-256 of the wheel that it was taken from.
    sha256: String,
    notices: Vec<PathBuf>,
}

fn bundled(told: &str) -> Result<Bundled, String> {
    let mut fields = told.split(';').map(str::to_owned);
    let mut field = || fields.next().ok_or_else(|| "PACKAGE;NAME;VERSION;LICENCE;URL;SHA256;NOTICE...".to_owned());
    let (package, name, version, licence, url, sha256) = (field()?, field()?, field()?, field()?, field()?, field()?);
    Ok(Bundled { package, name, version, licence, url, sha256, notices: fields.map(PathBuf::from).collect() })
}

/// Each package, and the cargo packages of the programs in it.
const PACKAGES: [(&str, &[&str]); 4] = [
    ("coft", &["coftd", "coftctl"]),
    ("coft-trainer", &["coft-trainer", "coft-launch"]),
    ("coft-mqtt", &["coft-mqtt"]),
    ("coft-exporter", &["coft-exporter"]),
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let made = if args.for_tests {
        let time = Time { epoch: "1767225600".into(), date: "Thu, 01 Jan 2026 00:00:00 +0000".into() };
        make(args, concat!(env!("CARGO_PKG_VERSION"), "~test1"), &time)?
    } else {
        make(args, &version()?, &commit_time()?)?
    };
    for file in made.iter().filter(|_| !args.for_tests) {
        println!("{:9.1} MB  {}", fs::metadata(file)?.len() as f64 / 1e6, file.display());
    }
    Ok(())
}

/// Root of this repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("packaging lies in the repository")
}

/// The time at which the packages claim to be made.
struct Time {
    /// Seconds since 1970.
    epoch: String,
    /// The same time in the format of a changelog.
    date: String,
}

/// Makes the packages and returns their paths.
fn make(args: &Args, version: &str, time: &Time) -> anyhow::Result<Vec<PathBuf>> {
    let from = |path: &Path| format!("using {}", path.display());
    fs::create_dir_all(&args.out).with_context(|| from(&args.out))?;
    let work = args.out.canonicalize()?.join("work");
    let source = work.join("coft");
    match fs::remove_dir_all(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| from(&work)),
        _ => fs::create_dir_all(&source)?,
    }
    let platform = Platform::new(args.arm64_within.clone(), vec![work.clone(), args.libtorch.canonicalize()?]);
    eprintln!("packaging coft {version} for {} ...", platform.debian());
    copy(&repository().join("packaging/debian"), &source.join("debian"))?;
    let changelog = format!(
        "coft ({}) unstable; urgency=medium\n\n  * CHANGELOG.md says what has changed.\n\n -- {MAINTAINER}  {}\n",
        version, time.date
    );
    fs::write(source.join("debian/changelog"), changelog)?;

    let made = work.join("made");
    fs::create_dir(&made)?;
    for (shipped, configured) in [("coft.toml", manual::SERVICE), ("mqtt.toml", manual::MQTT)] {
        let shipped = fs::read_to_string(repository().join("packaging").join(shipped))?;
        fs::write(made.join(format!("{}.5", configured.name)), manual::of_settings(&shipped, &configured))?;
    }
    for (package, programs) in PACKAGES {
        let crates = crates::of(programs, platform.triple())?;
        let bundled: Vec<_> = args.bundled.iter().filter(|library| library.package == package).collect();
        fs::write(made.join(format!("{package}.copyright")), copyright::text(package, &crates, &bundled)?)?;
        fs::write(made.join(format!("{package}.cdx.json")), sbom::text(package, version, &crates, &bundled)?)?;
    }
    let libraries = work.join("libraries");
    fs::create_dir(&libraries)?;
    take_libraries(args, &platform, &work)?;

    let listed = list::read(&fs::read_to_string(repository().join("packaging/files"))?)?;
    for file in listed.iter().filter(|file| file.architecture.as_ref().is_none_or(|only| only == platform.debian())) {
        let from = match file.from.split_once('/') {
            Some(("programs", name)) => args.programs.join(name),
            Some(("libraries", name)) => libraries.join(name),
            Some(("made", name)) => made.join(name),
            _ => repository().join(&file.from),
        };
        let to = source.join("files").join(&file.package).join(file.to.trim_start_matches('/'));
        copy(&from, &to)?;
    }

    let mut build = platform.command("dpkg-buildpackage", &source);
    build.args(["--build=binary", "--no-sign", "--no-check-builddeps", "--jobs=auto"]);
    build.arg(format!("--host-arch={}", platform.debian()));
    build.env("SOURCE_DATE_EPOCH", &time.epoch).env("COFT_COMPRESSION", if args.for_tests { "-Znone" } else { "-Zxz" });
    build.env("DEB_BUILD_OPTIONS", if args.for_tests { "noautodbgsym" } else { "" });
    let log = args.out.join("build.log");
    let file = fs::File::create(&log)?;
    build.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = build.status().context("starting dpkg-buildpackage")?;
    ensure!(status.success(), "dpkg-buildpackage failed; {} says why", log.display());

    for old in debs(&args.out)? {
        fs::remove_file(old)?;
    }
    for (package, _) in PACKAGES {
        fs::copy(made.join(format!("{package}.cdx.json")), args.out.join(format!("{package}.cdx.json")))?;
    }
    for deb in debs(&work)? {
        fs::rename(&deb, args.out.join(deb.file_name().context("a file has a name")?))?;
    }
    fs::remove_dir_all(&work)?;
    debs(&args.out)
}

const MAINTAINER: &str = "The coft developers <developers@coft.invalid>";

fn debs(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut debs = Vec::new();
    for entry in fs::read_dir(dir)? {
        debs.push(entry?.path());
    }
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    debs.sort();
    Ok(debs)
}

/// Copies a file, or a directory with its content. Only the owner may write to the copies, whatever the permissions in
/// the checkout are.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let told = || format!("copying {}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(told)?;
        for entry in fs::read_dir(from).with_context(told)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
    fs::copy(from, to).with_context(told)?;
    let mode = fs::metadata(from)?.permissions().mode();
    fs::set_permissions(to, fs::Permissions::from_mode(if mode & 0o100 != 0 { 0o755 } else { 0o644 }))?;
    Ok(())
}

/// Copies ONNX Runtime, libtorch without its symbols, and the stubs for NVIDIA's libraries into `libraries` in `work`.
fn take_libraries(args: &Args, platform: &Platform, work: &Path) -> anyhow::Result<()> {
    let to = work.join("libraries");
    copy(&args.onnxruntime, &to.join("libonnxruntime.so"))?;
    let from = args.libtorch.canonicalize()?.join("lib");
    let (libtorch, stubs): (&[&str], &[(&str, u32)]) = match platform.debian() {
        "arm64" => (
            &["libtorch_cpu.so", "libc10.so", "libarm_compute.so", "libarm_compute_graph.so"],
            &[("libcudart", 13), ("libcupti", 13), ("libnvpl_blas_lp64_gomp", 0), ("libnvpl_lapack_lp64_gomp", 0)],
        ),
        _ => (&["libtorch_cpu.so", "libc10.so"], &[("libcudart", 13), ("libcupti", 13)]),
    };
    for name in libtorch {
        // A quarter of libtorch_cpu.so is symbols for debuggers.
        let mut strip = platform.compiler("strip", &from);
        run_tool(strip.arg("--strip-unneeded").arg("-o").arg(to.join(name)).arg(name))?;
    }
    let sources = work.join("stubs");
    copy(&repository().join("packaging/nvidia-stubs"), &sources)?;
    for (name, number) in stubs {
        // Named without a directory, so that the path of the checkout does not get into the library.
        let mut compiler = platform.compiler("gcc", &sources);
        compiler.args([
            "-shared",
            "-s",
            "-fPIC",
            "-O2",
            "-Wall",
            "-Werror",
            &format!("-Wl,-soname,{name}.so.{number}"),
        ]);
        compiler.arg(format!("-Wl,--version-script={name}.map")).arg(format!("{name}.c"));
        if name.starts_with("libnvpl") {
            // Debian has several builds of OpenBLAS; this one shares libtorch's threads.
            const OPENBLAS: &str = "/usr/lib/aarch64-linux-gnu/openblas-openmp";
            compiler.args(["-Wl,--no-as-needed", &format!("-Wl,-rpath,{OPENBLAS}"), "-L", OPENBLAS]);
            compiler.arg("-l:libopenblas.so.0");
        }
        run_tool(compiler.arg("-o").arg(to.join(format!("{name}.so.{number}"))))?;
    }
    Ok(())
}

fn run_tool(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(io::stderr()).status();
    ensure!(status.with_context(|| format!("starting {program}"))?.success(), "{program} failed; it says why above");
    Ok(())
}

/// The release's number if the commit has its tag, otherwise a number that grows with the commit's time.
fn version() -> anyhow::Result<String> {
    let release = env!("CARGO_PKG_VERSION");
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let tags = git(&["tag", "--points-at", "HEAD"])?;
    if !changed && tags.lines().any(|tag| tag.strip_prefix('v') == Some(release)) {
        return Ok(release.into());
    }
    let time = git(&["log", "-1", "--date=format-local:%Y%m%d%H%M%S", "--format=%cd"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    Ok(format!("{release}~git{time}.{:.8}{}", commit, if changed { ".changed" } else { "" }))
}

fn commit_time() -> anyhow::Result<Time> {
    Ok(Time { epoch: git(&["log", "-1", "--format=%ct"])?, date: git(&["log", "-1", "--format=%cD"])? })
}

fn git(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(args).current_dir(repository()).env("TZ", "UTC").output();
    let output = output.context("starting git, which says what the packages are made from")?;
    ensure!(
        output.status.success(),
        "git {}: {}; packages are made from a checkout with its history",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
