//! The kernel's table of mounts (`/proc/self/mountinfo`), and the kinds of file systems that report no changes.

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub const TABLE: &str = "/proc/self/mountinfo";

/// A mount, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Unique while the file system is mounted.
    id: u64,
    /// The file system: `major:minor`.
    device: String,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    /// An empty tmpfs that cannot be written, as `ProtectHome=tmpfs` mounts it.
    is_empty_tmpfs: bool,
}

/// # Errors
/// `/proc` does not exist.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(TABLE)?))
}

fn parse(table: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let text = |field: Option<&[u8]>| field.map(|field| String::from_utf8_lossy(field).into_owned());
        let id = text(fields.next())?.parse().ok()?;
        let device = text(fields.nth(1))?;
        let root = unescaped(fields.next()?);
        let point = unescaped(fields.next()?);
        let is_read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
        let is_empty_tmpfs = is_read_only && fields.skip_while(|field| *field != b"-").nth(1) == Some(b"tmpfs");
        Some(Mount { id, device, root, point, is_empty_tmpfs })
    };
    table.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// Decodes spaces and similar characters, which are written as `\040`.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// The mounts below a directory: the id of the visible mount, by mount point.
pub fn below(mounts: &[Mount], dir: &Path) -> BTreeMap<PathBuf, u64> {
    let below = mounts.iter().filter(|mount| mount.point != dir && mount.point.starts_with(dir));
    below.map(|mount| (mount.point.clone(), mount.id)).collect()
}

/// Id of the mount that a path lies on; `None` where the table cannot be read.
pub fn of(mounts: &[Mount], path: &Path) -> Option<u64> {
    seen(mounts, path).map(|mount| mount.id)
}

/// Id of the mount whose mount point is this directory; `None` where nothing is mounted there, and before Linux 5.8.
pub fn rooted_at(dir: &Path) -> Option<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = statx(CWD, dir, flags, StatxFlags::MNT_ID).ok()?;
    found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT).then_some(found.stx_mnt_id)
}

/// Whether two directories are the same or one lies in the other. Found also where a mount hides it, by comparing the
/// places within the file system. The paths must have no links in them.
pub fn overlap(mounts: &[Mount], a: &Path, b: &Path) -> bool {
    let nested = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    nested(a, b)
        || match (place(mounts, a), place(mounts, b)) {
            (Some((one, a)), Some((other, b))) => one == other && nested(&a, &b),
            _ => false,
        }
}

/// The file system that a path lies on, and the path within that file system.
fn place<'m>(mounts: &'m [Mount], path: &Path) -> Option<(&'m str, PathBuf)> {
    let mount = seen(mounts, path)?;
    let below = path.strip_prefix(&mount.point).ok()?;
    Some((&mount.device, mount.root.join(below)))
}

/// The mount that a path lies on; of several at one mount point, the last.
fn seen<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.as_os_str().len())
}

/// Whether a path lies in a /tmp or /var/tmp that the service's unit replaces with a private one (`PrivateTmp=`).
pub fn is_private_tmp(mounts: &[Mount], path: &Path) -> bool {
    let private = |mount: &Mount| mount.root.to_string_lossy().contains("systemd-private-");
    ["/tmp", "/var/tmp"].iter().any(|tmp| {
        path.starts_with(tmp) && mounts.iter().rev().find(|mount| mount.point == Path::new(tmp)).is_some_and(private)
    })
}

/// Whether a directory is covered by a mount that hides its content, as `ProtectHome=` does.
pub fn is_hidden(mounts: &[Mount], dir: &str) -> bool {
    let covers = |mount: &&Mount| mount.point == Path::new(dir);
    mounts.iter().rev().find(covers).is_some_and(|mount| {
        let root = mount.root.to_string_lossy();
        root.contains("/systemd/inaccessible") || root.contains("inaccessible/dir") || mount.is_empty_tmpfs
    })
}

