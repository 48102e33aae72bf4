use super::generation::read_json;
use super::*;
use coft_core::manifest::{MANIFEST, Manifest, REPORT};
use coft_core::report::Report;
use coft_core::settings::Settings;
use coft_core::spec::Method;
use tempfile::TempDir;

/// A candidate directory whose model file contains `content`.
fn candidate(root: &Path, round: u64, content: &str) -> PathBuf {
    let dir = root.join("candidate");
    fs::create_dir_all(&dir).unwrap();
    let report = Report {
        images: 3,
        classes: Vec::new(),
        adaptation: None,
        warnings: Vec::new(),
        seconds: BTreeMap::new(),
        peak_memory_bytes: 0,
    };
    let files = [("model.onnx", content.as_bytes().to_vec()), (REPORT, pretty(&report))];
    let mut manifest = Manifest {
        format: FORMAT,
        round: JobId(round),
        method: Method::ZeroShot,
        classes: vec!["a".into(), "b".into()],
        shares: None,
        preprocessing: serde_json::Value::Null,
        base_model: String::new(),
        image_set: String::new(),
        images: 3,
        seed: 0,
        settings: Settings::default(),
        precision: Default::default(),
        temperature: 1.0,
        none_of_these: None,
        producer: "test".into(),
        files: BTreeMap::new(),
    };
    for (name, bytes) in files {
        fs::write(dir.join(name), &bytes).unwrap();
        manifest.files.insert(name.into(), coft_fs::sha256(&bytes));
    }
    fs::write(dir.join(MANIFEST), pretty(&manifest)).unwrap();
    dir
}

fn promote(store: &mut Store, content: &str) -> Result<GenerationId, StoreError> {
    promote_from(store, 1, content)
}

fn promote_from(store: &mut Store, round: u64, content: &str) -> Result<GenerationId, StoreError> {
    let staged = store.stage(&candidate(&store.root.clone(), round, content))?;
    Ok(store.activate(staged, 1e-6, None)?.id)
}

fn refuse(store: &mut Store, round: u64, content: &str) -> Result<GenerationId, StoreError> {
    let staged = store.stage(&candidate(&store.root.clone(), round, content))?;
    store.keep_refused(staged, 1e-6, None, "worse".into())
}

/// Damages the model of a generation.
fn damage(store: &Store, id: GenerationId) {
    let file = store.generation_dir(id).join("model.onnx");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "damaged").unwrap();
}

/// Content of the active generation's model, read through the link as a server would.
fn served(root: &Path) -> Option<String> {
    fs::read_to_string(root.join(ACTIVE).join("model.onnx")).ok()
}

#[test]
fn a_promoted_generation_is_active_after_a_restart() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    assert!(store.active().is_none());
    assert_eq!(promote(&mut store, "one").unwrap(), GenerationId(1));
    assert_eq!(promote(&mut store, "two").unwrap(), GenerationId(2));
    let again = Store::open(root.path()).unwrap();
    assert_eq!(again.active().unwrap().id, GenerationId(2));
    assert_eq!(again.active().unwrap().record.replaces, Some(GenerationId(1)));
    assert_eq!(served(root.path()).as_deref(), Some("two"));
    assert!(again.warnings().is_empty());
    let mode = fs::metadata(again.active().unwrap().dir.join("model.onnx")).unwrap().permissions().mode();
    assert_eq!(mode & 0o222, 0, "read-only");
}

/// The promotion is interrupted after each of its steps in turn.
#[test]
fn any_interruption_leaves_an_active_generation_that_loads() {
    for steps in 0..32 {
        let root = TempDir::new().unwrap();
        let mut store = Store::open(root.path()).unwrap();
        promote(&mut store, "old").unwrap();
        store.stop_after.set(Some(steps));
        let interrupted = promote_from(&mut store, 2, "new").is_err();
        drop(store);

        let mut store = Store::open(root.path()).unwrap();
        let content = served(root.path()).unwrap();
        assert!(["old", "new"].contains(&content.as_str()), "step {steps}: {content}");
        assert!(store.warnings().is_empty(), "step {steps}: {:?}", store.warnings());
        assert_eq!(store.active().unwrap().id.0, if content == "old" { 1 } else { 2 }, "step {steps}");
        // The round counts as promoted if and only if its generation serves.
        let promoted = (content == "new").then_some(GenerationId(2));
        assert_eq!(store.promoted_by(JobId(2)), promoted, "step {steps}");
        let next = promote(&mut store, "next").unwrap();
        assert!(next > GenerationId(1), "step {steps}");
        assert_eq!(served(root.path()).as_deref(), Some("next"));
        if !interrupted {
            assert!(steps > 6, "the steps of a promotion were all tried");
            return;
        }
    }
    panic!("the promotion never ended");
}

