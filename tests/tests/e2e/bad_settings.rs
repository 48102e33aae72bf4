use super::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// What coftd says when it refuses to start; it must do so with the exit code for bad configuration.
fn refusal(config: &str, prepare: impl Fn(&Site)) -> String {
    let mut site = site(config);
    prepare(&site);
    site.spawn().unwrap();
    for _ in 0..600 {
        if let Some(status) = site.ended().unwrap() {
            assert_eq!(status.code(), Some(2), "{}", site.log());
            return site.log();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("coftd did not end:\n{}", site.log());
}

#[test]
fn a_label_file_with_a_duplicate_or_a_blank_is_refused_by_line() {
    let config = format!("[classifier]\nlabels = \"labels.txt\"\n{QUICK}");
    let with = |labels: &'static str| move |site: &Site| fs::write(site.dir().join("labels.txt"), labels).unwrap();
    let log = refusal(&config, with("hex bolt\nhex nut\nhex bolt\n"));
    assert!(log.contains("labels.txt") && log.contains("line 3") && log.contains("hex bolt"), "{log}");
    let log = refusal(&config, with("hex bolt\n\nhex nut\n"));
    assert!(log.contains("labels.txt") && log.contains("line 2") && log.contains("blank"), "{log}");
    let log = refusal(&config, |_| ());
    assert!(log.contains("labels.txt"), "a missing file is named: {log}");
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let log = refusal("[round]\nspeed = \"high\"\n", |_| ());
    assert!(log.contains("coft.toml") && log.contains("speed"), "{log}");
}

#[test]
fn a_missing_or_misshaped_tensor_is_named_with_its_shapes() {
    let name = "visual_projection.weight";
    let log = refusal_of_model(|tensors| tensors.retain(|(n, _)| n != name));
    assert!(log.contains(name) && log.contains("missing") && log.contains("[96, 128]"), "{log}");

    let log = refusal_of_model(|tensors| {
        let (_, (shape, _)) = tensors.iter_mut().find(|(n, _)| n == name).unwrap();
        shape.reverse();
    });
    assert!(log.contains(name) && log.contains("[128, 96]") && log.contains("[96, 128]"), "{log}");
}

type Tensors = Vec<(String, (Vec<usize>, Vec<u8>))>;

/// What coftd says of a copy of the embedded model that `spoil` has been at.
fn refusal_of_model(spoil: impl Fn(&mut Tensors)) -> String {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/assets/demo-model");
    let config = format!("[classifier]\nmodel = \"model\"\nlabels = \"model/labels.txt\"\n{QUICK}");
    refusal(&config, |site| spoiled(&embedded, &site.dir().join("model"), &spoil))
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
