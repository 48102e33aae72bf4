//! The targets, and whether they are met.

use super::arm::Arm;
use super::figures::{Cells, Figures, Key, RoundRow};
use super::generation::Model;
use super::pictures::Input;
use super::swaps::Swaps;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Bar {
    pub what: &'static str,
    /// The model, input and number of clients.
    pub at: String,
    pub measured: f64,
    pub unit: &'static str,
    pub bar: f64,
    /// Whether `measured` must be at least the bar; otherwise at most.
    pub at_least: bool,
    pub holds: bool,
}

impl Bar {
    fn new(what: &'static str, at: String, measured: f64, bound: Bound) -> Self {
        let (bar, at_least) = match bound {
            Bound::AtLeast(bar) => (bar, true),
            Bound::AtMost(bar) => (bar, false),
        };
        let holds = if at_least { measured >= bar } else { measured <= bar };
        Self { what, at, measured, unit: "ratio", bar, at_least, holds }
    }

    /// The line in the table.
    pub fn line(&self) -> String {
        let Self { what, at, measured, unit, bar, at_least, holds } = self;
        let unit = if *unit == "ratio" { String::new() } else { format!(" {unit}") };
        let (sign, holds) = (if *at_least { "≥" } else { "≤" }, if *holds { "yes" } else { "no" });
        format!("| {what} | {at} | {measured:.2}{unit} | {sign} {bar:.2}{unit} | {holds} |\n")
    }
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
use Bound::{AtLeast, AtMost};

const MODELS: [Model; 3] = [Model::MiniClip64, Model::VitB32, Model::VitB16];
const INPUTS: [Input; 4] = [Input::Tiny, Input::Vga, Input::FullHd, Input::TwelveMegapixels];

/// All targets that were measured.
pub fn bars(cells: &Cells, rounds: &[RoundRow], swaps: Option<&Swaps>) -> Vec<Bar> {
    let rows = cells.rows();
    let find = |model, input, clients, arm| -> Option<Figures> {
        let key = Key { model, input, clients, arm };
        rows.iter().find(|row| row.key == key).map(|row| row.figures)
    };
    let mut bars = Vec::new();
    for model in MODELS {
        let bare = |input, batch| find(model, input, batch, Arm::Bare);
        let coftd = |input, clients| find(model, input, clients, Arm::Coftd);
        for input in INPUTS {
            for arm in [Arm::Coftd, Arm::CoftdStream] {
                let ours = find(model, input, 1, arm).and_then(|ours| ours.tensor_to_label_seconds);
                let (Some(ours), Some(bare)) = (ours, bare(input, 1)) else { continue };
                let (ours, limit) = (ours * 1e3, bare.p50_seconds * 1e3);
                let at = format!("{}, {}, {}, clients: 1", arm.name(), model.name(), input.name());
                let bar =
                    Bar::new("tensor to label − bare loop, p50", at.clone(), ours - limit, AtMost(limit * 0.05 + 0.3));
                bars.push(Bar { unit: "ms", ..bar });
                // The same target as a ratio.
                let bound = AtMost((limit * 1.05 + 0.3) / limit);
                bars.push(Bar::new("tensor to label / bare loop, p50", at, ours / limit, bound));
            }
        }
        for arm in [Arm::Coftd, Arm::CoftdStream] {
            let ours = find(model, Input::Tiny, 16, arm);
            let (Some(ours), Some(bare)) = (ours, bare(Input::Tiny, 16)) else { continue };
            let at = format!("{}, {}, tiny, clients: 16", arm.name(), model.name());
            let ratio = ours.images_per_second / bare.images_per_second;
            bars.push(Bar::new("images/s / bare loop's in batches of 16", at, ratio, AtLeast(0.95)));
        }
        for input in INPUTS {
            let peer = |arm| Some((coftd(input, 16)?, find(model, input, 16, arm)?));
            let at = format!("{}, {}, clients: 16", model.name(), input.name());
            if (model, input) == (Model::MiniClip64, Input::Vga) {
                for (what, arm, bar) in [
                    ("images/s / FastAPI with Pillow", Arm::FastapiPillow, 2.0),
                    ("images/s / FastAPI with simplejpeg", Arm::FastapiSimplejpeg, 1.3),
                ] {
                    if let Some((coftd, peer)) = peer(arm) {
                        let ratio = coftd.images_per_second / peer.images_per_second;
                        bars.push(Bar::new(what, at.clone(), ratio, AtLeast(bar)));
                    }
                }
            }
            if let Some((coftd, peer)) = peer(Arm::FastapiPillow) {
                let ratio = coftd.p99_seconds / peer.p99_seconds;
                bars.push(Bar::new("p99 / FastAPI with Pillow", at, ratio, AtMost(0.5)));
            }
        }
        let memory = |arm| {
            let of = rows.iter().filter(|row| (row.key.model, row.key.arm) == (model, arm));
            of.map(|row| row.anonymous_bytes).max()
        };
        if let (Some(coftd), Some(bare)) = (memory(Arm::Coftd), memory(Arm::Bare)) {
            let ratio = coftd as f64 / bare as f64;
            bars.push(Bar::new("anonymous memory / bare loop", model.name().to_owned(), ratio, AtMost(1.15)));
        }
    }
    for RoundRow { clients, p99_ratio, .. } in rounds {
        let at = format!("mini_clip64, 640x480, clients: {clients}");
        bars.push(Bar::new("p99 while a round trains / idle", at, *p99_ratio, AtMost(1.5)));
    }
    if let Some(swaps) = swaps {
        let at = || "mini_clip64, 640x480, clients: 4".to_owned();
        bars.push(Bar::new(
            "failed requests / all, over 100 swaps",
            at(),
            swaps.failed as f64 / swaps.requests as f64,
            AtMost(0.0),
        ));
        bars.push(Bar::new("growth of anonymous memory over the last 80 swaps", at(), swaps.growth(), AtMost(0.05)));
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::load::Seen;

    #[test]
    fn only_what_was_measured_is_judged() {
        let mut cells = Cells::default();
        let mut add = |arm, input, clients, latency: f64, decoding: f64, rate| {
            let seen =
                Seen { images_per_second: rate, latencies: vec![latency], beyond_decoding: vec![latency - decoding] };
            cells.add(Key { model: Model::VitB32, input, clients, arm }, seen, 100);
        };
        add(Arm::Bare, Input::Vga, 1, 0.0100, 0.0, 100.0);
        add(Arm::Coftd, Input::Vga, 1, 0.0147, 0.004, 60.0);
        add(Arm::Bare, Input::Tiny, 16, 0.16, 0.0, 100.0);
        add(Arm::Coftd, Input::Tiny, 16, 0.16, 0.0, 94.0);
        let bars = bars(&cells, &[], None);
        let told: Vec<_> = bars.iter().map(|bar| (bar.what, bar.holds)).collect();
        let expected = [
            ("tensor to label − bare loop, p50", true), // 0.7 ms; 0.8 ms are allowed
            ("tensor to label / bare loop, p50", true),
            ("images/s / bare loop's in batches of 16", false),
            ("anonymous memory / bare loop", true),
        ];
        assert_eq!(told, expected);
        let line =
            "| tensor to label − bare loop, p50 | coftd, vit-b-32, 640x480, clients: 1 | 0.70 ms | ≤ 0.80 ms | yes |\n";
        assert_eq!(bars[0].line(), line);
    }
}
