//! Finds the better one of two models, from a person's labels for a few pictures.
//!
//! Where no label-free metric can decide, a person labels pictures of the pool that are drawn at random from those on
//! which the two models disagree, one of near-duplicates. Wald's sequential probability ratio test (A. Wald, Sequential
//! Tests of Statistical Hypotheses, Ann. Math. Statist. 16, 1945) decides after as few labels as the difference of the
//! models allows. Everything is computed from the list of labels, so that a label is taken back by removing it from the
//! list.

use crate::ids::ClassId;

/// Share of the pictures that the better model gets right, among those that exactly one of the two gets right. 0.65
/// [choice], from the range 0.5 to 1: for candidates on CIFAR-10 that are 5 points better or worse, the test chooses
/// right with about 10 labels.
const BETTER: f64 = 0.65;
/// Probability that the test chooses the wrong model, where the better one has the share [`BETTER`]; 0 to 0.5. 0.05
/// [choice].
const ERROR: f64 = 0.05;
/// Most labels that a person is asked for. Without a decision by then, the difference is not worth a change. 60
/// [choice].
pub const MOST: u64 = 60;
/// Quantile of the normal distribution for 95 % intervals.
const Z: f64 = 1.959_964;

/// The two models' answers for a picture on which they disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The answer of the active model.
    pub present: ClassId,
    /// The answer of the candidate.
    pub candidate: ClassId,
}

/// The state of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More labels are needed.
    Asking,
    /// The candidate is better.
    Candidate,
    /// The active model is better.
    Present,
    /// Neither model is clearly better: the active model stays.
    NoDifference,
}

impl State {
    /// The state as the bus and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Asking => "asking",
            State::Candidate => "candidate",
            State::Present => "present",
            State::NoDifference => "no-difference",
        }
    }
}

/// The result of the labels so far, in the order in which they were given. `left` is the number of pictures that could
/// still be asked about.
///
/// The first crossing of a bound decides; later labels change nothing. A picture that both models get wrong counts as a
/// label and supports neither. Where too few pictures are left to decide, nothing more is asked.
pub fn decide(labels: impl IntoIterator<Item = (Difference, ClassId)>, left: u64) -> State {
    let (step, bound) = ((BETTER / (1.0 - BETTER)).ln(), ((1.0 - ERROR) / ERROR).ln());
    let (mut lead, mut given) = (0i64, 0);
    for (difference, class) in labels {
        given += 1;
        lead += i64::from(class == difference.candidate) - i64::from(class == difference.present);
        match lead as f64 * step {
            ratio if ratio >= bound => return State::Candidate,
            ratio if ratio <= -bound => return State::Present,
            _ if given >= MOST => return State::NoDifference,
            _ => {}
        }
    }
    let most_left = left.min(MOST.saturating_sub(given));
    if (lead.unsigned_abs() + most_left) as f64 * step < bound { State::NoDifference } else { State::Asking }
}

/// Fewest pictures that can decide.
pub fn least() -> u64 {
    (1..).find(|&pictures| decide([], pictures) == State::Asking).expect("enough pictures decide")
}

/// The share of a class in the pool, with a 95 % interval; 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The estimate.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The share of each class among the pictures that were compared; empty where it depends on pictures without any label
/// so far.
///
/// `agreed` [C] counts, by class, the pictures for which both models answer that class. The other pictures are asked
/// about, one of near-duplicates: `scenes` has the number of pictures that look like each, and `labels` are the labels
/// that were given for some of the scenes, drawn at random, each with this number. Where the models agree, their answer
/// is taken as true: if both are wrong in the same way, the shares are wrong by as much, and the interval does not show
/// it. For the other pictures the interval is Wilson's (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927) with the correction
/// for a finite population (W. G. Cochran, Sampling Techniques, 1977): once each scene has a label, no uncertainty is
/// left. Where scenes have unequally many pictures, labels count as fewer ones (the design effect of L. Kish, Survey
/// Sampling, 1965).
pub fn shares(agreed: &[u64], scenes: &[u64], labels: &[(ClassId, u64)]) -> Vec<Share> {
    let differing: u64 = scenes.iter().sum();
    let squares: u64 = scenes.iter().map(|pictures| pictures * pictures).sum();
    let labelled: u64 = labels.iter().map(|(_, pictures)| pictures).sum();
    let all = agreed.iter().sum::<u64>() + differing;
    if all == 0 || (differing > 0 && labels.is_empty()) {
        return Vec::new();
    }
    let share = |(class, &agreed): (usize, &u64)| {
        let found: u64 =
            labels.iter().filter(|(label, _)| label.0 as usize == class).map(|(_, pictures)| pictures).sum();
        let among = if labelled == 0 { 0.0 } else { found as f64 / labelled as f64 };
        let (low, high) = match scenes.len().saturating_sub(labels.len()) {
            0 => (among, among),
            left => {
                let equal = (differing * differing) as f64 / (scenes.len() as u64 * squares) as f64;
                wilson(among, labels.len() as f64 * equal * (scenes.len() - 1) as f64 / left as f64)
            }
        };
        let of_all = |among: f64| (agreed as f64 + among * differing as f64) / all as f64;
        Share { share: of_all(among), low: of_all(low), high: of_all(high) }
    };
    agreed.iter().enumerate().map(share).collect()
}

