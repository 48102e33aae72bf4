//! Serving, against ONNX Runtime itself and the tiny generations of `tests/goldens/serve`.

use super::memory::Closable;
use super::*;
use crate::decode_budget;
use ::image::{ImageBuffer, ImageFormat, Rgb, RgbImage};
use coft_core::manifest::{MANIFEST, MODEL, Manifest};
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve").join(name)
}

fn start(settings: Settings) -> (Classifier, Controller) {
    let (classifier, controller) = Classifier::start(settings, DecodeBudget::default());
    controller.swap(controller.load(&golden("sharp"), GenerationId(1)).unwrap());
    (classifier, controller)
}

/// A file with an evenly coloured picture.
fn picture(colour: [u8; 3]) -> OwnedFd {
    let mut png = Cursor::new(Vec::new());
    RgbImage::from_pixel(20, 16, Rgb(colour)).write_to(&mut png, ImageFormat::Png).unwrap();
    file(png.get_ref())
}

fn file(content: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.into()
}

const GREEN: [u8; 3] = [40, 200, 40];

#[tokio::test]
async fn an_image_gets_its_label() {
    let (classifier, _controller) = start(Settings::default());
    let answer = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    let names: Vec<&str> = answer.labels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names.len(), answer.generation), ("green", 3, GenerationId(1)));
    let total: f64 = answer.labels.iter().map(|(_, score)| score).sum();
    assert!((total - 1.0).abs() < 1e-5);
    let best = classifier.classify(picture(GREEN), &Options { top_k: Some(1), ..Options::default() }).await.unwrap();
    assert_eq!(best.labels, answer.labels[..1]);
}

#[tokio::test]
async fn what_is_no_image_is_said_to_be_none() {
    let (classifier, _controller) = start(Settings { file_limit: bytesize::ByteSize::kib(64), ..Settings::default() });
    let options = Options::default();
    let classify = |fd| classifier.classify(fd, &options);
    assert!(matches!(classify(file(b"not an image")).await, Err(ServeError::BadImage(_))));
    assert!(matches!(classify(file(b"")).await, Err(ServeError::BadImage(_))));
    let large = Err(ServeError::TooLarge { size: 65537, limit: 65536 });
    assert_eq!(classify(file(&[0; 65537])).await, large);
    let (reader, _writer) = std::io::pipe().unwrap();
    assert_eq!(classify(reader.into()).await, Err(ServeError::NotAFile));
}

#[tokio::test]
async fn without_a_generation_nothing_is_answered() {
    let (classifier, _controller) = Classifier::start(Settings::default(), DecodeBudget::default());
    assert_eq!(classifier.classify(picture(GREEN), &Options::default()).await, Err(ServeError::NotReady));
}

