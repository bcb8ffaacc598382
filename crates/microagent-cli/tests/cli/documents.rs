//! The pages under `docs/` that must say what the code does.

use crate::command::Home;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use trycmd::schema::Bin;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs the examples in `pages` and compares what they print.
fn check(pages: &Path) {
    let home = Home::new();
    trycmd::TestCases::new()
        .register_bin("microagent", Bin::Path(env!("CARGO_BIN_EXE_microagent").into()))
        .env("HOME", home.path().to_str().unwrap())
        .env("MICROAGENT_STATE_DIR", home.state_dir().to_str().unwrap())
        .case(pages)
        .run();
}

#[test]
fn help_and_errors_are_as_documented() {
    check(&workspace().join("docs/cli/*.md"));
}

#[test]
fn the_help_of_every_verb_is_documented() {
    let page = std::fs::read_to_string(workspace().join("docs/cli/help.md")).unwrap();
    let home = Home::new();
    let mut pending = vec![Vec::new()];
    while let Some(verb) = pending.pop() {
        let line = [&["microagent"][..], &verb, &["--help"]].concat().join(" ");
        assert!(page.lines().any(|found| found == format!("$ {line}")), "`{line}` is not in docs/cli/help.md");
        let help = home.run(&[&verb[..], &["--help"]].concat()).expect(0).stdout;
        let listed = help.lines().skip_while(|line| !matches!(*line, "Verbs:" | "Commands:")).skip(1);
        for sub in listed.take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  ")) {
            let name = sub.split(' ').next().unwrap_or_default();
            if !name.is_empty() && name != "help" {
                let name: &'static str = name.to_owned().leak();
                pending.push([&verb[..], &[name]].concat());
            }
        }
    }
}

#[test]
fn every_claim_about_security_names_a_test_there_is() {
    let page = std::fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    let named: Vec<(&str, &str)> = rows
        .map(|row| row.rsplit('`').nth(1).and_then(|name| name.split_once("::")).unwrap_or_else(|| panic!("{row}")))
        .collect();
    assert!(named.len() >= 40, "{} claims", named.len());
    for (file, test) in named {
        let places = ["microagent-gateway/tests", "microagent-intercept/tests/intercept", "microagent-cli/tests/vm"];
        let paths = places.map(|place| workspace().join("crates").join(place).join(format!("{file}.rs")));
        let sources = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
        assert!(sources.into_iter().any(|source| source.contains(&format!("fn {test}("))), "no test `{file}::{test}`");
    }
}

/// Collects what the functions named `code` or `..._code` can return.
#[derive(Default)]
struct Codes(BTreeSet<String>);

impl Codes {
    fn take(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let name = signature.ident.to_string();
        let is_text =
            matches!(&signature.output, syn::ReturnType::Type(_, kind) if matches!(&**kind, syn::Type::Reference(_)));
        if is_text && (name == "code" || name.ends_with("_code")) {
            Literals(&mut self.0).visit_block(body);
        }
    }
}

impl Visit<'_> for Codes {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.take(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.take(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    /// A report written down without an error behind it names its code in a field.
    fn visit_field_value(&mut self, field: &syn::FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == "code") {
            Literals(&mut self.0).visit_expr(&field.expr);
        }
        visit::visit_field_value(self, field);
    }

    fn visit_item_mod(&mut self, module: &syn::ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }
}

struct Literals<'a>(&'a mut BTreeSet<String>);

impl Visit<'_> for Literals<'_> {
    fn visit_lit_str(&mut self, literal: &syn::LitStr) {
        self.0.insert(literal.value());
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every error code in the sources of every crate.
fn codes() -> BTreeSet<String> {
    let mut codes = Codes::default();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(workspace().join("crates")).unwrap() {
        let source = entry.unwrap().path().join("src");
        if source.is_dir() {
            sources(&source, &mut files);
        }
    }
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        codes.visit_file(&file);
    }
    codes.0
}

#[test]
fn every_error_code_has_its_row_and_every_row_its_code() {
    let page = std::fs::read_to_string(workspace().join("docs/errors.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let documented: BTreeSet<String> = rows.iter().map(|&code| code.to_owned()).collect();
    assert_eq!(documented.len(), rows.len(), "a code has two rows");
    let codes = codes();
    assert!(
        codes.contains("not_supported_yet") && codes.contains("command_not_found"),
        "the sources were not understood"
    );
    let missing: Vec<_> = codes.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&codes).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/errors.md lacks {missing:?} and should lose {stale:?}");
}
