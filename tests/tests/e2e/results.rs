//! What the pictures of a folder show, as coftctl tells it: asked for, counted, followed over a restart, monitored.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A coftctl that goes on, and the lines that it says.
struct Following {
    child: Child,
    lines: Receiver<String>,
    notes: Receiver<String>,
}

impl Following {
    fn start(site: &Site, words: &[&str]) -> Self {
        let mut command = site.ctl_command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, notes) = (reading(child.stdout.take().unwrap()), reading(child.stderr.take().unwrap()));
        let following = Self { child, lines, notes };
        // It says so once nothing is missed any more.
        following.notes.recv_timeout(LIMIT).expect("it begins");
        following
    }

    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(LIMIT).expect("it says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next line about such an event.
    fn event(&self, event: &str) -> Value {
        loop {
            let line = self.next();
            if line["event"] == event {
                return line;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It goes on until it is ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reading(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        // Nobody may want the rest.
        BufReader::new(pipe).lines().map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).count()
    });
    receiver
}

/// Answers in their order, once there are so many.
fn results(site: &Site, count: usize) -> Vec<Value> {
    let since = std::time::Instant::now();
    loop {
        let found = site.json(&["results", "--limit", "1000"]).unwrap().as_array().unwrap().clone();
        if found.len() >= count {
            return found;
        }
        assert!(since.elapsed() < LIMIT, "{} of {count}:\n{}", found.len(), site.log());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn pictures_are_shown_counted_and_followed_over_a_restart() {
    let mut site = serving(QUICK, 1);
    let count = PARTS.len();
    let found = results(&site, count);
    let mut numbers: Vec<u64> = found.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=count as u64).collect::<Vec<_>>(), "each once, without a gap");
    let watched = site.watched();
    for line in &found {
        assert!(Path::new(text(&line["path"])).starts_with(&watched), "the caller may see it: {line}");
        assert_eq!(line["generation"], 1);
    }
    let label = text(&found[0]["label"]);
    let alone = site.json(&["results", "--label", label, "--limit", "1000"]).unwrap();
    let expected = found.iter().filter(|line| line["label"] == label).count();
    assert_eq!(alone.as_array().unwrap().len(), expected);
    let counts = site.json(&["results", "--summary"]).unwrap();
    let sum: u64 = counts.as_array().unwrap().iter().map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(sum, count as u64);
    let shown = String::from_utf8(site.ctl(&["results", "--summary"]).unwrap().stdout).unwrap();
    assert!(shown.contains(label) && shown.contains("a bar an hour"), "{shown}");

    let following = Following::start(&site, &["--json", "results", "--follow"]);
    let more: Vec<PathBuf> = pictures(&site, 2).into_iter().skip(count).take(3).collect();
    let put = |number: usize| fs::copy(&more[number], watched.join(format!("new{number}.jpg"))).unwrap();
    put(0);
    assert_eq!(following.next()["sequence"], count as u64 + 1);
    site.stop().unwrap();
    put(1);
    site.start().unwrap();
    let line = following.next();
    assert_eq!(
        (&line["sequence"], text(&line["path"])),
        (&(count as u64 + 2).into(), watched.join("new1.jpg").to_str().unwrap())
    );
    put(2);
    assert_eq!(following.next()["sequence"], count as u64 + 3);
}

#[test]
fn everything_that_happens_is_monitored() {
    let mut site = site(QUICK);
    let monitor = Following::start(&site, &["--json", "monitor"]);
    site.start().unwrap();
    monitor.event("started");
    assert_eq!(monitor.event("job-started")["trigger"], "zero-shot");
    assert_eq!(monitor.event("job-finished")["state"], "promoted");
    fs::copy(&pictures(&site, 1)[0], site.watched().join("a.jpg")).unwrap();
    let observed = monitor.event("observed");
    assert!(observed["label"].is_string() && observed["path"].is_null(), "{observed}");
    site.stop().unwrap();
    monitor.event("stopped");
}
