//! The definitions of a text in a programming language, by its tree-sitter grammar.
//!
//! Owns which nodes are definitions and how they are called. A tree with errors gives what is whole in it; a text that
//! takes too long to parse has no definitions.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tree_sitter::{Language, Node, ParseOptions, Parser};

use super::Definition;

/// How long parsing may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How deep definitions within definitions are looked for.
const DEPTH: usize = 16;
/// Most definitions of one text.
const MOST: usize = 10_000;
/// Longest symbol that is kept, characters.
const LONGEST: usize = 160;

/// How a language calls things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Rust,
    Script,
    Python,
    Go,
}

fn language(extension: &str) -> Option<(Family, Language)> {
    Some(match extension {
        "rs" => (Family::Rust, tree_sitter_rust::LANGUAGE.into()),
        "ts" | "mts" | "cts" => (
            Family::Script,
            tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        ),
        "tsx" => (Family::Script, tree_sitter_typescript::LANGUAGE_TSX.into()),
        "js" | "mjs" | "cjs" | "jsx" => (Family::Script, tree_sitter_javascript::LANGUAGE.into()),
        "py" | "pyi" => (Family::Python, tree_sitter_python::LANGUAGE.into()),
        "go" => (Family::Go, tree_sitter_go::LANGUAGE.into()),
        _ => return None,
    })
}

/// The definitions, each before those within it; none for other languages.
pub(super) fn definitions(extension: &str, text: &str) -> Vec<Definition> {
    let Some((family, language)) = language(extension) else {
        return Vec::new();
    };
    let mut parser = Parser::new();
    if parser.set_language(&language).is_err() {
        return Vec::new();
    }
    let until = Instant::now() + PATIENCE;
    let mut in_time = |_: &tree_sitter::ParseState| match Instant::now() < until {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    let options = ParseOptions::new().progress_callback(&mut in_time);
    let bytes = text.as_bytes();
    let mut read = |at: usize, _| bytes.get(at..).unwrap_or_default();
    let Some(tree) = parser.parse_with_options(&mut read, None, Some(options)) else {
        return Vec::new();
    };
    let mut walk = Walk {
        family,
        text,
        found: Vec::new(),
    };
    walk.children(tree.root_node(), "", DEPTH);
    walk.found
}

struct Walk<'a> {
    family: Family,
    text: &'a str,
    found: Vec<Definition>,
}

/// A definition: what it is called, and what is looked at within it, under which owner.
struct Named<'t> {
    symbol: String,
    within: Option<(Node<'t>, String)>,
}

