//! Label lists as people and spreadsheets write them.

use super::*;

/// The classes and the lost lines of a list beside three files; `known` is what the catalogue knows about lost
/// files.
fn told_knowing(known: &[(&str, &str)], list: impl AsRef<[u8]>) -> Result<(Vec<u32>, Vec<u64>), String> {
    told_among(known, &[], list).map(|(given, lost)| (given.values().map(|(class, _)| class.0).collect(), lost))
}

/// The images and the lost lines of a list. Each source is a key, a directory and the part that it uses.
fn told_among(
    known: &[(&str, &str)],
    sources: &[(&str, &str, Option<Region>)],
    list: impl AsRef<[u8]>,
) -> Result<(Labels, Vec<u64>), String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in
        [(&b"a.png"[..], "1"), (b"b.png", "2"), (b"copy.png", "1"), (b"caf\xe9.png", "3"), (b"back\\slash.png", "4")]
    {
        fs::write(dir.path().join(OsStr::from_bytes(name)), content).unwrap();
    }
    let path = dir.path().join("given.csv");
    fs::write(&path, list).unwrap();
    let classes = ["nut".to_owned(), "hex bolt".to_owned()];
    let prefix = dir.path().display().to_string();
    let place = |(key, of, region): &(&str, &str, Option<Region>)| {
        (PathBuf::from(key), Place { dir: dir.path().join(of), region: *region })
    };
    let sources = sources.iter().map(place).collect();
    let labels = List::read(&path, &classes, &sources, &|| true).and_then(|mut list| {
        for line in list.lost() {
            if let Some((_, content)) = known.iter().find(|(name, _)| line.path == dir.path().join(name)) {
                line.images = Ok(vec![image(content, None)]);
            }
        }
        list.labels()
    });
    match labels {
        Ok((given, lost)) => Ok((given, lost.iter().map(|line| line.number).collect())),
        Err(error) => Err(error.to_string().replace(&prefix, "DIR")),
    }
}

fn image(content: &str, region: Option<Region>) -> ImageId {
    id_of(Sha256::new().chain_update(content), region)
}

/// Such files counted as images of no source.
#[test]
fn labels_of_files_of_which_a_part_is_looked_at_are_those_of_the_part() {
    let part = |x: f64| Some(Region { x, y: 0.0, width: 0.5, height: 1.0 });
    let (left, right) = (part(0.0), part(0.5));
    let one = [("/cam", ".", left), ("/other", "other", None)];
    let list = "path,class\na.png,hex bolt\n";
    let (given, _) = told_among(&[], &one, list).unwrap();
    let line = (ClassId(1), 2);
    assert_eq!(given, [(image("1", left), line), (image("1", None), line)].into(), "whichever source has it");

    let two = [("left", ".", left), ("right", ".", right)];
    let error = told_among(&[], &two, list).unwrap_err();
    assert!(
        error.contains("line 2: the sources left, right look at other parts of DIR/a.png; name the one"),
        "{error}"
    );
    let list = "path,class,source\na.png,hex bolt,left\na.png,nut, right\n";
    let (given, _) = told_among(&[], &two, list).unwrap();
    assert_eq!(given, [(image("1", left), (ClassId(1), 2)), (image("1", right), (ClassId(0), 3))].into());
    let error = told_among(&[], &two, "path,class,source\na.png,nut,middle\n").unwrap_err();
    assert!(error.contains("line 2: there is no source middle; there are: left, right"), "{error}");
}

fn told(list: impl AsRef<[u8]>) -> Result<(Vec<u32>, Vec<u64>), String> {
    told_knowing(&[], list)
}

#[test]
fn images_are_known_by_their_content() {
    let (mut found, lost) = told("path,class\na.png,hex bolt\nb.png,nut\ncopy.png,hex bolt\n").unwrap();
    found.sort_unstable();
    assert_eq!((found.as_slice(), lost.as_slice()), ([0, 1].as_slice(), [].as_slice()), "two images, one twice");
}

#[test]
fn a_lost_file_is_left_out_and_its_line_told() {
    let list = "path,class\na.png,hex bolt\nlost.png,nut\nday/lost.png,nut\n";
    assert_eq!(told(list).unwrap(), (vec![1], vec![3, 4]));
}

