//! What the pictures show, sent to a real broker: without gaps and repeats, whichever comes and goes.

use super::*;
use coft_harness::broker::Broker;
use coft_harness::programs::ends_with_us;
use image::{Rgb, RgbImage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// What a broker keeps over a stop, sessions of subscribers among it.
const KEEPING: &str = "allow_anonymous true\npersistence true\npersistence_location DIR/\n";

/// A coft-mqtt on a site's bus.
struct Bridge {
    process: Child,
    log: PathBuf,
}

impl Bridge {
    fn start(site: &Site, config: &str) -> Self {
        Self::start_with(site, config, None)
    }

    fn start_with(site: &Site, config: &str, credentials: Option<&Path>) -> Self {
        let dir = site.dir().join("mqtt");
        fs::create_dir_all(&dir).unwrap();
        let (file, log) = (dir.join("mqtt.toml"), dir.join("log"));
        fs::write(&file, config).unwrap();
        let out = fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(Programs::of_this_test().unwrap().coft_mqtt());
        command.arg("--config").arg(file).arg("--state-dir").arg(&dir).args(["--bus", site.bus_address()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out).env_remove("CREDENTIALS_DIRECTORY");
        command.envs(credentials.map(|dir| ("CREDENTIALS_DIRECTORY", dir)));
        Self { process: ends_with_us(&mut command).spawn().unwrap(), log }
    }

    /// Ends it as systemd would.
    fn stop(mut self) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has said this so many times.
    fn says(&self, what: &str, times: usize) {
        until(|| (self.log().matches(what).count() >= times).then_some(()), || format!("{what}: {}", self.log()));
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It goes on until it is ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn until<T>(mut there: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let since = Instant::now();
    loop {
        if let Some(there) = there() {
            return there;
        }
        assert!(since.elapsed() < LIMIT, "{}", told());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the broker keeps this under a topic.
pub fn keeps(broker: &Broker, topic: &str, payload: &str) {
    let kept = || broker.retained("#").unwrap();
    until(
        || kept().contains(&(topic.to_owned(), payload.to_owned())).then_some(()),
        || format!("{topic} {payload}: {:?}", kept()),
    );
}

/// Somebody who listens for answers, with a session that the broker keeps.
pub struct Subscriber(Receiver<(Value, bool)>);

impl Subscriber {
    pub fn start(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("subscriber", "127.0.0.1", broker.port());
        options.set_clean_session(false);
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("coft/+/observation", QoS::AtLeastOnce).unwrap();
        let (sender, receiver) = channel();
        let (subscribed, is_subscribed) = channel();
        std::thread::spawn(move || {
            // As long as there is a client, it connects again.
            let _client = client;
            for event in connection.iter() {
                let heard = match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let answer: Value = serde_json::from_slice(&publish.payload).unwrap();
                        sender.send((answer, publish.dup)).is_ok()
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        // It is waited for once; each connection subscribes anew.
                        let _ = subscribed.send(());
                        true
                    }
                    Ok(_) => true,
                    Err(_) => {
                        std::thread::sleep(Duration::from_millis(100));
                        true
                    }
                };
                if !heard {
                    return;
                }
            }
        });
        is_subscribed.recv_timeout(LIMIT).expect("it subscribes");
        Self(receiver)
    }

    /// The next answer, and whether the broker delivers it once more.
    pub fn next(&self) -> Option<(Value, bool)> {
        self.0.recv_timeout(LIMIT).ok()
    }

    /// Hears the answers up to a number, each once and in their order.
    fn hears(&self, from: u64, to: u64, bridge: &Bridge) {
        let mut wanted = from;
        while wanted <= to {
            let heard = self.next();
            let (answer, is_redelivered) =
                heard.unwrap_or_else(|| panic!("{wanted} of {to} does not come: {}", bridge.log()));
            let sequence = answer["sequence"].as_u64().unwrap();
            // The broker itself delivers a message again that the subscriber had not acknowledged when it stopped.
            if is_redelivered && sequence < wanted {
                continue;
            }
            assert_eq!(sequence, wanted, "{}", bridge.log());
            wanted += 1;
        }
    }
}

/// Distinct small pictures, which appear as a careful camera has them appear.
fn put(site: &Site, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let picture = RgbImage::from_fn(64, 48, |x, y| Rgb([(number >> 8) as u8, number as u8, (x * y % 251) as u8]));
        let part = site.watched().join(format!(".{number:04}.png"));
        picture.save(&part).unwrap();
        fs::rename(&part, site.watched().join(format!("{number:04}.png"))).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A site whose first generation serves.
fn served() -> Site {
    let mut site = site(QUICK);
    site.start().unwrap();
    first_generation(&site);
    site
}

pub fn config(broker: &Broker) -> String {
    format!("broker = \"mqtt://127.0.0.1:{}\"\n", broker.port())
}

/// Name of the site's source in topics.
fn source(site: &Site) -> String {
    let path = site.watched().to_str().unwrap().to_owned();
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The state as coftd tells it, once nothing waits for an answer.
fn state(site: &Site, answers: u64) -> String {
    let property = |name: &str| {
        let object = ["org.coft.Coft1", "/org/coft/Coft1/sources/0", "org.coft.Coft1.Source"];
        let mut busctl = Command::new("busctl");
        let output = busctl.arg(format!("--address={}", site.bus_address())).arg("get-property").args(object).arg(name);
        let output = output.output().expect("busctl is there; `cargo xtask setup` installs it");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once(' ').map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
    };
    until(
        || (property("LastSequence") == answers.to_string()).then(|| property("State")),
        || format!("{answers} answers: {}", property("LastSequence")),
    )
}

#[test]
fn nothing_is_lost_or_doubled_whichever_comes_and_goes() {
    let mut broker = Broker::start(KEEPING).unwrap();
    let subscriber = Subscriber::start(&broker);
    let mut site = served();
    // Not sent: it has come before.
    put(&site, 0..1);
    state(&site, 1);
    let told = config(&broker) + "discovery = true\n";
    let bridge = Bridge::start(&site, &told);
    keeps(&broker, "coft/status", "online");
    put(&site, 1..20);
    subscriber.hears(2, 20, &bridge);

    // The broker, while answers are on their way to it.
    put(&site, 20..30);
    broker.stop().unwrap();
    put(&site, 30..40);
    broker.start_again().unwrap();
    put(&site, 40..50);
    subscriber.hears(21, 50, &bridge);
    keeps(&broker, "coft/status", "online");

    // coftd.
    put(&site, 50..60);
    site.kill().unwrap();
    keeps(&broker, "coft/status", "offline");
    put(&site, 60..70);
    site.start().unwrap();
    subscriber.hears(51, 70, &bridge);
    keeps(&broker, "coft/status", "online");

    // The bridge.
    put(&site, 70..75);
    bridge.stop();
    keeps(&broker, "coft/status", "offline");
    put(&site, 75..90);
    let mut bridge = Bridge::start(&site, &told);
    subscriber.hears(71, 90, &bridge);

    // What the broker keeps is what coftd says.
    let name = source(&site);
    let state = state(&site, 90);
    keeps(&broker, &format!("coft/{name}/state"), &state);
    keeps(&broker, "coft/status", "online");
    let kept = broker.retained("#").unwrap();
    let json = |topic: &str| -> Value {
        let (_, payload) = kept.iter().find(|(there, _)| there == topic).unwrap_or_else(|| panic!("{topic}: {kept:?}"));
        serde_json::from_str(payload).unwrap()
    };
    let sensor = json(&format!("homeassistant/sensor/coft_{name}/config"));
    assert_eq!(sensor["state_topic"], format!("coft/{name}/state"));
    // A source tells of itself at most once a second: what the broker keeps becomes what the bus says.
    let (topic, since) = (format!("coft/{name}/attributes"), Instant::now());
    loop {
        let kept = broker.retained(&topic).unwrap();
        let told: Value = serde_json::from_str(&kept[0].1).unwrap();
        let last = last_image(&site);
        if told["last_image"] == last.as_str() && !last.is_empty() {
            break;
        }
        assert!(since.elapsed() < LIMIT, "{told} and {last}");
        std::thread::sleep(Duration::from_millis(100));
    }

    // Its last will, where it cannot take leave.
    bridge.process.kill().unwrap();
    keeps(&broker, "coft/status", "offline");

    // Discovery that is switched off is taken back.
    let _bridge = Bridge::start(&site, &config(&broker));
    keeps(&broker, "coft/status", "online");
    assert!(broker.retained("homeassistant/#").unwrap().is_empty());
}

/// The picture that came last, as the bus tells it.
fn last_image(site: &Site) -> String {
    let address = format!("--address={}", site.bus_address());
    let property = ["/org/coft/Coft1/sources/0", "org.coft.Coft1.Source", "LastImage"];
    let mut busctl = Command::new("busctl");
    let output = busctl.args([&address, "get-property", "org.coft.Coft1"]).args(property).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // `s "0af3…"`
    String::from_utf8(output.stdout).unwrap().trim().trim_start_matches("s ").trim_matches('"').to_owned()
}

/// It knew the sources that were there when it was started.
#[test]
fn a_source_that_comes_while_the_service_runs_is_sent_and_one_that_goes_is_forgotten() {
    let broker = Broker::start("allow_anonymous true\n").unwrap();
    let site = served();
    let bridge = Bridge::start(&site, &(config(&broker) + "discovery = true\n"));
    keeps(&broker, "coft/status", "online");
    let subscriber = Subscriber::start(&broker);
    let lamps = site.dir().join("lamps");
    fs::create_dir(&lamps).unwrap();
    let words = ["classifier", "create", "lamps", "--labels", "hex nut,hex bolt"];
    site.json(&words).unwrap();
    site.json(&["--classifier", "lamps", "source", "add", lamps.to_str().unwrap(), "--name", "hall"]).unwrap();
    let is_known = |broker: &Broker| broker.retained("#").unwrap().iter().any(|(topic, _)| topic == "coft/hall/state");
    until(|| is_known(&broker).then_some(()), || bridge.log());
    RgbImage::from_pixel(64, 48, Rgb([9, 99, 199])).save(lamps.join("a.png")).unwrap();
    let (answer, _) = subscriber.next().unwrap_or_else(|| panic!("{}", bridge.log()));
    assert_eq!((&answer["source"], &answer["classifier"]), (&"hall".into(), &"lamps".into()), "{answer}");
    let of_home_assistant = |broker: &Broker| {
        let kept = broker.retained("#").unwrap();
        let binary = "homeassistant/binary_sensor/coft_hall/config";
        kept.iter().any(|(topic, payload)| topic == binary && !payload.is_empty())
    };
    // Its classes are known a moment after it.
    until(|| of_home_assistant(&broker).then_some(()), || bridge.log());

    site.json(&["classifier", "remove", "lamps", "--purge"]).unwrap();
    until(|| (!is_known(&broker) && !of_home_assistant(&broker)).then_some(()), || bridge.log());
    keeps(&broker, "coft/status", "online");
    bridge.stop();
}

/// A broker that has forgotten everything is told everything.
#[test]
fn a_broker_that_lost_what_it_kept_is_told_it_again() {
    let mut broker = Broker::start("allow_anonymous true\n").unwrap();
    let site = served();
    let bridge = Bridge::start(&site, &config(&broker));
    keeps(&broker, "coft/status", "online");
    put(&site, 0..6);
    let (topic, state) = (format!("coft/{}/state", source(&site)), state(&site, 6));
    keeps(&broker, &topic, &state);
    broker.kill().unwrap();
    broker.start_again().unwrap();
    keeps(&broker, "coft/status", "online");
    keeps(&broker, &topic, &state);
    // One that hangs is given up, and used again when it answers.
    broker.signal(Signal::SIGSTOP).unwrap();
    put(&site, 6..7);
    bridge.says("does not acknowledge", 1);
    broker.signal(Signal::SIGCONT).unwrap();
    bridge.says("go to mqtt://", 3);
    keeps(&broker, "coft/status", "online");
}

/// What goes wrong is told once, with what to do, and mended without a restart where it can be.
#[test]
fn what_is_wrong_with_a_broker_is_told_with_what_to_do() {
    let mut broker = Broker::start("allow_anonymous true\n").unwrap();
    let mut site = site(QUICK);
    site.spawn().unwrap();
    broker.stop().unwrap();
    let bridge = Bridge::start(&site, &config(&broker));
    bridge.says("nothing listens at port", 1);
    // Tried again, and not told again.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(bridge.log().matches("nothing listens").count(), 1, "{}", bridge.log());
    broker.start_again().unwrap();
    keeps(&broker, "coft/status", "online");
    bridge.stop();

    broker.stop().unwrap();
    let passwords = broker.dir().join("passwords");
    let made = Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args(["cam", "right"]).status();
    assert!(made.unwrap().success());
    broker.configure("allow_anonymous false\npassword_file DIR/passwords\n").unwrap();
    broker.start_again().unwrap();
    Bridge::start(&site, &config(&broker)).says("it wants a user and a password", 1);

    let credentials = site.dir().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let as_cam = config(&broker) + "user = \"cam\"\n";
    let mut without = Bridge::start_with(&site, &as_cam, Some(&credentials));
    assert_eq!(without.process.wait().unwrap().code(), Some(2));
    without.says("/etc/credstore/coft-mqtt.password", 1);

    fs::remove_file(site.dir().join("mqtt/log")).unwrap();
    let password = |text: &str| fs::write(credentials.join("coft-mqtt.password"), text).unwrap();
    password("wrong\n");
    let bridge = Bridge::start_with(&site, &as_cam, Some(&credentials));
    bridge.says("it does not let in the user \"cam\"", 1);
    drop(bridge);
    password("right\n");
    let bridge = Bridge::start_with(&site, &as_cam, Some(&credentials));
    bridge.says("go to mqtt://", 1);
}

#[test]
fn a_mistake_in_the_configuration_ends_it_with_the_line() {
    let site = site(QUICK);
    let mut bridge = Bridge::start(&site, "states = true\nbroker = \"localhost\"\n");
    assert_eq!(bridge.process.wait().unwrap().code(), Some(2));
    bridge.says("mqtt.toml: line 2: broker \"localhost\"", 1);
}

/// Runs openssl in a directory.
fn openssl(dir: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(dir).output();
    let output = output.expect("openssl is there; `cargo xtask setup` installs it");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_broker_over_tls_is_trusted_for_its_name_and_by_its_authority_alone() {
    let mut broker = Broker::start("allow_anonymous true\n").unwrap();
    let (dir, port) = (broker.dir().to_owned(), broker.port());
    openssl(&dir, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=authority");
    openssl(&dir, "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost");
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        &dir,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 3650 -extfile names",
    );
    let mut site = site(QUICK);
    site.spawn().unwrap();
    let tls = |host: &str, more: &str| format!("broker = \"mqtts://{host}:{port}\"\n{more}");
    let ca = format!("ca = {:?}\n", dir.join("ca.pem"));
    Bridge::start(&site, &tls("localhost", &ca)).says("it has closed the connection instead of speaking TLS", 1);

    broker.stop().unwrap();
    broker.configure("allow_anonymous true\ncertfile DIR/cert.pem\nkeyfile DIR/key.pem\n").unwrap();
    broker.start_again().unwrap();
    Bridge::start(&site, &tls("localhost", "")).says("no authority that is trusted has signed its certificate", 1);
    Bridge::start(&site, &tls("127.0.0.1", &ca)).says("its certificate is for another name than 127.0.0.1", 1);
    Bridge::start(&site, &config(&broker)).says("does it want TLS", 1);
    Bridge::start(&site, &tls("localhost", &ca)).says("go to mqtts://localhost", 1);
}
