//! The model that is built into the program, and its way to the disk.

use std::fs;
use std::io;
use std::path::Path;

macro_rules! demo_files {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../assets/demo-model/", $name)).as_slice())),*]
    };
}
/// The model that is built into the program.
pub(super) const DEMO: [(&str, &[u8]); 5] =
    demo_files!["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "labels.txt"];

/// Writes the files into `dir`, all or none. A directory that already has exactly this content is left as it is.
pub(super) fn unpack(files: &[(&str, &[u8])], dir: &Path) -> io::Result<()> {
    let same = |(name, content): &(&str, &[u8])| fs::read(dir.join(name)).is_ok_and(|found| found == *content);
    if files.iter().all(same) {
        return Ok(());
    }
    fs::create_dir_all(coft_fs::parent(dir))?;
    coft_fs::replace_dir(dir, |new| {
        files.iter().try_for_each(|(name, content)| coft_fs::write_synced(&new.join(name), content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &[u8]); 2] = [("a", b"1"), ("b", b"2")];

    #[test]
    fn a_model_is_unpacked_once_and_again_when_it_differs() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("models/demo");
        unpack(&FILES, &dir).unwrap();
        let first = fs::metadata(dir.join("a")).unwrap().modified().unwrap();
        unpack(&FILES, &dir).unwrap();
        assert_eq!(fs::metadata(dir.join("a")).unwrap().modified().unwrap(), first, "left alone");
        fs::write(dir.join("b"), "another version's").unwrap();
        fs::write(dir.join("stale"), "another version's").unwrap();
        unpack(&FILES, &dir).unwrap();
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"2");
        assert!(!dir.join("stale").exists());
        assert_eq!(fs::read_dir(state.path().join("models")).unwrap().count(), 1, "nothing is left lying about");
    }
}
