//! The reference of the D-Bus interfaces, as a page of docs/ and as a man page, from the introspection XML and from the
//! errors of coft-dbus. Both pages are committed. The tests make them again and compare; nothing else uses this module.

use crate::manual::escaped;
use roxmltree::{Document, Node, ParsingOptions};
use std::fmt::Write;

/// Most columns of a line in the Markdown page.
const COLUMNS: usize = 120;

/// Each interface in the order of the pages, with the paths of its objects and what such an object is.
const OBJECTS: [(&str, &[&str], &str); 5] = [
    ("org.coft.Coft1.Manager", &["/org/coft/Coft1"], "The service as a whole."),
    (
        "org.coft.Coft1.Classifier",
        &["/org/coft/Coft1/classifiers/NAME"],
        "A classifier of the configuration: it answers about images and starts rounds.",
    ),
    (
        "org.coft.Coft1.Generation",
        &["/org/coft/Coft1/classifiers/NAME/generations/N"],
        "Generation N of a classifier: a model that is kept and can serve.",
    ),
    (
        "org.coft.Coft1.Job",
        &["/org/coft/Coft1/jobs/N", "/org/coft/Coft1/classifiers/NAME/jobs/N"],
        "Job N of a classifier, running or ended. The first path is that of the classifier in coft.toml, the second \
         that of a classifier with a file of its own in classifiers.d.",
    ),
    ("org.coft.Coft1.Source", &["/org/coft/Coft1/sources/N"], "A watched directory, and what its pictures show."),
];

/// One interface as the XML describes it.
#[derive(Debug)]
pub struct Interface {
    name: String,
    methods: Vec<Member>,
    signals: Vec<Member>,
    properties: Vec<Property>,
}

/// A method or a signal.
#[derive(Debug)]
struct Member {
    name: String,
    /// The arguments of a call, or of a signal: D-Bus signature and name.
    takes: Vec<(String, String)>,
    /// The arguments that a method returns.
    returns: Vec<(String, String)>,
    text: Vec<String>,
}

#[derive(Debug)]
struct Property {
    name: String,
    signature: String,
    access: String,
    /// How clients are notified of a change.
    change: &'static str,
    text: Vec<String>,
}

/// An error of the service: its full name, and its description.
pub type NamedError = (String, Vec<String>);

/// Reads the introspection XML of one interface.
///
/// # Panics
/// The file is not such XML, or a member has no comment.
pub fn interface(xml: &str) -> Interface {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml, options).expect("introspection XML");
    let node = document.descendants().find(|node| node.has_tag_name("interface")).expect("an interface");
    let all = |kind: &'static str| node.children().filter(move |child| child.has_tag_name(kind));
    Interface {
        name: attribute(node, "name"),
        methods: all("method").map(member).collect(),
        signals: all("signal").map(member).collect(),
        properties: all("property").map(property).collect(),
    }
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_else(|| panic!("{node:?} has no {name}")).to_owned()
}

fn member(node: Node<'_, '_>) -> Member {
    let (returns, takes): (Vec<_>, Vec<_>) = node
        .children()
        .filter(|child| child.has_tag_name("arg"))
        .partition(|argument| argument.attribute("direction") == Some("out"));
    let told = |arguments: Vec<Node<'_, '_>>| {
        arguments.into_iter().map(|argument| (attribute(argument, "type"), attribute(argument, "name"))).collect()
    };
    Member { name: attribute(node, "name"), takes: told(takes), returns: told(returns), text: comment(node) }
}

fn property(node: Node<'_, '_>) -> Property {
    let annotation = node
        .children()
        .find(|child| child.attribute("name") == Some("org.freedesktop.DBus.Property.EmitsChangedSignal"));
    let change = match annotation.and_then(|annotation| annotation.attribute("value")) {
        None | Some("true") => "changes are signalled",
        Some("const") => "never changes",
        Some("false") => "changes are not signalled",
        Some(other) => panic!("{node:?}: no word for {other}"),
    };
    Property {
        name: attribute(node, "name"),
        signature: attribute(node, "type"),
        access: attribute(node, "access"),
        change,
        text: comment(node),
    }
}

/// The paragraphs of the comment before a member.
fn comment(node: Node<'_, '_>) -> Vec<String> {
    let before = node.prev_siblings().skip(1).find(|before| !before.is_text());
    let text = before.filter(Node::is_comment).and_then(|comment| comment.text());
    paragraphs(text.unwrap_or_else(|| panic!("{} {} has no comment", node.tag_name().name(), attribute(node, "name"))))
}

