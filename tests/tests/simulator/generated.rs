//! The generated advertisements themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use observatory_tests::simulator::{
    Config, Portal, Shares, Site, Truth, comparable, generate, write_importable, write_truth,
};

fn config(total: usize) -> Config {
    Config { ads: Config::spread(total), ..Config::default() }
}

fn text(truth: &Truth) -> String {
    format!("{}\n{}\n{}", truth.title, truth.description, truth.requirements.as_deref().unwrap_or_default())
}

#[test]
fn equal_configurations_give_equal_bytes() {
    let bytes = |config: &Config| {
        let mut bytes = Vec::new();
        write_truth(&generate(config).unwrap(), &mut bytes).unwrap();
        bytes
    };
    let first = bytes(&config(300));
    assert_eq!(first, bytes(&config(300)));
    assert_ne!(first, bytes(&Config { seed: 43, ..config(300) }));
    assert_ne!(first, bytes(&Config { wave: 2, ..config(300) }));
}

#[test]
fn more_ads_of_a_site_leave_the_others_alone() {
    let site: Site = "elempleo:CO".parse().unwrap();
    let few = generate(&Config { ads: vec![(site, 10)], ..Config::default() }).unwrap();
    let many = generate(&Config { ads: vec![(site, 40)], ..Config::default() }).unwrap();
    assert_eq!(few[..], many[..10]);
}

#[test]
fn planted_terms_stand_in_the_text_and_a_fifth_is_invented() {
    let truth = generate(&config(600)).unwrap();
    assert_eq!(truth.len(), 600);
    let mut distinct: BTreeMap<&str, bool> = BTreeMap::new();
    for ad in &truth {
        let text = text(ad);
        for skill in &ad.skills {
            assert!(text.contains(&skill.surface), "{} lacks {}", ad.key(), skill.surface);
            distinct.insert(&skill.surface, skill.invented);
        }
        let invented = ad.skills.iter().filter(|skill| skill.invented).count();
        assert!(invented * 5 >= ad.skills.len(), "{}: {invented} of {}", ad.key(), ad.skills.len());
        for data in &ad.personal_data {
            assert!(text.contains(&data.text), "{} lacks {}", ad.key(), data.text);
            assert!(
                data.text.contains(".example") || data.text.contains("5555") || data.text.contains("555 0")
            );
        }
    }
    let invented = distinct.values().filter(|invented| **invented).count();
    assert!(invented * 5 >= distinct.len(), "{invented} of {} distinct terms", distinct.len());
}

#[test]
fn no_lexicon_holds_an_invented_term() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline-services/lexicon");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: there is no {}", folder.display());
        return;
    };
    let lexicon: String =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().to_lowercase()).collect();
    for seed in [1, 42, 2_026] {
        for ad in generate(&Config { seed, ..config(300) }).unwrap() {
            for skill in ad.skills.iter().filter(|skill| skill.invented) {
                // The coined word itself; "método" and the like around it are ordinary.
                let coined =
                    skill.surface.split(' ').find(|word| word.starts_with(char::is_uppercase)).unwrap();
                assert!(!lexicon.contains(&coined.to_lowercase()), "{coined} is in the lexicon");
            }
        }
    }
}

#[test]
fn copies_are_copies_and_everything_else_is_not() {
    let truth = generate(&config(900)).unwrap();
    let by_key: HashMap<String, &Truth> = truth.iter().map(|ad| (ad.key(), ad)).collect();
    assert_eq!(by_key.len(), truth.len(), "keys are unique");
    let hashed = |ad: &Truth| {
        let requirements = comparable(ad.requirements.as_deref().unwrap_or_default());
        let company = ad.company.clone().unwrap_or_default();
        (ad.title.clone(), company, ad.location.clone(), comparable(&ad.description), requirements)
    };
    let (mut duplicates, mut reposts) = (0, 0);
    for ad in &truth {
        if let Some(source) = &ad.duplicate_of {
            let source = by_key[source];
            assert_eq!(hashed(ad), hashed(source), "{}", ad.key());
            assert!(source.portal != ad.portal && source.country == ad.country);
            duplicates += 1;
        }
        if let Some(source) = &ad.repost_of {
            let source = by_key[source];
            assert_eq!(hashed(ad), hashed(source), "{}", ad.key());
            assert!(source.portal == ad.portal && source.external_id != ad.external_id);
            reposts += 1;
        }
    }
    assert!(duplicates > 20 && reposts > 20, "{duplicates} duplicates, {reposts} reposts");
    let groups: BTreeSet<&str> = truth.iter().map(|ad| ad.content_group.as_str()).collect();
    let contents: BTreeSet<_> = truth.iter().map(hashed).collect();
    assert_eq!(groups.len(), contents.len());
    assert_eq!(groups.len(), truth.len() - duplicates - reposts, "no two originals are alike");
}

