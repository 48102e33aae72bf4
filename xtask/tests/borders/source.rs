//! What the modules of a crate use, read from its source: imports, and paths written out in expressions, types, macros
//! and attributes. What stands under `#[cfg(test)]` does not count.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// A module, by its names from the root of its crate on; the root itself has none.
pub type Module = Vec<String>;

/// A place where one module names something of another, or of another crate.
#[derive(Debug)]
pub struct Reference {
    pub file: PathBuf,
    pub line: usize,
    pub from: Module,
    path: Named,
}

/// A path as far as it can be told without compiling.
#[derive(Debug, Clone)]
enum Named {
    /// From the root of the crate on.
    Inside(Vec<String>),
    /// The first name is another crate's, unless something of that name was imported.
    Outside(Vec<String>),
}

/// One target of a package: a library or a program.
#[derive(Debug, Default)]
pub struct Source {
    pub modules: BTreeSet<Module>,
    pub references: Vec<Reference>,
    imports: BTreeMap<(Module, String), Named>,
}

impl Source {
    /// Reads a crate from its root file on. Paths are told relative to `base`.
    pub fn read(base: &Path, root: &Path) -> Self {
        let mut source = Self::default();
        let dir = root.parent().expect("a file is in a directory");
        source.read_file(base, root, dir, Vec::new());
        source
    }

    fn read_file(&mut self, base: &Path, file: &Path, dir: &Path, module: Module) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let shown = file.strip_prefix(base).unwrap_or(file).to_owned();
        for (name, nested) in self.add(&shown, &text, module) {
            let inner = nested.iter().fold(dir.to_owned(), |dir, name| dir.join(name));
            let plain = inner.with_extension("rs");
            let file = if plain.exists() { plain } else { inner.join("mod.rs") };
            self.read_file(base, &file, &inner, name);
        }
    }

    /// Adds the text of a file, and returns the modules that are in files of their own: their full names, and their
    /// names relative to `module`.
    pub fn add(&mut self, file: &Path, text: &str, module: Module) -> Vec<(Module, Vec<String>)> {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let depth = module.len();
        self.modules.insert(module.clone());
        let mut reader = Reader { source: self, file, module, elsewhere: Vec::new() };
        reader.declare(&parsed.items);
        reader.visit_file(&parsed);
        let elsewhere = reader.elsewhere;
        elsewhere.into_iter().map(|name| (name.clone(), name[depth..].to_vec())).collect()
    }

    /// The module of this crate that a reference leads to, through imports where they pass something on.
    pub fn target(&self, reference: &Reference) -> Option<Module> {
        let Named::Inside(path) = &reference.path else { return None };
        self.follow(path, 0)
    }

    fn follow(&self, path: &[String], depth: usize) -> Option<Module> {
        let length = (0..=path.len()).rev().find(|&length| self.modules.contains(&path[..length]))?;
        let module = &path[..length];
        // Imports that name each other would be an error for the compiler too.
        if let Some(name) = path.get(length)
            && depth < 8
            && let Some(import) = self.imports.get(&(module.to_vec(), name.clone()))
        {
            return match import {
                Named::Inside(onwards) => self.follow(onwards, depth + 1),
                Named::Outside(_) => None,
            };
        }
        Some(module.to_vec())
    }

    /// The other crate that a reference leads to.
    pub fn library<'a>(&self, reference: &'a Reference) -> Option<&'a str> {
        let Named::Outside(path) = &reference.path else { return None };
        let first = path.first()?;
        match self.imports.get(&(reference.from.clone(), first.clone())) {
            Some(Named::Inside(_)) => None,
            // A name of the library: the import of it has been noted.
            Some(Named::Outside(imported)) if imported.first() != Some(first) => None,
            _ => Some(first),
        }
    }
}

struct Reader<'a> {
    source: &'a mut Source,
    file: &'a Path,
    module: Module,
    elsewhere: Vec<Module>,
}

