//! `org.coft.Coft1.Source`: a watched directory.

use crate::control::{Control, SourceStatus};
use zbus::{fdo, interface};

pub struct Source {
    control: Control,
    number: usize,
}

impl Source {
    pub fn new(control: Control, number: usize) -> Self {
        Self { control, number }
    }

    fn status<T>(&self, read: impl FnOnce(&SourceStatus) -> T) -> fdo::Result<T> {
        let snapshot = self.control.snapshot.borrow();
        let status = snapshot.sources.get(self.number).map(read);
        status.ok_or_else(|| fdo::Error::UnknownObject(format!("source {} is gone", self.number)))
    }
}

#[interface(name = "org.coft.Coft1.Source")]
impl Source {
    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> fdo::Result<String> {
        self.status(|status| status.path.display().to_string())
    }

    #[zbus(property)]
    fn images(&self) -> fdo::Result<u64> {
        self.status(|status| status.images)
    }

    #[zbus(property)]
    fn quarantined(&self) -> fdo::Result<u64> {
        self.status(|status| status.quarantined)
    }

    /// Why the directory cannot be watched now; empty where it can.
    #[zbus(property)]
    fn problem(&self) -> fdo::Result<String> {
        self.status(|status| status.problem.clone().unwrap_or_default())
    }
}
