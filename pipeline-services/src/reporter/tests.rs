use std::path::Path;

use super::*;

/// A stand-in for the typesetter that writes a file; the real one is tested in its own crate.
fn typesetter(folder: &Path, script: &str) -> TypesetCommand {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("typeset");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    TypesetCommand { program: Some(path), ..TypesetCommand::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn all_formats_are_written_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made/here");
    let typesetter = typesetter(folder.path(), "printf %%PDF > \"$6\"");
    let summary = serde_json::json!({"z": 1, "a": [true]});
    let artefacts = render(&sample::small(), Some(&summary), &FormatSet::all(), &out, &typesetter).unwrap();

    let mut described: Vec<_> = artefacts.iter().map(|a| a.name.clone()).collect();
    described.sort();
    assert_eq!(names(&out), described);
    let expected = "README.md categories.png cluster_map.png clusters.csv country_skills.csv country_skills.png evidence.csv \
         occupations.csv occupations.png report.html report.json report.pdf run.json skills.csv top_skills.png";
    assert_eq!(described.join(" "), expected);
    for artefact in &artefacts {
        let content = std::fs::read(out.join(&artefact.name)).unwrap();
        assert_eq!(*artefact, Artefact::describe(&artefact.name, artefact.format, &content));
    }
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join(RUN_FILE)).unwrap()).unwrap();
    assert_eq!(run, summary);
    let read: ReportDocument =
        serde_json::from_slice(&std::fs::read(out.join(DOCUMENT_FILE)).unwrap()).unwrap();
    assert_eq!(read, sample::small());
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let formats = "csv,png,html".parse().unwrap();
    let render =
        || render(&sample::full(), None, &formats, folder.path(), &TypesetCommand::default()).unwrap();
    assert_eq!(render(), render());
}

#[test]
fn only_the_wanted_formats_are_written() {
    let check = |formats: &str, expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        render(&sample::small(), None, &formats.parse().unwrap(), folder.path(), &TypesetCommand::default())
            .unwrap();
        assert_eq!(names(folder.path()), expected, "{formats}");
    };
    check("json", &["README.md", "report.json"]);
    check("html", &["README.md", "report.html", "report.json"]);
    let csv = [
        "README.md",
        "clusters.csv",
        "country_skills.csv",
        "evidence.csv",
        "occupations.csv",
        "report.json",
        "skills.csv",
    ];
    check("csv", &csv);
}

#[test]
fn a_failure_leaves_the_directory_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let failing = typesetter(folder.path(), "exit 2");
    let all = FormatSet::all();
    assert!(render(&sample::small(), None, &all, &out, &failing).is_err());
    assert!(!out.exists());

    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("report.html"), "old").unwrap();
    assert!(render(&sample::small(), None, &all, &out, &failing).is_err());
    assert_eq!(names(&out), ["report.html"]);
    assert_eq!(std::fs::read(out.join("report.html")).unwrap(), b"old");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let check = |out: &Path| {
        let formats = "csv".parse().unwrap();
        let result = render(&sample::small(), None, &formats, out, &TypesetCommand::default());
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(&out.display().to_string()), "{error}");
    };
    check(&file);
    check(&file.join("below"));
    check(Path::new("/proc/observatory-report"));
}

#[test]
fn a_document_that_contradicts_itself_is_refused() {
    let check = |change: &dyn Fn(&mut ReportDocument), expected: &str| {
        let mut document = sample::full();
        change(&mut document);
        let error = document.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|d| d.version = 1, "version is 1");
    check(&|d| d.skills[3].job_count += d.scope.postings, "skills[3].job_count");
    check(&|d| d.scope.postings = 1, "skills[0].job_count");
    check(&|d| d.skills[0].implicit_count = u64::MAX, "skills[0].job_count and implicit_count");
    check(&|d| d.skills[1].countries[0].country = "XX".into(), "skills[1].countries names `XX`");
    check(&|d| d.scope.countries[1].code = "CO".into(), "names one twice");
    check(&|d| d.occupations.without += 1, "occupations counts 2612 postings, of 2611");
    check(&|d| d.occupations.rows[0].job_count = u64::MAX, "occupations counts");
    check(&|d| d.occupations.rows[0].titles[0].confidence = -1.0, "confidence -1");
    check(&|d| d.evidence[0].quotes[0].confidence = 1.5, "confidence 1.5");
    let clustered = |change: &dyn Fn(&mut document::ClusterSection), expected: &str| {
        check(&|d| change(d.clusters.as_mut().unwrap()), expected);
    };
    clustered(&|c| c.points[7].x = f64::NAN, "clusters.points[7]");
    clustered(&|c| c.points[7].cluster = Some(99), "which is not listed");
    clustered(&|c| c.metrics.noise = 9_999, "metrics.noise is 9999");
    clustered(&|c| c.clusters[0].cohesion = Some(f64::INFINITY), "finite");
    for valid in [sample::full(), sample::small(), sample::empty(), sample::hostile()] {
        let known = valid.scope.postings;
        assert!(valid.validate().is_ok(), "{known} {:?}", valid.validate());
    }
}

