//! An image layout (OCI image specification 1.1) with one layer, which holds the Triton repository below `models/`.
//!
//! The same generation always gives the same bytes: entries are sorted and have no time and no owner.

use super::{Bundle, Hashed, at, create_dir, triton, write_new};
use crate::error::CliError;
use oci_spec::image::{
    Arch, Descriptor, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder,
    Os, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::Digest;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

const ROOT: &str = "models";

pub fn write(bundle: &Bundle, dir: &Path) -> Result<(), CliError> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(at(&blobs))?;
    let tree = dir.join("tree");
    create_dir(&tree)?;
    triton::write(bundle, &tree)?;
    let layer = layer(bundle, &tree, &blobs)?;
    fs::remove_dir_all(&tree).map_err(at(&tree))?;

    let diff_id = layer.digest().to_string();
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids([diff_id]).build()?;
    // The content has no architecture, but one must be stated, always the same.
    let config = ImageConfigurationBuilder::default().architecture(Arch::Amd64).os(Os::Linux).rootfs(rootfs).build()?;
    let config = blob(&blobs, MediaType::ImageConfig, &config)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers([layer])
        .build()?;
    let mut manifest = blob(&blobs, MediaType::ImageManifest, &manifest)?;
    let tag = format!("{}-{}", bundle.name, bundle.generation);
    manifest.set_annotations(Some(HashMap::from([("org.opencontainers.image.ref.name".to_owned(), tag)])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    write_new(&dir.join("index.json"), &json(&index))?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    write_new(&dir.join("oci-layout"), &json(&layout))
}

/// Writes the tree as a tar archive among the blobs.
fn layer(bundle: &Bundle, tree: &Path, blobs: &Path) -> Result<Descriptor, CliError> {
    let unnamed = blobs.join("layer");
    let file = File::create_new(&unnamed).map_err(at(&unnamed))?;
    let mut archive = tar::Builder::new(bundle.hashed(file));
    archive_tree(&mut archive, tree, Path::new(ROOT)).map_err(at(&unnamed))?;
    let Hashed { to: file, hash, .. } = archive.into_inner().map_err(at(&unnamed))?;
    let size = file.sync_all().and_then(|()| file.metadata()).map_err(at(&unnamed))?.len();
    let digest = coft_fs::hex(&hash.finalize());
    let path = blobs.join(&digest);
    fs::rename(&unnamed, &path).map_err(at(&path))?;
    Ok(Descriptor::new(MediaType::ImageLayer, size, sha256(&digest)?))
}

fn archive_tree(archive: &mut tar::Builder<Hashed>, from: &Path, name: &Path) -> io::Result<()> {
    let header = |kind, mode, size| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header
    };
    if !from.is_dir() {
        let file = File::open(from)?;
        let mut header = header(EntryType::Regular, 0o644, file.metadata()?.len());
        return archive.append_data(&mut header, name, file);
    }
    archive.append_data(&mut header(EntryType::Directory, 0o755, 0), name, io::empty())?;
    let mut children: Vec<PathBuf> = fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    children.sort();
    for child in children {
        archive_tree(archive, &child, &name.join(child.file_name().expect("an entry has a name")))?;
    }
    Ok(())
}

fn blob(blobs: &Path, kind: MediaType, content: &impl Serialize) -> Result<Descriptor, CliError> {
    let bytes = json(content);
    let digest = coft_fs::sha256(&bytes);
    write_new(&blobs.join(&digest), &bytes)?;
    Ok(Descriptor::new(kind, bytes.len() as u64, sha256(&digest)?))
}

fn sha256(digest: &str) -> Result<Sha256Digest, CliError> {
    Ok(digest.parse()?)
}

fn json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("it is plain data")
}
