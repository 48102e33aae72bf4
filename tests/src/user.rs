//! Another user than root, for what is not root's to do.

use std::thread;

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// Runs on a thread that belongs to nobody, as [`as_user`].
///
/// # Panics
/// Where the work does.
pub fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    as_user(NOBODY, work)
}

/// Runs on a thread that belongs to a user, with a group of the same number; where the tests themselves are not root's,
/// nothing is run, and it says so.
///
/// # Panics
/// Where the work does.
pub fn as_user<T: Send>(id: u32, work: impl FnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return None;
    }
    let turned = move || {
        // The C library would change every thread of the process; the kernel changes the one that asks.
        // SAFETY: they take plain numbers, and nothing else runs on this thread before or after.
        let changed = unsafe {
            libc::syscall(libc::SYS_setresgid, id, id, id) == 0
                && libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
                && libc::syscall(libc::SYS_setresuid, id, id, id) == 0
        };
        assert!(changed, "root becomes user {id}: {}", std::io::Error::last_os_error());
        work()
    };
    Some(thread::scope(|scope| scope.spawn(turned).join().expect("the work ends")))
}
