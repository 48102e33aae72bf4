//! Anonymous memory of processes, which no file on the disk backs.

use anyhow::Context;
use std::fs;

/// RssAnon of a process and all its descendants, B.
pub fn anonymous_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon is not told")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    // A descendant may have ended by now.
    Ok(kibibytes * 1024 + children(pid).into_iter().filter_map(|child| anonymous_bytes(child).ok()).sum::<u64>())
}

/// The processes that one of the process's threads has started.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|children| children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn descendants_count() {
        let alone = anonymous_bytes(std::process::id()).unwrap();
        assert!(alone > 0);
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
