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
    let failed = round_with_model(|tensors| tensors.retain(|(n, _)| n != name));
    assert_eq!(failed["result"]["error_kind"], "bad-model", "{failed}");
    let message = text(&failed["result"]["message"]);
    assert!(message.contains(name) && message.contains("missing") && message.contains("[96, 128]"), "{message}");

    let failed = round_with_model(|tensors| {
        let (_, (shape, _)) = tensors.iter_mut().find(|(n, _)| n == name).unwrap();
        shape.reverse();
    });
    let message = text(&failed["result"]["message"]);
    assert!(message.contains(name) && message.contains("[128, 96]") && message.contains("[96, 128]"), "{message}");
}

type Tensors = Vec<(String, (Vec<usize>, Vec<u8>))>;

/// How the first round ends with a copy of the embedded model that `spoil` has been at.
fn round_with_model(spoil: impl Fn(&mut Tensors)) -> Value {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/assets/demo-model");
    let mut site = site(&format!("[classifier]\nmodel = \"model\"\nlabels = \"model/labels.txt\"\n{QUICK}"));
    let model = site.dir().join("model");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(&embedded).unwrap() {
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
    site.start().unwrap();
    let over = |_: &Value| site.json(&["round", "list"]).unwrap()[0]["state"] == "failed";
    site.wait("the first round's failure", LIMIT, over).unwrap();
    site.json(&["round", "list"]).unwrap()[0].clone()
}
