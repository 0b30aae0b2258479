use super::*;

fn raw() -> NewPosting {
    NewPosting {
        portal: "bumeran".to_owned(),
        country: "AR".to_owned(),
        url: "https://www.bumeran.com.ar/empleos/analista-1116979466.html".to_owned(),
        title: "Analista contable".to_owned(),
        description: "<p>Excel avanzado.</p><p>Enviar CV a rrhh@empresa.example</p>".to_owned(),
        ..NewPosting::default()
    }
}

fn prepared(raw: NewPosting) -> Result<Prepared, Refusal> {
    prepare(raw, &["AR".to_owned(), "CO".to_owned()], "2001-01-01T00:00:00Z".parse().expect("a time"))
}

#[test]
fn names_and_addresses_become_codes() {
    let item = NewPosting {
        portal: "Computrabajo Colombia".to_owned(),
        country: "Colombia".to_owned(),
        url: "www.computrabajo.com/viewjob?jk=7".to_owned(),
        ..raw()
    };
    let item = prepared(item).expect("accepted");
    let stored = (item.posting.portal.as_str(), item.posting.country.as_str(), item.posting.url.as_str());
    assert_eq!(stored, ("computrabajo-colombia", "CO", "https://www.computrabajo.com/viewjob?jk=7"));
    assert_eq!(item.external_id, "7");
    let expected = [
        "portal: `Computrabajo Colombia` became `computrabajo-colombia`",
        "country: `Colombia` became `CO`",
        "url: https:// was put before addresses without a scheme",
    ];
    assert_eq!(item.changed, expected);
    assert!(prepared(raw()).expect("accepted").changed.is_empty());
}

#[test]
fn a_preview_is_what_would_be_stored() {
    let preview = prepared(raw()).expect("accepted").preview();
    assert_eq!((preview["external_id"].as_str(), &preview["scraped_at"]), (Some("1116979466"), &Value::Null));
    assert!(!preview["description"].as_str().expect("a text").contains('@'));
}

#[test]
fn text_is_cleaned_and_personal_data_counted() {
    let item = prepared(raw()).expect("accepted");
    assert_eq!(item.external_id, "1116979466");
    assert!(!item.posting.description.contains('<') && !item.posting.description.contains('@'));
    assert_eq!(item.removed.values().sum::<u64>(), 1);
}

#[test]
fn addresses_and_ids_hold_no_personal_data() {
    let check = |url: &str, id: Option<&str>, expected: (&str, &str)| {
        let item = prepared(NewPosting { url: url.to_owned(), external_id: id.map(str::to_owned), ..raw() });
        let item = item.expect("accepted");
        assert_eq!((item.posting.url.as_str(), item.external_id.as_str()), expected);
        assert!(item.removed["url"] >= 1);
    };
    let hash = &prepared(raw()).expect("accepted").content_hash[..32];
    let offer = "https://jobs.example/oferta/48213";
    check(
        "https://jobs.example/oferta/48213?tel=3155550142&page=2",
        None,
        ("https://jobs.example/oferta/48213?tel=&page=2", "jobs.example/48213"),
    );
    check("https://jobs.example/p/ana%40x.example", None, ("https://jobs.example/p/-", hash));
    check(offer, Some("juan.perez@correo.example"), (offer, "jobs.example/48213"));
    check("https://jobs.example/oferta", Some("juan@correo.example"), ("https://jobs.example/oferta", hash));
    check(offer, Some("77310:juan@correo.example"), (offer, "77310"));
}

#[test]
fn refusals_quote_no_personal_data() {
    let message = prepared(NewPosting { url: "mailto:ana.ruiz@x.example".to_owned(), ..raw() })
        .expect_err("refused")
        .to_string();
    assert!(message.contains("[email]") && !message.contains("ana.ruiz"), "{message}");
}

