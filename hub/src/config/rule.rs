//! How one setting is read from text or TOML, checked against its bounds, and shown.
//!
//! Owns the value syntax ("30s", "1MiB") and its words. Never knows which settings exist.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Where a value comes from: the environment gives text only.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    /// A variable of the environment.
    Text(&'a str),
    /// A value of the TOML file.
    Toml(&'a toml::Value),
}

impl<'a> Raw<'a> {
    fn text(self, wanted: &str) -> Result<&'a str, String> {
        match self {
            Raw::Text(text) => Ok(text.trim()),
            Raw::Toml(toml::Value::String(text)) => Ok(text.trim()),
            Raw::Toml(other) => Err(format!("must be {wanted}, not {}", name_of_type(other))),
        }
    }

    fn integer(self, wanted: &str) -> Result<u64, String> {
        match self {
            Raw::Toml(toml::Value::Integer(number)) => {
                u64::try_from(*number).map_err(|_| format!("must be {wanted}, not {number}"))
            }
            Raw::Toml(other) if !other.is_str() => {
                Err(format!("must be {wanted}, not {}", name_of_type(other)))
            }
            _ => {
                let text = self.text(wanted)?;
                text.parse()
                    .map_err(|_| format!("must be {wanted}, not `{text}`"))
            }
        }
    }
}

fn name_of_type(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => format!("the text \"{text}\""),
        toml::Value::Integer(number) => format!("the number {number}"),
        toml::Value::Float(number) => format!("the number {number}"),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(_) => "a date".to_owned(),
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Table(_) => "a table".to_owned(),
    }
}

type ReadFn<T> = Box<dyn Fn(Raw<'_>) -> Result<T, String>>;

/// Reads, checks and shows one kind of value.
pub(super) struct Rule<T> {
    /// Reads and checks; the error completes a sentence that starts with the setting's name.
    pub(super) read: ReadFn<T>,
    /// The inverse of `read`, for documentation.
    pub(super) show: fn(&T) -> String,
    /// What is allowed, in words.
    pub(super) bounds: String,
}

/// A value of a fixed set of names.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every value with its name.
    const ALL: &'static [(&'static str, Self)];
}

fn bounded<T: PartialOrd + Copy + 'static>(
    low: T,
    high: T,
    zero: Option<T>,
    show: fn(&T) -> String,
    read: fn(Raw<'_>) -> Result<T, String>,
) -> Rule<T> {
    let or_zero = if zero.is_some() {
        ", or 0 for none"
    } else {
        ""
    };
    let bounds = format!("{} to {}{or_zero}", show(&low), show(&high));
    let words = bounds.clone();
    let read = move |raw: Raw<'_>| {
        let value = read(raw)?;
        if zero == Some(value) || (low <= value && value <= high) {
            return Ok(value);
        }
        Err(format!("is {}, but must be {words}", show(&value)))
    };
    Rule {
        read: Box::new(read),
        show,
        bounds,
    }
}

/// A length of time.
pub(super) fn duration(low: Duration, high: Duration) -> Rule<Duration> {
    bounded(low, high, None, show_duration, read_duration)
}

/// A number of bytes.
pub(super) fn bytes(low: usize, high: usize) -> Rule<usize> {
    bounded(low, high, None, show_bytes, read_bytes)
}

/// A number of bytes, or 0 for no limit.
pub(super) fn bytes_or_none(low: usize, high: usize) -> Rule<usize> {
    bounded(low, high, Some(0), show_bytes, read_bytes)
}

/// A number.
pub(super) fn count<N>(low: N, high: N) -> Rule<N>
where
    N: TryFrom<u64> + PartialOrd + Copy + Display + 'static,
{
    bounded(low, high, None, N::to_string, read_count)
}

/// A number, or 0 for no limit.
pub(super) fn count_or_none<N>(low: N, high: N) -> Rule<N>
where
    N: TryFrom<u64> + PartialOrd + Copy + Display + Default + 'static,
{
    bounded(low, high, Some(N::default()), N::to_string, read_count)
}

/// `true` or `false`.
pub(super) fn flag() -> Rule<bool> {
    let wanted = "true or false";
    let read = move |raw: Raw<'_>| match raw {
        Raw::Toml(toml::Value::Boolean(flag)) => Ok(*flag),
        Raw::Text("true") => Ok(true),
        Raw::Text("false") => Ok(false),
        Raw::Text(other) => Err(format!("must be {wanted}, not `{other}`")),
        Raw::Toml(other) => Err(format!("must be {wanted}, not {}", name_of_type(other))),
    };
    Rule {
        read: Box::new(read),
        show: bool::to_string,
        bounds: wanted.to_owned(),
    }
}

/// One name of a fixed set.
pub(super) fn choice<C: Choice>() -> Rule<C> {
    let names: Vec<&str> = C::ALL.iter().map(|(name, _)| *name).collect();
    let bounds = names.join(", ");
    let words = bounds.clone();
    let read = move |raw: Raw<'_>| {
        let text = raw.text("a name")?;
        let found = C::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("is `{text}`, but must be one of {words}"))
    };
    let show = |value: &C| {
        let found = C::ALL.iter().find(|(_, known)| known == value);
        found
            .map(|(name, _)| (*name).to_owned())
            .unwrap_or_default()
    };
    Rule {
        read: Box::new(read),
        show,
        bounds,
    }
}

