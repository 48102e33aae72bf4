//! A connection to the broker. Only one message is sent at a time, and it counts as sent when the broker has
//! acknowledged it.
//!
//! So nothing is sent after a message that the broker did not accept. A broker that stops in an orderly way has
//! acknowledged all messages that it has passed on, and has not passed on the others. A connection is used until it
//! fails; the next connection takes over nothing from it.

use crate::config::{Broker as Address, Connect, Login, PASSWORD};
use crate::stop::Stop;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Packet,
    QoS, StateError, TlsConfiguration, TlsError, Transport,
};
use rustls::CertificateError;
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longest time to connect. 10 s [choice].
const CONNECTING: Duration = Duration::from_secs(10);
/// Time between two signs of life to the broker. After one and a half times that without one, it sends the last will.
/// 30 s [choice].
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest time in which the broker must acknowledge a message. 30 s [choice].
const ACKNOWLEDGING: Duration = Duration::from_secs(30);
/// The same time when this program is stopping. 2 s [choice].
const FAREWELL: Duration = Duration::from_secs(2);
/// Largest packets, B: the broker may send a retained message that another program made. 256 KiB [choice].
const PACKET: usize = 256 << 10;

/// A message. With `retain`, the broker keeps it for later subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub retain: bool,
}

/// An open connection.
pub struct Broker {
    client: AsyncClient,
    /// An acknowledgement, or why the connection ended.
    events: mpsc::Receiver<Result<(), String>>,
    polling: JoinHandle<()>,
    stop: Stop,
}

impl Broker {
    /// Connects. The broker sends `will` when it receives nothing from this program any more.
    ///
    /// # Errors
    /// Why there is no connection, and what to do.
    pub async fn connect(connect: &Connect, will: &Message, stop: Stop) -> Result<Self, String> {
        let Address { host, port, .. } = &connect.broker;
        let mut options = MqttOptions::new(client_id(will), host, *port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_max_packet_size(PACKET, PACKET);
        options.set_last_will(LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, will.retain));
        if let Some(Login { user, password }) = &connect.login {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &connect.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        let (client, mut polled) = AsyncClient::new(options, 1);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECTING.as_secs()).set_tcp_nodelay(true);
        polled.set_network_options(network);

        let told = connect.clone();
        let explained = move |error| explain(&told, &error);
        // The first event is the broker's acceptance of the connection.
        polled.poll().await.map_err(&explained)?;
        let (sender, events) = mpsc::channel(8);
        let polling = tokio::spawn(poll(polled, sender, explained));
        Ok(Self { client, events, polling, stop })
    }

    /// Sends a message, and waits until the broker has acknowledged it.
    ///
    /// # Errors
    /// Why the connection has failed. It must not be used any more then.
    pub async fn publish(&mut self, message: &Message) -> Result<(), String> {
        let Message { topic, payload, retain } = message;
        let sent = self.client.publish(topic, QoS::AtLeastOnce, *retain, payload.as_bytes().to_vec()).await;
        if sent.is_err() {
            return Err(self.failed().await);
        }
        let stop = self.stop.clone();
        let late = async move {
            tokio::select! {
                () = sleep(ACKNOWLEDGING) => {}
                () = async { stop.wished().await; sleep(FAREWELL).await } => {}
            }
        };
        tokio::select! {
            acknowledged = self.acknowledged() => acknowledged,
            () = late => Err(format!("the broker does not acknowledge what it is sent ({topic}); does it hang?")),
        }
    }

    async fn acknowledged(&mut self) -> Result<(), String> {
        self.events.recv().await.unwrap_or_else(|| Err(GONE.into()))
    }

    /// Waits until the connection fails, and returns why.
    pub async fn failed(&mut self) -> String {
        loop {
            match self.events.recv().await {
                Some(Ok(_)) => {}
                Some(Err(problem)) => return problem,
                None => return GONE.into(),
            }
        }
    }

    /// Disconnects in an orderly way, so that the broker does not send the last will.
    pub async fn leave(mut self) {
        // The connection ends even if the broker does not receive this.
        let _ = self.client.disconnect().await;
        let _ = timeout(FAREWELL, self.failed()).await;
    }
}

const GONE: &str = "the connection to the broker has gone";

impl Drop for Broker {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

/// Processes the events of the connection until it fails.
async fn poll(
    mut polled: EventLoop,
    events: mpsc::Sender<Result<(), String>>,
    explained: impl Fn(ConnectionError) -> String,
) {
    loop {
        let event = match polled.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => Ok(()),
            Ok(_) => continue,
            Err(error) => Err(explained(error)),
        };
        let is_end = event.is_err();
        if events.send(event).await.is_err() || is_end {
            return pending().await;
        }
    }
}

