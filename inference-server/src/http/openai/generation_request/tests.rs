//! Bodies of OpenAI's chat and completion requests: accepted forms, and faults by field and code.
//!
//! A key is read, ignored because it changes nothing, or refused by name.

use super::*;

fn chat(fields: Value) -> Result<ChatRequest, Fault> {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    ChatRequest::read(request.to_string().as_bytes())
}

#[test]
fn requests_are_read_in_every_form() {
    let request = chat(json!({
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        "max_completion_tokens": 7, "stop": "x", "logit_bias": {"5": -100}, "user": "u",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "string"}}}
    }))
    .unwrap();
    let settings = request.common.settings(Form::Chat, None);
    assert_eq!((settings.max_new_tokens, settings.stop), (7, vec!["x".to_owned()]));
    assert_eq!((settings.sampling.temperature, settings.sampling.logit_bias), (1.0, vec![(5, -100.0)]));
    assert_eq!(settings.constraint, Some(Constraint::JsonSchema("{\"type\":\"string\"}".to_owned())));
    assert_eq!(request.messages[0].content, "ab");
}

#[test]
fn null_is_nothing_and_both_names_of_a_limit_are_allowed() {
    let mut nulls = serde_json::Map::new();
    for key in [
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "stream",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "stop",
        "n",
        "seed",
        "logit_bias",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "response_format",
        "chat_template_kwargs",
        "user",
        "reasoning_effort",
        "guided_json",
    ] {
        nulls.insert(key.to_owned(), Value::Null);
    }
    chat(Value::Object(nulls)).unwrap();
    let limit = |fields: Value| chat(fields).unwrap().common.max_tokens;
    assert_eq!(limit(json!({"max_tokens": 4, "max_completion_tokens": 4})), Some(4));
    assert_eq!(limit(json!({"max_tokens": 9, "max_completion_tokens": 4})), Some(4));
    assert_eq!(limit(json!({"max_tokens": 9, "max_completion_tokens": null})), Some(9));
    let message =
        json!({"role": "assistant", "content": null, "tool_calls": null, "refusal": null, "name": "n"});
    assert_eq!(chat(json!({"messages": [message]})).unwrap().messages[0].content, "");
    chat(json!({"tools": [], "tool_choice": "auto"})).unwrap();
    chat(json!({"tools": [{"type": "function"}], "tool_choice": "none"})).unwrap();
    chat(json!({"stream_options": {"include_usage": null, "include_obfuscation": true}})).unwrap();
}

fn check(fields: Value, param: &str, code: &str) {
    let shown = fields.to_string();
    let fault = chat(fields).unwrap_err();
    assert_eq!((fault.param.as_deref(), fault.code), (Some(param), code), "{shown}: {}", fault.message);
}

#[test]
fn faults_name_their_field() {
    for (field, value) in [
        ("temperature", json!("0.7")),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!("5")),
        ("n", json!(1.5)),
        ("stop", json!(7)),
        ("seed", json!("a")),
        ("stream", json!("yes")),
        ("logprobs", json!(3)),
        ("top_logprobs", json!(2)),
        ("logit_bias", json!({"x": 1})),
        ("logit_bias", json!([1])),
        ("messages", json!("hola")),
        ("messages", Value::Null),
        ("model", Value::Null),
        ("chat_template_kwargs", json!([])),
        ("response_format", json!("json")),
    ] {
        check(json!({field: value}), field, "invalid_value");
    }
    check(json!({"response_format": {"type": "regex"}}), "response_format.type", "invalid_value");
    let unnamed = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}});
    check(unnamed, "response_format.json_schema.schema", "invalid_value");
    check(json!({"messages": [{"content": "a"}]}), "messages[0].role", "invalid_value");
    check(json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content", "invalid_value");
    let image = json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]);
    check(
        json!({"messages": [{"role": "user", "content": image}]}),
        "messages[0].content[1].type",
        "invalid_value",
    );
    let called = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]});
    check(json!({"messages": [called]}), "messages[0].tool_calls", "invalid_value");
}

#[test]
fn what_is_not_done_names_its_field() {
    for field in [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "grammar",
        "json_schema",
        "lora_request",
        "reasoning_effort",
        "min_tokens",
        "no_such_field",
        "modalities",
    ] {
        check(json!({field: "x"}), field, "unsupported");
    }
    check(json!({"tools": [{}]}), "tools", "unsupported");
    check(json!({"tool_choice": "required"}), "tool_choice", "unsupported");
    check(json!({"functions": [{}]}), "functions", "unsupported");
    check(json!({"function_call": {"name": "f"}}), "function_call", "unsupported");
    let completion = |field: &str, value: Value| {
        let body = json!({"model": "m", "prompt": "a", field: value}).to_string();
        CompletionRequest::read(body.as_bytes()).map(|_| ()).map_err(|fault| fault.param.unwrap())
    };
    for (field, value) in
        [("echo", json!(true)), ("best_of", json!(2)), ("suffix", json!("x")), ("max_tokens", json!(0))]
    {
        assert_eq!(completion(field, value), Err(field.to_owned()));
    }
    for (field, value) in [("echo", json!(false)), ("best_of", json!(1)), ("suffix", Value::Null)] {
        assert_eq!(completion(field, value), Ok(()));
    }
}

#[test]
fn a_schema_is_taken_where_peers_have_it() {
    let schema = json!({"type": "object", "required": ["a"]});
    let read = |format: Value| chat(json!({"response_format": format})).unwrap().common.schema;
    let expected = Some(schema.to_string());
    assert_eq!(read(json!({"type": "json_object", "schema": schema})), expected);
    assert_eq!(read(json!({"type": "json_schema", "schema": schema})), expected);
    assert_eq!(read(json!({"type": "json_schema", "json_schema": {"schema": schema}})), expected);
    assert_eq!(read(json!({"type": "json_object"})), Some("{\"type\":\"object\"}".to_owned()));
    assert_eq!(read(json!({"type": "text"})), None);
}
