use super::*;
use coft_harness::file_systems::SmallDisk;
use image::RgbImage;

#[test]
fn a_round_on_a_full_disk_fails_clearly_and_the_next_one_goes_on() {
    let Some(disk) = SmallDisk::mount("160m") else { return };
    let mut site = site(QUICK).with_state_dir(&disk.path().join("state"));
    site.start().unwrap();
    fill(&site, 2);
    first_generation(&site);

    // All but a little is taken, less than a candidate needs, while the trainer starts.
    let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
    disk.fill(512 << 10);
    let ended = ended(&site, number);
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_eq!(ended["result"]["error_kind"], "disk-full", "{ended}");
    assert!(text(&ended["result"]["hint"]).contains("free disk space"), "{ended}");
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
    RgbImage::new(64, 64).save(site.watched().join("late.png")).unwrap();
    let full = |status: &Value| text(&status["intake_problem"]).contains("the disk is full");
    site.wait("the full disk told", LIMIT, full).unwrap();

    // Less than a round needs, and more than any of its files.
    disk.free();
    disk.fill(48 << 20);
    let refused = site.ctl(&["round", "start"]).unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("a round of this model needs"), "{why}");
    let told = |status: &Value| text(&status["round_problem"]).contains("too full for a round");
    site.wait("the want of room told", LIMIT, told).unwrap();

    disk.free();
    assert!(site.ctl(&["rescan"]).unwrap().status.success());
    let well = |status: &Value| status["images"] == 21 && status["intake_problem"].is_null();
    site.wait("the late picture catalogued", LIMIT, well).unwrap();
    let ended = round(&site);
    assert_eq!(ended["continues"], number, "{ended}");
    assert_eq!(ended["state"], "promoted", "{ended}\n{}", site.log());
    assert_eq!(site.status().unwrap()["images"], 21);
    site.stop().unwrap();
}

/// "Read-only file system (os error 30)" was all that was said.
#[test]
fn a_disk_that_turns_read_only_is_told_with_what_to_do_and_heals() {
    let Some(disk) = SmallDisk::mount("160m") else { return };
    let mut site = site(QUICK).with_state_dir(&disk.path().join("state"));
    site.start().unwrap();
    fill(&site, 2);
    first_generation(&site);
    disk.make_read_only();
    RgbImage::new(64, 64).save(site.watched().join("late.png")).unwrap();
    let told =
        |problem: &str| problem.contains("its file system is read-only") && problem.contains("mount it writable");
    site.wait("the disk told", LIMIT, |status| told(text(&status["intake_problem"]))).unwrap();
    let ended = round(&site);
    assert_eq!(ended["state"], "failed", "{ended}");
    assert!(told(text(&ended["result"]["message"])), "{ended}");
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1, "it serves all the same");

    disk.make_writable();
    assert!(site.ctl(&["rescan"]).unwrap().status.success());
    let well = |status: &Value| status["images"] == 21 && status["intake_problem"].is_null();
    site.wait("the late picture catalogued", LIMIT, well).unwrap();
    site.stop().unwrap();
}
