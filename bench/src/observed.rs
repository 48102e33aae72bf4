//! `cargo xtask bench answers`: the time from renaming a picture into a watched directory to its answer on the bus, at
//! several rates.

use crate::built;
use crate::interruption::Interruption;
use crate::serve::Model;
use anyhow::{Context, ensure};
use coft_dbus::{Bus, SourceProxy, source_path};
use coft_harness::daemon::Site;
use coft_harness::world::{self, PARTS};
use futures_util::StreamExt;
use image::RgbImage;
use rand::RngCore;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime;
use tokio::time::{Instant, sleep_until, timeout};

#[derive(clap::Args)]
pub struct Args {
    /// Pictures a second.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rates: Vec<u32>,
    /// How long pictures come at each rate, s.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Width and height of the pictures, px.
    #[arg(long, default_value = "640x480", value_name = "WxH", value_parser = size)]
    size: (u32, u32),
    /// What answers, in place of the embedded model; the first is of the test data, the others have random weights.
    #[arg(long)]
    model: Option<Model>,
    /// Has a round train beside it, on pictures that came before.
    #[arg(long)]
    training: bool,
    /// Measures so many pictures that come at once instead.
    #[arg(long, value_name = "PICTURES", conflicts_with_all = ["rates", "seconds"])]
    burst: Option<u32>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.filter(|&(width, height)| width >= 16 && height >= 16).ok_or("it is WxH, both 16 or more".into())
}

#[derive(Serialize)]
struct Report {
    width_px: u32,
    height_px: u32,
    /// `None` for the embedded one.
    model: Option<Model>,
    training: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rates: Vec<Measured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<Burst>,
}

#[derive(Serialize)]
struct Measured {
    pictures_per_second: u32,
    pictures: usize,
    /// Time from the rename to the signal, ms.
    p50_ms: f64,
    p95_ms: f64,
    max_ms: f64,
    /// Time from the first rename to the last signal, s.
    seconds: f64,
}

/// Many pictures that come at the same time.
#[derive(Serialize)]
struct Burst {
    pictures: usize,
    /// Time from renaming their directory to the first and to the last answer, s.
    first_seconds: f64,
    last_seconds: f64,
    /// Latency of one more picture, which comes when half of the others are answered, ms.
    newcomer_ms: f64,
    /// Largest resident memory of the service (VmHWM).
    peak_memory_bytes: u64,
}

const QUALITY: u8 = 88;
/// Number of pictures that are drawn; the others are copies with another comment in the file.
const DRAWN: u64 = 8;
/// Number of pictures that a concurrent round trains on.
const POOL: u32 = 300;
/// Longest wait until the first generation serves, and until the last picture is answered.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A round that would take hours; it is stopped with the service.
const LONG: &str = "
[training.phase1.sgd]
learning-rate = 0.03
minimum-steps = 400000
";

