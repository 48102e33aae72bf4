//! Passes answers from the service to the broker, while the service, the broker and the bus come and go.
//!
//! Answers are read by their numbers, page by page. The position advances when the broker has acknowledged an answer. A
//! signal only means that there is something to ask for. So a lost signal, a service that is away and a broker that is
//! away are all handled in the same way: the next answer is the one after the position.

use crate::broker::{Broker, Message};
use crate::coft::{Coft, Layout, Source, Standing};
use crate::config::{Config, Connect};
use crate::position::{Position, Positions};
use crate::stop::Stop;
use crate::topics::Topics;
use crate::wait::{self, Backoff};
use coft_dbus::{Bus, observer};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::warn;

/// Time until the next question if no signal comes. 10 s [choice].
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Number of answers in a page. 100 [choice].
const PAGE: u32 = 100;

pub struct Bridge {
    pub config: Config,
    pub connect: Connect,
    pub bus: Bus,
    pub positions: Positions,
    pub stop: Stop,
}

/// Why the work ended.
enum End {
    /// The program was asked to stop.
    Stop,
    /// The connection to the broker has failed, or the position cannot be stored.
    Broker(String),
    /// The service or the bus is away.
    Coft(String),
}

impl From<coft_dbus::Error> for End {
    fn from(error: coft_dbus::Error) -> Self {
        let why = if observer::is_away(&error) { "coftd is away" } else { "coftd cannot be asked" };
        End::Coft(format!("{why}: {error}"))
    }
}

impl From<zbus::Error> for End {
    fn from(error: zbus::Error) -> Self {
        End::Coft(format!("the bus cannot be reached: {error}"))
    }
}

impl From<crate::position::PositionError> for End {
    fn from(error: crate::position::PositionError) -> Self {
        End::Broker(error.to_string())
    }
}

