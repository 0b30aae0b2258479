//! What goes wrong on demand, and the judgement of a reader's manners.

use std::time::{Duration, Instant};

use observatory_tests::simulator::{Config, Simulator};
use tokio::net::TcpStream;

use crate::client::{all, get, send};

const LISTING: &str = "/computrabajo/co/ofertas-de-trabajo/";

async fn start(faults: &[&str]) -> Simulator {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    Simulator::start(Config { ads: Config::spread(180), faults, ..Config::default() }).await.unwrap()
}

#[tokio::test]
async fn every_nth_request_is_too_many() {
    let simulator = start(&["computrabajo/too-many-requests:every=3,retry-after=7"]).await;
    let mut statuses = Vec::new();
    for number in 1..=6 {
        let reply = get(simulator.address(), &format!("{LISTING}?p={number}")).await;
        assert_eq!(
            reply.headers.get("retry-after").map(String::as_str),
            (reply.status == 429).then_some("7")
        );
        statuses.push(reply.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200, 200, 429]);
    assert_eq!(
        get(simulator.address(), "/robots.txt").await.status,
        200,
        "robots.txt is neither counted nor hit"
    );
    assert_eq!(get(simulator.address(), "/elempleo/co/co/ofertas-empleo/").await.status, 200);
    assert_eq!(simulator.stats().early_retries, 0);
    get(simulator.address(), &format!("{LISTING}?p=6")).await;
    assert_eq!(simulator.stats().early_retries, 1, "asked again long before seven seconds");
}

#[tokio::test]
async fn bursts_walls_and_cuts() {
    let simulator = start(&["unavailable:after=1,count=2"]).await;
    let address = simulator.address();
    let statuses = || async {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(get(address, LISTING).await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 503, 503, 200]);
    simulator.set_faults(vec!["challenge:after=2".parse().unwrap()]);
    assert_eq!(statuses().await, [200, 200, 403, 403]);
    let wall = get(address, LISTING).await;
    assert_eq!(wall.headers["cf-mitigated"], "challenge");
    assert!(wall.body.contains("Just a moment...") && !wall.body.contains("box_offer"));
    simulator.set_faults(vec!["cut:every=2".parse().unwrap()]);
    for expected_whole in [true, false, true] {
        let reply = get(address, LISTING).await;
        let told: usize = reply.headers["content-length"].parse().unwrap();
        assert_eq!(reply.body.len() == told, expected_whole, "{} of {told}", reply.body.len());
    }
}

