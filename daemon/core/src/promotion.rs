//! Decides without labels whether a candidate replaces the active generation.

mod import;

pub use import::{IMPORT_ERRORS, IMPORT_IMAGES, IMPORT_TOLERANCE, judge_import};

use crate::candidate::CandidateName;
use crate::report::{CandidateMetrics, Report};
use crate::shares::Shares;
use crate::spec::{Method, Precision};
use thiserror::Error;

/// Largest allowed difference of a probability on the probe, between torch in single precision and ONNX Runtime. 1e-4
/// for fp32 [choice], 1e-2 for fp16 and 0.1 for int8 [measurement, docs/export.md: four and three times the largest
/// difference that was found].
pub fn parity_bound(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 1e-4,
        Precision::Fp16 => 1e-2,
        Precision::Int8 => 0.1,
    }
}

/// Least share of the pool on which the two final models agree; 0 to 1. 0.5 [choice]: below it, the two trainings have
/// not learnt the same, and neither can be trusted.
pub const AGREEMENT_BOUND: f64 = 0.5;
/// Least share of the pool that trains either model; 0 to 1. 0.05 [choice], which is about 0.1 confirmed at the default
/// `clean-share`.
pub const CLEAN_BOUND: f64 = 0.05;
/// A class to which zero-shot assigns this share of the pool or more must not end with no image; 0 to 1. 0.1 [choice].
pub const COLLAPSE_BOUND: f64 = 0.1;
/// Fewer images than this may be chance, whatever their share. 5 [choice].
pub const CHANCE_IMAGES: u64 = 5;
/// From this evenness of the pretrained model's answers on, the rule that chooses the candidate is trusted; 0 to 1.
/// [measurement, docs/decisions/0025]
pub const EVEN: f64 = 0.9;
/// The same for two classes, where [`STEADIER`] tells nothing, because a single boundary may become steady where it is
/// wrong; 0 to 1. [measurement, docs/decisions/0025]
pub const EVEN_OF_TWO: f64 = 0.97;
/// Below this evenness, without `shares`, no candidate that changes the class shares is trusted; 0 to 1. [measurement,
/// docs/decisions/0025]
pub const UNEVEN: f64 = 0.7;
/// For an evenness between [`UNEVEN`] and [`EVEN`]: if the candidate's answers are more even than the pretrained
/// model's, and if it has fewer unstable answers by this share of them, the camera is taken to be the cause of the
/// uneven answers; 0 to 1. [measurement, docs/decisions/0025]
pub const STEADIER: f64 = 0.14;
/// Largest change of the class shares that is ignored where answers are less even; 0 to 1. 0.02 [choice].
pub const TV_DISTANCE_BOUND: f64 = 0.02;
/// Whether a candidate takes over.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It becomes the active generation.
    Promote,
    /// The active generation stays, for this reason.
    Keep(Reason),
}

/// Why the active generation stays.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Reason {
    /// ONNX Runtime does not reproduce torch's probabilities for the probe.
    #[error("ONNX Runtime's probabilities differ from torch's by {found:.1e}; at most {bound:.0e} is allowed")]
    Parity {
        /// Largest difference of a probability, 0 to 1.
        found: f64,
        /// Largest difference that is allowed, 0 to 1.
        bound: f64,
    },
    /// The two final models agree on too few images, see [`AGREEMENT_BOUND`].
    #[error(
        "the two models agree on {:.0} % of the images; at least {:.0} % is asked for",
        found * 100.0, AGREEMENT_BOUND * 100.0
    )]
    Disagreement {
        /// Share of the pool on which they agree, 0 to 1.
        found: f64,
    },
    /// Too few labels train one of the models, see [`CLEAN_BOUND`].
    #[error("only {:.1} % of the pseudo-labels are clean; at least {:.0} % is asked for", found * 100.0, CLEAN_BOUND * 100.0)]
    TooFewClean {
        /// Share of the pool that trains the model with fewer such labels, 0 to 1.
        found: f64,
    },
    /// The rule has chosen zero-shot's model.
    #[error(
        "no adapted model's answers are as evenly spread over the classes, and as alike for images that look alike, as zero-shot's"
    )]
    NothingBetter,
    /// A class that zero-shot found often is not found any more, see [`COLLAPSE_BOUND`].
    #[error("no image is classified as {class:?} any more, where zero-shot found {zero_shot}")]
    Collapsed {
        /// Name of the class.
        class: String,
        /// Images of the pool that zero-shot gives this class.
        zero_shot: u64,
    },
    /// The answers are uneven, and no metric shows whether the candidate or the pretrained model is right.
    #[error(
        "whether it is better cannot be told: the pretrained model finds some classes more often than others, the new model spreads \
         its answers differently, and either may be right; it answers {:.0} % of the images differently",
        differs * 100.0
    )]
    Undecided {
        /// Share of the pool for which the candidate's answer differs from zero-shot's, 0 to 1.
        differs: f64,
    },
    /// An import or an earlier generation does not match the configuration.
    #[error("it was made for {what} than this service's; let it serve where the configuration names the same")]
    Foreign {
        /// What does not match, in words for the message.
        what: &'static str,
    },
    /// The answers of an import are less evenly spread than those of the active generation, see [`judge_import`].
    #[error(
        "on {images} of this service's own images it spreads its answers over the classes less evenly ({found:.3}) than what serves \
         ({active:.3}); chance explains a difference of {chance:.3}"
    )]
    LessEven {
        /// [`balance`] of the import's answers, at most 1.
        found: f64,
        /// [`balance`] of the active generation's answers, at most 1.
        active: f64,
        /// Number of images that both have answered.
        images: usize,
        /// Largest difference of the two balances that may be chance.
        chance: f64,
    },
}

