//! `coftctl source`: the watched directories.

use super::paths::absolute;
use crate::args::Source;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::Changed;
use coft_core::shown::shown;

pub async fn run(service: &Service, output: Output, asked: Source) -> Result<Exit, CliError> {
    let (classifier, said) = match asked {
        Source::List => {
            let sources = service.sources().await?;
            output.document(&sources, || render::sources(&sources))?;
            return Ok(Exit::Done);
        }
        Source::Add { dir, name } => {
            let dir = absolute(&dir)?;
            let classifier = service.add_source(&dir, name).await?;
            let said = format!("the classifier {classifier} watches {}, too\n", shown(dir.as_bytes()));
            (classifier, said)
        }
        Source::Remove { source } => {
            let classifier = service.remove_source(&source).await?;
            let said = format!("the classifier {classifier} watches {} no more\n", shown(source.as_bytes()));
            (classifier, said)
        }
    };
    output.document(&Changed { classifier }, || said)?;
    Ok(Exit::Done)
}