#[tokio::test]
async fn a_generation_that_cannot_be_loaded_is_named_until_one_serves() {
    let (classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
    assert_eq!(controller.running(), ServingStatus::default(), "no generation yet is no problem");
    controller.cannot_load(GenerationId(5), "no library".into());
    assert_eq!(controller.running().problem, "generation 5 cannot be loaded: no library");
    let said = ServeError::NotLoaded { generation: GenerationId(5), cause: "no library".into() };
    assert_eq!(classifier.classify(picture(GREEN), &Options::default()).await, Err(said));
    controller.swap(controller.load(&golden("sharp"), GenerationId(6)).unwrap());
    controller.cannot_load(GenerationId(5), "no library".into());
    assert_eq!(controller.running().problem, "");
    assert!(classifier.classify(picture(GREEN), &Options::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() {
    let (classifier, _controller) = start(Settings { queue: 2, ..Settings::default() });
    let requests = (0..40).map(|_| {
        let classifier = classifier.clone();
        tokio::spawn(async move { classifier.classify(picture(GREEN), &Options::default()).await })
    });
    let mut refused = 0;
    for request in requests.collect::<Vec<_>>() {
        match request.await.unwrap() {
            Ok(answer) => assert_eq!(answer.labels[0].0, "green"),
            Err(error) => {
                assert_eq!(error, ServeError::Busy(2, Party::User(0)));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "40 requests never met a queue of 2");
}

/// The service must not use the descriptor's offset, which belongs to the client.
#[tokio::test]
async fn the_whole_file_is_read_wherever_its_offset_stands() {
    use std::io::{Seek, SeekFrom};
    let (classifier, _controller) = start(Settings::default());
    let mut file = std::fs::File::from(picture(GREEN));
    file.seek(SeekFrom::End(0)).unwrap();
    let at = file.stream_position().unwrap();
    let answer = classifier.classify(file.try_clone().unwrap().into(), &Options::default()).await.unwrap();
    assert_eq!(answer.labels[0].0, "green");
    assert_eq!(file.stream_position().unwrap(), at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_fails_and_mixes_nothing() {
    let (classifier, controller) = start(Settings::default());
    let score = |name: &str, id| {
        let (classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        controller.swap(controller.load(&golden(name), GenerationId(id)).unwrap());
        async move { classifier.classify(picture(GREEN), &Options::default()).await.unwrap().labels[0].1 }
    };
    let (sharp, soft) = (score("sharp", 1).await, score("soft", 2).await);
    assert!((sharp - soft).abs() > 0.1, "the two generations can be told apart");

    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients = (0..6).map(|_| {
        let (classifier, stop) = (classifier.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut seen = [0u32; 2];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
                // Odd generations are sharp, even ones soft.
                let odd = answer.generation.0 % 2 == 1;
                let expected = if odd { sharp } else { soft };
                assert!((answer.labels[0].1 - expected).abs() < 1e-6, "an answer of another generation");
                seen[usize::from(odd)] += 1;
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    let controller = Arc::new(controller);
    let mut served = Vec::new();
    for id in 2..102 {
        served.push(Arc::downgrade(&controller.shared.current().unwrap()));
        let controller = Arc::clone(&controller);
        let swapped = tokio::task::spawn_blocking(move || {
            let name = if id % 2 == 1 { "sharp" } else { "soft" };
            controller.swap(controller.load(&golden(name), GenerationId(id)).unwrap());
        });
        swapped.await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut seen = [0; 2];
    for client in clients {
        let counts = client.await.unwrap();
        seen = [seen[0] + counts[0], seen[1] + counts[1]];
    }
    assert!(seen[0] > 0 && seen[1] > 0, "both generations answered: {seen:?}");
    let alive = || served.iter().filter(|session| session.strong_count() > 0).count();
    // The thread that runs the sessions may still hold the last one.
    tokio::time::timeout(Duration::from_secs(60), async {
        while alive() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("what was replaced is closed");
}

#[tokio::test]
async fn what_is_asked_for_is_answered_and_no_more() {
    let (classifier, _controller) = start(Settings::default());
    let plain = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    assert_eq!((plain.embedding, plain.provider), (None, Provider::Cpu));
    let options = Options { threshold: plain.labels[0].1, embedding: true, ..Options::default() };
    let answer = classifier.classify(picture(GREEN), &options).await.unwrap();
    assert_eq!(answer.labels, plain.labels[..1], "the others are below the threshold");
    assert!(answer.embedding.is_some_and(|values| !values.is_empty()));
}

/// A copy of a generation whose manifest has a threshold.
fn with_least_energy(least_energy: f64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("sharp")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(MANIFEST);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["none-of-these"] = serde_json::json!({ "least-energy": least_energy });
    fs::write(&path, manifest.to_string()).unwrap();
    dir
}

#[tokio::test]
async fn an_image_may_be_none_of_the_classes_where_that_is_asked_for() {
    for (asked, least_energy, expected) in [(true, 1e9, true), (true, -1e9, false), (false, 1e9, false)] {
        let (classifier, controller) =
            Classifier::start(Settings { none_of_these: asked, ..Settings::default() }, DecodeBudget::default());
        let dir = with_least_energy(least_energy);
        controller.swap(controller.load(dir.path(), GenerationId(1)).unwrap());
        let answer = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
        assert_eq!(answer.none_of_these, expected, "asked {asked}, least energy {least_energy}");
        assert_eq!(answer.labels[0].0, "green", "the labels are told all the same");
    }
}

/// The thresholds come from the configuration; a generation with other classes ignores them.
#[tokio::test]
async fn thresholds_decide_and_leave_the_labels_as_they_are() {
    let (classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
    controller.swap(controller.load(&golden("soft"), GenerationId(1)).unwrap());
    let plain = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    assert_eq!(plain.decision, None);
    let [(best, _), (second, probability), _] = &plain.labels[..] else { panic!("{:?}", plain.labels) };
    for (class, threshold, decided) in
        [(second, *probability, second), (second, probability + 1e-3, best), (&"purple".to_owned(), 0.1, best)]
    {
        // The thresholds apply at once to the generation that serves, and to one that takes over later.
        controller.decide_by([(class.clone(), threshold)].into());
        let at_once = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
        assert_eq!(at_once.decision.as_ref(), Some(decided), "{class} from {threshold} on");
        controller.swap(controller.load(&golden("soft"), GenerationId(1)).unwrap());
        let best_alone = Options { top_k: Some(1), ..Options::default() };
        let answer = classifier.classify(picture(GREEN), &best_alone).await.unwrap();
        assert_eq!(answer.decision.as_ref(), Some(decided), "{class} from {threshold} on");
        assert_eq!(answer.labels, plain.labels[..1]);
    }
}

#[tokio::test]
async fn many_are_answered_in_their_order_and_a_bad_one_alone_fails() {
    let (classifier, _controller) = start(Settings { queue: 3, ..Settings::default() });
    let images = || vec![picture(GREEN), file(b"no image"), picture([200, 40, 40])];
    let answers = classifier.classify_many(images(), &Options::default()).await.unwrap();
    let best = |answer: &Result<Classification, ServeError>| answer.as_ref().unwrap().labels[0].0.clone();
    assert_eq!((best(&answers[0]), best(&answers[2])), ("green".to_owned(), "red".to_owned()));
    assert!(matches!(answers[1], Err(ServeError::BadImage(_))));
    let one_more = images().into_iter().chain([picture(GREEN)]).collect();
    assert_eq!(classifier.classify_many(one_more, &Options::default()).await, Err(ServeError::Busy(3, Party::User(0))));
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_said() {
    let (classifier, _controller) = start(Settings::default());
    let options = Options { deadline: Some(Duration::ZERO), ..Options::default() };
    assert_eq!(classifier.classify(picture(GREEN), &options).await, Err(ServeError::DeadlineExceeded));
}

/// The session is blocked. Requests that wait for it and are given up cost nothing once it continues.
#[test]
fn whoever_gives_up_frees_the_place() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (classifier, controller) = start(Settings { queue: 2, max_batch: 1, ..Settings::default() });
    let free = || controller.shared.shares.free(Party::User(0));
    let ask = || {
        let classifier = classifier.clone();
        runtime.spawn(async move { classifier.classify(picture(GREEN), &Options::default()).await })
    };
    let loaded = controller.shared.current().unwrap();
    let session = loaded.held_up();
    let (first, second) = (ask(), ask());
    while free()[0] > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(runtime.block_on(ask()).unwrap(), Err(ServeError::Busy(2, Party::User(0))));
    assert_eq!(free()[1], 2, "bulk work has places of its own");
    second.abort();
    drop(session);
    assert_eq!(runtime.block_on(first).unwrap().unwrap().labels[0].0, "green");
    assert!(runtime.block_on(second).unwrap_err().is_cancelled());
    // This request is served after both of them.
    let bulk = Options { priority: Priority::Bulk, ..Options::default() };
    assert!(runtime.block_on(classifier.classify_in_batch(picture(GREEN), &bulk)).is_ok());
    assert_eq!(free(), [2, 2]);
}

/// A file with a picture of this size and 16 bits per channel.
fn deep_picture(width: u32, height: u32) -> OwnedFd {
    let mut png = Cursor::new(Vec::new());
    let deep = ImageBuffer::from_pixel(width, height, Rgb([40u16 << 8, 200 << 8, 40 << 8]));
    ::image::DynamicImage::ImageRgb16(deep).write_to(&mut png, ImageFormat::Png).unwrap();
    file(png.get_ref())
}

/// A file of 778 kB took 1.1 GB on each thread that decodes.
#[tokio::test]
async fn a_picture_over_the_decode_budget_is_refused_and_a_large_one_below_it_is_answered() {
    let budget = DecodeBudget::new(&decode_budget::Settings { memory: bytesize::ByteSize::mib(32) });
    let (classifier, controller) = Classifier::start(Settings::default(), budget);
    controller.swap(controller.load(&golden("sharp"), GenerationId(1)).unwrap());
    let refused = classifier.classify(deep_picture(3000, 2000), &Options::default()).await.unwrap_err();
    assert!(matches!(refused, ServeError::OverBudget(_)), "{refused:?}");
    let text = refused.to_string();
    for part in ["3000×2000 px", "over the limit of 32.0 MiB", "memory in [decode]"] {
        assert!(text.contains(part), "{text}");
    }
    let many: Vec<_> = (0..16).map(|_| deep_picture(1600, 1200)).collect();
    for answer in classifier.classify_many(many, &Options::default()).await.unwrap() {
        assert_eq!(answer.unwrap().labels[0].0, "green");
    }
}

/// After one user had sent 64 images, the requests of all others were refused as busy.
#[test]
fn a_neighbour_of_one_who_fills_the_queue_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (classifier, controller) = start(Settings { queue: 16, ..Settings::default() });
    let ask = |user, images| {
        let (classifier, party) = (classifier.clone(), Party::User(user));
        let images = (0..images).map(|_| picture(GREEN)).collect();
        runtime.spawn(async move { classifier.classify_many(images, &Options { party, ..Options::default() }).await })
    };
    let loaded = controller.shared.current().unwrap();
    let session = loaded.held_up();
    let hostile = ask(1, 16);
    while controller.shared.shares.free(Party::User(1))[0] > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let refused = runtime.block_on(ask(1, 1)).unwrap().unwrap_err();
    assert_eq!(refused, ServeError::Busy(16, Party::User(1)));
    let neighbour = ask(2, 1);
    while controller.shared.shares.free(Party::User(2))[0] == 16 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(session);
    assert!(runtime.block_on(neighbour).unwrap().unwrap()[0].is_ok());
    assert_eq!(runtime.block_on(hostile).unwrap().unwrap().len(), 16);
}

/// While a run hung, every request failed or waited for ever, and no part of the service noticed it.
#[test]
fn a_run_that_hangs_is_seen_until_it_ends() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (classifier, controller) = start(Settings::default());
    assert_eq!(controller.under_way(), None);
    let loaded = controller.shared.current().unwrap();
    let session = loaded.held_up();
    let answer = runtime.spawn(async move { classifier.classify(picture(GREEN), &Options::default()).await });
    let seen = loop {
        match controller.under_way() {
            Some(seen) if seen.batch == 1 => break seen,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    assert_eq!(controller.under_way().map(|now| now.batch), Some(seen.batch), "it is the same one");
    drop(session);
    assert!(runtime.block_on(answer).unwrap().is_ok());
    while controller.under_way().is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A request with a deadline waited for a run that hung, even for ever.
#[test]
fn a_deadline_holds_while_a_run_hangs() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (classifier, controller) = start(Settings::default());
    let loaded = controller.shared.current().unwrap();
    let session = loaded.held_up();
    let options = Options { deadline: Some(Duration::from_millis(50)), ..Options::default() };
    let answer = runtime.spawn(async move { classifier.classify(picture(GREEN), &options).await });
    assert_eq!(runtime.block_on(answer).unwrap(), Err(ServeError::DeadlineExceeded));
    drop(session);
}

#[tokio::test]
async fn a_closed_session_is_opened_by_the_next_request() {
    let (classifier, controller) = start(Settings::default());
    let before = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    controller.close_session();
    let after = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    assert_eq!((before.labels, before.generation), (after.labels, after.generation));
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_again_is_said_and_not_tried_at_every_request() {
    let (classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
    let dir = with_least_energy(0.0);
    controller.swap(controller.load(dir.path(), GenerationId(1)).unwrap());
    controller.close_session();
    let model = dir.path().join("model.onnx");
    fs::rename(&model, dir.path().join("away")).unwrap();
    let classify = async || classifier.classify(picture(GREEN), &Options::default()).await;
    assert!(matches!(classify().await, Err(ServeError::Internal(_))));
    fs::rename(dir.path().join("away"), &model).unwrap();
    assert!(matches!(classify().await, Err(ServeError::Internal(_))), "it was tried just now");
}

#[test]
fn engines_of_generations_that_are_gone_are_removed() {
    let (_classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
    let manifest = fs::read(golden("sharp").join(MANIFEST)).unwrap();
    let kept: Manifest = serde_json::from_slice(&manifest).unwrap();
    let state = tempfile::tempdir().unwrap();
    let engines = state.path().join("engines");
    let controller = controller.keep_engines(engines.clone());
    controller.keep_engines_of([&kept].into_iter()).unwrap(); // none has been built yet
    let name = load::engine_name(&kept);
    for dir in [name.as_str(), "0123456789abcdef-0123456789abcdef"] {
        fs::create_dir_all(engines.join(dir)).unwrap();
    }
    fs::write(engines.join("README"), "not ours").unwrap();
    controller.keep_engines_of([&kept].into_iter()).unwrap();
    let mut left: Vec<_> = fs::read_dir(&engines).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [name.as_str(), "README"]);
}

#[test]
fn parity_is_measured() {
    let (_classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
    let honest = controller.load(&golden("soft"), GenerationId(1)).unwrap();
    assert!(honest.parity.max_abs_diff < 1e-6, "{:?}", honest.parity);
    let (_classifier, small) =
        Classifier::start(Settings { max_batch: 3, ..Settings::default() }, DecodeBudget::default());
    let in_batches = small.load(&golden("soft"), GenerationId(1)).unwrap();
    assert!(in_batches.parity.max_abs_diff < 1e-6, "{:?}", in_batches.parity);
    let twisted = controller.load(&golden("twisted"), GenerationId(1)).unwrap();
    assert!(twisted.parity.max_abs_diff > 1e-3, "{:?}", twisted.parity);
}

#[test]
fn a_missing_library_is_said_where_it_was_looked_for() {
    // The library is located before it is loaded, so that the library loaded by other tests does not matter.
    let error = ort::locate(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err().to_string();
    assert!(error.contains("/nowhere/libonnxruntime.so") && error.contains("ORT_DYLIB_PATH"), "{error}");
}

/// Two models that may not be open at the same time: each is opened when it is asked, and the other is closed.
#[tokio::test]
async fn the_model_that_was_asked_longest_ago_gives_way() {
    // These generations have their weights in the model's own file.
    let sizes = ["sharp", "soft"].map(|name| fs::metadata(golden(name).join(MODEL)).unwrap().len());
    let memory = ModelMemory::new(sizes[0] + sizes[1] - 1);
    let serving = |name: &str, number| {
        let (classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let controller = controller.sharing(memory.clone());
        controller.swap(controller.load(&golden(name), GenerationId(number)).unwrap());
        (classifier, controller)
    };
    let is_open = |controller: &Controller| controller.shared.current().unwrap().is_open();
    let (first, of_first) = serving("sharp", 1);
    assert!(is_open(&of_first));
    let (second, of_second) = serving("soft", 2);
    assert_eq!((is_open(&of_first), is_open(&of_second)), (false, true));
    for _ in 0..2 {
        let answer = first.classify(picture(GREEN), &Options::default()).await.unwrap();
        assert_eq!((answer.generation, is_open(&of_first), is_open(&of_second)), (GenerationId(1), true, false));
        let answer = second.classify(picture(GREEN), &Options::default()).await.unwrap();
        assert_eq!((answer.generation, is_open(&of_first), is_open(&of_second)), (GenerationId(2), false, true));
    }
}

/// A generation was loading when its classifier was started anew. It then replaced a generation that had been promoted
/// since.
#[tokio::test]
async fn what_is_loaded_too_late_does_not_take_over() {
    let (classifier, controller) = start(Settings::default());
    let over = CancellationToken::new();
    let earlier = controller.clone().until(over.clone());
    let late = earlier.load(&golden("soft"), GenerationId(7)).unwrap();
    over.cancel();
    earlier.swap(late);
    let answer = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    assert_eq!(answer.generation, GenerationId(1));
    controller.swap(controller.load(&golden("soft"), GenerationId(8)).unwrap());
    let answer = classifier.classify(picture(GREEN), &Options::default()).await.unwrap();
    assert_eq!(answer.generation, GenerationId(8), "by its own it does");
}
