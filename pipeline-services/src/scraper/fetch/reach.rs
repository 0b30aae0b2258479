//! Which addresses may be connected to: those of the public internet, and what the operator named.
//!
//! A portal file, a page or a robots.txt names hosts; the author of one must not be able to have
//! inner services asked in our name. Names are judged by the addresses that the connection is made
//! to, so that one that means another address from one question to the next gains nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use url::{Host, Url};

/// IPv4 networks that are not public (IANA's registry of special-purpose addresses, and multicast).
const INSIDE_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same within 2000::/3, outside of which no IPv6 address is public: protocol assignments with
/// Teredo, documentation, and 6to4, which leads to an IPv4 address of the writer's choice.
const INSIDE_V6: [([u16; 2], u32); 4] =
    [([0x2001, 0], 23), ([0x2001, 0x0db8], 32), ([0x2002, 0], 16), ([0x3fff, 0], 20)];

/// The addresses that a fetcher may visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Public addresses, and these hosts, each with its port, wherever they are.
    Public {
        /// HOST:PORT of each.
        own: Vec<String>,
    },
    /// Every address: for the hosts that unit tests start.
    #[cfg(test)]
    Anywhere,
}

impl Reach {
    /// Public addresses, and where the operator's own addresses lead.
    pub(crate) fn public_and(own: &[Url]) -> Self {
        Self::Public { own: own.iter().map(place).collect() }
    }

    /// Returns whether the address was named by the operator, so that nothing is judged.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        match self {
            Self::Public { own } => own.contains(&place(url)),
            #[cfg(test)]
            Self::Anywhere => true,
        }
    }
}

fn place(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// An address that is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} has the address {address}, which is not public")]
pub(super) struct Inside {
    host: String,
    address: IpAddr,
}

/// Returns whether an address is one of the public internet. What carries an IPv4 address is judged
/// by it.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let address = address.to_bits();
    !INSIDE_V4.iter().any(|(network, length)| agree(address, u32::from_be_bytes(*network), *length))
}

/// Returns whether two addresses have their first bits in common.
fn agree(left: u32, right: u32, bits: u32) -> bool {
    // No network of the tables has length 0, at which the shift would overflow.
    (left ^ right) >> (32 - bits) == 0
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let carried = Ipv4Addr::from_bits(u32::from(segments[6]) << 16 | u32::from(segments[7]));
    match segments {
        // Mapped addresses, and those of a translator to IPv4 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(carried),
        [first, second, ..] => {
            let start = u32::from(first) << 16 | u32::from(second);
            let is_inside = INSIDE_V6.iter().any(|(network, length)| {
                agree(start, u32::from(network[0]) << 16 | u32::from(network[1]), *length)
            });
            first >> 13 == 1 && !is_inside
        }
    }
}

/// Refuses a literal address that is not public; a name is judged when it is resolved.
pub(super) fn check_literal(url: &Url) -> Result<(), Inside> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    if is_public(address) { Ok(()) } else { Err(Inside { host, address }) }
}

/// Those of a name's addresses that are public.
pub(super) fn public_of(host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Inside> {
    let refused = addresses.first().map(|address| address.ip());
    let public: Vec<_> = addresses.into_iter().filter(|address| is_public(address.ip())).collect();
    match refused {
        // A name without any address is not refused here: connecting to it fails by itself.
        Some(address) if public.is_empty() => Err(Inside { host: host.to_owned(), address }),
        _ => Ok(public),
    }
}

/// Addresses of a name, to come.
pub(in crate::scraper) type Lookup =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

/// The system's own resolver.
pub(super) fn system() -> Lookup {
    Arc::new(|name| {
        // The client replaces port 0 by that of the address it connects to.
        Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<_>>()) })
    })
}

#[cfg(test)]
mod tests;
