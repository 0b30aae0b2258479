//! Whole crawls against a server of our own.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use tokio::sync::mpsc;

use super::{
    crawl_options, fetcher, portal,
    server::{Reply, Seen, Server, reply},
};
use crate::{
    domain::posting::NewPosting,
    scraper::{CrawlOptions, CrawlReport, Fate, Fetcher, Found, Portal, StopReason, crawl},
};

/// A small HTML portal: ten ads on pages of three, details, a next link.
const SHOP: &str = r#"
schema = 1
name = "shop"
[permission]
basis = "ask"
note = "nobody was asked"
[countries.CO]
base = "https://shop.example"
zone = "-05:00"
[expected]
company = 0.9
[listing]
url = "{base}/jobs"
cards = "article"
empty = { css = "p.none" }
pagination = { kind = "next", css = "a.next" }
[listing.fields]
external_id = { attr = "data-id" }
url = { css = "a", attr = "href" }
title = { css = "a" }
posted_date = { css = "time", date = "iso" }
[detail]
url = "{url}"
[detail.fields]
description = { css = "div.text", html = true }
company = { css = "b.company" }
"#;

fn ads(page: usize) -> std::ops::Range<usize> {
    (page * 3)..((page + 1) * 3).min(10)
}

fn shop_listing(seen: &Seen) -> Reply {
    let page = seen.path.split_once("p=").and_then(|(_, page)| page.parse().ok()).unwrap_or(0);
    let cards: String = ads(page)
        .map(|n| format!("<article data-id='{n}'><a href='/jobs/ad-{n}'>Ad {n}</a><time>2026-11-{:02}</time></article>", 20 - n))
        .collect();
    let next = if ads(page).end < 10 {
        format!("<a class=next href='?p={}'>more</a>", page + 1)
    } else {
        String::new()
    };
    reply(200, "", cards + &next)
}

fn shop(seen: &Seen) -> Reply {
    let path = seen.path.as_str();
    match path.strip_prefix("/jobs/ad-") {
        Some(number) => reply(
            200,
            "",
            format!("<div class=text><p>Text {number}</p></div><b class=company>C{number}</b>"),
        ),
        None if path.starts_with("/jobs") => shop_listing(seen),
        None => reply(404, "", ""),
    }
}

async fn run(portal: &Portal, options: &CrawlOptions, fetcher: &Fetcher) -> (CrawlReport, Vec<NewPosting>) {
    let (sink, mut source) = mpsc::channel(2);
    let (report, postings) = tokio::join!(crawl(portal, options, fetcher, sink), async {
        let mut postings = Vec::new();
        while let Some(found) = source.recv().await {
            if let Found::Ad(posting) = found {
                postings.push(*posting);
            }
        }
        postings
    });
    (report, postings)
}

async fn visit(
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    change: impl FnOnce(&mut CrawlOptions),
) -> (CrawlReport, Vec<String>, Server) {
    let server = Server::start(answer).await;
    let mut options = crawl_options("CO", server.origin.clone());
    change(&mut options);
    let shop = Portal::parse(SHOP).expect("a valid file");
    let (report, postings) = run(&shop, &options, &fetcher(|options| options.max_tries = 2)).await;
    let ids = postings.into_iter().filter_map(|posting| posting.external_id).collect();
    (report, ids, server)
}

#[tokio::test]
async fn a_listing_is_followed_to_its_end() {
    let server = Server::start(shop).await;
    let shop = Portal::parse(SHOP).unwrap();
    let (report, postings) = run(&shop, &crawl_options("CO", server.origin.clone()), &fetcher(|_| {})).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.stop, report.pages, report.cards, report.items), (StopReason::Exhausted, 4, 10, 10));
    assert_eq!((report.requests.requests, report.requests.by_status[&200]), (15, 14));
    let ids: Vec<&str> = postings.iter().filter_map(|posting| posting.external_id.as_deref()).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let third = &postings[3];
    assert_eq!((third.portal.as_str(), third.country.as_str(), third.title.as_str()), ("shop", "CO", "Ad 3"));
    assert_eq!((third.description.as_str(), third.company.as_deref()), ("<p>Text 3</p>", Some("C3")));
    assert_eq!(third.posted_date.map(|day| day.to_string()).as_deref(), Some("2026-11-17"));
    assert!(third.url.ends_with("/jobs/ad-3") && third.scraped_at.is_some());
    let shown = serde_json::to_value(&report).unwrap();
    assert_eq!((&shown["stop"], &shown["robots_obeyed"]), (&"exhausted".into(), &true.into()));
}

