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
/// If the user has told the shares of the classes, this holds for classes that come at least as often.
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
/// model's, and if it and both models of Phase II have fewer unstable answers by this share of them, the camera is
/// taken to be the cause of the uneven answers; 0 to 1. [measurement, docs/decisions/0025 and 0026]
pub const STEADIER: f64 = 0.14;
/// Of fewer images, without near-duplicates, steadier answers tell nothing: so few are learnt by heart, right or wrong.
/// 400 [measurement, docs/decisions/0026].
pub const ENOUGH_IMAGES: u64 = 400;
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
        "no adapted model's answers are clearly better than zero-shot's: closer to the class shares that are expected \
         (even ones, if none are set), and more alike for images that look alike"
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
        "whether it is better cannot be told: the pretrained model finds some classes more often than others, the new \
         model spreads its answers differently, and either may be right; it answers {:.0} % of the distinct images \
         differently than the pretrained model",
        differs * 100.0
    )]
    Undecided {
        /// Share of the pool without near-duplicates for which the candidate's answer differs from zero-shot's, 0 to 1.
        differs: f64,
    },
    /// The answers of what serves are uneven, and an import finds other class shares, see [`judge_import`].
    #[error(
        "whether it is better cannot be told: on {images} of this service's own images, what serves finds some classes \
         more often than others, the import spreads its answers differently, and either may be right; it answers \
         {:.0} % of them differently; it can be told, by another import, where shares in [classifier] says how often \
         each class comes",
        differs * 100.0
    )]
    UndecidedImport {
        /// Share of the images that the import answers differently than what serves, 0 to 1.
        differs: f64,
        /// Number of images that both have answered.
        images: usize,
    },
    /// An import or an earlier generation does not match the configuration.
    #[error("it was made for {what} than this service's; let it serve where the configuration names the same")]
    Foreign {
        /// What does not match, in words for the message.
        what: &'static str,
    },
    /// The answers of an import are less evenly spread than those of the active generation, or less like the expected
    /// shares, see [`judge_import`].
    #[error(
        "on {images} of this service's own images it spreads its answers over the classes less evenly, or less like \
         the shares that are set, than what serves ({found:.3} against {active:.3}); chance explains a difference of \
         {chance:.3}"
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
    let is_rare = |class: usize| {
        shares.and_then(|shares| shares.as_slice().get(class)).is_some_and(|&share| share < COLLAPSE_BOUND)
    };
    let mut classes = report.classes.iter().enumerate();
    let collapsed = classes.find(|(at, class)| often(class.zero_shot) && class.deployed == 0 && !is_rare(*at));
    if let Some((_, class)) = collapsed {
        return Verdict::Keep(Reason::Collapsed { class: class.name.clone(), zero_shot: class.zero_shot });
    }
    let of = |name: &CandidateName| adaptation.candidates.iter().find(|candidate| candidate.name == *name);
    let Some(candidate) = of(&adaptation.deployed) else { return Verdict::Promote };
    let before = evenness(report.classes.iter().map(|class| class.zero_shot));
    let by_the_camera = || {
        let after = evenness(report.classes.iter().map(|class| class.deployed));
        // Of a single training, steadier answers may be chance.
        let trained = [&adaptation.deployed, &CandidateName::Model1, &CandidateName::Model2].map(of);
        let images = report.images.saturating_sub(adaptation.near_duplicates);
        let all_steadier = |zero_shot| {
            trained.iter().all(|candidate| candidate.is_some_and(|candidate| steadier(zero_shot, candidate, images)))
        };
        images >= ENOUGH_IMAGES && after > before && of(&CandidateName::ZeroShot).is_some_and(all_steadier)
    };
    let count = report.classes.len();
    let trusted =
        shares.is_some() || before >= trusted_evenness(count) || (count > 2 && before >= UNEVEN && by_the_camera());
    // The candidate's own figure is without near-duplicates, which may be most of what the camera sends.
    if trusted || candidate.tv_distance.max(moved(report)) <= TV_DISTANCE_BOUND {
        return Verdict::Promote;
    }
    Verdict::Keep(Reason::Undecided { differs: 1.0 - candidate.agreement_with_zero_shot })
}

/// From which evenness of the answers on the rule is trusted, for so many classes.
fn trusted_evenness(classes: usize) -> f64 {
    if classes <= 2 { EVEN_OF_TWO } else { EVEN }
}

/// Total variation distance between the class counts of zero-shot and of the deployed model over all images; 0 to 1.
fn moved(report: &Report) -> f64 {
    let moved: u64 = report.classes.iter().map(|class| class.zero_shot.abs_diff(class.deployed)).sum();
    moved as f64 / (2 * report.images.max(1)) as f64
}

/// Whether the candidate has fewer unstable answers than zero-shot, see [`STEADIER`], on a pool of so many images
/// without the near-duplicates.
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
    let terms = balance_terms(probabilities, count, shares);
    if terms.is_empty() { 1.0 } else { terms.iter().sum::<f64>() / terms.len() as f64 }
}

/// What each row adds to [`balance`], which is the mean of these terms. [N]
pub fn balance_terms(probabilities: &[f32], count: usize, shares: Option<&Shares>) -> Vec<f64> {
    let mut mean = vec![0f64; count];
    for row in probabilities.chunks_exact(count) {
        mean.iter_mut().zip(row).for_each(|(sum, &p)| *sum += f64::from(p));
    }
    let rows = (probabilities.len() / count).max(1) as f64;
    let expected = |class: usize| shares.map_or(1.0 / count as f64, |shares| shares.as_slice()[class]);
    // A class that no row has a probability for adds nothing.
    let term = |(class, sum): (usize, &f64)| if *sum > 0.0 { (sum / rows / expected(class)).ln() } else { 0.0 };
    let terms: Vec<f64> = mean.iter().enumerate().map(term).collect();
    let divergence = |row: &[f32]| row.iter().zip(&terms).map(|(&p, term)| f64::from(p) * term).sum::<f64>();
    probabilities.chunks_exact(count).map(|row| 1.0 - divergence(row) / (count as f64).ln()).collect()
}

#[cfg(test)]
mod tests;
