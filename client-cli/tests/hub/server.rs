//! A model hub on two free ports of loopback: the hub itself, and another host that holds its large
//! files.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use observatory_cli::testing::{HubOptions, Pulled, Request, RetryPolicy, Secret};
use serde_json::json;
use sha1::Digest as _;

/// The model every test pulls.
pub(crate) const NAME: &str = "org/encoder";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Path with the query.
    pub(crate) path: String,
    head: String,
    /// True if it came to the other host.
    pub(crate) large: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer: status, headers, and the bytes that are sent of a body of some length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ends after this number of bytes of the body.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Hook = Box<dyn FnMut(&Seen, Reply) -> Reply + Send>;

/// Content and behaviour of the hub.
pub(crate) struct Content {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// True if the listing includes sizes and digests.
    pub(crate) describes: bool,
    /// True if ranges are supported.
    pub(crate) ranges: bool,
    hook: Option<Hook>,
    log: Vec<Seen>,
}

#[derive(Clone)]
pub(crate) struct FakeHub {
    pub(crate) origin: String,
    content: Arc<Mutex<Content>>,
}

impl FakeHub {
    /// A hub with a small model whose weights have several thousand bytes.
    pub(crate) fn start() -> Self {
        let weights: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        let files = [
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"model\": {}}".to_vec()),
            ("README.md", b"---\nlanguage: es\n---\n".to_vec()),
            ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\": true}".to_vec()),
            ("model.safetensors", weights),
            ("pytorch_model.bin", b"pickled".to_vec()),
            ("onnx/model.onnx", b"other".to_vec()),
        ];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes)).into_iter().collect();
        let content = Content { files, describes: true, ranges: true, hook: None, log: Vec::new() };
        let content = Arc::new(Mutex::new(content));
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, large) = (listen(), listen());
        let origin = format!("http://{}", hub.local_addr().unwrap());
        // By another name it is another host, which must not get the credentials.
        let store = format!("http://localhost:{}", large.local_addr().unwrap().port());
        for (listener, is_large) in [(hub, false), (large, true)] {
            let (content, store) = (content.clone(), store.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (content, store) = (content.clone(), store.clone());
                    std::thread::spawn(move || serve(stream, &content, &store, is_large));
                }
            });
        }
        Self { origin, content }
    }

    /// Changes what the hub has.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Content)) {
        change(&mut self.content.lock().unwrap());
    }

    /// From now on every answer goes through `hook`, which may be another one.
    pub(crate) fn hook(&self, hook: impl FnMut(&Seen, Reply) -> Reply + Send + 'static) {
        self.change(|content| content.hook = Some(Box::new(hook)));
    }

    /// Only the first answer to a path that ends so is changed.
    pub(crate) fn once(&self, ending: &'static str, change: impl FnOnce(Reply) -> Reply + Send + 'static) {
        let mut change = Some(change);
        self.hook(move |seen, reply| match change.take_if(|_| seen.path.ends_with(ending)) {
            Some(change) => change(reply),
            None => reply,
        });
    }

    /// From now on answers are the hub's own.
    pub(crate) fn behave(&self) {
        self.change(|content| content.hook = None);
    }

    /// Requests since the last look.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.content.lock().unwrap().log)
    }

    /// The commit the main branch is at.
    pub(crate) fn commit(&self) -> String {
        commit(&self.content.lock().unwrap())
    }

    /// Sends no one to a proxy and waits for next to nothing.
    pub(crate) fn options(&self, attempts: u32) -> HubOptions {
        HubOptions {
            address: self.origin.clone(),
            token: Some(Secret::from("hf_secret".to_owned())),
            proxy: false,
            retry: RetryPolicy { attempts, backoff: Duration::from_millis(1), ..RetryPolicy::default() },
        }
    }
}

/// A pull of the model's main branch.
pub(crate) fn request() -> Request {
    Request { name: NAME.to_owned(), revision: None, file: None, offline: false }
}

