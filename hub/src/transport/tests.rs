//! What only an in-memory stream can show of a connection: its size, and that it is woken when it has
//! to be. The rest of its behaviour is tested over real sockets, in `tests/conformance`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::frame::{Opcode, message as frame};
use super::upgrade::Stream;
use super::{Handler, Limits, Message, Turn, run};
use crate::sendq::{Notice, SendQueue};

/// Answers each message with one of `answer` bytes.
struct Talker {
    queue: Arc<SendQueue>,
    answer: usize,
    deadline: Option<Instant>,
}

impl Handler for Talker {
    fn on_message(self, _: Message<'_>) -> Turn<Self> {
        let answer = vec![b'x'; self.answer];
        self.queue.reply(frame(Opcode::Binary, &answer));
        Turn::Ready(self)
    }

    fn on_notice(self, _: Notice) -> Turn<Self> {
        Turn::Ready(self)
    }

    fn on_deadline(self, _: Instant) -> Turn<Self> {
        let said = frame(Opcode::Text, b"deadline");
        self.queue.reply(said);
        Turn::Ready(self)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        message_bytes: 1 << 20,
        ping_interval: Duration::from_secs(3600),
        write_timeout: Duration::from_secs(3600),
    })
}

/// A masked, empty binary message.
const ASK: [u8; 6] = [0x82, 0x80, 1, 2, 3, 4];

#[tokio::test]
async fn a_connection_is_small() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await;
    let queue = Arc::new(SendQueue::new(1 << 20));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 0,
        deadline: None,
    };
    let stream = Stream::Plain(client.unwrap());
    let running = run(stream, Vec::new(), limits(), queue, talker);
    let size = std::mem::size_of_val(&running);
    assert!(size <= 512, "a connection's future has {size} bytes");
}

/// A request comes while the queue is full, and all that is queued goes out at once: no socket and no
/// producer would wake the connection for the request again.
#[tokio::test(start_paused = true)]
async fn a_request_that_meets_a_full_queue_is_served_when_it_has_drained() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let queue = Arc::new(SendQueue::new(1000));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 1,
        deadline: None,
    };
    tokio::spawn(run(
        server,
        Vec::new(),
        limits(),
        Arc::clone(&queue),
        talker,
    ));
    // Once up, it waits for bytes of the socket and for frames of the queue.
    client.write_all(&ASK).await.unwrap();
    client.read_exact(&mut [0; 3]).await.unwrap();
    queue.reply(frame(Opcode::Binary, &[b'y'; 2000]));
    client.write_all(&ASK).await.unwrap();
    let both = timeout(
        Duration::from_secs(60),
        client.read_exact(&mut [0; 2004 + 3]),
    )
    .await;
    both.expect("the request is not forgotten").unwrap();
}

/// What is left in the inbox by a queue that filled up is served bit by bit.
#[tokio::test(start_paused = true)]
async fn requests_are_taken_as_fast_as_their_answers_leave() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let queue = Arc::new(SendQueue::new(1000));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 600,
        deadline: None,
    };
    tokio::spawn(run(
        server,
        Vec::new(),
        limits(),
        Arc::clone(&queue),
        talker,
    ));
    let asked = 40;
    client.write_all(&ASK.repeat(asked)).await.unwrap();
    let mut answers = vec![0; asked * 604];
    let read = timeout(Duration::from_secs(60), client.read_exact(&mut answers)).await;
    read.expect("all answers come at once").unwrap();
}

fn small(ping: u64, write: u64) -> Arc<Limits> {
    Arc::new(Limits {
        message_bytes: 1 << 20,
        ping_interval: Duration::from_secs(ping),
        write_timeout: Duration::from_secs(write),
    })
}

