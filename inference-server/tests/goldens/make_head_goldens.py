#!/usr/bin/env python3
"""Makes the tiny seeded checkpoints and expected numbers for heads, further formats and further families.

Needs what make_goldens.py needs, and sentence-transformers==6.2.0. Writes next to itself:
    models/golden/dense-bin       RobertaModel in two PyTorch shards, padding id 0, no token types; Dense, LayerNorm
    models/golden/bge-m3          XLMRobertaModel in one PyTorch file, with BGE-M3's sparse and multi-vector heads
    models/golden/bert-ranker     BertForSequenceClassification: pooler, classifier, two token types
    models/golden/xlmr-ranker     XLMRobertaForSequenceClassification: dense, tanh, out_proj
    models/golden/modernbert      ModernBertModel: rotary positions, local and global attention, GeGLU
    heads.json                    vectors for each pooling, with modules behind it; BGE-M3's three outputs; logits of pairs

Pooling, Dense, LayerNorm and Normalize are sentence-transformers' own modules. BGE-M3's heads are computed by the
formulas of FlagEmbedding 1.4.2: `_sparse_embedding` and `_colbert_embedding` of
finetune/embedder/encoder_only/m3/modeling.py, `_process_token_weights` and `_process_colbert_vecs` of
inference/embedder/encoder_only/m3.py.
"""

import json
import shutil
from collections import defaultdict

import torch
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sentence_transformers.base.modules import Dense
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from make_goldens import HERE, OUT, TEXTS, scramble, unigram, wordpiece, write

SIZE = dict(hidden_size=16, num_attention_heads=2, intermediate_size=24, attn_implementation="eager")
MAX_TOKENS = 30
QUERY = "¿Quién sabe Python y SQL?"
DOCUMENTS = [
    "Programación en Python", "Soldadura MIG y TIG", "Python", "自然言語 🙂",
    "Data analysis with SQL and spreadsheets. Project management! Teamwork and communication, customer service.",
]
LONG_QUERY = "Atención al cliente en español e inglés, análisis de datos con SQL y hojas de cálculo, inglés avanzado"


def save(name, model, tokenizer, torch_files=0, drop=()):
    """Saves a model as safetensors, or as `torch_files` PyTorch files, without the tensors in `drop`."""
    folder = OUT / name
    kept = (folder / "tokenizer.json").read_text(encoding="utf-8") if (folder / "tokenizer.json").exists() else None
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if torch_files:
        (folder / "model.safetensors").unlink()
        state = {k: v for k, v in model.state_dict().items() if k not in drop}
        names = [f"pytorch_model-{i + 1:05}-of-{torch_files:05}.bin" for i in range(torch_files)]
        names = names if torch_files > 1 else ["pytorch_model.bin"]
        # Alternating, so that neighbours stand in different files.
        where = {key: names[i % torch_files] for i, key in enumerate(state)}
        for file in names:
            torch.save({k: v.clone() for k, v in state.items() if where[k] == file}, folder / file)
        if torch_files > 1:
            write(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": where})
    if kept:
        (folder / "tokenizer.json").write_text(kept, encoding="utf-8")
    else:
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    return folder


def package(folder, kinds, limit=MAX_TOKENS):
    entries = [("Transformer", "")] + [(kind, f"{i}_{kind}") for i, kind in enumerate(kinds, start=1)]
    write(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(entries)
    ])
    write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})


def hidden_states(model, tokenizer, texts):
    tokenizer.truncation_side = "right"
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    return batch, hidden


def rounded(rows):
    return [[round(x, 7) for x in row] for row in rows.tolist()]


def pooled_cases(name, model, tokenizer, texts, modes, modules=()):
    batch, hidden = hidden_states(model, tokenizer, texts)
    cases = []
    for mode in modes:
        features = {"token_embeddings": hidden, "attention_mask": batch["attention_mask"]}
        with torch.no_grad():
            for module in [Pooling(hidden.shape[-1], pooling_mode=mode), *modules]:
                features = module(features)
        cases.append({"model": name, "pooling": mode, "texts": texts, "vectors": rounded(features["sentence_embedding"])})
    return cases


class LayerNorm(torch.nn.Module):
    """As sentence_transformers.models.LayerNorm, which the newest version only loads."""

    def __init__(self, dimension):
        super().__init__()
        self.norm = torch.nn.LayerNorm(dimension)

    def forward(self, features):
        features["sentence_embedding"] = self.norm(features["sentence_embedding"])
        return features


def dense_bin():
    tok = wordpiece("bert", lowercase=True)
    config = RobertaConfig(vocab_size=len(tok), max_position_embeddings=40, type_vocab_size=1, num_hidden_layers=1,
                           pad_token_id=0, bos_token_id=2, eos_token_id=3, layer_norm_eps=1e-5, **SIZE)
    model = RobertaModel(config, add_pooling_layer=False).eval()
    scramble(model)
    types = "embeddings.token_type_embeddings.weight"
    with torch.no_grad():
        model.get_parameter(types).zero_()
    folder = save("dense-bin", model, tok, torch_files=2, drop=[types, "embeddings.position_ids", "embeddings.token_type_ids"])
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"type_vocab_size": 0, "matryoshka_dimensions": [8, 4, 16]})
    package(folder, ["Pooling", "Dense", "LayerNorm", "Normalize"])
    dense = Dense(16, 12, activation_function=torch.nn.GELU())
    norm = LayerNorm(12)
    scramble(dense)
    with torch.no_grad():
        norm.norm.weight.normal_(1.0, 0.2)
        norm.norm.bias.normal_(0.0, 0.1)
    (folder / "2_Dense").mkdir()
    dense.save(str(folder / "2_Dense"))
    (folder / "3_LayerNorm").mkdir()
    write(folder / "3_LayerNorm" / "config.json", {"dimension": 12})
    torch.save(norm.state_dict(), folder / "3_LayerNorm" / "pytorch_model.bin")
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, "pooling_mode_lasttoken": True})
    modes = ["mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"]
    return pooled_cases("golden/dense-bin", model, tok, TEXTS, modes, [dense, norm, Normalize()])


