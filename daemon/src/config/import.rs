//! `[import]` of the configuration.

use coft_core::shown::shown_path;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes that are read of a key file.
const KEY_LIMIT: u64 = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImportSettings {
    /// Path of an Ed25519 public key, PEM (RFC 8410). If set, a bundle that is not signed with this key is refused.
    pub trusted_key: Option<PathBuf>,
}

impl ImportSettings {
    /// Checks that the configured key can be used.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a key.
    pub fn check(&self) -> Result<(), String> {
        match &self.trusted_key {
            Some(key) => read_key(key).map(drop).map_err(|why| format!("{}: {why}", shown_path(key))),
            None => Ok(()),
        }
    }
}

/// Reads the key that must have signed bundles.
pub fn read_key(key: &Path) -> Result<VerifyingKey, String> {
    let mut pem = String::new();
    let read = File::open(key).and_then(|file| file.take(KEY_LIMIT).read_to_string(&mut pem));
    read.map_err(|error| error.to_string())?;
    VerifyingKey::from_public_key_pem(&pem).map_err(|error| error.to_string())
}