/// Pulls the main branch in at most `attempts` attempts.
pub(crate) async fn pull(hub: &FakeHub, store: &std::path::Path, attempts: u32) -> anyhow::Result<Pulled> {
    observatory_cli::testing::pull(store, &request(), &hub.options(attempts)).await
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))
}

fn git_blob(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex::encode(hash.finalize())
}

fn commit(content: &Content) -> String {
    let all: Vec<u8> =
        content.files.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes].concat()).collect();
    git_blob(&all)
}

fn is_large_file(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

fn listing(content: &Content) -> Reply {
    let file = |(name, bytes): (&String, &Vec<u8>)| {
        if !content.describes {
            json!({ "rfilename": name })
        } else if is_large_file(name) {
            json!({ "rfilename": name, "size": bytes.len(), "blobId": git_blob(b"pointer"),
                "lfs": { "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134 } })
        } else {
            json!({ "rfilename": name, "size": bytes.len(), "blobId": git_blob(bytes) })
        }
    };
    let siblings: Vec<_> = content.files.iter().map(file).collect();
    let body = json!({ "id": NAME, "sha": commit(content), "siblings": siblings }).to_string().into_bytes();
    Reply { status: 200, body, ..Reply::default() }
}

fn answer(seen: &Seen, content: &Content, store: &str) -> Reply {
    let commit = commit(content);
    let path = seen.path.split('?').next().unwrap();
    if let Some(sum) = path.strip_prefix("/blob/").filter(|_| seen.large) {
        let bytes = content.files.values().find(|bytes| sha256(bytes) == sum).unwrap();
        // The other host's ETag is no digest of the content, however much it looks like one.
        return file(seen, content, bytes).with("ETag", format!("\"{}\"", "0".repeat(64)));
    }
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{NAME}/revision/")) {
        return match revision {
            "main" => listing(content),
            _ if revision == commit => listing(content),
            _ => Reply::status(404).with("X-Error-Code", "RevisionNotFound"),
        };
    }
    let name = path.strip_prefix(&format!("/{NAME}/resolve/{commit}/"));
    match name.and_then(|name| content.files.get_key_value(name)) {
        Some((name, bytes)) if is_large_file(name) => Reply::status(302)
            .with("X-Linked-Etag", format!("\"{}\"", sha256(bytes)))
            .with("X-Linked-Size", bytes.len().to_string())
            .with("ETag", "\"of-the-redirect\"")
            .with("Location", format!("{store}/blob/{}", sha256(bytes))),
        Some((_, bytes)) => file(seen, content, bytes).with("ETag", format!("W/\"{}\"", git_blob(bytes))),
        None => Reply::status(404).with("X-Error-Code", "RepoNotFound"),
    }
}

fn file(seen: &Seen, content: &Content, bytes: &[u8]) -> Reply {
    let total = bytes.len();
    match seen.from().filter(|_| content.ranges) {
        Some(from) if from >= total => Reply::status(416).with("Content-Range", format!("bytes */{total}")),
        Some(from) => Reply { status: 206, body: bytes[from..].to_vec(), ..Reply::default() }
            .with("Content-Range", format!("bytes {from}-{}/{total}", total - 1)),
        None => Reply { status: 200, body: bytes.to_vec(), ..Reply::default() },
    }
}

fn serve(mut stream: TcpStream, content: &Mutex<Content>, store: &str, large: bool) {
    let Some(seen) = read(&mut stream, large) else { return };
    let reply = {
        let mut content = content.lock().unwrap();
        content.log.push(seen.clone());
        let reply = answer(&seen, &content, store);
        match &mut content.hook {
            Some(hook) => hook(&seen, reply),
            None => reply,
        }
    };
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let sent = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    // A client that left is no concern of the server.
    let _ = stream.write_all(&[head.as_bytes(), b"\r\n", sent].concat());
}

fn read(stream: &mut TcpStream, large: bool) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    // A proxy is asked for whole addresses.
    let target = head.split(' ').nth(1)?;
    let path = target.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let path = path.map_or_else(|| target.to_owned(), |(_, path)| format!("/{path}"));
    Some(Seen { path, head, large })
}
