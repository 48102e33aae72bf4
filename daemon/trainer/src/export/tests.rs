//! Runs candidates of every precision in inference engines of other projects (`tests/goldens/check_generation.py`).

use crate::fixture::{Bench, reporter};
use crate::round;
use coft_core::settings::Deploy;
use coft_core::shares::Shares;
use coft_core::spec::{Method, Precision, RoundSpec};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Checks a round's candidate in these engines. Returns the size of its model file and weights, bytes.
fn taken_by_other_engines(spec: &RoundSpec) -> u64 {
    round::run(spec, crate::journal::SAVE_INTERVAL, &mut reporter()).unwrap();
    let python = std::env::var_os("COFT_TEST_PYTHON").expect("run by `cargo xtask test`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/check_generation.py");
    let output =
        Command::new(python).env_remove("ONEDNN_MAX_CPU_ISA").arg(script).arg(&spec.candidate_dir).output().unwrap();
    assert!(output.status.success(), "{:?}: {}", spec.precision, String::from_utf8_lossy(&output.stderr));
    println!("{:?}\n{}", spec.precision, String::from_utf8_lossy(&output.stdout));
    fs::metadata(spec.candidate_dir.join(coft_core::manifest::WEIGHTS)).unwrap().len()
}

#[test]
fn every_precision_gives_torchs_answers() {
    let bench = Bench::new(2);
    let sizes = [Precision::Fp32, Precision::Fp16, Precision::Int8].map(|precision| {
        let candidate_dir = bench.spec(Method::ZeroShot).candidate_dir.with_extension(format!("{precision:?}"));
        taken_by_other_engines(&RoundSpec { precision, candidate_dir, ..bench.spec(Method::ZeroShot) })
    });
    assert!(sizes[1] < sizes[0] && sizes[2] < sizes[1], "{sizes:?}");
}

#[test]
fn the_shares_of_the_classes_travel() {
    let bench = Bench::new(2);
    let spec = bench.spec(Method::ZeroShot);
    let shares = Shares::new(&BTreeMap::from([(spec.classes[0].clone(), 0.9)]), &spec.classes).unwrap();
    taken_by_other_engines(&RoundSpec { shares: Some(shares), ..spec });
}

#[test]
fn visual_prompts_travel_in_every_precision() {
    for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
        let mut bench = Bench::new(1);
        bench.settings.deploy = Deploy::Phase1Model1;
        taken_by_other_engines(&RoundSpec { precision, ..bench.spec(Method::Coft) });
    }
}
