//! Which generations are kept on disk.

use crate::ids::GenerationId;

/// Number of promoted generations that are kept besides the active one and its predecessor. 5 [choice].
pub const PROMOTED: usize = 5;
/// Number of refused candidates that are kept besides these. 2 [choice].
pub const REFUSED: usize = 2;

/// Generations to delete: all except the active one, the one to roll back to, and the `newest` latest.
///
/// The latest generation is always kept, so that no number is used twice.
pub fn expired(
    all: &[GenerationId],
    active: Option<GenerationId>,
    previous: Option<GenerationId>,
    newest: usize,
) -> Vec<GenerationId> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    sorted.truncate(sorted.len().saturating_sub(newest.max(1)));
    sorted.retain(|&id| Some(id) != active && Some(id) != previous);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(all: &[u64], active: u64, previous: u64, newest: usize, gone: &[u64]) {
        let ids = |numbers: &[u64]| numbers.iter().copied().map(GenerationId).collect::<Vec<_>>();
        let got = expired(&ids(all), Some(GenerationId(active)), Some(GenerationId(previous)), newest);
        assert_eq!(got, ids(gone));
    }

    #[test]
    fn what_serves_and_what_one_would_return_to_is_kept() {
        check(&[1, 2, 3, 4, 5], 5, 4, 2, &[1, 2, 3]);
        check(&[5, 4, 3, 2, 1], 1, 2, 2, &[3]);
        check(&[1, 2, 3], 1, 1, 0, &[2]);
        check(&[1], 1, 1, 3, &[]);
    }
}
