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
    /// The child's own process group, which also contains the processes that it starts.
    group: Pid,
}

impl Child {
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path, order: &Order, pipes: Pipes) -> io::Result<Self> {
        let niceness = order.niceness;
        let mut command = Command::new(program);
        command.arg("round").arg(&order.spec).args(["--events-fd", &EVENTS_FD.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(pipes.stderr).kill_on_drop(true);
        let mapping = FdMapping { parent_fd: pipes.events, child_fd: EVENTS_FD };
        command.as_std_mut().fd_mappings(vec![mapping]).expect("one descriptor cannot collide");
        command.as_std_mut().process_group(0);
        // SAFETY: the closure only makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                close_the_rest();
                yield_to_others(niceness)
            })
        };
        // `command` holds this process's copies of the pipes' writing ends; they are closed when it is dropped.
        let child = command.spawn()?;
        let pid = child.id().expect("it was not waited for");
        // The trainer is the first to be killed when memory runs out. If /proc forbids this, the run goes on without
        // it.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "1000");
        Ok(Self { child, group: Pid::from_raw(pid as i32) })
    }

    /// # Errors
    /// The kernel does not report how the child ended.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // Ends the processes that it has started, so that they close its pipes, too.
        let _ = killpg(self.group, Signal::SIGKILL);
        status
    }

    pub fn terminate(&mut self) {
        // Once the child was waited for, its process id may belong to another process.
        if self.child.id().is_some() {
            hurry(self.group);
            let _ = kill(self.group, Signal::SIGTERM);
        }
    }

    pub fn kill(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Makes exec close all descriptors after [`EVENTS_FD`]. zbus receives descriptors from clients without
/// MSG_CMSG_CLOEXEC, and the trainer would keep them open for hours. If the kernel refuses the call (before Linux
/// 5.11), the trainer does keep them open.
fn close_the_rest() {
    const FIRST: libc::c_uint = EVENTS_FD as libc::c_uint + 1;
    // SAFETY: the arguments are plain numbers, and nothing is closed before exec.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Lowers the priority by nice(2). The highest niceness also selects the idle classes of sched_setscheduler(2) and
/// ioprio_set(2). In the trainer's unit these calls are refused: the unit has given the lowest priority already.
fn yield_to_others(niceness: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_IDLE: libc::c_int = 3 << 13;
    const LOWEST: i32 = 19;
    let not_real_time = libc::sched_param { sched_priority: 0 };
    // SAFETY: the arguments are plain numbers. If a call is refused, only the priority is affected, so the results are
    // ignored.
    unsafe {
        libc::nice(niceness);
        if niceness == LOWEST {
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const not_real_time);
        }
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
    }
    Ok(())
}

/// Takes back the low priority of [`yield_to_others`]: on busy processors even a killed trainer needs processor time to
/// end, and waits 10 to 16 s for it. This needs the right to a nice value of 0 (RLIMIT_NICE); without it, ending takes
/// longer. In the trainer's unit the calls are refused. They would change nothing: the whole control group is idle.
fn hurry(trainer: Pid) {
    let not_real_time = libc::sched_param { sched_priority: 0 };
    let threads = fs::read_dir(format!("/proc/{trainer}/task")).into_iter().flatten().flatten();
    for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse::<libc::pid_t>().ok()) {
        // SAFETY: the arguments are plain numbers, and the trainer was not waited for, so no other process has its id.
        unsafe {
            libc::sched_setscheduler(thread, libc::SCHED_OTHER, &raw const not_real_time);
            libc::setpriority(libc::PRIO_PROCESS, thread as libc::id_t, 0);
        }
    }
}
