//! Catalogues that are damaged, too new, or on a disk that can only be read.

use super::*;
use crate::watch::namespace::{MOUNTS, entered, run};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// A damaged catalogue ended the service at each start.
#[tokio::test]
async fn a_damaged_catalogue_is_moved_aside_and_a_new_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let garbage = "this is no database, but it is long enough to be taken for one".repeat(100);
    for number in 1..=5 {
        fs::write(&path, &garbage).unwrap();
        let catalog = Catalog::open(&path).unwrap();
        let note = catalog.note().unwrap();
        assert!(note.contains(&path.display().to_string()) && note.contains("taken in anew"), "{note}");
        assert!(note.contains("history of jobs is lost"), "{note}");
        check(&catalog.counts().await.unwrap(), 0, 0);
        let kept = damaged(dir.path());
        assert_eq!(kept.len(), number.min(3), "{kept:?}");
        assert!(kept.iter().all(|kept| fs::read_to_string(kept).unwrap() == garbage));
        closed(catalog, &path);
    }
    assert_eq!(Catalog::open(&path).unwrap().note(), None, "once");
}

#[tokio::test]
async fn rounds_that_can_still_be_read_go_over_to_the_new_catalogue() {
    let (dir, catalog) = catalog();
    catalog.save_job(&interrupted(4)).await.unwrap();
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    alter(&path, "DROP TABLE quarantine");
    let catalog = Catalog::open(&path).unwrap();
    let note = catalog.note().unwrap();
    assert!(note.contains("quarantine is missing") && note.contains("1 jobs of the history were kept"), "{note}");
    assert_eq!(catalog.jobs().await.unwrap(), [interrupted(4)]);
}

/// Every query failed once damage had been found, until somebody moved the file away by hand.
#[tokio::test]
async fn damage_that_is_met_later_is_mended_while_the_service_runs() {
    let (dir, catalog) = catalog();
    filled(&catalog, 50).await;
    let settle = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory";
    catalog.ask(move |db| db.execute_batch(settle)).await.unwrap();
    let file = fs::File::options().write(true).open(dir.path().join("catalog.sqlite")).unwrap();
    let (first_page, bytes) = (4096, file.metadata().unwrap().len());
    file.write_all_at(&vec![0xAA; bytes as usize - first_page], first_page as u64).unwrap();
    drop(file);
    assert_eq!(catalog.note(), None);
    let met = catalog.counts().await;
    assert!(matches!(met, Err(CatalogError::Damaged { .. })), "{met:?}");
    check(&catalog.counts().await.unwrap(), 0, 0);
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 1, 0);
    assert!(catalog.note().unwrap().contains("taken in anew"));
    assert_eq!(damaged(dir.path()).len(), 1);
}

/// Each start read the whole catalogue.
#[tokio::test]
async fn damage_that_a_start_does_not_look_for_is_met_by_what_reads_it() {
    let (dir, catalog) = catalog();
    filled(&catalog, 300).await;
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'images'";
    let root: u64 = catalog.ask(move |db| db.query_row(root, [], |row| row.get(0))).await.unwrap();
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    let file = fs::File::options().write(true).open(&path).unwrap();
    FileExt::write_all_at(&file, &[0xa5; 4096], (root - 1) * 4096).unwrap();
    let catalog = Catalog::open(&path).unwrap();
    let error = catalog.record(vec![image("b.jpg", 1, "b")]).await.unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error}");
}

#[test]
fn a_newer_catalogue_is_left_alone() {
    let (dir, catalog) = catalog();
    drop(catalog);
    let path = dir.path().join("catalog.sqlite");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = Catalog::open(&path).err().unwrap();
    assert!(matches!(error, CatalogError::Newer { found: 7, .. }), "{error}");
}

/// The service reported "unable to open database file", which did not show that the disk was read-only.
#[test]
fn a_disk_that_can_only_be_read_is_named_at_the_start() {
    if !entered("catalog::tests::damage::a_disk_that_can_only_be_read_is_named_at_the_start", MOUNTS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display().to_string();
    run("mount", &["-t", "tmpfs", "none", &state]);
    let path = dir.path().join("catalog.sqlite");
    for is_known in [false, true] {
        if is_known {
            drop(Catalog::open(&path).unwrap());
            // The catalogue's thread removes the files beside the database when it ends.
            while dir.path().join("catalog.sqlite-wal").exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        run("mount", &["-o", "remount,ro", &state]);
        let error = Catalog::open(&path).unwrap_err();
        assert!(matches!(error, CatalogError::ReadOnly { .. }), "{is_known}: {error}");
        run("mount", &["-o", "remount,rw", &state]);
    }
    // Another reason why SQLite cannot open a file is not reported as a read-only disk.
    let error = Catalog::open(&dir.path().join("missing/catalog.sqlite")).unwrap_err();
    assert!(matches!(error, CatalogError::Sqlite { .. }), "{error}");
    run("umount", &[&state]);
}

/// The damaged catalogues that were kept.
fn damaged(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().contains(".damaged-")).collect()
}
