//! Whether the service may open the devices of a GPU.

use super::{Surroundings, error, ok, warning};
use crate::control::Check;
use coft_core::shown::shown_path;
use coft_core::spec::Device;
use nix::unistd::{Gid, Group};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const NAME: &str = "GPU";

/// A device node, and whether it can be opened.
#[derive(Debug)]
pub struct Node {
    pub path: PathBuf,
    /// The group that owns the node.
    pub group: String,
    /// Error number (errno) if the node cannot be opened.
    pub opened: Result<(), i32>,
}

pub fn look(surroundings: &Surroundings) -> Vec<Check> {
    vec![judge(&nodes(), surroundings.loaded.config.round.device)]
}

fn nodes() -> Vec<Node> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_of_a_gpu)).map(|entry| entry.path()).collect();
    paths.sort();
    let node = |path: PathBuf| {
        let group = fs::metadata(&path).ok().map(|found| found.gid());
        let named = group.and_then(|id| Group::from_gid(Gid::from_raw(id)).ok().flatten());
        let group = named.map_or_else(|| group.map_or_else(String::new, |id| id.to_string()), |group| group.name);
        let opened = File::options().read(true).write(true).open(&path);
        let opened = opened.map(drop).map_err(|error: io::Error| error.raw_os_error().unwrap_or(0));
        Node { path, group, opened }
    };
    paths.into_iter().map(node).collect()
}

/// Whether a device name is one of NVIDIA's cards or of its boards.
fn is_of_a_gpu(name: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    ["nvidiactl", "nvidia-uvm", "nvmap", "nvhost-gpu", "nvhost-ctrl-gpu"].contains(&name)
        || name.strip_prefix("nvidia").is_some_and(number)
}

fn judge(nodes: &[Node], device: Device) -> Check {
    if nodes.is_empty() {
        let found = "there is no device node of an NVIDIA GPU; the CPU serves";
        return match device {
            Device::Cpu => ok(NAME, found),
            Device::Cuda => error(
                NAME,
                "round.device is \"cuda\", and there is no device node of an NVIDIA GPU",
                "install NVIDIA's driver, or set device = \"cpu\" in [round]",
            ),
        };
    }
    let Some((node, number)) = nodes.iter().find_map(|node| Some((node, node.opened.err()?))) else {
        let names: Vec<_> = nodes.iter().map(|node| shown_path(&node.path)).collect();
        return ok(NAME, format!("the service may open {}", names.join(", ")));
    };
    let (path, group) = (shown_path(&node.path), &node.group);
    let found = format!("{path} cannot be opened: {}", io::Error::from_raw_os_error(number));
    match number {
        libc::EACCES => {
            let user = service_user();
            let advice = format!("sudo usermod --append --groups {group} {user}; sudo systemctl restart coftd");
            error(NAME, found, advice)
        }
        libc::EPERM => {
            let advice = format!("let the unit have it: sudo systemctl edit coftd, DeviceAllow={path} rw in [Service]");
            error(NAME, found, advice)
        }
        _ => warning(NAME, found, "see whether the driver works: nvidia-smi"),
    }
}

/// Name of the user that the service runs as.
fn service_user() -> String {
    let id = nix::unistd::geteuid();
    nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Level;

    fn node(name: &str, opened: Result<(), i32>) -> Node {
        Node { path: format!("/dev/{name}").into(), group: "video".into(), opened }
    }

    #[test]
    fn nodes_of_gpus_are_known_by_their_names() {
        for name in ["nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvmap", "nvhost-gpu"] {
            assert!(is_of_a_gpu(name), "{name}");
        }
        for name in ["nvidia", "nvidia-caps", "nvme0", "null", "nvidia0x"] {
            assert!(!is_of_a_gpu(name), "{name}");
        }
    }

    #[test]
    fn a_node_that_cannot_be_opened_says_how_it_could_be() {
        let open = || vec![node("nvidia0", Ok(())), node("nvidiactl", Ok(()))];
        for (nodes, device, level, found, advice) in [
            (vec![], Device::Cpu, Level::Ok, "no device node", ""),
            (vec![], Device::Cuda, Level::Error, "round.device", "driver"),
            (open(), Device::Cuda, Level::Ok, "/dev/nvidia0, /dev/nvidiactl", ""),
            (
                vec![node("nvidia0", Err(libc::EACCES))],
                Device::Cpu,
                Level::Error,
                "/dev/nvidia0 cannot be opened",
                "usermod --append --groups video",
            ),
            (
                vec![node("nvmap", Err(libc::EPERM))],
                Device::Cpu,
                Level::Error,
                "/dev/nvmap",
                "DeviceAllow=/dev/nvmap rw",
            ),
            (vec![node("nvidia0", Err(libc::ENODEV))], Device::Cpu, Level::Warning, "No such device", "nvidia-smi"),
        ] {
            let check = judge(&nodes, device);
            assert_eq!(check.level, level, "{check:?}");
            assert!(check.found.contains(found) && check.advice.contains(advice), "{check:?}");
        }
    }
}
