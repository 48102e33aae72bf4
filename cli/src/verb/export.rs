//! `coftctl export`.

use crate::bundle::{Bundle, Format};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::service::Service;
use crate::view::Exported;
use std::path::Path;

pub async fn run(
    service: &Service,
    output: Output,
    generation: u64,
    format: Format,
    dir: &Path,
) -> Result<Exit, Failure> {
    let (classifier, files) = service.open_generation(generation).await?;
    Bundle::new(classifier, generation, files)?.write(format, dir)?;
    let exported = Exported { generation, directory: dir.display().to_string() };
    output.document(&exported, || format!("generation {generation} is in {}\n", exported.directory))?;
    Ok(Exit::Done)
}
