//! `coftctl review`.

mod dialogue;

use crate::args::Review as Wanted;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::{Asked, Review};

/// Most pictures that are listed: as many as are asked about at most.
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
    let review = service.review().await?;
    // The list of pictures is not for everybody.
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

/// How to see the generation that was decided for begin to serve.
fn follow(review: &Review) -> String {
    let activation = review.activation.filter(|_| review.state == "candidate");
    activation.map_or_else(String::new, |round| format!("follow it: coftctl round wait {round}\n"))
}
