use super::*;
use image::RgbImage;
use std::fs::File;
use std::io::Write;
use std::process::Command;

/// A small file system of its own, unmounted when dropped.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// None where mounting is not allowed.
    pub fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output().unwrap();
        mounted.status.success().then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that a failed test leaves may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_round_on_a_full_disk_fails_clearly_and_the_next_one_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(place.path().join("disk"), "160m") else {
        println!("skipped: cannot mount a small file system; run as root to test a full disk");
        return;
    };
    let mut site = site(QUICK).with_state_dir(&disk.0.join("state"));
    site.start().unwrap();
    fill(&site, 2);
    first_generation(&site);

    // All but a little is taken, less than a candidate needs, while the trainer starts.
    let filler = disk.0.join("filler");
    let fill_up = |but: u64| {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[0; 64 << 10]).is_ok() {}
        file.set_len(file.metadata().unwrap().len() - but).unwrap();
    };
    let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
    fill_up(512 << 10);
    let ended = ended(&site, number);
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_eq!(ended["result"]["error_kind"], "disk-full", "{ended}");
    assert!(text(&ended["result"]["hint"]).contains("free disk space"), "{ended}");
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
    RgbImage::new(64, 64).save(site.watched().join("late.png")).unwrap();
    let full = |status: &Value| text(&status["intake_problem"]).contains("the disk is full");
    site.wait("the full disk told", LIMIT, full).unwrap();

    // Less than a round needs, and more than any of its files.
    fs::remove_file(&filler).unwrap();
    fill_up(48 << 20);
    let refused = site.ctl(&["round", "start"]).unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("a round of this model needs"), "{why}");
    let told = |status: &Value| text(&status["round_problem"]).contains("too full for a round");
    site.wait("the want of room told", LIMIT, told).unwrap();

    fs::remove_file(&filler).unwrap();
    assert!(site.ctl(&["rescan"]).unwrap().status.success());
    let well = |status: &Value| status["images"] == 21 && status["intake_problem"].is_null();
    site.wait("the late picture catalogued", LIMIT, well).unwrap();
    let ended = round(&site);
    assert_eq!(ended["continues"], number, "{ended}");
    assert_eq!(ended["state"], "promoted", "{ended}\n{}", site.log());
    assert_eq!(site.status().unwrap()["images"], 21);
    site.stop().unwrap();
}
