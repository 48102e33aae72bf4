//! Who is let through, with a polkit of our own or none at all.

use super::*;
use crate::bus::authorisation::{Action, ask_polkit};
use coft_dbus::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zbus::interface;
use zbus::message::Header;
use zbus::object_server::Interface;
use zbus::proxy::{MethodFlags, Proxy};
use zbus_polkit::policykit1::{AuthorizationResult, CheckAuthorizationFlags};

/// Kind and details, as they are sent.
type Subject = (String, HashMap<String, OwnedVariant>);

/// Stands for a method that polkit guards: the tests' own user is let through before polkit is asked.
/// It waits for polkit so long.
struct Door(Duration);

#[interface(name = "org.coft.Test.Door")]
impl Door {
    async fn open(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        ask_polkit(connection, &header, Action::Round, self.0).await
    }
}

/// Lets through whom it is told to, and keeps what it was asked.
struct Polkit {
    lets: bool,
    /// Whether somebody could type a password, and would.
    challenges: bool,
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
        let typed = self.challenges && flags.contains(CheckAuthorizationFlags::ALLOW_USER_INTERACTION);
        AuthorizationResult {
            is_authorized: self.lets || typed,
            is_challenge: self.challenges,
            details: Default::default(),
        }
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
    opened(bus, caller, MethodFlags::empty(), Duration::from_secs(60)).await
}

async fn opened(bus: &PrivateBus, caller: &Connection, flags: MethodFlags, patience: Duration) -> Result<(), String> {
    let service = serve(bus, "/door", Door(patience)).await;
    let name = service.unique_name().unwrap().as_str();
    let door = Proxy::new(caller, name, "/door", "org.coft.Test.Door").await.unwrap();
    match soon(door.call_with_flags::<_, _, ()>("Open", flags, &())).await {
        Ok(_) => Ok(()),
        Err(zbus::Error::MethodError(name, text, _)) => {
            assert_eq!(name.as_str(), "org.coft.Coft1.Error.NotAuthorized", "{text:?}");
            Err(text.unwrap_or_default())
        }
        Err(other) => panic!("{other}"),
    }
}

/// Where polkit is asked.
const AUTHORITY: &str = "/org/freedesktop/PolicyKit1/Authority";

async fn polkit(bus: &PrivateBus, polkit: impl Interface) -> Connection {
    let authority = serve(bus, AUTHORITY, polkit).await;
    authority.request_name("org.freedesktop.PolicyKit1").await.unwrap();
    authority
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
        let authority = polkit(&bus, Polkit { lets, challenges: false, asked: Arc::clone(&asked) }).await;

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

/// A person is asked only where the caller allows it, and only where a password would help.
#[tokio::test]
async fn a_password_is_asked_for_where_the_caller_says_so() {
    let bus = PrivateBus::start().unwrap();
    let caller = connect(&bus).await;
    let (quiet, loud) = (CheckAuthorizationFlags::empty(), CheckAuthorizationFlags::ALLOW_USER_INTERACTION);
    for (interactive, challenges, asked_with, let_in) in
        [(true, true, vec![quiet, loud], true), (true, false, vec![quiet], false), (false, true, vec![quiet], false)]
    {
        let asked = Arc::default();
        let authority = polkit(&bus, Polkit { lets: false, challenges, asked: Arc::clone(&asked) }).await;
        let flags = if interactive { MethodFlags::ALLOW_INTERACTIVE_AUTH } else { MethodFlags::empty() };
        let told = opened(&bus, &caller, flags, Duration::from_secs(60)).await;
        assert_eq!(told.is_ok(), let_in, "{interactive} {challenges}: {told:?}");
        let flags: Vec<_> = asked.lock().unwrap().iter().map(|(.., flags)| *flags).collect();
        assert_eq!(flags, asked_with, "{interactive} {challenges}");
        authority.close().await.unwrap();
    }
}

/// Such a call waited for ever, and a client that gave up was told nothing of polkit.
#[tokio::test]
async fn a_polkit_that_hangs_lets_nobody_through_and_is_named() {
    struct Hung;

    #[interface(name = "org.freedesktop.PolicyKit1.Authority")]
    impl Hung {
        async fn check_authorization(
            &self,
            _subject: Subject,
            _action: String,
            _details: HashMap<String, String>,
            _flags: CheckAuthorizationFlags,
            _cancellation: String,
        ) -> AuthorizationResult {
            std::future::pending().await
        }
    }

    let bus = PrivateBus::start().unwrap();
    let _authority = polkit(&bus, Hung).await;
    let caller = connect(&bus).await;
    for flags in [MethodFlags::empty(), MethodFlags::ALLOW_INTERACTIVE_AUTH] {
        let refused = opened(&bus, &caller, flags, Duration::from_millis(100)).await.unwrap_err();
        assert!(refused.contains("polkit has not answered within 100ms"), "{refused}");
    }
}
