//! A client of `coftd` over D-Bus: a connection of its own, and images as descriptors.

use super::load::{Answer, Client};
use super::pictures::Picture;
use anyhow::Context;
use coft_dbus::{Bus, ClassifierProxy, ClassifyOptions};
use std::time::Duration;
use tokio::runtime::{self, Runtime};

pub struct BusClient {
    // Before the runtime, on which its connection lives.
    classifier: ClassifierProxy<'static>,
    runtime: Runtime,
}

impl BusClient {
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let classifier = runtime.block_on(async {
            let connection = Bus::Address(address.to_owned()).connect().await?;
            ClassifierProxy::builder(&connection).path(coft_dbus::classifier_path("default")).build().await
        });
        Ok(Self { classifier: classifier.context("connecting to coftd")?, runtime })
    }
}

impl Client for BusClient {
    fn classify(&mut self, picture: &Picture) -> anyhow::Result<Answer> {
        let answer = self.classifier.classify((&picture.file).into(), ClassifyOptions::default());
        let (labels, details) = self.runtime.block_on(answer).context("coftd")?;
        Ok(Answer { labels, decode: Some(Duration::try_from_secs_f64(details.decode_seconds)?) })
    }
}
