//! `preprocessor_config.json`: how images are prepared for a model, in the Hugging Face CLIP layout.
//!
//! Every step that the file asks for is either done, or refused with the name of its key; none is ignored silently.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Name of the file in a model directory.
pub const CONFIG_FILE: &str = "preprocessor_config.json";
/// Image processors whose steps and default values are those below. `transformers` 5 appends a suffix to these names,
/// which only tells how the steps are computed.
const PROCESSORS: [&str; 2] = ["CLIPImageProcessor", "CLIPFeatureExtractor"];
/// Steps that change the pixels and are supported.
const STEPS: [&str; 5] = ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"];

/// How pixels are weighted when an image is resized; both as in Pillow, antialiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// The triangle of Pillow's `BILINEAR`.
    Bilinear,
    /// The cubic kernel of Pillow's `BICUBIC`, a = −½.
    #[default]
    Bicubic,
}

/// Resize, centre crop, normalise.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Short side after resizing, px; at least `crop`. If images are squashed, the length of both sides.
    pub shortest_edge: u32,
    /// If true, the whole image is resized to a square, whatever its proportions. Otherwise the proportions are kept
    /// and the ends are cut off.
    pub squash: bool,
    /// Side of the square that the model reads, px.
    pub crop: u32,
    /// Subtracted from each channel (red, green, blue) on the scale 0 to 1.
    pub mean: [f32; 3],
    /// Divides each channel after the subtraction; > 0.
    pub std: [f32; 3],
    /// How pixels are weighted when the image is resized.
    pub filter: Filter,
}

/// Why a preprocessing is not possible.
#[derive(Debug, Error)]
pub enum PreprocessError {
    /// A key of the file is missing, or asks for what is not supported.
    #[error("{file}: {key}: {problem}")]
    Key {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What is wrong, and what to write.
        problem: String,
    },
}

impl Preprocess {
    /// Reads the content of `preprocessor_config.json`, which a candidate's manifest contains as well.
    ///
    /// # Errors
    /// Names the key that is missing, or asks for what is not supported.
    pub fn from_json(json: &Value) -> Result<Self, PreprocessError> {
        Self::from_file(json, Path::new(CONFIG_FILE))
    }

    /// Reads the content of another file; errors name that file.
    ///
    /// # Errors
    /// Names the key that is missing, or asks for what is not supported.
    pub fn from_file(json: &Value, file: &Path) -> Result<Self, PreprocessError> {
        let config = json.as_object().cloned().unwrap_or_default();
        let config = Config { file, config };
        config.expect_processor()?;
        // Pixels that are not bytes from 0 to 255, or not of the model's size, would differ from those in the model's
        // training.
        for key in ["do_resize", "do_rescale"] {
            if !config.flag(key)? {
                return Err(config.problem(key, "false is not supported; set it to true".into()));
            }
        }
        let filter = config.filter()?;
        config.expect_number("rescale_factor", 1.0 / 255.0, "1/255")?;
        let (shortest_edge, squash) = config.resized()?;
        let crop = match config.flag("do_center_crop")? {
            true => config.side("crop_size")?,
            false if squash => shortest_edge,
            false => {
                let problem =
                    "false leaves images that are not square; set it to true, or \"size\" to a height and a width";
                return Err(config.problem("do_center_crop", problem.into()));
            }
        };
        if crop > shortest_edge {
            let problem = format!("{crop} px is more than the {shortest_edge} px of \"size\"");
            return Err(config.problem("crop_size", problem));
        }
        let (mut mean, mut std) = ([0.0; 3], [1.0; 3]);
        if config.flag("do_normalize")? {
            mean = config.channels("image_mean")?;
            std = config.channels("image_std")?;
            if std.iter().any(|&deviation| deviation <= 0.0) {
                return Err(config.problem("image_std", format!("{std:?} must be positive")));
            }
        }
        Ok(Self { shortest_edge, squash, crop, mean, std, filter })
    }
}

/// The same preprocessing, as JSON, for a model with another input side, px. If images are resized and then cropped,
/// the proportion of both sizes stays the same.
///
/// # Errors
/// Names the key of `json` that is missing, or asks for what is not supported.
pub fn with_image_size(json: &Value, side: u32) -> Result<Value, PreprocessError> {
    let before = Preprocess::from_json(json)?;
    let edge = (u64::from(before.shortest_edge) * u64::from(side)).div_ceil(u64::from(before.crop));
    let mut json = json.clone();
    json["size"] = match before.squash {
        true => serde_json::json!({ "height": edge, "width": edge }),
        false => serde_json::json!({ "shortest_edge": edge }),
    };
    json["crop_size"] = serde_json::json!({ "height": side, "width": side });
    Ok(json)
}

/// Longest edge that a model may ask for, px. Protects the arithmetic; no CLIP comes near it. [choice]
const MAX_EDGE_PX: u32 = 4096;

