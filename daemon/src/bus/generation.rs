//! `org.coft.Coft1.Generation`: a classifier that was put into the store.

use super::authorisation::{self, Action};
use super::errors::{refused, stopping};
use super::job;
use crate::control::{Command, Control, GenerationStatus, LabelCount};
use coft_core::ids::GenerationId;
use coft_core::manifest::{MANIFEST, MODEL, PROBE, REPORT, WEIGHTS};
use coft_dbus::Error;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::{Connection, ObjectServer, OwnedObjectPath, fdo, interface};

pub struct Generation {
    control: Control,
    id: GenerationId,
}

impl Generation {
    pub fn new(control: Control, id: GenerationId) -> Self {
        Self { control, id }
    }

    fn status<T>(&self, read: impl FnOnce(&GenerationStatus) -> T) -> fdo::Result<T> {
        let snapshot = self.control.snapshot.borrow();
        let status = snapshot.generations.iter().find(|status| status.generation == self.id).map(read);
        status.ok_or_else(|| fdo::Error::UnknownObject(format!("generation {} is gone", self.id)))
    }
}

#[interface(name = "org.coft.Coft1.Generation")]
impl Generation {
    /// Hands out the files of the generation, opened for reading, by name: `manifest.json`, and the files whose
    /// digests it states (`model.onnx`, `model.onnx.data`, `probe.safetensors` and `report.json`).
    ///
    /// Errors: NotAuthorized, Failed.
    #[zbus(out_args("files"))]
    async fn open(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<HashMap<&'static str, zbus::OwnedFd>, Error> {
        authorisation::check(connection, &header, Action::Export).await?;
        let dir = self.status(|status| status.dir.clone())?;
        let opened = |name| match File::open(dir.join(name)) {
            Ok(file) => Ok((name, OwnedFd::from(file).into())),
            Err(error) => Err(Error::Failed(format!(
                "generation {}: {name}: {error}; coftctl generation list shows which there are",
                self.id
            ))),
        };
        [MANIFEST, MODEL, WEIGHTS, PROBE, REPORT].into_iter().map(opened).collect()
    }

    /// Lets the generation serve again, once it is proven anew. Returns the path of the job at once, or `/` where
    /// the generation is active already.
    ///
    /// Errors: NotAuthorized, Busy, NotReady, Stopping, Failed.
    #[zbus(out_args("job"))]
    async fn activate(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        authorisation::check(connection, &header, Action::Activate).await?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Activate { generation: self.id, reply };
        self.control.commands.send(command).await.map_err(|_| stopping())?;
        match answer.await.map_err(|_| stopping())?.map_err(refused)? {
            Some(round) => job::export(&self.control, round, server).await,
            None => Ok(OwnedObjectPath::default()),
        }
    }

    /// Counts what the generation has answered about the latest pictures of the sources; at most 10000 pictures are
    /// looked at. `counts` are a label, the number of pictures that were given it, the number of these that the user
    /// has labelled, and the number of these that the user has given the same label. The most frequent label comes
    /// first; one that no picture was given is left out.
    ///
    /// Errors: NotReady, Stopping, Failed.
    #[zbus(out_args("counts"))]
    async fn count_answers(&self) -> Result<Vec<(String, u64, u64, u64)>, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::CountAnswers { generation: self.id, reply };
        self.control.commands.send(command).await.map_err(|_| stopping())?;
        let counts = answer.await.map_err(|_| stopping())?.map_err(refused)?;
        let told = |count: LabelCount| (count.label, count.pictures, count.labelled, count.right);
        Ok(counts.into_iter().map(told).collect())
    }

    /// Number of the generation among those of its classifier, which is the last part of the object's path.
    #[zbus(property(emits_changed_signal = "const"))]
    fn number(&self) -> u64 {
        self.id.0
    }

    /// Number of the job that put it into the store.
    #[zbus(property(emits_changed_signal = "const"))]
    fn round(&self) -> fdo::Result<u64> {
        self.status(|status| status.job.0)
    }

    /// How it was made: `zero-shot`, `coft` or `coft-plus`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn method(&self) -> fdo::Result<String> {
        self.status(|status| status.method.clone())
    }

    /// When the generation was put into the store, Unix time, s.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created(&self) -> fdo::Result<i64> {
        self.status(|status| status.created)
    }

    /// Number of the generation that was active before this one became active, the last time it did; 0 where there
    /// was none. Where this generation is not active, the number may belong to an activation that was cut short.
    #[zbus(property)]
    fn replaces(&self) -> fdo::Result<u64> {
        self.status(|status| status.replaces.map_or(0, |id| id.0))
    }

    /// Whether this generation is the one that answers.
    #[zbus(property)]
    fn active(&self) -> fdo::Result<bool> {
        self.status(|status| status.active)
    }

    /// Why it was not promoted, where the rules refused it and nobody has activated it since; empty otherwise.
    #[zbus(property)]
    fn refused(&self) -> fdo::Result<String> {
        self.status(|status| status.refused.clone().unwrap_or_default())
    }

    /// Images of the pool that its round worked with; 0 where it needed none.
    #[zbus(property(emits_changed_signal = "const"))]
    fn images(&self) -> fdo::Result<u64> {
        self.status(|status| status.images)
    }

    /// Share of each class, 0 to 1, that the setting `shares` had when the generation was made, which its answers
    /// take into account; empty where none were set.
    #[zbus(property(emits_changed_signal = "const"))]
    fn shares(&self) -> fdo::Result<HashMap<String, f64>> {
        self.status(|status| status.shares.iter().cloned().collect())
    }

    /// Largest difference, 0 to 1, between the probabilities of the trainer and of ONNX Runtime for the inputs of
    /// the probe.
    #[zbus(property(emits_changed_signal = "const"))]
    fn parity_max_abs_diff(&self) -> fdo::Result<f64> {
        self.status(|status| status.parity_max_abs_diff)
    }

    /// What the round saw of its images, without any label: JSON of the schema docs/schema/report.json.
    #[zbus(property(emits_changed_signal = "const"))]
    fn report(&self) -> fdo::Result<String> {
        self.status(|status| status.report.clone())
    }
}
