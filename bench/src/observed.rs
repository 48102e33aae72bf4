//! `cargo xtask bench answers`: how long it takes from a picture that is renamed into a watched directory to its
//! answer on the bus, at several rates.

use crate::built;
use crate::interruption::Interruption;
use anyhow::{Context, ensure};
use coft_dbus::{Bus, SourceProxy, source_path};
use coft_harness::daemon::Site;
use coft_harness::world;
use futures_util::StreamExt;
use image::RgbImage;
use rand::RngCore;
use serde::Serialize;
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
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    width_px: u32,
    height_px: u32,
    rates: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    pictures_per_second: u32,
    pictures: usize,
    /// From the rename to the signal, ms.
    p50_ms: f64,
    p95_ms: f64,
    max_ms: f64,
    /// From the first rename to the last signal, s.
    seconds: f64,
}

/// Width and height of the pictures, px.
const SIZE: (u32, u32) = (640, 480);
const QUALITY: u8 = 88;
/// Until the first generation serves, and until the last picture of a rate is answered.
const PATIENCE: Duration = Duration::from_secs(600);

/// A picture that is to come, with the digest that its answer names.
struct Picture {
    file: PathBuf,
    image: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let programs = built::programs()?;
    let interruption = Interruption::watch()?;
    let mut site = Site::new(programs, "[schedule]\nautomatic = false\n")?;
    site.start()?;
    let serves = |status: &serde_json::Value| status["active_generation"].is_u64() || interruption.seen();
    site.wait("a first generation", PATIENCE, serves)?;
    interruption.check()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rates = Vec::with_capacity(args.rates.len());
    for (round, &rate) in args.rates.iter().enumerate() {
        eprintln!("{rate} pictures a second for {} s ...", args.seconds);
        let pictures = draw(&site.dir().join("drawn"), round as u64, rate * args.seconds)?;
        rates.push(runtime.block_on(measure(&site, &pictures, rate))?);
        interruption.check()?;
    }
    let report = Report { width_px: SIZE.0, height_px: SIZE.1, rates };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("from the rename of a {}x{} px picture to its answer on the bus, ms:", SIZE.0, SIZE.1);
        println!("{:>12} {:>9} {:>8} {:>8} {:>8}", "pictures/s", "pictures", "p50", "p95", "max");
        for Measured { pictures_per_second, pictures, p50_ms, p95_ms, max_ms, .. } in report.rates {
            println!("{pictures_per_second:>12} {pictures:>9} {p50_ms:>8.0} {p95_ms:>8.0} {max_ms:>8.0}");
        }
    }
    Ok(())
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

/// Distinct pictures of random blocks, the same in every run.
fn draw(dir: &Path, round: u64, count: u32) -> anyhow::Result<Vec<Picture>> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let mut pictures = Vec::new();
    for number in 0..u64::from(count) {
        let mut random = world::random(0x0b5e_77ed, (round << 32) + number);
        let mut blocks = [[0u8; 3]; 192];
        blocks.iter_mut().for_each(|colour| random.fill_bytes(colour));
        let picture = RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| image::Rgb(blocks[(x / 40 + y / 40 * 16) as usize]));
        let bytes = world::jpeg(&picture, QUALITY);
        let image = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = dir.join(format!("{round}-{number:05}.jpg"));
        fs::write(&file, bytes)?;
        pictures.push(Picture { file, image });
    }
    ensure!(!pictures.is_empty(), "no picture is to come");
    Ok(pictures)
}
