//! Man pages and completions are made from the grammar and committed for the packages; here they are compared.
//! `COFT_BLESS=1 cargo test -p coftctl` writes them anew.

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use coftctl::args::Cli;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

/// Holds the files of `folder` against `made`; none may be missing, stale or left over.
fn compare(folder: &str, made: BTreeMap<String, Vec<u8>>) {
    let folder = packaging().join(folder);
    if std::env::var_os("COFT_BLESS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
            if name.contains("coftctl") && !made.contains_key(&name) {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        for (name, contents) in &made {
            fs::write(folder.join(name), contents).unwrap();
        }
    }
    let committed: BTreeMap<String, Vec<u8>> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .filter(|(name, _)| name.contains("coftctl"))
        .collect();
    assert!(
        committed == made,
        "{} is not what the command line makes; run COFT_BLESS=1 cargo test -p coftctl",
        folder.display()
    );
}

/// The page of `command`, those of its subcommands beside it, named as git and cargo name theirs.
fn pages(command: &Command, name: &str, made: &mut BTreeMap<String, Vec<u8>>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        pages(verb, &format!("{name}-{}", verb.get_name()), made);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name).render(&mut page).unwrap();
    made.insert(format!("{name}.1"), page);
}

#[test]
fn man_pages_are_fresh() {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut made = BTreeMap::new();
    pages(&command, "coftctl", &mut made);
    let main = String::from_utf8(made["coftctl.1"].clone()).unwrap();
    assert!(main.contains("Exit codes"), "the exit codes are part of the manual");
    compare("man", made);
}

#[test]
fn completions_are_fresh() {
    let shells = [(Shell::Bash, "coftctl.bash"), (Shell::Zsh, "_coftctl"), (Shell::Fish, "coftctl.fish")];
    let made = shells.map(|(shell, name)| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "coftctl", &mut script);
        (name.to_owned(), script)
    });
    compare("completions", made.into());
}
