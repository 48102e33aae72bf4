//! Makes a candidate of a generation from elsewhere: copies its files, and checks its signature if one is asked for.
//! Whether the files are what the manifest states, and whether the candidate serves, is decided as for every other
//! candidate.

use super::promoter::stopped;
use crate::config::{ImportSettings, read_key};
use crate::disk_space::Reserve;
use bytesize::ByteSize;
use coft_core::event::{Failure, FailureKind};
use coft_core::manifest::{MANIFEST, Manifest, SIGNATURE, STATED};
use coft_core::shown::{shown_io, shown_path};
use ed25519_dalek::Signature;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Largest manifest that is read, B. 16 MiB [choice].
const MANIFEST_LIMIT: u64 = 16 << 20;
/// Maximum number of bytes that are copied between two checks of `stop`.
const CHUNK: usize = 1 << 20;

/// Copies a bundle into a new directory, unless it is stopped.
pub fn copy(
    files: &HashMap<String, OwnedFd>,
    settings: &ImportSettings,
    reserve: &Reserve,
    candidate: &Path,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let scratch = candidate.parent().expect("a candidate lies in its job's directory");
    fs::create_dir_all(scratch).and_then(|()| fs::create_dir(candidate)).map_err(|error| at(candidate, &error))?;
    let part = |name| {
        let file = files.get(name).ok_or_else(|| bad(format!("the bundle has no {name}")))?;
        Part::new(file, name)
    };
    let first = part(MANIFEST)?;
    let limit = first.size.min(MANIFEST_LIMIT);
    let parts = STATED.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    has_room(reserve, scratch, parts.iter().fold(limit, |sum, part| sum.saturating_add(part.size)))?;
    // The copy is checked, because the client may still change the files that it has handed over.
    let manifest = candidate.join(MANIFEST);
    copy_file(&first.file, &manifest, limit, stop)?;
    if let Some(key) = &settings.trusted_key {
        let signature = files.get(SIGNATURE).ok_or_else(|| {
            bad(format!(
                "the bundle has no {SIGNATURE}; this service takes in only what is signed by {}",
                shown_path(key)
            ))
        })?;
        verify(key, &manifest, signature)?;
    }
    let stated = fs::read(&manifest).map_err(|error| at(&manifest, &error))?;
    let stated: Manifest = serde_json::from_slice(&stated).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
    for Part { name, file, size } in parts {
        if !stated.files.contains_key(name) {
            return Err(bad(format!("{MANIFEST} states no digest of {name}")));
        }
        copy_file(&file, &candidate.join(name), size, stop)?;
    }
    coft_fs::sync_dir(candidate).map_err(|error| at(candidate, &error))
}

/// A file of the bundle, and its size in bytes when the import began.
struct Part {
    name: &'static str,
    file: File,
    size: u64,
}

impl Part {
    fn new(file: &OwnedFd, name: &'static str) -> Result<Self, Failure> {
        let file = regular(file, Path::new(name))?;
        let size = file.metadata().map_err(|error| at(Path::new(name), &error))?.len();
        Ok(Self { name, file, size })
    }
}

/// Refuses a bundle for which the disk of `dir` has no space.
fn has_room(reserve: &Reserve, dir: &Path, needed: u64) -> Result<(), Failure> {
    let Some(shortage) = reserve.shortage(dir, needed).map_err(|error| at(dir, &error))? else { return Ok(()) };
    Err(Failure {
        kind: FailureKind::DiskFull,
        message: format!("the bundle has {}; {shortage}", ByteSize::b(needed)),
        hint: format!("free {} there and import it again; the active generation keeps serving", shortage.lacking),
    })
}

fn copy_file(from: &File, path: &Path, limit: u64, stop: &CancellationToken) -> Result<(), Failure> {
    let mut to = File::create_new(path).map_err(|error| at(path, &error))?;
    let (mut chunk, mut offset) = (vec![0; CHUNK], 0);
    loop {
        if stop.is_cancelled() {
            return Err(stopped());
        }
        // Read from the start, wherever the client's offset is.
        let count = from.read_at(&mut chunk, offset).map_err(|error| at(path, &error))?;
        if count == 0 {
            break;
        }
        to.write_all(&chunk[..count]).map_err(|error| at(path, &error))?;
        offset += count as u64;
        if offset > limit {
            return Err(bad(format!("{} has more than {limit} bytes", shown_path(path))));
        }
    }
    to.sync_all().map_err(|error| at(path, &error))
}

fn verify(key: &Path, manifest: &Path, signature: &OwnedFd) -> Result<(), Failure> {
    let unusable = |why: String| Failure {
        kind: FailureKind::Internal,
        message: format!("import.trusted-key {}: {why}", shown_path(key)),
        hint: "name an Ed25519 public key in PEM there; the bundle has not been looked at".into(),
    };
    let trusted = read_key(key).map_err(unusable)?;
    let stated = fs::read(manifest).map_err(|error| at(manifest, &error))?;
    // One byte more than a signature has, to see that it ends there.
    let mut bytes = [0; Signature::BYTE_SIZE + 1];
    let read = regular(signature, Path::new(SIGNATURE))?.read_at(&mut bytes, 0);
    let count = read.map_err(|error| at(Path::new(SIGNATURE), &error))?;
    let refused = || bad(format!("{SIGNATURE} is no signature of the manifest by {}", shown_path(key)));
    let signature = Signature::from_slice(&bytes[..count]).map_err(|_| refused())?;
    trusted.verify_strict(&stated, &signature).map_err(|_| refused())
}

