use super::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// What coftd says when it refuses to start; it must do so with the exit code for bad configuration.
fn refusal(config: &str) -> String {
    let mut site = site(config);
    site.spawn().unwrap();
    let status = site.end().unwrap();
    assert_eq!(status.code(), Some(2), "{}", site.log());
    site.log()
}

/// What the service waits for, as its status says, with a configuration whose files are not in order.
fn problem(config: &str, prepare: impl Fn(&Site)) -> String {
    let mut site = site(config);
    prepare(&site);
    site.spawn().unwrap();
    let problem = waits_for(&site);
    assert!(site.log().contains(&problem), "the log says the same: {}", site.log());
    assert!(site.stop().unwrap().success());
    problem
}

#[test]
fn a_label_file_with_a_duplicate_or_a_blank_is_named_by_line() {
    let config = format!("[classifier]\nlabels = \"labels.txt\"\n{QUICK}");
    let with = |labels: &'static str| move |site: &Site| fs::write(site.dir().join("labels.txt"), labels).unwrap();
    let told = problem(&config, with("hex bolt\nhex nut\nhex bolt\n"));
    assert!(told.contains("labels.txt") && told.contains("line 3") && told.contains("hex bolt"), "{told}");
    let told = problem(&config, with("hex bolt\n\nhex nut\n"));
    assert!(told.contains("labels.txt") && told.contains("line 2") && told.contains("blank"), "{told}");
    let told = problem(&config, |_| ());
    assert!(told.contains("classifier.labels") && told.contains("labels.txt"), "a missing file is named: {told}");
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let log = refusal("[round]\nspeed = \"high\"\n");
    assert!(log.contains("coft.toml") && log.contains("speed"), "{log}");
}

#[test]
fn a_missing_or_misshaped_tensor_is_named_with_its_shapes() {
    let name = "visual_projection.weight";
    let told = problem_of_model(|tensors| tensors.retain(|(n, _)| n != name));
    assert!(told.contains(name) && told.contains("missing") && told.contains("[96, 128]"), "{told}");

    let told = problem_of_model(|tensors| {
        let (_, (shape, _)) = tensors.iter_mut().find(|(n, _)| n == name).unwrap();
        shape.reverse();
    });
    assert!(told.contains(name) && told.contains("[128, 96]") && told.contains("[96, 128]"), "{told}");
}

type Tensors = Vec<(String, (Vec<usize>, Vec<u8>))>;

/// What coftd says of a copy of the embedded model that `spoil` has been at.
fn problem_of_model(spoil: impl Fn(&mut Tensors)) -> String {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/assets/demo-model");
    let config = format!("[classifier]\nmodel = \"model\"\nlabels = \"model/labels.txt\"\n{QUICK}");
    problem(&config, |site| spoiled(&embedded, &site.dir().join("model"), &spoil))
}

fn spoiled(embedded: &Path, model: &Path, spoil: impl Fn(&mut Tensors)) {
    fs::create_dir(model).unwrap();
    for file in fs::read_dir(embedded).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let bytes = fs::read(model.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let dtype = file.tensors()[0].1.dtype();
    let mut tensors: Tensors =
        file.tensors().into_iter().map(|(n, view)| (n, (view.shape().to_vec(), view.data().to_vec()))).collect();
    spoil(&mut tensors);
    let views = tensors.iter().map(|(n, (shape, data))| (n, TensorView::new(dtype, shape.clone(), data).unwrap()));
    fs::write(model.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}
