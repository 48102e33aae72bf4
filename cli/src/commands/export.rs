//! `coftctl export`.

use crate::bundle::{Bundle, Format};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use crate::view::{Exported, file_name};
use coft_core::shown::shown;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

pub async fn run(
    service: &Service,
    output: Output,
    generation: u64,
    format: Format,
    dir: PathBuf,
) -> Result<Exit, CliError> {
    let (classifier, files) = service.open_generation(generation).await?;
    let bundle = Bundle::new(classifier, generation, files)?;
    let exported = Exported { generation, directory: file_name(&dir) };
    let stop = bundle.stop();
    let mut writing = tokio::task::spawn_blocking(move || bundle.write(format, &dir));
    let written = tokio::select! {
        written = &mut writing => written,
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(CliError::Signal)?;
            stop.store(true, Relaxed);
            // Waits until the partly written files are removed.
            let _ = writing.await;
            return Ok(Exit::Interrupted);
        }
    };
    written.expect("writing does not panic")?;
    output
        .document(&exported, || format!("generation {generation} is in {}\n", shown(exported.directory.as_bytes())))?;
    Ok(Exit::Done)
}
