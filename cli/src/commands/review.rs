//! `coftctl review`.

mod dialogue;

use crate::args::Review as Wanted;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::{Asked, Review};

/// Most pictures that are listed; no review asks about more.
const MOST: u32 = 60;

pub async fn run(service: &Service, output: Output, wanted: Wanted) -> Result<Exit, CliError> {
    if wanted.decide {
        return dialogue::run(service, output).await;
    }
    if !wanted.answer.is_empty() {
        let review = service.submit_review(wanted.answer).await?;
        output.document(&review, || render::progress(&review) + &follow(&review))?;
        return Ok(Exit::Done);
    }
    if wanted.undo {
        let review = service.undo_review().await?;
        output.document(&review, || format!("the last answer is taken back\n{}", render::progress(&review)))?;
        return Ok(Exit::Done);
    }
    let review = service.review().await?;
    // Not every user may see the list of pictures.
    let asked = match review {
        Some(review) if output.is_json() && review.is_asking() => {
            let (items, review) = service.review_items(MOST).await?;
            Asked { review: Some(review), items }
        }
        review => Asked { review, items: Vec::new() },
    };
    output.document(&asked, || render::review(asked.review.as_ref()))?;
    Ok(Exit::Done)
}

/// The command that shows when the chosen generation begins to serve.
fn follow(review: &Review) -> String {
    let activation = review.activation.filter(|_| review.state == "candidate");
    activation.map_or_else(String::new, |job| format!("follow it: coftctl job wait {job}\n"))
}
