//! Writes the place of libtorch into the binary, so that it runs without a loader path.

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        let lib = std::path::Path::new(&libtorch).join("lib");
        // DT_RPATH, not DT_RUNPATH: it also serves the libraries that libtorch itself opens.
        println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{}", lib.display());
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../../lib/coft/torch/lib");
    }
}
