//! Checks whether a PostgreSQL server accepts connections, in its own protocol.
//!
//! Needs neither `pg_isready` nor a password.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Response of a server to the first message of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It asked for authentication, or accepted the connection.
    Accepting,
    /// It refuses for now, with its message ("the database system is starting up").
    Refusing(String),
    /// No response in the protocol.
    Silent,
}

/// Sends a start-up message for `user` and reads the first response, then disconnects, as
/// `pg_isready` does.
pub(crate) async fn probe(address: std::net::SocketAddr, user: &str, limit: Duration) -> Answer {
    // Every failure is silence: callers only tell it from a refusal.
    tokio::time::timeout(limit, ask(address, user)).await.ok().and_then(Result::ok).unwrap_or(Answer::Silent)
}

async fn ask(address: std::net::SocketAddr, user: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&startup_message(user)).await?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    // The peer may be any program: its length is not trusted with more than 64 KiB.
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).clamp(4, 64 * 1024) - 4;
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(match head[0] {
        b'R' => Answer::Accepting,
        b'E' => classify(&error_fields(&body)),
        _ => Answer::Silent,
    })
}

/// Protocol 3.0 StartupMessage (PostgreSQL documentation, "Message Formats").
fn startup_message(user: &str) -> Vec<u8> {
    // Version 3.0: the major number in the upper sixteen bits.
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", user] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend(body);
    message
}

/// Extracts SQLSTATE and message from the body of an ErrorResponse.
fn error_fields(body: &[u8]) -> (String, String) {
    let (mut code, mut message) = (String::new(), String::new());
    for field in body.split(|&byte| byte == 0).filter(|field| field.len() > 1) {
        let text = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => code = text,
            b'M' => message = text,
            _ => {}
        }
    }
    (code, message)
}

/// Classifies an error as `pg_isready` does: only 57P03 (cannot connect now) means not accepting;
/// any other error, such as an unknown database, comes from a working server.
fn classify((code, message): &(String, String)) -> Answer {
    if code == "57P03" { Answer::Refusing(message.clone()) } else { Answer::Accepting }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::ports;
    use tokio::net::TcpListener;

    async fn check(answer: &'static [u8], expected: Answer) {
        let listener = TcpListener::bind(ports::loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.unwrap();
            let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body[4..], b"user\0me\0database\0me\0\0");
            stream.write_all(answer).await.unwrap();
        });
        assert_eq!(probe(address, "me", Duration::from_secs(5)).await, expected);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn answers() {
        check(b"R\0\0\0\x08\0\0\0\x0a", Answer::Accepting).await;
        check(b"E\0\0\0\x18SFATAL\0C57P03\0Mwait\0\0", Answer::Refusing("wait".into())).await;
        check(b"E\0\0\0\x16SFATAL\0C3D000\0Mno\0\0", Answer::Accepting).await;
        check(b"HTTP/1.1 400 Bad Request\r\n\r\n", Answer::Silent).await;
        check(b"", Answer::Silent).await;
    }

    #[tokio::test]
    async fn nobody_there() {
        let port = ports::choose(None).unwrap();
        assert_eq!(probe(ports::loopback(port), "me", Duration::from_secs(5)).await, Answer::Silent);
    }
}
