//! Logging: to the journal if standard error is a stream of the journal, otherwise for people on standard error.
//!
//! Each message is a sentence with all facts, since `journalctl` shows nothing else; programs find the facts in fields
//! as well.

pub mod events;

use coft_core::shown::shown;
use nix::sys::stat::fstat;
use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{DynFilterFn, EnvFilter, ParseError, dynamic_filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Context, Layer, Layered, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Filter of the log, in the syntax of `tracing-subscriber`: `debug`, `info,coftd::watch=trace`.
pub const FILTER_VARIABLE: &str = "COFT_LOG";
/// `notify=error`, because the watcher warns of each watch that has ended by itself.
const DEFAULT_FILTER: &str = "warn,notify=error,coftd=info";
/// Name of the service in the journal.
pub const SYSLOG_IDENTIFIER: &str = "coftd";

/// Starts logging for the whole process.
///
/// # Errors
/// The filter in the environment variable is invalid.
pub fn start() -> Result<LogControl, ParseError> {
    let filter = env::var(FILTER_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.into());
    let journal = tracing_journald::layer().ok();
    let goes_to_journal = env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(io::stderr(), &stream));
    let people = people(io::stderr, io::stderr().is_terminal());
    let (subscriber, control) = subscriber(filter, journal, goes_to_journal, people)?;
    subscriber.init();
    Ok(control)
}

/// Whether a descriptor is the stream that JOURNAL_STREAM names by device and inode (systemd.exec(5)). The variable
/// alone does not show it: a program that a service has started inherits the variable, but may have another standard
/// error.
fn is_stream(descriptor: impl AsFd, stream: &str) -> bool {
    fstat(descriptor).is_ok_and(|found| format!("{}:{}", found.st_dev, found.st_ino) == stream)
}

/// The subscriber that writes the log, to the journal or for people, and the handle that changes it.
fn subscriber(
    filter: String,
    journal: Option<tracing_journald::Layer>,
    goes_to_journal: bool,
    people: impl Layer<Filtering> + Send + Sync,
) -> Result<(impl Subscriber + Send + Sync, LogControl), ParseError> {
    let is_reached = journal.is_some();
    let to_journal = Arc::new(AtomicBool::new(is_reached && goes_to_journal));
    let (layer, handle) = reload::Layer::new(EnvFilter::try_new(&filter)?);
    let control = LogControl { filter, handle, to_journal: Arc::clone(&to_journal), is_reached };
    let journal = journal.map(|journal| {
        // Without a prefix, so that `message_id` arrives as MESSAGE_ID.
        let journal = journal.with_field_prefix(None).with_syslog_identifier(SYSLOG_IDENTIFIER.into());
        // The same priorities as in LogLevel of org.freedesktop.LogControl1(5).
        let journal = journal.with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            trace: Priority::Debug,
            ..PriorityMappings::new()
        });
        journal.with_filter(while_it_is(&to_journal, true))
    });
    let people = people.with_filter(while_it_is(&to_journal, false));
    Ok((tracing_subscriber::registry().with(layer).with(people).with(journal), control))
}

/// Passes events while `flag` equals `wanted`, and always passes spans: the target may change while a span lasts.
fn while_it_is<S>(
    flag: &Arc<AtomicBool>,
    wanted: bool,
) -> DynFilterFn<S, impl Fn(&Metadata<'_>, &Context<'_, S>) -> bool + use<S>> {
    let flag = Arc::clone(flag);
    dynamic_filter_fn(move |metadata, _| metadata.is_span() || flag.load(Ordering::Relaxed) == wanted)
}

/// The registry with the filter of the whole log.
type Filtering = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// Changes the log while the service runs; levels and targets have the names of org.freedesktop.LogControl1(5).
#[derive(Clone)]
pub struct LogControl {
    /// The filter that the service was started with.
    filter: String,
    handle: reload::Handle<EnvFilter, Registry>,
    to_journal: Arc<AtomicBool>,
    /// Whether the journal could be reached at the start.
    is_reached: bool,
}

