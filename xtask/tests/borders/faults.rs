//! That each border is found broken where it is: a small workspace with one fault after another.

use super::*;

fn module(name: &str) -> Module {
    name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// A package of modules `a`, `b`, `c` and `a::inner` with these texts.
fn package(name: &str, dependencies: &[&str], texts: &[(&str, &str)]) -> Package {
    let mut target = Source::default();
    target.add(Path::new("lib.rs"), "mod a; mod b; mod c;", module(""));
    target.add(Path::new("a.rs"), "mod inner; mod other;", module("a"));
    for (name, text) in texts {
        target.add(Path::new(&format!("{name}.rs")), text, module(name));
    }
    let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect();
    Package { name: name.to_owned(), dependencies, targets: vec![target] }
}

fn rows(rows: &str) -> Vec<Row> {
    table::rows(&format!("# T\n| a | b |\n|---|---|\n{rows}"), "T")
}

fn check(faults: &[String], expected: &[&str]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn a_package_uses_what_its_row_says_and_no_more_or_less() {
    let workspace = [package("low", &["serde"], &[]), package("high", &["low"], &[])];
    let told = |text: &str| packages(&workspace, &rows(text));
    check(&told("| `low` | |\n| `high` | `low` |"), &[]);
    check(&told("| `low`, `high` | |"), &["high: it depends on `low`; docs/architecture.md:4: | `low`, `high` | |"]);
    check(&told("| `low` | `high` |\n| `high` | `low` |"), &["low: it does not depend on `high`"]);
    check(&told("| `low` | |"), &["no row for the package `high`"]);
    check(&told("| `low` | |\n| `high` | `low` |\n| `gone` | |"), &["there is no package `gone`"]);
}

#[test]
fn a_library_is_used_where_its_row_says() {
    let workspace = [package("low", &["zbus"], &[("a::inner", "\nuse zbus::Connection;")])];
    let told = |text: &str| libraries(&workspace, &rows(text));
    check(&told("| `zbus` | `low` |"), &[]);
    check(&told("| `zbus` | `low::a` |"), &[]);
    check(&told("| `zbus` | `low::b` |"), &["a::inner.rs:2: `low::a::inner` uses `zbus`", "`low::b` does not use it"]);
    check(&told("| `zbus` | |"), &["low: it depends on `zbus`", "`low::a::inner` uses `zbus`"]);
}

#[test]
fn modules_are_kept_apart_with_all_that_is_in_them() {
    let workspace = [package("low", &[], &[("a::inner", "use crate::b::B;"), ("b", "fn f() { crate::c::g() }")])];
    let told = |text: &str| apart(&workspace, &rows(text));
    check(&told("| `low::a`, `low::c` | each other |"), &[]);
    check(&told("| `low::a`, `low::b` | each other |"), &["a::inner.rs:1: `low::a::inner` uses `low::b`"]);
    check(&told("| `low::b` | `low::c` |"), &["b.rs:1: `low::b` uses `low::c`"]);
    check(&told("| `low::c` | `low::b` |"), &[]);
    check(&told("| `low::d` | `low::b` |"), &["there is no module `low::d`"]);
}

#[test]
fn a_circle_is_told_with_its_places() {
    let line = [package("low", &[], &[("a", "use crate::b::B;"), ("b", "use crate::c::C;")])];
    check(&circles(&line), &[]);

    let texts = [("a", "\nuse crate::b::B;"), ("b", "use crate::c::C;"), ("c", "use crate::a::A;")];
    let circle = [package("low", &[], &texts)];
    check(
        &circles(&circle),
        &["a.rs:2: `low::a` uses `low::b`, and so in a circle: low::a > low::b > low::c > low::a", "b.rs:1", "c.rs:1"],
    );
}

#[test]
fn a_circle_deep_in_a_module_counts_and_one_between_parent_and_child_does_not() {
    let texts = [("a::inner", "use super::other::O;"), ("a::other", "use super::inner::I;")];
    check(&circles(&[package("low", &[], &texts)]), &["a::inner.rs:1: `low::a::inner`", "a::other.rs:1"]);
    let texts = [("a", "mod inner; use inner::I;"), ("a::inner", "use super::A; use crate::a::B;")];
    check(&circles(&[package("low", &[], &texts)]), &[]);
}