#[tokio::test]
async fn a_changed_layout_has_none_of_the_documented_names() {
    let simulator = start(&[]).await;
    let address = simulator.address();
    let site = [("x-site-id", "BMAR")];
    let search = "/bumeran/ar/api/avisos/searchV2?pageSize=20&page=0";
    let names = [
        (LISTING, ["article class=\"box_offer", "js-o-link"]),
        ("/elempleo/co/co/ofertas-empleo/", ["result-item", "data-ga4-offerdata"]),
        (search, ["\"content\":", "\"titulo\":"]),
    ];
    for change in [false, true] {
        simulator.set_faults(change.then(|| "layout-change".parse().unwrap()).into_iter().collect());
        for (path, names) in names {
            let method = if path == search { "POST" } else { "GET" };
            let page = send(address, method, path, &site, r#"{"filtros":[]}"#).await;
            assert_eq!(page.status, 200);
            for name in names {
                assert_ne!(page.body.contains(name), change, "{path} {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_pagination_loop_never_ends() {
    let simulator = start(&["pagination-loop"]).await;
    let address = simulator.address();
    let ids = |page: &str| all(page, "data-id=['\"]", "['\"]");
    let first = get(address, LISTING).await.body;
    for number in [2, 3, 500] {
        let page = get(address, &format!("{LISTING}?p={number}")).await.body;
        assert_eq!(ids(&page), ids(&first));
        assert!(page.contains("title=\"Siguiente\""));
    }
    let page = get(address, "/elempleo/co/co/ofertas-empleo/?page=900").await.body;
    assert!(page.contains("js-btn-next") && page.contains("result-item"));
    let body = r#"{"filtros":[],"query":""}"#;
    let search = "/bumeran/ar/api/avisos/searchV2?pageSize=20&page=900";
    let found = send(address, "POST", search, &[("x-site-id", "BMAR")], body).await.json();
    assert_eq!(found["content"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn robots_are_served_and_violations_counted() {
    let config = Config { crawl_delay: Some(2), ads: Config::spread(60), ..Config::default() };
    let simulator = Simulator::start(config).await.unwrap();
    let address = simulator.address();
    let all_sites = get(address, "/robots.txt").await;
    assert_eq!(
        (all_sites.status, all_sites.headers["content-type"].as_str()),
        (200, "text/plain; charset=utf-8")
    );
    for line in [
        "User-agent: *",
        "Crawl-delay: 2",
        "Disallow: /computrabajo/co/Ajax/",
        "Disallow: /elempleo/co/co/api/",
    ] {
        assert!(all_sites.body.lines().any(|found| found == line), "{line}");
    }
    let one = get(address, "/bumeran/mx/robots.txt").await.body;
    assert!(one.contains("Disallow: /bumeran/mx/postulantes/") && !one.contains("/bumeran/ar/"));
    let map = get(
        address,
        one.split("Sitemap: ").nth(1).unwrap().trim().strip_prefix(&simulator.origin()).unwrap(),
    );
    assert_eq!(all(&map.await.body, "<loc>", "</loc>").len(), 10);
    assert_eq!(get(address, "/elempleo/co/co/api/joboffers/findbyfilter").await.status, 401);
    get(address, &format!("{LISTING}?p=2&pubdate=7")).await;
    get(address, LISTING).await;
    let stats = simulator.stats();
    assert_eq!((stats.robots_violations, stats.robots_requests), (2, 2));
    assert_eq!(stats.forbidden_paths[0], "/elempleo/co/co/api/joboffers/findbyfilter");
    simulator.set_faults(vec!["elempleo/robots-unavailable".parse().unwrap()]);
    assert_eq!(get(address, "/robots.txt").await.status, 503);
    assert_eq!(get(address, "/elempleo/co/robots.txt").await.status, 503);
    assert_eq!(get(address, "/bumeran/mx/robots.txt").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manners_are_measured() {
    let simulator = start(&["slow:every=1,millis=150"]).await;
    let address = simulator.address();
    let started = Instant::now();
    let requests: Vec<_> = (1..=4)
        .map(|n| tokio::spawn(async move { get(address, &format!("{LISTING}?p={n}")).await }))
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    let took = started.elapsed().as_secs_f64() * 1_000.0;
    assert!(took >= 150.0, "slow answers took {took} ms");
    let stats: serde_json::Value = get(address, "/_simulator/stats").await.json();
    assert_eq!((&stats["requests"], &stats["by_status"]["200"]), (&4.into(), &4.into()));
    assert_eq!(stats["max_concurrent"]["computrabajo:CO"], 4);
    let interval = stats["min_interval_ms"]["127.0.0.1 reader/1"]["computrabajo:CO"].as_f64().unwrap();
    assert!(interval < took, "{interval} ms between arrivals");
    let log = get(address, "/_simulator/requests").await.json();
    assert_eq!(log.as_array().unwrap().len(), simulator.requests().len());
}

#[tokio::test]
async fn another_process_can_steer_it() {
    let simulator = start(&[]).await;
    let address = simulator.address();
    let post = |call: &'static str, body: &'static str| async move {
        let reply = send(address, "POST", &format!("/_simulator/{call}"), &[], body).await;
        (reply.status, reply.body)
    };
    let lines = |text: String| text.lines().count();
    let before = lines(get(address, "/_simulator/truth").await.body);
    assert_eq!(before, simulator.ground_truth().len());
    assert_eq!(post("wave", "2").await.0, 200);
    assert!(lines(get(address, "/_simulator/truth").await.body) > before);
    assert_eq!(post("wave", "3").await, (400, "wave `3`; allowed are 1 to 2".to_owned()));
    assert_eq!(post("clock", "2026-12-24T12:00:00Z").await.0, 200);
    assert_eq!(get(address, LISTING).await.headers["date"], "Thu, 24 Dec 2026 12:00:00 GMT");
    assert_eq!(post("clock", "tomorrow").await.0, 400);
    assert_eq!(post("faults", "challenge:after=0\n").await.0, 200);
    assert_eq!(get(address, LISTING).await.status, 403);
    assert_eq!(post("faults", "").await.0, 200);
    assert_eq!(get(address, LISTING).await.status, 200);
    let (status, message) = post("faults", "flood").await;
    assert!(status == 400 && message.contains("`flood` is unknown"), "{message}");
    assert_eq!(post("nothing", "").await.0, 404);
    assert_eq!(simulator.stats().requests, 3, "calls to the simulator itself are not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_answers_what_is_under_way_and_frees_the_port() {
    let simulator = start(&["slow:every=1,millis=60000"]).await;
    let address = simulator.address();
    let mut under_way = tokio::spawn(async move { get(address, LISTING).await });
    while simulator.stats().requests == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!under_way.is_finished());
    let started = Instant::now();
    let stats = simulator.stop().await.unwrap();
    let reply = (&mut under_way).await.unwrap();
    assert!(reply.status == 200 && reply.body.ends_with("</html>\n"));
    assert!(started.elapsed() < Duration::from_secs(30), "a stop does not wait for slow answers");
    assert_eq!(stats.by_status[&200], 1);
    assert!(TcpStream::connect(address).await.is_err(), "the port is free");
    let busy = Simulator::start(Config { ads: vec![], ..Config::default() }).await.unwrap();
    let taken = Simulator::start(Config { ads: vec![], listen: busy.address(), ..Config::default() }).await;
    let message = taken.map(|_| ()).unwrap_err().to_string();
    assert_eq!(message, format!("cannot listen on {}", busy.address()));
}
