//! `coftctl results --follow`: a line for each answer. No answer is lost or printed twice, even if the service
//! restarts.
//!
//! A signal only means that there is something to ask for; answers are asked for by their number. So a lost signal, a
//! service that is away and a service that is slow are all handled in the same way.

use super::{filter, latest};
use crate::args::Results;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::{Place, Service};
use crate::view::Observed;
use coft_dbus::ObservationFilter;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Time until the next question if no signal comes, and while the service is away (choice).
const LOOK_EVERY: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(1);

pub async fn run(
    service: &Service,
    output: Output,
    asked: Results,
    classifier: Option<String>,
    places: Vec<Place>,
) -> Result<Exit, CliError> {
    let filter = ObservationFilter { classifier, ..filter(&asked, asked.since)? };
    tokio::select! {
        end = follow(service, output, &asked, filter, places) => end,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(CliError::Signal)?;
            Ok(Exit::Interrupted)
        }
    }
}

/// Runs until an error occurs.
async fn follow(
    service: &Service,
    output: Output,
    asked: &Results,
    filter: ObservationFilter,
    places: Vec<Place>,
) -> Result<Exit, CliError> {
    let style = Style::of_this_machine();
    // Subscribed before the first question, so that no answer in between is missed.
    let mut signals = service.signals().await?;
    let news = Arc::new(Notify::new());
    // A task of its own reads the signals: signals that are not read delay the answers to calls on the same connection.
    let told = Arc::clone(&news);
    let mut listening = tokio::spawn(async move {
        while signals.next().await.is_some() {
            told.notify_one();
        }
    });
    let mut followed = Followed { positions: positions(service, places.clone()).await?, listed: Instant::now() };
    if asked.since.is_some() || asked.limit.is_some() {
        let known = latest(service, &places, &filter, asked.limit.unwrap_or(u32::MAX)).await?;
        for observed in known {
            // Later answers are shown below.
            let is_before = |at: &Position| at.place.name == observed.source && observed.sequence <= at.last;
            if followed.positions.iter().any(is_before) {
                show(output, &observed, &style)?;
            }
        }
    }
    eprintln!("following what comes; Ctrl-C ends it");
    let mut away = false;
    loop {
        match look(service, output, asked, &filter, &mut followed, away, &style).await {
            Ok(()) => away = false,
            Err(failure) if is_away(&failure) => {
                if !away {
                    eprintln!("coftd is away; waiting until it is back");
                }
                away = true;
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = news.notified() => {}
            _ = &mut listening => return Err(CliError::Unreachable("the bus has gone".into())),
            () = sleep(if away { AWAY } else { LOOK_EVERY }) => {}
        }
    }
}

/// The sources that are followed, and when they were last listed: sources come and go while the service runs.
struct Followed {
    positions: Vec<Position>,
    listed: Instant,
}

/// The position up to which a source was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    place: Place,
    /// Number of the last answer that was shown, or that existed at the start.
    last: u64,
}

async fn positions(service: &Service, places: Vec<Place>) -> Result<Vec<Position>, CliError> {
    let mut positions = Vec::new();
    for place in places {
        positions.push(Position { last: service.last(&place).await?, place });
    }
    Ok(positions)
}

/// Shows the new answers of each source.
async fn look(
    service: &Service,
    output: Output,
    asked: &Results,
    filter: &ObservationFilter,
    followed: &mut Followed,
    was_away: bool,
    style: &Style,
) -> Result<(), CliError> {
    let mut list = was_away || followed.listed.elapsed() >= LOOK_EVERY;
    loop {
        if list {
            let now = positions(service, service.places(asked.source.as_deref()).await?).await?;
            *followed = Followed { positions: returned(&followed.positions, now), listed: Instant::now() };
        }
        match show_new(service, output, filter, &mut followed.positions, style).await {
            // One of the sources is gone. If all are gone, the service is away.
            Err(CliError::NoObject(_)) if !list => list = true,
            shown => return shown,
        }
    }
}

async fn show_new(
    service: &Service,
    output: Output,
    filter: &ObservationFilter,
    known: &mut [Position],
    style: &Style,
) -> Result<(), CliError> {
    for position in known {
        loop {
            let page = service.follow(&position.place, position.last).await?;
            let Some(last) = page.last() else { break };
            position.last = last.sequence;
            for observed in page.iter().filter(|observed| is_wanted(observed, filter)) {
                show(output, observed, style)?;
            }
        }
    }
    Ok(())
}

/// Matches sources by their directories and keeps their positions. A source with fewer answers than before belongs to
/// another state directory, and starts from its first answer.
fn returned(known: &[Position], now: Vec<Position>) -> Vec<Position> {
    let resumed = |Position { place, last }: Position| {
        let before = known.iter().find(|before| before.place.name == place.name).map_or(0, |before| before.last);
        Position { last: if last < before { 0 } else { before }, place }
    };
    now.into_iter().map(resumed).collect()
}

fn is_wanted(observed: &Observed, filter: &ObservationFilter) -> bool {
    let ObservationFilter { label, doubtful, classifier, .. } = filter;
    label.as_ref().is_none_or(|label| *label == observed.label)
        && doubtful.is_none_or(|doubtful| doubtful == observed.doubtful)
        && classifier.as_ref().is_none_or(|classifier| *classifier == observed.classifier)
}

fn is_away(failure: &CliError) -> bool {
    match failure {
        CliError::Unreachable(_) | CliError::NotStarted { .. } | CliError::NoObject(_) => true,
        CliError::Refused { name, .. } => ["NotReady", "Stopping"].contains(&name.as_str()),
        _ => false,
    }
}

fn show(output: Output, observed: &Observed, style: &Style) -> Result<(), CliError> {
    output.line(observed, || render::observed(observed, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(path: &str, last: u64) -> Position {
        Position { place: Place { number: 0, name: path.into() }, last }
    }

    #[test]
    fn a_source_goes_on_from_where_it_was_and_another_state_directory_from_its_first() {
        let known = vec![position("/a", 7), position("/b", 9)];
        let now = vec![position("/a", 9), position("/b", 2), position("/c", 4)];
        assert_eq!(returned(&known, now), [position("/a", 7), position("/b", 0), position("/c", 0)]);
    }
}
