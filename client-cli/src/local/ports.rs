//! Ports on the loopback interface.
//!
//! A port is kept across restarts while it is free, so that peers reconnect by themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

/// Ports to choose from: below the ephemeral ports of Linux (32768 and up, `ip_local_port_range`),
/// so that an outgoing connection does not take one that is kept across restarts. The lower end is
/// not tuned: above the ports that most servers have by default.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The loopback address with this port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// True if the port can be bound now.
pub(crate) fn is_free(port: u16) -> bool {
    // std sets SO_REUSEADDR, so connections in TIME_WAIT do not make a port look taken.
    TcpListener::bind(loopback(port)).is_ok()
}

/// Returns `kept` if it is free, else another free port. Another program may take it before it is
/// used; callers then try again.
///
/// # Errors
/// If there is no free port.
pub(crate) fn choose(kept: Option<u16>) -> anyhow::Result<u16> {
    if let Some(port) = kept.filter(|&port| is_free(port)) {
        return Ok(port);
    }
    // Not tuned: more failures mean that the range is nearly used up.
    for _ in 0..64 {
        // Random, so that two stacks that start at once rarely choose the same port.
        let random = u16::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().unwrap_or_default());
        let port = RANGE.start + random % (RANGE.end - RANGE.start);
        if is_free(port) {
            return Ok(port);
        }
    }
    // Then the kernel chooses, among the ephemeral ones.
    // Rather an ephemeral port than none: it is kept only as long as nothing else takes it.
    let listener = TcpListener::bind(loopback(0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("no free port on 127.0.0.1")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_port_is_kept_until_somebody_takes_it() {
        let port = choose(None).unwrap();
        assert_eq!(choose(Some(port)).unwrap(), port);
        let _taken = TcpListener::bind(loopback(port)).unwrap();
        assert!(!is_free(port));
        assert_ne!(choose(Some(port)).unwrap(), port);
    }
}
