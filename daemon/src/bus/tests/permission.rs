//! Who is let through, with a polkit of our own or none at all.

use super::*;
use crate::bus::authorisation::{Action, ask_polkit};
use coft_dbus::Error;
use std::sync::{Arc, Mutex};
use zbus::interface;
use zbus::message::Header;
use zbus::object_server::Interface;
use zbus_polkit::policykit1::{AuthorizationResult, CheckAuthorizationFlags};

/// Kind and details, as they are sent.
type Subject = (String, HashMap<String, OwnedVariant>);

/// Stands for a method that polkit guards: the tests' own user is let through before polkit is asked.
struct Door;

#[interface(name = "org.coft.Test.Door")]
impl Door {
    async fn open(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        ask_polkit(connection, &header, Action::Round).await
    }
}

/// Lets through whom it is told to, and keeps what it was asked.
struct Polkit {
    lets: bool,
    asked: Arc<Mutex<Vec<(Subject, String, CheckAuthorizationFlags)>>>,
}

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    fn check_authorization(
        &self,
        subject: Subject,
        action: String,
        _details: HashMap<String, String>,
        flags: CheckAuthorizationFlags,
        _cancellation: String,
    ) -> AuthorizationResult {
        self.asked.lock().unwrap().push((subject, action, flags));
        AuthorizationResult { is_authorized: self.lets, is_challenge: false, details: Default::default() }
    }
}

async fn connect(bus: &PrivateBus) -> Connection {
    bus.address().parse::<Address>().unwrap().connect().await.unwrap()
}

/// A connection that answers calls to `object` from its first instant.
async fn serve(bus: &PrivateBus, path: &str, object: impl Interface) -> Connection {
    let address: Address = bus.address().parse().unwrap();
    address.builder().serve_at(path, object).build().await.unwrap()
}

/// A caller opens the door of a service; the error's text if it may not.
async fn open(bus: &PrivateBus, caller: &Connection) -> Result<(), String> {
    let service = serve(bus, "/door", Door).await;
    let name = service.unique_name().unwrap().as_str();
    match soon(caller.call_method(Some(name), "/door", Some("org.coft.Test.Door"), "Open", &())).await {
        Ok(_) => Ok(()),
        Err(zbus::Error::MethodError(name, text, _)) => {
            assert_eq!(name.as_str(), "org.coft.Coft1.Error.NotAuthorized", "{text:?}");
            Err(text.unwrap_or_default())
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn without_polkit_nobody_is_let_through() {
    let bus = PrivateBus::start().unwrap();
    let refused = open(&bus, &connect(&bus).await).await.unwrap_err();
    assert!(refused.contains("polkit cannot be asked"), "{refused}");
    assert!(refused.ends_with("ask as an administrator"), "{refused}");
}

#[tokio::test]
async fn polkit_decides_about_the_caller_by_its_name_on_the_bus() {
    let bus = PrivateBus::start().unwrap();
    let caller = connect(&bus).await;
    for lets in [true, false] {
        let asked = Arc::default();
        let polkit = Polkit { lets, asked: Arc::clone(&asked) };
        let authority = serve(&bus, "/org/freedesktop/PolicyKit1/Authority", polkit).await;
        authority.request_name("org.freedesktop.PolicyKit1").await.unwrap();

        assert_eq!(open(&bus, &caller).await.is_ok(), lets);
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        let [(subject, action, flags)] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
        assert_eq!(subject.0, "system-bus-name");
        assert_eq!(String::try_from(subject.1["name"].clone()).unwrap(), caller.unique_name().unwrap().as_str());
        assert_eq!(action, "org.coft.Coft1.round");
        // The caller did not say that its user may be asked.
        assert_eq!(*flags, CheckAuthorizationFlags::empty());
        authority.close().await.unwrap();
    }
}

#[test]
fn every_action_is_in_the_policy() {
    let policy = include_str!("../../../../packaging/polkit/org.coft.Coft1.policy");
    for action in [Action::Round, Action::Rescan, Action::Export, Action::Import, Action::Activate] {
        assert!(policy.contains(&format!("<action id=\"{}\">", action.id())), "{action:?}");
    }
}
