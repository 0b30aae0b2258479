//! Rendering and errors of chat templates.
//!
//! Goldens are those of transformers; the small templates show what Jinja in Python gives.

use chrono::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Deserialize)]
struct Golden {
    name: String,
    config: serde_json::Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<(String, String)>,
    arguments: BTreeMap<String, serde_json::Value>,
    add_generation_prompt: bool,
    text: Option<String>,
    refused: Option<String>,
}

fn messages(pairs: &[(&str, &str)]) -> Vec<Message> {
    pairs.iter().map(|(role, content)| Message { role: (*role).into(), content: (*content).into() }).collect()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())])).unwrap()
}

fn rendered(source: &str, arguments: serde_json::Value) -> Result<String, TemplateError> {
    let arguments = serde_json::from_value(arguments).unwrap();
    template(source).render(&messages(&[("user", "¡Hola!"), ("assistant", " Sí ")]), &arguments, true)
}

/// Goldens of transformers, made by `make_chat_goldens.py` in their folder.
#[test]
fn renders_what_transformers_renders() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/chats.json");
    let goldens: Vec<Golden> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(goldens.len() >= 4);
    for golden in goldens {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TOKENIZER_CONFIG), golden.config.to_string()).unwrap();
        let template = ChatTemplate::read(dir.path()).unwrap().unwrap();
        for (number, case) in golden.cases.into_iter().enumerate() {
            let messages = case.messages.into_iter().map(|(role, content)| Message { role, content });
            let messages: Vec<Message> = messages.collect();
            let got = template.render(&messages, &case.arguments, case.add_generation_prompt);
            let expected = case.text.ok_or(case.refused.map(TemplateError::Refused));
            assert_eq!(got.map_err(Some), expected, "{} {number}", golden.name);
        }
    }
}