impl Bridge {
    /// Runs until the program is asked to stop.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.stop.is_wished() {
            let End::Broker(problem) = self.with_broker(&mut backoff).await else { break };
            let wait = backoff.failed(problem);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.wished() => {}
            }
        }
        wait::stopping();
    }

    /// Connects to the broker, and runs until the connection fails or the program is asked to stop.
    async fn with_broker(&mut self, backoff: &mut Backoff) -> End {
        let topics = Topics::of(&self.config);
        let offline = topics.status(false);
        let connecting = Broker::connect(&self.connect, &offline, self.stop.clone());
        let mut broker = tokio::select! {
            connected = connecting => match connected {
                Ok(broker) => broker,
                Err(problem) => return End::Broker(problem),
            },
            () = self.stop.wished() => return End::Stop,
        };
        backoff.works(&format!("connected to {}", self.connect.broker));
        let mut away = Backoff::default();
        loop {
            let end = self.with_coft(&mut broker, &topics, &mut away).await;
            let problem = match end {
                Ok(never) => match never {},
                Err(End::Broker(problem)) => return End::Broker(problem),
                Err(End::Coft(problem)) => Some(problem),
                Err(End::Stop) => None,
            };
            // The retained messages are out of date now.
            if let Err(problem) = broker.publish(&offline).await {
                return End::Broker(problem);
            }
            let Some(problem) = problem else {
                broker.leave().await;
                return End::Stop;
            };
            let wait = away.failed(problem).min(LOOK_EVERY);
            tokio::select! {
                () = sleep(wait) => {}
                problem = broker.failed() => return End::Broker(problem),
                () = self.stop.wished() => {}
            }
        }
    }

    /// Runs until something fails or the program is asked to stop.
    async fn with_coft(
        &mut self,
        broker: &mut Broker,
        topics: &Topics,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, End> {
        if self.stop.is_wished() {
            return Err(End::Stop);
        }
        let coft = Coft::connect(&self.bus).await?;
        let mut layout = Layout::default();
        let mut looked: Option<Instant> = None;
        let mut shown: HashMap<String, (Message, Message)> = HashMap::new();
        let mut is_online = false;
        loop {
            // The list is read again, because sources come and go while the service runs.
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
                let now = coft.layout().await?;
                looked = Some(Instant::now());
                if now != layout {
                    layout = now;
                    self.announce(broker, topics, &layout).await?;
                    for source in &layout.sources {
                        let position = self.begin(&coft, source).await?;
                        self.positions.advance(&source.name, position)?;
                    }
                }
            }
            let mut more = false;
            for source in &layout.sources {
                let standing = match coft.standing(source).await {
                    Err(error) if is_gone(&error) => {
                        // The list of sources is read again at once. If the service is away, that fails as well.
                        looked = None;
                        continue;
                    }
                    standing => standing?,
                };
                if self.config.states {
                    show(broker, topics, source, &standing, &mut shown).await?;
                }
                let sent = self.positions.of(&source.name).map_or(0, |position| position.sequence);
                if standing.last_sequence < sent {
                    // The number that the service states is old, or its catalogue was damaged and starts anew.
                    let position = self.begin(&coft, source).await?;
                    self.positions.advance(&source.name, position)?;
                }
                more |= self.pass_on(&coft, broker, topics, source).await?;
            }
            if !is_online {
                self.send(broker, &topics.status(true)).await?;
                backoff.works(&format!("{} sources of coftd go to {}", layout.sources.len(), self.connect.broker));
                is_online = true;
            }
            if more || looked.is_none() {
                continue;
            }
            tokio::select! {
                () = coft.news() => {}
                () = sleep(LOOK_EVERY) => {}
                problem = broker.failed() => return Err(End::Broker(problem)),
                () = self.stop.wished() => return Err(End::Stop),
            }
        }
    }

    /// Sends Home Assistant's discovery messages, and makes the broker forget the topics of sources that have gone.
    async fn announce(&mut self, broker: &mut Broker, topics: &Topics, layout: &Layout) -> Result<(), End> {
        let mut discovery = Vec::new();
        let mut kept = BTreeSet::new();
        for source in &layout.sources {
            if self.config.states {
                let nothing = Standing::default();
                kept.extend([topics.state(source, &nothing).topic, topics.attributes(source, &nothing).topic]);
            }
            if self.config.discovery {
                discovery.extend(topics.discovery(source, &layout.version));
            }
        }
        kept.extend(discovery.iter().map(|message| message.topic.clone()));
        // Old and new topics are stored until the broker has forgotten the old ones, so that after an interruption the
        // next run knows what is left to do.
        let before = self.positions.retained().clone();
        self.positions.retain(&before | &kept)?;
        for topic in before.difference(&kept) {
            let nothing = Message { topic: topic.clone(), payload: String::new(), retain: true };
            self.send(broker, &nothing).await?;
        }
        self.positions.retain(kept)?;
        for message in &discovery {
            self.send(broker, message).await?;
        }
        Ok(())
    }

    /// The position from which a source continues: the stored one, if it belongs to the same series of answers.
    async fn begin(&self, coft: &Coft, source: &Source) -> Result<Position, End> {
        let first = Position { sequence: 0, image: String::new() };
        let at = |answer: coft_dbus::Observation| Position { sequence: answer.0, image: answer.1 };
        let Some(known) = self.positions.of(&source.name) else {
            // At the first start, earlier answers are not sent.
            return Ok(coft.latest(source).await?.map_or(first, at));
        };
        if known.sequence == 0 {
            return Ok(known.clone());
        }
        let there = coft.after(source, known.sequence - 1, 1).await?.into_iter().next().map(at);
        let is_other = match &there {
            Some(there) => there.sequence == known.sequence && there.image != known.image,
            // If no answer is stored there is nothing to compare; the next answer then comes after the first position.
            None if coft.latest(source).await?.is_none() => return Ok(first),
            None => true,
        };
        if is_other {
            warn!(
                "the answers of {} are others than before, of another state directory: they are sent from the first",
                source.name
            );
            return Ok(first);
        }
        Ok(known.clone())
    }

    /// Sends one page of the answers after the position. Returns whether there are more.
    async fn pass_on(
        &mut self,
        coft: &Coft,
        broker: &mut Broker,
        topics: &Topics,
        source: &Source,
    ) -> Result<bool, End> {
        let after = self.positions.of(&source.name).map_or(0, |position| position.sequence);
        let page = coft.after(source, after, PAGE).await?;
        for answer in &page {
            if self.config.observations {
                self.send(broker, &topics.observation(source, answer)).await?;
            }
            let position = Position { sequence: answer.0, image: answer.1.clone() };
            self.positions.advance(&source.name, position)?;
        }
        Ok(page.len() == PAGE as usize)
    }

    async fn send(&self, broker: &mut Broker, message: &Message) -> Result<(), End> {
        if self.stop.is_wished() {
            return Err(End::Stop);
        }
        broker.publish(message).await.map_err(End::Broker)
    }
}

/// Whether the object no longer exists.
fn is_gone(error: &coft_dbus::Error) -> bool {
    zbus::DBusError::name(error).as_str() == "org.freedesktop.DBus.Error.UnknownObject"
}

/// Sends the state of a source if it differs from the one sent last over this connection.
async fn show(
    broker: &mut Broker,
    topics: &Topics,
    source: &Source,
    standing: &Standing,
    shown: &mut HashMap<String, (Message, Message)>,
) -> Result<(), End> {
    let now = (topics.attributes(source, standing), topics.state(source, standing));
    let before = shown.get(&source.object);
    if before.is_none_or(|before| before.0 != now.0) {
        broker.publish(&now.0).await.map_err(End::Broker)?;
    }
    if before.is_none_or(|before| before.1 != now.1) {
        broker.publish(&now.1).await.map_err(End::Broker)?;
    }
    shown.insert(source.object.clone(), now);
    Ok(())
}
