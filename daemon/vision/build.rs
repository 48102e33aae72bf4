//! Compiles the C part of the JPEG decoder, which calls libjpeg-turbo; the crate `turbojpeg-sys` builds the library.

fn main() {
    println!("cargo::rerun-if-changed=src/jpeg/decode.c");
    let mut build = cc::Build::new();
    // Directories of libjpeg-turbo's headers, separated by commas.
    let headers = std::env::var("DEP_TURBOJPEG_INCLUDE").expect("turbojpeg-sys says where its headers are");
    build.includes(headers.split(',')).file("src/jpeg/decode.c").compile("coft_jpeg");
}