fn paragraphs(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
    lines.split(|line| line.is_empty()).map(|lines| lines.join(" ")).collect()
}

/// The errors that the source of coft-dbus declares, in the same order.
///
/// # Panics
/// The source has no block `errors!`, or an error in it has no comment.
pub fn errors(source: &str) -> Vec<NamedError> {
    let (_, block) = source.split_once("\nerrors! {\n").expect("the block that declares the errors");
    let (block, _) = block.split_once("\n}").expect("the end of the block");
    let (mut errors, mut text) = (Vec::new(), String::new());
    for line in block.lines().map(str::trim) {
        match line.strip_prefix("///") {
            Some(comment) => writeln!(text, "{comment}").expect("a text takes any line"),
            None => {
                let name = line.trim_end_matches(',');
                assert!(!text.is_empty(), "the error {name} has no comment");
                errors.push((format!("org.coft.Coft1.Error.{name}"), paragraphs(&std::mem::take(&mut text))));
            }
        }
    }
    errors
}

/// The page in docs/.
pub fn markdown(interfaces: &[Interface], errors: &[NamedError]) -> String {
    let mut page = "# D-Bus reference\n\n\
        <!-- Made from daemon/dbus/xml and daemon/dbus/src/error.rs: COFT_BLESS=1 cargo test -p coft-packaging -->\n\n"
        .to_owned();
    page += &filled(
        "Every interface of the bus name `org.coft.Coft1`, as the objects describe themselves. [dbus.md](dbus.md) \
         explains how they are used, with examples, and who may call what. The man page org.coft.Coft1(5) has the same \
         text.",
        "",
    );
    page += "\n| interface | objects |\n|---|---|\n";
    for (name, paths, _) in OBJECTS {
        let paths: Vec<_> = paths.iter().map(|path| format!("`{path}`")).collect();
        let anchor = name.to_lowercase().replace('.', "");
        let _ = writeln!(page, "| [`{name}`](#{anchor}) | {} |", paths.join(", "));
    }
    page += "\n";
    page += &filled(ABOUT_OBJECTS, "");
    for (interface, (_, paths, what)) in interfaces.iter().zip(OBJECTS) {
        let _ = write!(page, "\n## {}\n\n{}\n", interface.name, filled(what, ""));
        for path in paths {
            let _ = writeln!(page, "- `{path}`");
        }
        for (heading, members) in [("Methods", &interface.methods), ("Signals", &interface.signals)] {
            if !members.is_empty() {
                let _ = write!(page, "\n### {heading} of {}\n", short(&interface.name));
            }
            for member in members {
                let _ = write!(page, "\n#### {}\n\n{}", member.name, all_filled(&member.text, ""));
                page += &arguments(member, heading == "Signals");
            }
        }
        let _ = write!(page, "\n### Properties of {}\n\n", short(&interface.name));
        for Property { name, signature, access, change, text } in &interface.properties {
            let first = format!("**`{name}`** (`{signature}`, {access}, {change}): {}", text[0]);
            page += &filled(&format!("- {first}"), "  ");
            for more in &text[1..] {
                let _ = write!(page, "\n{}", filled(&format!("  {more}"), "  "));
            }
        }
    }
    page += "\n## Errors\n\n";
    page += &filled(ABOUT_ERRORS, "");
    page += "\n| name | meaning |\n|---|---|\n";
    for (name, text) in errors {
        let _ = writeln!(page, "| `{name}` | {} |", text.join(" "));
    }
    page
}

const ABOUT_OBJECTS: &str = "NAME is the name of a classifier and N a number. `org.freedesktop.DBus.ObjectManager` at \
    `/org/coft/Coft1` lists all objects and tells when one comes or goes. Times are seconds.";

const ABOUT_ERRORS: &str = "The text of an error says what to do. Arguments that a method does not take, and options \
    that are unknown, of another type or out of their range, are answered with \
    `org.freedesktop.DBus.Error.InvalidArgs`; objects, interfaces and methods that are not there with \
    `UnknownObject`, `UnknownInterface` and `UnknownMethod` of the same namespace.";

/// The part after the last dot of an interface's name.
fn short(interface: &str) -> &str {
    interface.rsplit('.').next().unwrap_or(interface)
}

