//! On the service of [`super::super::tests`].

use super::*;
use crate::app::supervisor::reviewing::tests::Site;
use crate::catalog::Entry;
use crate::decode_budget::DecodeBudget;
use crate::ingest::{Ingest, Place};
use crate::observed_file::Arrival;
use coft_vision::Region;
use tokio_util::sync::CancellationToken;

/// What was asked about a part of a picture was shown as the whole picture.
#[tokio::test]
async fn the_part_that_a_source_uses_is_told() {
    let mut site = Site::new("turned").await;
    site.take(3).await;
    site.ask(&CancellationToken::new()).await.expect("somebody is asked");
    let training = &site.supervisor.training;
    let preprocess = training.ingest.preprocess().clone();
    let region = Region { x: 0.5, y: 0.0, width: 0.5, height: 1.0 };
    let place = Place { dir: site.root.path().join("in"), region: Some(region) };
    // Before it got its name, the source was known by another key, which comes first.
    let before = PathBuf::from("/a");
    let mut places: HashMap<PathBuf, Place> =
        training.sources.iter().map(|source| (source.clone(), place.clone())).collect();
    places.insert(before.clone(), Place { region: None, ..place });
    let ingest = Ingest::new(&Default::default(), preprocess, site.root.path().join("pixels"), DecodeBudget::default())
        .with_sources(places);
    let first = items(training.clone(), FileLooks::default(), 1).await.unwrap().remove(0);
    let fingerprint = FileFingerprint::of(&fs::metadata(&first.path).unwrap());
    let observed = ObservedFile { source: before, path: first.path, fingerprint };
    let record = ingest.keep(ingest.read(observed.clone()).await.expect("it is read")).await.expect("it is an image");
    training.catalog.record(vec![Entry::Image { observed, record, came: Arrival::now() }]).await.unwrap();
    let found = items(TrainingRunner { ingest, ..training.clone() }, FileLooks::default(), 60).await.unwrap();
    assert!(found.len() == 6 && found.iter().all(|item| item.crop == Some(region)), "{found:?}");
    let found =
        items(TrainingRunner { sources: Vec::new(), ..training.clone() }, FileLooks::default(), 60).await.unwrap();
    assert_eq!(found, [], "no source is configured");
}

/// One network mount that hung left nothing to ask about, in all sources.
#[tokio::test]
async fn a_source_whose_file_system_does_not_answer_hides_no_other() {
    let mut site = Site::new("turned").await;
    site.take(3).await;
    site.ask(&CancellationToken::new()).await.expect("somebody is asked");
    let [here, mount] = ["in", "mount"].map(|name| site.root.path().join(name));
    fs::create_dir(&mount).unwrap();
    let mut training = site.supervisor.training.clone();
    training.sources.push(mount.clone());
    let looks = FileLooks { timeout: Duration::from_millis(100), ..FileLooks::default() };
    let asked = async || items(training.clone(), looks.clone(), 60).await;
    let all = asked().await.unwrap();
    assert_eq!(all.len(), 6);

    // The first picture moves to the mount, which then does not answer.
    let path = mount.join("moved.png");
    fs::rename(&all[0].path, &path).unwrap();
    let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
    let observed = ObservedFile { source: mount.clone(), path: path.clone(), fingerprint };
    let gone = Entry::Gone { source: here.clone(), path: all[0].path.clone() };
    let seen = Entry::Seen { observed, image: all[0].image.clone(), came: Arrival::now() };
    training.catalog.record(vec![gone, seen]).await.unwrap();
    let there = asked().await.unwrap();
    assert_eq!((&there[0].path, &there[1..]), (&path, &all[1..]));
    let turn = Arc::clone(&looks.thread_of(&mount).turn).acquire_owned().await.unwrap();
    assert_eq!(asked().await.unwrap(), all[1..]);
    // The look that waits for the mount has begun long ago: nobody waits for it again.
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1));
    *looks.thread_of(&mount).began() = long_ago;
    assert_eq!(asked().await.unwrap(), all[1..]);
    *looks.thread_of(&here).began() = long_ago;
    let problem = asked().await.unwrap_err().to_string();
    let named = [&here, &mount].map(|source| source.display().to_string()).join(", ");
    assert!(
        problem.starts_with(&format!("the files of the pictures in {named} were not found within 100ms")),
        "{problem}"
    );
    for source in [&here, &mount] {
        *looks.thread_of(source).began() = None;
    }
    drop(turn);
    assert_eq!(asked().await.unwrap(), there, "the mount answers again");
}

/// Of 20 pictures with two files each, 10 were told.
#[tokio::test]
async fn a_second_file_with_the_same_picture_takes_no_place() {
    let mut site = Site::new("turned").await;
    site.take(3).await;
    site.ask(&CancellationToken::new()).await.expect("somebody is asked");
    let training = &site.supervisor.training;
    let all = items(training.clone(), FileLooks::default(), 60).await.unwrap();
    for ReviewItem { image, path, .. } in &all {
        let copy = path.with_extension("copy.png");
        fs::copy(path, &copy).unwrap();
        let fingerprint = FileFingerprint::of(&fs::metadata(&copy).unwrap());
        let observed = ObservedFile { source: site.root.path().join("in"), path: copy, fingerprint };
        let seen = Entry::Seen { observed, image: image.clone(), came: Arrival::now() };
        training.catalog.record(vec![seen]).await.unwrap();
    }
    let found = items(training.clone(), FileLooks::default(), 4).await.unwrap();
    assert_eq!(
        found.iter().map(|item| &item.image).collect::<Vec<_>>(),
        all[..4].iter().map(|item| &item.image).collect::<Vec<_>>()
    );
}
