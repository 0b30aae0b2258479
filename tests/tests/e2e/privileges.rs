//! What the real programs may do: in the database, and on the machine.

use crate::site::Site;

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
    // A country that is new, an index for the vectors, and the removal of personal data ask most of the database.
    site.run(&["countries", "enable", "PE"]).ended(0);
    assert_eq!(site.run(&["run", "start", "--watch", "--json"]).ended(0).json()["state"], "succeeded");
    site.run(&["privacy", "scrub"]).ended(0);
    assert_eq!(logins(&site).await, [("pipeline".to_owned(), false, false, false)]);
}
