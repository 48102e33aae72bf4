//! `coftctl rescan`. Prints nothing: there is nothing to say but that it was done.

use crate::failure::{Exit, Failure};
use crate::service::Service;

pub async fn run(service: &Service) -> Result<Exit, Failure> {
    service.rescan().await?;
    Ok(Exit::Done)
}
