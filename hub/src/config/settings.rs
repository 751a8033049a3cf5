//! Every setting of the hub: type, default, bounds and meaning, in one table.
//!
//! Owns the [`Settings`] value; `table` makes it of the rows. Never reads a file or the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Described;
use super::choices::{Demo, Exceeded, LogFormat, Outage};
use super::network::{Endpoint, Network, Origin};
use super::reader::Reader;
use super::rule::{
    bytes, bytes_or_none, choice, count, count_or_none, duration, flag, list, optional,
    optional_path, parsed, path,
};
use super::secret::{Secret, amqp, any, postgres, redis, sealing_key, secret, secrets};
use super::table::settings;
use super::text::{Cached, Directive, Name, Pattern, Repository};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn mins(count: u64) -> Duration {
    secs(count * 60)
}

const fn hours(count: u64) -> Duration {
    mins(count * 60)
}

const fn days(count: u64) -> Duration {
    mins(count * 60 * 24)
}

settings! {
    top {
        /// Address and port that the hub listens on; port 0 takes a free one.
        bind: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), parsed("an address and port like 127.0.0.1:8080");
        /// Folder for the database and the signing keys; made if it is not there.
        data_dir: PathBuf = PathBuf::from("./data"), path();
        /// Serves /echo, which sends every message back, for conformance suites.
        echo: bool = false, flag();
        /// Whether the demo project and its users exist: auto means in embedded mode.
        demo: Demo = Demo::Auto, choice();
        /// Address under which browsers reach the hub, if a proxy stands before it.
        public_url: Option<Origin> = None, optional("an address like https://ide.example.org");
    }
    /// What is logged, and how.
    log: Log {
        /// Least severity that is logged, or a list of filters per target.
        level: Directive = Directive::default(), parsed("error, warn, info, debug, trace or filters like hub=debug,info");
        /// Lines for people, or one JSON object per line.
        format: LogFormat = LogFormat::Text, choice();
    }
    /// Serving HTTPS itself. Without it, put a proxy that does before the hub.
    tls: Tls {
        /// PEM file with the certificate chain; needs tls.key.
        cert: Option<PathBuf> = None, optional_path();
        /// PEM file with the private key; needs tls.cert.
        key: Option<PathBuf> = None, optional_path();
    }
    /// HTTP requests.
    http: Http {
        /// Origins of browser pages that may connect. While empty: pages of the hub itself and of this machine.
        allowed_origins: Vec<Origin> = Vec::new(), list("an origin like https://ide.example.org, or *");
        /// Largest body of a request.
        body_bytes: usize = MIB, bytes(KIB, 64 * MIB);
        /// How long a request may take in all.
        request_timeout: Duration = secs(30), duration(ms(100), mins(10));
        /// How long a client may take to send the head of a request.
        header_timeout: Duration = secs(10), duration(ms(100), mins(5));
        /// What the kernel may hold of a connection's outgoing bytes; 0: as much as it likes. A small buffer keeps
        /// a slow client's values fresh and its memory bounded.
        send_buffer: usize = 256 * KIB, bytes_or_none(16 * KIB, 64 * MIB);
        /// How long a request with an Idempotency-Key is remembered, and its answer.
        idempotency_keep: Duration = hours(24), duration(secs(1), days(30));
        /// How long such a request may take; if nothing was heard of it for that long, whoever sends it again has it
        /// carried out. Not less than request_timeout.
        idempotency_lease: Duration = secs(40), duration(ms(100), mins(20));
        /// Proxies whose X-Forwarded-For header is believed.
        trusted_proxies: Vec<Network> = Vec::new(), list("an address or a range like 10.0.0.0/8");
    }
    /// Logins and tokens.
    auth: Auth {
        /// Issuer (`iss`) of the tokens.
        issuer: Name = Name::from_static("tandem"), parsed("1 to 128 characters without spaces");
        /// Audience (`aud`) of the tokens.
        audience: Name = Name::from_static("tandem"), parsed("1 to 128 characters without spaces");
        /// How long an access token lives.
        access_ttl: Duration = mins(15), duration(secs(5), mins(15));
        /// How long a refresh token lives; each refresh gives a new one.
        refresh_ttl: Duration = days(30), duration(secs(10), days(365));
        /// How long a token that resets a password is good.
        reset_ttl: Duration = hours(1), duration(mins(1), days(7));
        /// Whether anybody may register. Whoever has an invitation may in any case.
        registration: bool = true, flag();
        /// Whether a token is accepted in the URL of /ws. /collab always accepts it, as its client knows no other way.
        token_in_url: bool = false, flag();
        /// Login attempts of one account at once before the rate applies.
        login_burst: u32 = 10, count(1, 10_000);
        /// Login attempts per minute of one account.
        login_per_minute: u32 = 10, count_or_none(1, 100_000);
        /// Login attempts and registrations per minute from one address.
        login_per_minute_address: u32 = 60, count_or_none(1, 1_000_000);
        /// Whether logins go on, uncounted, while the limiter (Redis) can't be reached.
        login_outage: Outage = Outage::Closed, choice();
        /// How long a signing key signs before a new one takes over; 0: for ever.
        key_rotation: Duration = days(30), duration(secs(0), days(3650));
        /// Secret that seals the private keys in the store, 32 bytes in base64; every node needs the same one.
        key_secret: Option<Secret> = None, secret("32 bytes in base64", sealing_key);
        /// File (TOML) of the outside issuers whose tokens are accepted too: see identity-providers.md.
        issuers_file: Option<PathBuf> = None, optional_path();
        /// Passwords that are hashed at the same time; each takes a core and 19 MiB.
        password_concurrency: usize = 2, count(1, 64);
    }
    /// Sessions on /ws.
    session: Session {
        /// Largest message that a client may send.
        message_bytes: usize = MIB, bytes(KIB, 64 * MIB);
        /// Bytes that may wait for a slow client before it is treated as slow.
        queue_bytes: usize = MIB, bytes(16 * KIB, 256 * MIB);
        /// How long a client may take to send its connect frame.
        connect_timeout: Duration = secs(5), duration(ms(100), mins(5));
        /// How often a quiet client is pinged; it is closed after two intervals without an answer.
        ping_interval: Duration = secs(25), duration(ms(100), mins(30));
        /// How long one write to a client may take.
        write_timeout: Duration = secs(15), duration(ms(100), mins(10));
        /// Channels that one session may subscribe to.
        channels: usize = 100, count(1, 100_000);
        /// Documents that one session may have open.
        documents: usize = 32, count(1, 10_000);
        /// Messages in one answer to a history request.
        history_page: usize = 1000, count(1, 100_000);
        /// Messages per second that one session may publish.
        publish_rate: u32 = 100, count_or_none(1, 1_000_000);
        /// Frames per second that one session may send.
        frame_rate: u32 = 1000, count_or_none(1, 10_000_000);
        /// Largest ephemeral state of one session in a channel.
        state_bytes: usize = 4 * KIB, bytes(64, MIB);
        /// How long before its token expires a session is told.
        expiring_notice: Duration = secs(60), duration(ms(0), mins(15));
    }
    /// Channels: history and presence.
    channels: Channels {
        /// Messages kept per channel for clients that come back.
        history_messages: usize = 1000, count(0, 1_000_000);
        /// Bytes kept per channel for clients that come back; as many again of newest values (class `latest`).
        history_bytes: usize = MIB, bytes(0, GIB);
        /// Bytes kept of all channels together; beyond it a channel that takes a message gives up its own oldest.
        total_bytes: usize = 256 * MIB, bytes(MIB, 1024 * GIB);
        /// How long messages are kept for clients that come back.
        history_age: Duration = mins(5), duration(secs(0), days(7));
        /// How long a resent message with the same idempotency key is recognised.
        dedup_window: Duration = mins(5), duration(secs(0), days(1));
        /// How often joins and leaves are told, gathered.
        presence_interval: Duration = ms(200), duration(ms(0), mins(1));
        /// Members of a channel that presence lists at most.
        presence_members: usize = 1000, count(1, 1_000_000);
    }
    /// Documents that people edit together.
    collab: Collab {
        /// Largest message on a document socket.
        message_bytes: usize = 8 * MIB, bytes(KIB, 256 * MIB);
        /// Largest single update of a document.
        update_bytes: usize = 8 * MIB, bytes(KIB, 256 * MIB);
        /// Largest document, encoded.
        document_bytes: usize = 64 * MIB, bytes(KIB, 4 * GIB);
        /// How long a document stays in memory after the last client left.
        idle_unload: Duration = secs(30), duration(ms(0), days(1));
        /// How long an update waits for others before they are committed together.
        flush_interval: Duration = ms(2), duration(ms(0), ms(10));
        /// Bytes of one document that may wait to be committed before its writers are made to wait.
        undurable_bytes: usize = 16 * MIB, bytes(64 * KIB, GIB);
        /// Updates of one connection that may wait for updates which they depend on.
        held_updates: usize = 256, count(0, 100_000);
        /// Bytes of such updates.
        held_bytes: usize = MIB, bytes(0, 256 * MIB);
        /// Largest awareness state of one editor.
        awareness_bytes: usize = 4 * KIB, bytes(64, MIB);
        /// Awareness states that one connection may own.
        awareness_entries: usize = 16, count(1, 10_000);
        /// How often changed awareness is sent, gathered.
        awareness_interval: Duration = ms(30), duration(ms(0), secs(10));
        /// How long an awareness state stays without being renewed.
        awareness_timeout: Duration = secs(30), duration(secs(1), mins(30));
        /// Updates in the log after which a snapshot replaces them.
        compact_updates: u64 = 1000, count(1, 10_000_000);
        /// Bytes in the log after which a snapshot replaces them.
        compact_bytes: usize = MIB, bytes(KIB, GIB);
        /// How much time lies at least between two automatic versions.
        version_interval: Duration = mins(10), duration(secs(1), days(30));
        /// Edits after which a version is kept before that time.
        version_edits: u64 = 1000, count(1, 10_000_000);
        /// Automatic versions kept per document.
        versions_kept: u32 = 50, count(0, 100_000);
        /// Documents on one Hocuspocus socket.
        documents_per_socket: usize = 100, count(1, 10_000);
        /// Whether opening a document that is not there creates it, for those who may edit.
        create_missing: bool = true, flag();
        /// How long a client may take to send its token.
        auth_timeout: Duration = secs(10), duration(ms(100), mins(5));
    }
    /// Plans.
    plans: Plans {
        /// Plans of one project that have not ended.
        open_per_project: u32 = 100, count(1, 100_000);
        /// Plans that this node makes at once; 0: it leaves them to others.
        workers: usize = 2, count(0, 1000);
        /// How long a plan may take, from when a worker takes it.
        timeout: Duration = mins(5), duration(secs(1), hours(2));
        /// Tokens of language models that a plan may take, of all its attempts.
        tokens: u64 = 100_000, count(1000, 100_000_000);
        /// How long a worker that is not heard of holds a plan before another takes it.
        lease: Duration = secs(10), duration(secs(1), mins(10));
    }
    /// A language model, behind an OpenAI-compatible API. Without an address plans are made from the code's outline.
    ai: Ai {
        /// Address of the API, without /chat/completions: https://api.example.com/v1.
        url: Option<Endpoint> = None, optional("an address like https://api.example.com/v1");
        /// The key, sent as a bearer token.
        key: Option<Secret> = None, secret("a key", any);
        /// The model's name, as the provider has it.
        model: Option<Name> = None, optional("1 to 128 characters without spaces");
        /// Requests of this node under way at once.
        concurrency: usize = 4, count(1, 1000);
        /// How long the provider may send nothing while it answers.
        silence: Duration = secs(60), duration(ms(100), mins(10));
        /// Most tokens of one answer.
        answer_tokens: u32 = 8192, count(64, 1_000_000);
        /// How often a request that may be tried again is, at most.
        retries: u32 = 4, count_or_none(1, 100);
    }
    /// Vectors for the search, from an OpenAI-compatible API. Without an address the search goes by words alone.
    embeddings: Embeddings {
        /// Address of the API, without /embeddings: https://api.example.com/v1.
        url: Option<Endpoint> = None, optional("an address like https://api.example.com/v1");
        /// The key, sent as a bearer token.
        key: Option<Secret> = None, secret("a key", any);
        /// The model's name, as the provider has it.
        model: Option<Name> = None, optional("1 to 128 characters without spaces");
        /// Texts in one request.
        batch: usize = 64, count(1, 2048);
        /// How long a request may take.
        timeout: Duration = secs(30), duration(ms(100), mins(10));
    }
    /// What is known of a project's code, for plans, agents and people who search.
    context: Context {
        /// Whether this node keeps the index current.
        index: bool = true, flag();
        /// Folders with the repositories of projects; files that .gitignore names are left out.
        repositories: Vec<Repository> = Vec::new(), list("a project and its folder like my-app=/srv/my-app");
        /// Largest file that is indexed.
        file_bytes: usize = MIB, bytes(KIB, 64 * MIB);
        /// How often repositories are looked at again.
        interval: Duration = mins(5), duration(secs(1), days(1));
    }
    /// Notifications.
    notifications: Notifications {
        /// How long they are kept.
        keep: Duration = days(90), duration(hours(1), days(3650));
        /// How long those of one kind and group are gathered for users who want a digest.
        digest: Duration = mins(15), duration(secs(1), days(1));
    }
    /// What is used, and how much of it a user may use.
    usage: Usage {
        /// How often what sockets have used is written down; what a node that is killed has not, is lost.
        flush: Duration = secs(10), duration(ms(100), secs(10));
        /// Plans of one user per day of UTC; 0: no limit.
        plans_per_day: u64 = 0, count_or_none(1, 1_000_000);
        /// Tokens of language models of one user per day of UTC; 0: no limit.
        tokens_per_day: u64 = 0, count_or_none(1, 1_000_000_000_000);
        /// How a user who has no more is answered.
        exceeded: Exceeded = Exceeded::Wait, choice();
    }
    /// The log of domain events.
    events: Events {
        /// How long events are kept.
        keep: Duration = days(90), duration(hours(1), days(3650));
    }
    /// Tools for agents: the Model Context Protocol at /mcp.
    mcp: Mcp {
        /// Whether it is served.
        enabled: bool = true, flag();
    }
    /// PostgreSQL, for more than one node. Without an address: SQLite in the data directory.
    database: Database {
        /// Address like postgres://user:password@host/name, its options (sslmode, sslrootcert) included.
        url: Option<Secret> = None, secret("an address like postgres://user:password@host/name", postgres);
        /// Address of a read replica: lists that the cache does not keep are read there once it has what this node wrote.
        replica_url: Option<Secret> = None, secret("an address like postgres://user:password@host/name", postgres);
        /// Connections to the primary, of this node.
        connections: u32 = 16, count(2, 1000);
        /// How long a request waits for a connection before the store counts as unavailable.
        acquire_timeout: Duration = secs(5), duration(ms(100), mins(1));
        /// How long a statement may take; the server ends it.
        statement_timeout: Duration = secs(10), duration(ms(100), mins(10));
        /// How long a statement may wait for a lock; the server ends it.
        lock_timeout: Duration = secs(5), duration(ms(100), mins(10));
    }
    /// Redis: channels and documents between nodes. Without an address: everything in this process.
    redis: Redis {
        /// Addresses like redis://:password@host:6379 (rediss:// for TLS); several are the masters of a cluster.
        url: Vec<Secret> = Vec::new(), secrets("an address like redis://:password@host:6379", redis);
        /// PEM file of the authority that signed the server's certificate, if it is no public one.
        ca: Option<PathBuf> = None, optional_path();
        /// What every key and pub/sub channel begins with; nodes that belong together share it.
        prefix: Name = Name::from_static("tandem"), parsed("1 to 128 characters without spaces");
        /// How long a command may take before the connection counts as broken.
        command_timeout: Duration = secs(2), duration(ms(50), mins(1));
        /// How often a silent connection is asked whether it is there.
        watchdog: Duration = secs(2), duration(ms(100), mins(1));
    }
    /// The cache of what is read often: in Redis if that is set, else in this process. Rights are never read from it.
    cache: Cache {
        /// How long something is kept, and so how old an answer may be if Redis was away when it changed; 0: nothing is kept.
        ttl: Duration = secs(10), duration(secs(0), hours(1));
        /// How long it is kept that something is not there; 0: not at all.
        negative_ttl: Duration = secs(2), duration(secs(0), mins(10));
        /// Memory for it, if it is kept in this process.
        bytes: usize = 64 * MIB, bytes(MIB, 64 * GIB);
        /// What is kept.
        kinds: Vec<Cached> = Cached::ALL.to_vec(), list("one of project, projects, members, documents, versions, text");
    }
    /// Figures for Prometheus at /metrics.
    metrics: Metrics {
        /// Who may read them; for others there is no such page. A proxy's clients count as themselves if it is one of
        /// http.trusted_proxies, and may not if it is none.
        allow: Vec<Network> = Network::private(), list("an address or a range like 10.0.0.0/8");
    }
    /// RabbitMQ: domain events between services. Without an address: in this process.
    amqp: Amqp {
        /// Address like amqp://user:password@host:5672/vhost (amqps:// for TLS).
        url: Option<Secret> = None, secret("an address like amqp://user:password@host:5672/vhost", amqp);
        /// PEM file of the authority that signed the server's certificate, if it is no public one.
        ca: Option<PathBuf> = None, optional_path();
        /// What every exchange and queue begins with; with another than tandem, foreign producers publish to that name followed by .events.
        prefix: Name = Name::from_static("tandem"), parsed("1 to 128 characters without spaces");
        /// Deliveries that a consumer may have under way.
        prefetch: u16 = 256, count(1, 65_535);
        /// How often a delivery is tried before it goes to the dead-letter queue.
        attempts: u32 = 8, count(1, 1000);
    }
    /// From domain events to the channels of those who may see them.
    bridge: Bridge {
        /// Types of events that are bridged, as patterns: * is one word, # any number of words.
        types: Vec<Pattern> = Pattern::defaults(), list("a pattern like plan.* or #");
        /// How long an event's id is remembered by the channel that took it.
        dedup_window: Duration = hours(24), duration(secs(1), days(7));
    }
    /// The way to other services through this hub: /svc/{service}/….
    gateway: Gateway {
        /// TOML file with the services and who may use what of them (docs/gateway.md); read again when it changes.
        file: Option<PathBuf> = None, optional_path();
    }
    /// Limits of the whole node.
    limits: Limits {
        /// Sessions and document sockets at once.
        sessions: usize = 50_000, count(1, 10_000_000);
        /// Sessions and document sockets of one user at once.
        sessions_per_user: usize = 1000, count_or_none(1, 10_000_000);
        /// REST requests under way at once, those aside that wait for news.
        requests: usize = 1000, count_or_none(1, 1_000_000);
        /// Documents in memory at once.
        documents: usize = 10_000, count(1, 10_000_000);
        /// Resident memory beyond which nothing new is let in.
        memory_bytes: usize = 0, bytes_or_none(64 * MIB, 1024 * GIB);
    }
    /// Rates of requests by class, counted by all nodes together. 0: no limit. docs/limits.md says what is in which class.
    rate: Rate {
        /// Whether requests are counted at all; logins are all the same.
        enabled: bool = true, flag();
        /// How long the limiter (Redis) may take to answer before it counts as not to be reached.
        timeout: Duration = ms(250), duration(ms(10), secs(10));
        /// Requests that only read, per minute of one user.
        read_user: u32 = 1200, count_or_none(1, 10_000_000);
        /// The same from one address, of all its users together; an IPv6 address counts as its /64.
        read_address: u32 = 12_000, count_or_none(1, 10_000_000);
        /// How much of these may come at once: what comes together in that time.
        read_burst: Duration = mins(1), duration(secs(1), hours(1));
        /// Whether such requests go on, uncounted, while the limiter (Redis) can't be reached.
        read_outage: Outage = Outage::Open, choice();
        /// Requests that change something, per minute of one user.
        write_user: u32 = 600, count_or_none(1, 10_000_000);
        /// The same from one address, of all its users together; an IPv6 address counts as its /64.
        write_address: u32 = 6000, count_or_none(1, 10_000_000);
        /// How much of these may come at once: what comes together in that time.
        write_burst: Duration = mins(1), duration(secs(1), hours(1));
        /// Whether such requests go on, uncounted, while the limiter (Redis) can't be reached.
        write_outage: Outage = Outage::Open, choice();
        /// Connection attempts (WebSockets, streams, long polls), per minute of one user.
        connect_user: u32 = 600, count_or_none(1, 10_000_000);
        /// The same from one address, of all its users together; an IPv6 address counts as its /64.
        connect_address: u32 = 6000, count_or_none(1, 10_000_000);
        /// How much of these may come at once: what comes together in that time.
        connect_burst: Duration = mins(1), duration(secs(1), hours(1));
        /// Whether such requests go on, uncounted, while the limiter (Redis) can't be reached.
        connect_outage: Outage = Outage::Open, choice();
        /// Logins, registrations and what else a secret is tried at, per minute of one user, beside auth.login_per_minute.
        auth_user: u32 = 60, count_or_none(1, 10_000_000);
        /// The same from one address, of all its users together; an IPv6 address counts as its /64.
        auth_address: u32 = 120, count_or_none(1, 10_000_000);
        /// How much of these may come at once: what comes together in that time.
        auth_burst: Duration = mins(1), duration(secs(1), hours(1));
        /// Whether such requests go on, uncounted, while the limiter (Redis) can't be reached.
        auth_outage: Outage = Outage::Closed, choice();
        /// Requests to services behind the gateway, per minute of one user.
        gateway_user: u32 = 1200, count_or_none(1, 10_000_000);
        /// The same from one address, of all its users together; an IPv6 address counts as its /64.
        gateway_address: u32 = 12_000, count_or_none(1, 10_000_000);
        /// How much of these may come at once: what comes together in that time.
        gateway_burst: Duration = mins(1), duration(secs(1), hours(1));
        /// Whether such requests go on, uncounted, while the limiter (Redis) can't be reached.
        gateway_outage: Outage = Outage::Open, choice();
    }
    /// Stopping.
    shutdown: Shutdown {
        /// How long stopping may take in all.
        timeout: Duration = secs(10), duration(ms(0), mins(10));
        /// Over how much time the reconnects of the clients are spread.
        reconnect_spread: Duration = secs(5), duration(ms(0), mins(10));
    }
}

impl Settings {
    /// What the services that are set make of this hub: `embedded`, everything in one process; `alone`,
    /// one node with outside services; `cluster`, one node of many.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        if !self.redis.url.is_empty() {
            "cluster"
        } else if self.database.url.is_some() || self.amqp.url.is_some() {
            "alone"
        } else {
            "embedded"
        }
    }

    /// Whether the demo project and its users are wanted.
    #[must_use]
    pub fn demo_enabled(&self) -> bool {
        match self.demo {
            Demo::On => true,
            Demo::Off => false,
            Demo::Auto => self.mode() == "embedded",
        }
    }
}