/// Name of a kind of file system (`statfs`) on which the kernel reports only changes by this machine, or not even
/// those.
pub fn without_notices(kind: i64) -> Option<&'static str> {
    let kinds = [
        (0x0102_1997, "9p"),
        (0x5346_414f, "AFS"),
        (0x1983_0326, "BeeGFS"),
        (0x00c3_6400, "Ceph"),
        (0x7375_7245, "Coda"),
        (0xf15f, "eCryptfs"),
        (0x6573_5546, "FUSE"),
        (0x0116_1970, "GFS2"),
        (0x4750_4653, "GPFS"),
        (0x0bd0_0bd0, "Lustre"),
        (0x6969, "NFS"),
        (0x7461_636f, "OCFS2"),
        (0x794c_7630, "overlay"),
        (0x517b, "SMB"),
        (0xff53_4d42, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0x786f_4256, "VirtualBox shared folders"),
        (0xbacb_acbc, "VMware shared folders"),
    ];
    // On 32 bits the kernel's number is signed.
    kinds.iter().find(|(magic, _)| kind & 0xffff_ffff == *magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,discard - ext4 /dev/vda rw
41 27 8:1 / /srv rw shared:2 - ext4 /dev/sda1 rw
42 27 8:1 /coft/state /var/lib/coft rw shared:2 master:1 - ext4 /dev/sda1 rw
43 41 0:40 / /srv/in/my\\040cam rw - tmpfs none rw
45 27 0:50 / /home ro,nosuid - tmpfs tmpfs rw,mode=755
46 27 0:23 /systemd/inaccessible/dir /root ro,nosuid - tmpfs tmpfs rw,mode=755
44 27 254:0 /tmp/systemd-private-1-coftd.service-x/tmp /tmp rw - ext4 /dev/vda rw
";

    #[test]
    fn mounts_below_a_directory_are_found() {
        let mounts = parse(TABLE.as_bytes());
        assert_eq!(mounts.len(), 8);
        assert_eq!(below(&mounts, Path::new("/srv/in")), BTreeMap::from([("/srv/in/my cam".into(), 43)]));
        assert_eq!(below(&mounts, Path::new("/srv/i")), BTreeMap::new());
    }

    #[test]
    fn a_bind_mount_overlaps_with_what_it_shows() {
        let mounts = parse(TABLE.as_bytes());
        let overlap = |a: &str, b: &str| {
            let found = overlap(&mounts, Path::new(a), Path::new(b));
            assert_eq!(super::overlap(&mounts, Path::new(b), Path::new(a)), found);
            found
        };
        assert!(overlap("/var/lib/coft", "/srv/coft"), "the directory around it");
        assert!(overlap("/var/lib/coft", "/srv/coft/state/pixels"), "a directory in it");
        assert!(overlap("/var/lib/coft", "/var"));
        assert!(!overlap("/var/lib/coft", "/srv/coft/in"));
        assert!(!overlap("/var/lib/coft", "/home"));
        assert!(!overlap("/srv/in/my cam", "/srv/coft"), "another file system");
    }

    #[test]
    fn what_a_unit_hides_is_told_from_what_is_missing() {
        let mounts = parse(TABLE.as_bytes());
        assert!(is_private_tmp(&mounts, Path::new("/tmp/in")));
        assert!(!is_private_tmp(&mounts, Path::new("/var/tmp/in")) && !is_private_tmp(&mounts, Path::new("/srv")));
        assert!(is_hidden(&mounts, "/home") && is_hidden(&mounts, "/root") && !is_hidden(&mounts, "/srv"));
    }

    #[test]
    fn kinds_of_file_systems_without_notices_have_names() {
        let names = [0x6573_5546, 0x6969, 0x794c_7630, 0xff53_4d42, 0xff53_4d42u32 as i32 as i64].map(without_notices);
        assert_eq!(names, [Some("FUSE"), Some("NFS"), Some("overlay"), Some("SMB"), Some("SMB")]);
        assert_eq!([0xef53, 0x0102_1994].map(without_notices), [None, None], "ext4 and tmpfs tell");
    }
}
