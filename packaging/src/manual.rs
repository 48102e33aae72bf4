//! Makes man pages of the configurations from the shipped files, which contain every setting with a comment.

/// A program and its configuration.
pub struct Configured {
    pub program: &'static str,
    /// Name of the page.
    pub name: &'static str,
    pub file: &'static str,
    /// What happens if the configuration has an error.
    pub mistake: &'static str,
}

pub const SERVICE: Configured = Configured {
    program: "coftd",
    name: "coft.toml",
    file: "/etc/coft/coft.toml",
    mistake: "A mistake in it ends the service with exit code 2; calls are answered with the mistake.",
};
pub const MQTT: Configured = Configured {
    program: "coft-mqtt",
    name: "coft-mqtt.toml",
    file: "/etc/coft/mqtt.toml",
    mistake: "A mistake in it ends the service with exit code 2, and the log says in which line it is.",
};

/// The text of the man page.
pub fn of_settings(shipped: &str, Configured { program, name, file, mistake }: &Configured) -> String {
    let mut page = format!(
        ".TH {name} 5\n.SH NAME\n{} \\- configuration of {}\n.SH SYNOPSIS\n.I {file}\n.SH DESCRIPTION\n\
         The service reads this file, in TOML, when it starts. {mistake}\n",
        escaped(name),
        escaped(program),
    );
    let introduction = page.len();
    // The lines of the comment before the next setting or section.
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
            // Settings without a default begin with a number sign and no space.
            let setting = line.trim_start_matches('#');
            if comment.first() == Some(&"") || page.len() == introduction {
                // A comment on the whole file or section is a paragraph of its own before it.
                let last = comment.iter().rposition(|line| line.is_empty()).map_or(0, |blank| blank + 1);
                page += &paragraphs(&comment[..last]);
                comment.drain(..last);
            }
            page += &format!(".TP\n\\fB{}\\fR\n", escaped(setting));
            page += &if comment.is_empty() { ".br\n".into() } else { paragraphs(&comment) };
            comment.clear();
        }
    }
    page + &format!(".SH \"SEE ALSO\"\n.BR {} (8),\n.BR coftctl (1)\n", escaped(program))
}

fn paragraphs(comment: &[&str]) -> String {
    comment.iter().filter(|line| !line.is_empty()).map(|line| escaped(line) + "\n").collect()
}

/// Escaped for roff: a line that begins with a dot or an apostrophe would be a request.
pub fn escaped(text: &str) -> String {
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
            &SERVICE,
        );
        let wanted = "Of the file.\n.TP\n\\fBstate\\-dir = \"/x\"\\fR\nWhere.\n\
                      .SH [[source]]\nWatched.\n.TP\n\\fBpath = \"\"\\fR\nLong\nstory.\n.TP\n\\fBbare = 1\\fR\n.br\n";
        assert!(page.contains(wanted), "{page}");
    }
}
