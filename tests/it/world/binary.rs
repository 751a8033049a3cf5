//! Where the binaries under test are, built if they are missing or older than what they are made of.
//!
//! Each test is a process of its own under nextest, so the usual case must be cheap: the times of the sources are
//! compared, and cargo is asked only if need be. A test run of the whole workspace builds the binaries itself, with
//! other features of what they depend on: asking cargo then would build everything a second time.

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
    if !is_current(&binary, package) {
        build(&profile, package, &binary);
    }
    binary
}

/// What a binary is made of, in the workspace's folder.
fn sources(package: &str) -> Vec<&str> {
    let all = ["Cargo.lock", "Cargo.toml", "protocol", package];
    let hub = ["backplane", "workers", "migrations", "clients/web/dist"];
    let more: &[&str] = if package == "hub" { &hub } else { &[] };
    all.iter().chain(more).copied().collect()
}

/// Whether the binary is there, and newer than everything it was made of.
fn is_current(binary: &Path, package: &str) -> bool {
    let Some(made) = modified(binary) else {
        return false;
    };
    let mut paths: Vec<PathBuf> = sources(package)
        .into_iter()
        .map(|path| workspace().join(path))
        .collect();
    while let Some(path) = paths.pop() {
        match fs::read_dir(&path) {
            // Its tests are no part of it.
            Ok(entries) => {
                let entries = entries.filter_map(Result::ok);
                paths.extend(
                    entries
                        .map(|entry| entry.path())
                        .filter(|path| !path.ends_with("tests")),
                );
            }
            Err(_) if modified(&path).is_none_or(|changed| changed > made) => return false,
            Err(_) => {}
        }
    }
    true
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
