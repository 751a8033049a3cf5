//! What the nodes that have a document open say to each other about it: the form of the messages.
//!
//! Written with lib0's primitives, as Yjs' own protocols are. The first byte is the version, then comes the sender's run: a
//! number of its own for each time that it opens the document. What a node does not know it ignores,
//! so that nodes of two builds can stand side by side. Pure bytes; `nodes` acts on them.

use protocol::lib0::{Lib0Error, Reader, write_buf, write_str, write_var_uint};

const VERSION: u8 = 1;

/// An update as its maker counts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// The node on the mesh.
    pub(super) node: String,
    /// Its run.
    pub(super) run: u64,
    /// The how-manieth of that run.
    pub(super) n: u64,
}

/// One thing that a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// I have just opened it, or was cut off: tell me where you stand.
    Hello,
    /// My `n`-th update, which is not in the log yet.
    Update { n: u64, update: &'a [u8] },
    /// The log has my updates up to `n`: some of them, and of others' those named in `covers`, are
    /// `first..=last` of it. Without `whole` there is more in that range.
    Committed {
        n: u64,
        first: u64,
        last: u64,
        covers: Vec<Origin>,
        whole: bool,
    },
    /// I have sent `n` updates and know the log up to `head`; with all of it durable my content has
    /// this digest.
    Beat {
        n: u64,
        head: u64,
        digest: Option<u64>,
    },
    /// The node `to` should send me what lies beyond this state vector.
    Pull { to: &'a str, vector: &'a [u8] },
    /// What the node `to` lacked, my first `n` updates among it.
    Missing {
        to: &'a str,
        n: u64,
        update: &'a [u8],
    },
    /// Awareness of my clients, by user.
    Awareness(Vec<(&'a str, &'a [u8])>),
    /// I close it.
    Bye,
}

/// Most users or origins in one message.
const MOST: u64 = 65_536;

impl<'a> Word<'a> {
    pub(super) fn encode(&self, run: u64) -> Vec<u8> {
        let mut out = vec![VERSION];
        write_var_uint(&mut out, run);
        match self {
            Self::Hello => out.push(0),
            Self::Update { n, update } => {
                out.push(1);
                write_var_uint(&mut out, *n);
                write_buf(&mut out, update);
            }
            Self::Committed {
                n,
                first,
                last,
                covers,
                whole,
            } => {
                out.push(2);
                for number in [*n, *first, *last, covers.len() as u64] {
                    write_var_uint(&mut out, number);
                }
                for origin in covers {
                    write_str(&mut out, &origin.node);
                    write_var_uint(&mut out, origin.run);
                    write_var_uint(&mut out, origin.n);
                }
                out.push(u8::from(*whole));
            }
            Self::Beat { n, head, digest } => {
                out.push(3);
                write_var_uint(&mut out, *n);
                write_var_uint(&mut out, *head);
                let digest = digest.map(u64::to_le_bytes);
                write_buf(&mut out, digest.as_ref().map_or(&[], |bytes| &bytes[..]));
            }
            Self::Pull { to, vector } => {
                out.push(4);
                write_str(&mut out, to);
                write_buf(&mut out, vector);
            }
            Self::Missing { to, n, update } => {
                out.push(5);
                write_str(&mut out, to);
                write_var_uint(&mut out, *n);
                write_buf(&mut out, update);
            }
            Self::Awareness(parts) => {
                out.push(6);
                write_var_uint(&mut out, parts.len() as u64);
                for (user, update) in parts {
                    write_str(&mut out, user);
                    write_buf(&mut out, update);
                }
            }
            Self::Bye => out.push(7),
        }
        out
    }

    /// The sender's run and what it says; `None` for what this build does not know.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Option<(u64, Self)>, Lib0Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Ok(None);
        }
        let run = reader.var_uint()?;
        let word = match reader.u8()? {
            0 => Self::Hello,
            1 => Self::Update {
                n: reader.var_uint()?,
                update: reader.buf()?,
            },
            2 => Self::committed(&mut reader)?,
            3 => Self::Beat {
                n: reader.var_uint()?,
                head: reader.var_uint()?,
                digest: reader.buf()?.try_into().ok().map(u64::from_le_bytes),
            },
            4 => Self::Pull {
                to: reader.str()?,
                vector: reader.buf()?,
            },
            5 => Self::Missing {
                to: reader.str()?,
                n: reader.var_uint()?,
                update: reader.buf()?,
            },
            6 => {
                let count = reader.var_uint()?.min(MOST);
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push((reader.str()?, reader.buf()?));
                }
                Self::Awareness(parts)
            }
            7 => Self::Bye,
            _ => return Ok(None),
        };
        Ok(Some((run, word)))
    }

    fn committed(reader: &mut Reader<'a>) -> Result<Self, Lib0Error> {
        let (n, first, last) = (reader.var_uint()?, reader.var_uint()?, reader.var_uint()?);
        let count = reader.var_uint()?.min(MOST);
        let mut covers = Vec::new();
        for _ in 0..count {
            covers.push(Origin {
                node: reader.str()?.to_owned(),
                run: reader.var_uint()?,
                n: reader.var_uint()?,
            });
        }
        Ok(Self::Committed {
            n,
            first,
            last,
            covers,
            whole: reader.u8()? == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_word() -> Vec<Word<'static>> {
        let origin = Origin {
            node: "b".into(),
            run: 9,
            n: 3,
        };
        vec![
            Word::Hello,
            Word::Update {
                n: 1,
                update: b"update",
            },
            Word::Committed {
                n: 4,
                first: 10,
                last: 12,
                covers: vec![origin],
                whole: true,
            },
            Word::Beat {
                n: 7,
                head: 12,
                digest: Some(u64::MAX),
            },
            Word::Beat {
                n: 7,
                head: 12,
                digest: None,
            },
            Word::Pull {
                to: "a",
                vector: b"\0",
            },
            Word::Missing {
                to: "a",
                n: 2,
                update: b"state",
            },
            Word::Awareness(vec![("user", b"entries")]),
            Word::Bye,
        ]
    }

    #[test]
    fn words_are_read_as_they_were_said() {
        for word in every_word() {
            let bytes = word.encode(77);
            assert_eq!(Word::decode(&bytes), Ok(Some((77, word.clone()))));
            for cut in 0..bytes.len() {
                assert!(Word::decode(&bytes[..cut]).is_err(), "{word:?} at {cut}");
            }
        }
    }

    #[test]
    fn words_of_a_newer_build_are_ignored() {
        assert_eq!(Word::decode(&[2, 1, 0]), Ok(None));
        assert_eq!(Word::decode(&[1, 1, 99]), Ok(None));
    }
}
