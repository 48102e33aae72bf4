//! Decides by name which files in a source are not images of the user: hidden files, files that programs keep for
//! themselves or still write, and files that the source's patterns leave out.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use std::ffi::OsStr;
use std::path::{Component, Path};

/// Patterns of `exclude` or `include`. A pattern without `/` matches a name at any depth; one with `/` matches a path
/// relative to the source. Upper and lower case are the same, since cameras write `IMG.JPG`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Patterns {
    written: Vec<String>,
    set: GlobSet,
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Patterns {}

impl TryFrom<Vec<String>> for Patterns {
    type Error = String;

    fn try_from(written: Vec<String>) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for pattern in &written {
            let path = pattern.trim_start_matches('/').trim_end_matches('/');
            if path.is_empty() || Path::new(path).components().any(|part| part == Component::ParentDir) {
                return Err(format!(
                    "the pattern {pattern:?} matches nothing; write names like \"*.preview.jpg\", or paths below the source like \
                     \"thumbs/**\""
                ));
            }
            // A slash at the start ties a pattern to the source's own directory.
            let anchored = pattern.trim_end_matches('/').contains('/');
            let glob = if anchored { path.to_owned() } else { format!("**/{path}") };
            let glob = GlobBuilder::new(&glob).literal_separator(true).case_insensitive(true).build();
            set.add(glob.map_err(|error| format!("the pattern {pattern:?} cannot be read: {}", error.kind()))?);
        }
        let set = set.build().map_err(|error| format!("the patterns cannot be read: {}", error.kind()))?;
        Ok(Self { written, set })
    }
}

