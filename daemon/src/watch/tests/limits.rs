//! The kernel's limits for a user's watches.

use super::*;
use crate::watch::namespace::{USER, entered};

const WATCHES: &str = "/proc/sys/user/max_inotify_watches";
const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";

/// After the limit was reached, watching was never tried again, and half of the directories stayed unwatched.
#[test]
fn a_limit_of_watches_that_is_raised_later_lets_everything_be_watched() {
    if !entered("watch::tests::limits::a_limit_of_watches_that_is_raised_later_lets_everything_be_watched", USER) {
        return;
    }
    let enough = fs::read_to_string(WATCHES).unwrap();
    fs::write(WATCHES, "5").unwrap();
    let mut camera = Camera::new(|source| {
        for number in 0..20 {
            fs::create_dir_all(source.join(format!("{number:02}"))).unwrap();
            fs::write(source.join(format!("{number:02}/a.jpg")), "x").unwrap();
        }
    });
    let problem = camera.until_problem(Some("fs.inotify.max_user_watches")).unwrap();
    assert!(problem.contains("only every 1h"), "{problem}");
    camera.watch.handle().rescan();
    camera.until_settled(&["00/a.jpg", "19/a.jpg"]);
    fs::create_dir(camera.path("20")).unwrap();
    fs::write(WATCHES, enough).unwrap();
    camera.until_problem(None);
    for dir in ["00", "19", "20"] {
        fs::write(camera.path(dir).join("b.jpg"), "x").unwrap();
    }
    camera.until_settled(&["00/b.jpg", "19/b.jpg", "20/b.jpg"]);
}

#[test]
fn a_limit_of_instances_is_named_and_tried_again() {
    if !entered("watch::tests::limits::a_limit_of_instances_is_named_and_tried_again", USER) {
        return;
    }
    let enough = fs::read_to_string(INSTANCES).unwrap();
    fs::write(INSTANCES, "0").unwrap();
    let mut camera = Camera::new(|source| {
        fs::create_dir(source).unwrap();
        fs::write(source.join("a.jpg"), "x").unwrap();
    });
    camera.until_problem(Some("fs.inotify.max_user_instances"));
    camera.until_settled(&["a.jpg"]);
    fs::write(INSTANCES, enough).unwrap();
    camera.until_problem(None);
    fs::write(camera.path("b.jpg"), "x").unwrap();
    camera.until_settled(&["b.jpg"]);
}