#[test]
fn refusals_name_the_field() {
    let check = |change: fn(&mut NewPosting), field| {
        let mut item = raw();
        change(&mut item);
        assert_eq!(prepared(item).expect_err("refused").field, field);
    };
    check(|item| item.portal = "¡!".to_owned(), "portal");
    check(|item| item.portal = "x".repeat(51), "portal");
    check(|item| item.country = "XX".to_owned(), "country");
    check(|item| item.country = "España".to_owned(), "country");
    check(|item| item.country = String::new(), "country");
    check(|item| item.url = "ftp://x".to_owned(), "url");
    check(|item| item.url = "/oferta/1".to_owned(), "url");
    check(|item| item.external_id = Some("x".repeat(501)), "id");
    check(|item| item.title = "  ".to_owned(), "title");
    check(|item| item.description = "<br/>".to_owned(), "description");
    check(|item| item.contract_type = Some("x".repeat(51)), "contract_type");
    check(|item| item.scraped_at = "2001-01-03T00:00:00Z".parse().ok(), "scraped_at");
    check(|item| item.scraped_at = "0012-01-03T00:00:00Z".parse().ok(), "scraped_at");
    check(|item| item.posted_date = "-9000-01-03".parse().ok(), "posted_date");
    check(|item| item.posted_date = "0226-11-03".parse().ok(), "posted_date");
    check(|item| item.posted_date = "9999-12-31".parse().ok(), "posted_date");
    check(|item| item.url = format!("https://x.example/{}", "a".repeat(200_000)), "url");
    check(|item| item.url = "https://x.example/a\0b".to_owned(), "url");
    check(|item| item.portal = "bumeran\0".repeat(80), "portal");
    check(|item| item.country = "Argentina ".repeat(1_000), "country");
}

#[test]
fn refusals_quote_the_beginning_of_a_value() {
    let long = "x".repeat(200_000);
    let check = |change: &dyn Fn(&mut NewPosting)| {
        let mut item = raw();
        change(&mut item);
        let message = prepared(item).expect_err("refused").to_string();
        assert!(message.len() < 600, "{} bytes", message.len());
    };
    check(&|item| item.portal = long.clone());
    check(&|item| item.portal = "¡".repeat(150));
    check(&|item| item.country = long.clone());
    check(&|item| item.country = "x".repeat(450));
    check(&|item| item.url = long.clone());
    check(&|item| item.url = format!("ftp://{}", "x".repeat(1_900)));
    check(&|item| item.external_id = Some(long.clone()));
    check(&|item| item.title = long.clone());
    for json in [
        format!(r#"{{"posted_date": "{long}"}}"#),
        format!(r#"{{"scraped_at": "{long}"}}"#),
        format!(r#"{{"raw": {{"{long}": 1}}, "title": ["{long}"]}}"#),
        format!(r#"{{"title": "{long}"#),
    ] {
        let message = parse(&json).expect_err("refused").to_string();
        assert!(message.len() < 600, "{} bytes", message.len());
    }
}

#[test]
fn characters_that_nobody_sees_do_not_reach_the_database() {
    let dirty = "a\0b\u{7}c";
    let item = NewPosting {
        external_id: Some(dirty.to_owned()),
        title: dirty.to_owned(),
        company: Some(dirty.to_owned()),
        location: Some(dirty.to_owned()),
        description: dirty.to_owned(),
        requirements: Some(dirty.to_owned()),
        salary_raw: Some(dirty.to_owned()),
        contract_type: Some(dirty.to_owned()),
        remote_type: Some(dirty.to_owned()),
        ..raw()
    };
    let preview = prepared(item).expect("accepted").preview().to_string();
    assert!(!preview.contains("\\u0000") && !preview.contains("\\u0007"), "{preview}");
}

#[test]
fn a_text_far_over_its_limit_is_not_even_cleaned() {
    let countries = ["AR".to_owned()];
    let prepared = |description: String| {
        prepare(NewPosting { description, ..raw() }, &countries, Utc::now())
            .map(|item| item.posting.description)
    };
    let markup = format!("{}Excel", "<span style='color: black'></span>".repeat(20_000));
    assert_eq!(prepared(markup).unwrap(), "Excel");
    let refused = prepared("<b></b>".repeat(300_000)).unwrap_err().to_string();
    assert!(
        refused.contains("has 2100000 characters before it is cleaned, at most 1600000 are read"),
        "{refused}"
    );
    let title = NewPosting { title: "<i></i>".repeat(2_000), ..raw() };
    assert_eq!(prepare(title, &countries, Utc::now()).unwrap_err().field, "title");
}

#[test]
fn json_is_read_with_precise_errors() {
    let check = |json, expected: &str| {
        let message = parse(json).expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    };
    check("[]", "not a JSON object");
    check("{", "not valid JSON");
    check(r#"{"posted_date": "ayer"}"#, "posted_date: `ayer` is not a date");
    check(r#"{"title": 3}"#, "title: a number; expected a text");
    check(r#"{"company": {"name": "x"}}"#, "company: an object; expected a text");
    check(r#"{"requirements": ["x"]}"#, "requirements: a list; expected a text");
    let item = parse(r#"{"id": 77, "title": "x", "requirements": "", "n": 1}"#).expect("read");
    assert_eq!((item.external_id.as_deref(), item.requirements), (Some("77"), None));
}