/// Wilson's 95 % interval for a proportion `found` in a sample of `count`.
fn wilson(found: f64, count: f64) -> (f64, f64) {
    let z2 = Z * Z / count;
    let middle = (found + z2 / 2.0) / (1.0 + z2);
    let half = (found * (1.0 - found) / count * Z * Z + z2 * z2 / 4.0).sqrt() / (1.0 + z2);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const PRESENT: ClassId = ClassId(0);
    const CANDIDATE: ClassId = ClassId(1);
    const NEITHER: ClassId = ClassId(2);
    const DIFFERENCE: Difference = Difference { present: PRESENT, candidate: CANDIDATE };

    /// Labels by letters: c for the candidate's class, p for the other model's, n for another class.
    fn labels(letters: &str) -> Vec<(Difference, ClassId)> {
        let class = |letter| match letter {
            'c' => CANDIDATE,
            'p' => PRESENT,
            _ => NEITHER,
        };
        letters.chars().map(|letter| (DIFFERENCE, class(letter))).collect()
    }

    #[track_caller]
    fn check(letters: &str, left: u64, state: State) {
        assert_eq!(decide(labels(letters), left), state, "{letters}");
    }

    #[test]
    fn a_lead_of_five_decides() {
        check("", 100, State::Asking);
        check("cccc", 100, State::Asking);
        check("ccccc", 100, State::Candidate);
        check("ppppp", 100, State::Present);
        check("cpcpcpcp", 100, State::Asking);
        check("cpccccc", 100, State::Candidate);
        check("cpccnnccn", 100, State::Asking);
        check("cpccnnccnc", 100, State::Candidate);
        check("nnnnnnnnnnppppp", 100, State::Present);
    }

    #[test]
    fn what_comes_after_the_decision_changes_nothing() {
        check("cccccpppppppppp", 100, State::Candidate);
        check(&format!("ccccc{}", "p".repeat(100)), 0, State::Candidate);
    }

    #[test]
    fn a_test_without_a_decision_ends() {
        check(&"cp".repeat(27), 100, State::Asking);
        check(&"cp".repeat(28), 100, State::NoDifference);
        check(&"cp".repeat(30), 100, State::NoDifference);
        check(&"n".repeat(55), 100, State::Asking);
        check(&"n".repeat(56), 100, State::NoDifference);
        check(&"n".repeat(60), 100, State::NoDifference);
        check(&format!("{}ccccc", "n".repeat(55)), 100, State::Candidate);
        check("cccc", 0, State::NoDifference);
        check("", 0, State::NoDifference);
        // With what is left, neither can be ahead by five any more.
        assert_eq!(least(), 5);
        check("", 4, State::NoDifference);
        check("", 5, State::Asking);
        check("ccn", 2, State::NoDifference);
        check("ccn", 3, State::Asking);
        check(&format!("{}c", "n".repeat(55)), 100, State::Asking);
        check(&format!("{}c", "n".repeat(55)), 3, State::NoDifference);
    }

    #[test]
    fn a_label_that_is_taken_back_never_was() {
        let mut given = labels("ccccc");
        assert_eq!(decide(given.clone(), 9), State::Candidate);
        given.pop();
        assert_eq!(decide(given.clone(), 10), State::Asking);
        given.extend(labels("p"));
        assert_eq!(decide(given, 9), State::Asking);
    }

    /// The share of trials in which the candidate was chosen, and the median number of labels that were needed.
    fn simulated(candidate_right: f64, present_right: f64, trials: u64) -> (f64, usize) {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts = Vec::new();
        let mut taken = 0;
        for _ in 0..trials {
            let mut given = Vec::new();
            let state = loop {
                let drawn: f64 = random.random();
                given.extend(labels(match drawn {
                    drawn if drawn < candidate_right => "c",
                    drawn if drawn < candidate_right + present_right => "p",
                    _ => "n",
                }));
                match decide(given.iter().copied(), 1000) {
                    State::Asking => {}
                    state => break state,
                }
            };
            taken += u64::from(state == State::Candidate);
            counts.push(given.len());
        }
        counts.sort_unstable();
        (taken as f64 / trials as f64, counts[counts.len() / 2])
    }

    /// Shares of the disputed pictures that each model gets right. In the first three pools the accuracies of the
    /// models differ by 5 points or more: by 12 on 27 % of the pictures, by 12 on 40 %, and by 5 on 10 %.
    #[test]
    fn the_better_model_is_taken_after_few_labels() {
        for (better, worse, most) in [(0.60, 0.15, 16), (0.45, 0.15, 16), (0.70, 0.20, 16), (0.95, 0.05, 6)] {
            let (taken, median) = simulated(better, worse, 2000);
            assert!(taken >= 0.95 && median <= most, "{better} {worse}: {taken}, {median} labels");
            let (taken, again) = simulated(worse, better, 2000);
            assert!(taken <= 0.05 && again <= most, "{worse} {better}: {taken}, {again} labels");
        }
        // The difference that the test is designed for.
        let (taken, median) = simulated(BETTER, 1.0 - BETTER, 2000);
        assert!(taken >= 0.93 && median <= 16, "{taken}, {median} labels");
    }

    #[track_caller]
    fn near(found: Share, expected: [f64; 3]) {
        let off = [found.share, found.low, found.high].iter().zip(expected).any(|(a, b)| (a - b).abs() > 5e-4);
        assert!(!off, "{found:?} instead of {expected:?}");
    }

    #[test]
    fn shares_are_known_as_far_as_the_labels_go() {
        assert_eq!(shares(&[60, 10], &[1; 30], &[]), []);
        assert_eq!(shares(&[], &[], &[]), []);
        near(shares(&[90, 10], &[], &[])[0], [0.9, 0.9, 0.9]);
        // 8 of 10 from a very large population: Wilson's interval is 0.490 to 0.943.
        let eight_of_ten = |pictures| [[(ClassId(0), pictures); 8].as_slice(), &[(ClassId(1), pictures); 2]].concat();
        let many = shares(&[0, 0], &[1; 1_000_000], &eight_of_ten(1));
        near(many[0], [0.8, 0.4902, 0.9433]);
        near(many[1], [0.2, 0.0567, 0.5098]);
        let half = shares(&[1_000_000, 0], &[1; 1_000_000], &eight_of_ten(1));
        near(half[0], [0.9, 0.7451, 0.9717]);
        // All of them have a label.
        near(shares(&[5, 0], &[1, 1, 3], &[(ClassId(0), 1), (ClassId(1), 1), (ClassId(1), 3)])[1], [0.4, 0.4, 0.4]);
        // Ten labels are ten labels, however many pictures look like each.
        near(shares(&[0, 0], &[50; 1_000_000], &eight_of_ten(50))[0], [0.8, 0.4902, 0.9433]);
    }

    /// In how many of the trials the interval holds the true share of class 0. Of the scenes, each of so many pictures,
    /// 20 are labelled, drawn without replacement. The models agree on 230 other pictures.
    fn held(scenes: &[(ClassId, u64)]) -> f64 {
        const TRIALS: u64 = 4000;
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let sizes: Vec<u64> = scenes.iter().map(|(_, pictures)| *pictures).collect();
        let of_class =
            scenes.iter().filter(|(class, _)| *class == ClassId(0)).map(|(_, pictures)| pictures).sum::<u64>();
        let truth = of_class as f64 / (230 + sizes.iter().sum::<u64>()) as f64;
        let held = |_: &u64| {
            let mut scenes = scenes.to_vec();
            let drawn: Vec<(ClassId, u64)> =
                (0..20).map(|_| scenes.swap_remove(random.random_range(0..scenes.len()))).collect();
            let found = shares(&[0, 230], &sizes, &drawn)[0];
            found.low <= truth && truth <= found.high
        };
        (0..TRIALS).filter(held).count() as f64 / TRIALS as f64
    }

    #[test]
    fn the_interval_holds_the_share_in_95_of_100_trials() {
        let class = |is_of_class: bool| ClassId(u32::from(!is_of_class));
        let equal: Vec<(ClassId, u64)> = (0..270).map(|i| (class(i < 108), 1)).collect();
        let unequal: Vec<(ClassId, u64)> = (0..120).map(|i| (class(i % 5 < 2), 1 + i % 7)).collect();
        for scenes in [equal, unequal] {
            let held = held(&scenes);
            assert!((0.93..=0.99).contains(&held), "{held}");
        }
    }

    /// A scene of 90 pictures among 910 other ones: it is seldom asked about, and its label says little of the others.
    #[test]
    fn a_frequent_scene_makes_the_share_uncertain() {
        let scenes: Vec<u64> = [90].into_iter().chain([1; 910]).collect();
        let mut labels = [(ClassId(1), 1); 20];
        let without = shares(&[0, 0], &scenes, &labels)[0];
        labels[0] = (ClassId(0), 90);
        let with = shares(&[0, 0], &scenes, &labels)[0];
        assert!(without.share == 0.0 && without.high > 0.5, "{without:?}");
        assert!(with.share > 0.8 && with.low < 0.5, "{with:?}");
    }
}
