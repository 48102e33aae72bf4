//! The trainer as a child of this process.

use crate::{EVENTS_FD, Order, Pipes};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::process::{self, Command};

#[derive(Debug)]
pub struct Child {
    child: process::Child,
    /// Its own process group: what it starts belongs to it.
    group: Pid,
}

impl Child {
    /// # Errors
    /// Where the program cannot be started.
    pub fn start(program: &Path, order: &Order, pipes: Pipes) -> io::Result<Self> {
        let niceness = order.niceness;
        let mut command = Command::new(program);
        command.arg("round").arg(&order.spec).args(["--events-fd", &EVENTS_FD.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(pipes.stderr).kill_on_drop(true);
        let mapping = FdMapping { parent_fd: pipes.events, child_fd: EVENTS_FD };
        command.as_std_mut().fd_mappings(vec![mapping]).expect("one descriptor cannot collide");
        command.as_std_mut().process_group(0);
        // SAFETY: the closure makes system calls alone and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                close_the_rest();
                yield_to_others(niceness)
            })
        };
        // The command keeps this process's copies of the pipes' writing ends; they are closed when it goes.
        let child = command.spawn()?;
        let pid = child.id().expect("it was not waited for");
        // First to go when memory runs out; where /proc forbids it the run goes on without.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "1000");
        Ok(Self { child, group: Pid::from_raw(pid as i32) })
    }

    /// # Errors
    /// Where the kernel does not say how it ended.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // What it has started closes its pipes, too.
        let _ = killpg(self.group, Signal::SIGKILL);
        status
    }

    pub fn terminate(&mut self) {
        // Where it was waited for, its number may be another's.
        if self.child.id().is_some() {
            hurry(self.group);
            let _ = kill(self.group, Signal::SIGTERM);
        }
    }

    pub fn kill(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Has exec close whatever comes after [`EVENTS_FD`]: zbus receives what clients hand over without MSG_CMSG_CLOEXEC,
/// and a trainer would hold it for hours. Where the kernel refuses (before Linux 5.11), it does.
fn close_the_rest() {
    const FIRST: libc::c_uint = EVENTS_FD as libc::c_uint + 1;
    // SAFETY: the call takes plain numbers, and closes nothing before exec.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// nice(2), at the lowest the idle class of sched_setscheduler(2), and that of ioprio_set(2).
fn yield_to_others(niceness: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_IDLE: libc::c_int = 3 << 13;
    const LOWEST: i32 = 19;
    let not_real_time = libc::sched_param { sched_priority: 0 };
    // SAFETY: the calls take plain numbers. What they refuse costs priority alone, so the answers do not matter.
    unsafe {
        libc::nice(niceness);
        if niceness == LOWEST {
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const not_real_time);
        }
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
    }
    Ok(())
}

/// Takes back what [`yield_to_others`] has given away: on busy processors even a killed trainer waits for its turn to
/// end, 10 to 16 s. It takes the right to a nice value of 0 (RLIMIT_NICE; the unit's LimitNICE), and is slower
/// without.
fn hurry(trainer: Pid) {
    let not_real_time = libc::sched_param { sched_priority: 0 };
    let threads = fs::read_dir(format!("/proc/{trainer}/task")).into_iter().flatten().flatten();
    for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse::<libc::pid_t>().ok()) {
        // SAFETY: the calls take plain numbers, and the trainer has not been waited for: nobody else has its number.
        unsafe {
            libc::sched_setscheduler(thread, libc::SCHED_OTHER, &raw const not_real_time);
            libc::setpriority(libc::PRIO_PROCESS, thread as libc::id_t, 0);
        }
    }
}