/// Text that `T` can read; `bounds` says what that is.
pub(super) fn parsed<T>(bounds: &'static str) -> Rule<T>
where
    T: FromStr + Display + 'static,
    T::Err: Display,
{
    let read = move |raw: Raw<'_>| {
        let text = raw.text(bounds)?;
        text.parse::<T>()
            .map_err(|why| format!("must be {bounds}, not `{text}`: {why}"))
    };
    Rule {
        read: Box::new(read),
        show: T::to_string,
        bounds: bounds.to_owned(),
    }
}

/// Text that `T` can read, or nothing at all.
pub(super) fn optional<T>(bounds: &'static str) -> Rule<Option<T>>
where
    T: FromStr + Display + 'static,
    T::Err: Display,
{
    let inner = parsed::<T>(bounds);
    let read = move |raw: Raw<'_>| match raw {
        Raw::Text("") => Ok(None),
        other => (inner.read)(other).map(Some),
    };
    let show = |value: &Option<T>| value.as_ref().map(T::to_string).unwrap_or_default();
    Rule {
        read: Box::new(read),
        show,
        bounds: bounds.to_owned(),
    }
}

/// A list: an array in TOML, separated by commas in the environment.
pub(super) fn list<T>(bounds: &'static str) -> Rule<Vec<T>>
where
    T: FromStr + Display + 'static,
    T::Err: Display,
{
    let item = parsed::<T>(bounds);
    let read = move |raw: Raw<'_>| match raw {
        Raw::Toml(toml::Value::Array(items)) => items
            .iter()
            .map(|one| (item.read)(Raw::Toml(one)))
            .collect(),
        other => {
            let text = other.text("a list")?;
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            parts.map(|part| (item.read)(Raw::Text(part))).collect()
        }
    };
    let show = |items: &Vec<T>| items.iter().map(T::to_string).collect::<Vec<_>>().join(",");
    Rule {
        read: Box::new(read),
        show,
        bounds: format!("list, each {bounds}"),
    }
}

fn read_path(raw: Raw<'_>) -> Result<PathBuf, String> {
    match raw.text("a path")? {
        "" => Err("must not be empty".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

/// A folder or file.
pub(super) fn path() -> Rule<PathBuf> {
    Rule {
        read: Box::new(read_path),
        show: |path| path.display().to_string(),
        bounds: "a path".to_owned(),
    }
}

/// A file, or none.
pub(super) fn optional_path() -> Rule<Option<PathBuf>> {
    let read = |raw: Raw<'_>| match raw {
        Raw::Text("") => Ok(None),
        other => read_path(other).map(Some),
    };
    let show = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    Rule {
        read: Box::new(read),
        show,
        bounds: "a path".to_owned(),
    }
}

fn read_count<N: TryFrom<u64>>(raw: Raw<'_>) -> Result<N, String> {
    let number = raw.integer("a whole number")?;
    N::try_from(number).map_err(|_| format!("is {number}, which is too large"))
}

fn read_duration(raw: Raw<'_>) -> Result<Duration, String> {
    let wanted = "a duration like \"500ms\", \"30s\", \"15m\", \"2h\" or \"30d\"";
    let text = raw.text(wanted)?;
    let millis = scaled(text, &UNITS).ok_or_else(|| format!("must be {wanted}, not `{text}`"))?;
    Ok(Duration::from_millis(millis))
}

fn show_duration(value: &Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    match UNITS
        .iter()
        .find(|(_, unit)| millis != 0 && millis.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0s".to_owned(),
    }
}

fn read_bytes(raw: Raw<'_>) -> Result<usize, String> {
    let wanted = "a size like \"64KiB\", \"1MiB\" or a number of bytes";
    let number = match raw {
        Raw::Toml(value) if !value.is_str() => raw.integer(wanted)?,
        _ => {
            let text = raw.text(wanted)?;
            let plain = text.parse::<u64>().ok();
            plain
                .or_else(|| scaled(text, &SIZES))
                .ok_or_else(|| format!("must be {wanted}, not `{text}`"))?
        }
    };
    usize::try_from(number).map_err(|_| format!("is {number}, which is too large"))
}

fn show_bytes(value: &usize) -> String {
    let bytes = *value as u64;
    match SIZES
        .iter()
        .find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0".to_owned(),
    }
}

/// Digits and one unit; `None` if it is anything else, or beyond 64 bits.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_round_trip() {
        for text in ["1ms", "1500ms", "30s", "15m", "2h", "30d"] {
            let value = read_duration(Raw::Text(text)).unwrap();
            assert_eq!(show_duration(&value), text);
        }
        for text in ["1B", "1000B", "64KiB", "1MiB", "3GiB"] {
            let value = read_bytes(Raw::Text(text)).unwrap();
            assert_eq!(show_bytes(&value), text);
        }
        assert_eq!(read_bytes(Raw::Text("4096")).unwrap(), 4096);
        assert_eq!(show_duration(&Duration::ZERO), "0s");
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for text in [
            "",
            "s",
            "5",
            "5 years",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "5ss",
        ] {
            let error = read_duration(Raw::Text(text)).unwrap_err();
            assert!(error.contains("a duration like"), "{text}: {error}");
        }
        for text in ["", "MB", "1MB", "1e3", "18446744073709551615GiB"] {
            assert!(read_bytes(Raw::Text(text)).is_err(), "{text}");
        }
        let error = (count::<u32>(1, 10).read)(Raw::Text("11")).unwrap_err();
        assert_eq!(error, "is 11, but must be 1 to 10");
        assert!((count_or_none::<u32>(5, 10).read)(Raw::Text("0")).is_ok());
        assert!((count::<u32>(0, 10).read)(Raw::Text("99999999999")).is_err());
        assert!((flag().read)(Raw::Text("yes")).is_err());
    }
}
