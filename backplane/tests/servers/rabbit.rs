//! A RabbitMQ server of a test's own, on free ports, gone with the test.
//!
//! Has a port mapper of its own, so that it meets no other node. Never touches the machine's own server. Started by
//! root it runs as the user `rabbitmq`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Debian's wrappers on the PATH change user and folder; these do neither.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
/// How long a start may take on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(90);

/// A server, running or not.
pub(crate) struct RabbitServer {
    server: Option<Child>,
    mapper: Child,
    ports: [u16; 3],
    dir: TempDir,
}

impl RabbitServer {
    /// One that does not run yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, content) in [
            ("plugins", "[].\n"),
            ("rabbitmq.conf", ""),
            ("env.conf", ""),
        ] {
            std::fs::write(dir.path().join(name), content).expect("a file");
        }
        if let Some((uid, gid)) = user() {
            chown(dir.path(), Some(uid), Some(gid)).expect("the folder is theirs");
        }
        // Held together, so that they are three.
        let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let ports = held
            .each_ref()
            .map(|held| held.local_addr().expect("an address").port());
        drop(held);
        let mut mapper = Command::new("epmd");
        let port = ports[0].to_string();
        mapper.args(["-address", "127.0.0.1", "-port", &port]);
        let mapper = spawn(mapper, dir.path());
        Self {
            server: None,
            mapper,
            ports,
            dir,
        }
    }

    /// Where it listens, running or not.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports[1])
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.server = Some(spawn(self.command("rabbitmq-server"), self.dir.path()));
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports[1])).is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("log"));
            assert!(since.elapsed() < START_WITHIN, "no RabbitMQ: {:?}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether a queue would survive a crash now: the server writes the name of a new one some seconds late, and without
    /// that it starts an empty queue in its place, which nobody leads.
    pub(crate) fn has_saved(&self, queue: &str) -> bool {
        let node = format!("test{}@localhost", self.ports[1]);
        let home = self.dir.path().join("mnesia").join(&node);
        let names = home.join("quorum").join(&node).join("names.dets");
        let names = std::fs::read(names).unwrap_or_default();
        names.windows(queue.len()).any(|at| at == queue.as_bytes())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It and its helpers are one process group.
            let group = format!("-{}", server.id());
            let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
            assert!(killed.is_ok_and(|status| status.success()), "it is killed");
            server.wait().expect("it has ended");
        }
    }

    /// Runs `rabbitmqctl` on it.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let told = self.command("rabbitmqctl").args(arguments).output();
        let told = told.expect("rabbitmqctl");

        assert!(told.status.success(), "{told:?}");
    }

    fn command(&self, script: &str) -> Command {
        let [mapper, port, distribution] = self.ports;
        let dir = self.dir.path();
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command
            .env("HOME", dir)
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("RABBITMQ_NODENAME", format!("test{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", dir.join("logs"))
            .env("RABBITMQ_PID_FILE", dir.join("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("env.conf"))
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("none.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("ERL_FLAGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            );
        as_user(&mut command);
        command
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        self.kill();
        self.mapper.kill().expect("the port mapper is killed");
        self.mapper.wait().expect("the port mapper has ended");
    }
}

fn spawn(mut command: Command, dir: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"));
    let log = log.expect("a log");
    as_user(&mut command);
    command
        .current_dir(dir)
        .env("HOME", dir)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("it starts")
}

fn as_user(command: &mut Command) {
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
}

/// Whose process it must be; `None` if this one is not root's.
fn user() -> Option<(u32, u32)> {
    std::fs::metadata("/proc/self")
        .ok()
        .filter(|own| own.uid() == 0)?;
    let id = |flag| {
        let told = Command::new("id")
            .args([flag, "rabbitmq"])
            .output()
            .ok()?
            .stdout;
        String::from_utf8_lossy(&told).trim().parse::<u32>().ok()
    };
    Some((id("-u")?, id("-g")?))
}
