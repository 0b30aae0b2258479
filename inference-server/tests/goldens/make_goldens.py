#!/usr/bin/env python3
"""Makes the tiny seeded checkpoints and the expected numbers that the tests compare against.

    python3 -m venv /tmp/goldens && /tmp/goldens/bin/pip install \
        torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0
    /tmp/goldens/bin/python make_goldens.py

Writes next to itself:
    models/golden/bert            BertModel, lower-casing WordPiece, mean pooling, L2 norm, no prefix
    models/golden/tiny-e5         XLMRobertaForMaskedLM (prefix `roberta.`), Unigram, two shards
    models/golden/wordpiece-ner   BertForTokenClassification (prefix `bert.`), cased WordPiece
    models/golden/xlmr-ner        XLMRobertaForTokenClassification, Unigram
    embeddings.json               pooled vectors: padding, truncation on either side, mean, cls, prompts
    entities.json                 what transformers' pipeline answers, for each aggregation

Every vector comes from a padded batch run in eager attention by transformers in float32; our
encoder packs instead of padding, so equality also shows that padding is masked rightly.
The tokenizers are trained once: their trainers break ties in hash order, so a second training differs. A folder's
tokenizer.json is reused while it exists; then the script writes the same files again, but for the last digits
of numbers, in which processors differ.
The weights are random: these files say that the arithmetic is the same, nothing about quality.
"""

import copy
import json
import shutil
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForTokenClassification,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForTokenClassification,
    pipeline,
)

HERE = Path(__file__).parent
OUT = HERE / "models" / "golden"
NAMES = ("bert", "tiny-e5", "wordpiece-ner", "xlmr-ner")

# Our own sentences: the tokenizers are trained on them and the vectors made from some of them.
CORPUS = [
    "Programación en Python", "Análisis de datos con SQL y hojas de cálculo", "Trabajo en equipo",
    "Comunicación asertiva con clientes", "Inglés avanzado", "Manejo de inventarios y bodega",
    "Gestión de proyectos ágiles", "Atención al cliente en español e inglés", "Desarrollo web con React",
    "Conducción de vehículos de carga", "Contabilidad y facturación electrónica", "Soldadura MIG y TIG",
    "Python programming", "Data analysis with SQL and spreadsheets", "Teamwork and communication",
    "Project management", "Customer service in Spanish and English", "Web development with React",
    "Forklift driving licence", "Accounting and electronic invoicing", "Welding and metal work",
    "Machine learning models for natural language", "query: passage: ", "C++ y C# para sistemas embebidos",
]
TEXTS = [
    "Python",
    "Trabajo en equipo",
    "Análisis de datos con SQL y hojas de cálculo",
    "Atención al cliente en español e inglés",
    "C++, C# & .NET",
    "naïve café – ÑANDÚ",
    "自然言語 processing 🙂 emoji",
    "Data analysis with SQL and spreadsheets. Project management! Teamwork and communication, "
    "customer service in Spanish and English, web development with React and welding.",
]
MAX_TOKENS = 32


def reused(name):
    path = OUT / name / "tokenizer.json"
    if not path.exists():
        return None
    tok = Tokenizer.from_file(str(path))
    tok.no_truncation()
    tok.no_padding()
    return tok


def trained_wordpiece(lowercase):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tok.decoder = decoders.WordPiece()
    return tok


def wordpiece(name, lowercase):
    tok = reused(name) or trained_wordpiece(lowercase)
    return PreTrainedTokenizerFast(
        tokenizer_object=tok, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    )


def trained_unigram():
    """The pipeline of the published XLM-RoBERTa tokenizer with NFKC in place of its compiled character map."""
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tok.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=280, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tok.add_special_tokens(["<mask>"])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tok.decoder = decoders.Metaspace()
    return tok


def unigram(name):
    tok = reused(name) or trained_unigram()
    return PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        cls_token="<s>", sep_token="</s>", mask_token="<mask>",
    )


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save(name, model, tokenizer, pooling=None, shards=None):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=shards or "1GB")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if pooling:
        kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        write(folder / "modules.json", [
            {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"} for i, (k, p) in enumerate(kinds)
        ])
        write(folder / "1_Pooling" / "config.json", {
            "word_embedding_dimension": model.config.hidden_size,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
        })
        write(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})


