//! `[import]` of the configuration.

use coft_core::shown::shown_path;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most that is read of a key, B.
const KEY_LIMIT: u64 = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImportSettings {
    /// Ed25519 public key, PEM (RFC 8410). Where it is given, a bundle without this key's signature is refused.
    pub trusted_key: Option<PathBuf>,
}

impl ImportSettings {
    /// Whether the key that is named can be used.
    ///
    /// # Errors
    /// It cannot be read, or is no such key.
    pub fn check(&self) -> Result<(), String> {
        match &self.trusted_key {
            Some(key) => read_key(key).map(drop).map_err(|why| format!("{}: {why}", shown_path(key))),
            None => Ok(()),
        }
    }
}

/// Reads the key that bundles have to be signed by.
pub fn read_key(key: &Path) -> Result<VerifyingKey, String> {
    let mut pem = String::new();
    let read = File::open(key).and_then(|file| file.take(KEY_LIMIT).read_to_string(&mut pem));
    read.map_err(|error| error.to_string())?;
    VerifyingKey::from_public_key_pem(&pem).map_err(|error| error.to_string())
}