#[test]
fn renders_as_python_does() {
    fn check(source: &str, expected: &str) {
        let arguments = json!({"x": {"b": [1, 2.0, null], "a": "é\u{1}\"</"}, "n": 3, "f": 1e-7});
        let source = format!("{source}{{% if false %}}{{{{ x ~ n ~ f }}}}{{% endif %}}");
        assert_eq!(rendered(&source, arguments).unwrap(), expected, "{source}");
    }
    check("{{ bos_token }}{{ messages[0].content }}", "<s>¡Hola!");
    check("{{ messages[1]['content'].strip() }}|{{ messages[1].content | trim }}", "Sí|Sí");
    check("{{ messages[::-1][0].role.upper() }}", "ASSISTANT");
    check("{{ x | tojson }}", r#"{"b": [1, 2.0, null], "a": "é\u0001\"</"}"#);
    check("{{ x.b | tojson(indent=2) }}", "[\n  1,\n  2.0,\n  null\n]");
    check("{{ x.a | tojson(ensure_ascii=true) }}", r#""\u00e9\u0001\"</""#);
    check("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "¡Hola!"}"#);
    check("{{ f | tojson }}", "1e-07");
    check("{{ tools is none }} {{ documents is none }} {{ missing is defined }}", "True True False");
    check("{{ missing }}", "");
    // As in the templates of Qwen3-Coder and Nemotron.
    check("{% if tools is iterable and tools | length > 0 %}x{% endif %}", "");
    check(
        "{{ tools is iterable }} {{ none is iterable }} {{ n is iterable }} {{ true is iterable }}",
        "False False False False",
    );
    check(
        "{{ x is iterable }} {{ 'a' is iterable }} {{ [] is iterable }} {{ missing is iterable }}",
        "True True True True",
    );
    check(
        "{{ 'a' is sequence }} {{ x is sequence }} {{ [] is sequence }} {{ none is sequence }} {{ n is sequence }}",
        "True True True False False",
    );
    check(
        "{{ true is number }} {{ n is number }} {{ f is number }} {{ 'a' is number }}",
        "True True True False",
    );
    check("{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\n", "  user\n  assistant\n");
    check("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01");
    check(
        "{% set ns = namespace(k=0) %}{% for m in messages %}{% set ns.k = ns.k + n %}{% endfor %}{{ ns.k }}",
        "6",
    );
    check(
        "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.previtem is defined }}{% endfor %}",
        "0FalseFalse1TrueTrue",
    );
    check("a {%- generation %} b {%- endgeneration -%} c", "a bc");
    check("{{ 'a b'.split(' ')[-1] }}{{ 'xyx'.lstrip('x') }}{{ 'ab'.startswith('a') }}", "byxTrue");
    check("{{ x.items() | list | length }}{{ x.get('z', 'none') }}{{ 'b' in x }}", "2noneTrue");
    check("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m('a') ~ 1 }}", "<a>1");
}

#[test]
fn special_tokens_are_read_from_either_file() {
    let dir = tempfile::tempdir().unwrap();
    let write =
        |name: &str, text: serde_json::Value| fs::write(dir.path().join(name), text.to_string()).unwrap();
    fs::write(dir.path().join(TEMPLATE_FILE), "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
        .unwrap();
    let text = || {
        let template = ChatTemplate::read(dir.path()).unwrap().unwrap();
        template.render(&messages(&[("user", "hola")]), &BTreeMap::new(), true).unwrap()
    };
    write(
        SPECIAL_TOKENS_MAP,
        json!({"bos_token": {"content": "<|im_start|>", "lstrip": false}, "eos_token": "<|im_end|>"}),
    );
    assert_eq!(text(), "<|im_start|>hola<|im_end|>");
    write(TOKENIZER_CONFIG, json!({"bos_token": "<s>", "eos_token": null}));
    assert_eq!(text(), "<s>hola<|im_end|>");
}

#[test]
fn errors_say_what_is_wrong() {
    fn check(source: &str, arguments: serde_json::Value, expected: &str) {
        assert_eq!(rendered(source, arguments).unwrap_err().to_string(), expected);
    }
    check(
        "{{ raise_exception('no ' ~ messages[0].role) }}",
        json!({}),
        "the chat template refuses the messages: no user",
    );
    let nested = "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}\n{{ m() }}";
    check(nested, json!({}), "the chat template refuses the messages: deep");
    check(
        "a\n{{ messages[0].tool.name }}",
        json!({}),
        "the chat template reads an undefined value in line 2: messages[0].tool.name",
    );
    check(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        json!({}),
        "the chat template takes more than 10000000 steps",
    );
    check(
        "{{ b }}{{ a }}{% set c = 1 %}{{ c }}",
        json!({"c": 1}),
        "the chat template does not read the argument c; it reads: a, b",
    );
    check("", json!({"tools": []}), "the chat template does not read the argument tools; it reads: none");
    check(
        "{{ messages }}",
        json!({"messages": []}),
        "the argument messages of the chat template is reserved",
    );
    check(
        "{{ messages | nothing }}",
        json!({}),
        "the chat template fails in line 1: unknown filter: filter nothing is unknown",
    );
    check(
        "{{ strftime_now('%Q') }}",
        json!({}),
        "the chat template fails in line 1: invalid operation: invalid time format `%Q`",
    );
    check(
        "{{ missing | tojson }}",
        json!({}),
        "the chat template fails in line 1: invalid operation: undefined is not valid JSON",
    );
}

#[test]
fn the_template_is_read_from_two_files() {
    fn check(files: &[(&str, &str)], expected: Result<Option<&str>, &str>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let got = ChatTemplate::read(dir.path()).map_err(|error| format!("{error:#}"));
        let got = got.map(|t| t.map(|t| t.render(&[], &BTreeMap::new(), false).unwrap()));
        assert_eq!(got.as_ref().map(Option::as_deref).map_err(String::as_str), expected);
    }
    check(&[], Ok(None));
    check(&[(TOKENIZER_CONFIG, "{}")], Ok(None));
    check(&[(TEMPLATE_FILE, "file{{ eos_token }}")], Ok(Some("file")));
    let config = r#"{"chat_template": "{{ bos_token }}config{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}"#;
    check(&[(TOKENIZER_CONFIG, config)], Ok(Some("<s>config</s>")));
    check(&[(TOKENIZER_CONFIG, config), (TEMPLATE_FILE, "file{{ eos_token }}\n")], Ok(Some("file</s>")));
    let named =
        r#"{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#;
    check(&[(TOKENIZER_CONFIG, named)], Ok(Some("d")));
    let no_default = r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#;
    check(
        &[(TOKENIZER_CONFIG, no_default)],
        Err("tokenizer_config.json: chat_template has none named default"),
    );
    check(
        &[(TOKENIZER_CONFIG, r#"{"chat_template": 1}"#)],
        Err("tokenizer_config.json: chat_template is neither a string nor a list"),
    );
    check(
        &[(TEMPLATE_FILE, "a\n{% if %}")],
        Err("chat_template.jinja: the chat template fails in line 2: syntax error: unexpected end of block"),
    );
}

#[test]
fn times_are_written_as_in_python() {
    let now = Local.with_ymd_and_hms(2024, 7, 6, 5, 4, 3).unwrap();
    assert_eq!(strftime(&now, "%d %b %Y, %H:%M").unwrap(), "06 Jul 2024, 05:04");
    let text = rendered("{{ strftime_now('%Y') }}", json!({})).unwrap();
    assert!(text.parse::<u32>().unwrap() >= 2024);
}
