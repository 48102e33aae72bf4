//! The actions of coft that polkit knows.

use super::{Service, prompt};
use crate::error::CliError;
use coft_dbus::BUS_NAME;
use nix::unistd::User;
use std::collections::HashMap;

/// A polkit action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub id: String,
    /// The user who may ask polkit about this action.
    pub owner: Option<u32>,
}

impl Service {
    /// The actions of coft that polkit knows.
    pub async fn polkit_actions(&self) -> Result<Vec<Action>, CliError> {
        const POLKIT: &str = "org.freedesktop.PolicyKit1";
        let (path, interface) = ("/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority");
        let locale = "";
        let call = self.connection.call_method(Some(POLKIT), path, Some(interface), "EnumerateActions", &locale);
        let answer = prompt(call).await?;
        let actions: Vec<PolkitAction> = answer.body().deserialize()?;
        let ours = actions.into_iter().filter(|action| action.0.starts_with(BUS_NAME));
        Ok(ours.map(|action| Action { owner: owner(&action.9), id: action.0 }).collect())
    }
}

/// Id, description, message, vendor, the vendor's URL, icon, three defaults, annotations.
type PolkitAction = (String, String, String, String, String, String, u32, u32, u32, HashMap<String, String>);

fn owner(annotations: &HashMap<String, String>) -> Option<u32> {
    let name = annotations.get("org.freedesktop.policykit.owner")?.strip_prefix("unix-user:")?;
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}
