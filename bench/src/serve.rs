//! `cargo xtask bench serve`: the cost of an answer of `coftd`, compared with the model alone and with servers that a
//! user could write in Python, on the same ONNX file with the same number of threads.
//!
//! The file is the zero-shot generation that `coftd` makes of each model. All arms of a model run at the same time, but
//! those in Python are stopped except for their turns. The arms take turns cell by cell, so that other load on the
//! machine affects all.

mod arm;
mod bare;
mod bars;
pub(super) mod bus;
mod figures;
mod generation;
pub(super) mod load;
mod memory;
mod peer;
pub(super) mod pictures;
mod report;
mod swaps;
mod training;

pub use generation::Model;

use super::labelled_set::LabelledSet;
use crate::built;
use crate::interruption::Interruption;
use anyhow::{Context, ensure};
use arm::Arm;
use bare::BareLoop;
use bus::{BusClient, StreamClient};
use clap::ValueEnum;
use coft_harness::daemon::Site;
use coft_harness::programs::Programs;
use figures::{Cells, Key};
use generation::Generation;
use load::{Client, Seen, connect};
use memory::anonymous_bytes;
use peer::{Launch, Peer};
use pictures::{Input, Picture};
use report::{Agreement, Report};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// Models, by default all of them; the option may be given several times.
    #[arg(long, value_enum)]
    model: Vec<Model>,
    /// Pictures, by default all of them. The tiny ones go to coftd alone, to be held against the bare loop.
    #[arg(long, value_enum)]
    input: Vec<Input>,
    /// Sides, by default all of them.
    #[arg(long, value_enum)]
    arm: Vec<Arm>,
    /// Clients at once, by default 1, 4 and 16.
    #[arg(long, value_delimiter = ',')]
    clients: Vec<usize>,
    /// Time of every cell in a round, s; more where requests take long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Times that every cell is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// CPU threads of the model on each side; one a processor where it is not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Prints one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// The inputs that every part of a run shares.
struct Bench {
    programs: Programs,
    bare_loop: PathBuf,
    /// Python interpreter of the servers, if one is measured.
    python: PathBuf,
    set: LabelledSet,
    interruption: Interruption,
    models: Vec<Model>,
    inputs: Vec<Input>,
    arms: Vec<Arm>,
    clients: Vec<usize>,
    time: Duration,
    rounds: u32,
    threads: usize,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let bench = prepare(args)?;
    let scratch = tempfile::tempdir()?;
    let mut inputs = Vec::new();
    for &input in &bench.inputs {
        eprintln!("drawing pictures: {} ...", input.name());
        inputs.push((input, pictures::draw(input, scratch.path())?));
    }
    let (mut cells, mut agreement, mut beside_rounds, mut swaps) = (Cells::default(), Vec::new(), Vec::new(), None);
    for &model in &bench.models {
        let (site, generation) = generation::serve(model, &bench)?;
        let mut sides = Sides::start(&bench, &site, &generation, scratch.path())?;
        agreement.extend(sides.agreement(model, &inputs)?);
        for round in 1..=bench.rounds {
            for (input, pictures) in &inputs {
                eprintln!("{}, {}: {round} of {} ...", model.name(), input.name(), bench.rounds);
                for &clients in &bench.clients {
                    sides.measure(model, (*input, pictures), clients, &mut cells)?;
                }
            }
        }
        drop(sides);
        if model == Model::MiniClip64 && [Arm::Round, Arm::Swaps].iter().any(|arm| bench.arms.contains(arm)) {
            let pictures = inputs.iter().find(|(input, _)| *input == Input::Vga);
            let (_, pictures) = pictures.context("the arms round and swaps take the input 640x480")?;
            if bench.arms.contains(&Arm::Round) {
                beside_rounds = training::measure(&bench, &site, pictures)?;
            }
            if bench.arms.contains(&Arm::Swaps) {
                swaps = Some(swaps::measure(&bench, &site, pictures)?);
            }
        }
    }
    let report = Report {
        threads: bench.threads,
        seconds: args.seconds,
        rounds: bench.rounds,
        bars: bars::bars(&cells, &beside_rounds, swaps.as_ref()),
        cells: cells.rows(),
        while_a_round_trains: beside_rounds,
        swaps,
        agreement,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

fn prepare(args: &Args) -> anyhow::Result<Bench> {
    fn all<T: ValueEnum + Clone>(given: &[T]) -> Vec<T> {
        if given.is_empty() { T::value_variants().to_vec() } else { given.to_vec() }
    }
    let time = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let clients = if args.clients.is_empty() { vec![1, 4, 16] } else { args.clients.clone() };
    ensure!(!clients.contains(&0), "--clients: one at least");
    let arms = all(&args.arm);
    let python = match arms.iter().any(|arm| arm.is_peer()) {
        true => built::variable("COFT_SERVERS_PYTHON")?.into(),
        false => PathBuf::new(),
    };
    let programs = built::programs()?;
    let bare_loop = built::example("bare_loop")?;
    let set = LabelledSet::read(&built::data("cifar10.tar.gz")?, &[])?;
    Ok(Bench {
        programs,
        bare_loop,
        python,
        set,
        interruption: Interruption::watch()?,
        models: all(&args.model),
        inputs: all(&args.input),
        arms,
        clients,
        time,
        rounds: args.rounds,
        threads: args.threads.map_or_else(|| std::thread::available_parallelism().map(Into::into), Ok)?,
    })
}

/// Everything that answers for one generation.
struct Sides<'a> {
    bench: &'a Bench,
    site: &'a Site,
    bare: Option<BareLoop>,
    peers: Vec<(Arm, Peer)>,
}

impl<'a> Sides<'a> {
    fn start(bench: &'a Bench, site: &'a Site, generation: &Generation, dir: &Path) -> anyhow::Result<Self> {
        let mut sides = Self { bench, site, bare: None, peers: Vec::new() };
        if bench.arms.contains(&Arm::Bare) {
            sides.bare = Some(BareLoop::start(&bench.bare_loop, generation, bench.threads)?);
        }
        let (threads, interruption) = (bench.threads, &bench.interruption);
        let launch = Launch { python: &bench.python, generation, threads, dir, interruption };
        for &arm in &bench.arms {
            if let Some(script) = arm.script() {
                eprintln!("starting {} ...", arm.name());
                sides.peers.push((arm, launch.start(script)?));
            }
        }
        Ok(sides)
    }

