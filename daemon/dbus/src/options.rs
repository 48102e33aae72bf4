//! The options of calls, by the names that the bus has for them.

use zbus::{DeserializeDict, SerializeDict, Type};

/// Options of `Classify`, `ClassifyMany` and `OpenBatch`.
#[derive(Clone, Debug, Default, PartialEq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClassifyOptions {
    /// Labels wanted, best first, 1 or more; all of them where it is absent.
    pub top_k: Option<u32>,
    /// Labels less probable are left out; 0 to 1.
    pub threshold: Option<f64>,
    /// Whether the image's embedding is wanted.
    pub embedding: Option<bool>,
    /// How long the answer is of use, s, 0 to 25; where it is absent 24, and for `OpenBatch` as long as it takes.
    pub deadline_seconds: Option<f64>,
    /// `interactive`, or `bulk`, which comes to its turn when nothing interactive waits. `OpenBatch` is bulk where it
    /// is absent, the others are interactive.
    pub priority: Option<String>,
}

/// Options of `CreateClassifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewClassifier {
    /// The names of its classes; where they are absent, the model's own.
    pub classes: Option<Vec<String>>,
    /// Directory of a CLIP, or the name or digest of one in the store; where it is absent, the demo model.
    pub model: Option<String>,
    /// Prompt of the zero-shot labels; `{}` stands for the name of the class.
    pub template: Option<String>,
    /// Directories whose images it answers and learns from, each named from the root on.
    pub watch: Option<Vec<String>>,
}

/// Options of `RemoveClassifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct RemovalOptions {
    /// Whether all that was kept for it goes as well: images, answers, generations.
    pub purge: Option<bool>,
}

/// Options of `AddSource`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourceOptions {
    /// What it is to be called, where that is not its directory.
    pub name: Option<String>,
}

/// Options of `StartRound`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct RoundOptions {
    /// Seeds every random draw, instead of the configured seed.
    pub seed: Option<u64>,
}

/// Options of `ImportGeneration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportOptions {
    /// Whether it serves whatever it answers on the images of the service; everything else is checked all the same.
    pub force: Option<bool>,
}

/// Options of `SubmitReview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReviewOptions {
    /// Takes the last answer back; there may be no labels beside it.
    pub undo: Option<bool>,
}
