//! Turns the names of sources into levels of topics.

/// A topic level for each source, made from its name or directory; Home Assistant accepts it too.
pub fn levels<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut levels: Vec<String> = Vec::new();
    for name in names {
        let level = ascii(name, '-');
        let level = if level.is_empty() { "root".to_owned() } else { level };
        let mut taken = (1..).map(|number| if number == 1 { level.clone() } else { format!("{level}-{number}") });
        let free = taken.find(|level| !levels.contains(level)).expect("numbers do not end");
        levels.push(free);
    }
    levels
}

/// The runs of ASCII letters and digits in `text`, joined by `between`.
pub fn ascii(text: &str, between: char) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&between.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_topics_are_unique() {
        let names = ["/srv/coft/in", "/srv/coft-in", "/srv/k\u{fc}che/", "/", "left", "srv-coft-in", "/a/#/+"];
        let expected = ["srv-coft-in", "srv-coft-in-2", "srv-k-che", "root", "left", "srv-coft-in-3", "a"];
        assert_eq!(levels(names), expected);
    }
}
