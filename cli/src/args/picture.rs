//! `coftctl classify`, `coftctl results` and `coftctl review`: what pictures show.

use clap::Args;
use std::path::PathBuf;

/// The files are opened here and handed to the service as descriptors: what you may read, you may classify.
#[derive(Debug, Args)]
pub struct Classify {
    /// Image files; - reads one image from standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take directories too, with every image file below them (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff, .gif, .qoi,
    /// .heic, .heif, .avif)
    #[arg(long, short)]
    pub recursive: bool,
    /// Labels to print for each image, the likeliest first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Leave out labels that are less probable, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub threshold: f64,
    /// Print the image's embedding too; needs --json
    #[arg(long)]
    pub embedding: bool,
}

/// NaN is refused, because every comparison with NaN is false.
fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a probability is a number from 0 to 1".into())
}

#[derive(Debug, Args)]
pub struct Results {
    /// Source to ask about, by its name or directory or by its number [default: all of them]
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Pictures with this label alone
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Pictures alone that a person should look at
    #[arg(long)]
    pub doubtful: bool,
    /// Pictures alone that another generation has answered and of which the active one says otherwise
    #[arg(long, conflicts_with_all = ["follow", "summary"])]
    pub changed: bool,
    /// Pictures alone that have come within this time, as 30m, 2h or 3d
    #[arg(long, value_name = "TIME")]
    pub since: Option<jiff::Span>,
    /// Pictures to show at most, the latest [default: 20; with --follow none but those that come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Go on with those that come, until Ctrl-C, also over a restart of the service; with --json a line each
    #[arg(long, conflicts_with = "summary")]
    pub follow: bool,
    /// Count them by label and hour instead [default: of the last 24 hours]
    #[arg(long, conflicts_with = "limit")]
    pub summary: bool,
}

#[derive(Debug, Args)]
pub struct Review {
    /// Ask here what the pictures show, one after the other, until it is decided; every answer is kept at once
    #[arg(long, conflicts_with_all = ["answer", "undo"])]
    pub decide: bool,
    /// Say what pictures show, for scripts: the id of an image that coftctl review --json lists, and the name of its
    /// class; IMAGE= without a name says that it shows none of them, or cannot be told
    #[arg(long, value_name = "IMAGE=CLASS", num_args = 1.., value_parser = answer, conflicts_with = "undo")]
    pub answer: Vec<(String, String)>,
    /// Take the last answer back; its picture is asked about again
    ///
    /// This works after a decision, too, unless it was for the new generation: then coftctl generation activate goes
    /// back to the earlier one.
    #[arg(long)]
    pub undo: bool,
}

fn answer(text: &str) -> Result<(String, String), String> {
    let (image, class) = text.split_once('=').ok_or("it is the id of an image, =, and the name of a class")?;
    Ok((image.into(), class.into()))
}
