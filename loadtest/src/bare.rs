//! The machine's limit: a server that upgrades sockets and copies what `/pub` sends to all others,
//! nothing else. No authentication, no channels, no memory of what it sent.
//!
//! Flow: handshake → each frame of the publisher, unmasked and encoded once, goes to every socket: at
//! once, by a write of its own (plain); by way of a queue of shared frames, from which the socket's task
//! gathers what waits into one write (batched); or, the floor below which no server gets that serves more
//! than one publisher, all frames that one read of the publisher brought in one write (floor).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tungstenite::handshake::derive_accept_key;

use crate::client::{self, BINARY, CLOSE, Header};
use crate::error::{Error, Result};

/// The path of the connection whose frames are copied.
pub(crate) const PUBLISHER_PATH: &str = "/pub";
/// Longest request head.
const MAX_HEAD: usize = 16 * 1024;
/// The most that a subscriber's task gathers for one write.
const GATHER: usize = 64 * 1024;
/// What one read of the publisher takes.
const READ: usize = 64 * 1024;

/// The hidden subcommand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How frames go to sockets
    #[arg(long, value_enum, default_value_t = Mode::Batched)]
    mode: Mode,
}

/// How frames go to sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// One write per frame and socket
    Plain,
    /// One write for all that waits for a socket
    Batched,
    /// One write per socket for all that one read of the publisher brought
    Floor,
}

/// Serves until stdin closes, so that it never outlives who started it.
pub(crate) fn run(args: &Args) -> Result<()> {
    crate::process::raise_descriptors()?;
    let listener = StdListener::bind("127.0.0.1:0").map_err(Error::io("listening"))?;
    let address = listener.local_addr().map_err(Error::io("listening"))?;
    println!("listening on http://{address}");
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(n) if n > 0) {}
        std::process::exit(0);
    });
    serve(listener, args.mode)
}

/// Serves a listener on the calling thread, for ever.
pub(crate) fn serve(listener: StdListener, mode: Mode) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(Error::io("starting a runtime"))?;
    let accepting = async move {
        listener
            .set_nonblocking(true)
            .map_err(Error::io("listening"))?;
        let listener = TcpListener::from_std(listener).map_err(Error::io("listening"))?;
        let room = Rc::new(Room {
            mode,
            subscribers: RefCell::default(),
        });
        loop {
            let (stream, _) = listener.accept().await.map_err(Error::io("accepting"))?;
            tokio::task::spawn_local(connection(room.clone(), stream));
        }
    };
    LocalSet::new().block_on(&runtime, accepting)
}

struct Room {
    mode: Mode,
    subscribers: RefCell<Vec<Rc<Subscriber>>>,
}

struct Subscriber {
    stream: TcpStream,
    /// Frames that wait for the socket's task.
    frames: RefCell<VecDeque<Rc<[u8]>>>,
    /// What the socket, being full, did not take.
    queue: RefCell<Vec<u8>>,
    has_work: Notify,
}

/// One connection. The handshake and the publisher are boxed, so that a subscriber's task stays small.
async fn connection(room: Rc<Room>, stream: TcpStream) {
    let Some((stream, publishes)) = Box::pin(handshake(stream)).await else {
        return;
    };
    if publishes {
        Box::pin(publisher(&room, stream)).await;
        return;
    }
    let subscriber = Rc::new(Subscriber {
        stream,
        frames: RefCell::default(),
        queue: RefCell::default(),
        has_work: Notify::new(),
    });
    room.subscribers.borrow_mut().push(subscriber.clone());
    subscriber.serve().await;
    let mut all = room.subscribers.borrow_mut();
    all.retain(|other| !Rc::ptr_eq(other, &subscriber));
}

/// Upgrades; says whether the connection is the publisher's. None if it is no WebSocket.
async fn handshake(mut stream: TcpStream) -> Option<(TcpStream, bool)> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split_whitespace().nth(1)?;
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))?
        .1;
    let accept = derive_accept_key(key.trim().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.set_nodelay(true).ok()?;
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some((stream, path == PUBLISHER_PATH))
}

