//! `/etc/coft/mqtt.toml`: which broker is used, and what is sent.

use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

pub const DEFAULT_FILE: &str = "/etc/coft/mqtt.toml";
/// Name of the systemd credential with the broker's password.
pub const PASSWORD: &str = "coft-mqtt.password";

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub broker: Broker,
    /// The user name for the broker, if it needs one; the password is in [`PASSWORD`].
    pub user: Option<String>,
    /// PEM file of the authorities that may sign the broker's certificate. Without it, those of the system.
    pub ca: Option<PathBuf>,
    /// The beginning of all topics.
    pub topic_prefix: Topic,
    /// Whether the state of each source is sent.
    pub states: bool,
    /// Whether each answer is sent.
    pub observations: bool,
    /// Whether Home Assistant's discovery messages are sent.
    pub discovery: bool,
    /// The beginning of the topics in which Home Assistant looks for these messages.
    pub discovery_prefix: Topic,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            broker: Broker { host: "localhost".into(), port: 1883, tls: false },
            user: None,
            ca: None,
            topic_prefix: Topic("coft".into()),
            states: true,
            observations: true,
            discovery: false,
            discovery_prefix: Topic("homeassistant".into()),
        }
    }
}

/// Address of the broker: `mqtt://HOST[:PORT]`, or `mqtts://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Broker {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

/// A topic, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Topic(String);

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("the configuration {} cannot be read: {source}; --config names another file", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: line {line}: {message}", path.display())]
    Bad { path: PathBuf, line: usize, message: String },
    #[error("{}: {message}", path.display())]
    Unusable { path: PathBuf, message: String },
}

/// Everything that a connection needs.
#[derive(Clone, Debug)]
pub struct Connect {
    pub broker: Broker,
    pub login: Option<Login>,
    /// For `mqtts://`.
    pub tls: Option<Arc<ClientConfig>>,
    /// Path of the configuration, for error messages.
    pub file: String,
}

#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Config {
    /// # Errors
    /// The file cannot be read or has an error.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|(line, message)| ConfigError::Bad { path: path.into(), line, message })
    }

    /// On an error, returns its line, from 1, and its description.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            (text[..start].matches('\n').count() + 1, error.message().to_owned())
        })
    }

    /// Everything that a connection needs, with the password and the trusted authorities.
    ///
    /// # Errors
    /// Something that the configuration `file` needs is missing or not valid.
    pub fn connect(&self, file: &Path) -> Result<Connect, ConfigError> {
        let unusable = |message: String| ConfigError::Unusable { path: file.into(), message };
        let login = self.user.as_ref().map(|user| Ok(Login { user: user.clone(), password: password(user)? }));
        let tls = self.broker.tls.then(|| trusting(self.ca.as_deref()));
        let (login, tls) = (login.transpose().map_err(unusable)?, tls.transpose().map_err(unusable)?);
        if self.ca.is_some() && !self.broker.tls {
            return Err(unusable("ca is for TLS alone, and broker begins with mqtt://; TLS is mqtts://".into()));
        }
        if self.discovery && !self.states {
            return Err(unusable("discovery shows states, and states is false".into()));
        }
        Ok(Connect { broker: self.broker.clone(), login, tls, file: file.display().to_string() })
    }
}

