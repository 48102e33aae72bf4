//! Logging: to the journal if systemd started the program, otherwise to standard error.

use std::env;
use std::io;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub fn start() {
    let ours = Targets::new().with_target("coft_mqtt", LevelFilter::INFO).with_default(LevelFilter::ERROR);
    tracing_subscriber::registry().with(output()).with(ours).init();
}

fn output<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    if env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        return Box::new(journal.with_field_prefix(None).with_syslog_identifier("coft-mqtt".into()));
    }
    Box::new(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false))
}
