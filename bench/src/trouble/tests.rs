//! Tests the effect of each problem on a pool, by counting images.

use super::*;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A set in `dir/name` with `counts[class]` images in the pool and one test image per class. The image files themselves
/// do not exist.
fn set(dir: &Path, name: &str, counts: &[usize]) -> LabelledSet {
    let dir = dir.join(name);
    fs::create_dir_all(&dir).unwrap();
    let names: Vec<String> = (0..counts.len()).map(|class| format!("class {class}")).collect();
    for file in ["classes.json", "names.json"] {
        fs::write(dir.join(file), serde_json::to_vec(&names).unwrap()).unwrap();
    }
    let mut rows = "path,split,class\n".to_owned();
    for (class, &count) in names.iter().zip(counts) {
        (0..count).for_each(|number| rows += &format!("adapt/{class}/{number},adapt,{class}\n"));
        rows += &format!("test/{class}/0,test,{class}\n");
    }
    fs::write(dir.join("labels.csv"), rows).unwrap();
    LabelledSet::read(&dir, &[]).unwrap()
}

fn listed(images: &[Labelled]) -> Vec<(PathBuf, usize)> {
    images.iter().map(|image| (image.path.clone(), image.label)).collect()
}

fn sorted(images: &[Labelled]) -> Vec<(PathBuf, usize)> {
    let mut listed = listed(images);
    listed.sort();
    listed
}

fn by_class(set: &LabelledSet) -> Vec<usize> {
    let count = |class| set.adapt.iter().filter(|image| image.label == class).count();
    (0..set.classes.len()).map(count).collect()
}

/// The set `own` with ten classes of `each` images, after `trouble` was applied. The other set has 900 images.
fn spoilt(dir: &Path, trouble: Trouble, each: usize, seed: u64) -> LabelledSet {
    let mut own = set(dir, "own", &[each; 10]);
    trouble.make(&mut own, Some(&set(dir, "others", &[300; 3])), seed).unwrap();
    own
}

#[test]
fn the_seed_alone_draws() {
    let dir = tempfile::tempdir().unwrap();
    for &trouble in Trouble::value_variants() {
        let of_seed = |seed| listed(&spoilt(dir.path(), trouble, 100, seed).adapt);
        assert_eq!(of_seed(1), of_seed(1), "{trouble:?}");
        assert_ne!(of_seed(1), of_seed(2), "{trouble:?}");
    }
    // Compares which images were kept or added, not only their order.
    for trouble in [Trouble::Outliers, Trouble::Imbalance, Trouble::Small, Trouble::Tail, Trouble::Still] {
        let of_seed = |seed| sorted(&spoilt(dir.path(), trouble, 100, seed).adapt);
        assert_ne!(of_seed(1), of_seed(2), "{trouble:?}");
    }
}

#[test]
fn the_test_images_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let before = listed(&set(dir.path(), "own", &[100; 10]).test);
    for &trouble in Trouble::value_variants().iter().filter(|&&trouble| trouble != Trouble::Skew) {
        assert_eq!(listed(&spoilt(dir.path(), trouble, 100, 1).test), before, "{trouble:?}");
    }
}

#[test]
fn no_trouble_keeps_every_image() {
    let dir = tempfile::tempdir().unwrap();
    let before = sorted(&set(dir.path(), "own", &[100; 10]).adapt);
    assert_eq!(sorted(&spoilt(dir.path(), Trouble::None, 100, 1).adapt), before);
}

#[test]
fn three_tenths_are_outliers() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spoilt(dir.path(), Trouble::Outliers, 70, 1);
    assert_eq!((by_class(&pool), pool.adapt.len()), (vec![70; 10], 1000));
    let strange = |image: &Labelled| image.path.starts_with(dir.path().join("others"));
    assert!(pool.adapt.iter().all(|image| strange(image) == (image.label == NO_CLASS)));
    // Outliers must be spread over the pool, because `--limit` takes the first images: 60 of 200, within four standard
    // deviations.
    let first = pool.adapt.iter().take(200).filter(|image| strange(image)).count();
    assert!((37..=83).contains(&first), "{first}");
}