impl Reason {
    /// Whether the candidate is worth keeping for a person who wants to activate it all the same: it could serve here,
    /// and only a rule rejects it. A candidate that is zero-shot's model itself has learnt nothing that could be lost.
    pub fn can_be_overruled(&self) -> bool {
        !matches!(self, Reason::Parity { .. } | Reason::Foreign { .. } | Reason::NothingBetter)
    }
}

/// Judges a candidate by its parity on the probe and by its report.
///
/// A zero-shot candidate has learnt nothing that could have gone wrong, so parity alone decides. `shares` are the class
/// shares that the user expects. Without them, uneven answers of the pretrained model have two possible causes: a
/// camera that makes one class too frequent, or a world that consists nearly only of that class. How often each
/// class is answered does not distinguish the two; [`STEADIER`] does in part, and the rest is left to a person.
pub fn judge(
    method: Method,
    precision: Precision,
    parity_max_abs_diff: f64,
    shares: Option<&Shares>,
    report: &Report,
) -> Verdict {
    if let Some(apart) = apart(precision, parity_max_abs_diff) {
        return Verdict::Keep(apart);
    }
    let (true, Some(adaptation)) = (method != Method::ZeroShot, &report.adaptation) else { return Verdict::Promote };
    if adaptation.deployed == CandidateName::ZeroShot {
        return Verdict::Keep(Reason::NothingBetter);
    }
    if adaptation.agreement < AGREEMENT_BOUND {
        return Verdict::Keep(Reason::Disagreement { found: adaptation.agreement });
    }
    let clean = adaptation.clean_fraction[0].min(adaptation.clean_fraction[1]);
    if clean < CLEAN_BOUND {
        return Verdict::Keep(Reason::TooFewClean { found: clean });
    }
    let often = |count: u64| count >= CHANCE_IMAGES && count as f64 >= COLLAPSE_BOUND * report.images as f64;
    if let Some(class) = report.classes.iter().find(|class| often(class.zero_shot) && class.deployed == 0) {
        return Verdict::Keep(Reason::Collapsed { class: class.name.clone(), zero_shot: class.zero_shot });
    }
    let of = |name: &CandidateName| adaptation.candidates.iter().find(|candidate| candidate.name == *name);
    let Some(candidate) = of(&adaptation.deployed) else { return Verdict::Promote };
    let evenness = evenness(report.classes.iter().map(|class| class.zero_shot));
    let by_the_camera = || {
        let deployed = self::evenness(report.classes.iter().map(|class| class.deployed));
        deployed > evenness
            && of(&CandidateName::ZeroShot).is_some_and(|zero_shot| steadier(zero_shot, candidate, report.images))
    };
    let trusted = match report.classes.len() {
        _ if shares.is_some() => true,
        ..=2 => evenness >= EVEN_OF_TWO,
        _ => evenness >= EVEN || (evenness >= UNEVEN && by_the_camera()),
    };
    if trusted || candidate.tv_distance <= TV_DISTANCE_BOUND {
        return Verdict::Promote;
    }
    Verdict::Keep(Reason::Undecided { differs: 1.0 - candidate.agreement_with_zero_shot })
}

