#!/usr/bin/env python3
"""Makes the tiny seeded decoder checkpoints and what transformers computes on them.

Needs what make_goldens.py needs, and jinja2. Writes next to itself, or into the folder named as argument:
    models/golden/qwen2         Qwen2: biases on q, k, v; untied; more rows than the tokenizer has entries
    models/golden/qwen2-tied    Qwen2: tied, two shards with an index
    models/golden/qwen2-window  Qwen2: use_sliding_window, the second layer sees 8 positions
    models/golden/qwen3         Qwen3: norms on q and k, head_dim that is not hidden_size / heads, tied
    models/golden/llama         Llama: rope scaling `llama3` that bites within max_position_embeddings, tied, float32
    models/golden/gemma3        Gemma 3, text: local and global layers with their own rope bases, one kv head
    models/golden/phi3          Phi-3: fused qkv_proj and gate_up_proj, partial rotary positions
    older-configs/*.json        the same configurations in the words of transformers 4
    decoders.json               logits, greedy continuations and chats
    decoders-yarn.json          logits and continuations of qwen3 with its rotation stretched by YaRN

    make_decoder_goldens.py [FOLDER]            writes
    make_decoder_goldens.py --check [FOLDER]    computes decoders.json again from the files and compares

All but llama are stored in bfloat16; every number comes from those stored weights in float32 and eager attention.
Each run asserts that a KV cache, filled at once or token by token, gives what the whole sequence gives; that the
older configurations give the same logits; that `generate` agrees; and that no greedy choice is closer than MARGIN,
so that another order of summation takes the same path. A tokenizer.json is reused while it exists, as in make_goldens.py.
The weights are random: these files say that the arithmetic is the same, nothing about quality.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHECK = "--check" in sys.argv[1:]
HERE = Path(next((a for a in sys.argv[1:] if a != "--check"), Path(__file__).parent))
OUT = HERE / "models" / "golden"

VOCABULARY = 320
LENGTHS = (1, 2, 7, 33, 100)
NEW_TOKENS = 24
MARGIN = 0.02
CACHE_TOLERANCE = 1e-4

# Our own sentences, in the manner of job ads.
CORPUS = [
    "Se busca desarrollador de software con experiencia en Python y SQL.",
    "Requisitos: manejo de Excel avanzado, inglés intermedio y trabajo en equipo.",
    "Empresa de tecnología contrata analista de datos para su sede en Bogotá.",
    "Ofrecemos contrato a término indefinido, salario competitivo y prestaciones de ley.",
    "Funciones: atención al cliente, facturación, control de inventarios y ventas.",
    "Ingeniero de sistemas con conocimientos en Java, Spring Boot y microservicios.",
    "Experiencia mínima de dos años en el cargo o en posiciones similares.",
    "Técnico electricista con licencia de conducción y disponibilidad para viajar.",
    "Auxiliar contable con manejo de nómina, conciliaciones bancarias y cartera.",
    "Modalidad híbrida: tres días en la oficina y dos días en casa.",
    "Buscamos una persona con capacidad de análisis, liderazgo y comunicación asertiva.",
    "Conocimientos deseables: Docker, Kubernetes, AWS y metodologías ágiles.",
    "Profesional en mercadeo digital para la creación de contenido en redes sociales.",
    "Horario de lunes a viernes de 8:00 a.m. a 5:00 p.m., sábados medio día.",
    "Enfermera con experiencia en urgencias y registro profesional vigente.",
    "We are looking for a software engineer with experience in Python and SQL.",
    "Requirements: advanced Excel, intermediate English and team work.",
    "Responsibilities: customer service, billing, inventory control and sales.",
    "The ideal candidate has strong communication skills and attention to detail.",
    "Data analyst for a growing technology company, remote or hybrid work.",
    "At least two years of experience in a similar position.",
    "Knowledge of Docker, Kubernetes, AWS and agile methods is a plus.",
    "We offer a competitive salary, health insurance and paid training.",
    "Full stack developer: React, TypeScript, Node.js and PostgreSQL.",
    "Welder with certification in MIG and TIG processes.",
    "Forklift operator for the night shift at our warehouse.",
    "Machine learning engineer to build and deploy language models.",
    "Project manager with PMP certification and experience in construction.",
    "Extrae las habilidades de la oferta y responde en formato JSON.",
    "Extract the skills of the offer and answer in JSON format.",
]
END, START, FINISH = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nEres un asistente.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
CONVERSATION = [
    {"role": "system", "content": "Answer in JSON."},
    {"role": "user", "content": "  Habilidades: «Python» y SQL 🙂 "},
    {"role": "assistant", "content": '{"skills": ["Python", "SQL"]}'},
]


def trained_bpe():
    """The pipeline of the published Qwen2 tokenizer: NFC, its pattern, bytes; special tokens behind the vocabulary."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
               r"\s*[\r\n]+|\s+(?!\S)|\s+")
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 3, initial_alphabet=alphabet, show_progress=False)
    tok.train_from_iterator(CORPUS, trainer)
    tok.add_special_tokens([END, START, FINISH])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.decoder = decoders.ByteLevel()
    return tok


