//! For tests that mount file systems or lower the kernel's limits: each such test runs once more, in a process with its
//! own namespaces.

use std::env;
use std::path::Path;
use std::process::Command;

const ENTERED: &str = "COFT_TEST_NAMESPACE";
/// Mounts that no other process sees; needs root.
pub const MOUNTS: &[&str] = &["-m"];
/// A user namespace, which has its own limits.
pub const USER: &[&str] = &["-U", "-r"];

/// Whether the test runs inside its namespace. If false, the test was run there in another process, or was skipped
/// because the namespace is not permitted.
#[must_use]
pub fn entered(test: &str, flags: &[&str]) -> bool {
    if env::var_os(ENTERED).is_some() {
        return true;
    }
    let unshare = |program: &Path, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).arg(program).args(args).env(ENTERED, "1").output()
    };
    if !unshare(Path::new("true"), &[]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare {}` is not permitted", flags.join(" "));
        return false;
    }
    let program = env::current_exe().unwrap();
    let output = unshare(&program, &["--exact", test, "--nocapture", "--test-threads=1"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test of that name: {text}");
    if let Some(skipped) = text.lines().find(|line| line.contains("skipped: ")) {
        eprintln!("{skipped}");
    }
    false
}

#[track_caller]
pub fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}
