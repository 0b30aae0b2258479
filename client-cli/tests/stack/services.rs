//! The services under the supervisor, played by stand-ins that keep the contract.
//!
//! They die, hang, fail and move.

use std::fs;
use std::net::TcpListener;

use observatory_cli::testing::{Client, ClientOptions};

use crate::site::{Said, Site, eventually, freeze, kill_hard, pid, process};

const INFERENCE: &str = "inference-server";
const PIPELINE: &str = "pipeline-services";

#[test]
fn a_killed_service_comes_back_on_its_port_and_the_others_stay() {
    let site = Site::new();
    site.install_stand_ins();
    let up = site.ask(&["up"]);
    assert_eq!(up["processes"].as_array().unwrap().len(), 3);
    let first = process(&up, INFERENCE);
    kill_hard(pid(&first["pid"]));
    let second = eventually("a new inference server", || {
        let found = site.process(INFERENCE);
        (found["healthy"] == true && found["pid"] != first["pid"]).then_some(found)
    });
    assert_eq!(second["address"], first["address"]);
    for name in ["postgres", PIPELINE] {
        assert_eq!(site.process(name)["pid"], process(&up, name)["pid"], "{name}");
    }
    assert_eq!(site.ask(&["status"])["healthy"], true);
    let doctor = site.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{}", doctor.stdout);
    site.ask(&["down"]);
    site.assert_nothing_left();
}

#[test]
fn a_service_that_hangs_is_killed_and_started_again() {
    let site = Site::new();
    site.install_stand_ins();
    let up = site.ask(&["up", "--health-seconds", "1"]);
    for name in [INFERENCE, PIPELINE] {
        let first = process(&up, name);
        assert!(freeze(pid(&first["pid"])));
        let second = eventually("another process", || {
            let found = site.process(name);
            (found["healthy"] == true && found["pid"] != first["pid"]).then_some(found)
        });
        assert_eq!((&second["address"], &second["restarts"]), (&first["address"], &1.into()), "{name}");
        let why = site.state().processes[name].last_end.clone().unwrap();
        assert!(why.starts_with("hung: no response for "), "{why}");
        assert!(!site.processes().contains(&pid(&first["pid"])), "{name}");
    }
    assert_eq!(site.process("postgres")["pid"], process(&up, "postgres")["pid"]);
}

#[test]
fn after_the_supervisor_was_killed_its_services_are_replaced() {
    let site = Site::new();
    site.install_stand_ins();
    let up = site.ask(&["up"]);
    kill_hard(pid(&up["supervisor"]["pid"]));
    let again = site.ask(&["up"]);
    for name in ["postgres", INFERENCE, PIPELINE] {
        let (old, new) = (process(&up, name), process(&again, name));
        assert_ne!(old["pid"], new["pid"], "{name}");
        assert_eq!(old["address"], new["address"], "{name}");
        assert!(!site.processes().contains(&pid(&old["pid"])), "{name}");
    }
}