def tokenizer():
    kept = OUT / "qwen2" / "tokenizer.json"
    tok = Tokenizer.from_file(str(kept)) if kept.exists() else trained_bpe()
    assert tok.get_vocab_size() == VOCABULARY and tok.token_to_id(FINISH) == VOCABULARY - 1
    return PreTrainedTokenizerFast(
        tokenizer_object=tok, eos_token=FINISH, pad_token=END, additional_special_tokens=[START, FINISH],
        clean_up_tokenization_spaces=False, model_max_length=256, chat_template=CHAT_TEMPLATE,
    )


def checkpoints(end, finish):
    """Folder -> (class, configuration, seed). Seeds are such that the assertions hold with the versions named above."""
    size = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=256, bos_token_id=None, eos_token_id=finish,
                pad_token_id=end)
    plain = lambda theta: {"rope_type": "default", "rope_theta": theta}
    llama3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    return {
        "qwen2": (Qwen2ForCausalLM, Qwen2Config(**size | {"vocab_size": VOCABULARY + 16}, rope_parameters=plain(1e6)), 9),
        "qwen2-tied": (Qwen2ForCausalLM, Qwen2Config(**size, rope_parameters=plain(1e6), tie_word_embeddings=True), 32),
        "qwen2-window": (Qwen2ForCausalLM, Qwen2Config(
            **size | {"intermediate_size": 64}, rope_parameters=plain(1e4), tie_word_embeddings=True,
            use_sliding_window=True, sliding_window=8, max_window_layers=1), 6),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config(
            **size, head_dim=32, rope_parameters=plain(1e6), tie_word_embeddings=True), 25),
        "llama": (LlamaForCausalLM, LlamaConfig(
            **size, rope_parameters=llama3, rms_norm_eps=1e-5, tie_word_embeddings=True), 2),
        "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(
            **size | {"num_hidden_layers": 3, "num_key_value_heads": 1}, head_dim=32, query_pre_attn_scalar=24,
            sliding_window=8, layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            rope_parameters={"sliding_attention": plain(1e4), "full_attention": plain(1e6)}), 18),
        "phi3": (Phi3ForCausalLM, Phi3Config(
            **size | {"intermediate_size": 96}, original_max_position_embeddings=256,
            rope_parameters=plain(1e4) | {"partial_rotary_factor": 0.75}), 12),
    }


def moments(name, gemma):
    """Mean and deviation: residual and layer outputs of one size, attention that chooses, logits some units apart."""
    if "norm" in name:
        if not gemma:
            return 1.0, 0.2
        # Gemma multiplies by 1 + w. Its embedding enters eight times larger; unless the layers outweigh it and
        # attention is sharp, every token is followed by itself.
        return (6.0, 1.2) if "post_" in name else (0.5 if "q_norm" in name or "k_norm" in name else 0.0, 0.2)
    if gemma and "embed_tokens" in name:
        return 0.0, 0.3
    return 0.0, 0.4 if "embed_tokens" in name or "lm_head" in name or name.endswith("bias") else 0.2


