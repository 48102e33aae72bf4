//! A round as a process: its spec comes from a file, its events go to an open file, and a signal cancels it.

use crate::error::RoundError;
use crate::progress::{Reporter, Stop};
use crate::round;
use coft_core::settings::Deploy;
use coft_core::spec::{Method, PROTOCOL, RoundSpec};
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A round that left no candidate.
#[derive(Debug)]
pub struct Failed {
    pub message: String,
    /// Whether the round was cancelled and has said so in its last event.
    pub is_cancelled: bool,
}

/// Runs the round that the file `spec` describes. SIGTERM and SIGINT cancel it from here on. The last event says how
/// it ended.
///
/// # Errors
///
/// Where the round left no candidate.
pub fn run_round(spec: &Path, save_interval: Duration, events: File) -> Result<(), Failed> {
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, cancelled.clone()).expect("these signals can be caught");
    }
    let mut reporter = Reporter::new(events, cancelled);
    // tch turns an exception of libtorch (out of memory, for example) into a panic. Report it like any other failure.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let spec = read(spec)?;
        round::run(&spec, save_interval, &mut reporter).map_err(|failure| failure.on_line_of(&spec.class_lines))
    }));
    let failure = match outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(panic) => RoundError::of_panic(panic),
    };
    let heard = match failure {
        RoundError::Stop(Stop::Disconnected(_)) => false,
        _ => reporter.say(&failure.event()).is_ok(),
    };
    let is_cancelled = heard && matches!(failure, RoundError::Stop(Stop::Cancelled));
    Err(Failed { message: failure.to_string(), is_cancelled })
}

fn read(path: &Path) -> Result<RoundSpec, RoundError> {
    let fault = |cause: String| RoundError::Spec { path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(|cause| fault(cause.to_string()))?;
    let spec: RoundSpec = serde_json::from_slice(&text).map_err(|cause| fault(cause.to_string()))?;
    if spec.protocol != PROTOCOL {
        return Err(fault(format!("protocol {}; this trainer speaks {PROTOCOL}", spec.protocol)));
    }
    if let Err((key, rule)) = spec.settings.validate() {
        return Err(fault(format!("settings.{key}: {rule}")));
    }
    if spec.method == Method::Upl && spec.student_dir.is_some() {
        return Err(RoundError::Asked("prompt tuning alone has no student"));
    }
    let of_phase_1 = matches!(spec.settings.deploy, Deploy::Phase1Model1 | Deploy::Phase1Model2);
    if of_phase_1 && spec.student_dir.is_some() {
        return Err(RoundError::Asked("settings.deploy asks for a model of Phase I, which a student does not have"));
    }
    if spec.classes.len() < 2 {
        return Err(RoundError::Asked("fewer than 2 classes, where every image gets the same answer; name 2 or more"));
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;
    use coft_core::event::FailureKind;

    #[test]
    fn one_class_is_refused_before_anything_is_read() {
        let bench = Bench::new(1);
        let mut spec = bench.spec(Method::Coft);
        spec.classes.truncate(1);
        let path = spec.candidate_dir.with_file_name("spec.json");
        std::fs::write(&path, serde_json::to_vec(&spec).unwrap()).unwrap();
        let refused = read(&path).unwrap_err();
        assert_eq!(refused.kind(), FailureKind::BadSpec);
        assert!(refused.to_string().ends_with("name 2 or more"), "{refused}");
    }
}
