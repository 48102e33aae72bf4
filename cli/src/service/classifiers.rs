//! Lists, makes, changes and removes the classifiers of the service and their sources.

use super::objects::{self, Classifier};
use super::{Service, interface, numbered, of};
use crate::error::CliError;
use crate::view::{ClassifierLine, Source};
use coft_dbus::interface::{CLASSIFIER, SOURCE};
use coft_dbus::{ClassifierProxy, NewClassifier, ROOT, RemovalOptions, SourceOptions, classifier_path};
use zbus::fdo::ManagedObjects;
use zbus::proxy::CacheProperties;

impl Service {
    /// Every classifier, sorted by name.
    pub async fn classifiers(&self) -> Result<Vec<ClassifierLine>, CliError> {
        let mut managed = self.managed().await?;
        let all = interface(&mut managed, CLASSIFIER, ROOT).into_iter().map(objects::classifier);
        let mut all = all.collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let line = |classifier: Classifier| {
            let sources = of(&mut managed, SOURCE, &classifier.name);
            let sources = sources.into_iter().map(|mut source| source.take("Name")).collect::<Result<_, _>>()?;
            let problems = [classifier.serving_problem, classifier.setup_problem, classifier.intake_problem];
            Ok(ClassifierLine {
                classifier: classifier.name,
                classes: classifier.classes,
                active_generation: classifier.active_generation,
                images: classifier.images,
                round: classifier.round,
                sources,
                problem: problems.into_iter().flatten().next(),
            })
        };
        all.into_iter().map(line).collect()
    }

    /// The sources of the classifier that was named, or of all of them, sorted by number.
    pub async fn sources(&self) -> Result<Vec<Source>, CliError> {
        let mut managed = self.managed().await?;
        let wanted = match &self.wanted {
            Some(_) => Some(self.choose(&mut managed)?.name),
            None => None,
        };
        let found = match wanted {
            Some(classifier) => of(&mut managed, SOURCE, &classifier),
            None => interface(&mut managed, SOURCE, ROOT),
        };
        let mut sources = numbered(found)?;
        sources.sort_by_key(|(number, _)| *number);
        sources.into_iter().map(|(_, source)| objects::source(source)).collect()
    }

    /// Makes a classifier.
    pub async fn create_classifier(&self, name: &str, new: NewClassifier) -> Result<(), CliError> {
        Ok(self.manager().await?.create_classifier(name, new).await?)
    }

    /// Removes a classifier; with `purge`, all its data too.
    pub async fn remove_classifier(&self, name: &str, purge: bool) -> Result<(), CliError> {
        let options = RemovalOptions { purge: purge.then_some(true) };
        Ok(self.manager().await?.remove_classifier(name, options).await?)
    }

    /// Changes the classes of a classifier.
    pub async fn set_classes(&self, name: &str, classes: &[String]) -> Result<(), CliError> {
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        let builder = ClassifierProxy::builder(&self.connection).path(classifier_path(name));
        let classifier = builder.cache_properties(CacheProperties::No).build().await?;
        classifier.set_classes(&classes).await.map_err(|error| match error.into() {
            CliError::NoObject(_) => CliError::NotFound(format!(
                "no classifier is called {name:?}\n  see which there are: coftctl classifier list"
            )),
            other => other,
        })
    }

    /// Adds a source to the classifier. Returns the classifier's name.
    pub async fn add_source(&self, dir: &str, name: Option<String>) -> Result<String, CliError> {
        let classifier = self.choose(&mut self.managed().await?)?.name;
        self.classifier_proxy().await?.add_source(dir, SourceOptions { name }).await?;
        Ok(classifier)
    }

    /// Removes a source from the classifier. Returns the classifier's name.
    pub async fn remove_source(&self, source: &str) -> Result<String, CliError> {
        let classifier = self.choose(&mut self.managed().await?)?.name;
        self.classifier_proxy().await?.remove_source(source).await?;
        Ok(classifier)
    }
}

/// The names of the classifiers, sorted.
pub fn names(managed: &ManagedObjects) -> Vec<String> {
    let all = managed.values().filter_map(|interfaces| interfaces.get(CLASSIFIER)?.get("Name"));
    let mut names: Vec<String> = all.filter_map(|name| String::try_from(name.clone()).ok()).collect();
    names.sort();
    names
}