#[test]
fn a_lost_file_that_is_known_counts() {
    let list = "path,class\na.png,hex bolt\nlost.png,nut\n./day/./lost.png,nut\n";
    let (mut found, lost) = told_knowing(&[("lost.png", "3"), ("day/lost.png", "4")], list).unwrap();
    found.sort_unstable();
    assert_eq!((found, lost), (vec![0, 0, 1], vec![]));
    let error = told_knowing(&[("lost.png", "1")], "path,class\na.png,hex bolt\nlost.png,nut\n").unwrap_err();
    assert!(error.contains("line 3: DIR/lost.png is the image of line 2"), "{error}");
}

#[test]
fn a_bad_line_is_named() {
    let refused = |list: &str, why: &str| {
        let error = told(list).unwrap_err();
        assert!(error.contains("DIR/given.csv") && error.contains(why), "{error}");
    };
    refused("path,class\na.png,nut\nb.png,gear\n", "line 3: there is no class \"gear\"");
    refused("path,class\na.png,nut\ncopy.png,hex bolt\n", "line 3: DIR/copy.png is the image of line 2");
    refused("path,class\na.png\n", "line 2: 1 fields where the first line has 2");
    refused("path,class\na.png,nut,\n", "line 2: 3 fields where the first line has 2");
    refused("path,class\n,nut\n", "line 2: the path is empty");
    refused("path,class\n\"a.png,nut\nb.png,nut\n", "line 2: 1 fields");
    refused(
        "path,class\nb.png,nut\na.png,Hex bolt\n",
        "line 3: there is no class \"Hex bolt\"; did you mean \"hex bolt\"?",
    );
    refused("path,class\na.png,hexbolt\n", "did you mean \"hex bolt\"?");
    refused("path,class\na.png,gear\n", "there is no class \"gear\"; write it as in the label file");
    refused("path,class\nin\\a.png,nut\n", "line 2: there is no file DIR/in\\a.png; write the path with /");
}

#[test]
fn a_list_without_its_header_is_refused_with_its_first_line() {
    for (list, found) in [
        ("file,class\na.png,nut\n", "file,class"),
        ("a.png,nut\n", "a.png,nut"),
        ("\r\nsep=;\r\npath;class\r\n", "sep=;"),
        ("", ""),
    ] {
        let error = told(list).unwrap_err();
        let why = format!("the first line has to name the columns, path,class; it is {found:?}");
        assert!(error.contains(&why), "{error}");
    }
}

#[test]
fn lists_are_read_as_spreadsheets_write_them() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for list in [
        b"path;class\na.png;hex bolt\n".to_vec(),
        b"path\tclass\na.png\thex bolt\n".to_vec(),
        b"Class , PATH\nhex bolt , a.png\n".to_vec(),
        b"id,path,class\r\n1,\"a.png\",\"hex bolt\"\r\n\r\n".to_vec(),
        b"\xef\xbb\xbf\"path\",\"class\"\r\n./a.png, hex bolt\r\n".to_vec(),
        b"path,class\ra.png,hex bolt\r".to_vec(),
        utf16("\u{feff}path;class\r\na.png;hex bolt\r\n"),
    ] {
        assert_eq!(told(&list), Ok((vec![1], vec![])), "{}", String::from_utf8_lossy(&list));
    }
}

#[test]
fn names_of_files_may_be_any_bytes_and_classes_may_not() {
    let list = b"path,class\ncaf\xe9.png,nut\nback\\slash.png,hex bolt\n";
    let (mut found, lost) = told(list).unwrap();
    found.sort_unstable();
    assert_eq!((found, lost), (vec![0, 1], vec![]));
    let error = told(b"path,class\na.png,caf\xe9\n").unwrap_err();
    assert!(error.contains("line 2: the byte 0xE9 is not UTF-8"), "{error}");
    let error = told(b"path,class\nlost\xe9.png,nut\n").unwrap_err();
    assert!(error.contains("line 2: there is no file DIR/lost\\xe9.png; the name is not UTF-8"), "{error}");
}

#[test]
fn a_pipe_in_place_of_a_file_held_the_round_up() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("given.csv");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let classes = ["nut".to_owned()];
    let error = List::read(&pipe, &classes, &HashMap::new(), &|| true).unwrap_err().to_string();
    assert!(error.contains("it is no regular file"), "{error}");
    fs::write(dir.path().join("list.csv"), "path,class\ngiven.csv,nut\n").unwrap();
    let mut list = List::read(&dir.path().join("list.csv"), &classes, &HashMap::new(), &|| true).unwrap();
    assert_eq!(list.lost().count(), 1);
}
