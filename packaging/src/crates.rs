//! The crates that a program consists of, according to cargo.

use crate::repository;
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One crate that is compiled into a program, and the crates that it depends on.
#[derive(Debug)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub licence: String,
    pub repository: Option<String>,
    pub dir: PathBuf,
    /// Whether the crate is part of this repository.
    pub is_ours: bool,
    /// SHA-256 of the downloaded package.
    pub sha256: Option<String>,
    pub depends_on: Vec<(String, String)>,
    /// C code of other projects in the crate.
    pub bundles: Option<Code>,
}

#[derive(Debug)]
pub struct Code {
    pub name: &'static str,
    pub licence: &'static str,
    pub version: String,
}

/// Crates that hold C code, the file that states its version, and the text before and after the version.
const CODE: [(&str, &str, &str, &str, &str, &str); 4] = [
    ("libsqlite3-sys", "sqlite", "blessing", "sqlite3/sqlite3.h", "#define SQLITE_VERSION        \"", "\""),
    ("turbojpeg-sys", "libjpeg-turbo", "IJG AND BSD-3-Clause", "libjpeg-turbo/CMakeLists.txt", "set(VERSION ", ")"),
    ("onig_sys", "oniguruma", "BSD-2-Clause", "oniguruma/configure.ac", "AC_INIT(onig, ", ")"),
    ("libwebp-sys", "libwebp", "BSD-3-Clause", "vendor/configure.ac", "AC_INIT([libwebp], [", "]"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<PathBuf>,
    repository: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The crates in these programs for a platform, including their own; without those for building or testing only.
pub fn of(programs: &[&str], triple: &str) -> anyhow::Result<Vec<Crate>> {
    let mut tree = cargo();
    tree.args([
        "tree",
        "--locked",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}",
        "--target",
        triple,
    ]);
    for program in programs {
        tree.args(["--package", program]);
    }
    let tree = output(&mut tree)?;
    // Each line is: name vVERSION, and a path if the crate is part of this repository.
    let used: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    // Only for this platform, like cargo tree: crates for other systems may not have been downloaded.
    let metadata = output(cargo().args(["metadata", "--format-version=1", "--locked", "--filter-platform", triple]))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let lock: Lock = toml::from_str(&fs::read_to_string(repository().join("Cargo.lock"))?)?;
    let key = |package: &Package| (package.name.clone(), package.version.clone());
    let by_id: BTreeMap<&str, &Package> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
    let is_used = |package: &Package| used.contains(&(package.name.as_str(), package.version.as_str()));
    let mut crates = Vec::new();
    for node in &metadata.resolve.nodes {
        let package = by_id.get(node.id.as_str()).context("cargo tells of every package")?;
        if !is_used(package) {
            continue;
        }
        let licence = match (&package.license, &package.license_file) {
            (Some(licence), _) => licence.replace('/', " OR "),
            (None, Some(_)) => "LicenseRef-file".into(),
            (None, None) => anyhow::bail!("{} {} does not say its licence", package.name, package.version),
        };
        let dir = package.manifest_path.parent().context("a manifest lies in a directory")?.to_owned();
        let depends_on = node.dependencies.iter().filter_map(|id| by_id.get(id.as_str())).filter(|p| is_used(p));
        let locked = lock.package.iter().find(|p| p.name == package.name && p.version == package.version);
        crates.push(Crate {
            bundles: code_of(&package.name, &dir)?,
            name: package.name.clone(),
            version: package.version.clone(),
            licence,
            repository: package.repository.clone(),
            is_ours: package.source.is_none(),
            sha256: locked.and_then(|p| p.checksum.clone()),
            depends_on: depends_on.map(|p| key(p)).collect(),
            dir,
        });
    }
    ensure!(crates.len() == used.len(), "cargo tree names {} crates, cargo metadata {}", used.len(), crates.len());
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(crates)
}

fn code_of(name: &str, dir: &Path) -> anyhow::Result<Option<Code>> {
    let Some(&(_, code, licence, file, before, after)) = CODE.iter().find(|code| code.0 == name) else {
        return Ok(None);
    };
    let path = dir.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let version = text.split_once(before).and_then(|(_, rest)| Some(rest.split_once(after)?.0));
    let version = version.with_context(|| format!("{} does not say the version of {code}", path.display()))?;
    Ok(Some(Code { name: code, licence, version: version.to_owned() }))
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository());
    cargo
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().context("starting cargo")?;
    ensure!(output.status.success(), "cargo: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