struct Config<'a> {
    file: &'a Path,
    config: Map<String, Value>,
}

impl Config<'_> {
    fn problem(&self, key: &str, problem: String) -> PreprocessError {
        PreprocessError::Key { file: self.file.to_owned(), key: key.to_owned(), problem }
    }

    /// Another processor gives other meanings to the same keys, and other defaults to missing ones.
    fn expect_processor(&self) -> Result<(), PreprocessError> {
        for key in ["image_processor_type", "feature_extractor_type"] {
            let Some(name) = self.config.get(key).filter(|name| !name.is_null()) else { continue };
            let plain = name.as_str().unwrap_or_default();
            if !PROCESSORS.iter().any(|known| plain.starts_with(known)) {
                return Err(self.problem(key, format!("{name} is not supported, only {}", PROCESSORS[0])));
            }
        }
        let unknown = |(key, value): &(&String, &Value)| {
            key.starts_with("do_") && **value == Value::Bool(true) && !STEPS.contains(&key.as_str())
        };
        match self.config.iter().find(unknown) {
            Some((key, _)) => Err(self.problem(key, "this step is not supported; a CLIP does not have it".into())),
            None => Ok(()),
        }
    }

    /// Absent means true, as in `CLIPImageProcessor`.
    fn flag(&self, key: &str) -> Result<bool, PreprocessError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(true),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.problem(key, format!("{other} is neither true nor false"))),
        }
    }

    /// Absent means the expected value, as in `CLIPImageProcessor`.
    fn expect_number(&self, key: &str, expected: f64, as_text: &str) -> Result<(), PreprocessError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-6) => Ok(()),
            Some(other) => Err(self.problem(key, format!("{other} is not supported, only {as_text}"))),
        }
    }

    /// Pillow's numbers of filters; absent means bicubic, as in `CLIPImageProcessor`.
    fn filter(&self) -> Result<Filter, PreprocessError> {
        match self.config.get("resample") {
            None | Some(Value::Null) => Ok(Filter::Bicubic),
            Some(number) if number.as_u64() == Some(2) => Ok(Filter::Bilinear),
            Some(number) if number.as_u64() == Some(3) => Ok(Filter::Bicubic),
            Some(other) => {
                Err(self.problem("resample", format!("{other} is not supported, only 2 (bilinear) and 3 (bicubic)")))
            }
        }
    }

    /// The size to which images are resized, px, and whether it applies to both sides.
    fn resized(&self) -> Result<(u32, bool), PreprocessError> {
        let squash = match self.required("size")? {
            Value::Object(sides) => !sides.contains_key("shortest_edge"),
            Value::Array(_) => true,
            _ => self.config.get("default_to_square") == Some(&Value::Bool(true)),
        };
        Ok((self.side("size")?, squash))
    }

    /// A side in px: `n`, `[n, n]`, `{"shortest_edge": n}`, or `{"height": n, "width": n}`.
    fn side(&self, key: &str) -> Result<u32, PreprocessError> {
        let value = self.required(key)?;
        let square = |height: &Value, width: &Value| self.problem(key, format!("{height}×{width} is not square"));
        let side = match value {
            Value::Object(sides) => match (sides.get("shortest_edge"), sides.get("height"), sides.get("width")) {
                (Some(side), None, None) => side,
                (None, Some(height), Some(width)) if height == width => height,
                (None, Some(height), Some(width)) => return Err(square(height, width)),
                _ => {
                    let problem = format!("{value} needs \"shortest_edge\", or \"height\" and \"width\"");
                    return Err(self.problem(key, problem));
                }
            },
            Value::Array(sides) => match &sides[..] {
                [height, width] if height == width => height,
                [height, width] => return Err(square(height, width)),
                _ => value,
            },
            side => side,
        };
        let px = side.as_u64().and_then(|px| u32::try_from(px).ok()).filter(|px| (1..=MAX_EDGE_PX).contains(px));
        px.ok_or_else(|| self.problem(key, format!("{side} is not a number of pixels from 1 to {MAX_EDGE_PX}")))
    }

    fn required(&self, key: &str) -> Result<&Value, PreprocessError> {
        self.config.get(key).ok_or_else(|| self.problem(key, "the key is missing".into()))
    }

    fn channels(&self, key: &str) -> Result<[f32; 3], PreprocessError> {
        let value = self.required(key)?;
        let numbers: Option<Vec<f32>> =
            value.as_array().and_then(|numbers| numbers.iter().map(|n| n.as_f64().map(|n| n as f32)).collect());
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| self.problem(key, format!("{value} is not a list of three numbers")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(changes: Value) -> Value {
        let mut config = json!({
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": true, "size": {"shortest_edge": 64}, "resample": 3,
            "do_center_crop": true, "crop_size": {"height": 48, "width": 48},
            "do_rescale": true, "rescale_factor": 0.003_921_568_627_450_98,
            "do_normalize": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6],
            "do_convert_rgb": true,
        });
        for (key, value) in changes.as_object().unwrap() {
            if value.is_null() {
                config.as_object_mut().unwrap().remove(key);
            } else {
                config[key] = value.clone();
            }
        }
        config
    }

    #[track_caller]
    fn accepted(changes: Value) -> Preprocess {
        Preprocess::from_json(&config(changes)).unwrap()
    }

    #[track_caller]
    fn refused(changes: Value, why: &str) {
        let error = Preprocess::from_json(&config(changes)).unwrap_err();
        assert_eq!(error.to_string(), format!("preprocessor_config.json: {why}"));
    }

    #[test]
    fn every_spelling_of_a_size_is_read() {
        let plain = Preprocess {
            shortest_edge: 64,
            squash: false,
            crop: 48,
            mean: [0.1, 0.2, 0.3],
            std: [0.4, 0.5, 0.6],
            filter: Filter::Bicubic,
        };
        assert_eq!(accepted(json!({})), plain);
        assert_eq!(accepted(json!({"size": 64, "crop_size": 48})), plain);
        assert_eq!(accepted(json!({"crop_size": {"shortest_edge": 48}, "resample": null, "do_rescale": null})), plain);
    }

    #[test]
    fn a_height_and_a_width_squash_and_are_not_a_shortest_edge() {
        let (height, both) = (json!({"height": 64, "width": 64}), json!([64, 64]));
        for size in [json!({ "size": height }), json!({ "size": both }), json!({"size": 64, "default_to_square": true})]
        {
            let squashed = accepted(size);
            assert!(squashed.squash && (squashed.shortest_edge, squashed.crop) == (64, 48), "{squashed:?}");
        }
        let whole = accepted(json!({"size": height, "do_center_crop": false, "crop_size": null}));
        assert!(whole.squash && whole.crop == 64);
        let wider = Preprocess::from_json(&with_image_size(&config(json!({ "size": height })), 96).unwrap()).unwrap();
        assert!(wider.squash && (wider.shortest_edge, wider.crop) == (128, 96));
    }

    #[test]
    fn another_side_keeps_the_proportion() {
        let wider = with_image_size(&config(json!({"resample": 2})), 96).unwrap();
        let wider = Preprocess::from_json(&wider).unwrap();
        assert_eq!((wider.shortest_edge, wider.crop, wider.filter), (128, 96, Filter::Bilinear));
        let odd = Preprocess::from_json(&with_image_size(&config(json!({})), 49).unwrap()).unwrap();
        assert_eq!((odd.shortest_edge, odd.crop), (66, 49), "never less than the crop");
    }

    #[test]
    fn values_without_normalisation_stay_between_0_and_1() {
        let plain = accepted(json!({"do_normalize": false, "image_mean": null}));
        assert_eq!((plain.mean, plain.std), ([0.0; 3], [1.0; 3]));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_key() {
        refused(json!({"resample": 0}), "resample: 0 is not supported, only 2 (bilinear) and 3 (bicubic)");
        refused(json!({"rescale_factor": 1.0}), "rescale_factor: 1.0 is not supported, only 1/255");
        refused(json!({"do_resize": false}), "do_resize: false is not supported; set it to true");
        let cropped = "false leaves images that are not square; set it to true, or \"size\" to a height and a width";
        refused(json!({"do_center_crop": false}), &format!("do_center_crop: {cropped}"));
        refused(json!({"do_pad": true}), "do_pad: this step is not supported; a CLIP does not have it");
        refused(
            json!({"image_processor_type": "ViTImageProcessor"}),
            "image_processor_type: \"ViTImageProcessor\" is not supported, only CLIPImageProcessor",
        );
        refused(json!({"do_center_crop": "yes"}), "do_center_crop: \"yes\" is neither true nor false");
        refused(json!({"size": null}), "size: the key is missing");
        refused(json!({"size": 0}), "size: 0 is not a number of pixels from 1 to 4096");
        refused(json!({"crop_size": {"height": 48, "width": 32}}), "crop_size: 48×32 is not square");
        refused(
            json!({"size": {"longest_edge": 9}}),
            "size: {\"longest_edge\":9} needs \"shortest_edge\", or \"height\" and \"width\"",
        );
        refused(json!({"crop_size": 65}), "crop_size: 65 px is more than the 64 px of \"size\"");
        refused(json!({"image_mean": [0.5, 0.5]}), "image_mean: [0.5,0.5] is not a list of three numbers");
        refused(json!({"image_std": [0.5, 0.0, 0.5]}), "image_std: [0.5, 0.0, 0.5] must be positive");
    }
}
