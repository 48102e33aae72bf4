//! How many threads compute best, for the server and the trainer alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

/// How many threads can compute at the same time, each on a core of its own: two hyperthreads of a core count once.
///
/// ONNX Runtime and libtorch are told this number. Left to themselves they bind threads to cores, or find out by that
/// how many there are (MKL), which takes a right that the units do not give: the one logs errors, the other computes on
/// one core.
pub fn cores() -> usize {
    let allowed = available_parallelism().map_or(1, usize::from);
    match in_directory(Path::new("/sys/devices/system/cpu")) {
        0 => allowed,
        cores => cores.min(allowed),
    }
}

/// The cores that the kernel tells of; 0 where it does not.
fn in_directory(processors: &Path) -> usize {
    let processors = fs::read_dir(processors).into_iter().flatten().flatten();
    let siblings = processors.filter_map(|dir| fs::read(dir.path().join("topology/thread_siblings_list")).ok());
    siblings.collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyperthreads_of_a_core_count_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_directory(dir.path()), 0);
        for (number, siblings) in ["0,2", "1,3", "0,2", "1,3"].iter().enumerate() {
            let topology = dir.path().join(format!("cpu{number}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("thread_siblings_list"), siblings).unwrap();
        }
        fs::create_dir(dir.path().join("cpufreq")).unwrap();
        assert_eq!(in_directory(dir.path()), 2);
        assert!((1..=available_parallelism().unwrap().get()).contains(&cores()));
    }
}
