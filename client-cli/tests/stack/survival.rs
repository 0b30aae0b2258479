//! Starting, stopping and surviving kill -9.
//!
//! No committed row is lost, no process is left.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use crate::site::{Site, eventually, freeze, kill_hard, pid, process};

#[test]
fn up_again_keeps_port_and_data_and_is_fast() {
    let site = Site::empty(18, "data");
    let first = site.up_postgres();
    site.sql("create table kept as select 41 + 1 as answer");
    let again = site.run(&["up", "--only", "postgres"]);
    assert_eq!((again.code, again.stderr.as_str()), (0, "already running\n"));
    assert_eq!(site.ask(&["down"])["stopped"], true);
    site.assert_nothing_left();
    let begun = Instant::now();
    let second = site.up_postgres();
    println!("second start: {} ms", begun.elapsed().as_millis());
    assert_eq!(process(&first, "postgres")["address"], process(&second, "postgres")["address"]);
    assert_eq!(site.sql("select answer from kept"), [["42"]]);
    let settings = site.sql(
        "select current_setting('fsync'), current_setting('data_checksums'), current_setting('server_encoding')",
    );
    assert_eq!(settings, [["on", "on", "UTF8"]]);
}

#[test]
fn a_killed_postmaster_is_started_again_on_its_port() {
    let site = Site::new();
    let up = site.up_postgres();
    site.sql("create table kept as select 1 as one");
    let first = process(&up, "postgres");
    kill_hard(pid(&first["pid"]));
    let second = eventually("a new postmaster", || {
        let found = site.process("postgres");
        (found["healthy"] == true && found["pid"] != first["pid"]).then_some(found)
    });
    assert_eq!((&second["address"], &second["restarts"]), (&first["address"], &1.into()));
    assert_eq!(site.state().processes["postgres"].last_end.as_deref(), Some("killed by SIGKILL"));
    assert_eq!(site.sql("select one from kept"), [["1"]]);
}

#[test]
fn a_postgres_that_hangs_is_started_again_with_its_data() {
    let site = Site::new();
    let up = site.ask(&["up", "--only", "postgres", "--health-seconds", "1"]);
    site.sql("create table kept as select 1 as one");
    let first = process(&up, "postgres");
    // The postmaster first, so that it starts no more children, then its children, of which some
    // may have just ended.
    assert!(freeze(pid(&first["pid"])));
    let supervisor = pid(&up["supervisor"]["pid"]);
    let frozen: Vec<i32> =
        site.processes().into_iter().filter(|&one| one != supervisor && freeze(one)).collect();
    assert!(frozen.len() > 3, "{frozen:?}");
    let second = eventually("a new postmaster", || {
        let found = site.process("postgres");
        (found["healthy"] == true && found["pid"] != first["pid"]).then_some(found)
    });
    assert_eq!((&second["address"], &second["restarts"]), (&first["address"], &1.into()));
    let why = site.state().processes["postgres"].last_end.clone().unwrap();
    assert!(why.starts_with("hung: no response for "), "{why}");
    let left = site.processes();
    assert!(frozen.iter().all(|one| !left.contains(one)), "{frozen:?} {left:?}");
    assert_eq!(site.sql("select one from kept"), [["1"]]);
}

#[test]
fn a_damaged_state_of_a_running_stack_is_written_again() {
    let site = Site::new();
    let up = site.up_postgres();
    for damage in ["", "{\"ports\": 3}", "not JSON", "{\"supervisor\":"] {
        fs::write(site.data.state_file(), damage).unwrap();
        let status = site.ask(&["status"]);
        assert_eq!(
            (&status["healthy"], &status["supervisor"]),
            (&true.into(), &up["supervisor"]),
            "{damage:?}"
        );
        fs::write(site.data.state_file(), damage).unwrap();
        let again = site.run(&["up", "--only", "postgres"]);
        assert_eq!((again.code, again.stderr.as_str()), (0, "already running\n"), "{damage:?}");
    }
    // Whole JSON that says something else, and no file at all.
    fs::write(site.data.state_file(), "{}").unwrap();
    eventually("the state as it is", || (site.run(&["status"]).code == 0).then_some(()));
    fs::remove_file(site.data.state_file()).unwrap();
    eventually("the state as it is", || (site.run(&["status"]).code == 0).then_some(()));
    assert_eq!(site.process("postgres"), process(&up, "postgres"));
}

