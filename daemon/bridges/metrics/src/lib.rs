//! coft's metrics, read from the bus, as text for Prometheus: the exporter serves the text, and coftctl prints it.
//!
//! `read` asks the service, `family` defines what a metric consists of. This crate knows nothing of HTTP.

mod family;
mod read;

use family::{Families, Family};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use zbus::Connection;

/// `Content-Type` of [`Metrics::prometheus`].
pub const PROMETHEUS: &str = prometheus_text::CONTENT_TYPE;
/// `Content-Type` of [`Metrics::openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One reading of all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Why the only metric is `coft_up 0`, if it is.
    pub away: Option<String>,
}

impl Metrics {
    /// Reads the metrics from the service. This does not start the service. If it does not answer, the only metric is
    /// `coft_up`, with the value 0.
    pub async fn read(connection: &Connection) -> Self {
        match read::all(connection).await {
            Ok(families) => Self::new(families, None),
            Err(why) => Self::away(why),
        }
    }

    /// The metrics of a service that cannot be asked, with the reason.
    pub fn away(why: String) -> Self {
        Self::new(vec![Family::up(false)], Some(why))
    }

    fn new(families: Vec<Family>, away: Option<String>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Families(families)));
        Self { registry, away }
    }

    /// The text format of Prometheus, version 0.0.4, which node_exporter reads from files and promtool checks.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }

    /// OpenMetrics 1.0.
    pub fn openmetrics(&self) -> String {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry).expect("a String takes everything");
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Metrics {
        let images = Family::counter("coft_images", "Images that were taken in.").with("classifier", [("parts", 12.0)]);
        let quoted = Family::gauge("coft_source_state", "What the latest pictures show together.");
        let quoted = quoted.and(vec![("source", "/srv/a \"b\"\\c".into()), ("state", "hex\nnut".into())], 1.0);
        let since = Family::gauge("coft_source_state_since_timestamp", "When it became so.").in_seconds();
        let since = since.with("source", [("/srv/a", 1_767_225_600.0), ("/srv/b", 0.5)]);
        let empty = Family::gauge("coft_nothing", "Nothing has this.");
        Metrics::new(vec![Family::up(true), images, quoted, since, empty], None)
    }

    #[test]
    fn prometheus_reads_counters_by_their_whole_names() {
        let text = some().prometheus();
        assert_eq!(
            text,
            "# HELP coft_up Whether coftd answers on the bus.\n\
             # TYPE coft_up gauge\n\
             coft_up 1\n\
             # HELP coft_images_total Images that were taken in.\n\
             # TYPE coft_images_total counter\n\
             coft_images_total{classifier=\"parts\"} 12\n\
             # HELP coft_source_state What the latest pictures show together.\n\
             # TYPE coft_source_state gauge\n\
             coft_source_state{source=\"/srv/a \\\"b\\\"\\\\c\",state=\"hex\\nnut\"} 1\n\
             # HELP coft_source_state_since_timestamp_seconds When it became so.\n\
             # TYPE coft_source_state_since_timestamp_seconds gauge\n\
             coft_source_state_since_timestamp_seconds{source=\"/srv/a\"} 1767225600\n\
             coft_source_state_since_timestamp_seconds{source=\"/srv/b\"} 0.5\n"
        );
    }

    #[test]
    fn openmetrics_has_units_and_an_end() {
        let text = some().openmetrics();
        for line in [
            "# TYPE coft_images counter",
            "coft_images_total{classifier=\"parts\"} 12",
            "# UNIT coft_source_state_since_timestamp_seconds seconds",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn what_is_counted_by_bounds_is_a_histogram() {
        let buckets = [(0.5, 3), (1.0, 0), (f64::INFINITY, 1)];
        let delay = Family::histogram("coft_answer_delay", "How long it took.", 7.25, &buckets).in_seconds();
        assert_eq!(
            Metrics::new(vec![delay], None).prometheus(),
            "# HELP coft_answer_delay_seconds How long it took.\n\
             # TYPE coft_answer_delay_seconds histogram\n\
             coft_answer_delay_seconds_bucket{le=\"0.5\"} 3\n\
             coft_answer_delay_seconds_bucket{le=\"1\"} 3\n\
             coft_answer_delay_seconds_bucket{le=\"+Inf\"} 4\n\
             coft_answer_delay_seconds_sum 7.25\n\
             coft_answer_delay_seconds_count 4\n"
        );
    }

    #[test]
    fn a_service_that_is_away_is_down_and_nothing_else() {
        let away = Metrics::away("it does not run".into());
        assert_eq!(away.prometheus().lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["coft_up 0"]);
        assert_eq!(away.away.as_deref(), Some("it does not run"));
    }
}
