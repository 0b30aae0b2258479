//! Ports on the loopback interface.
//!
//! A port is kept across restarts while it is free, so that peers reconnect by themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

/// Below the range Linux takes outgoing ports from, so that a port kept across restarts is rarely
/// taken meanwhile by somebody's outgoing connection.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The loopback address with this port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether the port can be listened on now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

/// `kept` when it is still free, else another free port. Somebody may take it before it is used;
/// callers start again with the next.
///
/// # Errors
/// If no port can be had at all.
pub(crate) fn choose(kept: Option<u16>) -> anyhow::Result<u16> {
    if let Some(port) = kept.filter(|&port| is_free(port)) {
        return Ok(port);
    }
    for _ in 0..64 {
        let random = u16::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().unwrap_or_default());
        let port = RANGE.start + random % (RANGE.end - RANGE.start);
        if is_free(port) {
            return Ok(port);
        }
    }
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
