//! What the kernel knows of a process: memory, processor time, affinity, descriptors.
//!
//! Never starts or stops a process: `server` does.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{Error, Result};

/// Resident memory of a process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) rss: u64,
    /// Of that, what is backed by no file: heap and stacks.
    pub(crate) anonymous: u64,
}

/// Reads the resident memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| Error::Server(format!("{path} has no {name}")))
    };
    Ok(Memory {
        rss: field("VmRSS:")?,
        anonymous: field("RssAnon:")?,
    })
}

/// Reads the memory once it has stopped moving: eight equal readings in two seconds, or after 20 s.
pub(crate) fn settled_memory(pid: u32) -> Result<Memory> {
    const SAMPLES: u32 = 8;
    const STEP: Duration = Duration::from_millis(250);
    const SLACK_KIB: u64 = 64;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut reference = memory(pid)?;
    let mut equal = 0;
    while equal < SAMPLES && Instant::now() < deadline {
        std::thread::sleep(STEP);
        let now = memory(pid)?;
        if now.rss.abs_diff(reference.rss) <= SLACK_KIB {
            equal += 1;
        } else {
            reference = now;
            equal = 0;
        }
    }
    memory(pid)
}

/// Processor time that a process has used so far, all its threads together.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let ticks = stat_ticks(&text, 2).ok_or_else(|| Error::Server(format!("{path} is odd")))?;
    Ok(ticks_time(ticks))
}

/// Processor time that a process and all that descend from it have used so far: to the nanosecond of threads
/// that run, to the clock tick of descendants that have ended and been waited for.
pub(crate) fn family_cpu_time(pid: u32) -> Result<Duration> {
    let entries = std::fs::read_dir("/proc").map_err(Error::io("/proc"))?;
    let stats: Vec<(u32, String)> = entries
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // One that has ended meanwhile is counted by its parent.
            let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            Some((id, text))
        })
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let children = stats.iter().filter(|(_, text)| {
            let after = text.rsplit_once(')').map(|(_, rest)| rest);
            let told = after.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
            told == Some(parent)
        });
        family.extend(children.map(|(id, _)| *id));
        next += 1;
    }
    let members = stats.iter().filter(|(id, _)| family.contains(id));
    Ok(members
        .map(|(id, text)| {
            let ended = stat_ticks(text, 4).zip(stat_ticks(text, 2));
            let ended = ended.map_or(0, |(all, own)| all.saturating_sub(own));
            ticks_time(ended) + threads_time(*id)
        })
        .sum())
}

/// Processor time of the threads of a process that run now.
fn threads_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let nanos = threads.into_iter().flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn ticks_time(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// The first `count` of `utime`, `stime`, `cutime` and `cstime` of a `stat` line, summed; the name before
/// them may hold spaces and brackets.
fn stat_ticks(text: &str, count: usize) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().skip(11).take(count).collect();
    if fields.len() < count {
        return None;
    }
    fields.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// Binds the calling thread, and the threads and processes that it starts, to one core.
pub(crate) fn pin_thread(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|e| Error::io("binding to a core")(e.into()))
}

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the limit of open descriptors as far as allowed; says how many there may be.
pub(crate) fn raise_descriptors() -> Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
        .map_err(|e| Error::io("raising the descriptor limit")(e.into()))?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Refuses a number of sockets that this process can't open.
pub(crate) fn need_descriptors(sockets: usize) -> Result<()> {
    const OTHERS: u64 = 64;
    let allowed = raise_descriptors()?;
    if sockets as u64 + OTHERS > allowed {
        return Err(Error::Argument(format!(
            "{sockets} connections need more than the {allowed} descriptors allowed here"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.rss > 500 && own.anonymous > 0 && own.anonymous <= own.rss);
        assert!(family_cpu_time(std::process::id()).unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        let line = "7 (a ) b) S 1 1 1 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 1 0";
        assert_eq!(stat_ticks(line, 2), Some(57));
        assert_eq!(stat_ticks(line, 4), Some(57));
        assert_eq!(stat_ticks("nonsense", 2), None);
    }
}
