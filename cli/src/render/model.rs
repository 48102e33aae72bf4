//! Pretrained models.

use super::{fields, lines, table};
use crate::view::{Listed, Model};

pub fn models(models: &[Listed]) -> String {
    if models.is_empty() {
        return "no models in the store; get one: coftctl model pull OWNER/NAME, or coftctl model import DIR\n".into();
    }
    let mut table = table(&["NAME", "DIGEST", "SIZE", "IMAGES", "PARAMETERS", "SOURCE"], &[2, 3, 4]);
    let mut problems = String::new();
    for model in models {
        let row = match model {
            Listed::Usable(model) => [
                model.names.join(", "),
                model.digest.as_deref().map_or("", short).into(),
                bytes(model.size_bytes),
                format!("{} px", model.image_size),
                millions(model.parameters),
                model.source.clone().unwrap_or_default(),
            ],
            Listed::Unusable(model) => {
                let name = model.names.first().map_or_else(|| short(&model.digest), String::as_str);
                problems += &format!("{name} cannot be used: {}\n", model.problem);
                let (unknown, size) = (String::new(), bytes(model.size_bytes));
                let (names, digest) = (model.names.join(", "), short(&model.digest).into());
                [names, digest, size, unknown.clone(), unknown, model.source.clone()]
            }
        };
        table.add_row(row);
    }
    lines(&table) + &problems
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

pub fn model(model: &Model) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "not in the store".into());
    let mut rows = vec![
        ("names", if model.names.is_empty() { "none".into() } else { model.names.join(", ") }),
        ("digest", or_none(&model.digest)),
        ("source", or_none(&model.source)),
        ("directory", model.directory.clone()),
        ("layout", model.layout.clone()),
        ("size", bytes(model.size_bytes)),
        ("weights", format!("sha256 {}", model.weights_sha256)),
        (
            "parameters",
            format!(
                "{}, {} of the image encoder",
                millions(model.parameters),
                millions(model.image_encoder_parameters)
            ),
        ),
        (
            "images",
            format!(
                "{0}×{0} px, patches of {1} px, {2} layers of width {3}",
                model.image_size, model.patch_size, model.image_layers, model.image_width
            ),
        ),
        ("texts", format!("{} tokens, {} layers of width {}", model.text_window, model.text_layers, model.text_width)),
        ("embedding", format!("{} values, {}", model.embedding, model.activation)),
    ];
    rows.extend(
        model.converted_from.iter().map(|(name, digest)| ("converted", format!("from {name}, sha256 {digest}"))),
    );
    fields(&rows)
}

/// `605 MB`, with at most three digits.
pub fn bytes(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..1_000 => return format!("{bytes} bytes"),
        1_000..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    if value < 10.0 {
        format!("{value:.2} {unit}")
    } else if value < 100.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

fn millions(parameters: u64) -> String {
    format!("{:.1} M", parameters as f64 / 1e6)
}