/// The id of this client: one for each machine and prefix, always the same, so that the broker closes an old connection
/// of this client.
fn client_id(will: &Message) -> String {
    let mut hasher = DefaultHasher::new();
    // If the machine has no id, only the prefix makes the client id unique.
    std::fs::read("/etc/machine-id").unwrap_or_default().hash(&mut hasher);
    will.topic.hash(&mut hasher);
    // Brokers must accept up to 23 letters and digits.
    format!("coft{:016x}", hasher.finish())
}

/// What has failed, and what to do.
fn explain(connect: &Connect, error: &ConnectionError) -> String {
    let Connect { broker, login, file, .. } = connect;
    let at = |why: &str| format!("the broker {broker} cannot be used: {why}");
    match error {
        ConnectionError::ConnectionRefused(code) => {
            use ConnectReturnCode::{BadUserNamePassword, NotAuthorized, ServiceUnavailable};
            match (code, login) {
                (BadUserNamePassword | NotAuthorized, None) => at(&format!(
                    "it wants a user and a password\n  user in {file}, and the password in /etc/credstore/{PASSWORD}"
                )),
                (BadUserNamePassword | NotAuthorized, Some(Login { user, .. })) => at(&format!(
                    "it does not let in the user {user:?} with this password\n  user in {file}, or the password in \
                     /etc/credstore/{PASSWORD}; then: systemctl restart coft-mqtt"
                )),
                (ServiceUnavailable, _) => at("it says that it is not available"),
                (code, _) => at(&format!("it does not let this program in ({code:?})")),
            }
        }
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => at(&format!(
            "it does not answer within {} s\n  does it hang, or is a firewall between?",
            CONNECTING.as_secs()
        )),
        ConnectionError::Io(error) => at(&of_network(error, broker, file)),
        ConnectionError::MqttState(StateError::Io(error)) => at(&of_network(error, broker, file)),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            at(&of_network(&io::ErrorKind::ConnectionAborted.into(), broker, file))
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => at("it does not answer any more"),
        ConnectionError::Tls(error) => at(&of_tls(error, broker, file)),
        ConnectionError::NotConnAck(_) | ConnectionError::MqttState(StateError::Deserialization(_)) => at(&format!(
            "what it answers is not MQTT\n  broker in {file}: does it want TLS (mqtts://), or is it \
                 another service's port?"
        )),
        error => at(&error.to_string()),
    }
}

fn of_network(error: &io::Error, broker: &Address, file: &str) -> String {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ConnectionRefused => format!(
            "nothing listens at port {} there\n  is it running? otherwise correct broker in {file}",
            broker.port
        ),
        ConnectionReset | ConnectionAborted | UnexpectedEof if broker.tls => "it has closed the connection".into(),
        ConnectionReset | ConnectionAborted | UnexpectedEof => {
            format!(
                "it has closed the connection\n  where it always does: does it want TLS (mqtts://)? broker in {file}"
            )
        }
        // Errors in resolving a name have no kind of their own.
        _ if error.to_string().contains("lookup") || error.to_string().contains("resolve") => {
            format!("its name is not known ({error})\n  broker in {file}")
        }
        _ => error.to_string(),
    }
}

fn of_tls(error: &TlsError, broker: &Address, file: &str) -> String {
    let inner = match error {
        TlsError::TLS(error) => Some(error),
        TlsError::Io(error) => error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    use rustls::Error::InvalidCertificate;
    match (inner, error) {
        (Some(InvalidCertificate(CertificateError::UnknownIssuer)), _) => {
            format!(
                "no authority that is trusted has signed its certificate\n  \
                 name the file of the right one: ca in {file}"
            )
        }
        (
            Some(InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )),
            _,
        ) => format!("its certificate is for another name than {}\n  use that name: broker in {file}", broker.host),
        (Some(InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })), _) => {
            "its certificate has expired, or the clock of this machine is wrong".into()
        }
        (Some(InvalidCertificate(cause)), _) => format!("its certificate is not valid: {cause}"),
        (Some(rustls::Error::InvalidMessage(_)), _) => {
            format!("it does not speak TLS at port {}\n  broker in {file}: another port, or mqtt://", broker.port)
        }
        (Some(cause), _) => format!("TLS: {cause}"),
        (None, TlsError::Io(error)) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                format!(
                    "it has closed the connection instead of speaking TLS\n  broker in {file}: another port, or mqtt://"
                )
            }
            _ => format!("TLS: {error}"),
        },
        (None, error) => format!("TLS: {error}"),
    }
}