impl<'a> Walk<'a> {
    fn children(&mut self, node: Node<'_>, owner: &str, depth: usize) {
        if depth == 0 {
            return;
        }
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if self.found.len() >= MOST {
                return;
            }
            self.visit(child, child, owner, depth);
        }
    }

    /// `node` is what is defined, `whole` the statement that it stands in.
    fn visit(&mut self, whole: Node<'_>, node: Node<'_>, owner: &str, depth: usize) {
        match node.kind() {
            "export_statement" => {
                let inner = field(node, "declaration").or_else(|| field(node, "value"));
                if let Some(inner) = inner {
                    self.visit(whole, inner, owner, depth);
                }
            }
            "decorated_definition" => {
                if let Some(inner) = field(node, "definition") {
                    self.visit(whole, inner, owner, depth);
                }
            }
            // `namespace` stands in one.
            "expression_statement" if self.family == Family::Script => {
                let inner = node.named_child(0);
                if let Some(inner) = inner.filter(|inner| inner.kind() == "internal_module") {
                    self.visit(whole, inner, owner, depth);
                }
            }
            // Several types in brackets.
            "type_declaration" if node.named_child_count() > 1 => {
                self.children(node, owner, depth - 1)
            }
            _ => {
                let named = match self.family {
                    Family::Rust => self.rust(node, owner),
                    Family::Script => self.script(node, owner),
                    Family::Python => self.python(node, owner),
                    Family::Go => self.go(node),
                };
                if let Some(named) = named {
                    self.add(whole, node, named.symbol);
                    if let Some((body, owner)) = named.within {
                        self.children(body, &owner, depth - 1);
                    }
                }
            }
        }
    }

    fn add(&mut self, whole: Node<'_>, node: Node<'_>, symbol: String) {
        let named = field(node, "name").unwrap_or(node);
        self.found.push(Definition {
            symbol: symbol.chars().take(LONGEST).collect(),
            first: first_line(whole),
            named: named.start_position().row,
            last: whole.end_position().row,
        });
    }

    fn text_of(&self, node: Node<'_>) -> &'a str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    fn name(&self, node: Node<'_>) -> Option<&'a str> {
        field(node, "name").map(|name| self.text_of(name))
    }

    fn rust<'t>(&self, node: Node<'t>, owner: &str) -> Option<Named<'t>> {
        let word = match node.kind() {
            "function_item" => {
                let name = self.name(node)?;
                return leaf(match owner {
                    "" => format!("fn {name}"),
                    owner => format!("fn {owner}::{name}"),
                });
            }
            "impl_item" => {
                let of = one_line(self.text_of(field(node, "type")?));
                let symbol = match field(node, "trait") {
                    Some(what) => format!("impl {} for {of}", one_line(self.text_of(what))),
                    None => format!("impl {of}"),
                };
                let owner = of.split('<').next().unwrap_or_default().to_owned();
                return within(symbol, field(node, "body"), owner);
            }
            "trait_item" => {
                let name = self.name(node)?;
                return within(format!("trait {name}"), field(node, "body"), name.into());
            }
            "mod_item" => {
                let body = field(node, "body")?;
                return within(
                    format!("mod {}", self.name(node)?),
                    Some(body),
                    String::new(),
                );
            }
            "struct_item" => "struct",
            "enum_item" => "enum",
            "union_item" => "union",
            "type_item" => "type",
            "const_item" => "const",
            "static_item" => "static",
            "macro_definition" => "macro",
            _ => return None,
        };
        // The types and constants of an implementation stay with it.
        if !owner.is_empty() {
            return None;
        }
        leaf(format!("{word} {}", self.name(node)?))
    }

    fn script<'t>(&self, node: Node<'t>, owner: &str) -> Option<Named<'t>> {
        let word = match node.kind() {
            "method_definition" if !owner.is_empty() => {
                return leaf(format!("method {owner}.{}", self.name(node)?));
            }
            "public_field_definition" | "field_definition" if !owner.is_empty() => {
                let name = field(node, "name").or_else(|| field(node, "property"))?;
                is_function(field(node, "value")?).then_some(())?;
                return leaf(format!("method {owner}.{}", self.text_of(name)));
            }
            "class_declaration" | "abstract_class_declaration" | "class" => {
                let name = self.name(node).unwrap_or("default");
                return within(format!("class {name}"), field(node, "body"), name.into());
            }
            "internal_module" => {
                let symbol = format!("namespace {}", self.name(node)?);
                return within(symbol, field(node, "body"), String::new());
            }
            "lexical_declaration" | "variable_declaration" if owner.is_empty() => {
                let declared = node.named_child(0)?;
                let name = one_line(self.text_of(field(declared, "name")?));
                let makes = field(declared, "value").is_some_and(is_function);
                return leaf(format!(
                    "{} {name}",
                    if makes { "function" } else { "const" }
                ));
            }
            "function_declaration" | "generator_function_declaration" => "function",
            "interface_declaration" => "interface",
            "type_alias_declaration" => "type",
            "enum_declaration" => "enum",
            _ => return None,
        };
        leaf(format!("{word} {}", self.name(node)?))
    }

    fn python<'t>(&self, node: Node<'t>, owner: &str) -> Option<Named<'t>> {
        let name = self.name(node)?;
        match node.kind() {
            "function_definition" => leaf(match owner {
                "" => format!("def {name}"),
                owner => format!("def {owner}.{name}"),
            }),
            "class_definition" => within(format!("class {name}"), field(node, "body"), name.into()),
            _ => None,
        }
    }

    fn go<'t>(&self, node: Node<'t>) -> Option<Named<'t>> {
        match node.kind() {
            "function_declaration" => leaf(format!("func {}", self.name(node)?)),
            "method_declaration" => {
                let receiver = self.text_of(field(node, "receiver")?);
                let of = receiver
                    .trim_matches(['(', ')'])
                    .rsplit([' ', '*'])
                    .next()?;
                let of = of.split('[').next()?;
                leaf(format!("func {of}.{}", self.name(node)?))
            }
            "type_declaration" => leaf(format!("type {}", self.name(node.named_child(0)?)?)),
            "type_spec" | "type_alias" => leaf(format!("type {}", self.name(node)?)),
            "const_declaration" | "var_declaration" if node.named_child_count() == 1 => {
                let word = node.kind().split('_').next()?;
                leaf(format!("{word} {}", self.name(node.named_child(0)?)?))
            }
            _ => None,
        }
    }
}

fn field<'t>(node: Node<'t>, name: &str) -> Option<Node<'t>> {
    node.child_by_field_name(name)
}

fn leaf(symbol: String) -> Option<Named<'static>> {
    Some(Named {
        symbol,
        within: None,
    })
}

fn within<'t>(symbol: String, body: Option<Node<'t>>, owner: String) -> Option<Named<'t>> {
    Some(Named {
        symbol,
        within: body.map(|body| (body, owner)),
    })
}

fn is_function(node: Node<'_>) -> bool {
    [
        "arrow_function",
        "function_expression",
        "generator_function",
    ]
    .contains(&node.kind())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line where a definition begins, its comments and attributes included, as far as they touch it.
fn first_line(node: Node<'_>) -> usize {
    let mut first = node.start_position().row;
    let mut before = node.prev_sibling();
    while let Some(sibling) = before {
        let belongs = [
            "line_comment",
            "block_comment",
            "comment",
            "attribute_item",
            "decorator",
        ];
        // A comment of Rust may reach to the beginning of the next line.
        let end = sibling.end_position();
        let last = if end.column == 0 {
            end.row.saturating_sub(1)
        } else {
            end.row
        };
        let begins_line = sibling.prev_sibling().is_none_or(|other| {
            other.end_position().row < sibling.start_position().row
                || other.end_position().column == 0
        });
        if !belongs.contains(&sibling.kind()) || last + 1 < first || !begins_line {
            break;
        }
        first = first.min(sibling.start_position().row);
        before = sibling.prev_sibling();
    }
    first
}
