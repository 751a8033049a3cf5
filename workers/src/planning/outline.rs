//! Plans without a language model: from the request's own words, the search and the code's outline.
//!
//! Owns the steps and their words. It names places, not solutions, and the summary says so. It never fails: with
//! nothing to go by the plan is short.

mod places;
mod words;

use super::schema::{DETAIL_CHARS, Draft, DraftStep, FILES, SUMMARY_CHARS, TITLE_CHARS};
use crate::context::{Defined, Found, Search};
use places::{Places, Spot};
use words::{Asked, Verb};

/// Characters of the request that the plan repeats.
const REQUEST_CHARS: usize = 200;
/// Longest estimate of one file, minutes.
const MOST_MINUTES: u32 = 90;

/// Makes a plan of a request; `chunks` and `outline` are what was found for it.
pub async fn plan(
    search: &dyn Search,
    project: &str,
    request: &str,
    chunks: Vec<Found>,
    outline: Vec<Defined>,
) -> Draft {
    let asked = words::understood(request);
    let places = places::find(search, project, &asked, chunks, outline).await;
    let mut steps = Steps::default();
    let read = steps.pin_down(request, &asked, &places);
    let mut changed = Vec::new();
    if !matches!(asked.verb, Verb::Test | Verb::Document) {
        changed = steps.change(read, request, &asked, &places);
        changed.extend(steps.follow(&changed, &asked, &places));
    }
    let rests_on = if changed.is_empty() {
        vec![read]
    } else {
        changed
    };
    if asked.verb != Verb::Document {
        steps.test(&rests_on, &asked, &places);
    }
    if !places.docs.is_empty() || asked.verb == Verb::Document {
        steps.document(&rests_on, &asked, &places);
    }
    Draft {
        summary: summary(request, &places),
        steps: steps.list,
    }
}

fn summary(request: &str, places: &Places) -> String {
    let mut text = String::from(
        "Made without a language model, from the request's words and the outline of the project's code: it names \
places to look at, not how to solve it. ",
    );
    let count = places.targets.len();
    text.push_str(&match (count, places.guessed) {
        (0, _) => "Nothing in the project's code was found that fits the request. ".to_owned(),
        (_, true) => format!(
            "The request names no place in the code; the {} the best that a search found. ",
            files(count)
        ),
        (_, false) => format!("It is about {}. ", listed(&places.targets)),
    });
    text.push_str(&format!("Asked for: {}", beginning(request)));
    bounded(&text, SUMMARY_CHARS)
}

fn files(count: usize) -> String {
    match count {
        1 => "file named here is".to_owned(),
        _ => "files named here are".to_owned(),
    }
}

#[derive(Default)]
struct Steps {
    list: Vec<DraftStep>,
}

impl Steps {
    /// Adds a step, and gives its position.
    fn push(
        &mut self,
        title: &str,
        detail: &str,
        files: Vec<String>,
        depends_on: Vec<u32>,
        minutes: u32,
    ) -> u32 {
        let mut files = files;
        files.truncate(FILES);
        self.list.push(DraftStep {
            title: bounded(title, TITLE_CHARS),
            detail: bounded(detail, DETAIL_CHARS),
            files,
            depends_on,
            minutes: Some(minutes),
        });
        self.list.len() as u32 - 1
    }

    fn pin_down(&mut self, request: &str, asked: &Asked, places: &Places) -> u32 {
        let what = subject(asked);
        let title = match asked.verb {
            Verb::Fix => format!("Reproduce what is wrong{}", of(&what)),
            _ => format!("Read the code and pin down what is wanted{}", of(&what)),
        };
        let mut detail = format!("Asked for: {}\n", beginning(request));
        for spot in &places.targets {
            detail.push_str(&format!("\nRead {}.", place(spot)));
        }
        if places.targets.is_empty() {
            detail.push_str("\nDecide where in the project it belongs.");
        }
        detail.push_str(match asked.verb {
            Verb::Fix => "\nWrite down the input that fails, what happens, and what should happen.",
            Verb::Refactor => "\nWrite down what must stay as it is, and which tests hold it.",
            _ => "\nWrite down in a sentence or two how one will see that it is done.",
        });
        let minutes = 10 + 5 * places.targets.len() as u32;
        self.push(&title, &detail, paths(&places.targets), Vec::new(), minutes)
    }

    /// A step for each file to change.
    fn change(&mut self, read: u32, request: &str, asked: &Asked, places: &Places) -> Vec<u32> {
        if places.targets.is_empty() {
            let detail = format!("Make what was asked for: {}", beginning(request));
            let title = format!("{}{}", deed(asked), or_it(&subject(asked)));
            return vec![self.push(&title, &detail, Vec::new(), vec![read], 60)];
        }
        let mut positions = Vec::new();
        for spot in &places.targets {
            let names: Vec<&str> = spot
                .defined
                .iter()
                .map(|(symbol, _)| symbol.as_str())
                .collect();
            let what = match names.first() {
                Some(first) => format!(" `{first}`"),
                None => or_it(&subject(asked)),
            };
            let title = format!("{}{what} in {}", deed(asked), spot.path);
            let mut detail = format!("{} in {}.", deed(asked), place(spot));
            if let Some(new_name) = &asked.new_name {
                detail.push_str(&format!(" The new name is `{new_name}`."));
            }
            if spot.defined.is_empty() && spot.lines.is_empty() {
                detail.push_str(" The file is not in the project's index: it may have to be made.");
            }
            let minutes = (15 + 10 * names.len() as u32).min(MOST_MINUTES);
            let files = vec![spot.path.clone()];
            positions.push(self.push(&title, &detail, files, vec![read], minutes));
        }
        positions
    }

