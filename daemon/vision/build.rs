//! Compiles the part of the JPEG decoder that speaks to libjpeg-turbo, which the crate `turbojpeg-sys` builds.

fn main() {
    println!("cargo::rerun-if-changed=src/jpeg/decode.c");
    let mut build = cc::Build::new();
    // Directories of libjpeg-turbo's headers, separated by commas.
    let headers = std::env::var("DEP_TURBOJPEG_INCLUDE").expect("turbojpeg-sys says where its headers are");
    build.includes(headers.split(',')).file("src/jpeg/decode.c").compile("coft_jpeg");
}
