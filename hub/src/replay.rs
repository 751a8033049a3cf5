//! `tandem replay`: events of the log are told again.
//!
//! Owns the reading of what is asked for, and the pages in which the store puts it into the outbox, from where the relay
//! of any running hub publishes it. Never publishes, never changes the log. What consumers make of it is theirs: one that
//! has taken an event does nothing, unless it is the one that is named.

use backplane::store::{EventFilter, Store, StoreError};
use clap::Args;

use crate::backends::open_store_beside;
use crate::config::Settings;

/// Events that one transaction puts into the outbox.
const PAGE: u32 = 500;

/// Which events are told again, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Replay {
    /// From that time on: RFC 3339, or milliseconds since the Unix epoch.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    from: u64,
    /// Before that time.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    to: u64,
    /// Only those of that type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those of that project.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Only those about that: plan:<id>, doc:<id>, project:<id>.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// The consumer that is to take them once more (eventlog, usage, …); without it only those take them that never
    /// have.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only counts them.
    #[arg(long)]
    dry_run: bool,
}

/// What `replay` prints.
///
/// # Errors
/// In words: the times are the wrong way round, or the store can't be opened, read or written.
pub async fn replay(settings: &Settings, asked: &Replay) -> Result<String, String> {
    if asked.from >= asked.to {
        return Err("--to must lie after --from".to_owned());
    }
    let opened = open_store_beside(settings).await;
    let (store, _lock) = opened.map_err(|error| error.to_string())?;
    let done = tell_again(store.as_ref(), asked).await;
    store.close().await;
    done.map(|done| done.say(asked))
        .map_err(|(done, error)| format!("{error}\n{}", done.say(asked)))
}

/// How far a replay came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Done {
    events: u64,
    /// Of those the ones that the named consumer had taken.
    forgotten: u64,
}

impl Done {
    fn say(self, asked: &Replay) -> String {
        let Self { events, forgotten } = self;
        if asked.dry_run {
            return format!("{events} events would be told again");
        }
        let told = format!("{events} events are told again");
        match &asked.consumer {
            Some(name) if events > 0 && forgotten == 0 => {
                format!("{told}; {name} had taken none of them: is that a consumer's name?")
            }
            Some(name) => format!("{told}; {name} had taken {forgotten} of them"),
            None => format!("{told}; consumers that have taken them do nothing"),
        }
    }
}

/// Oldest first. A replay that is broken off has told the older ones.
async fn tell_again(store: &dyn Store, asked: &Replay) -> Result<Done, (Done, StoreError)> {
    let filter = EventFilter {
        project: asked.project.clone(),
        subject: asked.subject.clone(),
        kind: asked.kind.clone(),
        since: Some(asked.from),
        before: Some((asked.to, String::new())),
    };
    let (mut done, mut after) = (Done::default(), None);
    loop {
        let page = store.logged_after(&filter, after.as_ref(), PAGE).await;
        let page = page.map_err(|error| (done, error))?;
        let Some(last) = page.last() else {
            return Ok(done);
        };
        after = Some((last.time, last.id.to_string()));
        if !asked.dry_run {
            let replayed = store.replay(&page, asked.consumer.as_deref()).await;
            done.forgotten += replayed.map_err(|error| (done, error))?;
        }
        done.events += page.len() as u64;
    }
}

/// Reads a time: milliseconds since the Unix epoch, or RFC 3339.
fn moment(text: &str) -> Result<u64, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let millis = text.parse().ok().filter(|millis| *millis < 1 << 48);
        return millis.ok_or_else(|| "is too far in the future".to_owned());
    }
    rfc3339(text).ok_or_else(|| {
        "is a time like 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch".to_owned()
    })
}

/// RFC 3339 section 5.6, from 1970 on; what lies beyond the millisecond is cut off.
fn rfc3339(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|b| wanted.contains(b));
    let dividers = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second counts as the one behind it.
    if !dividers || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(behind) = rest.strip_prefix('.') {
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        let cut = behind.get(..digits.min(3)).filter(|cut| !cut.is_empty())?;
        millis = cut.parse::<i64>().ok()? * [100, 10, 1][cut.len() - 1];
        rest = &behind[digits..];
    }
    let ahead = offset_minutes(rest)?;
    // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + (minute - ahead) * 60 + second;
    u64::try_from(seconds * 1000 + millis).ok()
}

/// How far a place's time is ahead of UTC.
fn offset_minutes(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, text) = match text.split_at_checked(1)? {
        ("+", text) => (1, text),
        ("-", text) => (-1, text),
        _ => return None,
    };
    let (hours, minutes) = text.split_once(':')?;
    let part = |text: &str, most: i64| -> Option<i64> {
        let right = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|part| right && *part <= most)
    };
    Some(sign * (part(hours, 23)? * 60 + part(minutes, 59)?))
}

#[cfg(test)]
mod tests;
