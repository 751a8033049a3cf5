//! The sections of a Markdown text, by its headings.

use super::Definition;

/// Longest heading that is kept, characters.
const LONGEST: usize = 120;

/// From each heading to the next, whatever their levels: `# Limits`.
pub(super) fn sections(text: &str) -> Vec<Definition> {
    let mut sections: Vec<Definition> = Vec::new();
    let mut fence: Option<&str> = None;
    let mut last = 0;
    for (line, content) in text.split('\n').enumerate() {
        last = line;
        let content = content.trim_end();
        let marks = ["```", "~~~"];
        match fence {
            Some(mark) => {
                if content.trim_start().starts_with(mark) {
                    fence = None;
                }
            }
            None => {
                fence = marks
                    .into_iter()
                    .find(|mark| content.trim_start().starts_with(mark))
            }
        }
        let level = content.bytes().take_while(|byte| *byte == b'#').count();
        let is_heading = fence.is_none()
            && (1..=6).contains(&level)
            && content[level..].starts_with([' ', '\t'])
            && !content[level..].trim().is_empty();
        if !is_heading {
            continue;
        }
        if let Some(before) = sections.last_mut() {
            before.last = line.saturating_sub(1);
        }
        let title: String = content[level..].trim().chars().take(LONGEST).collect();
        sections.push(Definition {
            symbol: format!("{} {title}", &content[..level]),
            first: line,
            named: line,
            last: line,
        });
    }
    if let Some(before) = sections.last_mut() {
        before.last = last;
    }
    sections
}
