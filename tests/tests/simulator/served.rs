//! Each site read page by page and compared with the truth, field by field.

use std::{collections::BTreeMap, net::SocketAddr};

use chrono::{Duration, NaiveDate};
use observatory_tests::simulator::{Config, Country, Portal, Simulator, Site, Truth, comparable};
use serde_json::{Value, json};

use crate::client::{all, first, get, plain, send, unescape};

/// One advertisement as read from a site.
#[derive(Debug, PartialEq, Default)]
struct Read {
    url_path: String,
    title: String,
    company: Option<String>,
    location: String,
    description: String,
    requirements: Option<String>,
    salary: Option<String>,
    contract: Option<String>,
    mode: Option<String>,
    posted: Option<NaiveDate>,
}

impl From<&Truth> for Read {
    fn from(truth: &Truth) -> Self {
        Self {
            url_path: truth.url_path.clone(),
            title: truth.title.clone(),
            company: truth.company.clone(),
            location: truth.location.clone(),
            description: comparable(&truth.description),
            requirements: truth.requirements.as_deref().map(comparable),
            salary: truth.salary_raw.clone(),
            contract: truth.contract_type.clone(),
            mode: truth.remote_type.clone(),
            posted: truth.posted_date,
        }
    }
}

/// Reads a printed age: the clock of the default configuration is the afternoon of 20 November
/// everywhere.
fn day(age: &str) -> NaiveDate {
    let today: NaiveDate = "2026-11-20".parse().unwrap();
    let words: Vec<&str> = age.split_whitespace().collect();
    match words[..] {
        ["Hoy"] | ["Hace", _, "hora" | "horas"] => today,
        ["Ayer"] => today - Duration::days(1),
        ["Hace", days, "días"] => today - Duration::days(days.parse().unwrap()),
        _ => panic!("age {age}"),
    }
}

fn told(company: String) -> Option<String> {
    (!company.to_lowercase().contains("confidencial")).then_some(company)
}

type Ads = BTreeMap<String, Read>;

/// Reads a whole Computrabajo site; also how many cards it has.
async fn read_computrabajo(address: SocketAddr, root: &str) -> (Ads, usize) {
    let (mut ads, mut cards, mut next) = (Ads::new(), 0, Some(format!("{root}/ofertas-de-trabajo/")));
    while let Some(path) = next {
        let page = get(address, &path).await.body;
        for card in all(&page, "<article class=\"box_offer", "</article>") {
            cards += 1;
            let id = first(&card, "data-id=['\"]", "['\"]").unwrap();
            let path = first(&card, "js-o-link[^>]*href=\"", "#lc=").unwrap();
            let linked = first(&card, "offer-grid-article-company-url>", "</a>");
            let company = linked.or_else(|| told(first(&card, "<p class=\"dFlex[^>]*>", "</p>").unwrap()));
            let read = Read {
                title: first(&card, "js-o-link[^>]*>", "</a>").unwrap(),
                company,
                location: first(&card, "<p class=\"fs16 fc_base mt5\">", "</p>").unwrap(),
                posted: first(&card, "<p class=\"fs13 fc_aux mt15\">", "</p>").map(|age| day(&age)),
                salary: first(&card, "i_salary\"></span>", "</span>"),
                mode: first(&card, "i_home(?:_office)?\"></span>", "</span>"),
                url_path: path,
                ..Read::default()
            };
            let detail = get(address, &read.url_path).await.body;
            ads.insert(id, with_computrabajo_detail(read, &detail));
        }
        let links = all(&page, "<span class=\"b_primary w48 buildLink cp\" data-path=\"http://[^/]*", ">");
        next = links.iter().find_map(|link| link.strip_suffix("\" title=\"Siguiente\"")).map(str::to_owned);
    }
    (ads, cards)
}

fn with_computrabajo_detail(mut read: Read, page: &str) -> Read {
    let pane = all(page, "<div class=\"mb40 pb40 bb1\" div-link=\"oferta\">", "<aside").remove(0);
    let tags: Vec<String> =
        all(&pane, "<span class=\"tag base mb10\">", "</span>").iter().map(|tag| plain(tag)).collect();
    let tag = |test: &dyn Fn(&str) -> bool| tags.iter().find(|tag| test(tag)).cloned();
    let on_card = (read.salary.take(), read.mode.take());
    read.salary = tag(&|tag| tag.starts_with('$') || tag == "A convenir");
    read.contract = tag(&|tag| tag.starts_with("Contrato"));
    read.mode = tag(&|tag| ["Presencial", "Remoto", "Presencial y remoto"].contains(&tag));
    let figure = read.salary.clone().filter(|salary| salary.starts_with('$'));
    assert_eq!(on_card, (figure, read.mode.clone().filter(|mode| mode != "Presencial")));
    read.description = comparable(&first(&pane, "<p class=\"mbB\">", "</p>").unwrap());
    read.requirements = first(&pane, "<ul class=\"disc mbB\">", "</ul>").map(|list| comparable(&list));
    assert_eq!(first(page, "<h1[^>]*>", "</h1>").as_ref(), Some(&read.title));
    read
}

