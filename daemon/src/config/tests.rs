//! Which settings are read, resolved and refused.

use super::*;

fn parsed(text: &str) -> Result<Config, Problem> {
    let mut config = Config::parse(text)?;
    config.resolve(Path::new("/etc/coft"));
    config.check()?;
    Ok(config)
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let problem = parsed(text).unwrap_err().to_string();
    assert!(problem.starts_with(why), "{problem}");
}

#[test]
fn the_shipped_example_is_the_default() {
    let example = parsed(include_str!("../../../packaging/coft.toml")).unwrap();
    let sources = example.sources.clone();
    assert_eq!(sources.len(), 1, "the example watches one directory");
    assert_eq!(Config { sources: Vec::new(), ..example }, Config::default());
}

#[test]
fn values_carry_units_and_paths_are_resolved() {
    let config = parsed(
        r#"
        state-dir = "state/"
        [classifier]
        labels = "labels.txt"
        [[source]]
        path = "/srv/camera/."
        quiet-period = "300ms"
        [ingest]
        file-limit = "3MiB"
        [schedule]
        minimum-interval = "1h 30m"
        "#,
    )
    .unwrap();
    assert_eq!(config.state_dir, Path::new("/etc/coft/state"));
    assert_eq!(config.classifier.labels.as_deref(), Some(Path::new("/etc/coft/labels.txt")));
    assert_eq!(config.sources[0].path, Path::new("/srv/camera"));
    assert_eq!(config.sources[0].quiet_period, Duration::from_millis(300));
    assert_eq!(config.ingest.file_limit.as_u64(), 3 << 20);
    assert_eq!(config.schedule.minimum_interval, Duration::from_secs(5400));
}

#[test]
fn a_single_word_is_a_model_of_the_store_and_anything_else_a_path() {
    let model = |value: &str| parsed(&format!("[classifier]\nmodel = \"{value}\"")).unwrap().classifier.model.unwrap();
    assert_eq!(model("clip-vit-b32"), Path::new("clip-vit-b32"));
    assert_eq!(model("./clip"), Path::new("/etc/coft/clip"));
    assert_eq!(model("models/clip"), Path::new("/etc/coft/models/clip"));
    assert_eq!(model("/srv/clip"), Path::new("/srv/clip"));
}

#[test]
fn a_mistake_names_its_line_or_key() {
    refused("[classifier]\nname = \"a\"\ncolour = 1\n", "line 3: unknown field `colour`, expected one of");
    refused("[schedule]\nnew-images = \"many\"\n", "line 2: invalid type: string \"many\", expected u64");
    refused("[[source]]\nquiet-period = \"2s\"\n", "line 1: missing field `path`");
    refused("[[source]]\npath = \"/a\"\nquiet-period = \"2 parsecs\"\n", "line 3: ");
    refused("[[source]]\npath = \"/a\"\nexclude = [\"a[\"]\n", "line 3: the pattern \"a[\" cannot be read");
    refused("[[source]]\npath = \"/a\"\ninclude = [\"\"]\n", "line 3: the pattern \"\" matches nothing");
    refused("[ingest\n", "line 1: ");
    refused("[classifier]\ntemplate = \"a photo\"\n", "classifier.template: write `{}` once");
    for threshold in ["0.0", "1.0", "-0.5", "1.5", "nan", "inf"] {
        refused(
            &format!("[classifier]\nthresholds = {{ \"blocked aisle\" = {threshold} }}\n"),
            "classifier.thresholds: the threshold of \"blocked aisle\" is",
        );
    }
    let text = "[classifier]\nthresholds = { \"blocked aisle\" = 0.8, nut = 0.3 }\n";
    assert_eq!(parsed(text).unwrap().classifier.thresholds.len(), 2);
    refused("[classifier]\nname = \"my parts\"\n", "classifier.name: use 1 to 64");
    refused("[[source]]\npath = \"/a\"\nquiet-period = \"0s\"\n", "source 1 (/a): quiet-period: use \"10ms\" or more");
    refused(
        "[[source]]\npath = \"/a\"\n[[source]]\npath = \"/a/b\"\n",
        "source 2 (/a/b): path: overlaps with source /a",
    );
    let two = |first: &str, second: &str| {
        format!("[[source]]\npath = \"/a\"\n{first}\n[[source]]\npath = \"/a/\"\n{second}\n")
    };
    let (left, right) =
        ("{ x = 0.0, y = 0.0, width = 0.5, height = 1.0 }", "{ x = 0.5, y = 0.0, width = 0.5, height = 1.0 }");
    let more = "source 2 (/a): path: overlaps with source /a; one of them is enough, or give each a name and a \
                crop of its own";
    refused(&two(&format!("crop = {left}"), &format!("crop = {right}")), more);
    refused(&two("name = \"l\"", "name = \"r\""), more);
    refused(&two("name = \"l\"", &format!("crop = {right}")), more);
    refused(
        &two("name = \"l\"", &format!("name = \"l\"\ncrop = {right}")),
        "source 2 (/a): name: another source has this name",
    );
    refused(&two("name = \"in/l\"", ""), "source 1 (/a): name: use 1 to 64 letters, digits, `_` and `-`");
    let apart = two(&format!("name = \"l\"\ncrop = {left}"), "name = \"whole\"");
    let keys: Vec<PathBuf> = parsed(&apart).unwrap().sources.iter().map(watch::Source::key).collect();
    assert_eq!(keys, [Path::new("l"), Path::new("whole")]);
    refused("[[source]]\npath = \"/var/lib\"\n", "source 1 (/var/lib): path: overlaps with state-dir");
    refused("[ingest]\nmost-images = 15\n", "ingest.most-images: use as many as round.minimum-images");
    refused(
        "[[source]]\npath = \"/a\"\n[source.state]\nagree = 6\n",
        "source 1 (/a): state.agree: use 1 or more, and no more than window",
    );
    refused("[[source]]\npath = \"/a\"\n[source.state]\nwindows = 6\n", "line 4: unknown field `windows`");
    refused(
        "[[source]]\npath = \"/a\"\ncrop = { x = 0.5, y = 0.0, width = 0.6, height = 1.0 }\n",
        "source 1 (/a): crop: it leaves the picture; use 0 to 1",
    );
    refused("[[source]]\npath = \"/a\"\ncrop = { x = 0.5, y = 0.0 }\n", "line 3: missing field `width`");
    refused("[answers]\nmost = 10\n", "answers.most: use 1000 or more");
    refused("[answers]\nkeep = \"1s\"\n", "answers.keep: use \"1m\" or more");
    refused("[decode]\nmemory = \"1MiB\"\n", "decode.memory: use \"32MiB\" or more");
    refused("[round]\nniceness = -5\n", "round.niceness: use 0 to 19");
    refused("[serve]\ngpu-idle = \"0s\"\n", "serve.gpu-idle: use \"1s\" or more");
    refused("[serve]\nqueue = 15\n", "serve.queue: use 16 or more");
    refused(
        "[classifier]\nstudent = \"small\"\n[training]\ndeploy = \"phase1-model2\"\n",
        "training.deploy: use another: with classifier.student",
    );
    let old = "[settings.phase1]\nlambda = 0.25\n";
    assert_eq!(parsed(old).unwrap(), parsed(&old.replace("settings", "training")).unwrap());
    refused(&format!("{old}[training.phase2]\n"), "line 1: duplicate field `training`");
    refused("[training.phase1]\nlambda = -1.0\n", "training.phase1.lambda: use 0 to 1000");
    for epochs in ["2147483648", "4294967297", "-1", "0"] {
        let text = format!("[training.phase2.sgd]\nlearning-rate = 0.1\nepochs = {epochs}\n");
        refused(&text, "training.phase2.sgd.epochs: use 1 to 100000");
    }
    refused("[training.phase1.sgd]\nepochs = 2\n", "line 1: missing field `learning-rate`");
}

