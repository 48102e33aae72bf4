//! `coftctl results --follow`: a line for each answer, none lost and none twice, also over a restart of the service.
//!
//! A signal says only that there is something to ask for; what is shown is asked for by its number. So a signal that is
//! lost, a service that is away and one that was slow are all the same case.

use super::{filter, latest};
use crate::args::Results;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::{Place, Service};
use crate::view::Observed;
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::sleep;

/// How soon is asked again without a signal, and while the service is away (choice).
const LOOK_EVERY: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(1);

pub async fn run(service: &Service, output: Output, asked: Results, places: Vec<Place>) -> Result<Exit, Failure> {
    tokio::select! {
        end = follow(service, output, &asked, places) => end,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(Failure::Signal)?;
            Ok(Exit::Interrupted)
        }
    }
}

/// Goes on until it fails.
async fn follow(service: &Service, output: Output, asked: &Results, mut places: Vec<Place>) -> Result<Exit, Failure> {
    let style = Style::of_this_machine();
    // Before anything is asked: what comes in between is signalled.
    let mut signals = service.signals().await?;
    if asked.since.is_some() || asked.limit.is_some() {
        let wanted = filter(asked, asked.since)?;
        let known = latest(service, &places, &wanted, asked.limit.unwrap_or(u32::MAX)).await?;
        for observed in known {
            // What has come since is shown below.
            if places.iter().any(|place| place.path == observed.source && observed.sequence <= place.last) {
                show(output, &observed, &style)?;
            }
        }
    }
    eprintln!("following what comes; Ctrl-C ends it");
    let mut away = false;
    loop {
        match look(service, output, asked, &mut places, away, &style).await {
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
            Some(_) = signals.next() => {}
            () = sleep(if away { AWAY } else { LOOK_EVERY }) => {}
        }
    }
}

/// Shows what has come of each place.
async fn look(
    service: &Service,
    output: Output,
    asked: &Results,
    places: &mut Vec<Place>,
    was_away: bool,
    style: &Style,
) -> Result<(), Failure> {
    if was_away {
        *places = returned(std::mem::take(places), service.places(asked.source.as_deref()).await);
    }
    for place in places {
        loop {
            let page = service.follow(place, place.last).await?;
            let Some(last) = page.last() else { break };
            place.last = last.sequence;
            for observed in page.iter().filter(|observed| is_wanted(observed, asked)) {
                show(output, observed, style)?;
            }
        }
    }
    Ok(())
}

/// Sources by their directories, from where each was; one with other answers, of another state directory, from its
/// first.
fn returned(known: Vec<Place>, now: Result<Vec<Place>, Failure>) -> Vec<Place> {
    // A service that is still starting has told of none.
    let Ok(now) = now else { return known };
    let resumed = |place: Place| {
        let before = known.iter().find(|before| before.path == place.path).map_or(0, |before| before.last);
        Place { last: if place.last < before { 0 } else { before }, ..place }
    };
    now.into_iter().map(resumed).collect()
}

fn is_wanted(observed: &Observed, asked: &Results) -> bool {
    asked.label.as_ref().is_none_or(|label| *label == observed.label) && (observed.doubtful || !asked.doubtful)
}

fn is_away(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable(_) | Failure::NotStarted { .. } | Failure::NoObject(_) => true,
        Failure::Refused { name, .. } => ["NotReady", "Stopping"].contains(&name.as_str()),
        _ => false,
    }
}

fn show(output: Output, observed: &Observed, style: &Style) -> Result<(), Failure> {
    output.line(observed, || render::observed(observed, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, last: u64) -> Place {
        Place { number: 0, path: path.into(), last }
    }

    #[test]
    fn a_source_goes_on_from_where_it_was_and_another_state_directory_from_its_first() {
        let known = vec![place("/a", 7), place("/b", 9)];
        let now = vec![place("/a", 9), place("/b", 2), place("/c", 4)];
        let resumed = returned(known.clone(), Ok(now));
        assert_eq!(resumed, [place("/a", 7), place("/b", 0), place("/c", 0)]);
        assert_eq!(returned(known.clone(), Err(Failure::NotFound(String::new()))), known);
    }
}
