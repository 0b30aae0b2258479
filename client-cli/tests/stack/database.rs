//! The database cluster: versions, paths, passwords, and the library interface.
//!
//! Each test has a data directory of its own.

use std::fs;

use observatory_cli::testing::{Cluster, ClusterConfig, ProcessId, Psql};

use crate::site::{Site, distribution, eventually};

/// A cluster without a supervisor.
fn cluster(site: &Site) -> Cluster {
    site.data.create().unwrap();
    let distribution = distribution(18);
    Cluster::prepare(ClusterConfig::new(distribution, &site.data).unwrap()).unwrap()
}

#[tokio::test]
async fn a_cluster_starts_stops_and_ends_when_dropped() {
    let site = Site::new();
    let cluster = cluster(&site);
    let server = cluster.start(None).await.unwrap();
    let psql = Psql::find(Some(&distribution(18).bin)).unwrap();
    let url = server.connection_url().clone();
    psql.query(&url, "create extension vector").await.unwrap();
    let distance = psql.query(&url, "select '[1,2]'::vector <-> '[4,6]'::vector").await.unwrap();
    assert_eq!(distance, [["5"]]);
    let versions = psql.versions(&url).await.unwrap();
    assert_eq!((versions.major, versions.vector_installed.as_deref()), (18, Some("0.8.5")));

    let refused = cluster.start(None).await.unwrap_err();
    assert!(refused.to_string().starts_with("postgres is already running on "), "{refused}");
    let first = server.id().clone();
    let port = server.address().port();
    server.stop().await.unwrap();
    assert!(!first.is_alive());

    let server = cluster.start(Some(port)).await.unwrap();
    assert_eq!(server.address().port(), port);
    let second: ProcessId = server.id().clone();
    drop(server);
    assert!(!second.is_alive());
    eventually("the end of the backends", || site.processes().is_empty().then_some(()));
}

#[tokio::test]
async fn a_port_that_somebody_took_is_not_insisted_on() {
    let site = Site::new();
    let cluster = cluster(&site);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = cluster.start(Some(port)).await.unwrap();
    assert_ne!(server.address().port(), port);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_lock_file_that_names_another_process_is_stale() {
    let site = Site::new();
    let cluster = cluster(&site);
    let server = cluster.start(None).await.unwrap();
    let lock = cluster.config().dir.join("postmaster.pid");
    let text = fs::read_to_string(&lock).unwrap();
    server.stop().await.unwrap();
    // As after a reboot: the pid is in use again, by a program that has nothing to do with it.
    let rest = text.split_once('\n').unwrap().1;
    fs::write(&lock, format!("{}\n{rest}", std::process::id())).unwrap();
    assert_eq!(cluster.postmaster(), None);
    cluster.start(None).await.unwrap().stop().await.unwrap();
}

#[test]
fn the_major_version_stays_with_the_cluster() {
    let site = Site::empty(16, "data");
    site.ask(&["up", "--only", "postgres", "--pg-major", "16"]);
    assert!(site.sql("show server_version")[0][0].starts_with("16."));
    assert_eq!(
        site.sql("select '[1]'::text, (select 1 from pg_available_extensions where name = 'vector')")[0][1],
        "1"
    );
    site.ask(&["down"]);
    let other = site.run(&["up", "--only", "postgres", "--pg-major", "18"]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("was created by PostgreSQL 16, not 18"), "{}", other.stderr);
    assert!(other.stderr.contains("hint: omit --pg-major"), "{}", other.stderr);
    site.up_postgres();
}

#[test]
fn a_long_path_gets_a_short_socket() {
    let site = Site::empty(18, &"a-long-name-".repeat(12));
    site.up_postgres();
    let socket = &site.sql("show unix_socket_directories")[0][0];
    assert!(socket.starts_with("/tmp/observatory-"), "{socket}");
    site.ask(&["down"]);
    fs::remove_dir_all(socket).unwrap();
}

#[test]
fn a_lost_password_is_replaced() {
    let site = Site::new();
    site.up_postgres();
    site.sql("create table kept as select 1 as one");
    let secret = site.data.secrets().join("postgres-password");
    let first = fs::read_to_string(&secret).unwrap();
    site.ask(&["down"]);
    fs::remove_file(&secret).unwrap();
    site.up_postgres();
    assert_ne!(fs::read_to_string(&secret).unwrap(), first);
    assert_eq!(site.sql("select one from kept"), [["1"]]);
}

#[test]
fn a_database_of_somebody_else_serves_too() {
    let (theirs, ours) = (Site::new(), Site::empty(18, "data"));
    theirs.up_postgres();
    let url = fs::read_to_string(theirs.data.secrets().join("database-url")).unwrap();
    let run = |arguments: &[&str], url: &str| {
        let mut command = ours.command(arguments);
        let path = format!("{}:/usr/bin:/bin", distribution(18).bin.display());
        crate::site::Said::from(command.env("DATABASE_URL", url).env("PATH", path).output().unwrap())
    };
    let up = run(&["up", "--only", "postgres", "--json"], &url);
    assert_eq!(up.code, 0, "{}", up.stderr);
    assert_eq!(up.json()["processes"][0]["name"], "database");
    assert!(!ours.data.cluster().exists());
    let doctor = run(&["doctor"], &url);
    assert!(doctor.stdout.contains("PostgreSQL 18.4, pgvector 0.8.5 not installed yet"), "{}", doctor.stdout);
    let password = url.split(':').nth(2).unwrap().split('@').next().unwrap().to_owned();
    let state = fs::read_to_string(ours.data.state_file()).unwrap();
    assert!([&up.stdout, &doctor.stdout, &state].into_iter().all(|text| !text.contains(&password)));

    theirs.ask(&["down"]);
    let status = eventually("an unhealthy status", || {
        Some(run(&["status", "--json"], &url)).filter(|status| status.code == 1)
    });
    assert_eq!(status.json()["processes"][0]["healthy"], false);
    ours.ask(&["down"]);
    let refused = run(&["up", "--only", "postgres"], &url);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("the database at DATABASE_URL does not respond"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&password));
}
