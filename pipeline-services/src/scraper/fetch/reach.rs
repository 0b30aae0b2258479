//! Which addresses may be connected to: those of the public internet, and what the operator named.
//!
//! A portal file, a page or a robots.txt names hosts; whoever writes one must not be able to have
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

/// Where a fetcher may go.
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

    /// Whether the address was named by the operator, so that nothing is judged.
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

/// Whether an address is one of the public internet. What carries an IPv4 address is judged by it.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(network, length): &([u8; 4], u32)| {
        (address.to_bits() ^ Ipv4Addr::from(*network).to_bits()) >> (32 - length) == 0
    };
    !INSIDE_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let carried = Ipv4Addr::from_bits(u32::from(segments[6]) << 16 | u32::from(segments[7]));
    match segments {
        // Mapped addresses, and those of a translator to IPv4 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(carried),
        [first, second, ..] => {
            let start = u32::from(first) << 16 | u32::from(second);
            let within = |(network, length): &([u16; 2], u32)| {
                let network = u32::from(network[0]) << 16 | u32::from(network[1]);
                (start ^ network) >> (32 - length) == 0
            };
            first >> 13 == 1 && !INSIDE_V6.iter().any(within)
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
        Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<_>>()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_others() {
        let check =
            |text: &str, expected: bool| assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        for public in
            ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.17.0.1"]
        {
            check(public, true);
            check(&format!("::ffff:{public}"), true);
            check(&format!("64:ff9b::{public}"), true);
            check(&format!("::{public}"), false);
        }
        for inside in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            check(inside, false);
            check(&format!("::ffff:{inside}"), false);
            check(&format!("64:ff9b::{inside}"), false);
        }
    }

    #[test]
    fn public_addresses_of_six_are_told_from_others() {
        let check =
            |text: &str, expected: bool| assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        for public in ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "3ffe::1"] {
            check(public, true);
        }
        for inside in [
            "::",
            "::1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:808:808::1",
            "2002:7f00:1::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:0:7f00:1",
        ] {
            check(inside, false);
        }
    }

    #[test]
    fn literals_are_judged_in_any_spelling() {
        let check = |url: &str, expected: bool| {
            assert_eq!(check_literal(&url.parse().unwrap()).is_ok(), expected, "{url}");
        };
        for inside in
            ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254"]
        {
            check(&format!("http://{inside}:81/x"), false);
        }
        check("http://8.8.8.8/", true);
        check("http://portal.example/", true);
    }

    #[test]
    fn a_name_keeps_its_public_addresses() {
        let socket = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let check = |given: &[&str], expected: Result<&[&str], &str>| {
            let found = public_of("x.example", given.iter().map(|text| socket(text)).collect());
            let expected = expected.map(|list| list.iter().map(|text| socket(text)).collect::<Vec<_>>());
            assert_eq!(
                found.map_err(|error| error.to_string()),
                expected.map_err(str::to_owned),
                "{given:?}"
            );
        };
        check(&["10.0.0.1", "8.8.8.8", "::1"], Ok(&["8.8.8.8"]));
        check(&[], Ok(&[]));
        check(&["::1", "10.0.0.1"], Err("x.example has the address ::1, which is not public"));
    }

    #[test]
    fn the_operators_host_counts_with_its_port() {
        let own = ["http://127.0.0.1:81/portal", "http://sim/", "http://[::1]:81"];
        let reach = Reach::public_and(&own.map(|url| url.parse().unwrap()));
        let check =
            |url: &str, expected: bool| assert_eq!(reach.is_own(&url.parse().unwrap()), expected, "{url}");
        check("http://127.0.0.1:81/x", true);
        check("http://127.0.0.1:82/x", false);
        check("http://127.0.0.1/x", false);
        check("http://localhost:81/x", false);
        check("http://sim/x", true);
        check("http://sim:80/x", true);
        check("http://sim:81/x", false);
        check("https://sim/x", false);
        check("http://[::1]:81/x", true);
        check("http://[::1]/x", false);
        assert!(Reach::Anywhere.is_own(&"http://127.0.0.1:1".parse().unwrap()));
    }
}