/// Why the log was not changed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LogError {
    #[error("no log level {0:?}; it has to be one of emerg, alert, crit, err, warning, notice, info, debug")]
    Level(String),
    #[error("no log target {0:?}; it has to be journal or console")]
    Target(String),
    #[error("the journal did not listen when the service was started")]
    NoJournal,
    #[error("the log cannot be changed: {0}")]
    Failed(String),
}

impl LogControl {
    /// A control whose log nobody reads.
    #[cfg(test)]
    pub fn of_tests() -> Self {
        let (subscriber, control) = subscriber(DEFAULT_FILTER.into(), None, false, people(io::sink, false)).unwrap();
        // The log can be changed only as long as its subscriber exists.
        std::mem::forget(subscriber);
        control
    }

    /// The least urgent level that is logged.
    pub fn level(&self) -> &'static str {
        let level = self.handle.with_current(EnvFilter::max_level_hint).ok().flatten();
        match level.unwrap_or(LevelFilter::TRACE) {
            LevelFilter::OFF => "emerg",
            LevelFilter::ERROR => "err",
            LevelFilter::WARN => "warning",
            LevelFilter::INFO => "info",
            _ => "debug",
        }
    }

    /// Logs messages of this level and more urgent ones. The level of the start restores the filter of the start.
    ///
    /// # Errors
    /// There is no level of this name.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = match level {
            "emerg" | "alert" | "crit" | "err" => "error",
            "warning" => "warn",
            // The messages of other crates are useful only for their developers.
            "notice" | "info" => "warn,notify=error,coft=info",
            "debug" => "warn,notify=error,coft=debug",
            _ => return Err(LogError::Level(level.into())),
        };
        let parsed = |filter: &str| EnvFilter::try_new(filter).map_err(|error| LogError::Failed(error.to_string()));
        let (first, wanted) = (parsed(&self.filter)?, parsed(filter)?);
        let chosen = if first.max_level_hint() == wanted.max_level_hint() { first } else { wanted };
        self.handle.reload(chosen).map_err(|error| LogError::Failed(error.to_string()))
    }

    pub fn target(&self) -> &'static str {
        if self.to_journal.load(Ordering::Relaxed) { "journal" } else { "console" }
    }

    /// Writes to the journal, or to standard error.
    ///
    /// # Errors
    /// There is no target of this name, or the journal cannot be reached.
    pub fn set_target(&self, target: &str) -> Result<(), LogError> {
        let to_journal = match target {
            "journal" if self.is_reached => true,
            "journal" => return Err(LogError::NoJournal),
            "console" => false,
            _ => return Err(LogError::Target(target.into())),
        };
        self.to_journal.store(to_journal, Ordering::Relaxed);
        Ok(())
    }
}