#[tokio::test]
async fn limits_known_ads_and_dates_are_kept() {
    let check = async |change: fn(&mut CrawlOptions), stop: StopReason, expected: &[&str]| {
        let (report, ids, server) = visit(shop, change).await;
        assert_eq!(
            (report.stop, ids.as_slice()),
            (stop, expected.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>().as_slice())
        );
        (report, server)
    };
    check(|options| options.max_pages = Some(1), StopReason::PageLimit, &["0", "1", "2"]).await;
    let (_, server) =
        check(|options| options.max_ads = Some(4), StopReason::AdLimit, &["0", "1", "2", "3"]).await;
    assert_eq!(server.count("/jobs/ad-4"), 0);
    check(
        |options| options.max_ads = Some(10),
        StopReason::AdLimit,
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    )
    .await;
    let (report, server) = check(
        |options| {
            options.known = (2..=8).map(|n| n.to_string()).collect();
            options.stale_pages = Some(1);
        },
        StopReason::Exhausted,
        &["0", "1"],
    )
    .await;
    assert_eq!((report.known, server.count("/jobs/ad-3")), (4, 0));
    let (report, _) =
        check(|options| options.since = "2026-11-18".parse().ok(), StopReason::Exhausted, &["0", "1", "2"])
            .await;
    assert_eq!(report.too_old, 7);
    assert!(report.is_whole());
}

#[tokio::test]
async fn an_interrupted_crawl_goes_on_where_it_was() {
    let shop_file = Portal::parse(SHOP).expect("a valid file");
    let whole = visit(shop, |_| {}).await.1;
    // What was sent until the page before the given one was done, and the rest.
    let check = async |interrupted_after: usize| {
        let server = Server::start(shop).await;
        let mut options = crawl_options("CO", server.origin.clone());
        options.known = HashSet::from(["0".to_owned()]);
        let (sink, mut source) = mpsc::channel(1);
        let fetcher = fetcher(|_| {});
        let (_, (mut sent, seen_again, cursor)) =
            tokio::join!(crawl(&shop_file, &options, &fetcher, sink), async move {
                let (mut sent, mut seen_again, mut pages) = (Vec::new(), Vec::new(), 0);
                loop {
                    match source.recv().await.expect("more") {
                        Found::Search(query) => assert_eq!(query, ""),
                        Found::Ad(ad) => sent.extend(ad.external_id),
                        Found::Page(done) => {
                            pages += 1;
                            seen_again.extend(done.seen_again);
                            if pages == interrupted_after {
                                break (sent, seen_again, done.cursor);
                            }
                        }
                    }
                }
            });
        assert_eq!(seen_again, ["0"]);
        assert_eq!(cursor.pages, interrupted_after as u64);
        let text = serde_json::to_string(&cursor).unwrap();
        options.from = serde_json::from_str(&text).unwrap();
        let (report, rest) = run(&shop_file, &options, &fetcher).await;
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.pages, 4, "each page once, before or after the interruption");
        sent.extend(rest.into_iter().filter_map(|ad| ad.external_id));
        assert_eq!(sent, whole[1..], "interrupted after {interrupted_after} pages");
    };
    check(1).await;
    check(2).await;
    check(3).await;
}

#[tokio::test]
async fn each_search_is_named_before_its_ads() {
    let server = Server::start(shop).await;
    let mut options = crawl_options("CO", server.origin.clone());
    options.queries = vec!["datos".to_owned(), "ventas".to_owned()];
    let (sink, mut source) = mpsc::channel(1);
    let shop = Portal::parse(SHOP).unwrap();
    let fetcher = fetcher(|_| {});
    let (_, told) = tokio::join!(crawl(&shop, &options, &fetcher, sink), async move {
        let mut told = Vec::new();
        while let Some(found) = source.recv().await {
            told.push(match found {
                Found::Search(query) => query,
                Found::Ad(_) => "ad".to_owned(),
                Found::Page(_) => "page".to_owned(),
            });
        }
        told
    });
    let place = |name: &str| told.iter().position(|found| found == name);
    assert_eq!(place("datos"), Some(0), "{told:?}");
    assert!(place("ad") > place("datos") && place("ventas") > place("page"), "{told:?}");
}