impl Reader<'_> {
    /// Enters the modules that are declared among these items, before a path is asked for one of them.
    fn declare(&mut self, items: &[syn::Item]) {
        for item in items {
            if let syn::Item::Mod(module) = item
                && !is_for_tests(&module.attrs)
            {
                self.source.modules.insert(self.child(&module.ident.to_string()));
            }
        }
    }

    fn child(&self, name: &str) -> Module {
        self.module.iter().cloned().chain([name.to_owned()]).collect()
    }

    fn named(&self, path: &[String]) -> Option<Named> {
        let (first, rest) = path.split_first()?;
        let above = |count: usize| self.module[..self.module.len().saturating_sub(count)].iter();
        let inside = match first.as_str() {
            "crate" => rest.to_vec(),
            "self" => above(0).chain(rest).cloned().collect(),
            "super" => {
                let count = path.iter().take_while(|name| *name == "super").count();
                above(count).chain(&path[count..]).cloned().collect()
            }
            "Self" => return None,
            name if self.source.modules.contains(&self.child(name)) => above(0).chain(path).cloned().collect(),
            _ => return Some(Named::Outside(path.to_vec())),
        };
        Some(Named::Inside(inside))
    }

    fn note(&mut self, path: &[String], line: usize) {
        if let Some(path) = self.named(path) {
            let (file, from) = (self.file.to_owned(), self.module.clone());
            self.source.references.push(Reference { file, line, from, path });
        }
    }

    fn import(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| prefix.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        let (path, name, span) = match tree {
            syn::UseTree::Path(path) => return self.import(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(prefix, tree)),
            syn::UseTree::Glob(glob) => (prefix.to_vec(), None, glob.star_token.spans[0]),
            syn::UseTree::Name(name) if name.ident == "self" => {
                (prefix.to_vec(), prefix.last().cloned(), name.ident.span())
            }
            syn::UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string()), name.ident.span()),
            syn::UseTree::Rename(to) if to.ident == "self" => {
                (prefix.to_vec(), Some(to.rename.to_string()), to.ident.span())
            }
            syn::UseTree::Rename(to) => (with(&to.ident), Some(to.rename.to_string()), to.ident.span()),
        };
        self.note(&path, span.start().line);
        if let (Some(name), Some(path)) = (name, self.named(&path)) {
            self.source.imports.insert((self.module.clone(), name), path);
        }
    }

    /// Paths among the tokens of a macro or an attribute, which have no syntax of their own.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is =
            |at: usize, sign: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == sign);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => self.literal(&literal.to_string(), literal.span().start().line),
                TokenTree::Ident(first) => {
                    let is_variable = at > 0 && is(at - 1, '$') && first != "crate";
                    let line = first.span().start().line;
                    let mut path = vec![first.to_string()];
                    while is(at + 1, ':')
                        && is(at + 2, ':')
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if path.len() > 1 && !is_variable {
                        self.note(&path, line);
                    }
                }
                TokenTree::Punct(_) => {}
            }
            at += 1;
        }
    }

    /// A path in quotes, as in `#[serde(default = "crate::module::function")]`.
    fn literal(&mut self, literal: &str, line: usize) {
        let inner = literal.trim_matches('"');
        if let Ok(path) = syn::parse_str::<syn::Path>(inner)
            && path.segments.len() > 1
        {
            self.note(&names_of(&path), line);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            syn::Item::Mod(module) => {
                let name = self.child(&module.ident.to_string());
                let Some((_, items)) = &module.content else {
                    assert!(!has(&module.attrs, "path"), "{}: #[path] is not followed", self.file.display());
                    return self.elsewhere.push(name);
                };
                let outer = std::mem::replace(&mut self.module, name);
                self.declare(items);
                items.iter().for_each(|item| self.visit_item(item));
                self.module = outer;
            }
            syn::Item::Use(import) => self.import(&[], &import.tree),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if !matches!(item, syn::ImplItem::Fn(function) if is_for_tests(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.note(&names_of(path), path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        self.visit_path(attribute.path());
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

fn names_of(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn has(attributes: &[syn::Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        syn::Meta::Path(path) => path.is_ident("test"),
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::*;
    match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        ExternCrate(item) => &item.attrs,
        Fn(item) => &item.attrs,
        ForeignMod(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        TraitAlias(item) => &item.attrs,
        Type(item) => &item.attrs,
        Union(item) => &item.attrs,
        Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text in module `one` of a crate with modules `one`, `two` and `three` uses.
    fn used(text: &str) -> Vec<String> {
        let mut source = Source::default();
        source.add(Path::new("lib.rs"), "mod one; mod two; mod three; pub use three::Passed;", Vec::new());
        source.references.clear();
        source.add(Path::new("one.rs"), text, vec!["one".into()]);
        let told = |reference: &Reference| match source.target(reference) {
            Some(module) => format!("{}:{}", reference.line, module.join("::")),
            None => format!("{}:{}", reference.line, source.library(reference).unwrap_or("-")),
        };
        source.references.iter().map(told).collect()
    }

    #[test]
    fn imports_count() {
        assert_eq!(used("use crate::two::Thing;"), ["1:two"]);
        assert_eq!(used("use crate::{two::{A, B}, three as other};"), ["1:two", "1:two", "1:three"]);
        assert_eq!(used("\nuse super::two::*;"), ["2:two"]);
        assert_eq!(used("fn f() { use crate::three::{self}; }"), ["1:three"]);
        assert_eq!(used("use tch::Tensor;"), ["1:tch"]);
    }

    #[test]
    fn paths_written_out_count() {
        assert_eq!(used("fn f(a: &crate::two::A) -> super::three::B { todo!() }"), ["1:two", "1:three"]);
        assert_eq!(used("mod inner { fn f() { super::super::two::g() } }"), ["1:two"]);
        assert_eq!(used("fn f() {\n println!(\"{}\", 1 + crate::two::g());\n}"), ["2:two"]);
        assert_eq!(used("#[derive(crate::two::D)] struct A;"), ["1:two"]);
        assert_eq!(used("struct A { #[serde(default = \"crate::two::f\")] b: u8 }"), ["1:two"]);
        assert_eq!(used("macro_rules! m { ($a:ident) => { $crate::two::f($a::b) } }"), ["1:two"]);
        assert_eq!(used("fn f() { tch::no_grad(|| ()) }"), ["1:tch"]);
    }

    #[test]
    fn what_the_root_passes_on_belongs_to_its_module() {
        assert_eq!(used("use crate::Passed;"), ["1:three"]);
        assert_eq!(used("fn f() -> super::Passed { todo!() }"), ["1:three"]);
    }

    #[test]
    fn a_module_of_a_library_s_name_is_not_the_library() {
        assert_eq!(used("use crate::two::tch; fn f() { tch::g() }"), ["1:two", "1:-"]);
        assert_eq!(used("mod tch { fn g() {} } fn f() { tch::g() }"), ["1:one::tch"]);
    }

    #[test]
    fn tests_do_not_count() {
        assert!(used("#[cfg(test)] use crate::two::A;").is_empty());
        assert!(used("#[cfg(test)] mod tests { use crate::two::A; }").is_empty());
        assert!(used("struct A; impl A { #[cfg(test)] fn f() { crate::two::g() } }").is_empty());
    }
}
