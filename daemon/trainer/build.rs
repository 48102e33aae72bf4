//! Lets the binary find libtorch without a loader path. The search paths in the binary begin at the binary's own
//! directory.
//!
//! An absolute path would be a directory of whoever built the binary. Anyone who can write there could run code as the
//! service.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Name of the links to libtorch in cargo's build directories.
const LINK: &str = "libtorch";

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=build.rs");
    // DT_RPATH, not DT_RUNPATH: it also serves the libraries that libtorch itself opens.
    println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags");
    // The first path is /usr/lib/coft/torch/lib, as seen from /usr/libexec/coft, for the installed program. The second
    // path leads through a link beside the binary, in a build directory.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../../lib/coft/torch/lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/{LINK}/lib");
    if let Some(libtorch) = env::var_os("LIBTORCH") {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        // The build script runs in target/PROFILE/build/coft-trainer-HASH/out. Test binaries lie in
        // target/PROFILE/deps.
        let profile = out.ancestors().nth(3).expect("cargo's layout of a target directory");
        for dir in [profile.to_owned(), profile.join("deps")] {
            if let Err(error) = link(Path::new(&libtorch), &dir.join(LINK)) {
                println!(
                    "cargo::warning=no link to libtorch in {}: {error}; set LD_LIBRARY_PATH to run",
                    dir.display()
                );
            }
        }
    }
}

fn link(to: &Path, at: &Path) -> io::Result<()> {
    if fs::read_link(at).is_ok_and(|found| found == to) {
        return Ok(());
    }
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(to, at)
}