/// Directories that programs and file systems keep for themselves, in lower case. Hidden directories are skipped
/// anyway.
const DIRECTORIES: [&str; 19] = [
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "@sharebin",
    "@sharesnap",
    "@tmp",
    "@transcode",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "found.000",
    "lost+found",
    "network trash folder",
    "recycled",
    "recycler",
    "system volume information",
    "temporary items",
    "~snapshot",
];
/// Files that programs keep beside images.
const FILES: [&str; 5] = ["desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "thumbs.db", "zbthumbnail.info"];
/// Name endings of thumbnails, back-up copies, locks, and files that are still being written or received.
const ENDS: [&str; 27] = [
    ".!qb",
    ".!ut",
    ".aria2",
    ".bak",
    ".crdownload",
    ".download",
    ".drivedownload",
    ".driveupload",
    ".filepart",
    ".incomplete",
    ".inprogress",
    ".lck",
    ".lock",
    ".opdownload",
    ".part",
    ".partial",
    ".swo",
    ".swp",
    ".swx",
    ".temp",
    ".thm",
    ".thumb",
    ".tmp",
    ".unfinished",
    ".upload",
    ".uploading",
    "~",
];
/// Name beginnings of hidden files, locks of office programs, partial files and thumbnails.
const BEGINNINGS: [&str; 4] = [".", "~$", "~syncthing~", "synophoto_thumb"];

/// Name endings of most images.
const PICTURES: [&str; 17] = [
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".jxl", ".png", ".qoi",
    ".tif", ".tiff", ".tga", ".webp",
];

/// Decides by name alone what a source takes in.
#[derive(Clone, Debug, Default)]
pub struct Names {
    exclude: Patterns,
    include: Patterns,
}

impl Names {
    pub fn new(exclude: Patterns, include: Patterns) -> Self {
        Self { exclude, include }
    }

    /// Whether a file may be an image, or a directory may hold images, provided that the directory above it may. `path`
    /// is relative to the source.
    pub fn take(&self, path: &Path, is_directory: bool) -> bool {
        let Some(name) = path.file_name() else { return false };
        let wanted = is_directory || self.include.written.is_empty() || self.include.set.is_match(path);
        wanted && !is_kept_by_programs(name, is_directory) && !self.exclude.set.is_match(path)
    }

    /// Whether a directory may hold images, judged by its name and those of all directories above it, below the source.
    pub fn take_all(&self, path: &Path) -> bool {
        let above = path.ancestors().take_while(|above| *above != Path::new(""));
        above.into_iter().all(|above| self.take(above, true))
    }
}

fn is_kept_by_programs(name: &OsStr, is_directory: bool) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let known = if is_directory { DIRECTORIES.as_slice() } else { FILES.as_slice() };
    known.contains(&name.as_str())
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether the file's name is that of an image. Files with other names may be images as well; they are reported after
/// these.
pub fn is_pictures(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    PICTURES.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(written: &[&str]) -> Patterns {
        Patterns::try_from(written.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[track_caller]
    fn check(names: &Names, path: &str, is_directory: bool, taken: bool) {
        assert_eq!(names.take(Path::new(path), is_directory), taken, "{path}");
    }

    /// Previews of NAS systems, files in recycle bins and back-up copies became training images.
    #[test]
    fn what_programs_keep_for_themselves_is_passed_over() {
        let names = Names::default();
        for name in
            ["a.jpg", "day 1/a.JPG", "noextension", "a.part.jpg", "résumé.png", "bak.jpg", "a.jpg.1", "thumb.jpg"]
        {
            check(&names, name, false, true);
        }
        for name in ["day 1", "recycle", "lost", "found", "@home", "2026-11-29", "thumbs"] {
            check(&names, name, true, true);
        }
        for name in [
            ".a.jpg",
            "a.jpg.part",
            "a.TMP",
            "a.jpg~",
            "b.crdownload",
            "GOPR0001.THM",
            "12-00-00.mp4.thumb",
            "a.jpg.bak",
            "Thumbs.db",
            "._a.jpg",
            "~$report.docx",
            "a.jpg.filepart",
            "desktop.ini",
            "SYNOPHOTO_THUMB_M.jpg",
            "a.jpg.swp",
            "~syncthing~a.jpg.tmp",
            ".syncthing.a.jpg.tmp",
            "a.png.download",
        ] {
            check(&names, name, false, false);
        }
        for name in [
            "@eaDir",
            "#recycle",
            "#snapshot",
            "$RECYCLE.BIN",
            "System Volume Information",
            "lost+found",
            ".Trash-1000",
            ".thumbnails",
            ".@__thumb",
            ".stversions",
            "@Recycle",
            "__MACOSX",
            "x.tmp",
            "~snapshot",
        ] {
            check(&names, name, true, false);
        }
    }

    #[test]
    fn patterns_without_a_slash_are_names_and_others_are_paths() {
        let names = Names::new(
            patterns(&["*.preview.jpg", "thumbs/", "/old", "cam1/20*/raw", "deep/**/x"]),
            Patterns::default(),
        );
        check(&names, "a.preview.jpg", false, false);
        check(&names, "day/A.PREVIEW.JPG", false, false);
        check(&names, "thumbs", true, false);
        check(&names, "day/thumbs", true, false);
        check(&names, "old", true, false);
        check(&names, "day/old", true, true);
        check(&names, "cam1/2026/raw", true, false);
        check(&names, "cam1/2026/b/raw", true, true);
        check(&names, "cam2/2026/raw", true, true);
        check(&names, "deep/a/b/x", true, false);
        check(&names, "deep/a/b/y", true, true);
        assert!(!names.take_all(Path::new("day/thumbs/x")) && names.take_all(Path::new("day/x")));
    }

    #[test]
    fn with_include_nothing_else_is_taken_and_exclude_wins() {
        let names = Names::new(patterns(&["*-small.jpg"]), patterns(&["*.jpg", "raw/*.png"]));
        check(&names, "day", true, true);
        check(&names, "day/IMG.JPG", false, true);
        check(&names, "day/a-small.jpg", false, false);
        check(&names, "raw/a.png", false, true);
        check(&names, "a.png", false, false);
        check(&names, ".a.jpg", false, false);
    }

    #[test]
    fn a_pattern_that_cannot_match_is_refused() {
        for (pattern, why) in
            [("a[", "cannot be read"), ("", "matches nothing"), ("/", "matches nothing"), ("../a", "matches nothing")]
        {
            let error = Patterns::try_from(vec![pattern.to_owned()]).unwrap_err();
            assert!(error.contains(why) && error.contains(&format!("{pattern:?}")), "{error}");
        }
    }
}
