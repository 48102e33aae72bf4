//! coft.toml(5), from the shipped configuration, which has every setting with a comment.

/// The man page.
pub fn of_settings(shipped: &str) -> String {
    let mut page = String::from(
        ".TH coft.toml 5\n.SH NAME\ncoft.toml \\- configuration of coftd\n\
         .SH SYNOPSIS\n.I /etc/coft/coft.toml\n.SH DESCRIPTION\n\
         The service reads this file, in TOML, when it starts. A mistake in it ends the service with exit code 2; \
         calls are answered with the mistake.\n",
    );
    // The lines of the comment that the next setting or section has.
    let mut comment: Vec<&str> = Vec::new();
    for line in shipped.lines() {
        if line.is_empty() {
            comment.push("");
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else if line.starts_with('[') {
            page += &format!(".SH {}\n{}", escaped(line), paragraphs(&comment));
            comment.clear();
        } else {
            // Settings that are not set by default have a number sign and no space before them.
            let setting = line.trim_start_matches('#');
            if comment.first() == Some(&"") || page.ends_with("mistake.\n") {
                // A comment of the whole file or section stands in a paragraph of its own before.
                let last = comment.iter().rposition(|line| line.is_empty()).map_or(0, |blank| blank + 1);
                page += &paragraphs(&comment[..last]);
                comment.drain(..last);
            }
            page += &format!(".TP\n\\fB{}\\fR\n", escaped(setting));
            page += &if comment.is_empty() { ".br\n".into() } else { paragraphs(&comment) };
            comment.clear();
        }
    }
    page + ".SH \"SEE ALSO\"\n.BR coftd (8),\n.BR coftctl (1)\n"
}

fn paragraphs(comment: &[&str]) -> String {
    comment.iter().filter(|line| !line.is_empty()).map(|line| escaped(line) + "\n").collect()
}

/// As roff prints it: a line that begins with a dot or an apostrophe would be a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_comment_under_its_section() {
        let page = of_settings(
            "# Of the file.\n\n# Where.\nstate-dir = \"/x\"\n\n\
             # Watched.\n[[source]]\n# Long\n# story.\n#path = \"\"\nbare = 1\n",
        );
        let wanted = "Of the file.\n.TP\n\\fBstate\\-dir = \"/x\"\\fR\nWhere.\n\
                      .SH [[source]]\nWatched.\n.TP\n\\fBpath = \"\"\\fR\nLong\nstory.\n.TP\n\\fBbare = 1\\fR\n.br\n";
        assert!(page.contains(wanted), "{page}");
    }
}