async fn read_elempleo(address: SocketAddr, root: &str) -> (Ads, usize) {
    let (mut ads, mut cards, mut next) = (Ads::new(), 0, Some(format!("{root}/co/ofertas-empleo/")));
    while let Some(path) = next {
        let page = get(address, &path).await.body;
        let list = all(&page, "id=\"itemListStructuredData\">", "</script>").remove(0);
        let list: Value = serde_json::from_str(&list).unwrap();
        let found = all(&page, "<div class=\"col-md-12 result-item", "Ubicaci&#243;n");
        assert_eq!(list["numberOfItems"], found.len());
        for (index, card) in found.iter().enumerate() {
            cards += 1;
            let offer: Value =
                serde_json::from_str(&unescape(&all(card, "data-ga4-offerdata=\"", "\"")[0])).unwrap();
            let value = |name: &str| offer[name].as_str().unwrap().to_owned();
            let pairs = all(card, "<div class=\"text-blue-petrol-dark\">", "</div>");
            let read = Read {
                url_path: first(card, "data-url=\"", "\"").unwrap(),
                title: value("title"),
                company: told(value("company")),
                location: first(card, "js-offer-city[^>]*>", "</span>").unwrap(),
                salary: Some(value("salary")),
                contract: Some(plain(&pairs[1])),
                posted: first(card, "js-offer-date[^>]*>", "</span>").map(|age| day(&age)),
                ..Read::default()
            };
            assert_eq!(plain(&pairs[0]), value("salary"));
            assert_eq!(first(card, "js-offer-company[^>]*>", "</span>"), Some(value("company")));
            let item = &list["itemListElement"][index]["item"];
            assert_eq!(unescape(item["name"].as_str().unwrap()), read.title);
            assert!(item["@id"].as_str().unwrap().ends_with(&read.url_path));
            ads.insert(offer["id"].to_string(), with_elempleo_detail(address, read).await);
        }
        next = first(&page, "js-btn-next\" href=\"", "\"");
    }
    (ads, cards)
}

async fn with_elempleo_detail(address: SocketAddr, mut read: Read) -> Read {
    let page = get(address, &read.url_path).await.body;
    let block = all(&page, "<div class=\"description-block", "</div>").remove(0);
    read.description = comparable(&first(&block, "<p class=\"mb-0\">", "</p>").unwrap());
    let posting = all(&page, "<script type=\"application/ld\\+json\">", "</script>").remove(0);
    let posting: Value = serde_json::from_str(&posting).unwrap();
    assert_eq!(posting["datePosted"].as_str().map(|date| date.parse().unwrap()), read.posted);
    assert_eq!(comparable(&plain(posting["description"].as_str().unwrap())), read.description);
    read
}

async fn read_bumeran(address: SocketAddr, root: &str, site_id: &str) -> (Ads, usize) {
    let header = [("x-site-id", site_id), ("Content-Type", "application/json")];
    let body = json!({ "filtros": [], "query": "", "internacional": false }).to_string();
    let (mut ads, mut hits, mut total, mut number) = (Ads::new(), 0, 1, 0);
    while hits < total {
        let path = format!("{root}/api/avisos/searchV2?pageSize=20&page={number}&sort=RECIENTES");
        let page = send(address, "POST", &path, &header, &body).await.json();
        assert_eq!((&page["number"], &page["size"]), (&json!(number), &json!(20)));
        total = page["total"].as_u64().unwrap() as usize;
        for hit in page["content"].as_array().unwrap() {
            hits += 1;
            let id = hit["id"].to_string();
            let path = format!("{root}/api/candidates/fichaAvisoNormalizada/{id}");
            let detail = send(address, "GET", &path, &header[..1], "").await.json();
            ads.insert(id, from_bumeran(hit, &detail["aviso"]));
        }
        number += 1;
    }
    (ads, hits)
}