    /// A step for whoever uses what was changed.
    fn follow(&mut self, changed: &[u32], asked: &Asked, places: &Places) -> Option<u32> {
        if places.callers.is_empty() {
            return None;
        }
        let what = subject(asked);
        let title = format!("Bring what uses{} in line", or_it(&what));
        let mut detail = String::from("These places mention it:\n");
        for spot in &places.callers {
            detail.push_str(&format!("\n- {}", place(spot)));
        }
        let minutes = 5 + 5 * places.callers.len() as u32;
        Some(self.push(
            &title,
            &detail,
            paths(&places.callers),
            changed.to_vec(),
            minutes,
        ))
    }

    fn test(&mut self, rests_on: &[u32], asked: &Asked, places: &Places) {
        let what = or_it(&subject(asked));
        let aim = match asked.verb {
            Verb::Fix => "The input that failed passes now, and fails without the change.",
            Verb::Remove => "Tests of what is gone go too; the rest passes.",
            Verb::Rename | Verb::Refactor => {
                "Nothing behaves differently: the same tests pass, with names brought in line."
            }
            _ => "A test that fails without the change, and one for its bounds and for bad input.",
        };
        let (files, mut detail) = match (&places.tests[..], &places.new_test) {
            ([], None) => (Vec::new(), "Choose where the test belongs.".to_owned()),
            ([], Some(path)) => (
                vec![path.clone()],
                format!("No test of it was found. A new one belongs into {path}."),
            ),
            (tests, _) => {
                let places: Vec<String> = tests.iter().map(place).collect();
                (
                    paths(tests),
                    format!("Tests that are about it: {}.", places.join("; ")),
                )
            }
        };
        detail.push_str(&format!(" {aim} Run the project's whole suite at the end."));
        let minutes = 20 + 10 * files.len() as u32;
        self.push(
            &format!("Test{what}"),
            &detail,
            files,
            rests_on.to_vec(),
            minutes,
        );
    }

    fn document(&mut self, rests_on: &[u32], asked: &Asked, places: &Places) {
        let what = or_it(&subject(asked));
        let mut detail =
            String::from("Say what has changed for whoever uses it, where it is described now");
        if places.docs.is_empty() {
            detail =
                "Describe it beside the code: what it does, its bounds, how it fails".to_owned();
        }
        for spot in &places.docs {
            detail.push_str(&format!("\n- {}", place(spot)));
        }
        let mut files = paths(&places.docs);
        if files.is_empty() {
            files = paths(&places.targets);
        }
        self.push(
            &format!("Document{what}"),
            &detail,
            files,
            rests_on.to_vec(),
            15,
        );
    }
}

/// What it is about, as the request names it; empty if it names nothing.
fn subject(asked: &Asked) -> String {
    let names: Vec<String> = asked
        .names
        .iter()
        .take(3)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len() {
        0 => asked
            .words
            .iter()
            .take(4)
            .cloned()
            .collect::<Vec<_>>()
            .join(" "),
        _ => names.join(", "),
    }
}

fn of(subject: &str) -> String {
    match subject {
        "" => String::new(),
        subject => format!(": {subject}"),
    }
}

fn or_it(subject: &str) -> String {
    match subject {
        "" => " it".to_owned(),
        subject => format!(" {subject}"),
    }
}

fn deed(asked: &Asked) -> &'static str {
    match asked.verb {
        Verb::Add => "Add",
        Verb::Fix => "Fix",
        Verb::Rename => "Rename",
        Verb::Remove => "Remove",
        Verb::Refactor => "Refactor",
        Verb::Test | Verb::Document | Verb::Change => "Change",
    }
}

fn paths(spots: &[Spot]) -> Vec<String> {
    spots.iter().map(|spot| spot.path.clone()).collect()
}

fn listed(spots: &[Spot]) -> String {
    paths(spots).join(", ")
}

/// A file with what is known of where in it.
fn place(spot: &Spot) -> String {
    let defined = spot
        .defined
        .iter()
        .map(|(symbol, line)| format!("`{symbol}` (line {line})"));
    let defined: Vec<String> = defined.collect();
    let lines = spot.lines.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    });
    let lines: Vec<String> = lines.collect();
    match (defined.is_empty(), lines.is_empty()) {
        (false, _) => format!("{}: {}", spot.path, defined.join(", ")),
        (true, false) => format!("{}, lines {}", spot.path, lines.join(", ")),
        (true, true) => spot.path.clone(),
    }
}

fn beginning(request: &str) -> String {
    let line: Vec<&str> = request.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(REQUEST_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// A text without what no plan may have, cut to so many characters.
fn bounded(text: &str, most: usize) -> String {
    let clean = text.chars().map(|char| {
        if char.is_control() && char != '\n' {
            ' '
        } else {
            char
        }
    });
    clean.take(most).collect()
}
