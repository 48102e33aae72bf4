//! `coftctl results`: what the pictures of the sources show.

mod follow;

use crate::args::Results;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::{Place, Service};
use crate::view::{HourCount, Observed};
use coft_dbus::ObservationFilter;
use jiff::{Span, ZonedDateTime};
use std::collections::BTreeMap;

/// Default number of answers that are shown.
const LIMIT: u32 = 20;
/// Default number of hours in a summary.
const SUMMARY: i64 = 24;

pub async fn run(service: &Service, output: Output, asked: Results) -> Result<Exit, CliError> {
    let places = service.places(asked.source.as_deref()).await?;
    let classifier = service.named().await?;
    if asked.follow {
        return follow::run(service, output, asked, classifier, places).await;
    }
    if asked.summary {
        let since = asked.since.unwrap_or_else(|| Span::new().hours(SUMMARY));
        return summary(service, output, &places, filter(&asked, Some(since))?).await;
    }
    let filter = ObservationFilter { classifier, ..filter(&asked, asked.since)? };
    let found = latest(service, &places, &filter, asked.limit.unwrap_or(LIMIT)).await?;
    output.document(&found, || render::results(&found, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}

/// The latest answers of all the sources together, in order.
async fn latest(
    service: &Service,
    places: &[Place],
    filter: &ObservationFilter,
    limit: u32,
) -> Result<Vec<Observed>, CliError> {
    let mut found = Vec::new();
    for place in places {
        found.extend(service.find(place, filter.clone(), limit).await?);
    }
    found.sort_by(|a, b| (a.time, &a.source, a.sequence).cmp(&(b.time, &b.source, b.sequence)));
    Ok(found.split_off(found.len().saturating_sub(limit as usize)))
}

fn filter(asked: &Results, since: Option<Span>) -> Result<ObservationFilter, CliError> {
    let then = |span: Span| {
        let then = ZonedDateTime::now().checked_sub(span);
        then.map(|then| then.timestamp().as_second()).map_err(|error| CliError::Usage(format!("--since: {error}")))
    };
    Ok(ObservationFilter {
        label: asked.label.clone(),
        doubtful: asked.doubtful.then_some(true),
        changed: asked.changed.then_some(true),
        since: since.map(then).transpose()?,
        ..ObservationFilter::default()
    })
}

async fn summary(
    service: &Service,
    output: Output,
    places: &[Place],
    filter: ObservationFilter,
) -> Result<Exit, CliError> {
    let mut sums: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for place in places {
        for (hour, label, count) in service.count(place, filter.clone()).await? {
            *sums.entry((hour, label)).or_default() += count;
        }
    }
    let counts: Vec<HourCount> =
        sums.into_iter().map(|((hour, label), count)| HourCount { hour, label, count }).collect();
    output.document(&counts, || render::summary(&counts, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}
