use super::*;
use crate::fixture;
use std::slice::from_ref;

#[test]
fn the_negative_loss_teaches_the_visual_prompts_unless_it_is_detached() {
    let checkpoint = fixture::checkpoint();
    let settings = Phase1::default();
    let tokens = fixture::class_tokens(&checkpoint, &settings);
    let pool = Pool::load(&[], &checkpoint.preprocess, checkpoint.device).unwrap();
    let mut rng = random::stream(3, "test");
    let side = checkpoint.config.vision_config.image_size;
    let pixels = random::normal(&mut rng, &[2, 3, side, side], 1.0, checkpoint.device);
    let (labels, others) = (Tensor::from_slice(&[0i64, 1]), Tensor::from_slice(&[2i64, 3]));
    for (detach_negative, taught) in [(false, true), (true, false)] {
        let settings = Phase1 { detach_negative, ..settings.clone() };
        let task = fixture::prompt_tuning(&checkpoint, &pool, &tokens, &settings);
        let prompts = Prompts::new(&checkpoint, &tokens, &settings, 1, "test");
        let text = prompts.text(&checkpoint, &tokens);
        let (_, loss) = losses(&task, &prompts, text, &pixels, (&labels, &others));
        loss.backward();
        let moved: Vec<bool> = prompts
            .named()
            .iter()
            .map(|(_, p)| p.grad().defined() && p.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0)
            .collect();
        assert_eq!(moved, [true, true, taught], "positive, negative and visual prompts, detach = {detach_negative}");
    }
}

#[test]
fn the_negative_prompt_alone_learns_at_its_own_pace() {
    let steps = |negative_pace| {
        let bench = fixture::Bench::new(1);
        let (pool, zero_shot) = (bench.pool(), bench.zero_shot());
        let settings = Phase1 { negative_pace, ..bench.settings.phase1.clone() };
        let tokens = fixture::class_tokens(&bench.checkpoint, &settings);
        let task = fixture::prompt_tuning(&bench.checkpoint, &pool, &tokens, &settings);
        let images = pool.everything();
        let seeds = Seeds { images: &images, labels: &zero_shot.labels };
        let started = Prompts::new(&bench.checkpoint, &tokens, &settings, 1, "phase 1 of model 1, iteration 1");
        let tuned = task.run(&seeds, &mut bench.train_context().borrow()).unwrap();
        let moved = tuned.named().into_iter().zip(started.named());
        moved.map(|((_, to), (_, from))| (to - from).norm().double_value(&[])).collect::<Vec<_>>()
    };
    let (slow, fast) = (steps(1.0), steps(10.0));
    let ratios: Vec<f64> = fast.iter().zip(&slow).map(|(fast, slow)| fast / slow).collect();
    assert!(ratios[1] > 3.0 && ratios[0] < 2.0 && ratios[2] < 2.0, "{ratios:?}");
}

#[test]
fn a_complement_is_uniform_over_the_other_classes() {
    let mut rng = random::stream(1, "test");
    let mut drawn = [0u32; 4];
    for _ in 0..3000 {
        drawn[uniform(&mut rng, 2, 4)] += 1;
    }
    assert_eq!(drawn[2], 0);
    assert!([0, 1, 3].iter().all(|&k| (850..1150).contains(&drawn[k])), "{drawn:?}");
    assert_eq!(uniform(&mut rng, 0, 2), 1);
}

#[test]
fn a_likely_complement_follows_the_probabilities_of_the_other_classes() {
    let mut rng = random::stream(1, "test");
    let mut drawn = [0u32; 4];
    for _ in 0..3000 {
        drawn[likely(&mut rng, 2, &[0.3, 0.1, 0.6, 0.0])] += 1;
    }
    assert_eq!((drawn[2], drawn[3]), (0, 0));
    assert!((2150..2350).contains(&drawn[0]), "three quarters: {drawn:?}");
    assert_ne!(likely(&mut rng, 1, &[0.0, 1.0, 0.0]), 1, "a certain label has a complement, too");
}

#[test]
fn features_of_several_templates_are_averaged() {
    let checkpoint = fixture::checkpoint();
    let template = |line, text: &str| Template { line, text: text.to_owned() };
    let (one, two) = (template(1, fixture::TEMPLATE), template(2, "a {}."));
    let features = |templates: &[Template]| text_features(&checkpoint, templates, &fixture::classes()).unwrap();
    let expected = normalised(&(features(from_ref(&one)) + features(from_ref(&two))));
    let difference = (features(&[one, two]) - expected).abs().max().double_value(&[]);
    assert!(difference < 1e-6, "{difference}");
}

#[test]
fn a_template_that_outgrows_the_window_is_named_by_its_line() {
    let long = Template { line: 7, text: "very ".repeat(80) + "{}" };
    let error = text_features(&fixture::checkpoint(), &[long], &fixture::classes()).unwrap_err().to_string();
    assert!(error.starts_with("line 7 of the template file: "), "{error}");
}