fn from_bumeran(hit: &Value, notice: &Value) -> Read {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(hit["empresa"], notice["empresa"]["denominacion"]);
    assert_eq!(hit["localizacion"], notice["localizacion"]["detalle"]);
    assert_eq!(hit["tipoTrabajo"], notice["tipoTrabajo"]["nombre"]);
    assert_eq!(notice["estado"], "activo");
    assert!(!hit["detalle"].as_str().unwrap().contains(['\n', '<']));
    Read {
        url_path: text(&notice["seoFriendlyUrl"]).unwrap(),
        title: text(&hit["titulo"]).unwrap(),
        company: told(text(&hit["empresa"]).unwrap()),
        location: text(&hit["localizacion"]).unwrap(),
        description: comparable(&plain(notice["descripcion"].as_str().unwrap())),
        contract: text(&notice["tipoContratacion"]["nombre"]),
        mode: text(&notice["modalidadTrabajo"]["nombre"]),
        posted: text(&hit["fechaPublicacion"])
            .map(|date| NaiveDate::parse_from_str(&date, "%d-%m-%Y").unwrap()),
        ..Read::default()
    }
}

async fn read(address: SocketAddr, site: Site) -> (Ads, usize) {
    let root = site.root();
    match (site.portal, site.country) {
        (Portal::Computrabajo, _) => read_computrabajo(address, &root).await,
        (Portal::Elempleo, _) => read_elempleo(address, &root).await,
        (Portal::Bumeran, country) => read_bumeran(address, &root, &format!("BM{}", country.code())).await,
    }
}

fn expected(simulator: &Simulator, site: Site) -> (Ads, usize) {
    let of_site = |ad: &&Truth| (ad.portal, ad.country) == (site.portal, site.country);
    let truth = simulator.ground_truth();
    let cards = truth.iter().filter(of_site).map(|ad| 1 + usize::from(ad.listed_twice)).sum();
    (truth.iter().filter(of_site).map(|ad| (ad.external_id.clone(), Read::from(ad))).collect(), cards)
}

#[tokio::test]
async fn every_site_serves_the_truth_in_every_wave() {
    serves_the_truth(Config { ads: Config::spread(270), waves: 2, ..Config::default() }, 6).await;
    serves_the_truth(Config::written(800, 42), 10).await;
}

async fn serves_the_truth(config: Config, sites: usize) {
    let visited: Vec<Site> = config.ads.iter().map(|(site, _)| *site).collect();
    assert_eq!(visited.len(), sites);
    let simulator = Simulator::start(config).await.unwrap();
    for wave in [1, 2] {
        simulator.set_wave(wave).unwrap();
        for &site in &visited {
            let (found, cards) = read(simulator.address(), site).await;
            let (wanted, wanted_cards) = expected(&simulator, site);
            assert!(wanted.len() > 40, "{site} has {} ads", wanted.len());
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                wanted.keys().collect::<Vec<_>>(),
                "{site} wave {wave}"
            );
            for (id, ad) in &found {
                assert_eq!(ad, &wanted[id], "{site} {id}");
            }
            assert_eq!(cards, wanted_cards, "{site}: each card once, the repeated twice");
        }
    }
    let stats = simulator.stop().await.unwrap();
    assert_eq!((stats.robots_violations, stats.early_retries), (0, 0));
    assert_eq!(stats.by_status.keys().collect::<Vec<_>>(), [&200], "every link leads somewhere");
}

#[tokio::test]
async fn later_waves_add_edit_and_drop() {
    let simulator = Simulator::start(Config { ads: Config::spread(300), ..Config::default() }).await.unwrap();
    let by_key = || simulator.ground_truth().into_iter().map(|ad| (ad.key(), ad)).collect::<BTreeMap<_, _>>();
    let before = by_key();
    simulator.set_wave(2).unwrap();
    let after = by_key();
    let added = after.keys().filter(|key| !before.contains_key(*key)).count();
    let dropped: Vec<&Truth> = before.values().filter(|ad| !after.contains_key(&ad.key())).collect();
    let edited: Vec<&Truth> = after.values().filter(|ad| ad.version == 2).collect();
    assert!(
        added >= 30 && dropped.len() > 3 && edited.len() > 6,
        "{added} {} {}",
        dropped.len(),
        edited.len()
    );
    for ad in edited {
        assert_ne!(ad.description, before[&ad.key()].description);
        assert_eq!(ad.url_path, before[&ad.key()].url_path);
    }
    let mut seen = Vec::new();
    for ad in dropped {
        let gone = match ad.portal {
            Portal::Bumeran => {
                let id = if ad.country == Country::Ar { "BMAR" } else { "BMMX" };
                let root = ad.url_path.split("/empleos/").next().unwrap();
                let path = format!("{root}/api/candidates/fichaAvisoNormalizada/{}", ad.external_id);
                let reply = send(simulator.address(), "GET", &path, &[("x-site-id", id)], "").await;
                assert_eq!(reply.json()["aviso"]["estado"], "vencido");
                reply.status
            }
            _ => get(simulator.address(), &ad.url_path).await.status,
        };
        let expected = match ad.portal {
            Portal::Computrabajo => 301,
            Portal::Elempleo => 404,
            Portal::Bumeran => 200,
        };
        assert_eq!(gone, expected, "{}", ad.url_path);
        seen.push(ad.portal);
    }
    assert!(Portal::ALL.iter().all(|portal| seen.contains(portal)), "{seen:?}");
    assert!(simulator.set_wave(3).is_err());
}

