//! `org.coft.Coft1.Generation`: a classifier that was put into the store.

use crate::control::{Control, GenerationStatus};
use coft_core::ids::GenerationId;
use zbus::{fdo, interface};

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
    #[zbus(property(emits_changed_signal = "const"))]
    fn number(&self) -> u64 {
        self.id.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn round(&self) -> fdo::Result<u64> {
        self.status(|status| status.round.0)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn method(&self) -> fdo::Result<String> {
        self.status(|status| status.method.clone())
    }

    /// Unix time, s.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created(&self) -> fdo::Result<i64> {
        self.status(|status| status.created)
    }

    #[zbus(property)]
    fn active(&self) -> fdo::Result<bool> {
        self.status(|status| status.active)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn images(&self) -> fdo::Result<u64> {
        self.status(|status| status.images)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn parity_max_abs_diff(&self) -> fdo::Result<f64> {
        self.status(|status| status.parity_max_abs_diff)
    }

    /// JSON.
    #[zbus(property(emits_changed_signal = "const"))]
    fn report(&self) -> fdo::Result<String> {
        self.status(|status| status.report.clone())
    }
}
