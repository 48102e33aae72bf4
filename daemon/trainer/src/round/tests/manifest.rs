//! What a candidate's manifest states beside the model: the shares of the classes, and the threshold for "none of
//! these".

use super::*;
use coft_core::shares::Shares;

#[test]
fn the_shares_that_are_told_are_in_the_probabilities_and_nowhere_else() {
    let probe = |shares: Option<&Shares>| {
        let bench = Bench::new(2);
        let spec = RoundSpec { shares: shares.cloned(), ..bench.spec(Method::ZeroShot) };
        done(&spec);
        let manifest = std::fs::read(spec.candidate_dir.join(MANIFEST)).unwrap();
        let told = serde_json::from_slice::<Manifest>(&manifest).unwrap().shares;
        assert_eq!(told.as_ref(), shares, "the manifest tells them");
        let tensors = Tensor::read_safetensors(spec.candidate_dir.join(PROBE)).unwrap();
        let of = |name: &str| to_f32(&tensors.iter().find(|(found, _)| found == name).unwrap().1);
        ["logits", "embedding", "probabilities"].map(of)
    };
    let classes = Bench::new(2).spec(Method::ZeroShot).classes;
    let shares = Shares::new(&BTreeMap::from([(classes[0].clone(), 0.9)]), &classes).unwrap();
    let ([logits, embedding, plain], [told_logits, told_embedding, told]) = (probe(None), probe(Some(&shares)));
    assert!(logits == told_logits && embedding == told_embedding, "energies, and what is none of these, stay");
    let off = shares.applied(&plain).iter().zip(&told).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5 && plain != told, "{off}");
}

#[test]
fn seeds_come_in_the_shares_that_are_told() {
    let bench = Bench::new(4);
    let classes = bench.spec(Method::Coft).classes;
    let shares = Shares::new(&BTreeMap::from([(classes[0].clone(), 0.9)]), &classes).unwrap();
    let mut spec = RoundSpec { shares: Some(shares.clone()), ..bench.spec(Method::Coft) };
    (spec.settings.phase1.seeds_per_class, spec.settings.phase1.seed_share) = (2, 0.0);
    done(&spec);
    let report: Report = serde_json::from_slice(&std::fs::read(spec.candidate_dir.join(REPORT)).unwrap()).unwrap();
    let most = shares.dealt(2 * classes.len());
    for (class, most) in report.classes.iter().zip(most) {
        assert_eq!(class.seeds[0], class.zero_shot.min(most as u64), "{class:?}");
    }
}

#[test]
fn a_candidate_refuses_a_twentieth_of_its_pool() {
    let decided = |per_part| {
        let bench = Bench::new(per_part);
        let mut spec = bench.spec(Method::ZeroShot);
        let dir = spec.candidate_dir.parent().unwrap().to_owned();
        let score = spec.images.iter().map(|image| image.path.clone()).collect();
        spec.diagnostics = Some(Diagnostics { dir: dir.clone(), score });
        done(&spec);
        let answers = Tensor::read_safetensors(dir.join("test.safetensors")).unwrap();
        let energies = answers.into_iter().find(|(name, _)| name == "energy/deployed").unwrap().1;
        let manifest = std::fs::read(spec.candidate_dir.join(MANIFEST)).unwrap();
        (to_f32(&energies), serde_json::from_slice::<Manifest>(&manifest).unwrap().none_of_these)
    };
    let (energies, decision) = decided(10);
    let least = decision.unwrap().least_energy as f32;
    assert_eq!((energies.len(), energies.iter().filter(|&&energy| energy < least).count()), (100, 5));
    assert_eq!(decided(9).1, None, "too few images");
}

#[test]
fn what_is_none_of_the_classes_is_refused_more_often_than_what_is() {
    let Some(data) = std::env::var_os("COFT_TEST_DATA").map(std::path::PathBuf::from) else {
        return println!("skipped: no data");
    };
    let bench = Bench::new(1);
    let mut spec = bench.spec(Method::ZeroShot);
    let dir = spec.candidate_dir.parent().unwrap().to_owned();
    let pictures = |part: &str| -> Vec<std::path::PathBuf> {
        let set = part.split('/').next().unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.arg("-xzf").arg(data.join(format!("{set}.tar.gz"))).arg("-C").arg(&dir).arg(part);
        assert!(tar.status().unwrap().success());
        let folders = std::fs::read_dir(dir.join(part)).unwrap().map(|folder| folder.unwrap().path());
        folders
            .flat_map(|folder| std::fs::read_dir(folder).unwrap().take(20))
            .map(|file| file.unwrap().path())
            .collect()
    };
    spec.model_dir = data.join("mini_clip64");
    spec.template = "a photo of a {}.".into();
    spec.classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        .map(str::to_owned)
        .into();
    let id = |number| coft_core::ids::ImageId(format!("{number:064x}"));
    let own = pictures("cifar10/adapt").into_iter().enumerate();
    spec.images = own.map(|(number, path)| PoolImage { id: id(number), path, label: None }).collect();
    let score = pictures("scenes/test");
    spec.diagnostics = Some(Diagnostics { dir: dir.clone(), score });
    done(&spec);
    let answers: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(dir.join("test.safetensors")).unwrap().into_iter().collect();
    let manifest: Manifest =
        serde_json::from_slice(&std::fs::read(spec.candidate_dir.join(MANIFEST)).unwrap()).unwrap();
    let least = manifest.none_of_these.unwrap().least_energy as f32;
    let refused = to_f32(&answers["energy/deployed"]).into_iter().filter(|&energy| energy < least).count();
    assert!(refused >= 20, "{refused} of {}; of its own images a twentieth is", answers["energy/deployed"].numel());
}