#[tokio::test]
async fn listings_answer_searches_and_ends() {
    let simulator = Simulator::start(Config { ads: Config::spread(300), ..Config::default() }).await.unwrap();
    let address = simulator.address();
    let truth = simulator.ground_truth();
    let page = get(address, "/computrabajo/co/trabajo-de-excel-en-cali").await;
    let cards = all(&page.body, "<article class=\"box_offer", "</article>");
    let wanted = truth.iter().filter(|ad| (ad.portal, ad.country) == (Portal::Computrabajo, Country::Co));
    let wanted = wanted.filter(|ad| {
        let text = format!("{} {} {}", ad.title, ad.location, ad.description).to_lowercase();
        text.contains("excel") && text.contains("cali")
    });
    let wanted: usize = wanted.map(|ad| 1 + usize::from(ad.listed_twice)).sum();
    assert_eq!(cards.len(), wanted);
    assert_eq!(page.headers["date"], "Fri, 20 Nov 2026 20:00:00 GMT");
    let empty = |path: &'static str, mark: &'static str| async move {
        let page = get(address, path).await;
        assert!(page.status == 200 && page.body.contains(mark), "{path}: {}", page.body);
    };
    empty("/computrabajo/co/trabajo-de-astronauta", "<div class=\"tc mbB pt30 pb30\">").await;
    empty("/computrabajo/co/trabajo-de-excel?p=99", "<div class=\"tc mbB pt30 pb30\">").await;
    empty("/elempleo/co/co/ofertas-empleo/trabajo-astronauta", "js-total-results\">0<").await;
    for path in ["/", "/indeed/co/x", "/computrabajo/co/nada", "/elempleo/co/co/ofertas-trabajo/x-1"] {
        assert_eq!(get(address, path).await.status, 404, "{path}");
    }
    let shell = get(address, "/bumeran/ar/empleos/x-1.html").await.body;
    assert_eq!(shell, get(address, "/bumeran/ar/").await.body, "every address is the same shell");
    assert!(shell.contains("<div id=\"root\"></div>") && !shell.contains("ld+json"));
}

#[tokio::test]
async fn the_json_interface_refuses_what_it_does_not_understand() {
    let simulator = Simulator::start(Config { ads: Config::spread(120), ..Config::default() }).await.unwrap();
    let address = simulator.address();
    let search = "/bumeran/ar/api/avisos/searchV2?pageSize=20&page=0&sort=RELEVANTES";
    let good = r#"{"filtros":[],"query":"","internacional":false}"#;
    let site = [("x-site-id", "BMAR")];
    let check = |method: &'static str,
                 path: &'static str,
                 headers,
                 body: &'static str,
                 status,
                 message: &'static str| async move {
        let reply = send(address, method, path, headers, body).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.body);
        let said = reply.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(message), "{said}");
    };
    check("POST", search, &[], good, 400, "x-site-id").await;
    check("POST", search, &[("x-site-id", "BMMX")], good, 400, "x-site-id").await;
    check("GET", search, &site, "", 405, "").await;
    check("POST", search, &site, "{", 400, "JSON").await;
    check("POST", search, &site, r#"{"query":""}"#, 400, "filtros").await;
    check("POST", search, &site, r#"{"filtros":[{"id":"x","value":"y"}]}"#, 400, "x no es valido").await;
    check("POST", "/bumeran/ar/api/avisos/searchV2?page=x", &site, good, 400, "page").await;
    check("GET", "/bumeran/ar/api/candidates/fichaAvisoNormalizada/1", &site, "", 404, "").await;
    check("GET", "/bumeran/ar/api/candidates/fichaAvisoNormalizada/1", &[], "", 400, "x-site-id").await;
    check("POST", search, &site, good, 200, "").await;
    let recent =
        r#"{"filtros":[{"id":"dias_fecha_publicacion","value":"publicacion-menor-a-7-dias"}],"query":""}"#;
    let found = send(address, "POST", search, &site, recent).await.json();
    let limit: NaiveDate = "2026-11-13".parse().unwrap();
    let truth = simulator.ground_truth();
    let wanted = truth.iter().filter(|ad| {
        (ad.portal, ad.country) == (Portal::Bumeran, Country::Ar)
            && ad.posted_date.is_some_and(|date| date >= limit)
    });
    assert_eq!(found["total"], wanted.map(|ad| 1 + u64::from(ad.listed_twice)).sum::<u64>());
}