#[test]
fn unknown_fields_of_a_document_are_refused() {
    let mut value = serde_json::to_value(sample::small()).unwrap();
    value["scope"]["posting"] = serde_json::json!(1);
    let error = serde_json::from_value::<ReportDocument>(value).unwrap_err().to_string();
    assert!(error.contains("unknown field `posting`"), "{error}");
}

mod charts_of_documents {
    use super::super::charts::{Chart, Heading, PNG_SCALE, charts};
    use super::super::document::MapPoint;
    use super::*;

    fn check_images(document: &ReportDocument) -> Vec<&'static str> {
        let charts: Vec<Chart> = charts(document, Heading::Shown);
        for chart in &charts {
            let png = chart.png().unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            let scaled = |length: f64| (length as f32 * PNG_SCALE).ceil() as u32;
            assert_eq!((info.width, info.height), (scaled(chart.size().0), scaled(chart.size().1)));
            let inked = pixels.iter().filter(|p| **p < 200).count();
            assert!(inked > 1_000, "{} is blank", chart.name);
            let svg = chart.svg();
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{}", chart.name);
            assert!(
                !svg.contains("<script") && !svg.contains("NaN") && !svg.contains("inf"),
                "{}",
                chart.name
            );
        }
        charts.iter().map(|c| c.name).collect()
    }

    #[test]
    fn every_document_gets_the_charts_it_has_data_for() {
        let all = ["top_skills", "country_skills", "occupations", "categories", "cluster_map"];
        assert_eq!(check_images(&sample::full()), all);
        assert_eq!(
            check_images(&sample::hostile()),
            ["top_skills", "occupations", "categories", "cluster_map"]
        );
        assert_eq!(check_images(&sample::empty()), [""; 0]);
    }

    /// On paper a chart and its heading stay below half a page, so that no page ends half empty
    /// before it.
    #[test]
    fn no_chart_is_too_high_for_its_page() {
        let mut wide = sample::full();
        let long = "una habilidad cuyo nombre necesita dos renglones en cualquier gráfico de este informe";
        for skill in &mut wide.skills {
            skill.label = format!("{long} {}", skill.label);
        }
        for occupation in &mut wide.occupations.rows {
            occupation.label = format!("{long} {}", occupation.label);
        }
        if let Some(section) = &mut wide.clusters {
            section.clusters.iter_mut().for_each(|cluster| cluster.label = long.to_owned());
        }
        for document in [sample::full(), sample::hostile(), wide] {
            for chart in charts(&document, Heading::Hidden) {
                let (width, height) = chart.size();
                assert!(height / width < 0.6, "{}: {width} by {height}", chart.name);
            }
        }
    }

    #[test]
    fn countries_of_few_postings_are_not_drawn() {
        let names = |document: &ReportDocument| -> Vec<&str> {
            charts(document, Heading::Hidden).iter().map(|chart| chart.name).collect()
        };
        let mut document = sample::full();
        document.scope.countries[2].postings = 99;
        let svg = charts(&document, Heading::Hidden)[1].svg();
        assert!(
            svg.contains("Colombia (n\u{a0}=\u{a0}1.180)") && svg.contains("México (n\u{a0}=\u{a0}902)"),
            "{svg}"
        );
        assert!(!svg.contains("Argentina"), "{svg}");
        document.scope.countries.iter_mut().for_each(|country| country.postings = 99);
        assert!(!names(&document).contains(&"country_skills"));
        document.scope.countries[0].postings = 1_180;
        document.scope.countries.truncate(1);
        document.skills.iter_mut().for_each(|skill| skill.countries.truncate(0));
        assert!(!names(&document).contains(&"country_skills"), "one country is no comparison");
    }

    #[test]
    fn charts_say_how_many_postings_they_rest_on() {
        let drawn: String = charts(&sample::full(), Heading::Shown).iter().map(Chart::svg).collect();
        assert_eq!(drawn.matches("(n\u{a0}=\u{a0}2.611)").count(), 3, "top skills, occupations, categories");
        assert_eq!(drawn.matches("(n\u{a0}=\u{a0}1.180)").count(), 1, "the countries' chart");
    }

    #[test]
    fn one_country_one_skill_and_equal_points_are_drawn() {
        let mut document = sample::small();
        document.skills.truncate(1);
        document.skills[0].countries.truncate(1);
        document.scope.countries.truncate(1);
        document.scope.countries[0].code = document.skills[0].countries[0].country.clone();
        if let Some(section) = &mut document.clusters {
            section.clusters.clear();
            let point = MapPoint { label: "a".into(), x: 1.0, y: 1.0, cluster: None, job_count: 0 };
            section.points = vec![point.clone(), point];
        }
        assert_eq!(check_images(&document).len(), 4);
    }

    #[test]
    fn labels_are_text_in_the_drawing() {
        let svg: String = charts(&sample::hostile(), Heading::Shown).iter().map(Chart::svg).collect();
        assert!(svg.contains("$x^2$ and US$ 5"));
        assert!(!svg.contains("<img"));
    }
}
