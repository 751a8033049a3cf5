//! What chunks come of texts of each language.

use super::*;

/// First line, last line, kind's first letter, symbol.
fn told(path: &str, text: &str) -> Vec<String> {
    cut(path, text)
        .iter()
        .map(|chunk| {
            format!(
                "{}-{} {} {}",
                chunk.first_line,
                chunk.last_line,
                &chunk.kind.as_str()[..1],
                chunk.symbol.as_deref().unwrap_or("-"),
            )
        })
        .collect()
}

#[test]
fn rust_is_cut_at_its_items() {
    let text = "\
//! A module.
use std::fmt;

/// A session.
#[derive(Debug)]
pub struct Session {
    id: u64,
}

impl fmt::Display for Session {
    fn fmt(&self) -> u8 {
        1
    }
}

impl<T> Pool<T> {
    const SIZE: usize = 1;

    /// Takes one.
    pub async fn take(&self) {}
}

pub trait Speak {
    fn speak(&self);
}

const MOST: usize = 4;
mod inner {
    fn deep() {}
}
";
    let expected = [
        "1-2 t -",
        "4-8 d struct Session",
        "10-10 d impl fmt::Display for Session",
        "11-13 d fn Session::fmt",
        "16-17 d impl Pool<T>",
        "19-20 d fn Pool::take",
        "23-25 d trait Speak",
        "27-27 d const MOST",
        "28-28 d mod inner",
        "29-29 d fn deep",
    ];
    assert_eq!(told("src/a.rs", text), expected);
}

#[test]
fn typescript_and_javascript_are_cut_at_their_declarations() {
    let text = "\
import { x } from './x';

/** A shape. */
export interface Shape { area(): number }
export type Id = string;
export default class Store<T> {
  private items = 1;

  add(item: T): void {
    this.items += 1;
  }

  get = (id: Id) => this.items;
}

export const load = async () => {
  return 1;
};
export function main() {}
enum Kind { A }
const LIMIT = 5;
";
    let expected = [
        "1-1 t -",
        "3-4 d interface Shape",
        "5-5 d type Id",
        "6-7 d class Store",
        "9-11 d method Store.add",
        "13-13 d method Store.get",
        "16-18 d function load",
        "19-19 d function main",
        "20-20 d enum Kind",
        "21-21 d const LIMIT",
    ];
    assert_eq!(told("a.ts", text), expected);
    let view = "export function View() {\n  return <b>{1}</b>;\n}\n";
    assert_eq!(told("a.tsx", view), ["1-3 d function View"]);
    assert_eq!(told("a.jsx", view), ["1-3 d function View"]);
    let script = "class A {\n  b() {}\n}\nfunction c() {}\n";
    let expected = ["1-1 d class A", "2-2 d method A.b", "4-4 d function c"];
    assert_eq!(told("a.js", script), expected);
}

#[test]
fn python_is_cut_at_its_definitions() {
    let text = "\
import os

# Makes one.
@cache
def make(x):
    return x

class Box(Base):
    '''A box.'''

    size = 1

    @property
    def area(self):
        return 1

    async def fill(self):
        pass
";
    let expected = [
        "1-1 t -",
        "3-6 d def make",
        "8-11 d class Box",
        "13-15 d def Box.area",
        "17-18 d def Box.fill",
    ];
    assert_eq!(told("a.py", text), expected);
}

#[test]
fn go_is_cut_at_its_declarations() {
    let text = "\
package main

import \"fmt\"

// Server serves.
type Server struct {
	port int
}

type (
	A int
	B string
)

const Limit = 3

// Run runs.
func (s *Server) Run() error {
	return nil
}

func (q Queue[T]) Len() int { return 0 }

func main() { fmt.Println() }
";
    let expected = [
        "1-3 t -",
        "5-8 d type Server",
        "10-10 t -",
        "11-11 d type A",
        "12-12 d type B",
        "15-15 d const Limit",
        "17-20 d func Server.Run",
        "22-22 d func Queue.Len",
        "24-24 d func main",
    ];
    let told: Vec<String> = told("a.go", text);
    assert_eq!(told, expected);
}

#[test]
fn markdown_is_cut_at_its_headings() {
    let text = "Intro\n\n# One\ntext\n```\n# no heading\n```\n## Two\nmore\n#not\n";
    let expected = ["1-1 t -", "3-7 d # One", "8-10 d ## Two"];
    assert_eq!(told("README.md", text), expected);
}

#[test]
fn long_definitions_are_split_and_keep_their_name() {
    let body = "    let some_value = compute();\n".repeat(150);
    let text = format!("fn long() {{\n{body}}}\nfn short() {{}}\n");
    let chunks = cut("a.rs", &text);
    let parts: Vec<_> = chunks
        .iter()
        .filter(|chunk| chunk.symbol.as_deref() == Some("fn long"))
        .collect();
    assert!(parts.len() >= 3, "{}", parts.len());
    assert_eq!(parts[0].kind, ChunkKind::Definition);
    assert!(parts[1..].iter().all(|part| part.kind == ChunkKind::Text));
    for two in parts.windows(2) {
        assert_eq!(two[0].last_line + 1, two[1].first_line);
    }
    for chunk in &chunks {
        assert!(chunk.text.len() <= MOST_BYTES);
        assert!((chunk.last_line - chunk.first_line) < MOST_LINES as u32);
    }
    assert_eq!(chunks.last().unwrap().symbol.as_deref(), Some("fn short"));
}

#[test]
fn other_texts_are_windows_of_lines() {
    let text: String = (0..200).map(|n| format!("line number {n}\n")).collect();
    let chunks = cut("notes.txt", &text);
    assert!(chunks.len() >= 4);
    assert_eq!(chunks[0].first_line, 1);
    assert!(chunks.iter().all(|chunk| chunk.symbol.is_none()));
    let lines: u32 = chunks.iter().map(|c| c.last_line - c.first_line + 1).sum();
    assert!(lines >= 200);
    assert_eq!(cut("empty.rs", ""), []);
    assert_eq!(cut("blank.rs", " \n\t\n}\n"), []);
    let broken = cut("broken.rs", "fn ( { ] fn ok() {} let =");
    assert!(broken.iter().any(|chunk| chunk.text.contains("fn ok")));
}

#[test]
fn hostile_texts_are_bounded_and_quick() {
    let began = std::time::Instant::now();
    for (path, text) in [
        ("a.rs", "{".repeat(200_000)),
        ("a.ts", "(".repeat(200_000)),
        ("a.py", "if x:\n ".repeat(20_000)),
        ("a.rs", "mod a {".repeat(5_000)),
        ("a.go", "func a(){}\n".repeat(5_000)),
        ("a.js", "x".repeat(1 << 20)),
        ("a.md", "# x\n".repeat(50_000)),
        ("a.rs", "fn a() { \0 \u{1f600} }\r\n".repeat(100)),
    ] {
        let chunks = cut(path, &text);
        assert!(chunks.len() <= MOST_CHUNKS);
        for chunk in chunks {
            assert!(chunk.text.len() <= MOST_BYTES && !chunk.text.contains('\0'));
            assert!(1 <= chunk.first_line && chunk.first_line <= chunk.last_line);
        }
    }
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn a_fingerprint_is_of_path_and_text() {
    let one = fingerprint("a.rs", "text");
    assert_eq!(one, fingerprint("a.rs", "text"));
    assert_ne!(one, fingerprint("b.rs", "text"));
    assert_ne!(one, fingerprint("a.rs", "text "));
    assert_ne!(fingerprint("a", "b"), fingerprint("ab", ""));
}