#[tokio::test]
async fn a_crawl_says_whether_it_is_worth_coming_back() {
    let answer = |status: u16, head: &'static str| move |_: &Seen| reply(status, head, "");
    let fate = async |status, head| visit(answer(status, head), |_| {}).await.0;
    let parked = fate(429, "Retry-After: 86400\r\n").await;
    assert_eq!((parked.stop, parked.fate()), (StopReason::RobotsUnreachable, Fate::Away));
    let outage = fate(503, "").await;
    assert_eq!((outage.stop, outage.fate()), (StopReason::RobotsUnreachable, Fate::Away));
    let away = visit(|_| Reply::Bytes(Vec::new()), |_| {}).await.0;
    assert_eq!(away.fate(), Fate::Away, "{away:?}");
    let busy = |seen: &Seen| match seen.path.as_str() {
        "/robots.txt" => reply(404, "", ""),
        _ => reply(429, "Retry-After: 86400\r\n", ""),
    };
    let busy = visit(busy, |_| {}).await.0;
    assert_eq!((busy.stop, busy.fate()), (StopReason::Parked, Fate::Away));
    assert_eq!(busy.come_back.map(|wait| wait.as_secs() / 100), Some(864));
    let changed = visit(|_| reply(200, "", "<section>new layout</section>"), |_| {}).await.0;
    assert_eq!(changed.fate(), Fate::Failed);
    let images = |seen: &Seen| match seen.path.as_str() {
        "/jobs" | "/robots.txt" => shop(seen),
        _ => reply(200, "Content-Type: image/png\r\n", "x"),
    };
    assert_eq!(visit(images, |_| {}).await.0.fate(), Fate::Failed);
    assert_eq!(visit(|_| reply(403, "", ""), |_| {}).await.0.fate(), Fate::Failed);
    assert_eq!(visit(|_| reply(200, "", "<p class=none>nothing</p>"), |_| {}).await.0.fate(), Fate::Done);
    assert_eq!(visit(shop, |options| options.max_ads = Some(1)).await.0.fate(), Fate::Done);
}

#[tokio::test]
async fn one_bad_ad_spoils_nothing_else() {
    let answer = |seen: &Seen| match seen.path.as_str() {
        "/jobs/ad-0" => reply(404, "", ""),
        "/jobs/ad-1" => reply(500, "", ""),
        "/jobs/ad-2" => reply(200, "", "<p>another layout</p>"),
        "/jobs/ad-4" => reply(302, "Location: /jobs\r\n", ""),
        "/jobs/ad-5" => Reply::Bytes(Vec::new()),
        _ => shop(seen),
    };
    let (report, ids, server) = visit(answer, |_| {}).await;
    assert_eq!(ids, ["3", "6", "7", "8", "9"]);
    assert_eq!((report.stop, report.closed, report.error_count()), (StopReason::Exhausted, 2, 3));
    assert_eq!(report.errors_by_kind, BTreeMap::from([("layout", 1), ("network", 1), ("status", 1)]));
    assert_eq!(report.errors[0].url, format!("{}/jobs/ad-1", server.origin));
    assert!(!report.is_whole());
}

#[tokio::test]
async fn a_refusal_ends_the_crawl() {
    let answer = |seen: &Seen| match seen.path.as_str() {
        "/jobs/ad-4" => reply(403, "", ""),
        _ => shop(seen),
    };
    let (report, ids, server) = visit(answer, |options| options.details_at_once = Some(1)).await;
    assert_eq!((report.stop, ids.len(), report.requests.blocked), (StopReason::Blocked, 4, 1));
    assert_eq!((server.count("/jobs/ad-5"), report.errors_by_kind["blocked"]), (0, 1));
    let (report, ids, server) = visit(|_| reply(200, "", "<input type=password>"), |_| {}).await;
    assert_eq!((report.stop, ids.len(), server.count("/jobs")), (StopReason::Blocked, 0, 1));
}

#[tokio::test]
async fn changed_pages_are_reported_as_such() {
    let (report, ids, _) = visit(|_| reply(200, "", "<section>new layout</section>"), |_| {}).await;
    assert!(ids.is_empty() && !report.is_whole());
    assert!(report.problems[0].starts_with("layout change: `article` finds no ad"), "{:?}", report.problems);
    let (report, _, _) = visit(|_| reply(200, "", "<p class=none>nothing today</p>"), |_| {}).await;
    assert!(report.is_whole(), "{report:?}");
    let without_company = |seen: &Seen| match seen.path.starts_with("/jobs/ad-") {
        true => reply(200, "", "<div class=text>x</div>"),
        false => shop(seen),
    };
    let (report, ids, _) = visit(without_company, |_| {}).await;
    assert_eq!((ids.len(), report.missing.get("company")), (10, Some(&10)));
    assert_eq!(report.problems, ["layout change: only 0 % of the ads have company, expected are 90 %"]);
}

