//! Identities of the services: in the database and on the machine.
//!
//! Most of it matters only if root runs the tests; the rest is checked for any user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::unistd::geteuid;
use observatory_cli::testing::{ConnectionUrl, Psql};
use serde_json::Value;

use crate::site::{Said, Site, distribution, open_dir, pid, process};

const INFERENCE: &str = "inference-server";
const PIPELINE: &str = "pipeline-services";

/// A variable in the environment of a running process.
fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&environment).into_owned();
    text.split('\0').find_map(|variable| Some(variable.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// Result of a query for a login, or the text of the error.
fn ask(url: &str, statement: &str) -> Result<Vec<Vec<String>>, String> {
    let psql = Psql::find(Some(&distribution(18).bin)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = ConnectionUrl::parse(url).unwrap();
    runtime.block_on(psql.query(&url, statement)).map_err(|error| error.to_string())
}

/// The URL with which the pipeline of a stack that is up connects.
fn pipeline_url(up: &Value) -> String {
    variable(pid(&process(up, PIPELINE)["pid"]), "DATABASE_URL").unwrap()
}

/// Checks that the login may do what a member of `obs_writer` may, and nothing else.
fn assert_writer(url: &str) {
    let rights = "select rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication from pg_roles \
        where rolname = current_user";
    assert_eq!(ask(url, rights).unwrap(), [["observatory_pipeline", "f", "f", "f", "f", "f"]]);
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
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (geteuid().as_raw(), 0o600));
    assert!(first.contains(&fs::read_to_string(&secret).unwrap()));
    // Everything that looks after the database still does so as its owner.
    assert_eq!(
        site.sql("select current_user, rolsuper from pg_roles where rolname = current_user"),
        [["observatory", "t"]]
    );

    site.sql("alter role observatory_pipeline superuser createrole bypassrls");
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
        theirs.sql("select count(*) from pg_roles where rolname in ('observatory_pipeline', 'obs_writer')"),
        [["0"]]
    );
}

/// The services of a stack, with the user and the further groups of each.
fn identities(up: &Value) -> Vec<(u32, String)> {
    [INFERENCE, PIPELINE]
        .map(|name| {
            let pid = pid(&process(up, name)["pid"]);
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let groups =
                status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim().to_owned();
            (fs::metadata(format!("/proc/{pid}")).unwrap().uid(), groups)
        })
        .to_vec()
}

/// Owner of a file, or of a link itself.
fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn services_of_root_run_as_the_user_of_the_database() {
    let site = Site::new();
    site.install_stand_ins();
    // As services that ran as root left it, with a way out of it.
    let outside = open_dir();
    let kept = outside.path().join("kept");
    fs::write(&kept, "root's").unwrap();
    let (reports, vectors) = (site.data.reports().join("run"), site.data.embedding_cache());
    for dir in [&reports, &vectors] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("old"), "").unwrap();
        symlink(&kept, dir.join("link")).unwrap();
        symlink(outside.path(), dir.join("folder")).unwrap();
    }
    let mut command = site.command(&["up", "--json"]);
    let up: Said = command.env("OBSERVATORY_OF_MINE", "kept").output().unwrap().into();
    assert_eq!(up.code, 0, "{}", up.stderr);
    let up = up.json();
    let (me, user) = (geteuid(), owner(&site.data.cluster()));
    for (uid, groups) in identities(&up) {
        assert_eq!(uid, user);
        assert!(!me.is_root() || (uid != 0 && groups.is_empty()), "uid {uid}, groups {groups}");
    }
    for name in [INFERENCE, PIPELINE] {
        let pid = pid(&process(&up, name)["pid"]);
        assert_eq!(variable(pid, "OBSERVATORY_OF_MINE").as_deref(), Some("kept"), "{name}");
        assert_eq!(owner(&site.data.announce(name)), user, "{name}");
    }
    let written = [site.data.run(), site.data.reports(), reports, site.data.cache(), vectors.clone()];
    let inside = ["old", "link", "folder"].map(|name| vectors.join(name));
    for path in written.iter().chain(&inside) {
        assert_eq!(owner(path), user, "{}", path.display());
    }
    for path in [&kept, outside.path(), site.data.root(), &site.data.state_file(), &site.data.secrets()] {
        assert_eq!(owner(path), me.as_raw(), "{}", path.display());
    }
    for secret in ["postgres-password", "pipeline-password", "database-url", "inference-server-token"] {
        let metadata = fs::metadata(site.data.secrets().join(secret)).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (me.as_raw(), 0o600), "{secret}");
    }
    // The supervisor, who is root, still ends and starts them.
    site.ask(&["down"]);
    site.assert_nothing_left();
    assert_eq!(site.ask(&["up"])["healthy"], true);
}

