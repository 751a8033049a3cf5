//! A plan while it is written: what is already there of a model's answer, piece by piece.
//!
//! Owns where in a text the plan's JSON object stands, and where in that its steps are. It is fed in pieces of
//! any size, reads each byte once, and never judges what a step says: that is `schema`'s. The text around the
//! object (a fence, a remark) is passed over. Pure: no clock, no I/O.

use std::ops::Range;

/// Most bytes of an answer that are read; what comes after is left out, and the answer is then not whole.
pub const MAX_BYTES: usize = 1 << 20;
/// Most bytes of a title or detail, as it is written, that are shown of the step under way.
const SHOWN_BYTES: usize = 32 << 10;
/// Brackets within brackets; what is deeper is no plan.
const MAX_DEPTH: usize = 32;
/// Where a step stands: in the root object, in its list.
const STEP_DEPTH: usize = 3;

/// The step that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// Its place, from 0.
    pub position: u32,
    /// Its title so far.
    pub title: String,
    /// Its detail so far.
    pub detail: String,
}

/// A step whose text has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its place, from 0.
    pub position: u32,
    /// Its JSON object, as it was written; it need not be valid.
    pub json: String,
}

/// A bracket that is open.
enum Frame {
    List,
    Object {
        /// The key whose value comes, without its quotes.
        key: Option<Range<usize>>,
        /// Its colon was there.
        colon: bool,
    },
}

/// A string that is open.
struct Text {
    /// Behind its quote.
    from: usize,
    escaped: bool,
}

/// The reader.
#[derive(Default)]
pub struct Reader {
    text: String,
    /// Up to where it was read.
    at: usize,
    stack: Vec<Frame>,
    string: Option<Text>,
    /// Where the root object begins.
    root: usize,
    /// The root's list of steps was begun.
    has_steps: bool,
    /// It is open now.
    in_steps: bool,
    /// Where the step under way begins.
    step: Option<usize>,
    /// Steps that have begun.
    begun: u32,
    title: Option<Range<usize>>,
    detail: Option<Range<usize>>,
    ended: Vec<Ended>,
    plan: Option<Range<usize>>,
}

impl Reader {
    /// Reads on, and gives the steps that have ended thereby. After a text that turns out to be no JSON the next
    /// object is read from its first step on.
    pub fn feed(&mut self, more: &str) -> Vec<Ended> {
        if self.plan.is_some() {
            return Vec::new();
        }
        let room = MAX_BYTES - self.text.len();
        self.text
            .push_str(&more[..more.floor_char_boundary(room.min(more.len()))]);
        while self.at < self.text.len() && self.plan.is_none() {
            self.byte(self.text.as_bytes()[self.at]);
            self.at += 1;
        }
        std::mem::take(&mut self.ended)
    }

    /// The whole plan's JSON object, once it is there.
    #[must_use]
    pub fn plan(&self) -> Option<&str> {
        self.plan.clone().map(|range| &self.text[range])
    }

    /// The step under way, as far as it is there.
    #[must_use]
    pub fn under_way(&self) -> Option<UnderWay> {
        self.step?;
        let open = self.open_value();
        let so_far = |ended: &Option<Range<usize>>, name: &str| {
            let range = ended.clone().or_else(|| {
                let (key, from) = open.clone()?;
                (&self.text[key] == name).then_some(from..self.at)
            });
            let raw = range.map_or("", |range| &self.text[range]);
            unescaped(&raw[..raw.floor_char_boundary(SHOWN_BYTES)])
        };
        Some(UnderWay {
            position: self.begun.saturating_sub(1),
            title: so_far(&self.title, "title"),
            detail: so_far(&self.detail, "detail"),
        })
    }

