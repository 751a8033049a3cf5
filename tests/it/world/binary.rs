//! Where the binaries under test are, built if they are missing or older than what they are made of.
//!
//! Each test is a process of its own under nextest, so the usual case must be cheap: the list of
//! sources that cargo wrote beside the binary is compared by time, and cargo is asked only if need be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The hub's binary: `TANDEM_TEST_BINARY`, else the one of this build's profile.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("TANDEM_TEST_BINARY") {
        Some(given) => given.into(),
        None => built("hub", "tandem"),
    })
}

/// The binary that measures, of this build's profile.
pub(crate) fn loadtest() -> PathBuf {
    built("loadtest", "loadtest")
}

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies in a workspace")
}

/// The file that tests lock to do one thing once for all of them.
pub(crate) fn lock_path(what: &str) -> PathBuf {
    profile().join(format!(".tests-{what}.lock"))
}

/// The folder that this build's profile puts its binaries into.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    // <target>/<profile>/deps/it-<hash>
    test.ancestors()
        .nth(2)
        .expect("a test lies in <profile>/deps")
        .to_owned()
}

/// A binary of a package, current when this returns.
fn built(package: &str, name: &str) -> PathBuf {
    let profile = profile();
    let binary = profile.join(name);
    // One test asks cargo, the others wait for what it makes.
    let lock = File::create(lock_path(name)).expect("a lock file");
    lock.lock().expect("the lock");
    if is_current(&binary, package) != Some(true) {
        build(&profile, package, &binary);
    }
    binary
}

/// Whether the binary is newer than everything it was made of; `None` if that can't be told.
fn is_current(binary: &Path, package: &str) -> Option<bool> {
    let made = modified(binary)?;
    let sources = fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = sources.split_once(": ")?;
    // Cargo escapes spaces in paths: such a list is not read here, and cargo is asked.
    let mut sources = sources.split_whitespace().map(Path::new);
    let own = format!("{package}/Cargo.toml");
    let manifests = ["Cargo.lock", "Cargo.toml", "protocol/Cargo.toml", &own];
    let mut manifests = manifests.iter().map(|name| workspace().join(name));
    let older = |path: &Path| modified(path).is_some_and(|changed| changed <= made);
    Some(sources.all(older) && manifests.all(|path| older(&path)))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn build(profile: &Path, package: &str, binary: &Path) {
    let name = profile
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("debug");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace())
        .args(["build", "--quiet", "-p", package]);
    if name != "debug" {
        command.args(["--profile", name]);
    }
    if let Some(target) = profile.parent() {
        command.arg("--target-dir").arg(target);
    }
    let output = command.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{package} does not build:\n{said}");
    // Cargo leaves a binary alone that is current by its own measure: its time is the build's then.
    if let Ok(file) = File::options().append(true).open(binary) {
        let _ = file.set_modified(SystemTime::now());
    }
}
