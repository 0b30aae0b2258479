//! The fetcher against a server that misbehaves.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::AsyncWriteExt;

use super::{
    fetcher,
    server::{Reply, Seen, Server, reply},
};
use crate::scraper::{
    fetch::{Counters, FetchError, FetchOptions, Fetcher, Page, Request},
    portal::Method,
};

fn request(server: &Server, path: &str) -> Request {
    request_of(&format!("{}{path}", server.origin))
}

fn request_of(url: &str) -> Request {
    Request {
        method: Method::Get,
        url: url.parse().unwrap(),
        headers: BTreeMap::new(),
        body: None,
        hosts: Vec::new(),
        min_delay: Duration::ZERO,
    }
}

async fn get(fetcher: &Fetcher, server: &Server, path: &str) -> Result<Page, FetchError> {
    fetcher.fetch(&request(server, path), &Counters::default()).await
}

/// What one page of a server that has no robots.txt becomes: its text, or the kind of the error.
async fn outcome(
    change: impl FnOnce(&mut FetchOptions),
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (Result<String, &'static str>, Server) {
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/robots.txt" => reply(404, "", ""),
        _ => answer(seen),
    })
    .await;
    let page = get(&fetcher(change), &server, "/x").await;
    (page.map(|page| page.text).map_err(|error| error.kind()), server)
}

#[tokio::test]
async fn a_page_is_fetched_under_our_own_name() {
    let (text, server) = outcome(|_| {}, |_| reply(200, "", "hola")).await;
    assert_eq!(text.as_deref(), Ok("hola"));
    let log = server.log();
    assert_eq!(log.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/robots.txt", "/x"]);
    let named = format!("user-agent: LaborMarketObservatory/{}", env!("CARGO_PKG_VERSION"));
    assert!(log.iter().all(|seen| seen.head.to_lowercase().contains(&named.to_lowercase())), "{log:?}");
}

#[tokio::test]
async fn a_list_of_names_is_used_in_turn() {
    let server = Server::start(|_| reply(200, "", "")).await;
    let fetcher = fetcher(|options| {
        options.user_agents = vec!["one".to_owned(), "two".to_owned()];
        options.obey_robots = false;
    });
    for path in ["/1", "/2", "/3"] {
        get(&fetcher, &server, path).await.unwrap();
    }
    let names: Vec<bool> = server.log().iter().map(|seen| seen.head.contains("one")).collect();
    assert_eq!(names, [true, false, true]);
    assert_eq!(server.count("/robots.txt"), 0);
}

#[tokio::test]
async fn robots_txt_is_obeyed_and_asked_for_once() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/robots.txt" => {
            reply(200, "Content-Type: text/plain\r\n", "User-agent: *\nDisallow: /no\nDisallow: /*?x=")
        }
        "/moved" => reply(302, "Location: /no/2\r\n", ""),
        _ => reply(200, "", "ok"),
    })
    .await;
    let fetcher = fetcher(|_| {});
    let mut kinds = Vec::new();
    for path in ["/yes", "/no/1", "/a?x=1", "/moved"] {
        kinds.push(get(&fetcher, &server, path).await.map_or_else(|error| error.kind(), |_| "ok"));
    }
    assert_eq!(kinds, ["ok", "robots_denied", "robots_denied", "robots_denied"]);
    assert_eq!((server.count("/robots.txt"), server.count("/no/1"), server.count("/no/2")), (1, 0, 0));
    assert_eq!(fetcher.counters().robots_denied, 3);
}

#[tokio::test]
async fn robots_txt_that_cannot_be_had_forbids_everything() {
    let check = async |status: u16, expected: &'static str| {
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/robots.txt" => reply(status, "", "User-agent: *\nDisallow: /"),
            _ => reply(200, "", "ok"),
        })
        .await;
        let page = get(&fetcher(|options| options.max_tries = 2), &server, "/x").await;
        assert_eq!(page.map_or_else(|error| error.kind(), |_| "ok"), expected, "{status}");
    };
    check(200, "robots_denied").await;
    check(404, "ok").await;
    check(403, "ok").await;
    check(500, "robots_unreachable").await;
    check(503, "robots_unreachable").await;
    check(429, "robots_unreachable").await;
}

