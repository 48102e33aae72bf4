//! `coftctl reload`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use crate::view::Reloaded;
use coft_core::shown::shown;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    let reloaded = Reloaded { changed: service.reload().await? };
    output.document(&reloaded, || match reloaded.changed.as_slice() {
        [] => "nothing has changed\n".into(),
        changed => format!("used from now on: {}\n", shown(changed.join(", ").as_bytes())),
    })?;
    Ok(Exit::Done)
}
