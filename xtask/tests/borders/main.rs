//! The borders between packages and between modules: the tables of docs/architecture.md, held against the source.

mod faults;
mod source;
mod table;

use source::{Module, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use table::Row;

pub const DOCUMENT: &str = "docs/architecture.md";

#[test]
fn packages_use_what_their_row_allows() {
    holds(packages(&WORKSPACE, &rows("Packages")));
}

#[test]
fn libraries_are_used_where_their_row_says() {
    holds(libraries(&WORKSPACE, &rows("Libraries")));
}

#[test]
fn modules_that_are_kept_apart_do_not_use_each_other() {
    holds(apart(&WORKSPACE, &rows("Modules kept apart")));
}

#[test]
fn modules_use_each_other_in_no_circle() {
    holds(circles(&WORKSPACE));
}

fn holds(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} of the borders are broken:\n{}", faults.len(), faults.join("\n"));
}

static WORKSPACE: LazyLock<Vec<Package>> = LazyLock::new(workspace);

struct Package {
    name: String,
    /// The packages and libraries that it depends on, but for its tests.
    dependencies: BTreeSet<String>,
    /// Its library and its programs.
    targets: Vec<Source>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository").to_owned()
}

fn rows(heading: &str) -> Vec<Row> {
    let document = std::fs::read_to_string(root().join(DOCUMENT)).expect("the document is readable");
    table::rows(&document, heading)
}

fn workspace() -> Vec<Package> {
    let root = root();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(&root);
    let told = cargo.output().expect("cargo starts");
    assert!(told.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).expect("cargo metadata is JSON");
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let read = |package: &serde_json::Value| Package {
        name: text(&package["name"]),
        dependencies: list(&package["dependencies"])
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect(),
        targets: list(&package["targets"])
            .iter()
            .filter(|target| list(&target["kind"]).iter().any(|kind| kind == "lib" || kind == "bin"))
            .map(|target| Source::read(&root, Path::new(&text(&target["src_path"]))))
            .collect(),
    };
    list(&metadata["packages"]).iter().map(read).collect()
}

/// Cargo's manifests against the table, both ways.
fn packages(workspace: &[Package], rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    let ours: BTreeSet<&String> = workspace.iter().map(|package| &package.name).collect();
    for package in workspace {
        let Some(row) = rows.iter().find(|row| row.cells[0].contains(&package.name)) else {
            faults.push(format!("{DOCUMENT}: no row for the package `{}`", package.name));
            continue;
        };
        let used: BTreeSet<&String> = package.dependencies.iter().filter(|name| ours.contains(name)).collect();
        let allowed: BTreeSet<&String> = row.cells[1].iter().collect();
        for name in used.difference(&allowed) {
            faults.push(format!("Cargo.toml of {}: it depends on `{name}`; {}", package.name, row.place()));
        }
        for name in allowed.difference(&used) {
            faults.push(format!("Cargo.toml of {}: it does not depend on `{name}`; {}", package.name, row.place()));
        }
    }
    for row in rows {
        let gone = row.cells[0].iter().filter(|name| !ours.contains(name));
        faults.extend(gone.map(|name| format!("there is no package `{name}`; {}", row.place())));
    }
    faults
}

fn libraries(workspace: &[Package], rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        let mut unused: BTreeSet<&String> = row.cells[1].iter().collect();
        for package in workspace {
            let named = |name: &String| row.cells[0].iter().any(|library| library.replace('-', "_") == *name);
            if let Some(name) = package.dependencies.iter().find(|name| row.cells[0].contains(name)) {
                let users: Vec<_> = row.cells[1].iter().filter(|user| is_within(user, &package.name)).collect();
                if users.is_empty() {
                    faults.push(format!("Cargo.toml of {}: it depends on `{name}`; {}", package.name, row.place()));
                }
            }
            for target in &package.targets {
                for reference in &target.references {
                    let Some(library) = target.library(reference).filter(|name| named(&(*name).to_owned())) else {
                        continue;
                    };
                    let from = full(package, &reference.from);
                    let user = row.cells[1].iter().find(|user| is_within(&from, user));
                    match user {
                        Some(user) => _ = unused.remove(user),
                        None => faults.push(format!(
                            "{}:{}: `{from}` uses `{library}`; {}",
                            reference.file.display(),
                            reference.line,
                            row.place()
                        )),
                    }
                }
            }
        }
        faults.extend(unused.iter().map(|user| format!("`{user}` does not use it; {}", row.place())));
    }
    faults
}

