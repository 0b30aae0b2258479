//! Who the services are: in the database, and on the machine.

use std::fs;
use std::os::unix::fs::MetadataExt;

use observatory_cli::local::postgres::{ConnectionUrl, Psql};

use crate::site::{Said, Site, distribution, pid, process};

const PIPELINE: &str = "pipeline-services";

/// A variable in the environment of a running process.
fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&environment).into_owned();
    text.split('\0').find_map(|variable| Some(variable.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// What a login sees; its error's text else.
fn ask(url: &str, statement: &str) -> Result<Vec<Vec<String>>, String> {
    let psql = Psql::find(Some(&distribution(18).bin)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = ConnectionUrl::parse(url).unwrap();
    runtime.block_on(psql.query(&url, statement)).map_err(|error| error.to_string())
}

/// The URL with which the pipeline of a stack that is up connects.
fn pipeline_url(up: &serde_json::Value) -> String {
    variable(pid(&process(up, PIPELINE)["pid"]), "DATABASE_URL").unwrap()
}

/// Checks that the login may do what a member of `obs_writer` may, and nothing else.
fn assert_writer(url: &str) {
    let rights = "select rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication from pg_roles \
        where rolname = current_user";
    assert_eq!(ask(url, rights).unwrap(), [["pipeline", "f", "f", "f", "f", "f"]]);
    let groups = "select g.rolname, m.admin_option from pg_auth_members m join pg_roles g on g.oid = m.roleid \
        where m.member = current_user::regrole";
    assert_eq!(ask(url, groups).unwrap(), [["obs_writer", "f"]]);
    let refused = ask(url, "create table public.made (one integer)").unwrap_err();
    assert!(refused.contains("permission denied for schema public"), "{refused}");
    let refused = ask(url, "copy (select 1) to program 'cat'").unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
}

#[test]
fn the_running_pipeline_is_no_superuser_of_its_database() {
    let site = Site::new();
    site.install_stand_ins();
    // The cluster was made before there was such a login.
    let first = pipeline_url(&site.ask(&["up"]));
    assert_writer(&first);
    let secret = site.data.pipeline_password();
    let metadata = fs::metadata(&secret).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (nix::unistd::geteuid().as_raw(), 0o600));
    assert!(first.contains(&fs::read_to_string(&secret).unwrap()));
    // Everything that looks after the database still does so as its owner.
    assert_eq!(
        site.sql("select current_user, rolsuper from pg_roles where rolname = current_user"),
        [["observatory", "t"]]
    );

    site.sql("alter role pipeline superuser createrole bypassrls");
    site.ask(&["down"]);
    fs::remove_file(&secret).unwrap();
    let second = pipeline_url(&site.ask(&["up"]));
    assert_ne!(first, second);
    assert_writer(&second);
    assert!(ask(&first, "select 1").unwrap_err().contains("password authentication failed"));
}

#[test]
fn a_database_of_somebody_else_is_used_as_its_url_says() {
    let (theirs, ours) = (Site::new(), Site::empty(18, "data"));
    theirs.up_postgres();
    ours.install_stand_ins();
    let url = fs::read_to_string(theirs.data.secrets().join("database-url")).unwrap();
    let up: Said = ours.command(&["up", "--json"]).env("DATABASE_URL", &url).output().unwrap().into();
    let services = up.json();
    assert_eq!(process(&services, PIPELINE)["healthy"], true, "{}", up.stderr);
    assert_eq!(pipeline_url(&services), url);
    assert!(!ours.data.pipeline_password().exists());
    assert_eq!(
        theirs.sql("select count(*) from pg_roles where rolname in ('pipeline', 'obs_writer')"),
        [["0"]]
    );
}
