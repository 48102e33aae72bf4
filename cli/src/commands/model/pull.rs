//! `coftctl model pull`.

use super::installed;
use crate::error::{CliError, Exit};
use crate::hub::Download;
use crate::output::Output;
use coft_models::store::{Installed, Store, check_name};

pub fn run(store: &Store, output: Output, repository: &str, name: Option<String>) -> Result<Exit, CliError> {
    let (id, revision) = match repository.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (repository, None),
    };
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if !(1..=2).contains(&id.split('/').count()) || !id.split('/').all(plain) || revision == Some("") {
        return Err(CliError::Usage(format!(
            "{repository:?} is no repository; write OWNER/NAME or OWNER/NAME@REVISION"
        )));
    }
    let name = name.unwrap_or_else(|| id.rsplit('/').next().unwrap_or(id).to_owned());
    check_name(&name)?;
    let incoming = store.incoming()?;
    let download = Download::new(store.dir(), id, revision)?;
    if let (Some(commit), Ok(entry)) = (download.commit(), store.find(&name))
        && entry.record.source == format!("{id}@{commit}")
    {
        download.forget();
        return installed(output, Installed { entry, already: true });
    }
    let commit = download.fetch(incoming.dir())?;
    let installation = incoming.install(&name, &format!("{id}@{commit}"))?;
    download.forget();
    installed(output, installation)
}
