//! The options of a call: which ones there are, of which type and in which range. Anything else is `InvalidArgs`.

use super::errors::invalid;
use crate::control::{Answers, RoundRequest};
use crate::edit::New;
use crate::observation::ObservationFilter;
use crate::serve::{Options, Priority};
use coft_core::shown::shown_path;
use coft_dbus::{Error, TIMEOUT};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use zbus::{OwnedVariant, Type};

/// `a{sv}` as it came.
pub type Given = HashMap<String, OwnedVariant>;

/// Options of a call that classifies; `priority` and `patience` are taken where the client says nothing.
///
/// # Errors
/// `InvalidArgs` where an option is unknown, has another type or is out of its range.
pub fn of_classify(mut given: Given, priority: Priority, patience: Option<Duration>) -> Result<Options, Error> {
    let top_k: Option<u32> = take(&mut given, "top-k")?;
    let threshold: f64 = take(&mut given, "threshold")?.unwrap_or(0.0);
    let embedding = take(&mut given, "embedding")?.unwrap_or(false);
    let seconds: Option<f64> = take(&mut given, "deadline-seconds")?;
    let word: Option<String> = take(&mut given, "priority")?;
    nothing_else(&given, "top-k, threshold, embedding, deadline-seconds, priority")?;

    if top_k == Some(0) {
        return Err(invalid("top-k is 0; it has to be 1 or more, and without it every label is told".into()));
    }
    // No comparison is true of NaN.
    if !(0.0..=1.0).contains(&threshold) {
        return Err(invalid(format!("threshold is {threshold}; it is a probability, and has to be 0 to 1")));
    }
    let longest = TIMEOUT.as_secs_f64();
    if let Some(seconds) = seconds.filter(|seconds| !(0.0..=longest).contains(seconds)) {
        return Err(invalid(format!("deadline-seconds is {seconds}; it has to be 0 to {longest} seconds from now")));
    }
    let priority = match word.as_deref() {
        None => priority,
        Some("interactive") => Priority::Interactive,
        Some("bulk") => Priority::Bulk,
        Some(other) => return Err(invalid(format!("priority is {other:?}; it has to be interactive or bulk"))),
    };
    Ok(Options {
        top_k: top_k.map(|k| k as usize),
        threshold,
        embedding,
        deadline: seconds.map(Duration::from_secs_f64).or(patience),
        priority,
        ..Options::default()
    })
}

/// Options of a call that makes a classifier.
///
/// # Errors
/// `InvalidArgs` where an option is unknown or has another type, or a directory is not named from the root on.
pub fn of_new(name: String, mut given: Given) -> Result<New, Error> {
    let (classes, watch): (Option<Vec<String>>, Option<Vec<String>>) =
        (take(&mut given, "classes")?, take(&mut given, "watch")?);
    let (model, template) = (take(&mut given, "model")?, take(&mut given, "template")?);
    nothing_else(&given, "classes, model, template, watch")?;
    let watch = watch.unwrap_or_default().into_iter().map(directory).collect::<Result<_, _>>()?;
    Ok(New { name, classes: classes.unwrap_or_default(), model, template, watch })
}

/// Options of a call that removes a classifier: whether what was kept for it goes as well.
///
/// # Errors
/// `InvalidArgs` where an option is unknown or has another type.
pub fn of_removal(mut given: Given) -> Result<bool, Error> {
    let purge = take(&mut given, "purge")?.unwrap_or(false);
    nothing_else(&given, "purge")?;
    Ok(purge)
}

/// Options of a call that adds a source: what it is to be called.
///
/// # Errors
/// `InvalidArgs` where an option is unknown or has another type.
pub fn of_source(mut given: Given) -> Result<Option<String>, Error> {
    let name = take(&mut given, "name")?;
    nothing_else(&given, "name")?;
    Ok(name)
}

/// A directory that a caller names.
///
/// # Errors
/// `InvalidArgs` where it is not named from the root on: the service has another working directory than the caller.
pub fn directory(path: String) -> Result<PathBuf, Error> {
    let path = PathBuf::from(path);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(invalid(format!("{} does not begin with /; name the whole path", shown_path(&path)))),
    }
}

/// Options of a call that starts a round.
///
/// # Errors
/// `InvalidArgs` where an option is unknown or has another type.
pub fn of_round(mut given: Given) -> Result<RoundRequest, Error> {
    let seed = take(&mut given, "seed")?;
    nothing_else(&given, "seed")?;
    Ok(RoundRequest { seed })
}

/// Options of a call that takes in a generation: whether by force.
///
/// # Errors
/// `InvalidArgs` where an option is unknown or has another type.
pub fn of_import(mut given: Given) -> Result<bool, Error> {
    let force = take(&mut given, "force")?.unwrap_or(false);
    nothing_else(&given, "force")?;
    Ok(force)
}

/// Labels and options of a call that answers what a person is asked.
///
/// # Errors
/// `InvalidArgs` where an option is unknown or has another type, or labels come with `undo`.
pub fn of_review(labels: Vec<(String, String)>, mut given: Given) -> Result<Answers, Error> {
    let undo = take(&mut given, "undo")?.unwrap_or(false);
    nothing_else(&given, "undo")?;
    match undo {
        false => Ok(Answers::Labels(labels)),
        true if labels.is_empty() => Ok(Answers::Undo),
        true => Err(invalid("undo takes the last answer back; give the labels in another call".into())),
    }
}

/// A filter of answers; for counts, which have no `pages`, only what they are kept by.
///
/// # Errors
/// `InvalidArgs` where a condition is unknown or has another type.
pub fn of_observations(mut given: Given, pages: bool) -> Result<ObservationFilter, Error> {
    let (label, doubtful, since) =
        (take(&mut given, "label")?, take(&mut given, "doubtful")?, take(&mut given, "since")?);
    let generation = take(&mut given, "generation")?;
    if !pages {
        nothing_else(&given, "label, doubtful, since, generation")?;
        return Ok(ObservationFilter { label, doubtful, since, generation, ..ObservationFilter::default() });
    }
    let (before, classifier) = (take(&mut given, "before")?, take(&mut given, "classifier")?);
    let changed = take(&mut given, "changed")?;
    nothing_else(&given, "label, doubtful, since, generation, classifier, changed, before")?;
    Ok(ObservationFilter { label, doubtful, since, before, generation, classifier, changed })
}

fn take<T: TryFrom<OwnedVariant> + Type>(given: &mut Given, name: &str) -> Result<Option<T>, Error> {
    let Some(value) = given.remove(name) else { return Ok(None) };
    let (found, needed) = (value.value_signature().to_string(), T::SIGNATURE);
    let other = |_| invalid(format!("the option {name} has the D-Bus type {found}; it has to be {needed}"));
    T::try_from(value).map(Some).map_err(other)
}

fn nothing_else(left: &Given, known: &str) -> Result<(), Error> {
    let Some(unknown) = left.keys().min() else { return Ok(()) };
    Err(invalid(format!("there is no option {unknown:?}; this call takes {known}")))
}