#[test]
fn a_damaged_active_generation_gives_way_to_an_intact_one() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    promote(&mut store, "one").unwrap();
    let two = promote(&mut store, "two").unwrap();
    damage(&store, two);

    let mut store = Store::open(root.path()).unwrap();
    assert_eq!(store.active().unwrap().id, GenerationId(1));
    assert_eq!(store.warnings(), ["active generation 2 is damaged; generation 1 serves instead"]);
    assert_eq!(promote(&mut store, "three").unwrap(), GenerationId(3), "numbers are not given twice");
}

#[test]
fn a_candidate_that_is_not_what_its_manifest_says_is_refused() {
    let root = TempDir::new().unwrap();
    let store = Store::open(root.path()).unwrap();
    let dir = candidate(root.path(), 1, "one");
    fs::write(dir.join("model.onnx"), "another").unwrap();
    let error = store.stage(&dir).unwrap_err().to_string();
    assert!(error.contains("model.onnx") && error.contains("damaged"), "{error}");
}

#[test]
fn pruning_keeps_what_serves_and_what_it_replaced() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    for content in ["1", "2", "3", "4"] {
        promote(&mut store, content).unwrap();
    }
    assert_eq!(store.prune(1, 0, Some(GenerationId(1))).unwrap(), [GenerationId(2)]);
    assert_eq!(store.prune(1, 0, None).unwrap(), [GenerationId(1)]);
    let left: Vec<u64> = Store::open(root.path()).unwrap().generations().map(|g| g.id.0).collect();
    assert_eq!(left, [3, 4]);
}

/// The return from generation 3 to 1, which 2 had replaced, is interrupted after each of its steps in turn.
#[test]
fn an_interrupted_return_leaves_a_generation_that_loads_and_knows_what_was_before_it() {
    for steps in 0..32 {
        let root = TempDir::new().unwrap();
        let mut store = Store::open(root.path()).unwrap();
        for (round, content) in [(1, "one"), (2, "two"), (3, "three")] {
            promote_from(&mut store, round, content).unwrap();
        }
        store.stop_after.set(Some(steps));
        let interrupted = store.activate_again(GenerationId(1), JobId(7)).is_err();
        assert_eq!(
            store.active().is_some_and(|active| active.id.0 == 1),
            served(root.path()).as_deref() == Some("one")
        );
        drop(store);

        let mut store = Store::open(root.path()).unwrap();
        assert!(store.warnings().is_empty(), "step {steps}: {:?}", store.warnings());
        let active = store.active().unwrap().clone();
        active.verify().unwrap();
        let told =
            (served(root.path()), active.id.0, active.record.replaces.map(|id| id.0), store.promoted_by(JobId(7)));
        let returned = (Some("one".into()), 1, Some(3), Some(GenerationId(1)));
        let stayed = (Some("three".into()), 3, Some(2), None);
        assert!(told == returned || told == stayed, "step {steps}: {told:?}");
        assert!(interrupted || told == returned, "{told:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&active.dir.join(RECORD)) & 0o222, 0, "read-only");
        store.activate_again(GenerationId(2), JobId(8)).unwrap();
        assert_eq!(served(root.path()).as_deref(), Some("two"), "step {steps}");
        if !interrupted {
            assert_eq!(mode(&active.dir) & 0o222, 0, "read-only");
            assert!(steps > 5, "the steps of a return were all tried");
            return;
        }
    }
    panic!("the return never ended");
}

#[test]
fn pruning_keeps_what_one_has_returned_to_and_from() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    for content in ["1", "2", "3", "4", "5"] {
        promote(&mut store, content).unwrap();
    }
    for (id, round) in [(4, 6), (1, 7)] {
        store.activate_again(GenerationId(id), JobId(round)).unwrap();
    }
    assert_eq!(store.prune(1, 0, None).unwrap(), [GenerationId(2), GenerationId(3)]);
    let mut store = Store::open(root.path()).unwrap();
    let (active, left) = (store.active().unwrap(), store.generations().map(|g| g.id.0).collect::<Vec<_>>());
    assert_eq!((active.id, active.record.replaces, left), (GenerationId(1), Some(GenerationId(4)), vec![1, 4, 5]));
    let gone = store.activate_again(GenerationId(2), JobId(8)).unwrap_err();
    assert_eq!(gone.to_string(), "there is no generation 2");
}

