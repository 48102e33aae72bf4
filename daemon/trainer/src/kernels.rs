//! Runs the numeric tests with other kernels than this processor's, and with other numbers of threads.
//!
//! libtorch, oneDNN and OpenMP read which kernels and how many threads to use when a process begins, so the tests run
//! again in processes of their own. What a test asserts must follow from the mathematics, not from the order of sums on
//! one machine.

use crate::arithmetic::Arithmetic;
use std::collections::BTreeSet;
use std::process::Command;
use tch::{Device, Kind};

/// Tests that compare numbers. Tests that take a minute or need Python are not among them.
const NUMERIC: [&str; 9] = [
    "fit::tests::a_batch_that_memory_does_not_hold_is_computed_in_micro_batches",
    "fit::tests::a_loss_that_is_not_finite_starts_over_once",
    "fit::tests::a_prompt_tuning_in_micro_batches_ends_with_the_same_bits_and_near_one_that_is_whole",
    "fit::tests::an_interrupted_fine_tuning_with_contrast_ends_with_the_same_bits",
    "fit::tests::text_features_in_segments_teach_the_prompts_the_same",
    "kernels::the_sample_is_told",
    "phase2::tests::nothing_clean_leaves_the_zero_shot_classifier",
    "round::pools::labels_that_nobody_confirms_leave_the_pretrained_model",
    "round::tests::what_is_deployed_is_as_sure_as_zero_shot",
];

/// Values of ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and OMP_NUM_THREADS.
const SETTINGS: [[&str; 3]; 2] = [["default", "SSE41", "1"], ["avx2", "AVX2", "2"]];

const SAMPLE: &str = "sample of the arithmetic: ";

#[test]
fn the_sample_is_told() {
    println!("{SAMPLE}{}", Arithmetic::here(Device::Cpu, Kind::Float, 1).sample());
}

#[test]
fn numbers_hold_under_other_kernels_and_threads() {
    let mut samples = BTreeSet::new();
    for setting in SETTINGS {
        let [capability, instructions, threads] = setting;
        let output = Command::new(std::env::current_exe().unwrap())
            .args(NUMERIC)
            .args(["--exact", "--test-threads=1", "--nocapture"])
            .env("ATEN_CPU_CAPABILITY", capability)
            .env("ONEDNN_MAX_CPU_ISA", instructions)
            .env("OMP_NUM_THREADS", threads)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{setting:?}:\n{told}\n{errors}");
        let passed = format!("test result: ok. {} passed", NUMERIC.len());
        assert!(told.contains(&passed), "a test of the list is not there: {told}");
        samples.extend(told.lines().filter_map(|line| Some(line.split_once(SAMPLE)?.1.to_owned())));
    }
    assert!(samples.len() > 1 || !cfg!(target_arch = "x86_64"), "other kernels compute other last bits: {samples:?}");
}
