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
            near_duplicates: 0,
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

fn metrics(name: CandidateName, stability: f64, agreement_with_zero_shot: f64, tv_distance: f64) -> CandidateMetrics {
    CandidateMetrics {
        name,
        stability,
        margin: 0.5,
        agreement_with_zero_shot,
        tv_distance,
        balance: 0.9,
        coherence: 0.2,
        z_score: 0.0,
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
    let rare = |share| {
        let names = ["class 0", "class 1"].map(str::to_owned);
        let shares = Shares::new(&BTreeMap::from([(names[1].clone(), share)]), &names).unwrap();
        judge(Method::Coft, Precision::Fp32, 0.0, Some(&shares), &collapsed)
    };
    assert_eq!(rare(0.05), Verdict::Promote, "the user expects it seldom");
    assert!(matches!(rare(0.2), Verdict::Keep(Reason::Collapsed { .. })));
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
        "no adapted model's answers are clearly better than zero-shot's: closer to the class shares that are expected \
         (even ones, if none are set), and more alike for images that look alike",
    );
    assert_eq!(judge(Method::ZeroShot, Precision::Fp32, 0.0, None, &collapsed), Verdict::Promote, "nothing was learnt");
}

/// The pretrained model's answers are uneven and the new model makes them even. That is right at dusk, and wrong in
/// a week in which only one class occurs.
#[test]
fn what_cannot_be_told_is_not_promoted_unless_the_shares_are_known() {
    let classes = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let shares = Shares::new(&BTreeMap::new(), &classes).unwrap();
    let verdict = |found: &[u64], now: &[u64], stabilities: [f64; 3], tv_distance, shares| {
        let counts: Vec<(u64, u64)> = found.iter().copied().zip(now.iter().copied()).collect();
        let mut report = report(0.9, [0.8, 0.7], &counts);
        report.images = ENOUGH_IMAGES;
        let adaptation = report.adaptation.as_mut().unwrap();
        let [deployed, first, second] = stabilities;
        adaptation.candidates = vec![
            metrics(CandidateName::ZeroShot, 0.5, 1.0, 0.0),
            metrics(CandidateName::Model1, first, 0.6, 0.3),
            metrics(CandidateName::Model2, second, 0.6, 0.3),
            metrics(adaptation.deployed.clone(), deployed, 0.63, tv_distance),
        ];
        judge(Method::Coft, Precision::Fp32, 0.0, shares, &report)
    };
    let undecided = Verdict::Keep(Reason::Undecided { differs: 1.0 - 0.63 });
    // The evenness of these answers is 0.96, 0.87 and 0.42, that of two classes 1.00 and 0.93. Zero-shot changes
    // its answer on half of the shifted crops.
    type Row = (&'static [u64], &'static [u64], [f64; 3], f64, Verdict, &'static str);
    let table: [Row; 12] = [
        (&[50, 25, 25], &[30, 30, 30], [0.3; 3], 0.2, Verdict::Promote, "even answers"),
        (&[60, 20, 20], &[30, 30, 30], [0.58; 3], 0.2, Verdict::Promote, "steadier answers: the camera's doing"),
        (&[60, 20, 20], &[30, 30, 30], [0.56; 3], 0.2, undecided.clone(), "hardly steadier"),
        (&[60, 20, 20], &[30, 30, 30], [0.58, 0.58, 0.56], 0.2, undecided.clone(), "one training alone is steadier"),
        (&[60, 20, 20], &[30, 30, 30], [0.58, 0.56, 0.58], 0.2, undecided.clone(), "the other alone"),
        (&[60, 20, 20], &[30, 30, 30], [0.3; 3], 0.2, undecided.clone(), "boundaries that pass through a class"),
        (&[60, 20, 20], &[100, 30, 30], [0.9; 3], 0.2, undecided.clone(), "still less even"),
        (&[56, 44], &[30, 30], [0.3; 3], 0.2, Verdict::Promote, "even answers"),
        (&[66, 34], &[30, 30], [0.9; 3], 0.2, undecided.clone(), "a single boundary"),
        (&[88, 6, 6], &[30, 30, 30], [0.9; 3], 0.2, undecided.clone(), "hardly any other class"),
        (&[88, 6, 6], &[87, 7, 6], [0.3; 3], 0.01, Verdict::Promote, "the shares of the classes stay as they are"),
        (&[88, 6, 6], &[78, 16, 6], [0.3; 3], 0.01, undecided.clone(), "those without near-duplicates stay alone"),
    ];
    for (found, now, stabilities, tv_distance, expected, why) in table {
        assert_eq!(verdict(found, now, stabilities, tv_distance, None), expected, "{why}");
    }
    let told = Verdict::Promote;
    assert_eq!(
        verdict(&[88, 6, 6], &[30, 30, 30], [0.6; 3], 0.2, Some(&shares)),
        told,
        "the choice has taken the shares into account"
    );
    let Verdict::Keep(reason) = undecided else { panic!("kept") };
    let words = "whether it is better cannot be told: the pretrained model finds some classes more often than others, \
                 the new model spreads its answers differently, and either may be right; it answers 37 % of the \
                 distinct images differently than the pretrained model";
    assert_eq!(reason.to_string(), words);
}

#[test]
fn steady_answers_for_few_images_are_learnt_by_heart() {
    let verdict = |near_duplicates| {
        let mut report = report(0.9, [0.8, 0.7], &[(60, 30), (20, 30), (20, 30)]);
        report.images = ENOUGH_IMAGES;
        let adaptation = report.adaptation.as_mut().unwrap();
        adaptation.near_duplicates = near_duplicates;
        adaptation.candidates = vec![
            metrics(CandidateName::ZeroShot, 0.5, 1.0, 0.0),
            metrics(CandidateName::Model1, 1.0, 0.6, 0.3),
            metrics(CandidateName::Model2, 1.0, 0.6, 0.3),
            metrics(adaptation.deployed.clone(), 1.0, 0.63, 0.2),
        ];
        judge(Method::Coft, Precision::Fp32, 0.0, None, &report)
    };
    assert_eq!(verdict(0), Verdict::Promote);
    let undecided = Verdict::Keep(Reason::Undecided { differs: 1.0 - 0.63 });
    assert_eq!(verdict(1), undecided, "near-duplicates do not count");
    assert_eq!(verdict(ENOUGH_IMAGES + 1), undecided, "a report that makes no sense");
}

#[test]
fn a_few_images_are_no_steadiness() {
    let metrics = |stability| metrics(CandidateName::Average, stability, 0.9, 0.1);
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
    assert!((balance(&even, 2, None) - 1.0).abs() < 1e-6 && (balance(&expected, 2, Some(&shares)) - 1.0).abs() < 1e-6);
    // 1 + (½ ln (0.9/½) + ½ ln (0.1/½)) / ln 2, by hand.
    assert!(
        (balance(&even, 2, Some(&shares)) - (1.0 + (0.5 * 1.8f64.ln() + 0.5 * 0.2f64.ln()) / 2f64.ln())).abs() < 1e-6
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
