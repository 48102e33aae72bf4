use super::*;
use std::process::Command;

#[test]
fn from_a_folder_of_images_to_a_served_generation() {
    let mut site = serving(QUICK, 6);
    let picture = site.watched().join("0000.jpg");
    let (label, generation) = classify(&site, &picture);
    assert!(PARTS.contains(&label.as_str()), "{label}");
    assert_eq!(generation, 1);
    let originals = contents(&site.watched());

    let ended = round(&site);
    assert_eq!(ended["state"], "promoted", "{ended}\n{}", site.log());
    assert_eq!(ended["images"], 60);
    assert_eq!(classify(&site, &picture).1, 2);
    let generations = site.json(&["generation", "list"]).unwrap();
    let active = generations.as_array().unwrap().iter().find(|g| g["active"] == true).unwrap().clone();
    assert_eq!((&active["generation"], &active["method"]), (&Value::from(2), &Value::from("coft")));
    assert!(active["parity_max_abs_diff"].as_f64().unwrap() <= 1e-4, "{active}");
    assert_eq!(active["report"]["classes"].as_array().unwrap().len(), PARTS.len());
    accepted_by_python(&site.state_dir().join("active"));
    assert_eq!(contents(&site.watched()), originals, "user images are never touched");

    // What was there before a restart is there after it.
    assert!(site.stop().unwrap().success());
    site.start().unwrap();
    let status = site.status().unwrap();
    assert_eq!((&status["active_generation"], &status["images"]), (&Value::from(2), &Value::from(60)));
    assert_eq!(site.json(&["round", "show", "2"]).unwrap()["state"], "promoted");
    assert_eq!(classify(&site, &picture).1, 2);
}

/// Whoever knows the shares of the classes gets probabilities for them, before and after a round, in every number
/// format.
#[test]
fn shares_that_are_told_are_in_every_generation() {
    for precision in ["fp32", "fp16", "int8"] {
        let told = format!("{QUICK}[classifier]\nshares = {{ \"{}\" = 0.91 }}\n", PARTS[2]);
        let mut site = serving(&told, 3);
        let active = |site: &Site| -> Value {
            let manifest = fs::read(site.state_dir().join("active/manifest.json")).unwrap();
            serde_json::from_slice(&manifest).unwrap()
        };
        let expected: Vec<f64> = (0..PARTS.len()).map(|class| if class == 2 { 0.91 } else { 0.01 }).collect();
        let has_shares = |manifest: &Value| {
            let shares = manifest["shares"].as_array().unwrap_or_else(|| panic!("{manifest}"));
            let same = |(share, expected): (&Value, &f64)| (share.as_f64().unwrap() - expected).abs() < 1e-9;
            assert!(shares.len() == expected.len() && shares.iter().zip(&expected).all(same), "{manifest}");
        };
        has_shares(&active(&site));

        site.configure(&format!("{told}[round]\nprecision = \"{precision}\"\n")).unwrap();
        site.json(&["reload"]).unwrap();
        let ended = round(&site);
        assert_eq!(ended["state"], "promoted", "{precision}: {ended}\n{}", site.log());
        let manifest = active(&site);
        assert_eq!((&manifest["method"], &manifest["precision"]), (&"coft".into(), &precision.into()), "{manifest}");
        has_shares(&manifest);
        // One picture in ten is of the class. Its odds against another class are 91 times those without
        // shares.
        let generation = site.json(&["generation", "show", "2"]).unwrap();
        let classes = generation["report"]["classes"].as_array().unwrap();
        let shares: Vec<f64> = classes.iter().map(|class| class["expected-share"].as_f64().unwrap()).collect();
        assert!(shares.iter().all(|&share| share <= shares[2]) && shares[2] > 0.2, "{precision}: {shares:?}");
        if precision == "fp32" {
            accepted_by_python(&site.state_dir().join("active"));
        }
        assert!(site.stop().unwrap().success());
    }
}

/// The first status said "coftctl round start --wait" while the first round ran, which was refused as busy.
#[test]
fn what_status_advises_can_be_done_from_the_first_moment() {
    let mut site = site(QUICK);
    site.start().unwrap();
    let serves = || site.status().unwrap()["active_generation"].is_u64();
    loop {
        let last = serves();
        let shown = String::from_utf8(site.ctl(&["status"]).unwrap().stdout).unwrap();
        for (_, command) in shown.lines().filter_map(|line| line.split_once(": coftctl ")) {
            // Without an image every round that adapts is refused, and the status says that images come first.
            if command == "round start" {
                assert!(last && shown.contains("once there are images: coftctl round start"), "{shown}");
                continue;
            }
            let words: Vec<&str> = command.split_whitespace().collect();
            let output = site.ctl(&words).unwrap();
            assert!(output.status.success(), "{shown}\n{command}: {output:?}");
        }
        if last {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_round_is_cancelled_and_the_next_one_runs() {
    let mut site = serving(&slow(), 3);
    let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
    site.wait("training", LIMIT, |_| text(&site.json(&["round", "show"]).unwrap()["stage"]).starts_with("phase1"))
        .unwrap();
    let busy = site.ctl(&["round", "start"]).unwrap();
    assert_eq!(busy.status.code(), Some(6), "a second round is refused: {busy:?}");
    site.json(&["round", "cancel"]).unwrap();
    assert_eq!(ended(&site, number)["state"], "cancelled");

    site.stop().unwrap();
    site.configure(QUICK).unwrap();
    site.start().unwrap();
    assert_eq!(round(&site)["state"], "promoted", "{}", site.log());
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// `onnx.checker` takes the file; the reference evaluator, Python's ONNX Runtime and OpenVINO give torch's answers.
fn accepted_by_python(generation: &Path) {
    let python = std::env::var_os("COFT_TEST_PYTHON").expect("run by `cargo xtask test`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/check_generation.py");
    let output = Command::new(python).arg(script).arg(generation).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