def scramble(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(*moments(name, isinstance(model, Gemma3ForCausalLM)))
        # As published Qwen2 checkpoints: rows behind the tokenizer's last entry, never chosen.
        for matrix in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            matrix[VOCABULARY:] = 0.0


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save(name, kind, config, seed, tok):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model = kind(config).eval()
    scramble(model, seed)
    if name != "llama":
        model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        eos_token_id=[VOCABULARY - 1, VOCABULARY - 3], pad_token_id=VOCABULARY - 3,
        **(dict(do_sample=True, temperature=0.7, top_p=0.8, top_k=20) if name == "qwen2-tied" else {}))
    model.save_pretrained(folder, max_shard_size="120KB" if name == "qwen2-tied" else "1GB")
    tok.save_pretrained(folder)
    tok.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    if name != "qwen3":
        # The template inside tokenizer_config.json, as most published checkpoints; qwen3 keeps chat_template.jinja.
        (folder / "chat_template.jinja").unlink()
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        write(folder / "tokenizer_config.json", settings | {"chat_template": CHAT_TEMPLATE})
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    write(HERE / "older-configs" / f"{name}.json", older(json.loads((folder / "config.json").read_text())))


def older(config):
    """The configuration in the words of transformers 4, as most published checkpoints still have it."""
    config = dict(config, torch_dtype=config.pop("dtype"), transformers_version="4.45.0")
    rope, layers = config.pop("rope_parameters"), config.pop("layer_types", None)
    family = config["model_type"]
    if family == "gemma3_text":
        config |= {"rope_theta": rope["full_attention"]["rope_theta"], "rope_scaling": None,
                   "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
                   "sliding_window_pattern": layers.index("full_attention") + 1, "cache_implementation": "hybrid"}
        config.pop("_sliding_window_pattern", None)
        config.pop("use_bidirectional_attention", None)
        return config
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
    config |= {"rope_theta": theta, "rope_scaling": None}
    if family == "phi3":
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if kind != "default":
        config["rope_scaling"] = rope | {"rope_type": kind}
    if family in ("qwen2", "qwen3") and config["sliding_window"] is None:
        config["sliding_window"] = 256  # Published as a number together with use_sliding_window: false.
    return config


def digits(values):
    return [float(f"{x:.7g}") for x in values]


def whole(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def cached(model, ids, first):
    """Logits of every position with a cache that takes `first` tokens at once and then one by one."""
    rows, cache = [], None
    for start, stop in [(0, first), *((i, i + 1) for i in range(first, len(ids)))]:
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids[start:stop]]), past_key_values=cache, use_cache=True)
        rows.append(out.logits[0])
        cache = out.past_key_values
    return torch.cat(rows)