#[test]
fn one_that_dies_again_and_again_is_reported_and_the_others_go_on() {
    let site = Site::new();
    site.install_stand_ins();
    let switch = site.bin_dir().join("inference-server-fails");
    fs::write(&switch, "").unwrap();
    let up = site.run(&["up", "--json"]);
    assert_eq!(up.code, 1, "{}", up.stderr);
    let problem = process(&up.json(), INFERENCE)["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("inference-server was told to fail"), "{problem}");
    assert_eq!(site.process("postgres")["healthy"], true);
    eventually("healthy pipeline services", || (site.process(PIPELINE)["healthy"] == true).then_some(()));
    fs::remove_file(switch).unwrap();
    eventually("a healthy stack", || (site.run(&["status"]).code == 0).then_some(()));
}

#[test]
fn a_failed_migration_is_reported_and_tried_again() {
    let site = Site::new();
    site.install_stand_ins();
    let switch = site.bin_dir().join("migrate-fails");
    fs::write(&switch, "").unwrap();
    let up = site.run(&["up", "--json"]);
    assert_eq!(up.code, 1, "{}", up.stderr);
    let problem = process(&up.json(), PIPELINE)["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("the migration failed (exit code 1)"), "{problem}");
    assert!(problem.contains("this migration was told to fail"), "{problem}");
    fs::remove_file(switch).unwrap();
    eventually("a healthy stack", || (site.run(&["status"]).code == 0).then_some(()));
}

#[test]
fn a_missing_program_is_named_before_anything_starts() {
    let site = Site::empty(18, "data");
    let up = site.run(&["up"]);
    assert_eq!(up.code, 2);
    let expected =
        format!("error: inference-server not found in {}\nhint: build it", site.bin_dir().display());
    assert!(up.stderr.starts_with(&expected), "{}", up.stderr);
    site.assert_nothing_left();
}

#[test]
fn a_stack_of_the_database_alone_grows_to_the_whole() {
    let site = Site::new();
    site.install_stand_ins();
    site.up_postgres();
    site.sql("create table kept as select 1 as one");
    let said: Said = site.run(&["up", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(
        said.stderr.contains("restarting the stack to include the requested services"),
        "{}",
        said.stderr
    );
    assert_eq!(said.json()["processes"].as_array().unwrap().len(), 3);
    assert_eq!(site.sql("select one from kept"), [["1"]]);
    // The whole has the database in it: nothing to do.
    assert_eq!(site.run(&["up", "--only", "postgres"]).stderr, "already running\n");
}

#[test]
fn when_a_service_has_to_move_those_that_call_it_are_told() {
    let site = Site::new();
    site.install_stand_ins();
    let up = site.ask(&["up"]);
    let address = process(&up, INFERENCE)["address"].as_str().unwrap().to_owned();
    let _taken = eventually("the freed port", || {
        kill_hard(pid(&process(&up, INFERENCE)["pid"]));
        TcpListener::bind(&address).ok()
    });
    let moved = eventually("the inference server elsewhere", || {
        let found = site.process(INFERENCE);
        (found["healthy"] == true && found["address"] != address.as_str()).then_some(found)
    });
    let pipeline = eventually("the pipeline services again", || {
        let found = site.process(PIPELINE);
        (found["healthy"] == true && found["pid"] != process(&up, PIPELINE)["pid"]).then_some(found)
    });
    let environment = fs::read(format!("/proc/{}/environ", pipeline["pid"])).unwrap();
    let expected = format!("OBSERVATORY_INFERENCE=http://{}", moved["address"].as_str().unwrap());
    assert!(environment.split(|&byte| byte == 0).any(|variable| variable == expected.as_bytes()));
    let last_end = site.state().processes[PIPELINE].last_end.clone();
    assert_eq!(last_end.as_deref(), Some("the inference server moved"));
}

#[test]
fn clients_find_the_services_of_a_running_stack() {
    let site = Site::new();
    site.install_stand_ins();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = ClientOptions { no_start: true, ..ClientOptions::default() };
    let client = Client::new(options, site.data.clone());
    let refused = runtime.block_on(client.pipeline()).unwrap_err();
    assert!(refused.to_string().starts_with("no pipeline-services answers on "), "{refused}");
    site.ask(&["up"]);
    runtime.block_on(client.pipeline()).unwrap();
    runtime.block_on(client.inference()).unwrap();
}

#[test]
fn services_know_tokens_and_clients_and_speak_no_tls_among_themselves() {
    let site = Site::new();
    site.install_stand_ins();
    let passed =
        [("OBSERVATORY_INFERENCE_TOKEN", "secret"), ("OBSERVATORY_INFERENCE_CLIENTS_FILE", "/clients.toml")];
    let dropped =
        [("OBSERVATORY_INFERENCE_CA", "/ca.pem"), ("OBSERVATORY_INFERENCE_TLS_CERT", "/server.pem")];
    let mut command = site.command(&["up", "--json"]);
    command.envs(passed).envs(dropped);
    let up: Said = command.output().unwrap().into();
    assert_eq!(up.code, 0, "{}", up.stderr);
    for name in [INFERENCE, PIPELINE] {
        let pid = process(&up.json(), name)["pid"].clone();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let has = |(name, value): (&str, &str)| {
            let wanted = format!("{name}={value}");
            environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        assert!(passed.into_iter().all(has) && !dropped.into_iter().any(has), "{name}");
    }
}