/// The modules of a row's first cell never use those of its second one, or each other where that is empty.
fn apart(workspace: &[Package], rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    let all: BTreeSet<String> = workspace
        .iter()
        .flat_map(|package| {
            package.targets.iter().flat_map(|target| &target.modules).map(|module| full(package, module))
        })
        .collect();
    for row in rows {
        let [users, others] = [&row.cells[0], &row.cells[1]];
        let others = if others.is_empty() { users } else { others };
        let gone = users.iter().chain(others).filter(|name| !all.contains(*name)).collect::<BTreeSet<_>>();
        faults.extend(gone.iter().map(|name| format!("there is no module `{name}`; {}", row.place())));
        for (package, target) in targets(workspace) {
            for reference in &target.references {
                let Some(to) = target.target(reference).map(|to| full(package, &to)) else { continue };
                let from = full(package, &reference.from);
                let user = users.iter().find(|user| is_within(&from, user));
                let other = others.iter().find(|other| is_within(&to, other));
                if user.is_some() && other.is_some() && user != other {
                    let (file, line) = (reference.file.display(), reference.line);
                    faults.push(format!("{file}:{line}: `{from}` uses `{to}`; {}", row.place()));
                }
            }
        }
    }
    faults
}

/// Circles between modules that stand beside each other, at any depth. The root of a crate stands above its modules,
/// and a module's own children below it: what they use of each other does not count.
fn circles(workspace: &[Package]) -> Vec<String> {
    // Which module uses which, and where it does so first.
    let mut uses: BTreeMap<(String, String), String> = BTreeMap::new();
    for (package, target) in targets(workspace) {
        for reference in &target.references {
            let Some(to) = target.target(reference) else { continue };
            let shared = to.iter().zip(&reference.from).take_while(|(a, b)| a == b).count();
            if shared < to.len().min(reference.from.len()) {
                let ends = [&reference.from, &to].map(|module| full(package, &module[..=shared]));
                uses.entry(ends.into()).or_insert(format!("{}:{}", reference.file.display(), reference.line));
            }
        }
    }
    let mut onwards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in uses.keys() {
        onwards.entry(from).or_default().push(to);
    }
    let mut faults = Vec::new();
    for ((from, to), place) in &uses {
        if let Some(back) = way(&onwards, to, from) {
            faults.push(format!("{place}: `{from}` uses `{to}`, and so in a circle: {from} > {}", back.join(" > ")));
        }
    }
    faults
}

/// The shortest way from one module to another, both included.
fn way<'a>(onwards: &BTreeMap<&'a str, Vec<&'a str>>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::from([from]);
    while let Some(way) = ways.pop_front() {
        let last = way[way.len() - 1];
        if last == to {
            return Some(way);
        }
        for next in onwards.get(last).into_iter().flatten() {
            if seen.insert(next) {
                ways.push_back([way.as_slice(), &[next]].concat());
            }
        }
    }
    None
}

fn targets(workspace: &[Package]) -> impl Iterator<Item = (&Package, &Source)> {
    workspace.iter().flat_map(|package| package.targets.iter().map(move |target| (package, target)))
}

fn full(package: &Package, module: &[String]) -> String {
    [std::slice::from_ref(&package.name), module].concat().join("::")
}

fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