/// A picture that will be renamed into the watched directory, with the digest that its answer will name.
struct Picture {
    file: PathBuf,
    image: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let programs = built::programs()?;
    let interruption = Interruption::watch()?;
    let mut site = Site::new(programs, "")?;
    let mut config = "[schedule]\nautomatic = false\n".to_owned() + if args.training { LONG } else { "" };
    if let Some(model) = args.model {
        let (dir, labels) = (model.dir(site.dir())?, site.dir().join("labels.txt"));
        fs::write(&labels, PARTS.join("\n"))?;
        config += &format!("[classifier]\nlabels = {labels:?}\ntemplate = \"a photo of a {{}}.\"\nmodel = {dir:?}\n");
    }
    site.configure(&config)?;
    site.start()?;
    let serves = |status: &Value| status["active_generation"].is_u64() || interruption.seen();
    site.wait("a first generation", PATIENCE, serves)?;
    interruption.check()?;
    let drawn = Drawn::new(&site.dir().join("drawn"), args.size)?;
    if args.training {
        begin_round(&site, &drawn, &interruption)?;
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut rates, mut burst) = (Vec::new(), None);
    if let Some(pictures) = args.burst {
        eprintln!("{pictures} pictures at once ...");
        let (pictures, newcomer) = (drawn.pictures("burst", pictures)?, drawn.pictures("newcomer", 1)?);
        burst = Some(runtime.block_on(flood(&site, &drawn.dir.join("burst"), pictures.len(), &newcomer[0]))?);
    } else {
        for &rate in &args.rates {
            eprintln!("{rate} pictures a second for {} s ...", args.seconds);
            let pictures = drawn.pictures(&rate.to_string(), rate * args.seconds)?;
            rates.push(runtime.block_on(measure(&site, &pictures, rate))?);
            interruption.check()?;
        }
    }
    if args.training {
        let status = site.status()?;
        ensure!(status["round"].is_u64(), "the round ended while it was measured beside: {status}\n{}", site.log());
    }
    let (width_px, height_px) = args.size;
    let report = Report { width_px, height_px, model: args.model, training: args.training, rates, burst };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn print(report: &Report) {
    let (width, height) = (report.width_px, report.height_px);
    println!("from the rename of a {width}x{height} px picture to its answer on the bus");
    if let Some(Burst { pictures, first_seconds, last_seconds, newcomer_ms, peak_memory_bytes }) = report.burst {
        let memory = peak_memory_bytes as f64 / 1e6;
        println!("{pictures} at once: the first after {first_seconds:.1} s, the last after {last_seconds:.1} s");
        println!("one that comes meanwhile: {newcomer_ms:.0} ms; memory {memory:.0} MB at most");
        return;
    }
    println!("{:>12} {:>9} {:>8} {:>8} {:>8}", "pictures/s", "pictures", "p50 ms", "p95 ms", "max ms");
    for Measured { pictures_per_second, pictures, p50_ms, p95_ms, max_ms, .. } in &report.rates {
        println!("{pictures_per_second:>12} {pictures:>9} {p50_ms:>8.0} {p95_ms:>8.0} {max_ms:>8.0}");
    }
}

/// Starts a round, and waits until it trains.
fn begin_round(site: &Site, drawn: &Drawn, interruption: &Interruption) -> anyhow::Result<()> {
    eprintln!("a round begins to train on {POOL} pictures ...");
    drawn.pictures("pool", POOL)?;
    fs::rename(drawn.dir.join("pool"), site.watched().join("pool"))?;
    let answered =
        |status: &Value| status["images"] == POOL && status["sources"][0]["unanswered"] == 0 || interruption.seen();
    site.wait("every picture answered", PATIENCE, answered)?;
    let round = site.json(&["round", "start"])?["round"].to_string();
    let trains = |_: &Value| {
        let shown = site.json(&["round", "show", &round]);
        shown.is_ok_and(|shown| shown["stage"] == "phase1-model1" || shown["state"] != "running") || interruption.seen()
    };
    site.wait("training", PATIENCE, trains)?;
    interruption.check()
}

/// Renames many pictures at the same time, and one more when half of them are answered.
async fn flood(site: &Site, dir: &Path, count: usize, newcomer: &Picture) -> anyhow::Result<Burst> {
    let bus = Bus::Address(site.bus_address().to_owned()).connect().await?;
    let source = SourceProxy::builder(&bus).path(source_path(0)).build().await?;
    let mut told = source.receive_observed().await?;
    let (began, mut answered, mut first_seconds) = (Instant::now(), 0, 0.0);
    let (mut came, mut newcomer_ms) = (None, 0.0);
    fs::rename(dir, site.watched().join("burst"))?;
    while answered < count + 1 {
        let signal = timeout(PATIENCE, told.next()).await.context("a picture is not answered")?;
        let image = signal.context("the bus has gone")?.args()?.image;
        answered += 1;
        if answered == 1 {
            first_seconds = began.elapsed().as_secs_f64();
        }
        if answered == count / 2 {
            came = Some(Instant::now());
            fs::rename(&newcomer.file, site.watched().join("newcomer.jpg"))?;
        }
        if let Some(came) = came.filter(|_| image == newcomer.image) {
            newcomer_ms = came.elapsed().as_secs_f64() * 1e3;
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", site.pid().context("coftd runs")?))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells VmHWM")?;
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    Ok(Burst {
        pictures: count,
        first_seconds,
        last_seconds: began.elapsed().as_secs_f64(),
        newcomer_ms,
        peak_memory_bytes: kilobytes << 10,
    })
}

async fn measure(site: &Site, pictures: &[Picture], rate: u32) -> anyhow::Result<Measured> {
    let bus = Bus::Address(site.bus_address().to_owned()).connect().await?;
    let source = SourceProxy::builder(&bus).path(source_path(0)).build().await?;
    let mut told = source.receive_observed().await?;
    let came: RefCell<HashMap<&str, Instant>> = RefCell::default();
    let (began, watched) = (Instant::now(), site.watched());
    let bring = async {
        for (number, Picture { file, image }) in pictures.iter().enumerate() {
            sleep_until(began + Duration::from_secs_f64(number as f64 / f64::from(rate))).await;
            came.borrow_mut().insert(image, Instant::now());
            fs::rename(file, watched.join(file.file_name().context("a picture has a name")?))?;
        }
        anyhow::Ok(())
    };
    let hear = async {
        let mut latencies = Vec::with_capacity(pictures.len());
        while latencies.len() < pictures.len() {
            let signal = timeout(PATIENCE, told.next()).await.context("a picture is not answered")?;
            let signal = signal.context("the bus has gone")?;
            let image = signal.args()?.image;
            if let Some(came) = came.borrow_mut().remove(image.as_str()) {
                latencies.push(came.elapsed().as_secs_f64() * 1e3);
            }
        }
        anyhow::Ok(latencies)
    };
    let ((), mut latencies) = tokio::try_join!(bring, hear)?;
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() as f64 * share) as usize).min(latencies.len() - 1)];
    Ok(Measured {
        pictures_per_second: rate,
        pictures: latencies.len(),
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        max_ms: at(1.0),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Pictures of random blocks, the same in every run.
struct Drawn {
    dir: PathBuf,
    files: Vec<Vec<u8>>,
}

impl Drawn {
    fn new(dir: &Path, (width, height): (u32, u32)) -> anyhow::Result<Self> {
        let draw = |number| {
            let mut random = world::random(0x0b5e_77ed, number);
            let mut blocks = [[0u8; 3]; 192];
            blocks.iter_mut().for_each(|colour| random.fill_bytes(colour));
            let block = |x: u32, y: u32| (x * 16 / width + y * 12 / height * 16) as usize;
            let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb(blocks[block(x, y)]));
            world::jpeg(&picture, QUALITY)
        };
        Ok(Self { dir: dir.to_owned(), files: (0..DRAWN).map(draw).collect() })
    }

    /// `count` distinct files, in a directory of their own.
    fn pictures(&self, name: &str, count: u32) -> anyhow::Result<Vec<Picture>> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let mut pictures = Vec::new();
        for number in 0..count {
            let bytes = commented(&self.files[number as usize % self.files.len()], &format!("{name} {number}"));
            let image = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let file = dir.join(format!("{name}-{number:06}.jpg"));
            fs::write(&file, bytes)?;
            pictures.push(Picture { file, image });
        }
        Ok(pictures)
    }
}

/// A JPEG with a comment (ITU-T T.81, B.2.4.5) after its start.
fn commented(jpeg: &[u8], comment: &str) -> Vec<u8> {
    let (start, rest) = jpeg.split_at(2);
    let length = (comment.len() as u16 + 2).to_be_bytes();
    [start, &[0xff, 0xfe], &length, comment.as_bytes(), rest].concat()
}