/// The arguments of a method or a signal, as a table. Those of a signal are outgoing.
fn arguments(member: &Member, is_signal: bool) -> String {
    let mut table = String::new();
    let rows = member.takes.iter().map(|argument| (argument, if is_signal { "out" } else { "in" }));
    for ((signature, name), direction) in rows.chain(member.returns.iter().map(|argument| (argument, "out"))) {
        if table.is_empty() {
            table += "\n| argument | type | direction |\n|---|---|---|\n";
        }
        let _ = writeln!(table, "| `{name}` | `{signature}` | {direction} |");
    }
    table
}

fn all_filled(paragraphs: &[String], indent: &str) -> String {
    paragraphs.iter().map(|paragraph| filled(paragraph, indent)).collect::<Vec<_>>().join("\n")
}

/// A paragraph, wrapped; every line except the first begins with `indent`.
fn filled(paragraph: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    // Leading spaces and markers, such as that of a list, belong to the first line.
    let (start, words) = paragraph.split_at(paragraph.len() - paragraph.trim_start().len());
    lines[0] += start;
    for word in words.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        let is_empty = line.trim().is_empty();
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(format!("{indent}{word}"));
        } else {
            *line += if is_empty { "" } else { " " };
            *line += word;
        }
    }
    lines.join("\n") + "\n"
}

/// The text of the man page.
pub fn man_page(interfaces: &[Interface], errors: &[NamedError]) -> String {
    let mut page =
        ".TH org.coft.Coft1 5\n.SH NAME\norg.coft.Coft1 \\- D\\-Bus interfaces of coftd\n.SH DESCRIPTION\n".to_owned();
    page += "The service\n.BR coftd (8)\nhas the bus name\n.B org.coft.Coft1\n\
        on the system bus, unless its configuration says otherwise.\n\
        This page is made from the introspection data of its objects.\n.PP\n";
    page += &set(ABOUT_OBJECTS);
    for (interface, (_, paths, what)) in interfaces.iter().zip(OBJECTS) {
        let _ = write!(page, ".SH \"INTERFACE {}\"\n{}", escaped(&interface.name), set(what));
        for path in paths {
            let _ = write!(page, ".PP\n.I {}\n", escaped(path));
        }
        for (heading, members) in [("Methods", &interface.methods), ("Signals", &interface.signals)] {
            if !members.is_empty() {
                let _ = writeln!(page, ".SS {heading}");
            }
            for member in members {
                let _ = writeln!(page, ".TP\n{}", signature(member));
                page += &body(&member.text);
            }
        }
        page += ".SS Properties\n";
        for Property { name, signature, access, change, text } in &interface.properties {
            let _ = writeln!(page, ".TP\n\\fB{name}\\fR (\\fI{signature}\\fR, {access}, {change})");
            page += &body(text);
        }
    }
    let _ = write!(page, ".SH ERRORS\n{}", set(ABOUT_ERRORS));
    for (name, text) in errors {
        let _ = write!(page, ".TP\n.B {}\n{}", escaped(name), body(text));
    }
    page + ".SH \"SEE ALSO\"\n.BR coftd (8),\n.BR coftctl (1),\n.BR coft.toml (5),\n.BR busctl (1)\n"
}

/// A method or a signal in a line: `Name(type name, …) → (type name, …)`.
fn signature(member: &Member) -> String {
    let list = |arguments: &[(String, String)]| {
        let each: Vec<_> = arguments.iter().map(|(kind, name)| format!("\\fI{kind}\\fR {}", escaped(name))).collect();
        format!("({})", each.join(", "))
    };
    let returns = if member.returns.is_empty() { String::new() } else { format!(" \\(-> {}", list(&member.returns)) };
    format!("\\fB{}\\fR{}{returns}", member.name, list(&member.takes))
}

fn body(paragraphs: &[String]) -> String {
    paragraphs.iter().map(|paragraph| set(paragraph)).collect::<Vec<_>>().join(".IP\n")
}

/// A paragraph for roff: text between backticks is bold, and each sentence begins a new line.
fn set(paragraph: &str) -> String {
    let mut lines = String::new();
    for sentence in paragraph.replace(". ", ".\n").lines() {
        let parts = escaped(&sentence.replace('−', "-"));
        for (index, part) in parts.split('`').enumerate() {
            lines += part;
            // The parts with odd indexes were between backticks.
            lines += match index {
                _ if index + 1 == parts.split('`').count() => "",
                even if even % 2 == 0 => "\\fB",
                _ => "\\fR",
            };
        }
        lines += "\n";
    }
    lines
}

