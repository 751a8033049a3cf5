//! The built binary: the bare loop as a process of its own, and what a wrong call says. Starts no hub.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tungstenite::{Message, WebSocket};

fn loadtest() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
}

fn connect(address: &str, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    let (socket, _) = tungstenite::client(format!("ws://{address}{path}"), stream).unwrap();
    socket
}

#[test]
fn the_bare_loop_copies_frames_and_ends_with_its_stdin() {
    let mut child = loadtest()
        .arg("bare-loop")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();
    let mut subscribers = [connect(address, "/sub"), connect(address, "/other")];
    let mut publisher = connect(address, "/pub");
    for text in ["one", "two", "three"] {
        publisher.send(Message::binary(text)).unwrap();
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.read().unwrap(), Message::binary(text));
        }
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_wrong_call_says_what_is_wrong() {
    let run = |args: &[&str]| {
        let output = loadtest().args(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["trace", "no-such-file"]).contains("error: trace: No such file"));
    assert!(run(&["trace", "x", "--speed", "fast"]).contains("full, recorded, or a factor"));
    assert!(run(&["fanout", "--bytes", "3"]).contains("--bytes"));
    assert!(run(&["chaos", "--minutes", "0"]).contains("--minutes"));
    assert!(run(&["events", "--count", "7"]).contains("--count"));
    assert!(run(&["progress", "--watchers", "0"]).contains("--watchers"));
    assert!(run(&["fanout", "--plain"]).contains("--compare"));
    let nobody = run(&["idle", "--sessions", "2", "--target", "http://127.0.0.1:1"]);
    assert!(nobody.starts_with("error: server:"), "{nobody}");
}
