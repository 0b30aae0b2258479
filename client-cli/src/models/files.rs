//! Selects the files of a published model that the inference server reads.
//!
//! Refuses names that would leave the model's folder.

use std::path::Path;

use anyhow::{bail, ensure};

/// Files that the server reads from the root of a repository, if they exist.
const PLAIN: [&str; 13] = [
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "colbert_linear.pt",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "sparse_linear.pt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Files that every model needs.
pub(super) const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];

/// Layout of a checkpoint: a single file, or parts listed by an index.
struct Layout {
    index: &'static str,
    single: &'static str,
    part: (&'static str, &'static str),
}

/// In order of preference: a pickle can run code when it is loaded, so it comes last.
const LAYOUTS: [Layout; 2] = [
    Layout {
        index: "model.safetensors.index.json",
        single: "model.safetensors",
        part: ("model-", ".safetensors"),
    },
    Layout {
        index: "pytorch_model.bin.index.json",
        single: "pytorch_model.bin",
        part: ("pytorch_model-", ".bin"),
    },
];

/// Names of checkpoints, any one of which makes a folder a model.
pub(super) const CHECKPOINTS: [&str; 4] =
    [LAYOUTS[0].single, LAYOUTS[0].index, LAYOUTS[1].single, LAYOUTS[1].index];

/// True if a path has the extension of a GGUF file, which is a model by itself.
pub(super) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf")
}

/// Selects the files that the server reads from those published, sorted. A GGUF file is a model by
/// itself: the one named by `file`, or the only one of a repository without a checkpoint.
///
/// # Errors
/// If a needed file or any checkpoint is missing, the choice of a GGUF file is ambiguous, or a name
/// would leave the folder of the model.
pub(super) fn wanted<'a>(published: &[&'a str], file: Option<&str>) -> anyhow::Result<Vec<&'a str>> {
    // All names, even of files that are not wanted: a hub that lists such a path is not to be
    // trusted.
    for name in published {
        ensure!(is_inside(name), "the hub lists {name:?}, a path outside the model's folder");
    }
    if let Some(gguf) = wanted_gguf(published, file)? {
        return Ok(vec![gguf]);
    }
    for needed in NEEDED {
        ensure!(
            published.contains(&needed),
            "the repository has no {needed}, which the inference server needs"
        );
    }
    let mut chosen: Vec<&str> = published.iter().copied().filter(|name| PLAIN.contains(name)).collect();
    let weights = checkpoint(published);
    if weights.is_empty() {
        bail!(
            "the repository has no weights the inference server can read: expected one of {}",
            CHECKPOINTS.join(", ")
        );
    }
    chosen.extend(weights);
    chosen.extend(modules(published));
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// True for a GGUF file at the top of a repository that is not one part of several.
fn is_whole_gguf(name: &str) -> bool {
    is_gguf(Path::new(name)) && !name.contains('/') && !is_gguf_part(name)
}

/// Selects a GGUF file: the one named by `file`, or the only one of a repository without a
/// checkpoint.
fn wanted_gguf<'a>(published: &[&'a str], file: Option<&str>) -> anyhow::Result<Option<&'a str>> {
    let ggufs: Vec<&str> = published.iter().copied().filter(|name| is_whole_gguf(name)).collect();
    if let Some(file) = file {
        if let Some(found) = ggufs.iter().copied().find(|name| *name == file) {
            return Ok(Some(found));
        }
        let known = if ggufs.is_empty() { "none".to_owned() } else { ggufs.join(", ") };
        bail!("no GGUF file {file:?} in the repository; found {known}");
    }
    if !checkpoint(published).is_empty() {
        return Ok(None);
    }
    match ggufs.as_slice() {
        [only] => Ok(Some(only)),
        [] if published.iter().any(|name| is_gguf(Path::new(name))) => bail!(
            "the GGUF files of the repository are split or in folders, which the inference server does not support"
        ),
        [] => Ok(None),
        several => {
            bail!("the repository has several GGUF files; choose one with --file: {}", several.join(", "))
        }
    }
}

/// True if a published name stays inside the folder it is written to, on any file system.
pub(super) fn is_inside(name: &str) -> bool {
    // Backslash and colon separate paths on Windows.
    !name.contains(['\\', '\0', ':']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn checkpoint<'a>(published: &[&'a str]) -> Vec<&'a str> {
    for layout in &LAYOUTS {
        let has_single = published.contains(&layout.single);
        if published.contains(&layout.index) {
            let mut parts: Vec<&str> =
                published.iter().copied().filter(|name| is_part(name, layout.part)).collect();
            // Some repositories have an index for a single file.
            if parts.is_empty() && has_single {
                parts.push(layout.single);
            }
            if !parts.is_empty() {
                parts.push(layout.index);
                return parts;
            }
        }
        if has_single {
            return vec![layout.single];
        }
    }
    Vec::new()
}

