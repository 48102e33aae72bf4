//! A drawn world of industrial parts: the training data of the demo model, and the pictures of the demo's camera.
//!
//! A [`Scene`] is one part in some place, with a caption. The demo model is trained on its studio picture; a [`Camera`]
//! takes worse pictures of the same scenes. Everything is computed from random numbers, so a seed defines a data set,
//! whatever the number of threads. This module knows nothing of models, accuracies or the service.

mod background;
mod camera;
mod canvas;
mod clutter;
mod film;
mod finish;
mod parts;
mod scene;
mod set;

pub use camera::Camera;
pub use scene::Scene;
pub use set::{EVAL_TEMPLATE, write_set, write_studio};

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random number generator of all draws.
pub type Random = ChaCha8Rng;

/// Names of the parts, in label order. None starts with a vowel: "a photo of a {}." fits them all.
pub const PARTS: &[&str] = &[
    "hex bolt",
    "hex nut",
    "flat washer",
    "spur gear",
    "coil spring",
    "corner bracket",
    "ball bearing",
    "pipe elbow",
    "perforated plate",
    "lifting hook",
];

/// The random stream `stream` of a seed, independent of all other streams.
pub fn random(seed: u64, stream: u64) -> Random {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// The picture as a JPEG file; quality 1 to 100.
pub fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, quality).encode_image(image).expect("a picture fits a JPEG in memory");
    file
}
