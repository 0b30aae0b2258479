//! Waiting for the schema: what is said meanwhile, what ends it at once, and requests to stop.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::site::{Said, Site, eventually, program};

fn services(arguments: &[&str], database: &str) -> Command {
    let mut command = Command::new(program("pipeline-services"));
    command.env_remove("OBSERVATORY_CONFIG").env_remove("OBSERVATORY_LOG");
    command.env("DATABASE_URL", database).args(arguments);
    command
}

/// A database server, and what stands before the name in a URL of its databases; "postgres" has no
/// schema of ours.
fn postgres() -> (Site, String) {
    let site = Site::new();
    site.run(&["up", "--only", "postgres"]).ended(0);
    let url = fs::read_to_string(site.data().join("secrets/database-url")).unwrap();
    let (server, _) = url.trim().rsplit_once('/').unwrap();
    let server = server.to_owned();
    (site, server)
}

#[test]
fn what_waiting_does_not_mend_ends_it_at_once() {
    let (_site, server) = postgres();
    let (user, rest) = server.split_once("//").unwrap().1.split_once(':').unwrap();
    let (_, address) = rest.split_once('@').unwrap();
    let check = |url: &str, part: &str| {
        for wait in [&["wait-schema", "--timeout", "60"][..], &["migrate"]] {
            let began = Instant::now();
            let said: Said = services(wait, url).output().unwrap().into();
            let said = said.ended(2);
            assert!(said.stderr.contains(part), "{wait:?}: {}", said.stderr);
            assert!(began.elapsed() < Duration::from_secs(10), "{wait:?}: {:?}", began.elapsed());
        }
    };
    check(&format!("postgres://{user}:wrong@{address}/postgres"), "password authentication failed");
    check(&format!("postgres://nobody:wrong@{address}/postgres"), "authentication failed");
    check(&format!("{server}/nothing"), "database \"nothing\" does not exist");
    check(&format!("{server}/postgres?sslmode=require"), "TLS");
}

#[test]
fn a_wait_says_what_for_and_ends_on_request() {
    let (_site, server) = postgres();
    let check = |database: &str, reason: &str| {
        let mut command = services(&["wait-schema", "--timeout", "60"], database);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        // At once, not after the ten seconds between two lines.
        let began = Instant::now();
        while !seen.contains(reason) {
            seen.push_str(&lines.next().expect("it waits").unwrap());
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}: {seen}", began.elapsed());
        let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(stopped.success());
        let began = Instant::now();
        let status = eventually("its end", || child.try_wait().unwrap());
        // An exit of its own, which the first process of a container owes as well: there, a signal
        // without a handler does nothing.
        assert_eq!(status.code(), Some(2), "{status}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    };
    check(&format!("{server}/postgres"), "schema is at version 0");
    check("postgres://nobody@127.0.0.1:1/none", "Connection refused");
}

#[test]
fn a_migration_says_that_it_waits_and_ends_on_request() {
    // Nobody answers: packets to this port are read and thrown away.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let mut command = services(&["migrate"], &format!("postgres://nobody@{address}/none"));
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().expect("a line").unwrap().contains("migrating the schema"));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(eventually("its end", || child.try_wait().unwrap()).code(), Some(2));
}
