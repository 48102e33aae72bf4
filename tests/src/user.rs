//! Runs work as another user than root, to test what other users may do.

use std::thread;

/// The user without any files.
const NOBODY: u32 = 65534;

/// Runs the work on a thread that belongs to the user nobody, like [`as_user`].
///
/// # Panics
/// The work panics.
pub fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    as_user(NOBODY, work)
}

/// Runs the work on a thread that belongs to a user, with a group of the same id. If the tests do not run as root, it
/// prints that, and runs nothing.
///
/// # Panics
/// The work panics.
pub fn as_user<T: Send>(id: u32, work: impl FnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return None;
    }
    let turned = move || {
        // SAFETY: the calls take plain numbers, and nothing else runs on this thread before or after. They are system
        // calls, because the C library's functions would change every thread of the process; the kernel changes only
        // the calling one.
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
