//! Limits of the whole node: how often somebody may ask, and how much memory there is.
//!
//! Owns the classes of requests ([`Class`], with the one table of them), the rates of each ([`Rates`]), the attempts to log
//! in ([`Attempts`]) and [`MemoryBudget`]. What is counted lies in `backplane`'s limiter, so that all nodes count together.
//! Never closes what is already in, and never waits for room: the answer is yes or no.

mod attempts;
mod classes;
mod memory;
mod rates;
mod refusals;

use std::net::{IpAddr, Ipv6Addr};

pub use attempts::{Attempts, TooMany};
pub use classes::{Class, class_of};
pub use memory::MemoryBudget;
pub use rates::{Count, POLICY, Rates, STATE, Who};

/// What an address counts as: one IPv6 customer has a whole /64. An IPv4 address written as IPv6 is that IPv4 address.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_its_network() {
        let counts_as = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(counts_as("192.0.2.7"), "192.0.2.7");
        assert_eq!(counts_as("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counts_as("2001:db8:1:2:a:b:c:d"), "2001:db8:1:2::");
        assert_eq!(counts_as("2001:db8:1:2::1"), "2001:db8:1:2::");
        assert_ne!(counts_as("2001:db8:1:3::1"), "2001:db8:1:2::");
    }
}
