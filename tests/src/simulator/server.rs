//! HTTP in front of the sites.
//!
//! Faults, the log and robots.txt are handled here; sites answer as if nothing could go wrong.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;

use super::{
    bumeran, clock, computrabajo, control, elempleo,
    fault::{Effects, Refusal},
    log::Arrival,
    page::{self, Answer, Request},
    robots,
    site::{Portal, Site},
    state::Shared,
};

/// Longest request body that is read, bytes. Not tuned: searches have some hundred.
const LONGEST_BODY: usize = 1 << 16;

/// Serves until the shared token is cancelled; requests under way are answered first.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let stop = shared.stop.clone().cancelled_owned();
    let sites = Router::new().fallback(handle).with_state(shared);
    let service = sites.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // Bounded: a reader with a fault may send without end.
    let Ok(body) = to_bytes(body, LONGEST_BODY).await else {
        let answer = Answer::text(413, "request body too long".to_owned());
        return respond(answer, shared.live().clock, false);
    };
    let asked = Asked {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        body: &body,
    };
    if let Some(call) = asked.path.strip_prefix("/_simulator/") {
        let answer = control::answer(&shared, asked.method, call, &body);
        // Neither logged nor subject to faults: tests ask here about everything else.
        return respond(answer, Utc::now(), false);
    }
    let site = Site::of_path(asked.path);
    let open = shared.live().log.arrive(Arrival {
        // By address and agent, because the readers of a test share an address.
        client: format!("{} {}", peer.ip(), asked.header("user-agent").unwrap_or("-")),
        method: asked.method.to_owned(),
        path: asked.whole_path(),
        site: site.map(|(site, _)| site),
    });
    let effects = strike(&shared, site);
    if let Some(delay) = effects.delay {
        // A stop does not wait for slow answers.
        tokio::select! { () = tokio::time::sleep(delay) => {}, () = shared.stop.cancelled() => {} }
    }
    let answer = answer(&shared, &asked, site, &effects);
    let mut live = shared.live();
    let retry_after = match effects.refusal {
        Some(Refusal::TooManyRequests { retry_after }) => Some(retry_after),
        _ => None,
    };
    live.log.answered(open, answer.status, retry_after);
    respond(answer, live.clock, effects.cut)
}

/// The parts of a request that matter.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Asked<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn whole_path(&self) -> String {
        self.query.map_or_else(|| self.path.to_owned(), |query| format!("{}?{query}", self.path))
    }
}

fn is_robots(site: Option<(Site, &str)>) -> bool {
    site.is_some_and(|(_, inside)| inside == "/robots.txt")
}

fn strike(shared: &Shared, site: Option<(Site, &str)>) -> Effects {
    match site {
        Some((site, inside)) if inside != "/robots.txt" => shared.live().faults.strike(site.portal),
        _ => Effects::default(),
    }
}

fn answer(shared: &Shared, asked: &Asked<'_>, site: Option<(Site, &str)>, effects: &Effects) -> Answer {
    // Links lead back to the name under which the reader has asked.
    let origin = format!("http://{}", asked.header("host").unwrap_or("localhost"));
    if asked.path == "/robots.txt" || is_robots(site) {
        return robots_page(shared, site.map(|(site, _)| site), &origin);
    }
    let Some((site, inside)) = site else { return Answer::text(404, "no such site".to_owned()) };
    if let Some(refusal) = effects.refusal {
        return refused(refusal);
    }
    // Copied, so that the lock is not held while a page is written.
    let (wave, clock) = {
        let live = shared.live();
        (live.wave, live.clock)
    };
    let query = parse_query(asked.query.unwrap_or_default());
    let request = Request {
        site,
        catalog: &shared.catalog,
        wave,
        clock,
        origin: &origin,
        method: asked.method,
        path: inside,
        query: &query,
        site_id: asked.header("x-site-id"),
        body: asked.body,
        loops: effects.pagination_loop,
    };
    let mut answer = match site.portal {
        Portal::Computrabajo => computrabajo::answer(&request),
        Portal::Elempleo => elempleo::answer(&request),
        Portal::Bumeran => bumeran::answer(&request),
    };
    if effects.layout_change {
        answer.body = renamed(&answer.body);
    }
    answer
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::TooManyRequests { retry_after } => {
            let mut answer = Answer::html(429, "<h1>Too Many Requests</h1>".to_owned());
            answer.headers.push(("retry-after", retry_after.to_string()));
            answer
        }
        Refusal::Unavailable => Answer::html(503, "<h1>Service Unavailable</h1>".to_owned()),
        Refusal::Challenge => page::challenge(),
    }
}

fn robots_page(shared: &Shared, site: Option<Site>, origin: &str) -> Answer {
    if shared.live().faults.robots_unavailable(site.map(|site| site.portal)) {
        return Answer::text(503, "unavailable".to_owned());
    }
    let one;
    let sites: &[Site] = match site {
        Some(site) => {
            one = [site];
            &one
        }
        None => &Site::ALL,
    };
    Answer::text(200, robots::text(sites, shared.crawl_delay, origin))
}

/// Names in a new layout of the things that a reader of the documented one looks for.
const RENAMED: [(&str, &str); 14] = [
    ("box_offer", "offer_card"),
    ("js-o-link", "o-link"),
    ("offer-grid-article-company-url", "company-url"),
    ("div-link=\"oferta\"", "data-pane=\"oferta\""),
    ("class=\"mbB\"", "class=\"copy\""),
    ("result-item", "list-entry"),
    ("js-area-bind", "area-hook"),
    ("data-ga4-offerdata", "data-offer"),
    ("js-offer-", "offer-"),
    ("description-block", "position-text"),
    ("\"content\":", "\"results\":"),
    ("\"aviso\":", "\"data\":"),
    ("\"titulo\":", "\"title\":"),
    ("\"descripcion\":", "\"body\":"),
];

fn renamed(body: &str) -> String {
    RENAMED.iter().fold(body.to_owned(), |body, (old, new)| body.replace(old, new))
}

fn respond(answer: Answer, clock: DateTime<Utc>, cut: bool) -> Response {
    let length = answer.body.len();
    let body = if cut && length > 1 {
        let half = Bytes::copy_from_slice(&answer.body.as_bytes()[..length / 2]);
        let broken = io::Error::new(io::ErrorKind::ConnectionReset, "cut on purpose");
        let parts = tokio_stream::iter([Ok(half), Err(broken)]).then(|part| async {
            if part.is_err() {
                // What came before goes out first.
                tokio::task::yield_now().await;
            }
            part
        });
        Body::from_stream(parts)
    } else {
        Body::from(answer.body)
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    // Of the whole body, also if it is cut: only so can a reader notice.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let date = HeaderValue::from_str(&clock::http_date(clock));
    let named = answer.headers.into_iter().map(|(name, value)| (name, HeaderValue::from_str(&value)));
    for (name, value) in named.chain([("date", date)]) {
        if let Ok(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Names and values of a query, percent-decoded.
fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let check = |query: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(parse_query(query), expected, "{query}");
        };
        check("", &[]);
        check("p=2&q=a+b%C3%B1", &[("p", "2"), ("q", "a bñ")]);
        check("x&y=%zz%4", &[("x", ""), ("y", "%zz%4")]);
    }
}
