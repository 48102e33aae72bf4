//! The answers for pictures of the sources: searched, counted and followed.

use super::{Service, interface, numbered, of, prompt};
use crate::error::CliError;
use crate::view::{Difference, GenerationDiff, Label, Later, Move, Observed};
use coft_dbus::interface::SOURCE;
use coft_dbus::{Comparison, OBSERVATIONS, Observation, ObservationFilter, ROOT, SourceProxy, observer, source_path};
use futures_util::{Stream, StreamExt, stream};
use zbus::Message;
use zbus::proxy::CacheProperties;

/// A source whose pictures are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of its object.
    pub number: u64,
    /// Its name, or its directory where it has none.
    pub name: String,
}

impl Service {
    /// The source that is named by its name, directory or number; or all sources.
    pub async fn places(&self, wanted: Option<&str>) -> Result<Vec<Place>, CliError> {
        let mut managed = self.managed().await?;
        // Without a named classifier, the sources of all classifiers.
        let sources = match &self.wanted {
            Some(_) => {
                let classifier = self.choose(&mut managed)?.name;
                of(&mut managed, SOURCE, &classifier)
            }
            None => interface(&mut managed, SOURCE, ROOT),
        };
        let sources = numbered(sources)?;
        let place = |(number, mut source): (u64, super::Properties)| Ok(Place { number, name: source.take("Name")? });
        let mut places = sources.into_iter().map(place).collect::<Result<Vec<_>, CliError>>()?;
        places.sort_by_key(|place| place.number);
        let Some(wanted) = wanted else { return Ok(places) };
        let directory = wanted.trim_end_matches('/');
        let is_meant = |place: &Place| place.name == directory || place.number.to_string() == wanted;
        let there: Vec<String> = places.iter().map(|place| format!("{} ({})", place.number, place.name)).collect();
        places.retain(is_meant);
        if places.is_empty() {
            let there = if there.is_empty() { "none".into() } else { there.join(", ") };
            return Err(CliError::Usage(format!("{wanted:?} is no source\n  there are: {there}")));
        }
        Ok(places)
    }

    /// The latest answers of a source that match a filter, at most `limit`, the latest first.
    pub async fn find(
        &self,
        place: &Place,
        mut filter: ObservationFilter,
        limit: u32,
    ) -> Result<Vec<Observed>, CliError> {
        let source = self.source(place).await?;
        let mut found: Vec<Observed> = Vec::new();
        while (found.len() as u32) < limit {
            let wanted = (limit - found.len() as u32).min(OBSERVATIONS);
            let page = prompt(source.find_observations(filter.clone(), wanted)).await?;
            let (count, last) = (page.len() as u32, page.last().map(|observation| observation.0));
            found.extend(page.into_iter().map(|observation| observed(place, observation)));
            if count < wanted {
                break;
            }
            filter.before = last;
        }
        Ok(found)
    }

    /// Number of the latest answer of a source, 0 for none. The property with this number may be a second old.
    pub async fn last(&self, place: &Place) -> Result<u64, CliError> {
        let latest = self.find(place, ObservationFilter::default(), 1).await?;
        Ok(latest.first().map_or(0, |latest| latest.sequence))
    }

    /// Answers of a source after a number, in order; only some of them if there are many.
    pub async fn follow(&self, place: &Place, after: u64) -> Result<Vec<Observed>, CliError> {
        let page = prompt(self.source(place).await?.observations(after, OBSERVATIONS)).await?;
        Ok(page.into_iter().map(|observation| observed(place, observation)).collect())
    }

    /// The number of answers of a source for each label and hour: the Unix time at which the hour begins, s, the label
    /// and the number.
    pub async fn count(&self, place: &Place, filter: ObservationFilter) -> Result<Vec<(i64, String, u64)>, CliError> {
        prompt(self.source(place).await?.count_observations(filter)).await
    }

    /// The differences between two generations, with at most `limit` pictures in each list.
    pub async fn compare(&self, old: u64, new: u64, limit: u32) -> Result<GenerationDiff, CliError> {
        let classifier = self.classifier_proxy().await?;
        let (Comparison { compared, changed, waiting }, moves, changes, unsure) =
            prompt(classifier.compare_generations(old, new, limit)).await?;
        let moves = moves.into_iter().map(|(from, to, count)| Move { from, to, count }).collect();
        let pictures = |found: Vec<_>| found.into_iter().map(difference).collect();
        let (changes, unsure) = (pictures(changes), pictures(unsure));
        Ok(GenerationDiff { old, new, compared, changed, waiting, moves, changes, unsure })
    }

    async fn source(&self, place: &Place) -> Result<SourceProxy<'_>, CliError> {
        let number = usize::try_from(place.number).unwrap_or(usize::MAX);
        let builder = SourceProxy::builder(&self.connection).path(source_path(number));
        Ok(builder.cache_properties(CacheProperties::No).build().await?)
    }

    /// Every signal of the service from now on, and of the bus when the service comes or goes. The stream outlives the
    /// service.
    pub async fn signals(&self) -> Result<impl Stream<Item = Message> + Unpin + use<>, CliError> {
        let (of_service, of_bus) = observer::signals(&self.connection).await?;
        // Signals that cannot be read are skipped; their news is found by asking.
        Ok(stream::select(of_service, of_bus).filter_map(|message| std::future::ready(message.ok())))
    }
}

fn difference((image, details): coft_dbus::Difference) -> Difference {
    Difference {
        image,
        source: details.source,
        path: details.path,
        time: details.time,
        old_label: details.old_label,
        old_score: details.old_probability,
        new_label: details.new_label,
        new_score: details.new_probability,
        margin: details.margin,
    }
}

fn observed(place: &Place, (sequence, image, labels, details): Observation) -> Observed {
    let label = details.label(&labels).to_owned();
    Observed {
        sequence,
        source: place.name.clone(),
        image,
        path: details.path,
        time: details.time,
        classifier: details.classifier,
        generation: details.generation,
        label,
        labels: labels.into_iter().map(|(label, score)| Label { label, score }).collect(),
        margin: details.margin,
        doubtful: details.doubtful,
        none_of_these: details.none_of_these,
        decision: details.decision,
        later: details.later_generation.zip(details.later_label).map(|(generation, label)| Later {
            generation,
            label,
            score: details.later_probability,
        }),
    }
}