/// A refused candidate was lost.
#[test]
fn a_refused_candidate_is_kept_and_serves_only_once_somebody_activates_it() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    let one = promote(&mut store, "one").unwrap();
    let two = refuse(&mut store, 2, "two").unwrap();
    let refused = |store: &Store| store.generation(two).unwrap().record.refused.clone();
    for store in [&store, &Store::open(root.path()).unwrap()] {
        assert_eq!((store.active().unwrap().id, refused(store)), (one, Some("worse".into())));
        assert_eq!((store.promoted_by(JobId(2)), store.last_job()), (None, JobId(2)));
    }
    assert_eq!(served(root.path()).as_deref(), Some("one"));

    // It does not serve even where no other generation is left.
    damage(&store, one);
    let mut store = Store::open(root.path()).unwrap();
    assert!(store.active().is_none());
    assert_eq!(store.warnings(), ["active generation 1 is damaged, and no other is intact"]);

    store.activate_again(two, JobId(3)).unwrap();
    let mut store = Store::open(root.path()).unwrap();
    assert_eq!((store.active().unwrap().id, refused(&store)), (two, None));
    // Once activated, it is like any other generation.
    let three = promote_from(&mut store, 4, "three").unwrap();
    assert_eq!(store.active().unwrap().record.replaces, Some(two));
    damage(&store, three);
    assert_eq!(Store::open(root.path()).unwrap().active().unwrap().id, two);
}

/// Keeping a refused candidate is interrupted after each of its steps in turn.
#[test]
fn an_interruption_while_a_refused_candidate_is_kept_changes_nothing_that_serves() {
    for steps in 0..32 {
        let root = TempDir::new().unwrap();
        let mut store = Store::open(root.path()).unwrap();
        promote(&mut store, "old").unwrap();
        store.stop_after.set(Some(steps));
        let interrupted = refuse(&mut store, 2, "new").is_err();
        drop(store);

        let mut store = Store::open(root.path()).unwrap();
        assert!(store.warnings().is_empty(), "step {steps}: {:?}", store.warnings());
        assert_eq!((served(root.path()).as_deref(), store.active().unwrap().id.0), (Some("old"), 1), "step {steps}");
        let others: Vec<&Generation> = store.generations().filter(|generation| generation.id.0 != 1).collect();
        assert!(interrupted || others.len() == 1, "it is kept");
        for kept in others {
            kept.verify().unwrap();
            assert_eq!((kept.id.0, kept.record.refused.as_deref()), (2, Some("worse")), "step {steps}");
            let modes =
                [&kept.dir, &kept.dir.join(RECORD)].map(|path| fs::metadata(path).unwrap().permissions().mode());
            assert!(interrupted || modes.iter().all(|mode| mode & 0o222 == 0), "read-only");
        }
        let next = promote(&mut store, "next").unwrap();
        assert!(next.0 > 1 && served(root.path()).as_deref() == Some("next"), "step {steps}");
        if !interrupted {
            assert!(steps > 5, "the steps were all tried");
            return;
        }
    }
    panic!("keeping it never ended");
}

#[test]
fn refused_candidates_are_pruned_by_themselves() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    for content in ["1", "2", "3", "4"] {
        promote(&mut store, content).unwrap();
    }
    for content in ["5", "6", "7"] {
        refuse(&mut store, 9, content).unwrap();
    }
    // Generation 4 has replaced 3, and somebody is about to activate 5.
    let ids = |numbers: &[u64]| numbers.iter().copied().map(GenerationId).collect::<Vec<_>>();
    assert_eq!(store.prune(1, 2, Some(GenerationId(5))).unwrap(), ids(&[1, 2]));
    assert_eq!(store.prune(1, 2, None).unwrap(), ids(&[5]));
    assert_eq!(store.generations().map(|kept| kept.id).collect::<Vec<_>>(), ids(&[3, 4, 6, 7]));
    let mut store = Store::open(root.path()).unwrap();
    assert_eq!(promote(&mut store, "8").unwrap(), GenerationId(8), "numbers are not given twice");
}

/// After a downgrade, the earlier version rejected every generation that the newer version had made or activated.
#[test]
fn a_record_of_a_later_version_is_read() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    let one = promote(&mut store, "one").unwrap();
    let (dir, path) = (store.generation_dir(one), store.generation_dir(one).join(RECORD));
    let mut record: serde_json::Value = read_json(&path).unwrap();
    assert_eq!(record.get("refused"), None, "nor does an earlier version meet a field that it does not know");
    record["later"] = 1.into();
    for path in [&dir, &path] {
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(&path, pretty(&record)).unwrap();
    let store = Store::open(root.path()).unwrap();
    assert_eq!((store.active().map(|active| active.id), store.warnings()), (Some(one), &[][..]));
}
