//! `/usr/share/doc/PACKAGE/copyright`: the licences of everything in a package, each text once.

use crate::crates::Crate;
use crate::{Bundled, repository};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Licences whose terms these packages fulfil by quoting them. A crate without one of these is refused: a person must
/// read its terms first.
const KNOWN: [&str; 17] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "bzip2-1.0.6",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    // It requires the package to state where the source is; the list does.
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

pub fn text(package: &str, crates: &[Crate], bundled: &[&Bundled]) -> anyhow::Result<String> {
    let mut text = format!(
        "{package}: image classifiers from class names and unlabelled pictures.\n\
         Copyright (c) the coft contributors. It may be used under the MIT licence or the Apache License,\n\
         version 2.0, as you like; both are below. What it holds of others is listed first, then follow the texts of all \
         licences.\n\n"
    );
    // Each licence text in the form seen first, with the names of what it applies to.
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut add = |path: &Path, of: &str| -> anyhow::Result<()> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let read = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        let same = read.split_whitespace().collect::<Vec<_>>().join(" ");
        let entry = texts.entry(same).or_insert_with(|| (read, Vec::new()));
        if !entry.1.iter().any(|known| known == of) {
            entry.1.push(of.to_owned());
        }
        Ok(())
    };
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        add(&repository().join(file), "coft")?;
    }
    for library in bundled {
        let named = format!("{} {}", library.name, library.version);
        text += &format!("{named}: {}\n", library.licence);
        ensure!(!library.notices.is_empty(), "{named} has no notices");
        for notice in &library.notices {
            add(notice, &named)?;
        }
    }
    text += "Rust's standard library: MIT OR Apache-2.0 (https://github.com/rust-lang/rust)\n";
    for one in crates.iter().filter(|one| !one.is_ours) {
        let named = format!("{} {}", one.name, one.version);
        let at = one.repository.as_deref().map(|url| format!(" ({url})")).unwrap_or_default();
        text += &format!("{named}: {}{at}\n", one.licence);
        if let Some(code) = &one.bundles {
            text += &format!("{} {}, in {named}: {}\n", code.name, code.version, code.licence);
        }
        allow(&named, &one.licence)?;
        let files = notices(&one.dir)?;
        if files.is_empty() {
            // Published without the text of the licence that its manifest names: the usual text is used.
            for (name, file) in [("MIT", "LICENSE-MIT"), ("Apache-2.0", "LICENSE-APACHE")] {
                if one.licence.contains(name) {
                    add(&repository().join(file), &named)?;
                }
            }
        }
        for file in files {
            add(&file, &named)?;
        }
    }
    let mut texts: Vec<(String, Vec<String>)> = texts.into_values().collect();
    texts.sort_by(|a, b| (!a.1.contains(&"coft".into()), &a.1).cmp(&(!b.1.contains(&"coft".into()), &b.1)));
    for (licence, of) in texts {
        text += &format!("\n{}\nOf {}:\n\n{}\n", "-".repeat(80), of.join(", "), licence.trim_end());
    }
    Ok(text)
}

fn allow(named: &str, licence: &str) -> anyhow::Result<()> {
    if licence == "LicenseRef-file" {
        bail!("{named} names no licence but a file: read it, and say in copyright.rs what it is");
    }
    let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX)
        .map_err(|error| anyhow::anyhow!("{named}: {licence:?} is no licence: {error}"))?;
    let known = |required: &spdx::LicenseReq| required.license.id().is_some_and(|id| KNOWN.contains(&id.name));
    ensure!(expression.evaluate(known), "{named} is under {licence}: read the terms, then name it in copyright.rs");
    Ok(())
}

/// Files of licences and notices, including those of C code in a crate, sorted by name.
fn notices(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    const STARTS: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
    const ENDS: [&str; 5] = ["rs", "py", "sh", "html", "rtf"];
    let mut found = Vec::new();
    let walk = walkdir::WalkDir::new(dir).max_depth(3).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.file_name() != "target") {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_program = entry.path().extension().is_some_and(|end| ENDS.iter().any(|known| end == *known));
        if entry.file_type().is_file() && !is_program && STARTS.iter().any(|start| name.starts_with(start)) {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_that_nobody_has_read_are_refused() {
        for fine in ["MIT OR Apache-2.0", "MIT AND (GPL-3.0-only OR Zlib)", "Apache-2.0 WITH LLVM-exception OR MIT"] {
            allow("a 1", fine).unwrap();
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "LicenseRef-file"] {
            assert!(allow("a 1", bad).unwrap_err().to_string().starts_with("a 1"), "{bad}");
        }
    }

    #[test]
    fn texts_lie_beside_the_manifest_and_in_the_code_that_a_crate_holds() {
        let dir = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("vendor/c")).unwrap();
        for file in ["LICENSE-MIT", "vendor/c/COPYING", "src.rs", "license.rs", "README"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let found: Vec<_> =
            notices(dir.path()).unwrap().iter().map(|f| f.strip_prefix(&dir).unwrap().to_owned()).collect();
        assert_eq!(found, ["LICENSE-MIT", "vendor/c/COPYING"].map(PathBuf::from));
    }
}
