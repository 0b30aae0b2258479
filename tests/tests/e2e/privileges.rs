//! What the real programs may do: in the database, and on the machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::site::{Site, eventually};

/// Logins of the open connections of the pipeline, with what each may do beyond its grants.
async fn logins(site: &Site) -> Vec<(String, bool, bool, bool)> {
    sqlx::query_as(
        "select distinct r.rolname::text, r.rolsuper, r.rolcreaterole, r.rolbypassrls from pg_stat_activity a
         join pg_roles r on r.oid = a.usesysid where a.application_name = 'observatory'",
    )
    .fetch_all(&mut site.database().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_run_needs_no_more_than_a_writer_of_rows() {
    let site = Site::up();
    site.run(&["postings", "import", &site.ads(30), "--json"]).ended(0);
    // A country that is new, an index for the vectors, and the removal of personal data ask most of
    // the database.
    site.run(&["countries", "enable", "PE"]).ended(0);
    assert_eq!(site.run(&["run", "start", "--watch", "--json"]).ended(0).json()["state"], "succeeded");
    site.run(&["privacy", "scrub"]).ended(0);
    assert_eq!(logins(&site).await, [("observatory_pipeline".to_owned(), false, false, false)]);
    processes_run_as_the_owner_of_the_cluster(&site);
    reports_reach_places_of_the_caller(&site);
}

fn owner(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().uid()
}

fn i_am_root() -> bool {
    owner("/proc/self") == 0
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn processes_run_as_the_owner_of_the_cluster(site: &Site) {
    let user = owner(site.data().join("postgres"));
    assert_eq!(user != owner("/proc/self"), i_am_root());
    for name in ["postgres", "inference-server", "pipeline-services"] {
        assert_eq!(owner(format!("/proc/{}", site.pid(name).unwrap())), user, "{name}");
    }
    // What they keep to be faster is really kept.
    for kept in [site.data().join("cache/embeddings"), site.data().join("models/.digests")] {
        let files = fs::read_dir(&kept).unwrap().flatten().count();
        assert!(files > 0 && owner(&kept) == user, "{}", kept.display());
    }
}

/// Root's own directories are closed to the services, and a report gets there all the same.
fn reports_reach_places_of_the_caller(site: &Site) {
    let closed = site.dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    chmod(&closed, 0o700);
    let out = closed.join("report");
    let built = site.run(&["report", "build", "--format", "csv", "--out", out.to_str().unwrap(), "--json"]);
    let built = built.ended(0).json();
    assert_eq!(built["directory"], out.to_str().unwrap());
    for file in built["artefacts"].as_array().unwrap() {
        let path = out.join(file["name"].as_str().unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), file["bytes"].as_u64().unwrap(), "{}", path.display());
        assert_eq!(owner(&path), owner("/proc/self"), "{}", path.display());
    }
    let skills = closed.join("skills.csv");
    site.run(&["export", "skills", "--format", "csv", "--out", skills.to_str().unwrap()]).ended(0);
    assert!(fs::metadata(&skills).unwrap().len() > 500);
}

#[test]
fn a_portal_file_that_the_services_cannot_read_is_told_in_a_sentence() {
    let site = Site::new();
    let portals = site.dir.path().join("portals");
    fs::create_dir_all(&portals).unwrap();
    let example = crate::site::root().join("pipeline-services/portals/computrabajo.toml");
    fs::copy(example, portals.join("computrabajo.toml")).unwrap();
    let settings = format!(
        "[modules.scraper]\nenabled = true\n[modules.scraper.settings]\ncontact = 'a@b.example'\nportals_dir = '{}'\n",
        portals.display()
    );
    fs::create_dir(site.data()).unwrap();
    fs::write(site.data().join("observatory.toml"), settings).unwrap();
    chmod(&portals.join("computrabajo.toml"), 0o600);
    let up = site.run(&["up", "--no-model", "--wait-seconds", "120", "--json"]);
    if i_am_root() {
        let status = up.ended(1).json();
        let processes = status["processes"].as_array().unwrap();
        let problem = processes.iter().find_map(|process| process["problem"].as_str()).unwrap();
        for part in ["computrabajo.toml", "it runs as user nobody; chmod o+r makes a file readable"] {
            assert!(problem.contains(part), "{problem}");
        }
        chmod(&portals.join("computrabajo.toml"), 0o644);
        eventually("a healthy stack", || (site.run(&["status"]).code == 0).then_some(()));
    } else {
        up.ended(0);
    }
}