#[tokio::test]
async fn robots_txt_may_move_and_be_silent() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/robots.txt" => reply(301, "Location: /r2\r\n", ""),
        "/r2" => reply(200, "", "User-agent: *\nDisallow: /"),
        _ => reply(200, "", "ok"),
    })
    .await;
    assert_eq!(get(&fetcher(|_| {}), &server, "/x").await.unwrap_err().kind(), "robots_denied");
    let silent = Server::start(|_| Reply::Silence).await;
    let fetcher = fetcher(|options| {
        options.robots_timeout = Duration::from_millis(50);
        options.max_tries = 1;
    });
    let error = get(&fetcher, &silent, "/x").await.unwrap_err();
    assert!(matches!(error, FetchError::RobotsUnreachable { .. }), "{error}");
    // The second page does not ask again.
    get(&fetcher, &silent, "/y").await.unwrap_err();
    assert_eq!(silent.log().len(), 1);
}

#[tokio::test]
async fn busy_servers_are_asked_again() {
    let check = async |status: u16,
                       header: &'static str,
                       fails: usize,
                       expected: Result<&str, &str>,
                       tries: usize| {
        let count = AtomicUsize::new(0);
        let (text, server) = outcome(
            |options| options.max_tries = 3,
            move |_| match count.fetch_add(1, Ordering::Relaxed) {
                before if before < fails => reply(status, header, "later"),
                _ => reply(200, "", "ok"),
            },
        )
        .await;
        assert_eq!(text.as_deref().map_err(|kind| *kind), expected, "{status} {header}");
        assert_eq!(server.count("/x"), tries, "{status} {header}");
    };
    check(503, "", 2, Ok("ok"), 3).await;
    check(429, "", 1, Ok("ok"), 2).await;
    check(429, "Retry-After: nonsense\r\n", 1, Ok("ok"), 2).await;
    check(429, "Retry-After: -5\r\n", 1, Ok("ok"), 2).await;
    check(429, "Retry-After: 86400\r\n", 9, Err("parked"), 1).await;
    check(500, "", 9, Err("status"), 3).await;
    check(418, "", 9, Err("status"), 1).await;
    check(404, "", 9, Err("gone"), 1).await;
    check(410, "", 9, Err("gone"), 1).await;
}

#[tokio::test]
async fn the_time_that_a_host_asks_for_is_kept_by_all_requests() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => reply(429, "Retry-After: 1\r\n", ""),
        _ => reply(200, "", "ok"),
    })
    .await;
    let fetcher = fetcher(|options| options.obey_robots = false);
    let (first, second) = tokio::join!(get(&fetcher, &server, "/1"), async {
        while server.log().is_empty() {
            tokio::task::yield_now().await;
        }
        // The answer that asks for a pause is on its way; the next request of ours comes after it.
        get(&fetcher, &server, "/1").await
    });
    assert!(first.is_ok() && second.is_ok());
    let log = server.log();
    assert!(log.last().unwrap().at - log[0].at >= Duration::from_millis(990), "{log:?}");
    assert_eq!(fetcher.counters().by_status[&429], 1);
}

#[tokio::test]
async fn a_refusal_ends_the_visit() {
    let check = async |status: u16, headers: &'static str, body: &'static str, expected: &str| {
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/robots.txt" => reply(404, "", ""),
            _ => reply(status, headers, body),
        })
        .await;
        let fetcher = fetcher(|_| {});
        let error = get(&fetcher, &server, "/1").await.unwrap_err();
        assert_eq!(error.kind(), "blocked", "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(get(&fetcher, &server, "/2").await.unwrap_err().kind(), "blocked");
        assert_eq!((server.count("/1"), server.count("/2")), (1, 0));
        assert_eq!(fetcher.counters().blocked, 1);
    };
    let server = Server::start(|_| reply(403, "", "")).await;
    let forgetful = fetcher(|options| (options.blocked_for, options.obey_robots) = (Duration::ZERO, false));
    for path in ["/1", "/2"] {
        assert_eq!(get(&forgetful, &server, path).await.unwrap_err().kind(), "blocked");
    }
    assert_eq!(server.log().len(), 2);
    check(403, "", "no", "status 403").await;
    check(401, "", "no", "a login is asked for").await;
    check(503, "cf-mitigated: challenge\r\n", "", "a challenge page").await;
    check(200, "", "<html><title>Just a moment...</title>", "a challenge page").await;
    check(429, "", "<script>window._cf_chl_opt={}</script>", "a challenge page").await;
}

