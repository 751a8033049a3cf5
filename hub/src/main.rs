//! `tandem`: reads the command line and does what it says.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use hub::backends::open_store;
use hub::cli::{Cli, Command, check_config, doctor, key, keys, parse, reset_password, serve_mcp};
use hub::config::{LogFormat, Settings, load};
use hub::node::Hub;
use hub::replay::replay;
use hub::worker::Worker;
use tracing_subscriber::EnvFilter;

/// What libraries tell at levels of their own: the hub says of an outage what is to be said, once, and
/// lapin would log the whole body of every event that nobody wants. The setting `log.level` may ask for more.
const QUIET: &str = "lapin=off,sqlx=warn";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two crypto providers in one process would panic at their first use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = parse();
    if cli.command() == Command::CheckConfig {
        let (text, code) = check_config(&cli);
        println!("{text}");
        return ExitCode::from(code);
    }
    match run(&cli) {
        Ok(code) => code,
        Err(text) => {
            eprintln!("tandem: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime can't be started: {error}"))?;
    if let Command::Mcp { url, token_file } = cli.command() {
        let served = runtime.block_on(serve_mcp(url, token_file));
        // Something may still wait for a line of stdin.
        runtime.shutdown_background();
        return served.map(|()| ExitCode::SUCCESS);
    }
    let settings = load(cli.config.as_deref());
    if let Command::Doctor { json } = cli.command() {
        // It tells all that it finds itself: no log beside it.
        let (text, code) = runtime.block_on(doctor(settings, json));
        println!("{text}");
        return Ok(ExitCode::from(code));
    }
    let settings = settings.map_err(|errors| errors.to_string())?;
    start_log(&settings);
    runtime.block_on(async {
        match cli.command() {
            Command::Migrate => {
                let (store, _lock) = open_store(&settings).await.map_err(|e| e.to_string())?;
                store.close().await;
                println!("the database is up to date");
                Ok(ExitCode::SUCCESS)
            }
            Command::Keys { what } => {
                println!("{}", keys(&settings, what).await?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Key { what } => {
                println!("{}", key(&settings, what).await?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Replay(asked) => {
                println!("{}", replay(&settings, &asked).await?);
                Ok(ExitCode::SUCCESS)
            }
            Command::ResetPassword { login } => {
                println!("{}", reset_password(&settings, &login).await?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Worker => work(settings).await,
            _ => serve(settings).await,
        }
    })
}

fn start_log(settings: &Settings) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.log.level.as_str()));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match settings.log.format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_target(false).init(),
    }
}

async fn serve(settings: Settings) -> Result<ExitCode, String> {
    let demo = settings.demo_enabled();
    let hub = tokio::select! {
        hub = Hub::bind(settings) => hub.map_err(|e| e.to_string())?,
        // A start may wait for another node, or for a service.
        () = leave_signal() => return Ok(ExitCode::SUCCESS),
    };
    println!("listening on {}", hub.url());
    if demo {
        greet(&hub.url(), hub.address().ip().is_loopback());
    }
    let left = "sessions are sent away, what is not durable is written";
    Ok(until_gone(hub.expelled(), left, || hub.shutdown()).await)
}

async fn work(settings: Settings) -> Result<ExitCode, String> {
    let worker = tokio::select! {
        worker = Worker::start(settings) => worker.map_err(|e| e.to_string())?,
        () = leave_signal() => return Ok(ExitCode::SUCCESS),
    };
    println!("working");
    let left = "what is under way is left to others";
    Ok(until_gone(worker.expelled(), left, || worker.shutdown()).await)
}

/// Waits for the word to leave, or for the reason why this node must; leaves, and says how that ended.
async fn until_gone<Leaving: Future<Output = bool>>(
    expelled: impl Future<Output = String>,
    left: &str,
    leave: impl FnOnce() -> Leaving,
) -> ExitCode {
    let expelled = tokio::select! {
        () = leave_signal() => false,
        reason = expelled => {
            tracing::error!("this node has to stop: {reason}");
            true
        }
    };
    tracing::info!("leaving: {left}");
    let politely = tokio::select! {
        politely = leave() => politely,
        () = leave_signal() => false,
    };
    tracing::info!(politely, "gone");
    if politely && !expelled {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Tells a person at a terminal where to go.
fn greet(url: &str, loopback: bool) {
    println!("open it in two windows and sign in as:");
    for user in hub::rest::info::DEMO_USERS {
        println!("  {:<6} password {}", user.login, user.password);
    }
    let warning = "demo accounts with known passwords exist (set TANDEM_DEMO=off to refuse them)";
    if loopback {
        tracing::warn!("{warning}");
    } else {
        tracing::warn!("{warning}, and {url} can be reached from other machines");
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn leave_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "SIGTERM can't be caught");
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        // An error means that Ctrl-C can't be caught; SIGTERM still can.
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
}
