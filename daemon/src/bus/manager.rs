//! `org.coft.Coft1.Manager`: the service as a whole.

use super::authorisation::{self, Action};
use super::errors::{refused, stopping};
use super::options::{self, Given};
use crate::control::{self, Command, Control, Service, ServiceCommand};
use crate::edit::Edit;
use coft_dbus::{Check, Error, Figures};
use tokio::sync::{mpsc, oneshot};
use zbus::message::Header;
use zbus::{Connection, interface};

pub struct Manager {
    service: Service,
}

impl Manager {
    pub fn new(service: Service) -> Self {
        Self { service }
    }

    fn classifiers(&self) -> Vec<Control> {
        self.service.classifiers.borrow().clone()
    }
}

/// Has the configuration changed.
pub async fn edit(service_commands: &mpsc::Sender<ServiceCommand>, edit: Edit) -> Result<(), Error> {
    let (reply, answer) = oneshot::channel();
    service_commands.send(ServiceCommand::Edit { edit, reply }).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?.map_err(refused)
}

#[interface(name = "org.coft.Coft1.Manager")]
impl Manager {
    /// Has every source of every classifier looked through again.
    ///
    /// Errors: NotAuthorized, NotReady, Stopping.
    async fn rescan(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Rescan).await?;
        let mut answers = Vec::new();
        for classifier in self.classifiers() {
            let (reply, answer) = oneshot::channel();
            classifier.commands.send(Command::Rescan { reply }).await.map_err(|_| stopping())?;
            answers.push(answer);
        }
        // All of them are asked, whatever one of them says.
        let mut rescanned = Ok(());
        for answer in answers {
            rescanned = rescanned.and(answer.await.map_err(|_| stopping())?.map_err(refused));
        }
        rescanned
    }

    /// Reads the configuration again. `changed` are the settings that are used otherwise from now on. Where a
    /// setting has changed that only a restart can change, or there is a mistake in a file, everything stays as it
    /// was.
    ///
    /// Errors: NotAuthorized, NotReloaded, Stopping, Failed.
    #[zbus(out_args("changed"))]
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<String>, Error> {
        authorisation::check(connection, &header, Action::Reload).await?;
        let (reply, answer) = oneshot::channel();
        self.service.service_commands.send(ServiceCommand::Reload { reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map_err(refused)
    }

    /// Makes a classifier, in a file of its own in `classifiers.d`, and starts it. Options: `classes` (`as`), the
    /// names of its classes, without which the model's own count; `model` (`s`) and `template` (`s`), as in the
    /// configuration; `watch` (`as`), directories whose images it answers and learns from.
    ///
    /// Errors: InvalidArgs, NotAuthorized, NotReloaded, Stopping, Failed.
    async fn create_classifier(
        &self,
        name: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Configure).await?;
        edit(&self.service.service_commands, Edit::Create(options::of_new(name, options)?)).await
    }

    /// Stops a classifier and removes its file from `classifiers.d`. What it has learnt is kept for a classifier
    /// that is given this name again; where the option `purge` (`b`) is true, it is removed as well.
    ///
    /// Errors: those of `CreateClassifier`.
    async fn remove_classifier(
        &self,
        name: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Configure).await?;
        edit(&self.service.service_commands, Edit::Remove { name, purge: options::of_removal(options)? }).await
    }

    /// Looks at what the service needs around it, within seconds: libraries, devices, directories, room. `checks`
    /// has one entry for each thing: what was looked at, `ok`, `warning` or `error`, what was found, and what to do
    /// about it.
    ///
    /// Errors: Stopping.
    #[zbus(out_args("checks"))]
    async fn diagnose(&self) -> Result<Vec<Check>, Error> {
        let (reply, answer) = oneshot::channel();
        self.service.service_commands.send(ServiceCommand::Diagnose { reply }).await.map_err(|_| stopping())?;
        let check = |control::Check { name, level, found, advice }| (name, level.as_str().to_owned(), found, advice);
        Ok(answer.await.map_err(|_| stopping())?.into_iter().map(check).collect())
    }

    /// Figures of the service as a whole, by name: of what it has classified since it started, of what waits, and
    /// of what it takes of the machine. A figure that cannot be found out is absent.
    #[zbus(out_args("figures"))]
    async fn measure(&self) -> Figures {
        let taken = self.service.footprint.look().await;
        let classifiers = self.classifiers();
        let done = classifiers.iter().map(|there| there.classifier.figures()).reduce(|sum, more| sum.and(more));
        let delays = classifiers.iter().filter_map(|there| there.answers.delays()).reduce(|sum, more| sum.and(more));
        let done = done.unwrap_or_default();
        Figures {
            classified_images: Some(done.answered),
            failed_images: Some(done.failed),
            refused_images: Some(done.refused),
            queue_seconds: Some(done.queue.as_secs_f64()),
            decode_seconds: Some(done.decode.as_secs_f64()),
            inference_seconds: Some(done.inference.as_secs_f64()),
            answer_delay_seconds: delays.as_ref().map(|delays| delays.sum.as_secs_f64()),
            answer_delays: delays.map(|delays| delays.buckets().collect()),
            waiting_interactive: Some(done.interactive as u64),
            waiting_bulk: Some(done.bulk as u64),
            memory_bytes: taken.memory_bytes,
            disk_free_bytes: taken.disk.map(|disk| disk.free_bytes),
            disk_size_bytes: taken.disk.map(|disk| disk.size_bytes),
        }
    }

    /// Why classifiers that are configured are not there: one text for each file with a mistake, with the file and
    /// the line.
    #[zbus(property(emits_changed_signal = "false"))]
    fn left_out(&self) -> Vec<String> {
        self.service.left_out.borrow().clone()
    }

    /// Version of the service, as `1.2.3`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }
}
