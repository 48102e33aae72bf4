//! The review of a classifier: its questions and the labels from a person.

use super::{Service, objects, prompt};
use crate::error::CliError;
use crate::view::{Crop, Review, ReviewItem};
use coft_dbus::ReviewOptions;

impl Service {
    /// The current review, or the last one while the same generation has been active.
    pub async fn review(&self) -> Result<Option<Review>, CliError> {
        objects::review(prompt(self.classifier_proxy().await?.review()).await?)
    }

    /// At most `limit` pictures that a person is asked about, and the state of the review.
    pub async fn review_items(&self, limit: u32) -> Result<(Vec<ReviewItem>, Review), CliError> {
        let (items, review) = self.classifier_proxy().await?.review_items(limit).await?;
        let item = |(image, item): (String, coft_dbus::ReviewItem)| {
            let coft_dbus::ReviewItem { path, crop, present, candidate } = item;
            let crop = crop.map(|(x, y, width, height)| Crop { x, y, width, height });
            ReviewItem { image, path, crop, present, candidate }
        };
        Ok((items.into_iter().map(item).collect(), stands(review)?))
    }

    /// Submits labels: the id of an image and the name of its class.
    pub async fn submit_review(&self, labels: Vec<(String, String)>) -> Result<Review, CliError> {
        stands(self.classifier_proxy().await?.submit_review(labels, ReviewOptions::default()).await?)
    }

    /// Withdraws the last label of the review.
    pub async fn undo_review(&self) -> Result<Review, CliError> {
        let options = ReviewOptions { undo: Some(true) };
        stands(self.classifier_proxy().await?.submit_review(Vec::new(), options).await?)
    }
}

/// The review in an answer, which must have one.
fn stands(review: coft_dbus::Review) -> Result<Review, CliError> {
    objects::review(review)?.ok_or_else(|| CliError::Misunderstood("there is no review in the answer".into()))
}