#[tokio::test]
async fn redirects_stay_on_the_portal_and_end() {
    let check = async |location: &'static str, expected: Result<&str, &str>| {
        let (text, server) = outcome(
            |options| options.max_redirects = 5,
            move |seen| match seen.path.as_str() {
                "/x" => reply(302, &format!("Location: {location}\r\n"), ""),
                "/a" => reply(301, "Location: /b\r\n", ""),
                "/b" => reply(301, "Location: /a\r\n", ""),
                "/ok" => reply(200, "", "ok"),
                path => {
                    let next = path.trim_start_matches('/').parse::<u32>().unwrap_or(0) + 1;
                    reply(307, &format!("Location: /{next}\r\n"), "")
                }
            },
        )
        .await;
        assert_eq!(text.as_deref().map_err(|kind| *kind), expected, "{location}");
        assert!(server.log().len() < 12);
    };
    check("/ok", Ok("ok")).await;
    check("ok#part", Ok("ok")).await;
    check("/a", Err("redirect")).await;
    check("/x", Err("redirect")).await;
    check("/1", Err("redirect")).await;
    check("http://127.0.0.1:1/", Err("redirect")).await;
    check("http://169.254.169.254/latest", Err("redirect")).await;
    check("file:///etc/hostname", Err("redirect")).await;
    check("http://[", Err("redirect")).await;
    let (text, _) = outcome(|_| {}, |_| reply(302, "", "")).await;
    assert_eq!(text, Err("redirect"));
}

#[tokio::test]
async fn large_and_slow_answers_are_given_up() {
    let small = |options: &mut FetchOptions| {
        options.max_bytes = 10_000;
        options.max_tries = 1;
        options.read_timeout = Duration::from_millis(200);
        options.total_timeout = Duration::from_millis(400);
    };
    let head = b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\n\r\n".to_vec();
    let (text, _) = outcome(small, |_| reply(200, "", vec![b'x'; 10_001])).await;
    assert_eq!(text, Err("too_large"));
    let (text, _) = outcome(small, |_| reply(200, "", vec![b'x'; 10_000])).await;
    assert_eq!(text.map(|text| text.len()), Ok(10_000));
    let endless = head.clone();
    let (text, _) = outcome(small, move |_| Reply::Flood(endless.clone(), vec![b'x'; 5_000])).await;
    assert_eq!(text, Err("too_large"));
    let started = Instant::now();
    let (text, _) = outcome(small, |_| Reply::Silence).await;
    assert_eq!(text, Err("timeout"));
    let stuck = [head.clone(), b"part".to_vec()].concat();
    let (text, _) = outcome(small, move |_| Reply::Drip(stuck.clone(), Duration::from_secs(60))).await;
    assert_eq!(text, Err("timeout"));
    let slow = head.clone();
    let (text, _) = outcome(small, move |_| Reply::Drip(slow.clone(), Duration::from_millis(20))).await;
    assert_eq!(text, Err("timeout"));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn packed_answers_are_measured_unpacked() {
    let packed = |size: usize| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'a'; size]).unwrap();
        encoder.finish().unwrap()
    };
    let check = async |body: Vec<u8>, expected: Result<usize, &str>| {
        let change = |options: &mut FetchOptions| {
            options.max_bytes = 100_000;
            options.max_tries = 1;
        };
        let (text, _) = outcome(change, move |_| reply(200, "Content-Encoding: gzip\r\n", &body)).await;
        assert_eq!(text.map(|text| text.len()), expected);
    };
    check(packed(50_000), Ok(50_000)).await;
    check(packed(20_000_000), Err("too_large")).await;
    check(b"not gzip".to_vec(), Err("network")).await;
    check(packed(50_000)[..30].to_vec(), Err("network")).await;
}

