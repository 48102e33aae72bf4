//! File systems that are mounted in, over and under a source.

use super::*;
use crate::watch::namespace::{MOUNTS, entered, run};
use coft_harness::file_systems::Bindfs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

fn tmpfs(at: &Path) {
    run("mount", &["-t", "tmpfs", "none", at.to_str().unwrap()]);
}

fn bind(from: &Path, to: &Path) {
    run("mount", &["--bind", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// Options of an overlay whose layers lie in this directory.
fn overlay(layers: &Path) -> String {
    let layer = |name: &str| {
        let dir = layers.join(name);
        fs::create_dir(&dir).unwrap();
        dir.display().to_string()
    };
    format!("lowerdir={},upperdir={},workdir={}", layer("lower"), layer("upper"), layer("work"))
}

fn unmount(at: &Path) {
    run("umount", &["-l", at.to_str().unwrap()]);
}

/// A file system mounted below a source was never noticed, and the status reported no problem.
#[test]
fn what_is_mounted_below_a_source_is_found_and_watched() {
    if !entered("watch::tests::mounted::what_is_mounted_below_a_source_is_found_and_watched", MOUNTS) {
        return;
    }
    let mut camera = Camera::new(|source| fs::create_dir_all(source.join("my cam/sub")).unwrap());
    camera.expect_source(None);
    let cam = camera.path("my cam");
    for round in 0..3 {
        tmpfs(&cam);
        fs::write(cam.join("a.jpg"), "x").unwrap();
        camera.until_settled(&["my cam/a.jpg"]);
        fs::write(cam.join("b.jpg"), "x").unwrap();
        camera.until_settled(&["my cam/b.jpg"]);
        unmount(&cam);
        let below = format!("my cam/sub/{round}.jpg");
        fs::write(camera.path(&below), "x").unwrap();
        camera.until_settled(&[&below]);
    }
    // Mounts a directory that existed before, under another name.
    let other = camera.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("c.jpg"), "x").unwrap();
    bind(&other, &cam);
    camera.until_settled(&["my cam/c.jpg"]);
}

/// Renaming the directory around a mount changes nothing in the kernel's table of mounts. The same happens where a file
/// system is mounted and unmounted between two readings of the table: the directory below it was never watched again.
#[test]
fn what_was_mounted_between_two_looks_at_the_table_is_seen_to_go() {
    if !entered("watch::tests::mounted::what_was_mounted_between_two_looks_at_the_table_is_seen_to_go", MOUNTS) {
        return;
    }
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let outside = camera.dir.path().join("outside");
    fs::create_dir_all(outside.join("cam/sub")).unwrap();
    tmpfs(&outside.join("cam"));
    fs::write(outside.join("cam/a.jpg"), "x").unwrap();
    thread::sleep(Duration::from_secs(2));
    fs::rename(&outside, camera.path("inside")).unwrap();
    camera.until_settled(&["inside/cam/a.jpg"]);
    unmount(&camera.path("inside/cam"));
    fs::write(camera.path("inside/cam/sub/b.jpg"), "x").unwrap();
    camera.until_settled(&["inside/cam/sub/b.jpg"]);
}

/// A file system that is mounted on a directory while that directory is being scanned must not be noted as known if the
/// scan has seen the directory below it.
#[test]
fn what_is_mounted_while_its_directory_is_scanned_is_seen() {
    if !entered("watch::tests::mounted::what_is_mounted_while_its_directory_is_scanned_is_seen", MOUNTS) {
        return;
    }
    const ROUNDS: u64 = 100;
    let mut camera = Camera::new(|source| fs::create_dir_all(source.join("cam")).unwrap());
    camera.expect_source(None);
    let (cam, disks) = (camera.path("cam"), camera.dir.path().join("disks"));
    fs::create_dir(&disks).unwrap();
    tmpfs(&disks);
    // Each file system is remarked once, so each round needs another one.
    let disk = |round: u64| {
        let (layers, disk) = (disks.join(format!("layers{round}")), disks.join(round.to_string()));
        fs::create_dir(&layers).unwrap();
        fs::create_dir(&disk).unwrap();
        let options = overlay(&layers);
        mount(Some("none"), &disk, Some("overlay"), MsFlags::empty(), Some(&options[..])).unwrap();
        disk
    };
    let disks: Vec<PathBuf> = (0..ROUNDS).map(disk).collect();
    let handle = camera.watch.handle();
    for (disk, round) in disks.iter().zip(0..) {
        handle.rescan();
        // At another moment of the scan each time.
        let moment = Instant::now() + Duration::from_micros(5 * round);
        while Instant::now() < moment {}
        mount(Some(disk), &cam, None::<&Path>, MsFlags::MS_BIND, None::<&Path>).unwrap();
        camera.expect_remark("(overlay)");
        umount2(&cam, MntFlags::MNT_DETACH).unwrap();
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_source_that_is_mounted_over_and_unmounted_stays_watched() {
    if !entered("watch::tests::mounted::a_source_that_is_mounted_over_and_unmounted_stays_watched", MOUNTS) {
        return;
    }
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let (root, disk) = (camera.path(""), camera.dir.path().join("disk"));
    fs::create_dir(&disk).unwrap();
    tmpfs(&disk);
    for round in 0..3 {
        bind(&disk, &root);
        let file = format!("{round}.jpg");
        fs::write(camera.path(&file), "x").unwrap();
        camera.until_settled(&[&file]);
        unmount(&root);
        let file = format!("under{round}.jpg");
        fs::write(camera.path(&file), "x").unwrap();
        camera.until_settled(&[&file]);
    }
}

/// Such file systems counted as watched, although the kernel does not report what others change there.
#[test]
fn a_file_system_without_notices_is_remarked_with_the_interval() {
    if !entered("watch::tests::mounted::a_file_system_without_notices_is_remarked_with_the_interval", MOUNTS) {
        return;
    }
    let mut camera = Camera::new(|source| fs::create_dir_all(source.join("nas")).unwrap());
    camera.expect_source(None);
    let store = camera.dir.path().join("store");
    fs::create_dir(&store).unwrap();
    set_mode(&store, 0o755);
    let Some(_fuse) = Bindfs::mount(&store, &camera.path("nas"), &[]) else { return };
    camera.expect_remark("(FUSE) whose changes from elsewhere the kernel does not report: those are found every 1h");
    fs::write(store.join("a.jpg"), "x").unwrap();
    thread::sleep(QUIET);
    camera.watch.handle().rescan();
    camera.until_settled(&["nas/a.jpg"]);
}

#[test]
fn an_overlay_is_remarked() {
    if !entered("watch::tests::mounted::an_overlay_is_remarked", MOUNTS) {
        return;
    }
    let mut camera = Camera::new(|source| {
        fs::create_dir(source).unwrap();
        let layers = source.parent().unwrap().join("layers");
        fs::create_dir(&layers).unwrap();
        tmpfs(&layers);
        let options = overlay(&layers);
        run("mount", &["-t", "overlay", "none", "-o", &options, source.to_str().unwrap()]);
    });
    camera.expect_remark("(overlay)");
}

/// The service's own pixels became images, again at each start.
#[test]
fn the_state_directory_is_refused_through_a_bind_mount() {
    if !entered("watch::tests::mounted::the_state_directory_is_refused_through_a_bind_mount", MOUNTS) {
        return;
    }
    let mut camera = Camera::with(
        |source| fs::create_dir_all(source.join("s/pixels")).unwrap(),
        |source| {
            let state = source.path.parent().unwrap().join("state");
            fs::create_dir(&state).unwrap();
            bind(&source.path.join("s"), &state);
        },
    );
    camera.expect_source(Some("overlaps with state-dir"));
    unmount(&camera.dir.path().join("state"));
    camera.expect_source(None);
}

/// A FUSE file system that does not answer blocks only the thread of its own source, and other threads can see this.
#[test]
fn a_file_system_that_does_not_answer_is_seen_from_outside() {
    if !entered("watch::tests::mounted::a_file_system_that_does_not_answer_is_seen_from_outside", MOUNTS) {
        return;
    }
    use nix::sys::signal::Signal;
    let mut camera = Camera::new(make);
    camera.expect_source(None);
    let store = camera.dir.path().join("store");
    fs::create_dir(&store).unwrap();
    set_mode(&store, 0o755);
    let Some(fuse) = Bindfs::mount(&store, &camera.path(""), &[]) else { return };
    let handle = camera.watch.handle();
    fuse.signal(Signal::SIGSTOP);
    let end = Instant::now() + PATIENCE;
    while handle.unanswered() < Duration::from_secs(2) {
        assert!(Instant::now() < end, "it is not seen");
        thread::sleep(Duration::from_millis(50));
    }
    fuse.signal(Signal::SIGCONT);
    while handle.unanswered() > Duration::ZERO {
        assert!(Instant::now() < end, "it goes on");
        thread::sleep(Duration::from_millis(50));
    }
}