def bge_m3():
    tok = unigram("tiny-e5")
    config = XLMRobertaConfig(vocab_size=len(tok), max_position_embeddings=40, type_vocab_size=1, num_hidden_layers=1,
                              layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZE)
    model = XLMRobertaModel(config).eval()
    scramble(model)
    folder = save("bge-m3", model, tok, torch_files=1)
    package(folder, ["Pooling", "Normalize"])
    write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 16, "pooling_mode": "cls"})
    sparse, colbert = torch.nn.Linear(16, 1), torch.nn.Linear(16, 6)
    scramble(sparse), scramble(colbert)
    torch.save(sparse.state_dict(), folder / "sparse_linear.pt")
    torch.save(colbert.half().state_dict(), folder / "colbert_linear.pt")
    colbert = colbert.float()
    texts = ["Python y más Python", "soldadura MIG, soldadura TIG", *TEXTS[3:]]
    batch, hidden = hidden_states(model, tok, texts)
    with torch.no_grad():
        dense = torch.nn.functional.normalize(hidden[:, 0], dim=-1)
        weights = torch.relu(sparse(hidden)).squeeze(-1)
        vectors = colbert(hidden[:, 1:]) * batch["attention_mask"][:, 1:][:, :, None].float()
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    unused = {tok.cls_token_id, tok.eos_token_id, tok.pad_token_id, tok.unk_token_id}
    case = {"model": "golden/bge-m3", "texts": texts, "dense": rounded(dense), "sparse": [], "multi_vector": []}
    for row in range(len(texts)):
        lexical = defaultdict(float)
        for weight, token in zip(weights[row].tolist(), batch["input_ids"][row].tolist()):
            if token not in unused and weight > lexical.get(token, 0):
                lexical[token] = weight
        count = int(batch["attention_mask"][row].sum())
        case["sparse"].append(sorted([token, round(weight, 7)] for token, weight in lexical.items()))
        case["multi_vector"].append(rounded(vectors[row][: count - 1]))
    assert any(len(set(row)) < len(row) for row in batch["input_ids"].tolist())
    return case


def ranking_case(name, model, tokenizer, query, side):
    tokenizer.truncation_side = side
    batch = tokenizer([query] * len(DOCUMENTS), DOCUMENTS, padding=True, truncation="longest_first",
                      max_length=MAX_TOKENS, return_tensors="pt", return_token_type_ids=model.config.type_vocab_size > 1)
    with torch.no_grad():
        logits = model(**batch).logits[:, 0]
    return {"model": name, "query": query, "documents": DOCUMENTS, "truncation": side,
            "tokens": batch["attention_mask"].sum(1).tolist(), "logits": [round(x, 6) for x in logits.tolist()]}


def rankers():
    one = dict(num_hidden_layers=1, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    tok = wordpiece("bert", lowercase=True)
    config = BertConfig(vocab_size=len(tok), max_position_embeddings=40, pad_token_id=0, **one, **SIZE)
    bert = BertForSequenceClassification(config).eval()
    scramble(bert)
    package(save("bert-ranker", bert, tok), [])
    cases = [ranking_case("golden/bert-ranker", bert, tok, query, side)
             for query in (QUERY, LONG_QUERY) for side in ("right", "left")]
    tok = unigram("tiny-e5")
    config = XLMRobertaConfig(vocab_size=len(tok), max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5,
                              pad_token_id=1, bos_token_id=0, eos_token_id=2, **one, **SIZE)
    xlmr = XLMRobertaForSequenceClassification(config).eval()
    scramble(xlmr)
    package(save("xlmr-ranker", xlmr, tok), [])
    return cases + [ranking_case("golden/xlmr-ranker", xlmr, tok, query, side)
                    for query in (QUERY, LONG_QUERY) for side in ("right", "left")]


def modernbert():
    tok = wordpiece("bert", lowercase=True)
    config = ModernBertConfig(vocab_size=len(tok), max_position_embeddings=64, num_hidden_layers=4, local_attention=6,
                              pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3, **SIZE)
    model = ModernBertModel(config).eval()
    scramble(model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.normal_(1.0, 0.2)
    folder = save("modernbert", model, tok)
    package(folder, ["Pooling", "Normalize"])
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    return pooled_cases("golden/modernbert", model, tok, TEXTS, ["mean", "cls"], [Normalize()])


def main():
    torch.manual_seed(11)
    heads = {"pooled": dense_bin(), "bge_m3": bge_m3(), "ranking": rankers()}
    heads["pooled"] += modernbert()
    text = json.dumps(heads, ensure_ascii=False, separators=(",", ":"))
    (HERE / "heads.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