#[tokio::test]
async fn broken_answers_are_tried_again() {
    let check = async |bytes: &'static [u8], expected: Result<&str, &str>, tries: usize| {
        let (text, server) =
            outcome(|options| options.max_tries = 2, move |_| Reply::Bytes(bytes.to_vec())).await;
        assert_eq!(text.as_deref().map_err(|kind| *kind), expected);
        assert_eq!(server.count("/x"), tries);
    };
    check(b"HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\nshort", Err("network"), 2).await;
    check(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err("network"), 2).await;
    check(b"nonsense\r\n\r\n", Err("network"), 2).await;
    check(b"", Err("network"), 2).await;
    check(b"HTTP/1.0 200 X\r\n\r\nold", Ok("old"), 1).await;
    check(b"HTTP/1.1 204 X\r\n\r\n", Ok(""), 1).await;
    check(b"HTTP/1.1 200 X\r\nContent-Type: image/png\r\n\r\nxx", Err("not_text"), 1).await;
    check(b"HTTP/1.1 304 X\r\n\r\n", Err("status"), 1).await;
}

#[tokio::test]
async fn text_is_decoded_whatever_the_server_claims() {
    let check = async |headers: &'static str, body: &'static [u8], expected: &str| {
        let (text, _) = outcome(|_| {}, move |_| reply(200, headers, body)).await;
        assert_eq!(text.as_deref(), Ok(expected), "{headers}");
    };
    check("Content-Type: text/html; charset=utf-8\r\n", b"a\xf1o", "año").await;
    check("Content-Type: text/html; charset=iso-8859-1\r\n", b"a\xf1o", "año").await;
    check("Content-Type: text/html\r\n", "año".as_bytes(), "año").await;
}

#[tokio::test]
async fn a_connection_refused_is_a_network_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fetcher = fetcher(|options| options.max_tries = 2);
    let error = fetcher.fetch(&request_of(&origin), &Counters::default()).await.unwrap_err();
    assert_eq!(error.kind(), "robots_unreachable");
    assert_eq!(fetcher.counters().network_errors, 2);
}

#[tokio::test]
async fn requests_to_a_host_start_apart() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/robots.txt" => reply(200, "", "User-agent: *\nCrawl-delay: 0.06"),
        _ => reply(200, "", "ok"),
    })
    .await;
    let fetcher = fetcher(|_| {});
    let paths: Vec<String> = (0..5).map(|number| format!("/{number}")).collect();
    futures::future::join_all(paths.iter().map(|path| get(&fetcher, &server, path))).await;
    let log = server.log();
    assert_eq!(log.len(), 6);
    let mut starts: Vec<Instant> = log.iter().skip(1).map(|seen| seen.at).collect();
    starts.sort();
    // The starts are 60 ms apart; what the clock of the server sees may lag behind a little.
    assert!(starts[4] - starts[0] >= Duration::from_millis(200), "{starts:?}");
}

#[tokio::test]
async fn options_are_checked() {
    let check = |change: fn(&mut FetchOptions), expected: &str| {
        let mut options = FetchOptions::unhurried();
        change(&mut options);
        let message = Fetcher::new(options).expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(|options| options.user_agents.clear(), "user_agents needs at least one");
    check(|options| options.user_agents = vec!["a\nb".to_owned()], "printable ASCII");
    check(|options| options.per_host = 0, "per_host is 0");
    check(|options| options.max_tries = 0, "max_tries is 0");
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed() {
    let check = async |per_host: usize, global: usize, expected: usize| {
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (now_there, most_there) = (now.clone(), most.clone());
        // Answers take a moment, so that requests pile up to what is allowed.
        let server = Server::start(move |_| {
            most_there.fetch_max(now_there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Reply::Late(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n".to_vec(), now_there.clone())
        })
        .await;
        let fetcher = fetcher(|options| {
            options.obey_robots = false;
            (options.per_host, options.global) = (per_host, global);
        });
        let paths: Vec<String> = (0..24).map(|number| format!("/{number}")).collect();
        let pages = futures::future::join_all(paths.iter().map(|path| get(&fetcher, &server, path))).await;
        assert!(pages.iter().all(Result::is_ok));
        assert_eq!((most.load(Ordering::SeqCst), now.load(Ordering::SeqCst)), (expected, 0));
    };
    check(3, 16, 3).await;
    check(8, 2, 2).await;
    check(1, 16, 1).await;
}

#[tokio::test]
async fn a_server_without_tls_is_a_network_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 X\r\n\r\n").await;
        }
    });
    let fetcher = fetcher(|options| (options.max_tries, options.obey_robots) = (1, false));
    let error = fetcher.fetch(&request_of(&url), &Counters::default()).await.unwrap_err();
    assert_eq!(error.kind(), "network", "{error}");
}