/// Whether the candidate has fewer unstable answers than zero-shot, see [`STEADIER`], on a pool of so many images.
///
/// An answer is unstable if a slightly shifted crop changes it. If the class boundaries were moved into a class, they
/// now pass through its images, and the answers there are unstable. If they were moved to where the classes really
/// part, more answers are stable.
fn steadier(zero_shot: &CandidateMetrics, candidate: &CandidateMetrics, images: u64) -> bool {
    let unstable = |metrics: &CandidateMetrics| (1.0 - metrics.stability) * images as f64;
    let fewer = unstable(zero_shot) - unstable(candidate);
    // Stability is a share of whole images; rounding removes the error of its floating-point number.
    fewer.round() >= CHANCE_IMAGES as f64 && fewer >= STEADIER * unstable(zero_shot)
}

/// Entropy of the class frequencies, divided by that of a uniform distribution; 0 to 1. 1 where there is one class, or
/// no image.
///
/// With the correction of Miller (1955, "Note on the bias of information estimates") for the bias of small samples.
pub fn evenness(counts: impl Iterator<Item = u64> + Clone) -> f64 {
    let all = counts.clone().sum::<u64>() as f64;
    let classes = counts.clone().count();
    if classes < 2 || all == 0.0 {
        return 1.0;
    }
    let shares = counts.filter(|&count| count > 0).map(|count| count as f64 / all);
    let correction = (shares.clone().count() - 1) as f64 / (2.0 * all);
    let entropy: f64 = shares.map(|share| -share * share.ln()).sum();
    ((entropy + correction) / (classes as f64).ln()).min(1.0)
}

/// Judges a generation that was judged before and is to be activated again: parity alone decides.
pub fn judge_again(precision: Precision, parity_max_abs_diff: f64) -> Verdict {
    apart(precision, parity_max_abs_diff).map_or(Verdict::Promote, Verdict::Keep)
}

fn apart(precision: Precision, found: f64) -> Option<Reason> {
    (!agrees(precision, found)).then(|| Reason::Parity { found, bound: parity_bound(precision) })
}

/// Whether a difference of probabilities on the probe is within the bound; NaN never is.
pub fn agrees(precision: Precision, found: f64) -> bool {
    matches!(found.partial_cmp(&parity_bound(precision)), Some(o) if o.is_le())
}