/// A layer that writes the sentences without their fields.
fn people<S, W>(writer: W, colours: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let sentence = debug_fn(|out, field, value| match field.name() {
        // Line breaks stay; control characters that a terminal would obey are escaped. Names in the text are escaped
        // already, see [`coft_core::shown`].
        "message" => {
            let text = format!("{value:?}");
            let lines: Vec<_> = text.split('\n').map(|line| shown(line.as_bytes())).collect();
            write!(out, "{}", lines.join("\n"))
        }
        // A field of the span: the classifier that the line is about, if there are several.
        "coft.classifier" => write!(out, "{value:?}"),
        _ => Ok(()),
    });
    tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours).fmt_fields(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::{Read, Seek};
    use tracing::{debug, error, warn};

    #[test]
    fn message_ids_are_ids_and_unique() {
        for (name, id) in events::ALL {
            assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{name}: {id}");
        }
        let ids: HashSet<_> = events::ALL.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), events::ALL.len());
    }

    /// The catalogue explains every message id to people who look it up, and nothing else.
    #[test]
    fn the_catalogue_of_the_journal_explains_every_message_id() {
        let entries: Vec<&str> = CATALOGUE.split("\n-- ").skip(1).collect();
        let explained: Vec<&str> = entries.iter().map(|entry| entry.lines().next().unwrap()).collect();
        for (name, id) in events::ALL {
            assert_eq!(explained.iter().filter(|known| *known == id).count(), 1, "{name}: {id}");
        }
        assert_eq!(explained.len(), events::ALL.len());
        for entry in entries {
            let (head, text) = entry.split_once("\n\n").expect("a head and a text");
            let lines: Vec<&str> = head.lines().skip(1).collect();
            assert!(lines[0].starts_with("Subject: ") && lines[1] == "Defined-By: coft", "{entry}");
            assert!(text.trim().len() > 60, "it says what to do: {entry}");
        }
    }

    const CATALOGUE: &str = include_str!("../../packaging/coft.catalog");

    /// What people read of what `logging` writes to the log; `logging` can also change the log.
    fn read_of(logging: impl FnOnce(&LogControl)) -> String {
        let file = tempfile::tempfile().unwrap();
        let writer = Arc::new(file.try_clone().unwrap());
        let (subscriber, control) = subscriber(DEFAULT_FILTER.into(), None, true, people(writer, false)).unwrap();
        tracing::subscriber::with_default(subscriber, || logging(&control));
        let (mut file, mut log) = (file, String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut log).unwrap();
        log
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let log = read_of(|_| error!("round 7 failed: \x1b[2Jgone\nsee above"));
        assert!(log.ends_with("round 7 failed: \\x1b[2Jgone\nsee above\n"), "{log:?}");
    }

    #[test]
    fn people_read_sentences_without_fields() {
        let log = read_of(|_| {
            let (round, problem) = (7, "no space");
            error!(message_id = events::JOB_FAILED, coft.job = round, problem, "round {round} failed: {problem}");
        });
        assert!(log.ends_with("ERROR coftd::telemetry::tests: round 7 failed: no space\n"), "{log}");
    }

    #[test]
    fn the_level_changes_while_the_service_runs() {
        let log = read_of(|control| {
            let say = |what: &str| {
                debug!("{what}: debug");
                warn!("{what}: warning");
                error!("{what}: error");
                debug!(target: "zbus", "{what}: of others");
            };
            assert_eq!(control.level(), "info");
            say("first");
            for level in ["debug", "err", "info"] {
                control.set_level(level).unwrap();
                assert_eq!(control.level(), level);
                say(level);
            }
            assert_eq!(control.set_level("loud"), Err(LogError::Level("loud".into())));
            assert_eq!(control.level(), "info");
        });
        let said: Vec<&str> = log.lines().filter_map(|line| line.split_once("tests: ")).map(|(_, said)| said).collect();
        let wanted = [
            ["first: warning", "first: error"].as_slice(),
            &["debug: debug", "debug: warning", "debug: error"],
            &["err: error"],
            &["info: warning", "info: error"],
        ];
        assert_eq!(said, wanted.concat(), "{log}");
        assert!(!log.contains("of others"), "{log}");
    }

    #[test]
    fn without_a_journal_the_log_goes_to_people() {
        let log = read_of(|control| {
            assert_eq!(control.target(), "console");
            assert_eq!(control.set_target("journal"), Err(LogError::NoJournal));
            assert_eq!(control.set_target("kmsg"), Err(LogError::Target("kmsg".into())));
            assert_eq!(control.set_target("console"), Ok(()));
            warn!("heard");
        });
        assert!(log.contains("heard"), "{log}");
    }

    /// A program that a service started with another standard error logged into the journal nevertheless.
    #[test]
    fn the_journal_s_stream_is_known_by_device_and_inode() {
        let (ours, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let found = fstat(&ours).unwrap();
        let stream = format!("{}:{}", found.st_dev, found.st_ino);
        assert!(is_stream(&ours, &stream) && !is_stream(&other, &stream));
        assert!(!is_stream(&ours, "") && !is_stream(&ours, &format!("{stream}0")));
    }
}