/// The password, from the credentials that systemd passes to the service.
fn password(user: &str) -> Result<String, String> {
    let lacks = |why: String| {
        format!(
            "user is {user:?}, and there is no password: {why}\n  put it into /etc/credstore/{PASSWORD} (mode 0600), \
             then: systemctl restart coft-mqtt"
        )
    };
    let dir = env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| lacks("CREDENTIALS_DIRECTORY is not set".into()))?;
    let path = Path::new(&dir).join(PASSWORD);
    let text = fs::read_to_string(&path).map_err(|error| lacks(format!("{}: {error}", path.display())))?;
    // Editors and echo end a file with a newline.
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let told = |error: &dyn fmt::Display| format!("ca: {}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                roots.add(certificate.map_err(|error| told(&error))?).map_err(|error| told(&error))?;
            }
            if roots.is_empty() {
                return Err(told(&"no certificate is in it; it has to be PEM (-----BEGIN CERTIFICATE-----)"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("this machine trusts no authority: install the package ca-certificates, or name the \
                            broker's with ca"
                    .into());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

impl TryFrom<String> for Broker {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad =
            |why: &str| format!("broker {text:?}: {why}; it is mqtt://HOST or mqtts://HOST, with :PORT if need be");
        let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let tls = match uri.scheme_str() {
            Some("mqtt") => false,
            Some("mqtts") => true,
            _ => return Err(bad("it begins neither with mqtt:// nor with mqtts://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("no host is named"))?;
        if authority.as_str().contains('@') {
            return Err(bad(
                "a user and a password do not belong here: the setting is user, and the password a credential",
            ));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("nothing may follow the port"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(bad("no host is named"));
        }
        if tls && host.starts_with('[') {
            return Err(bad("over TLS the host has to be a name"));
        }
        let port = match authority.as_str()[host.len()..].strip_prefix(':').map(str::parse) {
            None => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return Err(bad("the port is none")),
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

impl TryFrom<String> for Topic {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("topic {text:?}: {why}"));
        match () {
            () if text.is_empty() => bad("it is empty"),
            () if text.starts_with('/') || text.ends_with('/') || text.contains("//") => {
                bad("its levels are separated by one /, and it has none at its ends")
            }
            () if text.contains(['+', '#']) => bad("+ and # stand for other topics"),
            () if text.starts_with('$') => bad("topics that begin with $ are the broker's own"),
            () if text.contains(char::is_control) || text.len() > 200 => bad("it is no text of at most 200 bytes"),
            () => Ok(Self(text)),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Topic {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../packaging/mqtt.toml");

    #[test]
    fn the_shipped_file_has_every_setting_with_its_default() {
        assert_eq!(Config::parse(SHIPPED), Ok(Config::default()));
        // Settings without a default begin with a number sign and no space.
        let all: String = SHIPPED
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = Config::parse(&all).unwrap();
        assert!(config.user.is_some() && config.ca.is_some(), "{config:?}");
        let told = toml::from_str::<toml::Table>(&all).unwrap().len();
        assert_eq!(told, 8, "a setting a field");
    }

    #[test]
    fn a_broker_is_an_address() {
        let read = |text: &str| Broker::try_from(text.to_owned());
        let broker = |host: &str, port, tls| Ok(Broker { host: host.into(), port, tls });
        assert_eq!(read("mqtt://localhost"), broker("localhost", 1883, false));
        assert_eq!(read("mqtts://broker.example"), broker("broker.example", 8883, true));
        assert_eq!(read("mqtt://10.0.0.7:1884/"), broker("10.0.0.7", 1884, false));
        assert_eq!(read("mqtt://[::1]:1884"), broker("[::1]", 1884, false));
        for (text, why) in [
            ("localhost", "begins neither"),
            ("http://localhost", "begins neither"),
            ("mqtt://", "mqtt://HOST"),
            ("mqtt://a:b@c", "do not belong here"),
            ("mqtt://a/b", "nothing may follow"),
            ("mqtt://a:0", "the port is none"),
            ("mqtt://a:99999", "the port is none"),
            ("mqtts://[::1]", "has to be a name"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, line, why) in [
            ("states = true\nstatus = 1\n", 2, "unknown field `status`"),
            ("\n\nbroker = \"localhost\"\n", 3, "begins neither"),
            ("states = \"yes\"", 1, "invalid type"),
            ("topic-prefix = \"coft/#\"", 1, "stand for other topics"),
            ("topic-prefix = \"/coft\"", 1, "separated by one /"),
            ("discovery-prefix = \"\"", 1, "it is empty"),
            ("a = ", 1, ""),
        ] {
            let (at, told) = Config::parse(text).expect_err(text);
            assert_eq!(at, line, "{text}: {told}");
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_with_the_file() {
        let file = Path::new("/etc/coft/mqtt.toml");
        let told = |text: &str| Config::parse(text).unwrap().connect(file).expect_err(text).to_string();
        let password = told("user = \"cam\"");
        assert!(
            password.starts_with("/etc/coft/mqtt.toml: user is") && password.contains("/etc/credstore/"),
            "{password}"
        );
        assert!(told("ca = \"/nowhere.pem\"").contains("mqtts://"));
        assert!(told("broker = \"mqtts://a\"\nca = \"/nowhere.pem\"").contains("/nowhere.pem"));
        assert!(told("discovery = true\nstates = false").contains("states is false"));
    }
}
