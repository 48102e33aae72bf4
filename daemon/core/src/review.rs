//! Which of two models is better, from a person's labels for a few pictures.
//!
//! Where no label-free metric can tell, a person is asked about pictures of the pool on which the two models give
//! different answers, drawn at random. Wald's sequential probability ratio test (A. Wald, Sequential Tests of
//! Statistical Hypotheses, Ann. Math. Statist. 16, 1945) decides after as few of them as the difference of the models
//! allows. Everything is computed from the list of labels: to take a label back is to leave it out.

use crate::ids::ClassId;

/// Of the pictures that exactly one of the two models gets right, the share that the better one does, 0.5 to 1. 0.65
/// [choice]: of candidates of CIFAR-10 that are 5 points better or worse it takes the right one with some 10 labels.
const BETTER: f64 = 0.65;
/// How often the test may take the wrong model where the better one has the share [`BETTER`]; 0 to 0.5. 0.05 [choice].
const ERROR: f64 = 0.05;
/// Most labels that are asked for; without a decision by then, the difference is worth no change. 60 [choice].
pub const MOST: u64 = 60;
/// Quantile of the normal distribution for intervals of 95 %.
const Z: f64 = 1.959_964;

/// What the two models answer for a picture on which they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The class that the model which serves gives it.
    pub present: ClassId,
    /// The class that the candidate gives it.
    pub candidate: ClassId,
}

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More labels are needed.
    Asking,
    /// The candidate is better.
    Candidate,
    /// The model that serves is better.
    Present,
    /// The models differ too little for a change: the one that serves stays.
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

/// What the labels say so far, in the order in which they were given; `left` is how many pictures could still be asked
/// for.
///
/// The first crossing of a bound decides: labels that come after it change nothing. A picture that both models get
/// wrong counts as a label and speaks for neither.
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
    if left == 0 { State::NoDifference } else { State::Asking }
}

/// The share of a class in the pool, with an interval of 95 %; 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The estimate.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The share of each class in the pool; none where it depends on pictures of which no label is known yet.
///
/// `agreed` [C] counts, by class, the pictures for which both models answer that class, `differing` the others, and
/// `labels` are those of the latter that were given. A picture on which the models agree is taken for what they say:
/// where both are wrong in the same way, the shares are wrong by as much, and the interval does not tell. For the
/// others it is Wilson's interval (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927) with the correction for a finite
/// population (W. G. Cochran, Sampling Techniques, 1977): with a label for each of them, nothing is uncertain.
pub fn shares(agreed: &[u64], differing: u64, labels: &[ClassId]) -> Vec<Share> {
    let given = labels.len() as u64;
    let all = agreed.iter().sum::<u64>() + differing;
    if all == 0 || (differing > 0 && given == 0) {
        return Vec::new();
    }
    let share = |(class, &agreed): (usize, &u64)| {
        let found = labels.iter().filter(|label| label.0 as usize == class).count() as f64;
        let among = if given == 0 { 0.0 } else { found / given as f64 };
        let (low, high) = match differing.saturating_sub(given) {
            0 => (among, among),
            left => wilson(among, given as f64 * (differing - 1) as f64 / left as f64),
        };
        let of_all = |among: f64| (agreed as f64 + among * differing as f64) / all as f64;
        Share { share: of_all(among), low: of_all(low), high: of_all(high) }
    };
    agreed.iter().enumerate().map(share).collect()
}

/// Wilson's interval of 95 % for a proportion that was found among `count`.
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
        check(&"cp".repeat(29), 100, State::Asking);
        check(&"cp".repeat(30), 100, State::NoDifference);
        check(&"n".repeat(59), 100, State::Asking);
        check(&"n".repeat(60), 100, State::NoDifference);
        check(&format!("{}ccccc", "n".repeat(55)), 100, State::Candidate);
        check("cccc", 0, State::NoDifference);
        check("", 0, State::NoDifference);
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

    /// The share of trials in which the candidate was taken, and the median of the labels that it took.
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

    /// Shares of the differing pictures that either model gets right. The first three are pools on which the models
    /// differ by 5 points or more of accuracy: by 12 on 27 % of the pictures, by 12 on 40 %, and by 5 on 10 %.
    #[test]
    fn the_better_model_is_taken_after_few_labels() {
        for (better, worse, most) in [(0.60, 0.15, 16), (0.45, 0.15, 16), (0.70, 0.20, 16), (0.95, 0.05, 6)] {
            let (taken, median) = simulated(better, worse, 2000);
            assert!(taken >= 0.95 && median <= most, "{better} {worse}: {taken}, {median} labels");
            let (taken, again) = simulated(worse, better, 2000);
            assert!(taken <= 0.05 && again <= most, "{worse} {better}: {taken}, {again} labels");
        }
        // As far apart as the test is made for.
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
        assert_eq!(shares(&[60, 10], 30, &[]), []);
        assert_eq!(shares(&[], 0, &[]), []);
        near(shares(&[90, 10], 0, &[])[0], [0.9, 0.9, 0.9]);
        // 8 of 10 of very many: Wilson's interval is 0.490 to 0.943.
        let many = shares(&[0, 0], 1_000_000, &[[ClassId(0); 8].as_slice(), &[ClassId(1); 2]].concat());
        near(many[0], [0.8, 0.4902, 0.9433]);
        near(many[1], [0.2, 0.0567, 0.5098]);
        let half = shares(&[1_000_000, 0], 1_000_000, &[[ClassId(0); 8].as_slice(), &[ClassId(1); 2]].concat());
        near(half[0], [0.9, 0.7451, 0.9717]);
        // All of them are known.
        let all = shares(&[5, 0], 5, &[ClassId(0), ClassId(1), ClassId(1), ClassId(1), ClassId(1)]);
        near(all[1], [0.4, 0.4, 0.4]);
    }

    /// Of 270 pictures on which the models differ, 40 % are of the class: 20 labels, drawn without putting them back.
    #[test]
    fn the_interval_holds_the_share_in_95_of_100_trials() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        const TRIALS: u64 = 4000;
        let mut held = 0;
        for _ in 0..TRIALS {
            let mut pool: Vec<ClassId> = (0..270).map(|i| ClassId(u32::from(i >= 108))).collect();
            let drawn: Vec<ClassId> = (0..20).map(|_| pool.swap_remove(random.random_range(0..pool.len()))).collect();
            let found = shares(&[500, 230], 270, &drawn)[0];
            held += u64::from(found.low <= 0.608 && 0.608 <= found.high);
        }
        let held = held as f64 / TRIALS as f64;
        assert!((0.93..=0.99).contains(&held), "{held}");
    }
}
