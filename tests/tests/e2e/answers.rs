//! Every picture that comes is answered: told on the bus, kept, and neither lost nor doubled.

use super::*;
use coft_dbus::{Bus, ClassifierProxy, Observation, SourceProxy, classifier_path, source_path};
use futures_util::StreamExt;
use image::{Rgb, RgbImage};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;
use tokio::runtime::{self, Runtime};
use zbus::Connection;

/// A client of the site's bus.
struct Client {
    runtime: Runtime,
    connection: Connection,
}

impl Client {
    fn new(site: &Site) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = Bus::Address(site.bus_address().to_owned());
        let connection = runtime.block_on(address.connect()).unwrap();
        Self { runtime, connection }
    }

    fn source(&self) -> SourceProxy<'static> {
        let proxy = SourceProxy::builder(&self.connection).path(source_path(0));
        self.runtime.block_on(proxy.cache_properties(zbus::proxy::CacheProperties::No).build()).unwrap()
    }

    /// What follows a number, all of it.
    fn after(&self, after: u64) -> Vec<Observation> {
        let (source, mut found) = (self.source(), Vec::<Observation>::new());
        loop {
            let known = found.last().map_or(after, |(sequence, ..)| *sequence);
            let more = self.runtime.block_on(source.observations(known, 1000)).unwrap();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Waits until so many pictures are answered and none waits.
    fn until_answered(&self, site: &Site, pictures: u64) {
        let (source, since) = (self.source(), Instant::now());
        loop {
            let told = async { Ok::<_, zbus::Error>((source.last_sequence().await?, source.unanswered().await?)) };
            let told = self.runtime.block_on(told);
            if told.as_ref().is_ok_and(|told| *told == (pictures, 0)) {
                return;
            }
            assert!(since.elapsed() < LIMIT, "{told:?} of {pictures}\n{}", site.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn sequences(observations: &[Observation]) -> Vec<u64> {
    observations.iter().map(|(sequence, ..)| *sequence).collect()
}

/// Puts a picture into the watched directory at once, as a careful camera does.
fn drop_in(site: &Site, picture: &Path, name: &str) {
    let part = site.watched().join(format!(".{name}"));
    fs::copy(picture, &part).unwrap();
    fs::rename(&part, site.watched().join(name)).unwrap();
}

fn started() -> Site {
    let mut site = site(QUICK);
    site.start().unwrap();
    first_generation(&site);
    site
}

/// Distinct small pictures.
fn small(number: u32) -> RgbImage {
    RgbImage::from_fn(64, 48, |x, y| Rgb([(number >> 8) as u8, number as u8, (x * y % 251) as u8]))
}

#[test]
fn pictures_are_answered_one_by_one_before_and_after_a_round() {
    let site = started();
    let (client, pictures) = (Client::new(&site), pictures(&site, 4));
    let source = client.source();
    let mut told = client.runtime.block_on(source.receive_observed()).unwrap();
    for (number, picture) in pictures[..12].iter().enumerate() {
        drop_in(&site, picture, &format!("{number:04}.jpg"));
    }
    let mut images = BTreeSet::new();
    for number in 1..=12 {
        let signal = client.runtime.block_on(told.next()).expect("the connection stays");
        let args = signal.args().unwrap();
        assert_eq!(args.sequence, number);
        assert_eq!((args.details.generation, &args.details.path), (1, &None));
        images.insert(args.image.clone());
    }
    assert_eq!(images.len(), 12);

    // What a client is told of the file itself, and what it missed while it was away.
    client.until_answered(&site, 12);
    let answers = client.after(0);
    assert_eq!(sequences(&answers), (1..=12).collect::<Vec<_>>());
    for (_, _, labels, details) in &answers {
        let path = details.path.as_ref().expect("the tests run as the service's user");
        let file = site.json(&["classify", path]).unwrap();
        for ((label, probability), of_file) in labels.iter().zip(file["labels"].as_array().unwrap()) {
            assert_eq!(label, text(&of_file["label"]), "{path}");
            let difference =
                (probability - of_file["score"].as_f64().or(of_file["probability"].as_f64()).unwrap()).abs();
            assert!(difference < 1e-5, "{path}: {labels:?} and {file}");
        }
    }

    // Another generation answers what comes from then on.
    for (number, picture) in pictures.iter().enumerate().skip(12) {
        drop_in(&site, picture, &format!("{number:04}.jpg"));
    }
    client.until_answered(&site, 40);
    let classifier = ClassifierProxy::builder(&client.connection).path(classifier_path("default"));
    let classifier = client.runtime.block_on(classifier.build()).unwrap();
    let mut activated = client.runtime.block_on(classifier.receive_generation_activated()).unwrap();
    assert_eq!(round(&site)["state"], "promoted", "{}", site.log());
    let signal = client.runtime.block_on(activated.next()).expect("the connection stays");
    let args = signal.args().unwrap();
    assert_eq!((args.generation, args.replaces), (2, 1));
    small(1).save(site.dir().join("new.png")).unwrap();
    drop_in(&site, &site.dir().join("new.png"), "new.png");
    client.until_answered(&site, 41);
    assert_eq!(client.after(40)[0].3.generation, 2);
    let state = client.runtime.block_on(source.state()).unwrap();
    assert!(state == "unknown" || PARTS.contains(&state.as_str()), "{state}");
}

/// A daemon that dies at any instant loses no picture and answers none twice; who was away is told what it missed.
#[test]
fn nothing_is_lost_or_doubled_where_the_daemon_is_killed() {
    let mut site = started();
    let dir = site.dir().join("drawn");
    fs::create_dir(&dir).unwrap();
    const PICTURES: u32 = 160;
    for number in 0..PICTURES {
        small(number).save(dir.join(format!("{number:04}.png"))).unwrap();
    }
    for (strike, delay) in [0, 30, 100, 250, 400, 700, 1000, 1500].into_iter().enumerate() {
        for number in 20 * strike..20 * (strike + 1) {
            let name = format!("{number:04}.png");
            fs::rename(dir.join(&name), site.watched().join(&name)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(delay));
        site.kill().unwrap();
        site.start().unwrap();
    }
    let client = Client::new(&site);
    client.until_answered(&site, u64::from(PICTURES));
    let answers = client.after(0);
    assert_eq!(sequences(&answers), (1..=u64::from(PICTURES)).collect::<Vec<_>>());
    let paths: BTreeSet<_> = answers.iter().map(|(.., details)| details.path.clone().unwrap()).collect();
    assert_eq!(paths.len(), PICTURES as usize);
    // Nothing comes again after a restart.
    site.stop().unwrap();
    site.start().unwrap();
    let client = Client::new(&site);
    client.until_answered(&site, u64::from(PICTURES));
    assert_eq!(sequences(&client.after(100)), (101..=u64::from(PICTURES)).collect::<Vec<_>>());
}

/// A thousand pictures at once; whoever asks about one meanwhile is answered.
#[test]
fn a_flood_is_answered_and_holds_up_nobody() {
    let site = started();
    let dir = site.dir().join("drawn");
    fs::create_dir(&dir).unwrap();
    const PICTURES: u32 = 1000;
    for number in 0..PICTURES {
        small(number).save(dir.join(format!("{number:04}.png"))).unwrap();
    }
    let own = site.dir().join("own.png");
    small(PICTURES).save(&own).unwrap();
    fs::rename(&dir, site.watched().join("flood")).unwrap();
    let client = Client::new(&site);
    let (source, mut asked) = (client.source(), 0);
    while client.runtime.block_on(source.last_sequence()).unwrap() < u64::from(PICTURES) {
        let (_, generation) = classify(&site, &own);
        assert_eq!(generation, 1);
        asked += 1;
    }
    assert!(asked > 0);
    client.until_answered(&site, u64::from(PICTURES));
    assert_eq!(client.after(0).len(), PICTURES as usize);
}

/// The commands of the documentation, as they stand there, on this bus.
#[test]
fn the_commands_of_the_documentation_work() {
    if Command::new("busctl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return eprintln!("skipped: busctl is missing; the Debian package systemd brings it");
    }
    let site = started();
    let client = Client::new(&site);
    for (number, picture) in pictures(&site, 1).iter().enumerate() {
        drop_in(&site, picture, &format!("{number}.jpg"));
    }
    client.until_answered(&site, 10);
    let bus = format!("busctl --address={} ", site.bus_address());
    let mut ran = 0;
    for docs in [include_str!("../../../docs/answers.md"), include_str!("../../../docs/dbus.md")] {
        let source = docs.lines().find(|line| line.starts_with("source=")).expect("the object is named");
        let commands = docs.lines().filter(|line| line.starts_with("busctl ") && line.contains("$source"));
        for command in commands {
            let script = format!("{source}\n{}", command.replacen("busctl ", &bus, 1));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {output:?}");
            ran += 1;
        }
    }
    assert!(ran >= 9, "{ran}");
}
