//! The results that a round writes: the report, and the models' answers for measurements with known labels.

use super::{AdaptedOutput, RoundOutput};
use crate::adapt::{Adapted, RoundContext};
use crate::clip::to_f32;
use crate::diagnostics::Answers;
use crate::error::RoundError;
use crate::model_selection::{self, CandidateSpec, Served};
use crate::pool::Pool;
use crate::progress::Reporter;
use coft_core::candidate::{CandidateName, ModelIndex};
use coft_core::report::{ClassReport, Nearest, OwnLabels, Report};
use std::path::Path;
use tch::Tensor;

/// `served` are the predictions of the deployed model for the pool.
pub fn report(round: &RoundContext, output: &RoundOutput, served: &Served, reporter: &Reporter) -> Report {
    let RoundContext { spec, zero_shot, given, .. } = *round;
    let own_labels = |class: usize| {
        let labelled = served.classes.iter().zip(given).filter_map(|(&answer, given)| Some((answer, (*given)?)));
        let answered: Vec<usize> = labelled.filter(|(answer, _)| *answer == class).map(|(_, given)| given).collect();
        let right = answered.iter().filter(|&&given| given == class).count();
        OwnLabels { right: right as u64, answered: answered.len() as u64 }
    };
    let count = |labels: &[usize], class: usize| labels.iter().filter(|&&label| label == class).count() as u64;
    let nearest = nearest(round.student.text);
    let classes = spec.classes.iter().enumerate().map(|(class, name)| {
        let adapted = output.adapted.as_ref().map(|output| &output.adapted);
        let seeds = |a: &Adapted, model: ModelIndex| a.seeds[model.index()][class].len() as u64;
        let clean = |a: &Adapted, model: ModelIndex| {
            let (kept, labels) = (&a.clean[model.index()], &a.labels[model.index()].classes);
            kept.iter().zip(labels).filter(|&(&kept, &label)| kept && label == class).count() as u64
        };
        ClassReport {
            name: name.clone(),
            zero_shot: count(&zero_shot.labels.classes, class),
            seeds: adapted.map_or([0, 0], |a| ModelIndex::BOTH.map(|model| seeds(a, model))),
            clean: adapted.map_or([0, 0], |a| ModelIndex::BOTH.map(|model| clean(a, model))),
            deployed: count(&served.classes, class),
            expected_share: served.shares.get(class).copied(),
            own_labels: given.iter().any(Option::is_some).then(|| own_labels(class)),
            nearest: nearest.get(class).map(|&(other, cosine)| Nearest { name: spec.classes[other].clone(), cosine }),
        }
    });
    Report {
        images: spec.images.len() as u64,
        classes: classes.collect(),
        adaptation: output.adapted.as_ref().map(|output| output.adaptation.clone()),
        warnings: reporter.warnings(),
        seconds: reporter.seconds(),
        peak_memory_bytes: peak_memory_bytes(),
    }
}

/// For each class, the other class with the nearest text feature, and the cosine of both. `text` is normalised: [C, D].
fn nearest(text: &Tensor) -> Vec<(usize, f64)> {
    let classes = text.size()[0];
    // Excludes the class itself.
    let others: Tensor = text.matmul(&text.tr()) + Tensor::eye(classes, (text.kind(), text.device())) * -2.0;
    let (cosines, nearest) = others.max_dim(1, false);
    let nearest = Vec::<i64>::try_from(nearest).expect("indices of the classes");
    nearest.into_iter().map(|class| class as usize).zip(to_f32(&cosines).into_iter().map(f64::from)).collect()
}

/// Largest resident set of this process so far, bytes (getrusage(2)).
fn peak_memory_bytes() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss() as u64 * 1024)
}

pub fn pool_answers(round: &RoundContext, output: &RoundOutput, served: &Served) -> Answers {
    let mut answers = Answers::default();
    let classes = round.spec.classes.len();
    let zero_shot = &round.student.zero_shot;
    answers.integers("zero-shot-label", &round.zero_shot.answers);
    answers.integers("deployed-label", &served.classes);
    answers.floats("plain/zero-shot", &zero_shot.labels.probabilities, classes);
    answers.floats("embedding/zero-shot", &to_f32(&zero_shot.embeddings), zero_shot.embeddings.size()[1] as usize);
    if let Some(AdaptedOutput { standing, adapted, predictions, .. }) = &output.adapted {
        answers.integers("standing", standing.positions());
        let distinct = standing.distinct();
        for model in ModelIndex::BOTH {
            let k = model.index();
            answers.integers(&format!("label{model}"), &adapted.labels[k].classes);
            answers.flags(&format!("clean{model}"), &adapted.clean[k]);
            answers.floats(&format!("margin{model}"), &adapted.margins[k], 1);
            let mut seeds = vec![false; distinct.len()];
            adapted.seeds[k].iter().flatten().for_each(|&image| seeds[image] = true);
            answers.flags(&format!("seed{model}"), &seeds);
        }
        for candidate in predictions.iter().filter(|candidate| candidate.name != CandidateName::ZeroShot) {
            answers.floats(&format!("plain/{}", candidate.name), &candidate.plain, classes);
            answers.floats(&format!("shifted/{}", candidate.name), &candidate.shifted, classes);
        }
    }
    answers
}

pub fn test_answers(round: &RoundContext, output: &RoundOutput, paths: &[&Path]) -> Result<Answers, RoundError> {
    let checkpoint = round.student.checkpoint;
    let pool = Pool::load(paths, &checkpoint.preprocess, checkpoint.device)?;
    let mut answers = Answers::default();
    let adapted = output.adapted.as_ref().map(|output| &output.adapted);
    for (name, candidate_spec) in model_selection::candidates(round.spec)
        .filter(|(_, candidate_spec)| adapted.is_some() || *candidate_spec == CandidateSpec::ZeroShot)
    {
        answers.model(&name.to_string(), &pool, &candidate_spec.model(round, adapted));
    }
    answers.model("deployed", &pool, &output.deployed);
    Ok(answers)
}
