//! Clients of `coftd`, each with its own connection and with images as descriptors: by calls over D-Bus, or through a
//! batch socket.

use super::load::{Answer, Client};
use super::pictures::Picture;
use anyhow::{Context, bail};
use coft_dbus::stream::{Outcome, Stream};
use coft_dbus::{Bus, ClassifierProxy, ClassifyOptions};
use std::time::Duration;
use tokio::runtime::{self, Runtime};

pub struct BusClient {
    // Declared before the runtime, which must outlive the connection.
    classifier: ClassifierProxy<'static>,
    runtime: Runtime,
}

impl BusClient {
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let classifier = runtime.block_on(classifier(address)).context("connecting to coftd")?;
        Ok(Self { classifier, runtime })
    }
}

async fn classifier(address: &str) -> anyhow::Result<ClassifierProxy<'static>> {
    let connection = Bus::Address(address.to_owned()).connect().await?;
    Ok(ClassifierProxy::builder(&connection).path(coft_dbus::classifier_path("default")).build().await?)
}

impl Client for BusClient {
    fn classify(&mut self, picture: &Picture) -> anyhow::Result<Answer> {
        let answer = self.classifier.classify((&picture.file).into(), ClassifyOptions::default());
        let (labels, details) = self.runtime.block_on(answer).context("coftd")?;
        Ok(Answer { labels, decode: Some(Duration::try_from_secs_f64(details.decode_seconds)?) })
    }
}

/// A client that has one image at a time in progress on its socket.
pub struct StreamClient {
    // Declared before the runtime, which must outlive them.
    stream: Stream,
    /// The service serves the socket only while its opener is connected to the bus.
    _classifier: ClassifierProxy<'static>,
    runtime: Runtime,
}

impl StreamClient {
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stream, classifier) = runtime.block_on(async {
            let classifier = classifier(address).await.context("connecting to coftd")?;
            let options = ClassifyOptions { priority: Some("interactive".into()), ..ClassifyOptions::default() };
            let socket = classifier.open_batch(options).await.context("opening a batch socket")?;
            anyhow::Ok((Stream::new(socket.into())?, classifier))
        })?;
        Ok(Self { stream, _classifier: classifier, runtime })
    }
}

impl Client for StreamClient {
    fn classify(&mut self, picture: &Picture) -> anyhow::Result<Answer> {
        let answer = self.runtime.block_on(async {
            self.stream.send(0, &picture.file).await?;
            self.stream.answer().await
        });
        match answer.context("coftd")?.context("coftd has closed the batch socket")?.outcome {
            Outcome::Labels(answer) => {
                Ok(Answer { labels: answer.labels, decode: Some(Duration::try_from_secs_f64(answer.decode_seconds)?) })
            }
            Outcome::Error { error } => bail!("coftd: {}: {}", error.name, error.message),
        }
    }
}
