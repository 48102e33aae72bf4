//! `coftctl rescan`. Prints nothing on success.

use crate::error::{CliError, Exit};
use crate::service::Service;

pub async fn run(service: &Service) -> Result<Exit, CliError> {
    service.rescan().await?;
    Ok(Exit::Done)
}
