//! The progress of a job in one line, and durations for people.

use crate::view::Job;
use std::time::Duration;

/// `stage training, 41 %, 5120/12400 images, 210.4 images/s, 34s left`; unknown values are left out.
pub fn progress_line(job: &Job) -> String {
    let mut parts = Vec::new();
    if !job.stage.is_empty() {
        parts.push(job.stage.clone());
    }
    parts.push(format!("{:.0} %", job.fraction * 100.0));
    if job.images_total > 0 {
        parts.push(format!("{}/{} images", job.images_done, job.images_total));
    }
    if job.images_per_second > 0.0 {
        parts.push(format!("{:.1} images/s", job.images_per_second));
    }
    if let Some(left) = job.remaining_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()) {
        parts.push(format!("{} left", duration(left)));
    }
    parts.join(", ")
}

/// The two largest units: `45s`, `3m 05s`, `2h 07m`, `3d 04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if days > 0 => format!("{days}d {:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h {:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [(0, "0s"), (45, "45s"), (185, "3m 05s"), (7620, "2h 07m"), (273_600, "3d 04h")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
