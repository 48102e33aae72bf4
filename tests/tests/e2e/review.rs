use super::*;
use coft_harness::pty::Terminal;
use serde_json::json;
use std::process::Command;

/// The ids of the watched pictures, in the order of their names.
fn ids(site: &Site) -> Vec<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(site.watched()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let output = Command::new("sha256sum").args(&files).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// A service whose first generation serves and that asks whether its second one is better, as after a round that could
/// not tell.
fn asking(pictures: usize) -> Site {
    let mut site = serving(QUICK, pictures);
    assert_eq!(round(&site)["state"], "promoted", "{}", site.log());
    assert!(site.ctl(&["generation", "activate", "1"]).unwrap().status.success());
    site.stop().unwrap();
    let items: Vec<Value> = ids(&site).iter().map(|id| json!({ "image": id, "present": 0, "candidate": 1 })).collect();
    let agreed = vec![0; PARTS.len()];
    let review = json!({
        "format": 1, "round": 2, "candidate": 2, "present": 1, "classes": PARTS, "agreed": agreed, "items": items,
    });
    fs::write(site.state_dir().join("review.json"), review.to_string()).unwrap();
    site.start().unwrap();
    site
}

fn items(site: &Site) -> Vec<Value> {
    site.json(&["review"]).unwrap()["items"].as_array().unwrap().clone()
}

fn answer(site: &Site, item: &Value, class: &str) -> Value {
    site.json(&["review", "--answer", &format!("{}={class}", text(&item["image"]))]).unwrap()
}

/// Killed after each answer, the service has lost none and asks nothing twice; what the labels decide comes to serve.
#[test]
fn labels_survive_kill_9_and_decide_which_generation_serves() {
    let mut site = asking(2);
    let all = items(&site);
    assert_eq!(all.len(), 20);
    assert!(Path::new(text(&all[0]["path"])).is_file(), "{}", all[0]);
    let shown = String::from_utf8(site.ctl(&["status"]).unwrap().stdout).unwrap();
    assert!(shown.contains("coftctl review --decide"), "{shown}");
    let asking = |site: &Site| {
        let metrics = String::from_utf8(site.ctl(&["metrics"]).unwrap().stdout).unwrap();
        let line = metrics.lines().find(|line| line.starts_with("coft_review_asking{")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{metrics}")).ends_with(" 1")
    };
    assert!(asking(&site));

    for number in 0..3 {
        assert_eq!(answer(&site, &all[number], PARTS[1])["answered"], number + 1);
        site.kill().unwrap();
        site.start().unwrap();
        let left = items(&site);
        assert_eq!(left, all[number + 1..], "after {} answers", number + 1);
    }
    let refused = site.ctl(&["review", "--answer", &format!("{}={}", text(&all[0]["image"]), PARTS[1])]).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");

    // The service dies under a person's hands.
    let mut terminal = Terminal::start(site.ctl_command(&["review", "--decide"])).unwrap();
    terminal.expect("4 of at most 60").unwrap();
    terminal.type_line(PARTS[1]).unwrap();
    terminal.expect("5 of at most 60").unwrap();
    site.kill().unwrap();
    terminal.type_line(PARTS[1]).unwrap();
    assert_eq!(terminal.end().unwrap().0, Some(3));

    site.start().unwrap();
    assert_eq!(items(&site), all[4..]);
    let mut terminal = Terminal::start(site.ctl_command(&["review", "--decide"])).unwrap();
    terminal.expect("what does it show? ").unwrap();
    terminal.type_line("n").unwrap();
    terminal.expect("what does it show? ").unwrap();
    terminal.type_line(PARTS[1]).unwrap();
    terminal.expect("generation 2 is better").unwrap();
    let (code, said) = terminal.end().unwrap();
    assert_eq!(code, Some(0), "{said}\n{}", site.log());
    assert!(said.contains("generation 2 is active"), "{said}");
    let status = site.wait("the review's end", LIMIT, |status| status["review"].is_null()).unwrap();
    assert_eq!(status["active_generation"], 2);
    assert!(!asking(&site));
    assert!(!site.state_dir().join("review.json").exists());

    // The labels are kept for later rounds.
    let list = fs::read_to_string(site.state_dir().join("labels.csv")).unwrap();
    let told = |item: &Value, class: &str| format!("{},{class}", text(&item["image"]));
    let mut expected = vec!["image,class".to_owned()];
    expected.extend(all[..4].iter().map(|item| told(item, PARTS[1])));
    expected.extend([told(&all[4], ""), told(&all[5], PARTS[1])]);
    assert_eq!(list.lines().collect::<Vec<_>>(), expected);
}
