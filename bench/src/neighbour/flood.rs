//! A user who takes all resources, in one of several ways.

use anyhow::Context;
use clap::ValueEnum;
use coft_dbus::stream::{Outcome, Stream};
use coft_dbus::{Bus, ClassifierProxy, ClassifyOptions};
use serde::Serialize;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime;
use tokio::task::JoinSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Flood {
    /// Calls with pictures of 640×480 px, twice as many under way as one user's share of the queue.
    Small,
    /// The same with pictures that take nearly the whole decode budget.
    Large,
    /// The same with pictures that take more than the whole decode budget.
    Bombs,
    /// As many batch sockets as can be had, with nothing sent over them.
    SilentSockets,
    /// As many batch sockets as can be had, each sent as much as it takes.
    FullSockets,
}

impl Flood {
    pub const ALL: [Self; 5] = [Self::Small, Self::Large, Self::Bombs, Self::SilentSockets, Self::FullSockets];

    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "calls, 640×480 px",
            Self::Large => "calls, just below the decode budget",
            Self::Bombs => "calls, over the decode budget",
            Self::SilentSockets => "batch sockets, silent",
            Self::FullSockets => "batch sockets, full",
        }
    }
}

/// The results for the hostile user's images.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sent {
    pub answered: u64,
    /// Refused because the service is busy, or because the picture is not usable.
    pub refused: u64,
}

/// Number of connections, and of concurrent calls on each: together twice the queue's share of one user.
const CONNECTIONS: usize = 8;
const CALLS: usize = 16;
/// Time between two checks whether the flood must end.
const POLL: Duration = Duration::from_millis(20);

pub struct Hostile {
    flood: Flood,
    bus: String,
    pictures: Vec<Arc<File>>,
    counts: Arc<Counts>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    fn count(&self, is_answered: bool) {
        let count = if is_answered { &self.answered } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Hostile {
    pub fn new(flood: Flood, bus: String, pictures: Vec<Arc<File>>) -> Self {
        Self { flood, bus, pictures, counts: Arc::default(), stop: AtomicBool::new(false) }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Floods the service until it is stopped. The connections belong to the user of the calling thread.
    ///
    /// # Errors
    /// The service cannot be reached.
    pub fn run(&self) -> anyhow::Result<Sent> {
        // One thread, so that the flood itself uses at most one processor.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Dropping the set ends the running tasks.
            let mut tasks = JoinSet::new();
            match self.flood {
                Flood::Small | Flood::Large | Flood::Bombs => self.call(&mut tasks).await?,
                Flood::SilentSockets | Flood::FullSockets => self.batch(&mut tasks).await?,
            }
            while !self.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(POLL).await;
            }
            anyhow::Ok(())
        })?;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Sent { answered: read(&self.counts.answered), refused: read(&self.counts.refused) })
    }

    async fn call(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        for connection in 0..CONNECTIONS {
            let classifier = self.connect().await?;
            for call in 0..CALLS {
                let (classifier, counts, pictures) =
                    (classifier.clone(), Arc::clone(&self.counts), self.pictures.clone());
                tasks.spawn(async move {
                    for picture in pictures.iter().cycle().skip(connection * CALLS + call) {
                        let answer = classifier.classify((&**picture).into(), ClassifyOptions::default()).await;
                        counts.count(answer.is_ok());
                    }
                });
            }
        }
        Ok(())
    }

    async fn batch(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        let classifier = self.connect().await?;
        // The same priority as the quiet user's calls.
        let options = || ClassifyOptions { priority: Some("interactive".into()), ..ClassifyOptions::default() };
        let mut sockets = Vec::new();
        let refused = loop {
            match classifier.open_batch(options()).await {
                Ok(socket) => sockets.push(Arc::new(Stream::new(socket.into())?)),
                Err(error) => break error,
            }
        };
        eprintln!("{} batch sockets are open: {refused}", sockets.len());
        let is_silent = self.flood == Flood::SilentSockets;
        for socket in sockets {
            let (sending, pictures) = (Arc::clone(&socket), self.pictures.clone());
            let (classifier, counts) = (classifier.clone(), Arc::clone(&self.counts));
            tasks.spawn(async move {
                // The service serves the socket only while its opener is connected to the bus.
                let _classifier = classifier;
                while let Ok(Some(answer)) = socket.answer().await {
                    counts.count(matches!(answer.outcome, Outcome::Labels(_)));
                }
            });
            if !is_silent {
                tasks.spawn(async move {
                    for (picture, id) in pictures.iter().cycle().zip(0..) {
                        // The kernel limits the descriptors in flight to the number that a process may have open.
                        if sending.send(id, &**picture).await.is_err() {
                            tokio::time::sleep(POLL).await;
                        }
                    }
                });
            }
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<ClassifierProxy<'static>> {
        let connection = Bus::Address(self.bus.clone()).connect().await.context("connecting to the bus")?;
        Ok(ClassifierProxy::builder(&connection).path(coft_dbus::classifier_path("default")).build().await?)
    }
}
