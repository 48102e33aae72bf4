//! Reads `packaging/files`, the list of what is installed and where.

use anyhow::{Context, ensure};

#[derive(Debug, PartialEq, Eq)]
pub struct Installed {
    pub package: String,
    pub from: String,
    pub to: String,
    /// The only architecture on which it is installed, with Debian's name; `None` means all.
    pub architecture: Option<String>,
}

/// # Errors
/// A line does not consist of three or four words, or its destination is not an absolute path.
pub fn read(text: &str) -> anyhow::Result<Vec<Installed>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
    let read = lines.map(|(number, line)| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&[package, from, to], rest) = words.split_first_chunk().with_context(|| wanted(number))?;
        ensure!(to.starts_with('/') && rest.len() <= 1, wanted(number));
        let architecture = rest.first().map(|&only| only.into());
        Ok(Installed { package: package.into(), from: from.into(), to: to.into(), architecture })
    });
    read.collect()
}

fn wanted(number: usize) -> String {
    let line = number + 1;
    format!("packaging/files, line {line}: package, file, the path that it goes to, and perhaps an architecture")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository;

    #[test]
    fn a_line_is_a_package_a_file_a_place_and_perhaps_an_architecture() {
        let read = |text: &str| read(text).map_err(|error| error.to_string());
        let one = |architecture: Option<&str>| Installed {
            package: "coft".into(),
            from: "a/b".into(),
            to: "/c".into(),
            architecture: architecture.map(str::to_owned),
        };
        assert_eq!(read("# told\n\ncoft  a/b   /c\n"), Ok(vec![one(None)]));
        assert_eq!(read("coft a/b /c arm64"), Ok(vec![one(Some("arm64"))]));
        for bad in ["coft a", "coft a /b c d", "coft a b"] {
            assert!(read(&format!("#\n{bad}")).unwrap_err().contains("line 2"), "{bad}");
        }
    }

    /// Every file in `systemd` and `packaging` must be installed.
    #[test]
    fn no_shipped_file_is_forgotten() {
        let listed = read(&std::fs::read_to_string(repository().join("packaging/files")).unwrap()).unwrap();
        let is_listed =
            |path: &str| listed.iter().any(|file| path == file.from || path.starts_with(&format!("{}/", file.from)));
        let mut dirs = vec!["systemd".to_owned(), "packaging".to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(repository().join(&dir)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
                const TOOLS: [&str; 7] = ["files", "debian", "enter", "notices", "nvidia-stubs", "src", "Cargo.toml"];
                if TOOLS.iter().any(|tool| path == format!("packaging/{tool}")) {
                    continue;
                }
                match entry.path().is_dir() {
                    true => dirs.push(path),
                    false => assert!(is_listed(&path), "{path} is not in packaging/files"),
                }
            }
        }
        for file in &listed {
            let made = ["programs/", "libraries/", "made/"].iter().any(|start| file.from.starts_with(start));
            assert!(made || repository().join(&file.from).exists(), "{} is not there", file.from);
        }
    }
}
