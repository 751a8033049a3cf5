//! Many connected sockets on one thread: one epoll, one big read buffer shared by all, frames cut
//! out of it in place.
//!
//! Owns the sockets and answers pings. Never understands what a message holds.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::client::{self, BINARY, CLOSE, Header, PING, PONG, Socket};
use crate::error::{Error, Result};

/// What one read takes at most.
const READ: usize = 256 * 1024;
/// Sockets served per wait.
const EVENTS: usize = 1024;

/// Connected sockets, each known by its index.
pub(crate) struct Fleet {
    epoll: OwnedFd,
    members: Vec<Member>,
    buffer: Vec<u8>,
    ready: Vec<epoll::Event>,
}

struct Member {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come yet.
    carry: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

impl Fleet {
    /// Takes over sockets; their indices are those of the list.
    pub(crate) fn new(sockets: Vec<Socket>) -> Result<Self> {
        let failed = "watching sockets";
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::io(failed)(e.into()))?;
        let mut members = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            let (stream, carry) = socket.into_parts();
            stream.set_nonblocking(true).map_err(Error::io(failed))?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)
                .map_err(|e| Error::io(failed)(e.into()))?;
            members.push(Member {
                stream,
                carry,
                unsent: Vec::new(),
            });
        }
        Ok(Self {
            epoll,
            members,
            buffer: vec![0; READ],
            ready: Vec::with_capacity(EVENTS),
        })
    }

    /// How many sockets there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Queues masked frames for a socket and writes what it takes now; `poll` writes the rest.
    pub(crate) fn send(&mut self, index: usize, frames: &[u8]) -> Result<()> {
        let member = &mut self.members[index];
        member.unsent.extend_from_slice(frames);
        member.flush()?;
        if member.unsent.is_empty() {
            return Ok(());
        }
        self.watch(index)
    }

    /// Waits at most `timeout` for input, reads each ready socket once, and hands every whole
    /// message to `on_message`. Ends with an error if a socket closes.
    pub(crate) fn poll(
        &mut self,
        timeout: Duration,
        mut on_message: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("waiting for sockets")(e.into())),
        }
        for event in &ready {
            let (flags, data) = (event.flags, event.data);
            let index = data.u64() as usize;
            if flags.contains(epoll::EventFlags::OUT) {
                self.members[index].flush()?;
                self.watch(index)?;
            }
            if flags.intersects(!epoll::EventFlags::OUT) {
                self.read(index, &mut on_message)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn read(
        &mut self,
        index: usize,
        on_message: &mut impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let member = &mut self.members[index];
        let held = member.carry.len();
        if self.buffer.len() < held + READ {
            self.buffer.resize(held + READ, 0);
        }
        self.buffer[..held].copy_from_slice(&member.carry);
        member.carry.clear();
        let got = match member.stream.read(&mut self.buffer[held..]) {
            Ok(0) => {
                return Err(Error::Protocol(format!(
                    "the server hung up on socket {index}"
                )));
            }
            Ok(got) => got,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(e) => return Err(Error::io("reading a socket")(e)),
        };
        let bytes = &self.buffer[..held + got];
        let mut at = 0;
        while let Some(header) = Header::read(&bytes[at..])? {
            if bytes.len() < at + header.end() {
                break;
            }
            let payload = &bytes[at + header.length..at + header.end()];
            match header.opcode {
                BINARY => on_message(index, payload)?,
                PING => {
                    client::encode_masked(PONG, payload, &mut member.unsent);
                    member.flush()?;
                }
                CLOSE => return Err(client::closed(payload)),
                PONG => {}
                other => return Err(Error::Protocol(format!("unexpected opcode {other}"))),
            }
            at += header.end();
        }
        member.carry.extend_from_slice(&bytes[at..]);
        if member.unsent.is_empty() {
            return Ok(());
        }
        self.watch(index)
    }

    /// Asks to be woken for writing only while something waits to be written.
    fn watch(&self, index: usize) -> Result<()> {
        let member = &self.members[index];
        let mut flags = epoll::EventFlags::IN;
        if !member.unsent.is_empty() {
            flags |= epoll::EventFlags::OUT;
        }
        let data = epoll::EventData::new_u64(index as u64);
        epoll::modify(&self.epoll, &member.stream, data, flags)
            .map_err(|e| Error::io("watching sockets")(e.into()))
    }
}

impl Member {
    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => {
                    self.unsent.drain(..n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("writing to a socket")(e)),
            }
        }
        Ok(())
    }
}
