//! `coftctl doctor`: checks from outside, and the checks that the service makes itself.

use crate::doctor::{Facts, line};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::Diagnosis;

pub async fn run(output: Output, bus: &str) -> Result<Exit, CliError> {
    let service = match Service::connect(bus, None).await {
        Err(usage @ CliError::Usage(_)) => return Err(usage),
        service => service,
    };
    let facts = Facts::gather(bus, &service).await;
    let mut checks = facts.checks();
    if let (Ok(service), Ok(_)) = (&service, &facts.answer) {
        match service.diagnose().await {
            Ok(found) => checks.extend(found),
            Err(failure) => {
                let found = format!("it cannot look around itself: {failure}");
                checks.push(line("service", "error", found, "journalctl -u coftd -n 20"));
            }
        }
    }
    let count = |level: &str| checks.iter().filter(|check| check.level == level).count();
    let diagnosis = Diagnosis { errors: count("error"), warnings: count("warning"), checks };
    output.document(&diagnosis, || render::diagnosis(&diagnosis))?;
    Ok(if diagnosis.errors > 0 { Exit::Failed } else { Exit::Done })
}