/// True for `model-00001-of-00002.gguf`; split files are not supported.
fn is_gguf_part(name: &str) -> bool {
    let Some((stem, part)) = name.trim_end_matches(".gguf").rsplit_once("-of-") else { return false };
    is_number(part) && stem.rsplit('-').next().is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for `model-00001-of-00002.safetensors` and the like.
fn is_part(name: &str, (before, after): (&str, &str)) -> bool {
    let middle = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let numbers = middle.and_then(|middle| middle.split_once("-of-"));
    numbers.is_some_and(|(part, of)| is_number(part) && is_number(of))
}

/// Selects the files of sentence-transformers modules, in numbered folders such as `1_Pooling`.
fn modules<'a>(published: &[&'a str]) -> Vec<&'a str> {
    let mut chosen = Vec::new();
    for name in published.iter().copied() {
        let Some((folder, file)) = name.split_once('/').filter(|(folder, _)| is_module(folder)) else {
            continue;
        };
        // The same weights in two formats: safetensors come first, since they hold no pickle.
        let is_wanted = match file {
            "config.json" | "model.safetensors" => true,
            "pytorch_model.bin" => !published.contains(&format!("{folder}/model.safetensors").as_str()),
            _ => false,
        };
        if is_wanted {
            chosen.push(name);
        }
    }
    chosen
}

fn is_module(folder: &str) -> bool {
    let named = folder.split_once('_').filter(|(number, name)| !number.is_empty() && !name.is_empty());
    named.is_some_and(|(number, name)| {
        number.bytes().all(|byte| byte.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[&str], expected: &[&str]) {
        let published = [&NEEDED, weights].concat();
        let mut expected = [&NEEDED, expected].concat();
        expected.sort_unstable();
        assert_eq!(wanted(&published, None).unwrap(), expected);
    }

    #[test]
    fn takes_what_the_server_reads() {
        let others =
            ["model.safetensors", "onnx/model.onnx", "tf_model.h5", "pytorch_model.bin", ".gitattributes"];
        check(&others, &["model.safetensors"]);
        check(&["pytorch_model.bin", "README.md"], &["README.md", "pytorch_model.bin"]);
        let sentence =
            ["modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin"];
        check(
            &[&sentence[..], &["model.safetensors"]].concat(),
            &[&sentence[..], &["model.safetensors"]].concat(),
        );
        check(
            &["model.safetensors", "2_Dense/pytorch_model.bin", "2_Dense/model.safetensors", "x/config.json"],
            &["model.safetensors", "2_Dense/model.safetensors"],
        );
    }

    #[test]
    fn takes_one_checkpoint() {
        let parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let indexed = [&parts[..], &["model.safetensors.index.json"]].concat();
        check(&indexed, &indexed);
        check(&[&indexed[..], &["model.safetensors"]].concat(), &indexed);
        check(&["model-fp16.safetensors", "pytorch_model.bin"], &["pytorch_model.bin"]);
        let single = ["model.safetensors", "model.safetensors.index.json"];
        check(&single, &single);
        let pickled = ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"];
        check(&pickled, &pickled);
    }

    #[test]
    fn says_what_is_missing() {
        let check = |published: &[&str], expected: &str| {
            let error = wanted(published, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&["config.json", "model.safetensors"], "no tokenizer.json");
        check(&["config.json", "tokenizer.json", "model.onnx"], "expected one of model.safetensors, ");
        check(
            &["README.md", "x-q4_0.gguf", "x-q8_0.gguf"],
            "several GGUF files; choose one with --file: x-q4_0.gguf, x-q8_0.gguf",
        );
        check(&["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"], "are split or in folders");
        check(&["README.md", "q8/x.gguf"], "are split or in folders");
    }

    #[test]
    fn takes_one_gguf_file() {
        let published = ["README.md", "x-q4_0.gguf", "x-q8_0.gguf", "y/z.gguf", "x-00001-of-00002.gguf"];
        assert_eq!(wanted(&published, Some("x-q8_0.gguf")).unwrap(), ["x-q8_0.gguf"]);
        for other in ["x.gguf", "y/z.gguf", "README.md", "x-00001-of-00002.gguf"] {
            let error = wanted(&published, Some(other)).unwrap_err().to_string();
            assert!(error.contains("found x-q4_0.gguf, x-q8_0.gguf"), "{error}");
        }
        assert_eq!(wanted(&published[..2], None).unwrap(), ["x-q4_0.gguf"]);
        // A checkpoint comes before files that were made of it.
        let both = [&NEEDED[..], &["model.safetensors", "x-q8_0.gguf"]].concat();
        assert!(!wanted(&both, None).unwrap().contains(&"x-q8_0.gguf"));
    }

    #[test]
    fn refuses_names_that_leave_the_folder() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a//b", "a\\..\\b", "./x", "c:x", "a\0", ""] {
            let published = [&NEEDED[..], &["model.safetensors", name]].concat();
            let error = wanted(&published, None).unwrap_err().to_string();
            assert!(error.contains("a path outside the model's folder"), "{error}");
        }
    }
}