    /// Compares the peers' answers with coftd's, because a peer with other answers would measure something else. Then
    /// stops the peers until their turns.
    fn agreement(&self, model: Model, inputs: &[(Input, Vec<Picture>)]) -> anyhow::Result<Vec<Agreement>> {
        /// Difference of a probability: the peers may decode and resize in other ways.
        const TOLERANCE: f64 = 0.05;
        let mut agreement = Vec::new();
        for (arm, peer) in &self.peers {
            let (mut ours, mut theirs) = (BusClient::connect(self.site.bus_address())?, peer.client());
            let mut max_abs_diff = 0.0f64;
            for (_, pictures) in inputs {
                let ours = ours.classify(&pictures[0])?.labels;
                let theirs =
                    theirs.classify(&pictures[0]).with_context(|| format!("{}:\n{}", arm.name(), peer.log()))?;
                for (class, probability) in ours {
                    let found = theirs.labels.iter().find(|(name, _)| *name == class);
                    let (_, found) = found.with_context(|| format!("{} does not know {class:?}", arm.name()))?;
                    max_abs_diff = max_abs_diff.max((found - probability).abs());
                }
            }
            ensure!(max_abs_diff <= TOLERANCE, "{} is off by {max_abs_diff:.3}", arm.name());
            peer.pause()?;
            agreement.push(Agreement { model, arm: *arm, max_abs_diff });
        }
        Ok(agreement)
    }

    /// Measures every side in turn.
    fn measure(
        &mut self,
        model: Model,
        (input, pictures): (Input, &[Picture]),
        clients: usize,
        cells: &mut Cells,
    ) -> anyhow::Result<()> {
        let Bench { arms, time, interruption, .. } = self.bench;
        let load = |clients| load::measure(clients, pictures, *time, interruption);
        let key = |arm| Key { model, input, clients, arm };
        interruption.check()?;
        if let Some(bare) = &mut self.bare {
            let taken = bare.measure(clients, *time)?;
            let (images_per_second, latencies) = (taken.images_per_second, taken.latencies_seconds);
            let seen = Seen { images_per_second, latencies, beyond_decoding: Vec::new() };
            cells.add(key(Arm::Bare), seen, taken.anonymous_bytes);
        }
        let bus = self.site.bus_address();
        for arm in [Arm::Coftd, Arm::CoftdStream].into_iter().filter(|arm| arms.contains(arm)) {
            let seen = match arm {
                Arm::Coftd => load(connect(clients, || BusClient::connect(bus))?),
                _ => load(connect(clients, || StreamClient::connect(bus))?),
            };
            let pid = self.site.pid().context("coftd has ended")?;
            cells.add(key(arm), seen?, anonymous_bytes(pid)?);
        }
        for (arm, peer) in self.peers.iter().filter(|_| input != Input::Tiny) {
            peer.go_on()?;
            let seen = load(connect(clients, || Ok(peer.client()))?);
            let seen = seen.with_context(|| format!("{}:\n{}", arm.name(), peer.log()))?;
            cells.add(key(*arm), seen, anonymous_bytes(peer.pid())?);
            peer.pause()?;
        }
        Ok(())
    }
}
