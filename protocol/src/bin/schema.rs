//! Writes the generated files of the protocol, or with `--check` says which are old.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use protocol::schema;

fn main() -> ExitCode {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: schema [--check]");
            return ExitCode::from(2);
        }
    };
    // At run time, so that the program holds no path of the machine that built it.
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| "protocol".to_owned());
    match run(&Path::new(&root).join("generated"), check) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("schema: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, check: bool) -> std::io::Result<ExitCode> {
    let mut old = Vec::new();
    for (name, text) in schema::files() {
        let path = folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|kept| kept == text) {
            continue;
        }
        if check {
            old.push(name);
        } else {
            fs::create_dir_all(folder)?;
            fs::write(&path, text)?;
            println!("wrote {name}");
        }
    }
    if old.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "old: {}. Run `cargo run -p protocol --bin schema` and look at the difference.",
        old.join(", ")
    );
    Ok(ExitCode::FAILURE)
}