def scramble(model):
    """Random weights of trained size: the initial 0.02 would leave every layer near the identity."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "LayerNorm.weight" in name:
                p.normal_(1.0, 0.2)
            elif p.dim() == 1:
                p.normal_(0.0, 0.1)
            else:
                p.normal_(0.0, 0.25)


def balance(model, tokenizer):
    """Makes every label about as likely as the others: a random classifier gives nearly all tokens the same one."""
    # A copy: the tokenizer would be saved with the truncation that it was last used with.
    batch = copy.deepcopy(tokenizer)(CORPUS + TEXTS, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        model.classifier.weight.mul_(3.0)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits = logits[batch["attention_mask"].bool()]
        model.classifier.bias.sub_(logits.median(0).values)


def embed(encoder, tokenizer, texts, pooling, side):
    tokenizer.truncation_side = side
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    return pooled, batch["attention_mask"].sum(1).tolist()


def embedding_cases(model_name, encoder, tokenizer, prompts):
    cases = []
    for pooling in ("mean", "cls"):
        for side in ("right", "left"):
            for prompt_name, prompt in prompts.items():
                pooled, tokens = embed(encoder, tokenizer, [prompt + t for t in TEXTS], pooling, side)
                unit = torch.nn.functional.normalize(pooled, p=2, dim=1)
                cases.append({
                    "model": model_name, "pooling": pooling, "truncation": side, "prompt_name": prompt_name,
                    "texts": TEXTS, "tokens": tokens,
                    "raw": [[round(x, 6) for x in v] for v in pooled.tolist()] if side == "right" else None,
                    "unit": [[round(x, 7) for x in v] for v in unit.tolist()],
                })
    return cases


def entity_cases(model, tokenizer):
    texts = [t for t in TEXTS if t != TEXTS[-1]] + ["Programación en Python y soldadura MIG", "  dos  espacios  "]
    cases = []
    for aggregation in ("none", "simple", "first", "average", "max"):
        run = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=aggregation, ignore_labels=["O"])
        for text in texts:
            entities = [
                {"label": e.get("entity_group") or e["entity"], "score": round(float(e["score"]), 6), "start": e["start"], "end": e["end"]}
                for e in run(text)
            ]
            cases.append({"aggregation": aggregation, "text": text, "entities": entities})
    return cases


def main():
    torch.manual_seed(7)
    size = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, attn_implementation="eager")

    tok = wordpiece("bert", lowercase=True)
    bert = BertModel(BertConfig(vocab_size=len(tok), max_position_embeddings=40, pad_token_id=0, **size)).eval()
    scramble(bert)
    save("bert", bert, tok, pooling="mean")
    cases = embedding_cases("golden/bert", bert, tok, {"": ""})

    tok = unigram("tiny-e5")
    xlmr_size = dict(vocab_size=len(tok), max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5,
                     pad_token_id=1, bos_token_id=0, eos_token_id=2, **size)
    lm = XLMRobertaForMaskedLM(XLMRobertaConfig(**xlmr_size)).eval()
    scramble(lm)
    save("tiny-e5", lm, tok, pooling="mean", shards="80KB")
    cases += embedding_cases("golden/tiny-e5", lm.roberta, tok, {"": "", "query": "query: ", "passage": "passage: "})
    write_compact(HERE / "embeddings.json", cases)

    labels = ["O", "B-Skill", "I-Skill", "B-Knowledge", "I-Knowledge"]
    config = XLMRobertaConfig(**xlmr_size, id2label=dict(enumerate(labels)), label2id={l: i for i, l in enumerate(labels)})
    ner = XLMRobertaForTokenClassification(config).eval()
    scramble(ner)
    balance(ner, tok)
    save("xlmr-ner", ner, tok)
    entities = {"golden/xlmr-ner": entity_cases(ner, tok)}

    tok = wordpiece("wordpiece-ner", lowercase=False)
    config = BertConfig(vocab_size=len(tok), max_position_embeddings=40, pad_token_id=0, **size,
                        id2label=dict(enumerate(labels)), label2id={l: i for i, l in enumerate(labels)})
    ner = BertForTokenClassification(config).eval()
    scramble(ner)
    balance(ner, tok)
    save("wordpiece-ner", ner, tok)
    entities["golden/wordpiece-ner"] = entity_cases(ner, tok)
    (HERE / "entities.json").write_text(json.dumps(entities, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")

    total = sum(f.stat().st_size for f in OUT.glob("*/**/*") if f.is_file() and f.relative_to(OUT).parts[0] in NAMES)
    print(f"{total} bytes under {OUT}")
    assert total < 600_000


def write_compact(path, cases):
    lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
