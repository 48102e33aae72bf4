//! What the service measures of itself, as a client reads it.

use super::*;
use std::io::Write;

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_told_and_count_what_was_refused() {
    let stage = Stage::serving(grown(), Settings { queue: 1, ..Settings::default() }).await;
    let manager = stage.manager().await;
    let figures = manager.measure().await.unwrap();
    assert_eq!(figures.classified_images, Some(0));
    assert_eq!((figures.waiting_interactive, figures.waiting_bulk), (Some(0), Some(0)));
    assert!(figures.memory_bytes.is_some_and(|bytes| bytes > 0), "{figures:?}");
    assert!(figures.disk_free_bytes <= figures.disk_size_bytes && figures.disk_free_bytes.is_some(), "{figures:?}");

    let mut image = tempfile::tempfile().unwrap();
    image.write_all(b"no image").unwrap();
    let images = vec![image.as_fd().into(), image.as_fd().into()];
    let refused = stage.classifier().await.classify_many(images, Default::default()).await.unwrap_err();
    assert!(matches!(refused, coft_dbus::Error::Busy(_)), "{refused}");
    assert_eq!(manager.measure().await.unwrap().refused_images, Some(2));
}