/// How close the mean of N × C `probabilities`, row-major, is to the expected shares of the classes: 1 minus the
/// Kullback-Leibler divergence of the mean from the shares, divided by ln C; at most 1. Where no `shares` are known,
/// all classes are equally likely, and this is the entropy of the mean divided by that of a uniform distribution; 0 to
/// 1.
pub fn balance(probabilities: &[f32], count: usize, shares: Option<&Shares>) -> f64 {
    let mut mean = vec![0f64; count];
    for row in probabilities.chunks_exact(count) {
        mean.iter_mut().zip(row).for_each(|(sum, &p)| *sum += f64::from(p));
    }
    let rows = (probabilities.len() / count).max(1) as f64;
    let expected = |class: usize| shares.map_or(1.0 / count as f64, |shares| shares.as_slice()[class]);
    let means = mean.iter().map(|sum| sum / rows).enumerate().filter(|&(_, p)| p > 0.0);
    let divergence: f64 = means.map(|(class, p)| p * (p / expected(class)).ln()).sum();
    1.0 - divergence / (count as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Adaptation, ClassReport};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn report(agreement: f64, clean: [f64; 2], classes: &[(u64, u64)]) -> Report {
        let class = |(i, &(zero_shot, deployed)): (usize, &(u64, u64))| ClassReport {
            name: format!("class {i}"),
            zero_shot,
            seeds: [zero_shot.min(16); 2],
            clean: [0, 0],
            deployed,
            expected_share: None,
            own_labels: None,
            nearest: None,
        };
        Report {
            images: 100,
            classes: classes.iter().enumerate().map(class).collect(),
            adaptation: Some(Adaptation {
                label_agreement: agreement,
                confirmed_fraction: clean,
                clean_fraction: clean,
                agreement,
                candidates: Vec::new(),
                deployed: CandidateName::Average,
            }),
            warnings: Vec::new(),
            seconds: BTreeMap::new(),
            peak_memory_bytes: 0,
        }
    }

    #[track_caller]
    fn kept(parity: f64, report: &Report, why: &str) {
        match judge(Method::Coft, Precision::Fp32, parity, None, report) {
            Verdict::Keep(reason) => assert_eq!(reason.to_string(), why),
            Verdict::Promote => panic!("promoted in spite of: {why}"),
        }
    }

    #[test]
    fn each_precision_has_its_bound() {
        let good = report(0.9, [0.8, 0.7], &[(60, 50), (40, 50)]);
        let promoted = |precision| {
            let verdict = |found: &f64| judge(Method::Coft, precision, *found, None, &good) == Verdict::Promote;
            [1e-5, 1e-3, 5e-2, 0.5, f64::NAN].iter().filter(|found| verdict(found)).count()
        };
        assert_eq!([Precision::Fp32, Precision::Fp16, Precision::Int8].map(promoted), [1, 2, 3]);
    }

    #[test]
    fn each_reason_is_told_in_words() {
        let good = report(0.9, [0.8, 0.7], &[(60, 50), (40, 50)]);
        assert_eq!(judge(Method::Coft, Precision::Fp32, 1e-6, None, &good), Verdict::Promote);
        kept(2e-3, &good, "ONNX Runtime's probabilities differ from torch's by 2.0e-3; at most 1e-4 is allowed");
        kept(f64::NAN, &good, "ONNX Runtime's probabilities differ from torch's by NaN; at most 1e-4 is allowed");
        let split = report(0.31, [0.8, 0.7], &[(60, 50), (40, 50)]);
        kept(0.0, &split, "the two models agree on 31 % of the images; at least 50 % is asked for");
        let doubted = report(0.9, [0.8, 0.012], &[(60, 50), (40, 50)]);
        kept(0.0, &doubted, "only 1.2 % of the pseudo-labels are clean; at least 5 % is asked for");
        let collapsed = report(0.9, [0.8, 0.7], &[(60, 100), (40, 0)]);
        kept(0.0, &collapsed, "no image is classified as \"class 1\" any more, where zero-shot found 40");
        let mut tiny = report(0.9, [0.8, 0.7], &[(26, 30), (4, 0)]);
        tiny.images = 30;
        assert_eq!(
            judge(Method::Coft, Precision::Fp32, 0.0, None, &tiny),
            Verdict::Promote,
            "four images are no class that was lost"
        );
        let mut same = report(0.9, [0.8, 0.7], &[(60, 60), (40, 40)]);
        same.adaptation.as_mut().unwrap().deployed = CandidateName::ZeroShot;
        kept(
            0.0,
            &same,
            "no adapted model's answers are as evenly spread over the classes, and as alike for images that look alike, as zero-shot's",
        );
        assert_eq!(
            judge(Method::ZeroShot, Precision::Fp32, 0.0, None, &collapsed),
            Verdict::Promote,
            "nothing was learnt"
        );
    }

    /// The pretrained model's answers are uneven and the new model makes them even. That is right at dusk, and wrong in
    /// a week in which only one class occurs.
    #[test]
    fn what_cannot_be_told_is_not_promoted_unless_the_shares_are_known() {
        let classes = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let shares = Shares::new(&BTreeMap::new(), &classes).unwrap();
        let verdict = |found: &[u64], now: u64, stability, tv_distance, shares| {
            let counts: Vec<(u64, u64)> =
                found.iter().enumerate().map(|(class, &found)| (found, if class == 0 { now } else { 30 })).collect();
            let mut report = report(0.9, [0.8, 0.7], &counts);
            let adaptation = report.adaptation.as_mut().unwrap();
            let metrics = |name, stability, agreement_with_zero_shot, tv_distance| CandidateMetrics {
                name,
                stability,
                margin: 0.5,
                agreement_with_zero_shot,
                tv_distance,
                balance: 0.9,
                coherence: 0.2,
            };
            adaptation.candidates = vec![
                metrics(CandidateName::ZeroShot, 0.5, 1.0, 0.0),
                metrics(adaptation.deployed.clone(), stability, 0.63, tv_distance),
            ];
            judge(Method::Coft, Precision::Fp32, 0.0, shares, &report)
        };
        let undecided = Verdict::Keep(Reason::Undecided { differs: 1.0 - 0.63 });
        // The evenness of these answers is 0.96, 0.87 and 0.42, that of two classes 1.00 and 0.93. Zero-shot changes
        // its answer on 50 of 100 shifted crops.
        type Row = (&'static [u64], u64, f64, f64, Verdict, &'static str);
        let table: [Row; 9] = [
            (&[50, 25, 25], 30, 0.3, 0.2, Verdict::Promote, "even answers"),
            (&[60, 20, 20], 30, 0.58, 0.2, Verdict::Promote, "steadier answers: the camera's doing"),
            (&[60, 20, 20], 30, 0.56, 0.2, undecided.clone(), "hardly steadier"),
            (&[60, 20, 20], 30, 0.3, 0.2, undecided.clone(), "boundaries that pass through a class"),
            (&[60, 20, 20], 100, 0.9, 0.2, undecided.clone(), "still less even"),
            (&[56, 44], 30, 0.3, 0.2, Verdict::Promote, "even answers"),
            (&[66, 34], 30, 0.9, 0.2, undecided.clone(), "a single boundary"),
            (&[88, 6, 6], 30, 0.9, 0.2, undecided.clone(), "hardly any other class"),
            (&[88, 6, 6], 30, 0.3, 0.01, Verdict::Promote, "the shares of the classes stay as they are"),
        ];
        for (found, now, stability, tv_distance, expected, why) in table {
            assert_eq!(verdict(found, now, stability, tv_distance, None), expected, "{why}");
        }
        let told = Verdict::Promote;
        assert_eq!(
            verdict(&[88, 6, 6], 30, 0.6, 0.2, Some(&shares)),
            told,
            "the choice has taken the shares into account"
        );
        let Verdict::Keep(reason) = undecided else { panic!("kept") };
        let words = "whether it is better cannot be told: the pretrained model finds some classes more often than others, the new \
                     model spreads its answers differently, and either may be right; it answers 37 % of the images differently";
        assert_eq!(reason.to_string(), words);
    }

    #[test]
    fn a_few_images_are_no_steadiness() {
        let metrics = |stability| CandidateMetrics {
            name: CandidateName::Average,
            stability,
            margin: 0.5,
            agreement_with_zero_shot: 0.9,
            tv_distance: 0.1,
            balance: 0.9,
            coherence: 0.2,
        };
        let found = [(0.95, 1.0, 100), (0.96, 1.0, 100), (0.96, 1.0, 1000), (1.0, 0.9, 1000), (0.9, f64::NAN, 1000)]
            .map(|(zero_shot, candidate, images)| steadier(&metrics(zero_shot), &metrics(candidate), images));
        assert_eq!(found, [true, false, true, false, false]);
    }

    #[test]
    fn evenness_is_the_entropy_of_the_counts() {
        assert!((evenness([5, 5, 5].into_iter()) - 1.0).abs() < 1e-12);
        assert_eq!(
            [evenness([9, 0].into_iter()), evenness([0, 0].into_iter()), evenness([7].into_iter())],
            [0.0, 1.0, 1.0]
        );
        // −(¾ ln ¾ + ¼ ln ¼) / ln 2, and the correction, 1/200 / ln 2.
        assert!((evenness([75, 25].into_iter()) - (0.811278 + 0.007213)).abs() < 1e-5);
        // Twenty images that chance distributed over ten classes: 4, 1, 2, 3, 3, 1, 1, 1, 3, 1. Without the correction
        // this is 0.94.
        assert_eq!(evenness([4, 1, 2, 3, 3, 1, 1, 1, 3, 1].into_iter()), 1.0);
    }

    #[test]
    fn balance_is_held_against_the_shares_that_are_expected() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let shares = Shares::new(&BTreeMap::from([("a".to_owned(), 0.9)]), &classes).unwrap();
        let (even, expected) = ([0.5, 0.5], [0.9, 0.1]);
        assert!(
            (balance(&even, 2, None) - 1.0).abs() < 1e-6 && (balance(&expected, 2, Some(&shares)) - 1.0).abs() < 1e-6
        );
        // 1 + (½ ln (0.9/½) + ½ ln (0.1/½)) / ln 2, by hand.
        assert!(
            (balance(&even, 2, Some(&shares)) - (1.0 + (0.5 * 1.8f64.ln() + 0.5 * 0.2f64.ln()) / 2f64.ln())).abs()
                < 1e-6
        );
    }

    #[test]
    fn what_has_served_before_has_only_to_answer_as_it_did() {
        let again = [0.0, 2e-3, f64::NAN].map(|found| judge_again(Precision::Fp32, found) == Verdict::Promote);
        assert_eq!(again, [true, false, false]);
    }

    proptest! {
        /// A report that is worse in every metric is never promoted if the better one is kept.
        #[test]
        fn a_worse_report_is_never_promoted(
            agreement in 0.0..1.0f64, clean in 0.0..1.0f64, parity in 0.0..2e-4f64, worse in 0.0..1.0f64, lost: bool,
        ) {
            let better = report(agreement, [clean, clean], &[(60, 50), (40, 50)]);
            let shares = if lost { [(60, 100), (40, 0)] } else { [(60, 50), (40, 50)] };
            let poor = report(agreement * worse, [clean * worse, clean], &shares);
            if judge(Method::Coft, Precision::Fp32, parity, None, &better) != Verdict::Promote {
                prop_assert_ne!(judge(Method::Coft, Precision::Fp32, parity * (2.0 - worse), None, &poor), Verdict::Promote);
            }
        }
    }
}
