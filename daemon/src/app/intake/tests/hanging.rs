//! Sources that come and go, are slow, or do not answer.

use super::*;
use crate::watch::namespace::{MOUNTS, entered};
use coft_harness::file_systems::Bindfs;

/// One slow mount kept every source from being taken in, was not reported, and delayed the end of the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_holds_up_no_other_and_not_the_end() {
    if !entered("app::intake::tests::hanging::a_source_that_hangs_holds_up_no_other_and_not_the_end", MOUNTS) {
        return;
    }
    let site = Site::new(Settings { threads: 1, ..Settings::default() });
    let Some(_fuse) = mounted(&site, &["--read-rate=100"]) else { return };
    for number in 0..20 {
        fs::write(site.dir.path().join(format!("store/{number}.png")), noise(number)).unwrap();
    }
    let (intake, mut heard) = site.start_with(&["nas", "in"]);
    for number in 0..10 {
        site.put(&format!("{number}.png"), &picture(number));
    }
    site.until(10, 0).await;
    let told =
        until(&mut heard, |status| status.sources.get(&site.dir.path().join("nas")).is_some_and(Option::is_some)).await;
    let problem = told.sources[&site.dir.path().join("nas")].clone().unwrap();
    assert!(problem.contains("has been read for more than 10 s"), "{problem}");
    assert_eq!(told.sources[&site.dir.path().join("in")], None);
    tokio::time::timeout(PATIENCE, intake.stop()).await.expect("it does not wait for the mount");
}

/// A file system that does not answer at all, with some of its files in work.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_is_told_and_heals() {
    if !entered("app::intake::tests::hanging::a_source_that_does_not_answer_is_told_and_heals", MOUNTS) {
        return;
    }
    use nix::sys::signal::Signal;
    let site = Site::new(Settings::default());
    let Some(fuse) = mounted(&site, &[]) else { return };
    let (intake, mut heard) = site.start_with(&["nas", "in"]);
    fs::write(site.dir.path().join("store/0.png"), picture(0)).unwrap();
    site.until(1, 0).await;
    fuse.signal(Signal::SIGSTOP);
    let nas = site.dir.path().join("nas");
    let problem = |status: &IntakeStatus| status.sources.get(&nas).cloned().flatten();
    // A source without work is checked only now and then; the main loop does that.
    let look = async {
        loop {
            intake.look();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let told = tokio::select! {
        told = until(&mut heard, |status| problem(status).is_some()) => told,
        () = look => unreachable!("it looks again and again"),
    };
    assert!(problem(&told).unwrap().contains("has not answered for more than 10 s"), "{told:?}");
    site.put("1.png", &picture(1));
    site.until(2, 0).await;
    fuse.signal(Signal::SIGCONT);
    until(&mut heard, |status| problem(status).is_none()).await;
    fs::write(site.dir.path().join("store/2.png"), picture(2)).unwrap();
    site.until(3, 0).await;
    intake.stop().await;
}

/// Rescans, sources that came and went, and a status that nobody received waited for each other in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn rescans_while_sources_come_and_go_freeze_nothing() {
    let site = Site::new(Settings::default());
    let names: Vec<String> = (0..60).map(|number| format!("cam{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (intake, mut heard) = site.start_with(&names);
    let all = async {
        for round in 0..8u8 {
            for (number, name) in names.iter().enumerate() {
                let dir = site.dir.path().join(name);
                if (number + usize::from(round)).is_multiple_of(2) {
                    let _ = fs::create_dir(&dir);
                    let _ = fs::write(dir.join("a.png"), picture(number as u8));
                } else {
                    let _ = fs::remove_dir_all(&dir);
                }
                intake.rescan();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        for name in &names {
            fs::create_dir_all(site.dir.path().join(name)).unwrap();
        }
        until(&mut heard, |status| status.sources.len() == 60 && status.sources.values().all(Option::is_none)).await;
        fs::write(site.dir.path().join("cam7/last.png"), picture(255)).unwrap();
        let last = fs::canonicalize(site.dir.path()).unwrap().join("cam7/last.png");
        while site.catalog.images_at(&last, None).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        intake.stop().await;
    };
    tokio::time::timeout(2 * PATIENCE, all).await.expect("everything goes on");
}

fn mounted(site: &Site, options: &[&str]) -> Option<Bindfs> {
    for name in ["store", "nas"] {
        fs::create_dir(site.dir.path().join(name)).unwrap();
    }
    Bindfs::mount(&site.dir.path().join("store"), &site.dir.path().join("nas"), options)
}

/// Pixels that do not compress.
fn noise(number: u8) -> Vec<u8> {
    let mut state = u32::from(number) + 1;
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_fn(200, 200, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
    });
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}
