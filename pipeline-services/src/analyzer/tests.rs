use observatory_clustering::use_base_instructions;

use super::{
    partition::{Attempt, attempts, largest_share},
    *,
};

/// Real vectors of 269 skills; see `clustering/tests/goldens/make_skills.py`.
fn skills() -> Vec<SkillVector> {
    let file = include_bytes!("../../clustering/tests/goldens/skills.bin");
    let row = |(at, row): (usize, &[u8])| SkillVector {
        skill_id: at as i64,
        label: format!("skill {at:03}"),
        vector: row.iter().map(|value| f32::from(value.cast_signed()) / 512.0).collect(),
        job_count: (at * 7 % 40) as i64,
    };
    file[8..].chunks_exact(384).enumerate().map(row).collect()
}

/// Skills around `groups` directions, the first of which has `large` of them.
fn grouped(rows: usize, groups: usize, large: usize) -> Vec<SkillVector> {
    let value = |seed: usize| ((seed * 7919 + seed * seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    let group = |row: usize| if row < large { 0 } else { 1 + row % (groups - 1) };
    (0..rows)
        .map(|row| SkillVector {
            skill_id: row as i64,
            label: format!("skill {row:03}"),
            vector: (0..24).map(|d| value(group(row) * 24 + d) + 0.02 * value(7 + row * 24 + d)).collect(),
            job_count: 1,
        })
        .collect()
}

fn model(skills: &[SkillVector]) -> EmbeddingModel {
    EmbeddingModel {
        model_id: 1,
        name: "model".to_owned(),
        revision: String::new(),
        prompt: String::new(),
        dimensions: skills.first().map_or(1, |skill| skill.vector.len() as i32),
    }
}

fn run(settings: &Settings, skills: &[SkillVector]) -> Result<Clustering, Failure> {
    cluster(settings, &model(skills), skills)
}

#[test]
fn equal_vectors_give_an_equal_clustering_on_every_processor() {
    let skills = skills();
    for rows in [1, 4, 30, 269] {
        let wide = run(&Settings::default(), &skills[..rows]).unwrap();
        use_base_instructions(true);
        assert_eq!(run(&Settings::default(), &skills[..rows]).unwrap(), wide, "{rows} skills");
        use_base_instructions(false);
    }
}

#[test]
fn real_skills_fall_into_clusters_that_can_be_read() {
    let skills = skills();
    let found = run(&Settings::default(), &skills).unwrap();
    assert!((15..=60).contains(&found.clusters.len()), "{} clusters", found.clusters.len());
    let noise = found.points.iter().filter(|point| point.cluster_id.is_none()).count();
    assert!(noise * 100 < 35 * skills.len(), "{noise} of noise");
    assert!(found.clusters.iter().all(|cluster| cluster.size as usize * 5 <= skills.len() * 2));
    assert!(found.parameters.get("varied").is_none());
    assert_eq!(found.parameters["hdbscan"]["cluster_selection_method"], "eom");
    assert_eq!(found.parameters["hdbscan"]["engine"], "own");
}

#[test]
fn the_engines_agree() {
    let skills = skills();
    let labels = |engine| {
        // One neighbour, so that no two densities are equal and the answer is unique.
        let settings = Settings { engine, min_samples: 1, ..Settings::default() };
        let found = run(&settings, &skills).unwrap();
        found.points.iter().map(|point| point.cluster_id).collect::<Vec<_>>()
    };
    assert_eq!(labels(Engine::Own), labels(Engine::Crate));
}

/// Three in five skills mean much the same: stable as one cluster, and no use as one.
#[test]
fn a_cluster_that_holds_most_is_cut_and_the_cut_is_told() {
    let skills = grouped(150, 5, 90);
    let found = run(&Settings::default(), &skills).unwrap();
    assert!(found.clusters.iter().all(|cluster| cluster.size <= 60));
    assert_eq!(found.parameters["varied"]["attempt"], 2);
    let reason = found.parameters["varied"]["reason"].as_str().unwrap();
    assert_eq!(reason, "with the settings as given one cluster holds 60 % of the skills");
    assert_eq!(found.parameters["hdbscan"]["cluster_selection_method"], "leaf");
}

#[test]
fn no_partition_is_a_failure_in_words() {
    let values: Vec<f32> = grouped(60, 6, 0).into_iter().flat_map(|skill| skill.vector).collect();
    let vectors = Matrix::new(&values, 24).unwrap();
    let error = partition::find(vectors, &Settings::default(), 0.01).unwrap_err().to_string();
    let start = "the clustering failed: 6 partitions were tried, and in each one cluster holds more than 1 % of the 60 \
                 skills (the largest holds ";
    assert!(error.starts_with(start) && error.ends_with(" %)"), "{error}");
}

/// Two clusters can never hold at most two in five each, so that few skills need small ones.
#[test]
fn few_skills_have_clusters_too() {
    let skills = skills();
    for rows in 0..40 {
        let some: Vec<SkillVector> = skills.iter().step_by(5).take(rows).cloned().collect();
        assert!(run(&Settings::default(), &some).is_ok(), "{rows} skills");
    }
}

#[test]
fn attempts_keep_near_to_the_settings() {
    let of = |settings: &Settings| attempts(settings);
    let given =
        Attempt { n_neighbors: 15, min_cluster_size: 5, min_samples: 2, selection: Selection::ExcessOfMass };
    let leaf = Attempt { selection: Selection::Leaf, ..given };
    let expected = [
        given,
        leaf,
        Attempt { min_samples: 1, ..leaf },
        Attempt { min_samples: 1, min_cluster_size: 3, ..leaf },
        Attempt { n_neighbors: 30, ..leaf },
        Attempt { min_samples: 1, min_cluster_size: 2, ..leaf },
    ];
    assert_eq!(of(&Settings::default()), expected);
    let published = Settings { engine: Engine::Crate, ..Settings::default() };
    assert!(of(&published).iter().all(|attempt| attempt.selection == Selection::ExcessOfMass));
    assert_eq!(of(&published).len(), 5);
}

#[test]
fn shares_count_noise() {
    let label = |l: i32| u32::try_from(l).ok();
    let check = |labels: &[i32], expected: f64| {
        assert_eq!(largest_share(&labels.iter().copied().map(label).collect::<Vec<_>>()), expected);
    };
    check(&[], 0.0);
    check(&[-1, -1], 0.0);
    check(&[0, 0, 1, -1], 0.5);
}