fn load(path: &Path, overrides: Overrides) -> Result<Config, ConfigError> {
    ConfigFile { path: path.to_owned(), overrides }.read().map(|loaded| loaded.config)
}

#[test]
fn the_bus_of_a_configuration_with_a_mistake_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coft.toml");
    let bus = |text: &str, bus: Option<&str>| {
        fs::write(&path, text).unwrap();
        let overrides = Overrides { state_dir: None, bus: bus.map(Into::into) };
        ConfigFile { path: path.clone(), overrides }.bus()
    };
    assert_eq!(bus("bus = \"session\"\nx = 1\n", None), "session");
    assert_eq!(bus("bus = \"session\"\nx = 1\n", Some("unix:path=/a")), "unix:path=/a");
    assert_eq!(bus("[ingest\n", None), "system");
    fs::remove_file(&path).unwrap();
    assert_eq!(ConfigFile { path, overrides: Overrides::default() }.bus(), "system");
}

#[test]
fn the_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coft.toml");
    let message = |path: &Path| load(path, Overrides::default()).unwrap_err().to_string();
    assert!(message(&path).contains(&format!("{} cannot be read", path.display())));
    fs::write(&path, "x = 1").unwrap();
    assert!(message(&path).starts_with(&format!("{}: line 1: unknown field `x`", path.display())));
}

/// The pixels in the state directory became images.
#[test]
fn a_state_directory_that_a_link_leads_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coft.toml");
    fs::create_dir_all(dir.path().join("in/s")).unwrap();
    fs::create_dir_all(dir.path().join("state/in")).unwrap();
    std::os::unix::fs::symlink("in/s", dir.path().join("st")).unwrap();
    std::os::unix::fs::symlink("state/in", dir.path().join("src")).unwrap();
    for (state, source, fits) in [
        ("st", "in", false),
        ("st/new", "in", false),
        ("state", "src", false),
        ("state", "in", true),
        ("st", "src", true),
    ] {
        fs::write(&path, format!("state-dir = \"{state}\"\n[[source]]\npath = \"{source}\"\n")).unwrap();
        match load(&path, Overrides::default()) {
            Ok(_) => assert!(fits, "{state} and {source}"),
            Err(error) => {
                assert!(!fits && error.to_string().contains("overlaps with state-dir through"), "{error}")
            }
        }
    }
}

#[test]
fn the_command_line_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coft.toml");
    fs::write(&path, "state-dir = \"/a\"\nbus = \"session\"\n").unwrap();
    let overrides = Overrides { state_dir: Some("/b".into()), bus: None };
    let config = load(&path, overrides).unwrap();
    assert_eq!((config.state_dir.as_path(), config.bus.as_str()), (Path::new("/b"), "session"));
}