#[test]
fn programs_out_of_reach_are_started_from_the_data_directory() {
    let site = Site::new();
    site.install_stand_ins();
    chmod(&site.bin_dir(), 0o700);
    let started = |up: &Value| {
        [INFERENCE, PIPELINE].map(|name| {
            let pid = pid(&process(up, name)["pid"]);
            fs::read_link(format!("/proc/{pid}/exe")).unwrap()
        })
    };
    let first = started(&site.ask(&["up"]));
    if !geteuid().is_root() {
        assert!(!site.data.programs().exists());
        return;
    }
    assert_eq!(first, [INFERENCE, PIPELINE].map(|name| site.data.programs().join(name)));
    assert!(identities(&site.ask(&["status"])).iter().all(|(uid, _)| *uid != 0));
    site.ask(&["down"]);
    // Once they can be reached they are started from where they are.
    chmod(&site.bin_dir(), 0o755);
    let second = started(&site.ask(&["up"]));
    assert!(second.iter().all(|program| !program.starts_with(site.data.root())), "{second:?}");
}

#[test]
fn a_mask_that_keeps_files_private_is_in_nobodys_way() {
    let site = Site::empty(18, "data");
    site.install_stand_ins();
    let model = open_dir();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::write(model.path().join(file), "{}").unwrap();
        chmod(&model.path().join(file), 0o600);
    }
    let masked = |arguments: &[&str]| {
        let plain = site.command(arguments);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let said: Said = command.output().unwrap().into();
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.stderr);
    };
    // The first of these makes the data directory.
    masked(&["models", "import", model.path().to_str().unwrap(), "--name", "org/encoder"]);
    masked(&["up"]);
    assert_eq!(site.run(&["doctor"]).code, 0);
    if !geteuid().is_root() {
        return;
    }
    let weights = site.data.models().join("org/encoder/model.safetensors");
    chmod(&weights, 0o600);
    let doctor = site.run(&["doctor"]);
    let expected = format!("the model file {} cannot be read by the user nobody", weights.display());
    assert!(doctor.code == 1 && doctor.stdout.contains(&expected), "{}", doctor.stdout);
}

#[test]
fn what_the_services_cannot_read_is_named_before_anything_starts() {
    let site = Site::new();
    site.install_stand_ins();
    let closed = site.bin_dir().join("closed");
    fs::create_dir_all(closed.join("models")).unwrap();
    chmod(&closed, 0o700);
    let token = site.bin_dir().join("token");
    for file in [&site.data.config(), &token] {
        fs::write(file, "").unwrap();
        chmod(file, 0o600);
    }
    let models = closed.join("models").display().to_string();
    let (models, plain) = (["up", "--models-dir", &models], ["up"]);
    let check = |arguments: &[&str], variable: (&str, &Path), expected: [&str; 2]| {
        let said: Said = site.command(arguments).env(variable.0, variable.1).output().unwrap().into();
        if !geteuid().is_root() {
            assert_eq!(said.code, 0, "{}", said.stderr);
            site.ask(&["down"]);
            return;
        }
        assert_eq!((said.code, said.stderr.lines().count()), (2, 2), "{}", said.stderr);
        for part in expected {
            assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
        }
        site.assert_nothing_left();
    };
    let none = ("OBSERVATORY_OF_MINE", Path::new(""));
    let config = site.data.config().display().to_string();
    let unreadable = format!(
        "error: the configuration {config} cannot be read by the user nobody, which runs the stack: its mode is 0600"
    );
    check(&plain, none, [&unreadable, &format!("hint: chown nobody {config}, or chmod o+r {config}")]);
    chmod(&site.data.config(), 0o644);
    let token_file = ("OBSERVATORY_INFERENCE_TOKEN_FILE", token.as_path());
    check(&plain, token_file, ["error: the token file ", "hint: chown nobody "]);
    let reach = format!(
        "cannot be reached by the user nobody, which runs the stack: {} has mode 0700",
        closed.display()
    );
    check(&models, none, [&reach, "or choose another with --models-dir DIR or OBSERVATORY_MODELS"]);
    let reports = ("OBSERVATORY_REPORTS", site.bin_dir().join("reports"));
    check(&plain, (reports.0, &reports.1), ["error: the reports directory ", "hint: mkdir -p "]);
    let unset: Said = site.run(&["up"]);
    assert_eq!(unset.code, 0, "{}", unset.stderr);
}
