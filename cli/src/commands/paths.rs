//! Makes paths absolute before they go to the service, which has another working directory.

use crate::error::CliError;
use coft_core::shown::shown_path;
use std::path::Path;

/// # Errors
/// The path cannot be sent over the bus.
pub fn absolute(path: &Path) -> Result<String, CliError> {
    let failed = |problem: &str| CliError::Usage(format!("{}: {problem}", shown_path(path)));
    let whole = std::path::absolute(path).map_err(|error| failed(&error.to_string()))?;
    whole.into_os_string().into_string().map_err(|_| failed("its name is not UTF-8; write it into the file by hand"))
}
