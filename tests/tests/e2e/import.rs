use super::*;

/// What one service has made is taken in by another of the same classes and model, and by no other.
#[test]
fn a_generation_moves_to_another_service() {
    let mut maker = serving(QUICK, 3);
    let bundle = maker.dir().join("bundle");
    let name = bundle.to_str().unwrap();
    let exported = maker.ctl(&["export", "1", "--format", "onnx", name]).unwrap();
    assert!(exported.status.success(), "{exported:?}");
    maker.stop().unwrap();

    let taker = serving(QUICK, 3);
    let imported = taker.ctl(&["import", name]).unwrap();
    assert!(imported.status.success(), "{imported:?}\n{}", taker.log());
    let picture = taker.watched().join("0000.jpg");
    assert_eq!(classify(&taker, &picture).1, 2);
    let generations = taker.json(&["generation", "list"]).unwrap();
    let taken = &generations[1];
    assert_eq!((&taken["generation"], &taken["active"], &taken["round"]), (&2.into(), &true.into(), &2.into()));
    let round = taker.json(&["round", "show", "2"]).unwrap();
    assert_eq!((&round["trigger"], &round["state"]), (&"import".into(), &"promoted".into()));

    // And back, to what served before it.
    let activated = taker.json(&["generation", "activate"]).unwrap();
    let told = (&activated["trigger"], &activated["state"], &activated["result"]["generation"]);
    assert_eq!(told, (&"activation".into(), &"promoted".into(), &1.into()));
    assert_eq!(classify(&taker, &picture).1, 1);
    let activated = taker.ctl(&["generation", "activate"]).unwrap();
    assert!(activated.status.success(), "{activated:?}\n{}", taker.log());
    assert_eq!(classify(&taker, &picture).1, 2);

    let weights = bundle.join("model.onnx.data");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[0] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let damaged = taker.ctl(&["import", name]).unwrap();
    let said = String::from_utf8_lossy(&damaged.stdout) + String::from_utf8_lossy(&damaged.stderr);
    assert_eq!(damaged.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged"), "{said}");
    assert_eq!(classify(&taker, &picture).1, 2);
    assert!(fs::read_dir(taker.state_dir().join("rounds")).unwrap().next().is_none(), "nothing is left over");
}

#[test]
fn a_generation_for_other_classes_is_kept_out() {
    let mut maker = site(QUICK);
    maker.start().unwrap();
    first_generation(&maker);
    let bundle = maker.dir().join("bundle");
    let name = bundle.to_str().unwrap();
    assert!(maker.ctl(&["export", "1", "--format", "onnx", name]).unwrap().status.success());
    maker.stop().unwrap();

    fs::write(maker.dir().join("few.txt"), format!("{}\n{}\n", PARTS[0], PARTS[1])).unwrap();
    let few = maker.dir().join("few.txt");
    let mut other = site(&format!("[classifier]\nlabels = {few:?}\n{QUICK}"));
    other.start().unwrap();
    first_generation(&other);
    let refused = other.ctl(&["import", name]).unwrap();
    let said = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(7), "{said}");
    assert!(said.contains("made for other classes"), "{said}");
}
