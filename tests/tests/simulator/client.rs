//! A plain HTTP client, and a plain reader of pages.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use regex::Regex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, "GET", path, &[], "").await
}

/// One request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("the simulator listens");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nUser-Agent: reader/1\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut raw = Vec::new();
    // A body that breaks off may end in a reset; what came before it counts.
    while let Ok(read) = stream.read_buf(&mut raw).await {
        if read == 0 {
            break;
        }
    }
    let raw = String::from_utf8_lossy(&raw).into_owned();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {raw:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Reply {
        status: status.expect("a status"),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

/// A pattern, compiled once.
fn pattern(text: &str) -> Regex {
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    let compile = || Regex::new(text).expect("a pattern");
    PATTERNS.with_borrow_mut(|patterns| patterns.entry(text.to_owned()).or_insert_with(compile).clone())
}

/// Every text between `start` and `end`, both patterns.
pub(crate) fn all(text: &str, start: &str, end: &str) -> Vec<String> {
    let pattern = pattern(&format!("(?s){start}(.*?){end}"));
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The first such text, its entities and blanks resolved.
pub(crate) fn first(text: &str, start: &str, end: &str) -> Option<String> {
    all(text, start, end).first().map(|found| plain(found))
}

/// Text of a piece of a page: tags that part lines are blanks, other tags vanish, runs of blanks
/// are one.
pub(crate) fn plain(html: &str) -> String {
    let parted = pattern("(?i)<br ?/?>|</?(p|li|ul)[^>]*>").replace_all(html, " ");
    let bare = pattern("<[^>]*>").replace_all(&parted, "").into_owned();
    unescape(&bare).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Resolves the entities that the portals use.
pub(crate) fn unescape(text: &str) -> String {
    let entity = pattern("&(#x[0-9A-Fa-f]+|#[0-9]+|amp|lt|gt|quot|nbsp);");
    let resolve = |found: &regex::Captures<'_>| {
        let code = match &found[1] {
            "amp" => '&' as u32,
            "lt" => '<' as u32,
            "gt" => '>' as u32,
            "quot" => '"' as u32,
            "nbsp" => 0xA0,
            number => match number.strip_prefix("#x") {
                Some(digits) => u32::from_str_radix(digits, 16).expect("hexadecimal"),
                None => number[1..].parse().expect("decimal"),
            },
        };
        char::from_u32(code).expect("a character").to_string()
    };
    entity.replace_all(text, resolve).into_owned()
}
