//! The questions to a person, where no metric can decide which of two models is better.

use super::{FAINT, counted, fields, lines, paint, table};
use crate::view::{Job, Review};
use coft_core::shown::shown;

/// The question, or the decision, with what to type next.
pub fn review(review: Option<&Review>) -> String {
    let Some(review) = review else {
        return "nothing is asked: no round waits for labels; coftctl round show tells how the last round ended\n"
            .into();
    };
    let mut text = if review.is_asking() {
        let Review { round, answered, compared, .. } = review;
        let mut pairs = vec![("asked", difference(review)), ("by", format!("round {round}, on {compared} pictures"))];
        pairs.push(("answered", format!("{answered} of at most {} labels", review.most)));
        pairs.push(("decide", DECIDE.to_owned()));
        fields(&pairs)
    } else {
        decision(review)
    };
    if !review.shares.is_empty() {
        let mut shares = table(&["CLASS", "SHARE", "95 % INTERVAL"], &[1, 2]);
        for found in &review.shares {
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            let interval = format!("{} to {}", percent(found.low), percent(found.high));
            shares.add_row([shown(found.class.as_bytes()).into_owned(), percent(found.share), interval]);
        }
        text += &lines(&shares);
    }
    text
}

const DECIDE: &str = "coftctl review --decide";

/// One line for the output of other commands, if a person is asked.
pub fn asks(review: &Review) -> String {
    format!("{}; at most {} labels decide: {DECIDE}", difference(review), review.most)
}

/// The same line below the text about a job, if that job asks.
pub fn asked_by(job: &Job, review: Option<&Review>) -> String {
    let review = review.filter(|review| review.is_asking() && review.round == job.round);
    review.map_or_else(String::new, |review| format!("{}\n", asks(review)))
}

fn difference(review: &Review) -> String {
    let Review { candidate, present, .. } = review;
    let percent = 100.0 * review.differs;
    format!(
        "generation {candidate} answers {percent:.0} % of the pictures differently than generation {present}, which \
         serves"
    )
}

/// The progress of the labels, or their decision.
pub fn progress(review: &Review) -> String {
    match review.is_asking() {
        true => format!("{}\n", paint(FAINT, &format!("{} of at most {}", review.answered, review.most))),
        false => decision(review),
    }
}

fn decision(review: &Review) -> String {
    let Review { candidate, present, answered, .. } = review;
    let labels = counted(*answered, "label");
    match review.state.as_str() {
        "candidate" => format!("decided after {labels}: generation {candidate} is better, and is to serve\n"),
        "present" => format!("decided after {labels}: generation {present} is better, and goes on serving\n"),
        "no-difference" => {
            format!("undecided after {labels}: neither is clearly better; generation {present} goes on serving\n")
        }
        other => format!("{other} after {labels}\n"),
    }
}
