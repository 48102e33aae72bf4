//! Every picture that comes is answered: told on the bus, kept, and neither lost nor doubled.

use super::*;
use coft_dbus::{Bus, ClassifierProxy, Observation, SourceProxy, classifier_path, source_path};
use futures_util::StreamExt;
use image::{Rgb, RgbImage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

/// A client that asks for every signal and reads none costs nobody an answer, nor the service its memory.
#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    let site = started();
    // It is let in, asks for all that is said, and is left alone with its socket full.
    let mut deaf = Command::new("busctl");
    let address = format!("--address={}", site.bus_address());
    let mut deaf = deaf.args([&address, "monitor"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(deaf.id() as i32), Signal::SIGSTOP).unwrap();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", site.pid().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let dir = site.dir().join("drawn");
    fs::create_dir(&dir).unwrap();
    const PICTURES: u32 = 1000;
    for number in 0..PICTURES {
        small(number).save(dir.join(format!("{number:04}.png"))).unwrap();
    }
    fs::rename(&dir, site.watched().join("flood")).unwrap();
    let client = Client::new(&site);
    client.until_answered(&site, u64::from(PICTURES));
    assert_eq!(client.after(0).len(), PICTURES as usize);
    let kilobytes = resident();
    assert!(kilobytes < 400 << 10, "{kilobytes} kB");
    kill(Pid::from_raw(deaf.id() as i32), Signal::SIGKILL).unwrap();
    deaf.wait().unwrap();
}

/// Of a source that is cropped only that part is seen; with another crop its pictures are other ones. Two sources of
/// one directory see a part each.
#[test]
fn a_cropped_source_is_answered_by_its_part() {
    let mut site = site(QUICK);
    let whole = fs::read_to_string(site.config()).unwrap();
    let cropped = |x: &str| {
        let crop = format!("[[source]]\ncrop = {{ x = {x}, y = 0.0, width = 0.5, height = 1.0 }}\n");
        whole.replacen("[[source]]\n", &crop, 1)
    };
    fs::write(site.config(), cropped("0.0")).unwrap();
    site.start().unwrap();
    first_generation(&site);
    // Two parts, one beside the other.
    let pictures = pictures(&site, 1);
    let [left, right] = [&pictures[0], &pictures[5]].map(|path| image::open(path).unwrap().to_rgb8());
    let (width, height) = left.dimensions();
    let right = image::imageops::resize(&right, width, height, image::imageops::FilterType::CatmullRom);
    let both = RgbImage::from_fn(2 * width, height, |x, y| match x < width {
        true => *left.get_pixel(x, y),
        false => *right.get_pixel(x - width, y),
    });
    let dir = site.dir().to_owned();
    let file = |name: &str| dir.join(name);
    both.save(file("both.png")).unwrap();
    left.save(file("left.png")).unwrap();
    right.save(file("right.png")).unwrap();
    let of =
        |name: &str| site.json(&["classify", "--top-k", "5", file(name).to_str().unwrap()]).unwrap()["labels"].clone();
    let (of_left, of_right) = (of("left.png"), of("right.png"));
    drop_in(&site, &file("both.png"), "both.png");
    let client = Client::new(&site);
    client.until_answered(&site, 1);
    alike(&client.after(0)[0], &of_left);

    site.stop().unwrap();
    fs::write(site.config(), cropped("0.5")).unwrap();
    site.start().unwrap();
    let client = Client::new(&site);
    client.until_answered(&site, 2);
    let answers = client.after(0);
    alike(&answers[1], &of_right);
    assert_eq!(answers[0].3.path, answers[1].3.path);
    assert_ne!(answers[0].1, answers[1].1, "another part is another image");
    let status = site.status().unwrap();
    assert_eq!((&status["images"], &status["sources"][0]["images"]), (&2.into(), &1.into()), "{status}");

    site.stop().unwrap();
    let named = cropped("0.5").replacen("[[source]]\n", "[[source]]\nname = \"right\"\n", 1);
    let crop = "crop = { x = 0.0, y = 0.0, width = 0.5, height = 1.0 }";
    let left = format!("\n[[source]]\nname = \"left\"\npath = \"{}\"\n{crop}\n", site.watched().display());
    fs::write(site.config(), named + &left).unwrap();
    site.start().unwrap();
    fs::copy(file("both.png"), site.watched().join("again.png")).unwrap();
    let answers = |source: &str, count: usize| {
        let since = Instant::now();
        loop {
            let found = site.json(&["results", "--source", source]).unwrap();
            if found.as_array().unwrap().len() == count {
                return found;
            }
            assert!(since.elapsed() < LIMIT, "{found}\n{}", site.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    // What the source had before it got its name is its own still.
    let (of_the_right, of_the_left) = (answers("right", 3), answers("left", 2));
    let best = |labels: &Value| text(&labels[0]["label"]).to_owned();
    assert_eq!(best(&of_the_right[2]["labels"]), best(&of_right), "{of_the_right}");
    for answer in of_the_left.as_array().unwrap() {
        assert_eq!((best(&answer["labels"]), text(&answer["source"])), (best(&of_left), "left"), "{answer}");
    }
    let status = site.status().unwrap();
    let sources = status["sources"].as_array().unwrap();
    let told: Vec<_> = sources.iter().map(|source| (text(&source["name"]), &source["images"])).collect();
    assert_eq!(told, [("right", &1.into()), ("left", &1.into())], "{status}");
}

#[track_caller]
fn alike((_, _, labels, _): &Observation, of_file: &Value) {
    let of_file = of_file.as_array().unwrap();
    assert_eq!(labels.len(), of_file.len().min(5));
    for ((label, probability), of_file) in labels.iter().zip(of_file) {
        assert_eq!(label, text(&of_file["label"]));
        assert!((probability - of_file["score"].as_f64().unwrap()).abs() < 1e-5, "{labels:?} and {of_file}");
    }
}

/// The commands of the documentation, as they stand there, after a round.
#[test]
fn the_commands_of_the_documentation_work() {
    let site = serving(QUICK, 4);
    let client = Client::new(&site);
    client.until_answered(&site, 40);
    assert_eq!(round(&site)["state"], "promoted", "{}", site.log());
    site.wait("every picture answered again", LIMIT, |status| status["unanswered_again"] == 0).unwrap();
    let diff = site.json(&["generation", "diff"]).unwrap();
    assert_eq!((&diff["old"], &diff["new"], &diff["compared"]), (&1.into(), &2.into(), &40.into()), "{diff}");
    assert_eq!(client.after(40).len(), 0, "nothing is reported twice");

    let answers = include_str!("../../../docs/answers.md");
    let bus = include_str!("../../../docs/dbus.md").split("\n## ").find(|it| it.starts_with("What the pictures show"));
    let mut ran = 0;
    for docs in [answers, bus.expect("the section is there")] {
        for block in docs.split("```sh\n").skip(1) {
            let block = block.split("```").next().unwrap().replace("/srv/coft/in", site.watched().to_str().unwrap());
            ran += run_documented(&site, &block);
        }
    }
    assert!(ran >= 20, "{ran}");
}

/// Runs what a block of the documentation says, each command by itself; tells how many there were.
fn run_documented(site: &Site, block: &str) -> usize {
    let setting = |line: &&str| line.starts_with("source=") || line.starts_with("coft=");
    let settings: String = block.lines().filter(setting).map(|line| format!("{line}\n")).collect();
    let is_command = |line: &&str| !line.starts_with('#') && !line.is_empty() && !setting(line);
    // A loop is one command.
    let commands: Vec<&str> =
        if block.contains("while ") { vec![block] } else { block.lines().filter(is_command).collect() };
    for command in &commands {
        // What goes on until it is ended.
        let goes_on = ["--follow", "monitor"].iter().any(|word| command.contains(word));
        let script = settings.clone() + &command.replace("sudo ", "");
        let mut shell = Command::new("timeout");
        shell.args(["--signal=INT", if goes_on { "3" } else { "60" }, "bash", "-c", &script]);
        let output = shell
            .env("DBUS_SYSTEM_BUS_ADDRESS", site.bus_address())
            .env("COFT_BUS", "system")
            .env("PATH", with_programs())
            .output()
            .unwrap();
        let has_ended_well = output.status.success() || goes_on && output.status.code() == Some(124);
        assert!(has_ended_well, "{command}: {output:?}");
        assert!(goes_on || !output.stdout.is_empty(), "{command} says nothing");
    }
    commands.len()
}

fn with_programs() -> std::ffi::OsString {
    let programs = Programs::of_this_test().unwrap().coftctl();
    let dir = programs.parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([dir].into_iter().chain(std::env::split_paths(&path))).unwrap()
}
