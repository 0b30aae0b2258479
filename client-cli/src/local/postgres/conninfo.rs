//! Connection URLs that hide their password.
//!
//! Neither `Debug` nor `Display` shows it, so that it reaches no log and no command line.

use std::fmt;

use anyhow::Context;

/// A `postgres://` URL whose `Debug` and `Display` hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionUrl {
    full: String,
    open: String,
    password: Option<String>,
}

impl ConnectionUrl {
    /// Parses a URL and separates its password.
    ///
    /// # Errors
    /// If it is not a `postgres://` or `postgresql://` URL, or the password is not valid
    /// percent-encoding.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = url
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))
            .context("invalid database URL: expected postgres:// or postgresql://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // The last `@`: one in the password may be unencoded, in a host there is none.
        let (user, password) = match authority.rsplit_once('@') {
            None => (None, None),
            // The first colon: a password may contain one unencoded, a user may not.
            Some((info, _)) => match info.split_once(':') {
                None => (Some(info), None),
                Some((user, password)) => (Some(user), Some(decode(password)?)),
            },
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        Ok(Self { full: url.to_owned(), open: format!("{scheme}://{user}{host}{tail}"), password })
    }

    /// The URL of an embedded server.
    pub fn embedded(port: u16, user: &str, password: &str, database: &str) -> Self {
        // Generated passwords are hexadecimal, which needs no encoding.
        let open = format!("postgres://{user}@127.0.0.1:{port}/{database}");
        let full = format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}");
        Self { full, open, password: Some(password.to_owned()) }
    }

    /// The URL of the same database for another login, whose name and password need no encoding.
    pub fn with_login(&self, user: &str, password: &str) -> Self {
        let (scheme, rest) = self.open.split_once("://").unwrap_or(("postgres", &self.open));
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        let place = rest[..authority].rfind('@').map_or(rest, |at| &rest[at + 1..]);
        Self {
            full: format!("{scheme}://{user}:{password}@{place}"),
            open: format!("{scheme}://{user}@{place}"),
            password: Some(password.to_owned()),
        }
    }

    /// The full URL with the password, only for the environment of child processes.
    pub fn expose(&self) -> &str {
        &self.full
    }

    /// The URL without the password, safe for a command line.
    pub fn without_password(&self) -> &str {
        &self.open
    }

    /// The password, if the URL has one.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.open)
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionUrl({})", self.open)
    }
}

fn decode(text: &str) -> anyhow::Result<String> {
    const PROBLEM: &str = "invalid database URL: the password is not valid percent-encoding";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).context(PROBLEM)?;
            bytes.push(u8::from_str_radix(digits, 16).context(PROBLEM)?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).context(PROBLEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_leave_the_url() {
        let check = |url: &str, open: &str, password: Option<&str>| {
            let parsed = ConnectionUrl::parse(url).unwrap();
            assert_eq!((parsed.without_password(), parsed.password()), (open, password), "{url}");
            assert_eq!(parsed.expose(), url);
            assert!(password.is_none_or(|password| !format!("{parsed:?} {parsed}").contains(password)));
        };
        check("postgres://a:s3cr%40t@h:1/d", "postgres://a@h:1/d", Some("s3cr@t"));
        check("postgresql://a@h/d?sslmode=require", "postgresql://a@h/d?sslmode=require", None);
        check("postgres:///d?host=/run/pg", "postgres:///d?host=/run/pg", None);
        check("postgres://a:p@ss@h?x=y@z", "postgres://a@h?x=y@z", Some("p@ss"));
    }

    #[test]
    fn another_login_reaches_the_same_database() {
        let check = |url: &str, open: &str, full: &str| {
            let other = ConnectionUrl::parse(url).unwrap().with_login("pipeline", "5e");
            assert_eq!((other.without_password(), other.expose()), (open, full), "{url}");
            assert_eq!(other.password(), Some("5e"));
            assert_eq!(ConnectionUrl::parse(full).unwrap(), other);
        };
        check("postgres://a:b@h:1/d", "postgres://pipeline@h:1/d", "postgres://pipeline:5e@h:1/d");
        check("postgres://h/d?x=y@z", "postgres://pipeline@h/d?x=y@z", "postgres://pipeline:5e@h/d?x=y@z");
    }

    #[test]
    fn damaged_urls_are_read_or_refused() {
        let corpus = ["postgres://a:s3cr%40t@h:1/d?sslmode=require", "postgresql:///d?host=/run/pg"];
        observatory_mutator::texts("database urls", &corpus, |text| {
            let Ok(parsed) = ConnectionUrl::parse(text) else { return };
            assert!(parsed.without_password().len() <= text.len());
            assert_eq!(parsed.expose(), text);
        });
    }

    #[test]
    fn other_urls_are_refused() {
        let check = |url: &str| assert!(ConnectionUrl::parse(url).is_err(), "{url}");
        check("mysql://a@h/d");
        check("host=localhost");
        check("postgres://a:%zz@h/d");
        check("postgres://a:%4@h/d");
    }
}
