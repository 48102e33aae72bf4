//! The limit that serving is measured against: a generation's model in a loop on ready tensors, by ONNX Runtime with the
//! session options of `serve/ort.rs`, on the CPU.
//!
//! Run:  bare_loop MODEL SIDE THREADS
//!
//! Every line `BATCH SECONDS` of standard input is answered by one JSON object, and the end of it ends the program.
//! ORT_DYLIB_PATH names the library.

use anyhow::{Context, bail};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use serde_json::json;
use std::time::{Duration, Instant};
use std::{env, fs, io};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [model, side, threads] = &args[..] else { bail!("bare_loop MODEL SIDE THREADS") };
    let (side, threads): (usize, usize) = (side.parse()?, threads.parse()?);
    let library = env::var_os("ORT_DYLIB_PATH").context("ORT_DYLIB_PATH is not set")?;
    let environment = ort::init_from(library)?.with_name("coft").with_telemetry(false).build()?;
    let mut session = open(model, threads, &environment)?;

    for line in io::stdin().lines() {
        let line = line?;
        let (batch, seconds) = line.split_once(' ').context("a line is BATCH SECONDS")?;
        let (batch, seconds) = (batch.parse()?, Duration::try_from_secs_f64(seconds.parse()?)?);
        let mut latencies = run(&mut session, batch, side, seconds)?;
        let images = (latencies.len() * batch) as f64;
        let rate = images / latencies.iter().sum::<f64>();
        latencies.sort_by(f64::total_cmp);
        let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q).round() as usize];
        let answer = json!({
            "batch": batch,
            "runs": latencies.len(),
            "images_per_second": rate,
            "p50_seconds": quantile(0.5),
            "p99_seconds": quantile(0.99),
            "anonymous_bytes": anonymous_bytes()?,
            "latencies_seconds": latencies,
        });
        println!("{answer}");
    }
    Ok(())
}

fn open(model: &str, threads: usize, environment: &Environment) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?.with_optimization_level(GraphOptimizationLevel::All)?;
    if threads > 0 {
        builder = builder.with_intra_threads(threads)?;
    }
    builder.commit_from_file(model)
}

/// Of every run, s: of at least two, after one that does not count. The tensor's values do not matter to the time.
fn run(session: &mut Session, batch: usize, side: usize, seconds: Duration) -> anyhow::Result<Vec<f64>> {
    let pixels: Vec<f32> = (0..batch * 3 * side * side).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let mut classify = || -> anyhow::Result<f64> {
        let began = Instant::now();
        let input = TensorRef::from_array_view(([batch, 3, side, side], &pixels[..]))?;
        let outputs = session.run(ort::inputs!["pixels" => input])?;
        let probabilities = outputs["probabilities"].try_extract_tensor::<f32>()?.1.to_vec();
        std::hint::black_box(probabilities);
        Ok(began.elapsed().as_secs_f64())
    };
    classify()?;
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < seconds || latencies.len() < 2 {
        latencies.push(classify()?);
    }
    Ok(latencies)
}

fn anonymous_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon is not told")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