    /// Key and beginning of the text value that is open in the step itself.
    fn open_value(&self) -> Option<(Range<usize>, usize)> {
        let string = self.string.as_ref()?;
        match self.stack.last()? {
            Frame::Object {
                key: Some(key),
                colon: true,
            } if self.stack.len() == STEP_DEPTH => Some((key.clone(), string.from)),
            _ => None,
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.string.is_some() {
            self.in_string(byte);
        } else if self.stack.is_empty() {
            if byte == b'{' {
                self.begin();
            }
        } else if !self.takes(byte) {
            self.stack.clear();
            self.forget();
            if byte == b'{' {
                self.begin();
            }
        }
    }

    /// A root object begins here.
    fn begin(&mut self) {
        self.forget();
        self.root = self.at;
        self.stack.push(object());
    }

    fn forget(&mut self) {
        self.has_steps = false;
        self.in_steps = false;
        self.step = None;
        self.begun = 0;
        self.title = None;
        self.detail = None;
    }

    fn in_string(&mut self, byte: u8) {
        let Some(string) = &mut self.string else {
            return;
        };
        match byte {
            _ if string.escaped => string.escaped = false,
            b'\\' => string.escaped = true,
            b'"' => {
                let range = string.from..self.at;
                self.string = None;
                self.string_ends(range);
            }
            _ => {}
        }
    }

    fn string_ends(&mut self, range: Range<usize>) {
        let in_step = self.step.is_some() && self.stack.len() == STEP_DEPTH;
        let Some(Frame::Object { key, .. }) = self.stack.last_mut() else {
            return;
        };
        match key {
            None => *key = Some(range),
            Some(key) if in_step => match &self.text[key.clone()] {
                "title" => self.title = Some(range),
                "detail" => self.detail = Some(range),
                _ => {}
            },
            Some(_) => {}
        }
    }

    /// Takes a byte outside of strings; `false` if none of JSON's can stand there.
    fn takes(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => true,
            b'"' => {
                let fits = match self.stack.last() {
                    Some(Frame::Object { key, colon }) => key.is_none() || *colon,
                    _ => true,
                };
                if fits {
                    self.string = Some(Text {
                        from: self.at + 1,
                        escaped: false,
                    });
                }
                fits
            }
            b'{' | b'[' => self.opens(byte),
            b'}' | b']' => self.closes(byte),
            b':' => match self.stack.last_mut() {
                Some(Frame::Object { key, colon }) if key.is_some() && !*colon => {
                    *colon = true;
                    true
                }
                _ => false,
            },
            b',' => {
                if let Some(Frame::Object { key, colon }) = self.stack.last_mut() {
                    (*key, *colon) = (None, false);
                }
                true
            }
            b'-' | b'+' | b'.' | b'E' | b'0'..=b'9' | b'a'..=b'z' => self.takes_value(),
            _ => false,
        }
    }

    /// Whether a value can begin, or go on, here.
    fn takes_value(&self) -> bool {
        match self.stack.last() {
            Some(Frame::Object { colon, .. }) => *colon,
            _ => true,
        }
    }

    fn opens(&mut self, byte: u8) -> bool {
        if !self.takes_value() || self.stack.len() >= MAX_DEPTH {
            return false;
        }
        if byte == b'{' {
            if self.in_steps && self.stack.len() == STEP_DEPTH - 1 {
                self.step = Some(self.at);
                self.begun = self.begun.saturating_add(1);
                self.title = None;
                self.detail = None;
            }
            self.stack.push(object());
            return true;
        }
        if let [Frame::Object { key: Some(key), .. }] = &self.stack[..]
            && &self.text[key.clone()] == "steps"
        {
            self.has_steps = true;
            self.in_steps = true;
            self.begun = 0;
        }
        self.stack.push(Frame::List);
        true
    }

    fn closes(&mut self, byte: u8) -> bool {
        let fits = match self.stack.last() {
            Some(Frame::Object { .. }) => byte == b'}',
            Some(Frame::List) => byte == b']',
            None => false,
        };
        if !fits {
            return false;
        }
        self.stack.pop();
        match self.stack.len() {
            0 if self.has_steps => self.plan = Some(self.root..self.at + 1),
            0 => self.forget(),
            1 => self.in_steps = false,
            2 => {
                if let Some(from) = self.step.take() {
                    self.ended.push(Ended {
                        position: self.begun - 1,
                        json: self.text[from..=self.at].to_owned(),
                    });
                }
            }
            _ => {}
        }
        true
    }
}

fn object() -> Frame {
    Frame::Object {
        key: None,
        colon: false,
    }
}

/// What stands in a JSON string that may break off anywhere, also within an escape.
fn unescaped(raw: &str) -> String {
    let mut raw = raw;
    // A half escape, a half pair of escapes before it.
    for _ in 0..3 {
        match serde_json::from_str(&format!("\"{raw}\"")) {
            Ok(text) => return text,
            Err(_) => match raw.rfind('\\') {
                Some(at) => raw = &raw[..at],
                None => break,
            },
        }
    }
    String::new()
}
