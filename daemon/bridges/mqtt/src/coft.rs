//! The service, as seen on the bus.

use crate::levels::levels;
use coft_dbus::interface::{CLASSIFIER, MANAGER, SOURCE};
use coft_dbus::{Bus, Error, Observation, ObservationFilter, ROOT, observer};
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zbus::{Connection, OwnedVariant};

/// A connection to the bus, for calls to the service.
pub struct Coft {
    connection: Connection,
    /// Notified when a new answer has come, or the service has started.
    news: Arc<Notify>,
    listening: JoinHandle<()>,
}

/// The version of the running service, and its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub version: String,
    pub sources: Vec<Source>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path on the bus.
    pub object: String,
    /// Its name, or its directory if it has no name.
    pub name: String,
    /// The level of its topics.
    pub topic: String,
    /// The classes of its classifier.
    pub classes: Vec<String>,
}

/// The state of a source, according to its latest pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub state: String,
    /// Unix time, s.
    pub since: i64,
    pub last_label: String,
    pub last_image: String,
    pub last_time: i64,
    pub waiting: u64,
    /// Number of the latest answer; it may be a second old.
    pub last_sequence: u64,
    /// Why the source cannot be watched or its pictures cannot be answered; empty if there is no problem.
    pub problem: String,
}

impl Coft {
    /// # Errors
    /// The bus cannot be reached.
    pub async fn connect(bus: &Bus) -> zbus::Result<Self> {
        let connection = bus.connect().await?;
        let (of_sources, of_bus) = observer::signals(&connection).await?;
        let news = Arc::new(Notify::new());
        let told = Arc::clone(&news);
        // In a task of its own: a stream that nobody reads delays the answers to calls.
        let listening = tokio::spawn(async move {
            let mut signals = stream::select(of_sources, of_bus);
            while signals.next().await.is_some() {
                told.notify_one();
            }
            // The bus has gone, which the next call notices.
            told.notify_one();
        });
        Ok(Self { connection, news, listening })
    }

    /// Waits until something has come since the last call.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub async fn layout(&self) -> Result<Layout, Error> {
        let mut manager = observer::properties(&self.connection, ROOT, MANAGER).await?;
        let mut sources: Vec<(u64, String, String, String)> = Vec::new();
        let mut classes: HashMap<String, Vec<String>> = HashMap::new();
        for (path, mut interfaces) in observer::objects(&self.connection).await? {
            let number = path.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
            if let (Some(properties), Some(number)) = (interfaces.get_mut(SOURCE), number) {
                let (name, classifier) = (take(properties, "Name")?, take(properties, "Classifier")?);
                sources.push((number, path.to_string(), name, classifier));
            }
            if let Some(properties) = interfaces.get_mut(CLASSIFIER) {
                classes.insert(take(properties, "Name")?, take(properties, "Classes")?);
            }
        }
        sources.sort();
        let topics = levels(sources.iter().map(|(_, _, name, _)| name.as_str()));
        let named = |((_, object, name, classifier), topic): ((_, _, _, String), String)| {
            let classes = classes.get(&classifier).cloned().unwrap_or_default();
            Source { object, name, topic, classes }
        };
        Ok(Layout {
            version: take(&mut manager, "Version")?,
            sources: sources.into_iter().zip(topics).map(named).collect(),
        })
    }

    pub async fn standing(&self, source: &Source) -> Result<Standing, Error> {
        let mut told = observer::properties(&self.connection, &source.object, SOURCE).await?;
        let watching: String = take(&mut told, "Problem")?;
        let answering: String = take(&mut told, "AnswersProblem")?;
        Ok(Standing {
            state: take(&mut told, "State")?,
            since: take(&mut told, "StateSince")?,
            last_label: take(&mut told, "LastLabel")?,
            last_image: take(&mut told, "LastImage")?,
            last_time: take(&mut told, "LastTime")?,
            waiting: take(&mut told, "Unanswered")?,
            last_sequence: take(&mut told, "LastSequence")?,
            problem: if watching.is_empty() { answering } else { watching },
        })
    }

    /// The latest answer that is stored.
    pub async fn latest(&self, source: &Source) -> Result<Option<Observation>, Error> {
        let asked = (ObservationFilter::default(), 1u32);
        let found: Vec<Observation> = self.ask(source, "FindObservations", &asked).await?;
        Ok(found.into_iter().next())
    }

    /// Answers after the number `after`, in order, at most `limit`.
    pub async fn after(&self, source: &Source, after: u64, limit: u32) -> Result<Vec<Observation>, Error> {
        self.ask(source, "Observations", &(after, limit)).await
    }

    async fn ask<B>(&self, source: &Source, method: &str, body: &B) -> Result<Vec<Observation>, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        observer::call(&self.connection, &source.object, SOURCE, method, body).await
    }
}

impl Drop for Coft {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn take<T: TryFrom<OwnedVariant>>(properties: &mut HashMap<String, OwnedVariant>, name: &str) -> Result<T, Error> {
    let lacks = || Error::Failed(format!("coftd does not tell {name}; is it of another version?"));
    T::try_from(properties.remove(name).ok_or_else(lacks)?).map_err(|_| lacks())
}
