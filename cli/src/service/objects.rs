//! Turns the service's objects, as its ObjectManager lists them, into the data that the commands print.
//!
//! A property that is missing or has another type is an error that names it, not a default: a script must never get a
//! zero that the service did not send.

use crate::error::CliError;
use crate::view::{Generation, Job, NextRound, Outcome, Review, Share, Source};
use coft_core::job::JobState;
use std::collections::HashMap;
use std::str::FromStr;
use zbus::{OwnedObjectPath, OwnedVariant};

/// The properties of one interface of one object.
pub struct Properties {
    path: String,
    values: HashMap<String, OwnedVariant>,
}

impl Properties {
    pub fn new(path: impl Into<String>, values: HashMap<String, OwnedVariant>) -> Self {
        Self { path: path.into(), values }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The number at the end of the object's path.
    pub fn number(&self) -> Result<u64, CliError> {
        trailing_number(&self.path)
            .ok_or_else(|| CliError::Misunderstood(format!("{} does not end in a number", self.path)))
    }

    pub fn take<T: TryFrom<OwnedVariant>>(&mut self, name: &str) -> Result<T, CliError> {
        let value = self
            .values
            .remove(name)
            .ok_or_else(|| CliError::Misunderstood(format!("{} has no property {name}", self.path)))?;
        T::try_from(value)
            .map_err(|_| CliError::Misunderstood(format!("property {name} of {} has another type", self.path)))
    }
}

/// Whether the object with these properties, such as a job or a source, belongs to the classifier of this name.
pub fn is_of(values: &HashMap<String, OwnedVariant>, classifier: &str) -> bool {
    let named = values.get("Classifier").and_then(|name| String::try_from(name.clone()).ok());
    named.is_some_and(|name| name == classifier)
}

pub fn trailing_number(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.parse().ok()
}

pub fn job(mut job: Properties) -> Result<Job, CliError> {
    let ended: i64 = job.take("Ended")?;
    let state: JobState = word(&job.take::<String>("State")?)?;
    let remaining: f64 = job.take("RemainingSeconds")?;
    let (took, continues): (f64, u64) = (job.take("TookSeconds")?, job.take("Continues")?);
    Ok(Job {
        round: job.take("Round")?,
        kind: word(&job.take::<String>("Kind")?)?,
        trigger: word(&job.take::<String>("Trigger")?)?,
        stage: job.take("Stage")?,
        fraction: job.take("Fraction")?,
        images_done: job.take("ImagesDone")?,
        images_total: job.take("ImagesTotal")?,
        images_per_second: job.take("ImagesPerSecond")?,
        remaining_seconds: (remaining >= 0.0).then_some(remaining),
        started: job.take("Started")?,
        ended: (state != JobState::Running && ended > 0).then_some(ended),
        took_seconds: (took >= 0.0).then_some(took),
        continues: (continues != 0).then_some(continues),
        images: job.take("Images")?,
        result: outcome(job.take("Result")?),
        warnings: job.take("Warnings")?,
        state,
    })
}

/// Parses a word of the service that this program must know.
fn word<T: FromStr>(text: &str) -> Result<T, CliError> {
    text.parse().map_err(|_| {
        CliError::Misunderstood(format!(
            "{text:?} is no word of this version; install coftctl and coftd of the same version"
        ))
    })
}

/// Result fields that this program does not know are ignored: later versions may add some.
fn outcome(mut result: HashMap<String, OwnedVariant>) -> Outcome {
    let mut number = |name: &str| result.remove(name).and_then(|value| u64::try_from(value).ok());
    let (generation, candidate) = (number("generation"), number("candidate"));
    let mut text = |name: &str| result.remove(name).and_then(|value| String::try_from(value).ok());
    Outcome {
        generation,
        reason: text("reason"),
        candidate,
        error_kind: text("error-kind"),
        message: text("message"),
        hint: text("hint"),
    }
}

pub fn generation(mut object: Properties) -> Result<Generation, CliError> {
    let number = object.take("Number")?;
    let (replaces, refused): (u64, String) = (object.take("Replaces")?, object.take("Refused")?);
    let report: String = object.take("Report")?;
    let report = match report.as_str() {
        "" => serde_json::Value::Null,
        text => serde_json::from_str(text).map_err(|error| {
            CliError::Misunderstood(format!("the report of generation {number} is no JSON: {error}"))
        })?,
    };
    Ok(Generation {
        generation: number,
        round: object.take("Round")?,
        method: object.take("Method")?,
        created: object.take("Created")?,
        replaces: (replaces != 0).then_some(replaces),
        active: object.take("Active")?,
        refused: Some(refused).filter(|reason| !reason.is_empty()),
        images: object.take("Images")?,
        shares: object.take::<HashMap<String, f64>>("Shares")?.into_iter().collect(),
        parity_max_abs_diff: object.take("ParityMaxAbsDiff")?,
        report,
    })
}

pub fn source(mut object: Properties) -> Result<Source, CliError> {
    let mut problem = |name| object.take(name).map(|problem: String| Some(problem).filter(|text| !text.is_empty()));
    let (problem, answers_problem) = (problem("Problem")?, problem("AnswersProblem")?);
    let answers: bool = object.take("Classifies")?;
    let (state, since): (String, i64) = (object.take("State")?, object.take("StateSince")?);
    Ok(Source {
        classifier: object.take("Classifier")?,
        name: object.take("Name")?,
        path: object.take("Path")?,
        images: object.take("Images")?,
        quarantined: object.take("Quarantined")?,
        problem,
        state: answers.then_some(state),
        state_since: (answers && since != 0).then_some(since),
        waiting_files: object.take("WaitingFiles")?,
        unanswered: object.take("Unanswered")?,
        answers_problem,
    })
}

/// A classifier, and what `status` shows of it.
pub struct Classifier {
    pub path: String,
    pub name: String,
    pub classes: Vec<String>,
    pub active_generation: Option<u64>,
    pub images: u64,
    pub quarantined: u64,
    pub setup_problem: Option<String>,
    pub intake_problem: Option<String>,
    pub provider: String,
    pub provider_problem: Option<String>,
    pub serving_problem: Option<String>,
    pub round_problem: Option<String>,
    /// The running job.
    pub round: Option<u64>,
    pub next_round: NextRound,
    pub unanswered_again: u64,
}

pub fn classifier(mut object: Properties) -> Result<Classifier, CliError> {
    let active: u64 = object.take("ActiveGeneration")?;
    let round: OwnedObjectPath = object.take("Round")?;
    let mut problem = |name| object.take(name).map(|problem: String| Some(problem).filter(|text| !text.is_empty()));
    let (provider_problem, serving_problem) = (problem("ProviderProblem")?, problem("ServingProblem")?);
    let (setup_problem, intake_problem) = (problem("SetupProblem")?, problem("IntakeProblem")?);
    let round_problem = problem("RoundProblem")?;
    Ok(Classifier {
        path: object.path().to_owned(),
        name: object.take("Name")?,
        classes: object.take("Classes")?,
        active_generation: (active != 0).then_some(active),
        images: object.take("Images")?,
        quarantined: object.take("Quarantined")?,
        setup_problem,
        intake_problem,
        provider: object.take("Provider")?,
        provider_problem,
        serving_problem,
        round_problem,
        round: trailing_number(round.as_str()),
        next_round: next_round(object.take("NextRound")?),
        unanswered_again: object.take("UnansweredAgain")?,
    })
}

fn next_round(mut next: HashMap<String, OwnedVariant>) -> NextRound {
    NextRound {
        images: next.remove("images").and_then(|value| u64::try_from(value).ok()),
        at: next.remove("at").and_then(|value| i64::try_from(value).ok()),
        waits_for: next.remove("waits-for").and_then(|value| String::try_from(value).ok()),
    }
}

/// `None` where there is no review.
pub fn review(review: coft_dbus::Review) -> Result<Option<Review>, CliError> {
    let Some(state) = review.state else { return Ok(None) };
    let lacks = |field: &str| CliError::Misunderstood(format!("the review has no {field}"));
    let share = |(class, share, low, high)| Share { class, share, low, high };
    Ok(Some(Review {
        state,
        round: review.round.ok_or_else(|| lacks("round"))?,
        candidate: review.candidate.ok_or_else(|| lacks("candidate"))?,
        present: review.present.ok_or_else(|| lacks("present"))?,
        differs: review.differs.ok_or_else(|| lacks("differs"))?,
        compared: review.compared.ok_or_else(|| lacks("compared"))?,
        answered: review.answered.ok_or_else(|| lacks("answered"))?,
        most: review.most.ok_or_else(|| lacks("most"))?,
        shares: review.shares.unwrap_or_default().into_iter().map(share).collect(),
        activation: review.activation,
    }))
}

/// The classifier that was named; without a name the only one, or the one called `default`.
pub fn choose(mut all: Vec<Classifier>, wanted: Option<&str>) -> Result<Classifier, CliError> {
    if all.is_empty() {
        return Err(CliError::NotFound(
            "the service has no classifier\n  is it starting? systemctl status coftd".into(),
        ));
    }
    if wanted.is_none() && all.len() == 1 {
        return Ok(all.remove(0));
    }
    let wanted = wanted.unwrap_or("default");
    let names: Vec<String> = all.iter().map(|classifier| classifier.name.clone()).collect();
    all.into_iter().find(|classifier| classifier.name == wanted).ok_or_else(|| {
        let names = names.join(", ");
        CliError::Usage(format!(
            "no classifier is called {wanted:?}\n  there are: {names}; name one: --classifier NAME"
        ))
    })
}