#[test]
fn up_replaces_a_damaged_state_that_nobody_keeps() {
    let site = Site::new();
    site.data.create().unwrap();
    fs::write(site.data.state_file(), "{\"ports\": 3}").unwrap();
    let status = site.run(&["status"]);
    assert_eq!(status.code, 2);
    assert!(
        status.stderr.contains("hint: run `observatory up`, which writes a new one"),
        "{}",
        status.stderr
    );
    let up = site.run(&["up", "--only", "postgres"]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    assert!(up.stderr.contains("stack.json is damaged"), "{}", up.stderr);
    assert_eq!(site.run(&["status"]).code, 0);
}

#[test]
fn after_the_supervisor_was_killed_up_takes_over() {
    let site = Site::new();
    let up = site.up_postgres();
    site.sql("create table kept as select 1 as one");
    let (supervisor, postmaster) = (pid(&up["supervisor"]["pid"]), pid(&process(&up, "postgres")["pid"]));
    kill_hard(supervisor);
    let orphaned = eventually("the death of the supervisor", || {
        Some(site.run(&["status", "--json"])).filter(|said| said.json()["supervisor"].is_null())
    });
    assert_eq!(orphaned.code, 1);
    assert_eq!(orphaned.json()["leftovers"], serde_json::json!([postmaster]));
    let doctor = site.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("the supervisor died and left 1 process behind"));
    let again = site.up_postgres();
    assert_ne!(pid(&again["supervisor"]["pid"]), supervisor);
    assert_ne!(pid(&process(&again, "postgres")["pid"]), postmaster);
    assert_eq!(process(&again, "postgres")["address"], process(&up, "postgres")["address"]);
    assert_eq!(site.sql("select one from kept"), [["1"]]);
    // A fast shutdown, not a crash: nothing had to be recovered.
    let log = fs::read_to_string(site.data.log("postgres")).unwrap();
    assert!(!log.contains("was interrupted"), "{log}");
}

#[test]
fn down_ends_what_a_dead_supervisor_left() {
    let site = Site::new();
    let up = site.up_postgres();
    kill_hard(pid(&up["supervisor"]["pid"]));
    eventually("the death of the supervisor", || {
        let status = site.run(&["status", "--json"]).json();
        status["supervisor"].is_null().then_some(())
    });
    let down = site.ask(&["down"]);
    assert_eq!(down["leftovers_ended"], 1);
    site.assert_nothing_left();
    let nothing = site.run(&["down"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, "nothing was running\n"));
}

#[test]
fn a_second_supervisor_is_refused() {
    let site = Site::new();
    let up = site.up_postgres();
    let bin = site.state().database.unwrap().embedded.unwrap().bin;
    let second = site.run(&[
        "supervise",
        "--only",
        "postgres",
        "--bin-dir",
        "/nowhere",
        "--models-dir",
        "/nowhere",
        "--pg-bin",
        bin.to_str().unwrap(),
    ]);
    assert_eq!(second.code, 2);
    let expected =
        format!("already running on {}, pid {}", site.data.root().display(), up["supervisor"]["pid"]);
    assert!(second.stderr.contains(&expected), "{}", second.stderr);
    assert_eq!(site.process("postgres")["pid"], process(&up, "postgres")["pid"]);
}

#[test]
fn two_ups_at_once_end_with_one_stack() {
    let site = Site::empty(18, "data");
    let commands: Vec<_> = (0..2)
        .map(|_| {
            let mut command = site.command(&["up", "--only", "postgres", "--json"]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let pids: Vec<serde_json::Value> = commands
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["supervisor"]["pid"].clone()
        })
        .collect();
    assert_eq!(pids[0], pids[1]);
}

#[test]
fn a_deleted_data_directory_ends_its_stack() {
    let site = Site::new();
    site.up_postgres();
    assert!(!site.processes().is_empty());
    fs::rename(site.data.root(), site.data.root().with_extension("gone")).unwrap();
    let gone = site.data.root().with_extension("gone").join("postgres");
    eventually("the end of the stack", || {
        (site.processes().is_empty() && !gone.join("postmaster.pid").exists()).then_some(())
    });
}

#[test]
fn postgres_runs_as_an_ordinary_user() {
    let site = Site::empty(18, "data");
    let up = site.up_postgres();
    let postmaster = pid(&process(&up, "postgres")["pid"]);
    let uid = fs::metadata(format!("/proc/{postmaster}")).unwrap().uid();
    let me = nix::unistd::geteuid();
    assert!(if me.is_root() { uid != 0 } else { uid == me.as_raw() }, "uid {uid}");
    assert_eq!(fs::metadata(site.data.cluster()).unwrap().uid(), uid);
    let groups = fs::read_to_string(format!("/proc/{postmaster}/status")).unwrap();
    let groups = groups.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim().to_owned();
    assert!(!me.is_root() || groups.is_empty(), "{groups}");
    for secret in ["postgres-password", "database-url"] {
        let metadata = fs::metadata(site.data.secrets().join(secret)).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (me.as_raw(), 0o600));
    }
    let socket = fs::metadata(site.data.run().join("socket")).unwrap();
    assert_eq!((socket.uid(), socket.mode() & 0o777), (uid, 0o700));
}
