//! `coft-launch`: the program that systemd starts in the trainer's unit. Its standard input is the connection with
//! coftd.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coft-launch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    if !File::from(socket.try_clone()?).metadata()?.file_type().is_socket() {
        return Err(io::Error::other("standard input is no connection; coft-trainer.socket starts this program"));
    }
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let trainer = std::env::current_exe()?.with_file_name("coft-trainer");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(coft_launch::attend(socket, &trainer))
}