#[test]
fn shares_are_kept() {
    let count = |shares: Shares, test: fn(&Truth) -> bool| {
        let truth = generate(&Config { shares, ..config(600) }).unwrap();
        truth.iter().filter(|ad| test(ad)).count()
    };
    let none = Shares {
        duplicates: 0.0,
        listed_twice: 0.0,
        reposts: 0.0,
        edited: 0.0,
        added: 0.0,
        dropped: 0.0,
        undated: 0.0,
        anonymous: 0.0,
        confidential_salaries: 0.0,
        english: 0.0,
        personal_data: 0.0,
    };
    let check = |change: fn(&mut Shares), test: fn(&Truth) -> bool| {
        assert_eq!(count(none.clone(), test), 0);
        let mut shares = none.clone();
        change(&mut shares);
        let found = count(shares, test);
        assert!((90..=210).contains(&found), "{found} of 600, expected about 150");
    };
    check(|shares| shares.listed_twice = 0.25, |ad| ad.listed_twice);
    check(|shares| shares.reposts = 0.25, |ad| ad.repost_of.is_some());
    check(|shares| shares.duplicates = 0.5, |ad| ad.duplicate_of.is_some());
    check(|shares| shares.undated = 0.25, |ad| ad.posted_date.is_none());
    check(|shares| shares.anonymous = 0.25, |ad| ad.company.is_none());
    check(|shares| shares.english = 0.25, |ad| ad.language == "en");
    check(|shares| shares.personal_data = 0.25, |ad| !ad.personal_data.is_empty());
    check(
        |shares| shares.confidential_salaries = 0.4,
        |ad| {
            let shown = ad.salary_raw.as_deref();
            ad.portal != Portal::Bumeran && shown.is_none_or(|salary| !salary.starts_with('$'))
        },
    );
}

#[test]
fn importable_lines_have_the_fields_of_raw_jobs() {
    let truth = generate(&config(60)).unwrap();
    let mut bytes = Vec::new();
    write_importable(&truth, "https://simulated.example", &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), truth.len());
    let fields = [
        "id",
        "portal",
        "country",
        "url",
        "title",
        "company",
        "location",
        "description",
        "requirements",
        "salary_raw",
        "contract_type",
        "remote_type",
        "posted_date",
    ];
    for (line, ad) in lines.iter().zip(&truth) {
        let names: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(names, fields);
        assert_eq!(line["url"], format!("https://simulated.example{}", ad.url_path));
        assert_eq!(line["id"], ad.external_id);
        assert!(ad.contract_type.as_ref().is_none_or(|text| text.chars().count() <= 50));
    }
}

#[test]
fn written_advertisements_keep_their_words_and_marks() {
    let config = Config::written(400, 42);
    let first = generate(&config).unwrap();
    let countries: BTreeSet<&str> = first.iter().map(|ad| ad.country.code()).collect();
    assert_eq!(countries.into_iter().collect::<Vec<_>>(), ["AR", "CL", "CO", "MX", "PE"]);
    let portals: BTreeSet<&str> = first.iter().map(|ad| ad.portal.name()).collect();
    assert_eq!(portals.len(), Portal::ALL.len());
    let mut ids: HashMap<&str, usize> = HashMap::new();
    for ad in &first {
        let marks = ad.marks.as_ref().unwrap();
        let text: Vec<char> = ad.description.chars().collect();
        for mark in &marks.spans {
            let words: String = text[mark.start..mark.end].iter().collect();
            assert!(words.trim() == words && !words.is_empty(), "{}: {words:?}", ad.key());
        }
        assert!(ad.skills.is_empty());
        *ids.entry(&marks.id).or_default() += 1;
    }
    // Copies on another portal and reposts carry the words of an advertisement that stands there
    // already.
    let copies = first.iter().filter(|ad| ad.duplicate_of.is_some() || ad.repost_of.is_some()).count();
    assert_eq!(ids.values().map(|count| count - 1).sum::<usize>(), copies);
    assert!(copies > 20, "{copies}");

    let second = generate(&Config { wave: 2, ..config }).unwrap();
    let edited: Vec<&Truth> = second.iter().filter(|ad| ad.version == 2).collect();
    assert!(edited.len() > 15, "{}", edited.len());
    for ad in edited {
        let before = first.iter().find(|before| before.key() == ad.key()).unwrap();
        assert!(ad.description.starts_with(&before.description) && ad.marks == before.marks, "{}", ad.key());
    }
    assert_eq!(Config::written(5_000, 42).ads, Config::written(1_000, 42).ads, "there are no more");
}