#[tokio::test]
async fn listings_without_an_end_are_left() {
    let same_page = |seen: &Seen| match seen.path.as_str() {
        "/jobs" => reply(
            200,
            "",
            "<article data-id=1><a href='/jobs/ad-1'>A</a></article><a class=next href='/jobs'>x</a>",
        ),
        _ => shop(seen),
    };
    let (report, ids, server) = visit(same_page, |_| {}).await;
    assert_eq!((ids.len(), server.count("/jobs")), (1, 1));
    assert!(report.problems[0].starts_with("pagination leads in circles"), "{:?}", report.problems);
    let counter = Mutex::new(0);
    let ever_new_address = move |seen: &Seen| {
        let mut counter = counter.lock().unwrap();
        *counter += 1;
        if seen.path.starts_with("/jobs/ad") {
            return shop(seen);
        }
        reply(
            200,
            "",
            format!(
                "<article data-id=1><a href='/jobs/ad-1'>A</a></article><a class=next href='?p={counter}'>x</a>"
            ),
        )
    };
    let (report, ids, server) = visit(ever_new_address, |_| {}).await;
    assert!(report.problems[0].starts_with("pagination leads in circles"), "{:?}", report.problems);
    assert_eq!((ids.len(), server.count("/jobs"), report.stop), (1, 2, StopReason::Exhausted));
}

#[tokio::test]
async fn a_listing_that_ends_early_is_reported() {
    let check = async |total: usize, expected: &[&str]| {
        let counted = move |seen: &Seen| match seen.path.strip_prefix("/jobs?p=3") {
            Some(_) => reply(
                200,
                "",
                format!("<h1>{total}.000</h1><article data-id=9><a href='/jobs/ad-9'>A</a></article>"),
            ),
            None => shop(seen),
        };
        let server = Server::start(counted).await;
        let shop =
            Portal::parse(&SHOP.replace("cards =", "total = { css = 'h1', regex = '[0-9]+' }\ncards ="))
                .unwrap();
        let (report, _) = run(&shop, &crawl_options("CO", server.origin.clone()), &fetcher(|_| {})).await;
        assert_eq!(
            (report.problems, report.items),
            (expected.iter().map(|text| (*text).to_owned()).collect(), 10)
        );
    };
    check(11, &[]).await;
    check(12, &["the portal says it has 12 ads, its listing ends after 10"]).await;
}

#[tokio::test]
async fn duplicates_are_fetched_once() {
    let answer = |seen: &Seen| match seen.path.as_str() {
        "/jobs" => {
            let card =
                |id: u32, link: &str| format!("<article data-id={id}><a href='{link}'>A</a></article>");
            reply(
                200,
                "",
                [card(1, "/jobs/ad-1"), card(1, "/jobs/ad-1?utm_source=x"), card(2, "/jobs/ad-2#f")].concat(),
            )
        }
        _ => shop(seen),
    };
    let (report, ids, server) =
        visit(answer, |options| options.queries = vec!["a".to_owned(), "b".to_owned()]).await;
    assert_eq!(
        (ids.as_slice(), server.count("/jobs/ad-1")),
        (["1".to_owned(), "2".to_owned()].as_slice(), 1)
    );
    // The second search has the same address here, so that both its pages count.
    assert_eq!((report.pages, report.cards, report.duplicates), (2, 6, 4));
}

#[tokio::test]
async fn crawls_that_cannot_begin_say_why() {
    let check = async |change: fn(&mut CrawlOptions), stop: StopReason, expected: &str| {
        let (report, ids, server) = visit(shop, change).await;
        assert_eq!((report.stop, ids.len(), server.log().len()), (stop, 0, 0));
        assert!(report.problems[0].contains(expected), "{:?}", report.problems);
    };
    check(
        |options| options.country = "MX".to_owned(),
        StopReason::Refused,
        "country: `MX` is not one of shop; it has CO",
    )
    .await;
    check(
        |options| options.base_url = Some("ftp://x".to_owned()),
        StopReason::Refused,
        "base_url: `ftp://x`",
    )
    .await;
    check(
        |options| options.base_url = None,
        StopReason::NotPermitted,
        "shop has not been asked for permission",
    )
    .await;
}