#[test]
fn outliers_come_from_another_set() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Trouble::Outliers.make(&mut set(dir.path(), "own", &[5, 5]), None, 1).unwrap_err();
    assert_eq!(refused.to_string(), "--pool outliers needs --outliers SET");
}

#[test]
fn imbalance_is_twenty_to_one_in_even_steps() {
    let dir = tempfile::tempdir().unwrap();
    // Computed by hand: 400 · 20^(−class/9), rounded down.
    let expected = [400, 286, 205, 147, 105, 75, 54, 38, 27, 20];
    assert_eq!(by_class(&spoilt(dir.path(), Trouble::Imbalance, 400, 1)), expected);
    // No class loses all its images.
    assert_eq!(by_class(&spoilt(dir.path(), Trouble::Imbalance, 5, 1)).last(), Some(&1));
}

/// Computed by hand: 1 + 200^(−1/9) + … + 1/200 is 2.2398, and 1000 divided by that is 446; 446 · 200^(−place/9),
/// rounded down.
#[test]
fn a_tail_is_two_hundred_to_one_and_its_order_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let orders: Vec<Vec<usize>> = (1..4).map(|seed| by_class(&spoilt(dir.path(), Trouble::Tail, 600, seed))).collect();
    for counts in &orders {
        let mut counts = counts.clone();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(counts, [446, 247, 137, 76, 42, 23, 13, 7, 4, 2]);
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn a_skewed_pool_has_two_classes_and_one_of_them_hardly_comes() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spoilt(dir.path(), Trouble::Skew, 600, 1);
    assert_eq!((by_class(&pool), pool.classes.len(), pool.test.len()), (vec![485, 15], 2, 2));
    let small = spoilt(dir.path(), Trouble::Skew, 40, 1);
    assert_eq!(by_class(&small), [40, 1]);
    // The path of an image contains its class. Labels must be positions among the classes that are left.
    assert!(pool.adapt.iter().all(|image| image.path.to_string_lossy().contains(&pool.classes[image.label])));
}

#[test]
fn a_week_of_one_class_shows_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spoilt(dir.path(), Trouble::OneClass, 600, 1);
    let mut counts = by_class(&pool);
    counts.sort_unstable();
    assert_eq!(counts, [[0; 9].as_slice(), &[500]].concat());
    assert_eq!(pool.classes.len(), 10);
}

#[test]
fn a_still_camera_shows_twenty_pictures_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spoilt(dir.path(), Trouble::Still, 200, 1);
    let again: Vec<&Labelled> = pool.adapt.iter().filter(|image| image.copy > 0).collect();
    assert_eq!((pool.adapt.len(), again.len()), (1000, 900));
    let scenes: BTreeSet<&Path> = again.iter().map(|image| image.path.as_path()).collect();
    assert_eq!(scenes.len(), 20);
    let of_class = |class| again.iter().filter(|image| image.label == class).count();
    assert!((0..10).all(|class| of_class(class) == 90), "two pictures of each class, 45 times each");
}

#[test]
fn the_last_two_classes_go_missing() {
    let dir = tempfile::tempdir().unwrap();
    let before = set(dir.path(), "own", &[100; 10]);
    let pool = spoilt(dir.path(), Trouble::Missing, 100, 1);
    assert_eq!(by_class(&pool), [100, 100, 100, 100, 100, 100, 100, 100, 0, 0]);
    assert_eq!(pool.classes, before.classes, "their names stay");
}

#[test]
fn a_small_pool_is_drawn_from_all_classes() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spoilt(dir.path(), Trouble::Small, 100, 1);
    assert_eq!(pool.adapt.len(), 200);
    assert!(by_class(&pool).iter().all(|&count| count > 0), "{:?}", by_class(&pool));
    assert_eq!(spoilt(dir.path(), Trouble::Small, 3, 1).adapt.len(), 30);
}
