//! `coftctl classifier list`.

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::render;
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, Failure> {
    let classifiers = service.classifiers().await?;
    output.document(&classifiers, || render::classifiers(&classifiers))?;
    Ok(Exit::Done)
}