#[tokio::test]
async fn robots_txt_decides_about_listings_and_details() {
    let answer = |rule: &'static str| {
        move |seen: &Seen| match seen.path.as_str() {
            "/robots.txt" => reply(200, "", format!("User-agent: *\nDisallow: {rule}")),
            _ => shop(seen),
        }
    };
    let (report, _, server) = visit(answer("/"), |_| {}).await;
    assert_eq!(
        (report.stop, server.log().len(), report.requests.robots_denied),
        (StopReason::RobotsDenied, 1, 1)
    );
    let (report, ids, _) = visit(answer("/jobs/ad-1"), |_| {}).await;
    assert_eq!((ids.len(), report.errors_by_kind["robots_denied"]), (9, 1));
}

#[tokio::test]
async fn a_receiver_that_leaves_ends_the_crawl() {
    let server = Server::start(shop).await;
    let (sink, mut source) = mpsc::channel(1);
    let shop = Portal::parse(SHOP).unwrap();
    let options = crawl_options("CO", server.origin.clone());
    let fetcher = fetcher(|_| {});
    let (report, first) = tokio::join!(crawl(&shop, &options, &fetcher, sink), async {
        let first = source.recv().await;
        drop(source);
        first
    });
    assert!(first.is_some());
    assert_eq!(report.stop, StopReason::SinkClosed);
}

#[tokio::test]
async fn failing_ads_do_not_go_on_for_ever() {
    let answer = |seen: &Seen| match seen.path.as_str() {
        "/jobs" => {
            let cards: String = (0..50)
                .map(|n| format!("<article data-id={n}><a href='/jobs/ad-{n}'>A</a></article>"))
                .collect();
            reply(200, "", cards)
        }
        "/robots.txt" => reply(404, "", ""),
        _ => reply(400, "", ""),
    };
    let (report, _, _) = visit(answer, |_| {}).await;
    assert_eq!((report.stop, report.error_count()), (StopReason::TooManyErrors, 20));
}

/// The interface of Bumeran as documented: POST with the site's id, pages from 0, details by id.
fn interface(seen: &Seen) -> Reply {
    let json = "Content-Type: application/json\r\n";
    let head = seen.head.to_lowercase();
    let path = seen.path.strip_prefix("/bumeran/ar").unwrap_or_default();
    if !path.starts_with("/api/") {
        return reply(404, "", "");
    }
    if !head.contains("x-site-id: bmar") {
        return reply(400, json, r#"{"message":"Falta el header x-site-id"}"#);
    }
    if let Some(id) = path.strip_prefix("/api/candidates/fichaAvisoNormalizada/") {
        let state = if id == "5" { "vencido" } else { "activo" };
        return reply(
            200,
            json,
            format!(
                r#"{{"aviso":{{"id":{id},"titulo":"Puesto {id}","descripcion":"<p>x</p>","estado":"{state}"}}}}"#
            ),
        );
    }
    let good =
        seen.method == "POST" && seen.body == r#"{"filtros":[],"query":"señor \"x\"","internacional":false}"#;
    assert!(good && head.contains("content-type: application/json"), "{seen:?}");
    let page: usize =
        path.split_once("&page=").map(|(_, rest)| rest.split('&').next().unwrap().parse().unwrap()).unwrap();
    let content: Vec<String> = [vec![1, 2, 3], vec![4, 5]]
        .get(page)
        .cloned()
        .unwrap_or_default()
        .iter()
        .map(|id| format!(r#"{{"id":{id},"titulo":"Puesto {id}","empresa":"Ñandú SA"}}"#))
        .collect();
    reply(200, json, format!(r#"{{"content":[{}],"total":5}}"#, content.join(",")))
}

#[tokio::test]
async fn a_json_interface_below_a_path() {
    let server = Server::start(interface).await;
    let mut options = crawl_options("AR", format!("{}/{{portal}}/{{country}}", server.origin));
    options.queries = vec!["señor \"x\"".to_owned()];
    let (report, postings) = run(&portal("bumeran"), &options, &fetcher(|_| {})).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.pages, report.items, report.closed), (3, 4, 1));
    let urls: HashSet<&str> = postings.iter().map(|posting| posting.url.as_str()).collect();
    assert!(
        urls.contains(format!("{}/bumeran/ar/empleos/puesto-4-nandu-sa-4.html", server.origin).as_str()),
        "{urls:?}"
    );
}

#[tokio::test]
async fn a_crawl_may_move_between_threads() {
    let (sink, _source) = mpsc::channel(1);
    let handle = tokio::spawn(async move {
        let fetcher = fetcher(|_| {});
        let options = CrawlOptions { country: "XX".to_owned(), ..CrawlOptions::default() };
        crawl(&portal("elempleo"), &options, &fetcher, sink).await.stop
    });
    assert_eq!(handle.await.unwrap(), StopReason::Refused);
}
