//! Addresses that must not be asked for, no matter which page or file names them.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::server::{Server, reply};
use crate::scraper::{
    fetch::{Counters, FetchError, FetchOptions, Fetcher, Lookup, Page, Reach, Request},
    portal::Method,
};

/// A resolver of ours: each name with its addresses, one list after the other, the last one again
/// and again.
fn names(known: &'static [(&'static str, &'static [&'static [&'static str]])]) -> (Lookup, Arc<AtomicUsize>) {
    let (asked, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let kept = counted.clone();
    let lookup: Lookup = Arc::new(move |name| {
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        counted.fetch_add(1, Ordering::SeqCst);
        let found =
            known.iter().find(|(host, _)| *host == name).map(|(_, lists)| lists[turn.min(lists.len() - 1)]);
        Box::pin(async move {
            let list = found.ok_or_else(|| io::Error::other("no such name"))?;
            Ok(list.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect())
        })
    });
    (lookup, kept)
}

fn options(own: &[&str]) -> FetchOptions {
    let own: Vec<_> = own.iter().map(|url| url.parse().unwrap()).collect();
    FetchOptions { reach: Reach::public_and(&own), max_tries: 3, ..FetchOptions::unhurried() }
}

async fn get(fetcher: &Fetcher, url: &str, hosts: &[&str]) -> Result<Page, FetchError> {
    let request = Request {
        method: Method::Get,
        url: url.parse().unwrap(),
        headers: Default::default(),
        body: None,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        min_delay: Default::default(),
    };
    fetcher.fetch(&request, &Counters::default()).await
}

const INNER: &[(&str, &[&[&str]])] = &[
    ("inner.example", &[&["127.0.0.1"]]),
    ("six.example", &[&["::1", "::ffff:127.0.0.1"]]),
    ("nat.example", &[&["64:ff9b::7f00:1"]]),
    ("zero.example", &[&["0.0.0.0"]]),
];

#[tokio::test]
async fn names_of_inner_addresses_are_not_asked_for() {
    let server = Server::start(|_| reply(200, "", "secret")).await;
    let port = server.origin.rsplit(':').next().unwrap();
    let (lookup, asked) = names(INNER);
    let fetcher = Fetcher::resolving(options(&[]), lookup).unwrap();
    let plain =
        Fetcher::resolving(FetchOptions { obey_robots: false, ..options(&[]) }, names(INNER).0).unwrap();
    for host in ["inner.example", "six.example", "nat.example", "zero.example", "127.0.0.1", "127.1", "[::1]"]
    {
        let url = format!("http://{host}:{port}/x");
        let error = get(&plain, &url, &[]).await.unwrap_err();
        assert_eq!(error.kind(), "inside", "{host}: {error}");
        assert!(error.to_string().contains("which is not public"), "{error}");
        // The same happens to the host's robots.txt, so that nothing of it is read either.
        let error = get(&fetcher, &url, &[]).await.unwrap_err();
        assert_eq!(error.kind(), "robots_unreachable", "{host}: {error}");
        assert!(error.to_string().contains("which is not public"), "{error}");
    }
    assert_eq!(server.log().len(), 0, "{:?}", server.log());
    assert_eq!(asked.load(Ordering::SeqCst), 4, "what is refused is not tried again");
}

#[tokio::test]
async fn redirects_and_robots_lead_to_no_inner_address() {
    let secret = Server::start(|_| reply(200, "", "secret")).await;
    let port: String = secret.origin.rsplit(':').next().unwrap().to_owned();
    let inner = format!("inner.example:{port}");
    let check = async |robots: bool, expected: &str| {
        let target = inner.clone();
        let portal = Server::start(move |seen| match seen.path.as_str() {
            "/robots.txt" if robots => reply(302, &format!("Location: http://{target}/delete?all=1\r\n"), ""),
            "/robots.txt" => reply(404, "", ""),
            _ => reply(302, &format!("Location: http://{target}/x\r\n"), ""),
        })
        .await;
        let fetcher = Fetcher::resolving(options(&[&portal.origin]), names(INNER).0).unwrap();
        let error = get(&fetcher, &format!("{}/x", portal.origin), &[&inner]).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
        assert!(error.to_string().contains("inner.example has the address 127.0.0.1"), "{error}");
    };
    check(true, "robots_unreachable").await;
    // The portal's file names the host, so the redirect is followed, up to the host's own
    // robots.txt.
    check(false, "robots_unreachable").await;
    assert_eq!(secret.log().len(), 0, "{:?}", secret.log());
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let server = Server::start(|_| reply(200, "", "secret")).await;
    let port = server.origin.rsplit(':').next().unwrap();
    // First a public address, then an inner one: what counts is the address of the connection.
    let (lookup, _) = names(&[("rebind.example", &[&["192.0.2.1", "127.0.0.1"], &["127.0.0.1"]])]);
    let fetcher = Fetcher::resolving(FetchOptions { obey_robots: false, ..options(&[]) }, lookup).unwrap();
    for _ in 0..3 {
        let error = get(&fetcher, &format!("http://rebind.example:{port}/x"), &[]).await.unwrap_err();
        assert_eq!(error.kind(), "inside", "{error}");
    }
    assert_eq!(server.log().len(), 0, "{:?}", server.log());
}

#[tokio::test]
async fn the_operators_own_address_is_asked_for_at_its_port_alone() {
    let own = Server::start(|_| reply(200, "", "ours")).await;
    let other = Server::start(|_| reply(200, "", "secret")).await;
    let port = own.origin.rsplit(':').next().unwrap();
    let named = format!("http://inner.example:{port}");
    let fetcher = Fetcher::resolving(
        FetchOptions { obey_robots: false, ..options(&[&format!("{named}/portal"), &own.origin]) },
        names(INNER).0,
    )
    .unwrap();
    for base in [&named, &own.origin] {
        assert_eq!(get(&fetcher, &format!("{base}/x"), &[]).await.unwrap().text, "ours");
    }
    let elsewhere = other.origin.rsplit(':').next().unwrap();
    for host in ["inner.example", "127.0.0.1"] {
        let error = get(&fetcher, &format!("http://{host}:{elsewhere}/x"), &[]).await.unwrap_err();
        assert_eq!(error.kind(), "inside", "{error}");
    }
    assert_eq!((own.log().len(), other.log().len()), (2, 0));
}
