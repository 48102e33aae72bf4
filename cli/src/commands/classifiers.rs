//! `coftctl classifier`: the classifiers of the service.

use super::paths::absolute;
use crate::args::Classifier;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::{Advice, Changed};
use coft_core::shown::shown_path;
use coft_core::{labels, lint};
use coft_dbus::NewClassifier;
use std::path::Path;

pub async fn run(service: &Service, output: Output, asked: Classifier) -> Result<Exit, CliError> {
    let (name, said) = match asked {
        Classifier::Show { .. } => return super::status::run(service, output).await,
        Classifier::List => {
            let classifiers = service.classifiers().await?;
            output.document(&classifiers, || render::classifiers(&classifiers))?;
            return Ok(Exit::Done);
        }
        Classifier::Create { name, labels, watch, model, template } => {
            let classes = labels.as_deref().map(classes).transpose()?;
            let advice = advice(classes.iter().flatten());
            let watch = watch.iter().map(|dir| absolute(dir)).collect::<Result<Vec<_>, _>>()?;
            let watch = Some(watch).filter(|watch| !watch.is_empty());
            let model = model.map(|model| if model.contains('/') { absolute(Path::new(&model)) } else { Ok(model) });
            let new = NewClassifier { classes, model: model.transpose()?, template, watch };
            service.create_classifier(&name, new).await?;
            let said = format!("the classifier {name} is made; see it: coftctl classifier show {name}\n");
            (name, said + &advice)
        }
        Classifier::Edit { name, labels } => {
            let classes = classes(&labels)?;
            service.set_classes(&name, &classes).await?;
            let said =
                format!("the classifier {name} has other classes; a generation of them answers within seconds\n");
            (name, said + &advice(classes.iter()))
        }
        Classifier::Remove { name, purge } => {
            service.remove_classifier(&name, purge).await?;
            let kept = if purge { "and all that was kept for it" } else { "what it has learnt is kept" };
            let said = format!("the classifier {name} is removed, {kept}\n");
            (name, said)
        }
    };
    output.document(&Changed { classifier: name }, || said)?;
    Ok(Exit::Done)
}

/// Which of the class names a model may not understand.
fn advice<'a>(classes: impl Iterator<Item = &'a String>) -> String {
    let advice =
        |class: &String| Some(Advice { line: None, class: Some(class.clone()), advice: lint::of_name(class)? });
    let found: Vec<Advice> = classes.filter_map(advice).collect();
    if found.is_empty() { String::new() } else { render::advice(&found, false) }
}

/// The classes in a file, or in a list with commas.
fn classes(labels: &str) -> Result<Vec<String>, CliError> {
    let path = Path::new(labels);
    if !path.exists() && labels.contains(',') {
        return Ok(labels.split(',').map(|class| class.trim().to_owned()).collect());
    }
    let failed = |problem: String| CliError::Usage(format!("--labels {}: {problem}", shown_path(path)));
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let classes = labels::parse(&bytes).map_err(|error| failed(error.to_string()))?;
    Ok(classes.into_iter().map(|(_, class)| class).collect())
}
