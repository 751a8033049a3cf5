//! A process and all that descend from it, signalled together.
//!
//! A process group is not enough: PostgreSQL and Erlang put their children into groups of their own.
//! A watcher kills the group if this process dies and nothing of it is dropped.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long the kernel may take to end what was killed.
const END: Duration = Duration::from_secs(10);

/// A started process with its descendants. Dropping it kills them.
pub(super) struct Family {
    child: Child,
    /// Waits for this process to die, then kills the group.
    watcher: Child,
    ended: bool,
}

/// A process as the kernel lists it.
struct Listed {
    pid: i32,
    parent: i32,
    is_zombie: bool,
}

impl Family {
    /// Starts a process in a group of its own.
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        command.process_group(0);
        let mut child = command.spawn()?;
        // Its standard input is a pipe that closes with this process, however that ends.
        let watcher = Command::new("sh")
            .arg("-c")
            .arg(format!("read -r line; kill -9 -{}", child.id()))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Self {
                child,
                watcher,
                ended: false,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Whether the first process runs.
    pub(super) fn is_alive(&mut self) -> bool {
        !self.ended && matches!(self.child.try_wait(), Ok(None))
    }

    /// The id of the first process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the first process.
    pub(super) fn ask(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops all of it where it stands.
    pub(super) fn pause(&self) {
        self.signal(&self.members(), Signal::STOP);
    }

    /// Lets all of it go on.
    pub(super) fn resume(&self) {
        self.signal(&self.members(), Signal::CONT);
    }

    /// Kills all of it, and waits until the kernel has let go of it.
    pub(super) async fn kill(&mut self) {
        let members = self.begin_kill();
        let until = Instant::now() + END;
        while members.iter().any(|pid| runs(*pid)) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Kills all of it and reaps the first process; who else was of it.
    fn begin_kill(&mut self) -> Vec<i32> {
        if self.ended {
            return Vec::new();
        }
        // Before anything else: the number must not be reused while the watcher knows it.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        let members = self.members();
        self.signal(&members, Signal::KILL);
        let _ = self.child.wait();
        self.ended = true;
        members
    }

    fn pid(&self) -> Option<Pid> {
        let pid = i32::try_from(self.child.id()).ok()?;
        (!self.ended).then(|| Pid::from_raw(pid)).flatten()
    }

    /// The group and each descendant; those may have ended meanwhile.
    fn signal(&self, members: &[i32], signal: Signal) {
        let Some(group) = self.pid() else { return };
        let _ = kill_process_group(group, signal);
        for pid in members.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// The first process and its descendants.
    fn members(&self) -> Vec<i32> {
        let Some(first) = self.pid() else {
            return Vec::new();
        };
        let listed = listed();
        let mut members = vec![first.as_raw_nonzero().get()];
        let mut next = 0;
        while let Some(parent) = members.get(next).copied() {
            let children = listed.iter().filter(|process| process.parent == parent);
            members.extend(children.map(|process| process.pid));
            next += 1;
        }
        members
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.begin_kill();
    }
}

fn runs(pid: i32) -> bool {
    read(pid).is_some_and(|process| !process.is_zombie)
}

fn listed() -> Vec<Listed> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Reads `/proc/<pid>/stat`; the name in it may hold spaces and brackets.
fn read(pid: i32) -> Option<Listed> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    Some(Listed {
        pid,
        parent: fields.next()?.parse().ok()?,
        is_zombie,
    })
}