/// It takes a hundred ping intervals to read the answer, and no pong can come before it has been read.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_neither_silent_nor_stuck() {
    let (mut client, server) = tokio::io::duplex(4096);
    let queue = Arc::new(SendQueue::new(1000));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 400_000,
        deadline: None,
    };
    tokio::spawn(run(server, Vec::new(), small(1, 2), queue, talker));
    client.write_all(&ASK).await.unwrap();
    let (mut read, mut chunk) = (0, vec![0; 4096]);
    while read < 400_010 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let got = client.read(&mut chunk).await.unwrap();
        assert!(got > 0, "cut off after {read} bytes");
        read += got;
    }
    // One that takes nothing at all is gone in time.
    client.write_all(&ASK).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(client.write_all(&ASK).await.is_err());
}

/// A stream that holds back what it is given, as TLS may.
#[tokio::test(start_paused = true)]
async fn what_the_stream_holds_back_is_flushed() {
    let (mut client, server) = tokio::io::duplex(4096);
    let queue = Arc::new(SendQueue::new(1000));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 1,
        deadline: None,
    };
    let buffered = tokio::io::BufWriter::new(server);
    tokio::spawn(run(buffered, Vec::new(), limits(), queue, talker));
    for _ in 0..3 {
        client.write_all(&ASK).await.unwrap();
        let answer = timeout(Duration::from_secs(60), client.read_exact(&mut [0; 3])).await;
        answer.expect("it is flushed").unwrap();
    }
}

/// The peer never ends its side: the hub does, in time, whoever closed first.
#[tokio::test(start_paused = true)]
async fn a_close_handshake_is_bounded() {
    for by_peer in [true, false] {
        let (mut client, server) = tokio::io::duplex(4096);
        let queue = Arc::new(SendQueue::new(1000));
        let talker = Talker {
            queue: Arc::clone(&queue),
            answer: 0,
            deadline: None,
        };
        let running = tokio::spawn(run(
            server,
            Vec::new(),
            small(5, 5),
            Arc::clone(&queue),
            talker,
        ));
        if by_peer {
            client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        } else {
            queue.close(4000, "bye");
        }
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head[0], 0x88);
        timeout(Duration::from_secs(3), running)
            .await
            .expect("it ends")
            .unwrap();
    }
}

/// What a large message took is given back, though a byte of the next one has come with it.
#[tokio::test]
async fn a_large_message_leaves_no_memory_behind() {
    let (mut client, server) = tokio::io::duplex(4 << 20);
    let queue = Arc::new(SendQueue::new(1000));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 0,
        deadline: None,
    };
    let mut connection = Connection::new(server, Vec::new(), limits(), Arc::clone(&queue), talker);
    let mut message = vec![0x82, 0xff];
    message.extend((1u64 << 20).to_be_bytes());
    message.resize(14 + (1 << 20), 0);
    message.push(0x82);
    client.write_all(&message).await.unwrap();
    let mut sleep = std::pin::pin!(tokio::time::sleep_until(connection.start()));
    let answered = async {
        let mut answer = [0; 2];
        client.read_exact(&mut answer).await.unwrap();
        answer
    };
    let served = std::future::poll_fn(|cx| connection.poll(cx, sleep.as_mut()));
    tokio::select! {
        () = served => panic!("the connection ended"),
        answer = answered => assert_eq!(answer, [0x82, 0]),
    }
    assert_eq!(connection.inbox, [0x82]);
    assert!(connection.inbox.capacity() <= 64 * 1024);
    assert_eq!(queue.bytes(), 0);
}

/// A deadline that stays in the past is told once, and does not keep the connection spinning.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_told_once() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let queue = Arc::new(SendQueue::new(1000));
    let talker = Talker {
        queue: Arc::clone(&queue),
        answer: 0,
        deadline: Some(Instant::now() + Duration::from_secs(1)),
    };
    tokio::spawn(run(server, Vec::new(), limits(), queue, talker));
    let mut told = vec![0; 10];
    client.read_exact(&mut told).await.unwrap();
    let again = timeout(Duration::from_secs(600), client.read_u8()).await;
    assert!(again.is_err(), "it was told twice");
}
