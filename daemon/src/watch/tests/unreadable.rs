//! Directories that the service may not read.

use super::*;

/// One unreadable directory ended the watching of all directories, and nothing started it again.
#[test]
fn an_unreadable_directory_leaves_the_others_watched_and_heals() {
    let mut camera = Camera::new(|source| {
        for dir in ["a", "m", "z"] {
            fs::create_dir_all(source.join(dir)).unwrap();
        }
        // Root alone could write it later.
        fs::write(source.join("m/1.jpg"), "x").unwrap();
        set_mode(&source.join("m"), 0);
    });
    let problem = camera.until_problem(Some("cannot be looked through")).unwrap();
    assert!(problem.contains("/in/m cannot be") && problem.contains("let the service's user read it"), "{problem}");
    for file in ["a/1.jpg", "z/1.jpg"] {
        fs::write(camera.path(file), "x").unwrap();
    }
    camera.until_settled(&["a/1.jpg", "z/1.jpg"]);
    set_mode(&camera.path("m"), 0o755);
    camera.until_settled(&["m/1.jpg"]);
    camera.until_problem(None);
    fs::write(camera.path("m/2.jpg"), "x").unwrap();
    camera.until_settled(&["m/2.jpg"]);
}

#[test]
fn directories_that_arrive_unreadable_or_become_so_are_told_and_heal() {
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let arriving = camera.dir.path().join("day");
    for dir in ["a", "secret/deep", "z"] {
        fs::create_dir_all(arriving.join(dir)).unwrap();
    }
    set_mode(&arriving.join("secret"), 0);
    fs::rename(arriving, camera.path("day")).unwrap();
    camera.until_problem(Some("day/secret cannot be looked through"));
    fs::write(camera.path("day/z/1.jpg"), "x").unwrap();
    camera.until_settled(&["day/z/1.jpg"]);
    set_mode(&camera.path("day/z"), 0);
    camera.until_problem(Some("day/secret (and 1 more) cannot"));
    for dir in ["day/z", "day/secret"] {
        set_mode(&camera.path(dir), 0o755);
    }
    camera.until_problem(None);
    fs::write(camera.path("day/secret/deep/1.jpg"), "x").unwrap();
    camera.until_settled(&["day/secret/deep/1.jpg"]);
}

/// The names in the directory can be read, but nothing else.
#[test]
fn a_directory_that_may_not_be_entered_is_told_and_heals() {
    let mut camera = Camera::new(|source| {
        fs::create_dir_all(source.join("d/e")).unwrap();
        fs::write(source.join("d/a.jpg"), "x").unwrap();
        set_mode(&source.join("d"), 0o444);
    });
    camera.until_problem(Some("/in/d"));
    set_mode(&camera.path("d"), 0o755);
    camera.until_settled(&["d/a.jpg"]);
    camera.until_problem(None);
    fs::write(camera.path("d/e/b.jpg"), "x").unwrap();
    camera.until_settled(&["d/e/b.jpg"]);
}

/// The problem said that the directory does not exist and should be created, although a directory above it was not
/// accessible.
#[test]
fn the_directory_that_bars_the_way_to_a_source_is_named() {
    let mut camera = Camera::with(
        |source| {
            fs::create_dir_all(source.join("Pictures")).unwrap();
            set_mode(source, 0);
        },
        |source| source.path.push("Pictures"),
    );
    let problem = camera.until_problem(Some("may not be entered by the service's user")).unwrap();
    assert!(problem.contains("/in above it") && problem.contains("setfacl"), "{problem}");
    set_mode(&camera.path(""), 0o755);
    camera.until_problem(None);
    fs::write(camera.path("Pictures/a.jpg"), "x").unwrap();
    camera.until_settled(&["Pictures/a.jpg"]);
}

#[test]
fn an_unreadable_directory_that_is_removed_is_told_no_more() {
    let mut camera = Camera::new(|source| {
        fs::create_dir_all(source.join("m")).unwrap();
        set_mode(&source.join("m"), 0);
    });
    camera.until_problem(Some("cannot be looked through"));
    fs::remove_dir(camera.path("m")).unwrap();
    camera.until_problem(None);
}