/// Copies each message of the publisher to all subscribers, until it leaves or errs.
async fn publisher(room: &Room, stream: TcpStream) {
    let mut input = Vec::with_capacity(READ);
    let mut frames = Vec::with_capacity(READ);
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read_buf(&mut input) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let mut at = 0;
        loop {
            let header = match Header::read(&input[at..]) {
                Ok(Some(header)) if input.len() >= at + header.end() => header,
                Ok(_) => break,
                Err(_) => return,
            };
            let body = at + header.length..at + header.end();
            at = body.end;
            match (header.opcode, header.mask) {
                (CLOSE, _) | (_, None) => return,
                (BINARY, Some(mask)) => {
                    client::unmask(&mut input[body.clone()], mask);
                    client::encode_unmasked(&input[body], &mut frames);
                }
                _ => {}
            }
            if room.mode != Mode::Floor {
                room.broadcast(&mut frames);
            }
        }
        input.drain(..at);
        room.broadcast(&mut frames);
        tokio::task::yield_now().await;
    }
}

impl Room {
    /// Hands frames to everybody, and empties the buffer.
    fn broadcast(&self, frames: &mut Vec<u8>) {
        if frames.is_empty() {
            return;
        }
        if self.mode == Mode::Batched {
            let shared: Rc<[u8]> = Rc::from(frames.as_slice());
            for subscriber in self.subscribers.borrow().iter() {
                subscriber.frames.borrow_mut().push_back(shared.clone());
                subscriber.has_work.notify_one();
            }
        } else {
            for subscriber in self.subscribers.borrow().iter() {
                subscriber.push(frames);
            }
        }
        frames.clear();
    }
}

impl Subscriber {
    /// Writes at once if nothing waits; leaves what the socket does not take to the subscriber's task.
    fn push(&self, frames: &[u8]) {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            queue.extend_from_slice(frames);
            return;
        }
        // An error shows again, as a closed socket, in the subscriber's own task.
        let taken = self.stream.try_write(frames).unwrap_or(0);
        if taken < frames.len() {
            queue.extend_from_slice(&frames[taken..]);
            self.has_work.notify_one();
        }
    }

    /// Lives as long as the socket: discards input, and writes on when the socket was full.
    async fn serve(&self) {
        let mut scratch = [0; 16];
        loop {
            let mut has_work = pin!(self.has_work.notified());
            let turn = poll_fn(|cx| {
                if self.stream.poll_read_ready(cx).is_ready() {
                    return Poll::Ready(Turn::Read);
                }
                has_work.as_mut().poll(cx).map(|()| Turn::Write)
            });
            let alive = match turn.await {
                Turn::Read => match self.stream.try_read(&mut scratch) {
                    Ok(n) => n > 0,
                    Err(e) => e.kind() == ErrorKind::WouldBlock,
                },
                Turn::Write => self.write_on().await,
            };
            if !alive {
                return;
            }
        }
    }

    /// Writes what waits: gathered, as far as a buffer of the thread's size holds it.
    async fn write_on(&self) -> bool {
        loop {
            if !self.gather() {
                return true;
            }
            if !self.queue.borrow().is_empty() && self.stream.writable().await.is_err() {
                return false;
            }
            let mut queue = self.queue.borrow_mut();
            match self.stream.try_write(&queue) {
                Ok(taken) => {
                    queue.drain(..taken);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// Moves frames that wait behind what the socket did not take; whether there is anything to write.
    fn gather(&self) -> bool {
        let mut queue = self.queue.borrow_mut();
        let mut frames = self.frames.borrow_mut();
        while queue.len() < GATHER {
            let Some(frame) = frames.pop_front() else {
                break;
            };
            queue.extend_from_slice(&frame);
        }
        !queue.is_empty()
    }
}

enum Turn {
    Read,
    Write,
}
