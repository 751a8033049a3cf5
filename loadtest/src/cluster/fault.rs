//! What can go wrong with a cluster. Names only: the cluster does it.

use std::fmt;

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The Redis server.
    Redis,
    /// The RabbitMQ server.
    Rabbit,
    /// The PostgreSQL server.
    Postgres,
    /// A hub, by its number.
    Hub(usize),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => f.write_str("Redis"),
            Self::Rabbit => f.write_str("RabbitMQ"),
            Self::Postgres => f.write_str("PostgreSQL"),
            Self::Hub(n) => write!(f, "hub {n}"),
        }
    }
}

/// What a way between a hub and a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trouble {
    /// Connections stay, nothing moves.
    Stalled,
    /// Nothing reaches the service.
    StalledOut,
    /// Nothing reaches the hub.
    StalledIn,
    /// Connections are reset, new ones too.
    Cut,
    /// Every byte comes that much later, in milliseconds.
    Late(u64),
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// `kill -9`, down for the fault's time.
    Kill(Target),
    /// Asked to stop, started again after the fault's time.
    Restart(Target),
    /// SIGSTOP for the fault's time.
    Pause(Target),
    /// Redis is killed and comes back with nothing.
    EmptyRedis,
    /// The way from a hub to a service.
    Way {
        /// Whose.
        hub: usize,
        /// Where to.
        to: Target,
        /// What it does.
        trouble: Trouble,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) => write!(f, "kill -9 of {target}"),
            Self::Restart(target) => write!(f, "restart of {target}"),
            Self::Pause(target) => write!(f, "SIGSTOP of {target}"),
            Self::EmptyRedis => f.write_str("kill -9 of Redis and loss of all its data"),
            Self::Way { hub, to, trouble } => {
                write!(f, "hub {hub} to {to}: ")?;
                match trouble {
                    Trouble::Stalled => f.write_str("stalled"),
                    Trouble::StalledOut => f.write_str("stalled outward"),
                    Trouble::StalledIn => f.write_str("stalled inward"),
                    Trouble::Cut => f.write_str("cut"),
                    Trouble::Late(ms) => write!(f, "{ms} ms late"),
                }
            }
        }
    }
}
