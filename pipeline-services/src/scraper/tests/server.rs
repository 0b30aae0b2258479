//! A server on a free port of loopback that answers byte for byte as told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) method: String,
    /// Path with the query.
    pub(super) path: String,
    pub(super) head: String,
    pub(super) body: String,
}

/// What to answer.
pub(super) enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then one more each time, for ever.
    Drip(Vec<u8>, Duration),
    /// These bytes, then these again and again, for ever.
    Flood(Vec<u8>, Vec<u8>),
    /// These bytes after a moment, when one is taken from the number.
    Late(Vec<u8>, Arc<AtomicUsize>),
    /// Nothing at all.
    Silence,
}

/// A whole answer.
pub(super) fn reply(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let type_line =
        if headers.to_lowercase().contains("content-type") { "" } else { "Content-Type: text/html\r\n" };
    let head = format!(
        "HTTP/1.1 {status} X\r\n{type_line}Content-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    Reply::Bytes([head.as_bytes(), body].concat())
}

pub(super) struct Server {
    pub(super) origin: String,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (Arc::new(answer), log.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), kept.clone()));
            }
        });
        Self { origin, log }
    }

    /// Requests so far.
    pub(super) fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// Requests of a path so far, without its query.
    pub(super) fn count(&self, path: &str) -> usize {
        self.log().iter().filter(|seen| seen.path.split('?').next() == Some(path)).count()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(&Seen) -> Reply + Send + Sync + 'static>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let Some(seen) = read(&mut stream).await else { return };
    let reply = answer(&seen);
    log.lock().unwrap().push(seen);
    // A client that left is no concern of the server.
    let _ = write(&mut stream, reply).await;
}

async fn write(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Bytes(bytes) => stream.write_all(&bytes).await?,
        Reply::Drip(bytes, pause) => {
            stream.write_all(&bytes).await?;
            loop {
                tokio::time::sleep(pause).await;
                stream.write_all(b"x").await?;
            }
        }
        Reply::Flood(bytes, again) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(&again).await?;
            }
        }
        Reply::Late(bytes, number) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            number.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(&bytes).await?;
        }
        Reply::Silence => {
            let mut byte = [0];
            let _ = stream.read(&mut byte).await?;
        }
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    while bytes.len() < end + length.unwrap_or(0_usize) {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    Some(Seen { at: Instant::now(), method, path, head, body })
}
