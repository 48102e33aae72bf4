//! Who may change things: root, the service's own user, and whom polkit lets.
//!
//! Classifying is open to everybody on the bus. Without polkit, everybody else is refused.

use coft_dbus::Error;
use std::collections::HashMap;
use std::time::Duration;
use zbus::message::{Flags, Header};
use zbus::names::BusName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, fdo};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

/// How long polkit may take where nobody is asked for a password. Longer than the 10 s for which a rule of polkit may
/// run a program, shorter than the 25 s for which clients wait. 15 s [choice].
const PATIENCE: Duration = Duration::from_secs(15);
/// How long somebody may take to type a password; a little less than coftctl waits. 110 s [choice].
const CONSENT: Duration = Duration::from_secs(110);
/// How long polkit may take to say whether a listing has paths: the listing waits for it. 3 s [choice].
const LISTING: Duration = Duration::from_secs(3);

/// What is to be done, each with its polkit action.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Starting or cancelling a round.
    Round,
    Rescan,
    /// Having the configuration read again.
    Reload,
    /// Making, changing and removing classifiers.
    Configure,
    /// Reading a generation's files.
    Export,
    /// Having a generation from elsewhere serve.
    Import,
    /// The same, whatever it answers here.
    ImportForce,
    /// Having an earlier generation serve again.
    Activate,
    /// Seeing which pictures are asked about, and deciding between two generations by labels for them.
    Review,
    /// Seeing the names of the files that sources bring.
    Observe,
}

impl Action {
    /// The action of org.coft.Coft1.policy.
    pub fn id(self) -> &'static str {
        match self {
            Action::Round => "org.coft.Coft1.round",
            Action::Rescan => "org.coft.Coft1.rescan",
            Action::Reload => "org.coft.Coft1.reload",
            Action::Configure => "org.coft.Coft1.configure",
            Action::Export => "org.coft.Coft1.export",
            Action::Import => "org.coft.Coft1.import",
            Action::ImportForce => "org.coft.Coft1.import-force",
            Action::Activate => "org.coft.Coft1.activate",
            Action::Review => "org.coft.Coft1.review",
            Action::Observe => "org.coft.Coft1.observe",
        }
    }
}

/// Refuses the caller of `header` unless it may do `action`.
pub async fn check(connection: &Connection, header: &Header<'_>, action: Action) -> Result<(), Error> {
    let credentials = credentials(connection, header).await?;
    match credentials.unix_user_id() {
        None => Err(refusal("the caller's user is unknown")),
        Some(user) if is_ours(user) => Ok(()),
        Some(_) => ask_polkit(connection, header, action, PATIENCE).await,
    }
}

/// Refuses whoever is neither root nor the service's own user; polkit is not asked.
pub async fn check_owner(connection: &Connection, header: Option<&Header<'_>>) -> fdo::Result<()> {
    let denied = |error: Error| fdo::Error::AccessDenied(error.to_string());
    let header = header.ok_or_else(|| denied(refusal("the caller is unknown")))?;
    let credentials = credentials(connection, header).await.map_err(denied)?;
    match credentials.unix_user_id().is_some_and(is_ours) {
        true => Ok(()),
        false => Err(denied(refusal("only root may change the log"))),
    }
}

/// Whether the caller of `header` may see something that others are answered without: root and the service's own user,
/// the members of the service's group, and whom polkit lets. Nobody is asked for a password unless the caller says so.
pub async fn may(connection: &Connection, header: &Header<'_>, action: Action) -> bool {
    let Ok(credentials) = credentials(connection, header).await else { return false };
    let group = nix::unistd::getegid().as_raw();
    let is_member = credentials.unix_group_ids().is_some_and(|groups| groups.contains(&group));
    is_member
        || credentials.unix_user_id().is_some_and(is_ours)
        || ask_polkit(connection, header, action, LISTING).await.is_ok()
}

/// Whether it is root or the service's own user.
fn is_ours(user: u32) -> bool {
    user == 0 || user == nix::unistd::geteuid().as_raw()
}

async fn credentials(connection: &Connection, header: &Header<'_>) -> Result<fdo::ConnectionCredentials, Error> {
    let sender = header.sender().ok_or_else(|| refusal("the caller is unknown"))?;
    let bus = fdo::DBusProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
    let credentials = bus.get_connection_credentials(BusName::from(sender.to_owned())).await;
    credentials.map_err(|error| refusal(&format!("the caller's user is unknown: {error}")))
}

/// Asks polkit about the caller of `header`. The subject is the caller's name on the bus, which cannot be passed on as a
/// process id can. `patience` is for a polkit that does not answer.
pub async fn ask_polkit(
    connection: &Connection,
    header: &Header<'_>,
    action: Action,
    patience: Duration,
) -> Result<(), Error> {
    let subject = Subject::new_for_message_header(header).map_err(|_| refusal("the caller is unknown"))?;
    // No properties are wanted, and reading them would wait for a polkit that may not be there.
    let authority = AuthorityProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
    let ask = async |flags, patience: Duration| {
        let details = HashMap::new();
        let answer = authority.check_authorization(&subject, action.id(), &details, flags, "");
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refusal(&format!("polkit cannot be asked: {error}"))),
            Err(_) => Err(refusal(&format!("polkit has not answered within {patience:?}"))),
        }
    };
    // Without a person first: that polkit hangs is then seen soon, and by every client.
    let mut answer = ask(CheckAuthorizationFlags::empty(), patience).await?;
    let may_ask_a_person = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    if !answer.is_authorized && answer.is_challenge && may_ask_a_person {
        answer = ask(CheckAuthorizationFlags::ALLOW_USER_INTERACTION, CONSENT).await?;
    }
    match answer.is_authorized {
        true => Ok(()),
        false => Err(refusal(&format!("polkit does not allow {}", action.id()))),
    }
}

fn refusal(why: &str) -> Error {
    Error::NotAuthorized(format!("{why}; ask as an administrator"))
}
