//! What coft measures, as Prometheus is served it, checked by Prometheus' own tool.

use super::*;
use coft_harness::programs::ends_with_us;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

struct Exporter {
    process: Child,
    address: String,
}

impl Exporter {
    fn start(site: &Site) -> Self {
        let mut command = Command::new(Programs::of_this_test().unwrap().coft_exporter());
        command.args(["--listen", "127.0.0.1:0", "--bus", site.bus_address()]).stderr(Stdio::piped());
        let mut process = ends_with_us(&mut command).spawn().unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        let address = said.trim().strip_prefix("serving http://").and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("{said}")).to_owned();
        std::thread::spawn(move || stderr.lines().count());
        Self { process, address }
    }

    /// Head and body of what is answered.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{request}\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        (head.to_owned(), body.to_owned())
    }

    fn metrics(&self) -> String {
        let (head, body) = self.ask("GET /metrics HTTP/1.1");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It serves until it is ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets promtool look for mistakes: names, units, types and help.
fn check(metrics: &str) {
    let mut promtool = Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("promtool is there; `cargo xtask setup` installs it");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{metrics}", String::from_utf8_lossy(&output.stderr));
}

/// The value of a sample, by its name and labels as they are written.
fn value(metrics: &str, sample: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse().unwrap()
}

/// Names and labels, without what moves on.
fn samples(metrics: &str) -> Vec<&str> {
    metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|s| s.0)
        .collect()
}

#[test]
fn prometheus_is_served_what_coftd_says_and_that_it_is_away() {
    let mut site = serving(QUICK, 1);
    fs::write(site.watched().join("none.jpg"), "no picture").unwrap();
    site.wait("a refused file", LIMIT, |status| status["quarantined"] == 1).unwrap();
    let exporter = Exporter::start(&site);
    let (pictures, source) = (PARTS.len() as f64, site.watched().display().to_string());
    let answered = format!("coft_source_answers_total{{source=\"{source}\"}}");
    let since = std::time::Instant::now();
    let metrics = loop {
        let metrics = exporter.metrics();
        if value(&metrics, &answered) == pictures {
            break metrics;
        }
        assert!(since.elapsed() < LIMIT, "{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    };
    check(&metrics);
    for (sample, expected) in [
        ("coft_up".into(), 1.0),
        ("coft_images_total{classifier=\"default\"}".into(), pictures),
        ("coft_classified_images_total".into(), pictures),
        ("coft_active_generation{classifier=\"default\"}".into(), 1.0),
        ("coft_generations{classifier=\"default\",method=\"zero-shot\"}".into(), 1.0),
        ("coft_rounds{state=\"promoted\"}".into(), 1.0),
        ("coft_refused_files{classifier=\"default\"}".into(), 1.0),
        (format!("coft_source_refused_files{{source=\"{source}\"}}"), 1.0),
        (format!("coft_source_images{{source=\"{source}\"}}"), pictures),
        (format!("coft_source_waiting_images{{source=\"{source}\"}}"), 0.0),
        (format!("coft_source_problem{{source=\"{source}\",kind=\"watch\"}}"), 0.0),
    ] {
        assert_eq!(value(&metrics, &sample), expected, "{sample}: {metrics}");
    }
    for sample in ["coft_resident_memory_bytes", "coft_state_disk_free_bytes", "coft_inference_seconds_total"] {
        assert!(value(&metrics, sample) > 0.0, "{sample}: {metrics}");
    }
    let labelled = metrics.lines().filter(|line| line.starts_with("coft_source_recent_answers{"));
    let sum: f64 = labelled.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
    assert_eq!(sum, pictures, "{metrics}");

    // coftctl prints the same, and Prometheus gets OpenMetrics.
    let printed = String::from_utf8(site.ctl(&["metrics"]).unwrap().stdout).unwrap();
    assert_eq!(samples(&printed), samples(&exporter.metrics()));
    let (head, body) = exporter.ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n") && body.contains("# UNIT coft_resident_memory_bytes bytes\n"), "{body}");
    assert!(exporter.ask("GET /other HTTP/1.1").0.starts_with("HTTP/1.1 404"));
    assert!(exporter.ask("POST /metrics HTTP/1.1").0.starts_with("HTTP/1.1 405"));

    // Away, and there again, over the same connection to the bus; it is not started.
    site.stop().unwrap();
    assert_eq!(samples(&exporter.metrics()), ["coft_up"]);
    assert_eq!(value(&exporter.metrics(), "coft_up"), 0.0);
    check(&exporter.metrics());
    let printed = site.ctl(&["metrics"]).unwrap();
    assert!(printed.status.success());
    assert_eq!(value(&String::from_utf8(printed.stdout).unwrap(), "coft_up"), 0.0);
    site.start().unwrap();
    assert_eq!(value(&exporter.metrics(), "coft_up"), 1.0);
    // The bus has gone for good.
    site.end_bus();
    assert_eq!(value(&exporter.metrics(), "coft_up"), 0.0);
}

/// Every metric is in the documentation, and no other.
#[test]
fn the_documentation_names_the_metrics_that_are_served() {
    let site = serving(QUICK, 1);
    let since = Instant::now();
    // What the last to be told are told of: an answer, and the generation that has just come.
    let metrics = loop {
        let metrics = String::from_utf8(site.ctl(&["metrics"]).unwrap().stdout).unwrap();
        if ["coft_source_recent_answers{", "coft_generations{"].iter().all(|name| metrics.contains(name)) {
            break metrics;
        }
        assert!(since.elapsed() < LIMIT, "{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let docs = include_str!("../../../docs/bridges.md");
    let names = |line: &str| -> Vec<String> {
        line.split('`').filter(|word| word.starts_with("coft_")).map(str::to_owned).collect()
    };
    let documented: std::collections::BTreeSet<String> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `coft_"))
        .flat_map(|rest| names(&format!("`coft_{rest}")))
        .collect();
    let served = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in served {
        assert!(documented.contains(name), "{name} is not in docs/bridges.md");
    }
    // Not yet told: of a round that runs, and of pictures that come later.
    for name in documented {
        let is_there = metrics.contains(&format!("# TYPE {name} "));
        assert!(is_there || name == "coft_round_progress_ratio" || name.starts_with("coft_last_round"), "{name}");
    }
}