mod tests {
    use super::*;
    use crate::repository;
    use std::collections::BTreeSet;
    use std::fs;

    fn read(path: &str) -> String {
        fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn all() -> (Vec<Interface>, Vec<NamedError>) {
        let interfaces = OBJECTS.map(|(name, ..)| interface(&read(&format!("daemon/dbus/xml/{name}.xml"))));
        (interfaces.into(), errors(&read("daemon/dbus/src/error.rs")))
    }

    /// `COFT_BLESS=1 cargo test -p coft-packaging` writes them.
    #[test]
    fn the_committed_pages_are_made_from_the_xml() {
        let (interfaces, errors) = all();
        let pages = [
            ("docs/dbus-reference.md", markdown(&interfaces, &errors)),
            ("packaging/org.coft.Coft1.5", man_page(&interfaces, &errors)),
        ];
        for (path, made) in pages {
            if std::env::var_os("COFT_BLESS").is_some() {
                fs::write(repository().join(path), &made).unwrap();
            }
            let committed = fs::read_to_string(repository().join(path)).unwrap_or_default();
            assert!(committed == made, "{path} is out of date: COFT_BLESS=1 cargo test -p coft-packaging");
        }
    }

    #[test]
    fn every_interface_is_in_the_pages() {
        let files = fs::read_dir(repository().join("daemon/dbus/xml")).unwrap();
        let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(files, OBJECTS.iter().map(|(name, ..)| format!("{name}.xml")).collect());
        let (interfaces, _) = all();
        for (interface, (name, ..)) in interfaces.iter().zip(OBJECTS) {
            assert_eq!(interface.name, name);
        }
    }

    /// The comment of a method lists the errors that it may return; each of them must exist.
    #[test]
    fn the_errors_of_methods_are_in_the_table() {
        let (interfaces, errors) = all();
        let known: BTreeSet<_> = errors.iter().map(|(name, _)| short(name).to_owned()).collect();
        for method in interfaces.iter().flat_map(|interface| &interface.methods) {
            let Some((_, names)) = method.text.last().unwrap().split_once("rrors: ") else { continue };
            for name in names.trim_end_matches('.').split(", ") {
                let other = name == "InvalidArgs" || name.starts_with("those of `");
                assert!(other || known.contains(name), "{}: {name}", method.name);
            }
        }
    }

    #[test]
    fn a_member_is_read_with_its_arguments_and_its_text() {
        let xml = r#"<!DOCTYPE node>
<node>
 <interface name="a.B">
   <!--
    Does `it`.
    Twice. At −1.

    Errors: No.
    -->
   <method name="Do">
     <arg name="what" type="as" direction="in"/>
     <arg name="done-it" type="b" direction="out"/>
   </method>
   <!--
    Said.
    -->
   <property name="P" type="t" access="read"/>
 </interface>
</node>
"#;
        let read = interface(xml);
        let method = &read.methods[0];
        assert_eq!(method.text, ["Does `it`. Twice. At −1.", "Errors: No."]);
        assert_eq!(signature(method), "\\fBDo\\fR(\\fIas\\fR what) \\(-> (\\fIb\\fR done\\-it)");
        assert_eq!(body(&method.text), "Does \\fBit\\fR.\nTwice.\nAt \\-1.\n.IP\nErrors: No.\n");
        assert_eq!(read.properties[0].change, "changes are signalled");
        assert!(arguments(method, false).ends_with("| `what` | `as` | in |\n| `done-it` | `b` | out |\n"));
    }

    #[test]
    #[should_panic(expected = "method Do has no comment")]
    fn a_member_without_a_text_is_found() {
        interface("<node><interface name=\"a.B\"><method name=\"Do\"/></interface></node>");
    }

    #[test]
    fn lines_are_filled_up_to_the_last_column() {
        let text = "x".repeat(59) + " " + &"y".repeat(60) + " z";
        assert_eq!(filled(&format!("- {text}"), "  "), format!("- {}\n  {} z\n", "x".repeat(59), "y".repeat(60)));
        assert_eq!(filled(&text, ""), format!("{} {}\nz\n", "x".repeat(59), "y".repeat(60)));
    }
}
