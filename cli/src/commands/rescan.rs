//! `coftctl rescan`. Prints nothing: there is nothing to say but that it was done.

use crate::error::{CliError, Exit};
use crate::service::Service;

pub async fn run(service: &Service) -> Result<Exit, CliError> {
    service.rescan().await?;
    Ok(Exit::Done)
}
