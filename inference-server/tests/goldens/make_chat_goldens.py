"""Chat templates in the manner of three model families, rendered by transformers; writes chats.json.

The templates are our own, written after the public formats, with what they exercise in the engine: loops with indices,
namespaces, slices, string methods, JSON of tools, dates, exceptions. Needs: pip install transformers jinja2.
"""

import json
import pathlib

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nYou may call one or more functions.\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '"}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

GEMMA = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

THINKING = """\
{%- set ns = namespace(last=-1, seen=[]) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == "user" and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{% for message in messages %}
    {% if message.role not in ['user', 'assistant', 'system'] %}
        {{ raise_exception('Unexpected role: ' ~ message.role) }}
    {% endif %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
[{{ message.role | upper }}{{ ' (last)' if loop.index0 == ns.last }}] {% generation %}{{ content.strip().replace('a', 'A') }}{% endgeneration %}

    {%- if loop.index >= limit | default(3) | int %}{% break %}{% endif %}
    {%- if loop.previtem is defined and loop.previtem.role == message.role %}{% continue %}{% endif %}
    {{ {'n': loop.index, 'x': [1.0, 2.5e-7, none, true, 'ñ"<&>\\'']} | tojson }}
{% endfor %}
{{ eos_token if not add_generation_prompt else (none, 1.5, true, 'text'[1:3], 7 // 2, 'a' * 3)[loop_index | default(0)] }}
"""

TOOLS = [
    {"type": "function", "function": {"name": "find_jobs", "description": "Busca «empleos» & más",
                                      "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                                                     "required": ["city"]}}}
]
PLAIN = [["user", "¿Qué habilidades pide?"]]
SYSTEM = [["system", " Eres un extractor. "], ["user", " Extrae:\n<|im_end|> SQL 🙂 "]]
LONG = SYSTEM + [["assistant", "<think>\nhm\n</think>\n\nSQL, Java "], ["user", "¿Y \"blandas\"?"]]
TOOL = LONG + [["tool", "{\"a\": 1}"], ["tool", "dos"], ["assistant", "ya"]]
TWICE = [["user", "a"], ["user", "b"], ["assistant", "a</think>"], ["assistant", "d"]]

GOLDENS = [
    ("qwen", QWEN, {"eos_token": "<|im_end|>"},
     [(PLAIN, {}), (SYSTEM, {}), (LONG, {}), (TOOL, {}), (TOOL, {"tools": TOOLS}), (PLAIN, {"tools": TOOLS}),
      (LONG, {"enable_thinking": False}), (LONG, {"enable_thinking": True})]),
    ("llama", LLAMA, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
     [(PLAIN, {}), (SYSTEM, {}), (LONG, {"date_string": "01 Jan 2026"}), (TOOL, {}), (SYSTEM, {"custom_tools": TOOLS})]),
    ("gemma", GEMMA, {"bos_token": {"content": "<bos>", "lstrip": False, "special": True}, "eos_token": "<eos>"},
     [(PLAIN, {}), (SYSTEM, {}), (LONG, {}), (TWICE, {}), ([["assistant", "a"]], {})]),
    ("thinking", [{"name": "other", "template": "x"}, {"name": "default", "template": THINKING}], {"eos_token": "</s>"},
     [(PLAIN, {}), (SYSTEM, {"limit": "1"}), (LONG, {}), (LONG, {"limit": 9}), (TWICE, {"limit": 9}), (TOOL, {"limit": 9}),
      (PLAIN, {"loop_index": 1}), (PLAIN, {"loop_index": 2}), (PLAIN, {"loop_index": 3}), (PLAIN, {"loop_index": 4}),
      (PLAIN, {"loop_index": 5})]),
]


def case(template, tokens, messages, arguments, prompt):
    tokens = {name: token if isinstance(token, str) else token["content"] for name, token in tokens.items()}
    conversation = [{"role": role, "content": content} for role, content in messages]
    answer = {"messages": messages, "arguments": arguments, "add_generation_prompt": prompt, "text": None, "refused": None}
    options = {"tools": None, "documents": None} | tokens | arguments
    tools, documents = options.pop("tools"), options.pop("documents")
    try:
        texts, _ = render_jinja_template(conversations=[conversation], tools=tools, documents=documents,
                                         chat_template=template, add_generation_prompt=prompt, **options)
        answer["text"] = texts[0]
    except TemplateError as error:
        answer["refused"] = str(error)
    return answer


def main():
    goldens = []
    for name, template, tokens, cases in GOLDENS:
        source = template if isinstance(template, str) else template[1]["template"]
        done = [case(source, tokens, messages, arguments, prompt) for messages, arguments in cases for prompt in (False, True)]
        goldens.append({"name": name, "config": {"chat_template": template} | tokens, "cases": done})
    path = pathlib.Path(__file__).with_name("chats.json")
    path.write_text(json.dumps(goldens, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