/// Refuses what is no regular file: reading a pipe could block the service.
fn regular(file: &OwnedFd, path: &Path) -> Result<File, Failure> {
    let file = file.try_clone().map(File::from).map_err(|error| at(path, &error))?;
    match file.metadata().map_err(|error| at(path, &error))?.is_file() {
        true => Ok(file),
        false => Err(bad(format!("{} is no regular file", shown_path(path)))),
    }
}

fn bad(message: String) -> Failure {
    let hint = "import a directory that coftctl export --format onnx has written".into();
    Failure { kind: FailureKind::BadModel, message, hint }
}

fn at(path: &Path, error: &io::Error) -> Failure {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::StorageFull => (FailureKind::DiskFull, "free some space; the active generation keeps serving"),
        _ => (FailureKind::Internal, "look at the named file; the active generation keeps serving"),
    };
    Failure { kind, message: format!("{}: {}", shown_path(path), shown_io(error)), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coft_core::manifest::{MODEL, PROBE};
    use ed25519_dalek::pkcs8::{EncodePublicKey, spki::der::pem::LineEnding};
    use ed25519_dalek::{Signer, SigningKey};
    use std::io::{Seek, SeekFrom};

    fn file(content: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.into()
    }

    fn manifest() -> Vec<u8> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve/sharp");
        let mut manifest: Manifest = serde_json::from_slice(&fs::read(golden.join(MANIFEST)).unwrap()).unwrap();
        manifest.files = STATED.map(|name| (name.to_owned(), "0".repeat(64))).into();
        serde_json::to_vec(&manifest).unwrap()
    }

    fn bundle() -> HashMap<String, OwnedFd> {
        let files = STATED.into_iter().map(|name| (name.to_owned(), file(name.as_bytes())));
        files.chain([(MANIFEST.to_owned(), file(&manifest()))]).collect()
    }

    fn import(files: &HashMap<String, OwnedFd>, settings: &ImportSettings) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let candidate = dir.path().join("round-1/candidate");
        copy(files, settings, &Reserve::of(0), &candidate, &CancellationToken::new())
            .map_err(|failure| failure.message)?;
        Ok(fs::read_to_string(candidate.join(MODEL)).unwrap())
    }

    #[test]
    fn files_are_copied_from_their_start() {
        assert_eq!(import(&bundle(), &ImportSettings::default()).unwrap(), MODEL);
        let mut short = bundle();
        short.remove(PROBE);
        assert_eq!(import(&short, &ImportSettings::default()).unwrap_err(), "the bundle has no probe.safetensors");
        let mut unstated: Manifest = serde_json::from_slice(&manifest()).unwrap();
        unstated.files.remove(MODEL);
        let mut loose = bundle();
        loose.insert(MANIFEST.into(), file(&serde_json::to_vec(&unstated).unwrap()));
        assert!(import(&loose, &ImportSettings::default()).unwrap_err().contains("states no digest of model.onnx"));
        let (reader, _writer) = io::pipe().unwrap();
        short.insert(PROBE.into(), reader.into());
        assert!(import(&short, &ImportSettings::default()).unwrap_err().contains("no regular file"));
    }

    #[test]
    fn a_stopped_import_ends() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let stopped =
            copy(&bundle(), &ImportSettings::default(), &Reserve::of(0), &dir.path().join("round-1/candidate"), &stop)
                .unwrap_err();
        assert_eq!(stopped.kind, FailureKind::Cancelled);
    }

    #[test]
    fn what_the_disk_has_no_room_for_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        has_room(&Reserve::of(0), dir.path(), 0).unwrap();
        let refused = has_room(&Reserve::of(0), dir.path(), u64::MAX).unwrap_err();
        assert_eq!(refused.kind, FailureKind::DiskFull, "{}", refused.message);
        assert!(refused.message.contains("a round of this model needs 64.0 MiB"), "{}", refused.message);
    }

    #[test]
    fn a_file_that_grows_while_it_is_copied_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (grown, to) = (File::from(file(b"12345")), dir.path().join(MODEL));
        let refused = copy_file(&grown, &to, 4, &CancellationToken::new()).unwrap_err();
        assert!(refused.message.contains("more than 4 bytes"), "{}", refused.message);
    }

    #[test]
    fn only_what_the_trusted_key_has_signed_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let (ours, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        fs::write(&path, ours.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        let settings = ImportSettings { trusted_key: Some(path.clone()) };
        let signed = |bytes: &[u8]| {
            let mut files = bundle();
            files.insert(SIGNATURE.into(), file(bytes));
            import(&files, &settings)
        };
        assert!(import(&bundle(), &settings).unwrap_err().contains("only what is signed"));
        assert!(signed(&other.sign(&manifest()).to_bytes()).unwrap_err().contains("no signature of the manifest"));
        assert!(signed(b"short").unwrap_err().contains("no signature of the manifest"));
        assert_eq!(signed(&ours.sign(&manifest()).to_bytes()).unwrap(), MODEL);
        fs::write(&path, "no key").unwrap();
        assert!(signed(&ours.sign(&manifest()).to_bytes()).unwrap_err().contains("import.trusted-key"));
    }
}