def greedy(model, ids, stops=()):
    """At most NEW_TOKENS tokens without the cache, up to a close choice; the smallest lead; what ended it."""
    new, margin = [], float("inf")
    while len(new) < NEW_TOKENS:
        best = whole(model, ids + new)[-1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        if margin <= MARGIN:
            return new, margin, "close"
        if int(best.indices[0]) in stops:
            return new, margin, "stop"
        new.append(int(best.indices[0]))
    return new, margin, "length"


def prompt_case(model, ids):
    new, margin, _ = greedy(model, ids)
    # No special token: nothing stops.
    assert margin > MARGIN and max(new) < VOCABULARY - 3, (len(ids), margin, new)
    assert len(set(new)) >= NEW_TOKENS // 3, (len(ids), new)
    full = whole(model, ids + new)
    for first in {1, len(ids), max(1, len(ids) // 2)}:
        difference = float((cached(model, ids + new, first) - full).abs().max())
        assert difference <= CACHE_TOLERANCE, (len(ids), first, difference)
    last = whole(model, ids)[-1]
    inner = [
        {"position": p, "argmax": int(full[p].argmax()), "logsumexp": digits([full[p].logsumexp(-1)])[0],
         "first": digits(full[p, :16].tolist())}
        for p in sorted({0, len(ids) // 3, 2 * len(ids) // 3} - {len(ids) - 1})
    ]
    return {"ids": ids, "last": digits(last.tolist()), "inner": inner, "continuation": new, "margin": round(margin, 4)}


def chat_case(model, tok, messages):
    rendered = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tok(rendered, add_special_tokens=False).input_ids
    new, margin, finish = greedy(model, ids, model.generation_config.eos_token_id)
    return {"messages": messages, "rendered": rendered, "ids": ids, "continuation": new,
            "text": tok.decode(new, skip_special_tokens=True), "finish": finish, "margin": round(margin, 4)}


def settled_chat(model, tok, before, finish):
    """The first of some questions whose answer ends so and leaves no choice close."""
    questions = [" ".join(words[i : i + n]) for n in (4, 3, 2) for i in range(9) for words in map(str.split, CORPUS) if words[i:]]
    for question in questions:
        case = chat_case(model, tok, [*before, {"role": "user", "content": question}])
        if case["finish"] == finish and len(case["continuation"]) >= 3:
            break
    else:
        raise AssertionError(f"no answer ends by {finish}")
    made = model.generate(torch.tensor([case["ids"]]), do_sample=False, max_new_tokens=NEW_TOKENS)[0].tolist()
    made = made[len(case["ids"]):]
    assert made[: len(case["continuation"])] == case["continuation"]
    assert len(made) == len(case["continuation"]) + (finish == "stop")
    return case


def prompts():
    chosen = torch.Generator().manual_seed(3)
    return [torch.randint(0, VOCABULARY - 3, (n,), generator=chosen).tolist() for n in LENGTHS]


def loaded(folder, **more):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more).eval()


def family_cases(name):
    folder = OUT / name
    model, tok = loaded(folder), AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(HERE / "older-configs" / f"{name}.json")
    ids = prompts()[-1]
    assert torch.equal(whole(loaded(folder, config=config), ids), whole(model, ids)), f"{name}: older configuration"
    return {"model": f"golden/{name}", "prompts": [prompt_case(model, ids) for ids in prompts()],
            "chats": [settled_chat(model, tok, CONVERSATION, "length"), settled_chat(model, tok, [], "stop")]}


def yarn_cases():
    """A published checkpoint gets such settings by hand, for texts over its trained length."""
    rope = {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    config = AutoConfig.from_pretrained(OUT / "qwen3")
    config.rope_parameters = dict(rope)
    model = loaded(OUT / "qwen3", config=config)
    ids = prompts()
    assert float((whole(model, ids[-1]) - whole(loaded(OUT / "qwen3"), ids[-1])).abs().max()) > 0.1
    cases = []
    for text in ids[1:]:
        new, _, _ = greedy(model, text)
        last = digits(whole(model, text)[-1].tolist())
        cases.append({"ids": text, "last": last, "inner": [], "continuation": new})
    return {"model": "golden/qwen3", "rope_parameters": rope, "prompts": cases}


def text_of(families):
    """One line a case."""
    line = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    blocks = [
        f'{{"model":{line(f["model"])},"prompts":[\n' + ",\n".join(map(line, f["prompts"])) + '\n],"chats":[\n'
        + ",\n".join(map(line, f["chats"])) + "\n]}"
        for f in families
    ]
    return "[\n" + ",\n".join(blocks) + "\n]\n"


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)  # One order of summation.
    names = checkpoints(0, 0)
    if not CHECK:
        tok = tokenizer()
        for name, (kind, config, seed) in checkpoints(VOCABULARY - 3, VOCABULARY - 1).items():
            save(name, kind, config, seed, tok)
    text = text_of([family_cases(name) for name in names])
    yarn = json.dumps(yarn_cases(), separators=(",", ":")) + "\n"
    if CHECK:
        assert yarn == (HERE / "decoders-yarn.json").read_text(encoding="utf-8"), "decoders-yarn.json differs"
        same = text == (HERE / "decoders.json").read_text(encoding="utf-8")
        sys.exit(0 if same else "decoders.json differs from what is computed now")
    (HERE / "decoders.json").write_text(text, encoding="utf-8")
    (HERE / "decoders-yarn.json").write_text(yarn, encoding="utf-8")
    for folder in sorted(OUT / name for name in names):
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        print(f"{size} bytes in {folder.name}")
        assert size < 400_000


if __name__ == "__main__":
    main()
