//! Logging: to the journal where systemd started the service, to people otherwise; and the table of message ids.
//!
//! A line's sentence states the facts, since `journalctl` shows nothing else; programs find them in its fields as well.

use coft_core::shown::shown;
use std::env;
use std::io::{self, IsTerminal};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Filter of the log, in the syntax of `tracing-subscriber`: `debug`, `info,coftd::watch=trace`.
pub const FILTER_VARIABLE: &str = "COFT_LOG";
/// The watcher warns of each watch that has ended by itself.
const DEFAULT_FILTER: &str = "warn,notify=error,coftd=info";

/// Ids of the messages that programs may look for in the journal (`journalctl MESSAGE_ID=…`). Never reused.
pub mod events {
    macro_rules! ids {
        ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = $id;)*
            #[cfg(test)]
            pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $id)),*];
        };
    }
    ids! {
        /// The service answers on the bus.
        STARTED = "d2db6154117f1b082cd830f903350aaa";
        STOPPING = "a87aa4629fbb3760e1aadd92086d8329";
        /// The configuration was read again and is used.
        RELOADED = "00f1aa3c3cc803a5dd5b21832be7d479";
        /// The configuration was read again, and the old one stays.
        NOT_RELOADED = "d0c5450cdab446bffe6ac629e0afc805";
        SOURCE_WATCHED = "546e9e3808ccc2535b5eb6432ad3ec5c";
        SOURCE_PROBLEM = "e5edea5a681859320ff58d92e755dc29";
        /// A file holds no usable image.
        QUARANTINED = "e8bced0060663aaf9a7e6262beaa99ef";
        /// Images cannot be stored now; they are tried again.
        INTAKE_TROUBLE = "1a44282c1bbb979bcf0267618d875794";
        /// The catalogue was damaged; a new one took its place.
        CATALOG_REBUILT = "17766966e227467190823cdc2fa30b48";
        /// Something that a setting names is not there yet, or has changed since it was read.
        SETUP_PROBLEM = "5a90a7a8b44845518f1668cdbc35a4a2";
        /// What was missing is there now.
        SETUP_COMPLETE = "19b20407786e49d6ad1e3ece81ead7df";
        ROUND_STARTED = "63fe3ce188a74e628ed0d2ee95d6fc3f";
        ROUND_WARNING = "9b63e54bd631aa7e0400439daa90ec2b";
        ROUND_FAILED = "e10f58dd1243c71c373f50ed5efc10d8";
        ROUND_CANCELLED = "3e76fa002cbc9f3f5a76a297812f56be";
        ROUND_INTERRUPTED = "3b9aebe8301361b7dfddaecd84de778a";
        /// A candidate was not good enough.
        KEPT = "889eccf308fd62789a4aa88367570684";
        /// A candidate became the active generation.
        PROMOTED = "eb16d15034096090e3880a46e5d64221";
        /// A person is asked whether a candidate is better than what serves.
        REVIEW_OPENED = "d421b6cd643d4c6f84c4ffeebe30bdd0";
        /// The person's labels have decided.
        REVIEW_DECIDED = "a76c2ee739ed40a2847851d1a3a97e22";
        /// A generation answers requests.
        SERVING = "32687681757b9cfca174a6fbf8f0be3c";
        /// The active generation cannot be loaded.
        NOT_SERVING = "b9588ff83687a5babbc90456ae385dca";
    }
}

/// Starts logging for the whole process.
pub fn start() -> Result<(), ParseError> {
    let filter = match env::var(FILTER_VARIABLE) {
        Ok(filter) => EnvFilter::try_new(filter)?,
        Err(_) => EnvFilter::new(DEFAULT_FILTER),
    };
    tracing_subscriber::registry().with(output()).with(filter).init();
    Ok(())
}

/// The journal where it listens, people on standard error otherwise.
fn output<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    if env::var_os("JOURNAL_STREAM").is_some() {
        // Without a prefix, so that `message_id` arrives as MESSAGE_ID.
        if let Ok(journal) = tracing_journald::layer() {
            return Box::new(journal.with_field_prefix(None).with_syslog_identifier("coftd".into()));
        }
    }
    Box::new(people(io::stderr, io::stderr().is_terminal()))
}

/// Writes sentences alone.
fn people<S, W>(writer: W, colours: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let sentence = debug_fn(|out, field, value| match field.name() {
        // Lines may follow lines; what a terminal would obey is shown. Names in it have been, see [`coft_core::shown`].
        "message" => {
            let text = format!("{value:?}");
            let lines: Vec<_> = text.split('\n').map(|line| shown(line.as_bytes())).collect();
            write!(out, "{}", lines.join("\n"))
        }
        _ => Ok(()),
    });
    tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours).fmt_fields(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::{Read, Seek};
    use std::sync::Arc;
    use tracing::error;

    #[test]
    fn message_ids_are_ids_and_unique() {
        for (name, id) in events::ALL {
            assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{name}: {id}");
        }
        let ids: HashSet<_> = events::ALL.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), events::ALL.len());
    }

    /// What people read of what is logged meanwhile.
    fn read_of(logging: impl FnOnce()) -> String {
        let file = tempfile::tempfile().unwrap();
        let writer = Arc::new(file.try_clone().unwrap());
        let subscriber = tracing_subscriber::registry().with(people(writer, false));
        tracing::subscriber::with_default(subscriber, logging);
        let (mut file, mut log) = (file, String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut log).unwrap();
        log
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let log = read_of(|| error!("round 7 failed: \x1b[2Jgone\nsee above"));
        assert!(log.ends_with("round 7 failed: \\x1b[2Jgone\nsee above\n"), "{log:?}");
    }

    #[test]
    fn people_read_sentences_without_fields() {
        let log = read_of(|| {
            let (round, problem) = (7, "no space");
            error!(message_id = events::ROUND_FAILED, coft.round = round, problem, "round {round} failed: {problem}");
        });
        assert!(log.ends_with("ERROR coftd::telemetry::tests: round 7 failed: no space\n"), "{log}");
    }
}
