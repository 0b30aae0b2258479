#!/usr/bin/env python3
"""Makes the tiny seeded checkpoints and expected numbers of encoders other than BERT, XLM-RoBERTa and ModernBERT.

Needs what make_goldens.py needs (transformers 5.24.0, whose NomicBERT and GTE are new), and
sentence-transformers==6.2.0. Writes next to itself:
    models/encoders/roberta            RobertaForMaskedLM (prefix `roberta.`), byte-level BPE, mean pooling
    models/encoders/camembert          CamembertForMaskedLM, its tensors as old conversions name them, Unigram, mean
    models/encoders/distilbert[-ner|-ranker]   DistilBERT and its two heads, WordPiece, mean
    models/encoders/mpnet              MPNetModel: relative position bias, mean
    models/encoders/deberta[-ner|-ranker]      DeBERTa-v3 and its two heads, Unigram, mean
    models/encoders/nomic              NomicBertModel with the configuration as published, mean
    models/encoders/jina               JinaBERT, mean
    models/encoders/gte, gte-plain     GTE ("new") with NTK scaling and prefix `new.`, and without token types; cls
    models/encoders/qwen3, qwen2, mistral      causal, last token, end token by template or by tokenizer_config.json
    encoders.json                      vectors, entities of transformers' pipeline, logits of pairs

Vectors come from SentenceTransformer.encode on the folder, in padded batches, float32, eager attention, where
transformers reads the folder as it is. NomicBERT and GTE are published with code of their own: their numbers come
from transformers' own NomicBertModel and GteModel before the configuration is rewritten with the published keys;
NTK scaling, which transformers lacks, is put into GteModel by the formula of the published code. Two references are
not code of transformers: JinaBERT, which is written here in plain torch after the published modelling code, and Qwen2
without the causal mask, which is Qwen2Model under a mask of zeros. Weights are float16 in the files, and the
references compute with these rounded weights in float32.
"""

import copy
import json
import math
import shutil

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CamembertConfig,
    CamembertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    GteConfig,
    GteModel,
    MistralConfig,
    MistralModel,
    MPNetConfig,
    MPNetModel,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaForMaskedLM,
    pipeline,
)

from make_goldens import CORPUS, HERE, TEXTS, balance, write

OUT = HERE / "models" / "encoders"
MAX_TOKENS = 32
HIDDEN, LAYERS, HEADS, INNER = 32, 2, 4, 48
EAGER = dict(attn_implementation="eager")
BERT_LIKE = dict(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER, **EAGER)
LABELS = ["O", "B-Skill", "I-Skill", "B-Knowledge", "I-Knowledge"]
NER = dict(id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)})
ONE = dict(id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
QUERY = "¿Quién sabe Python y SQL?"


def kept(name, train):
    """The tokenizer of an earlier run: trainers break ties in hash order, so a second training differs."""
    path = HERE / "models" / "encoders" / name / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.exists() else train()


def wordpiece(special=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), unknown="[UNK]", first="[CLS]", last="[SEP]"):
    tok = Tokenizer(models.WordPiece(unk_token=unknown))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=130, special_tokens=list(special), show_progress=False)
    tok.train_from_iterator(CORPUS, trainer)
    tok.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, special.index(token)) for token in (first, last)],
    )
    tok.decoder = decoders.WordPiece()
    return tok


def unigram(special, first, last):
    """Metaspace without splitting, as in the published tokenizers of DeBERTa-v3."""
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tok.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=130, special_tokens=special, unk_token=special[3], show_progress=False)
    )
    tok.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}",
        special_tokens=[(token, special.index(token)) for token in (first, last)],
    )
    tok.decoder = decoders.Metaspace()
    return tok


def byte_level(special, template=None):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted({c for text in CORPUS + TEXTS for c in pre_tokenizers.ByteLevel(add_prefix_space=False)
                       .pre_tokenize_str(text)[0][0]} | set(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    if template:
        named = [(token, special.index(token)) for token in special if token in template]
        tok.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    tok.decoder = decoders.ByteLevel()
    return tok


BERT_TOKENS = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
ROBERTA_TOKENS = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>")


def fast(tok, **tokens):
    return PreTrainedTokenizerFast(tokenizer_object=tok, model_max_length=MAX_TOKENS, **tokens)


def rounded_to_half(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


def half(model, classifier=1.0):
    """Random weights of trained size, which float16 holds exactly; those of a classifier are multiplied."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = p.dim() == 1 and name.endswith("weight")
            p.normal_(1.0 if norm else 0.0, 0.2 if norm else 0.1 if p.dim() == 1 else 0.25)
            if name == "classifier.weight":
                p.mul_(classifier)
    return rounded_to_half(model).eval()


def save(name, model, tokenizer, pooling=None, rename=None, config=None, width=HIDDEN):
    """Saves a folder of sentence-transformers; `rename` maps the names of tensors, `config` replaces config.json."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    file = folder / "model.safetensors"
    tensors = {(rename or str)(key): value.half().contiguous() for key, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    if config:
        write(folder / "config.json", config)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    if pooling:
        kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        write(folder / "modules.json", [
            {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"} for i, (k, p) in enumerate(kinds)
        ])
        write(folder / "1_Pooling" / "config.json", {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_lasttoken": pooling == "lasttoken",
        })
        write(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    return folder


def rounded(rows):
    return [[round(x, 7) for x in row] for row in rows.tolist()]


def case(name, tokens, vectors, **more):
    return {"model": f"encoders/{name}", "texts": TEXTS, "tokens": tokens, "vectors": rounded(vectors), **more}


def encoded(name):
    """What sentence-transformers makes of the folder."""
    model = SentenceTransformer(str(OUT / name), device="cpu", model_kwargs={"dtype": torch.float32, **EAGER})
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    features = getattr(model, "preprocess", None) or model.tokenize
    tokens = features(TEXTS)["attention_mask"].sum(1).tolist()
    return case(name, tokens, vectors)


def pooled(name, model, tokenizer, pooling, **more):
    """The same by hand, for a model that sentence-transformers cannot read from the folder."""
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    mask = batch["attention_mask"]
    with torch.no_grad():
        hidden = model(input_ids=batch["input_ids"], attention_mask=mask)
    hidden = getattr(hidden, "last_hidden_state", hidden)
    wide = mask.unsqueeze(-1).float()
    last = mask.sum(1) - 1
    vectors = {
        "cls": hidden[:, 0], "mean": (hidden * wide).sum(1) / wide.sum(1),
        "lasttoken": hidden[torch.arange(len(TEXTS)), last],
    }[pooling]
    return case(name, mask.sum(1).tolist(), torch.nn.functional.normalize(vectors, dim=1), **more)


def entities(name, model, tokenizer):
    cases = []
    for how in ("none", "simple", "first", "average", "max"):
        run = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=how, ignore_labels=["O"])
        for text in [*TEXTS[:-1], "Programación en Python y soldadura MIG", "  dos  espacios  "]:
            cases.append({"model": f"encoders/{name}", "aggregation": how, "text": text, "entities": [
                {"label": e.get("entity_group") or e["entity"], "score": round(float(e["score"]), 6),
                 "start": e["start"], "end": e["end"]} for e in run(text)
            ]})
    assert sum(len(c["entities"]) for c in cases) > 50
    return cases


def ranking(name, model, tokenizer):
    documents = TEXTS[:-1]
    batch = tokenizer([QUERY] * len(documents), documents, padding=True, truncation="longest_first",
                      max_length=MAX_TOKENS, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**batch).logits[:, 0]
    return {"model": f"encoders/{name}", "query": QUERY, "documents": documents,
            "tokens": batch["attention_mask"].sum(1).tolist(), "logits": [round(x, 5) for x in logits.tolist()]}


class JinaBert(torch.nn.Module):
    """JinaBERT after jinaai/jina-bert-implementation: BERT without positions, with ALiBi and a gated GELU network.

    ALiBi's slopes are those of Press et al. 2022 (arXiv:2108.12409), here for both directions.
    """

    def __init__(self, vocabulary, types=2):
        super().__init__()
        # As in the base size, the number of heads is not a power of two, so that ALiBi takes its other slopes.
        self.width, self.heads = 24, 6
        linear, norm = torch.nn.Linear, lambda: torch.nn.LayerNorm(self.width, eps=1e-12)
        tree = {
            "embeddings.word_embeddings": torch.nn.Embedding(vocabulary, self.width),
            "embeddings.token_type_embeddings": torch.nn.Embedding(types, self.width),
            "embeddings.LayerNorm": norm(),
        }
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            for part in ("query", "key", "value"):
                tree[f"{at}.attention.self.{part}"] = linear(self.width, self.width)
            tree[f"{at}.attention.output.dense"] = linear(self.width, self.width)
            tree[f"{at}.attention.output.LayerNorm"] = norm()
            tree[f"{at}.mlp.gated_layers"] = linear(self.width, 2 * INNER, bias=False)
            tree[f"{at}.mlp.wo"] = linear(INNER, self.width)
            tree[f"{at}.mlp.layernorm"] = norm()
        # A ModuleDict takes no dots.
        self.tree = torch.nn.ModuleDict({key.replace(".", "/"): module for key, module in tree.items()})

    def published(self):
        return {k.removeprefix("tree.").replace("/", "."): v for k, v in self.state_dict().items()}

    def slopes(self):
        def of_power(n):
            start = 2 ** (-(2 ** -(math.log2(n) - 3)))
            return [start * start**i for i in range(n)]

        if math.log2(self.heads).is_integer():
            return of_power(self.heads)
        closest = 2 ** math.floor(math.log2(self.heads))
        return of_power(closest) + of_power(2 * closest)[0::2][: self.heads - closest]

    def forward(self, input_ids, attention_mask):
        at = lambda name: self.tree[name.replace(".", "/")]
        rows, length = input_ids.shape
        hidden = at("embeddings.word_embeddings")(input_ids) + at("embeddings.token_type_embeddings").weight[0]
        hidden = at("embeddings.LayerNorm")(hidden)
        places = torch.arange(length)
        distance = (places[None, :] - places[:, None]).abs().float()
        bias = -torch.tensor(self.slopes())[:, None, None] * distance
        bias = bias[None] + (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        for layer in range(LAYERS):
            split = lambda x: x.view(rows, length, self.heads, -1).transpose(1, 2)
            query, key, value = (
                split(at(f"encoder.layer.{layer}.attention.self.{part}")(hidden)) for part in ("query", "key", "value")
            )
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
            context = (scores.softmax(-1) @ value).transpose(1, 2).reshape(rows, length, self.width)
            out = at(f"encoder.layer.{layer}.attention.output.dense")(context)
            hidden = at(f"encoder.layer.{layer}.attention.output.LayerNorm")(out + hidden)
            gated, plain = at(f"encoder.layer.{layer}.mlp.gated_layers")(hidden).split(INNER, dim=-1)
            out = at(f"encoder.layer.{layer}.mlp.wo")(torch.nn.functional.gelu(gated) * plain)
            hidden = at(f"encoder.layer.{layer}.mlp.layernorm")(out + hidden)
        return hidden


def robertas():
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    size = dict(max_position_embeddings=40, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5)
    tok = fast(kept("roberta", lambda: byte_level(special, "<s> $A </s>")), **ROBERTA_TOKENS)
    model = half(RobertaForMaskedLM(RobertaConfig(vocab_size=len(tok), **size, **BERT_LIKE)))
    save("roberta", model, tok, "mean")
    yield encoded("roberta")

    tok = fast(kept("camembert", lambda: unigram(special, "<s>", "</s>")), **ROBERTA_TOKENS)
    model = half(CamembertForMaskedLM(CamembertConfig(vocab_size=len(tok), **size, **BERT_LIKE)))
    save("camembert", model, tok, "mean")
    yield encoded("camembert")
    # Written again by other names, which transformers no longer reads.
    old = lambda key: key.replace("roberta.", "camembert.").replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta")
    save("camembert", model, tok, "mean", rename=old)


def distilberts(found):
    tok = fast(kept("distilbert", wordpiece), **BERT_TOKENS)
    size = dict(vocab_size=len(tok), max_position_embeddings=40, dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER, **EAGER)
    save("distilbert", half(DistilBertModel(DistilBertConfig(**size))), tok, "mean")
    found["vectors"].append(encoded("distilbert"))
    ner = half(DistilBertForTokenClassification(DistilBertConfig(**size, **NER)))
    balance(ner, tok)
    save("distilbert-ner", rounded_to_half(ner), tok)
    found["entities"] += entities("distilbert-ner", ner, tok)
    ranker = half(DistilBertForSequenceClassification(DistilBertConfig(**size, **ONE)), classifier=8.0)
    save("distilbert-ranker", ranker, tok)
    write(OUT / "distilbert-ranker" / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS})
    found["ranking"].append(ranking("distilbert-ranker", ranker, tok))


def mpnet():
    # As published: transformers counts positions over the tokens other than 1, which must be the padding.
    train = lambda: wordpiece(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<unk>", "<s>", "</s>")
    tok = fast(kept("mpnet", train), **ROBERTA_TOKENS)
    model = half(MPNetModel(MPNetConfig(vocab_size=len(tok), max_position_embeddings=40, **BERT_LIKE), add_pooling_layer=False))
    save("mpnet", model, tok, "mean")
    return encoded("mpnet")


def debertas(found):
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    tok = fast(kept("deberta", lambda: unigram(special, "[CLS]", "[SEP]")), **BERT_TOKENS)
    # As microsoft/deberta-v3-base, with buckets small enough that the texts reach the logarithmic ones.
    size = dict(vocab_size=len(tok), max_position_embeddings=40, relative_attention=True, position_buckets=8,
                norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
                max_relative_positions=-1, type_vocab_size=0, layer_norm_eps=1e-7, pooler_hidden_size=HIDDEN, **BERT_LIKE)
    save("deberta", half(DebertaV2Model(DebertaV2Config(**size))), tok, "mean")
    found["vectors"].append(encoded("deberta"))
    ner = half(DebertaV2ForTokenClassification(DebertaV2Config(**size, **NER)))
    balance(ner, tok)
    save("deberta-ner", rounded_to_half(ner), tok)
    found["entities"] += entities("deberta-ner", ner, tok)
    # As deberta-v2: positions in the input as well, projections of their own for positions, token types.
    older = size | dict(position_biased_input=True, share_att_key=False, norm_rel_ebd="none", position_buckets=-1, max_relative_positions=24)
    ranker = half(DebertaV2ForSequenceClassification(DebertaV2Config(**older, **ONE)), classifier=8.0)
    save("deberta-ranker", ranker, tok)
    write(OUT / "deberta-ranker" / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS})
    found["ranking"].append(ranking("deberta-ranker", ranker, tok))


def nomic():
    tok = fast(kept("nomic", wordpiece), **BERT_TOKENS)
    config = NomicBertConfig(vocab_size=len(tok), max_position_embeddings=40, pad_token_id=0,
                             rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, **BERT_LIKE)
    model = half(NomicBertModel(config))
    published = {
        "activation_function": "swiglu", "architectures": ["NomicBertModel"], "causal": False, "dense_seq_output": True,
        "layer_norm_epsilon": 1e-12, "max_trained_positions": 40, "mlp_fc1_bias": False, "mlp_fc2_bias": False,
        "model_type": "nomic_bert", "n_embd": HIDDEN, "n_head": HEADS, "n_inner": INNER, "n_layer": LAYERS, "n_positions": 40,
        "parallel_block": False, "prenorm": False, "qkv_proj_bias": False, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "type_vocab_size": 2,
        "use_rms_norm": False, "vocab_size": len(tok),
    }
    save("nomic", model, tok, "mean", config=published)
    return pooled("nomic", model, tok, "mean")


def jina():
    tok = fast(kept("jina", wordpiece), **BERT_TOKENS)
    model = half(JinaBert(len(tok)))
    # The folder of another model with the weights and the configuration replaced.
    folder = save("jina", DistilBertModel(DistilBertConfig(vocab_size=8, dim=8, n_layers=1, n_heads=1, hidden_dim=8)), tok, "mean", width=model.width, config={
        "architectures": ["JinaBertForMaskedLM"], "attention_probs_dropout_prob": 0.0, "emb_pooler": "mean",
        "feed_forward_type": "geglu", "hidden_act": "gelu", "hidden_size": model.width, "intermediate_size": INNER,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 40, "model_max_length": 40, "model_type": "bert",
        "num_attention_heads": model.heads, "num_hidden_layers": LAYERS, "pad_token_id": 0,
        "position_embedding_type": "alibi", "type_vocab_size": 2, "vocab_size": len(tok),
    })
    tensors = {key: value.half().contiguous() for key, value in model.published().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return pooled("jina", model, tok, "mean")


def gte_model(tok, theta, **more):
    config = GteConfig(vocab_size=len(tok), max_position_embeddings=40, pad_token_id=0, layer_norm_eps=1e-12,
                       rope_parameters={"rope_type": "default", "rope_theta": theta}, **more, **BERT_LIKE)
    return half(GteModel(config))


def gte_config(tok, **more):
    """As Alibaba-NLP/gte-multilingual-base has it."""
    return {
        "architectures": ["NewModel"], "hidden_act": "gelu", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "layer_norm_eps": 1e-12, "layer_norm_type": "layer_norm", "logn_attention_clip1": False, "logn_attention_scale": False,
        "max_position_embeddings": 40, "model_type": "new", "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "pack_qkv": True, "pad_token_id": 0, "position_embedding_type": "rope", "unpad_inputs": False,
        "use_memory_efficient_attention": False, "vocab_size": len(tok), **more,
    }


def gtes():
    tok = fast(kept("gte", wordpiece), **BERT_TOKENS)
    theta, factor, size = 20_000.0, 8.0, HIDDEN // HEADS
    model = gte_model(tok, theta, type_vocab_size=1)
    # NTKScalingRotaryEmbedding of Alibaba-NLP/new-impl.
    frequencies = 1.0 / ((theta * factor) ** (torch.arange(0, size, 2).float() / size)) / factor ** (2 / size)
    model.rotary_emb.inv_freq.copy_(frequencies)
    config = gte_config(tok, type_vocab_size=1, rope_theta=theta, rope_scaling={"type": "ntk", "factor": factor},
                        architectures=["NewForMaskedLM"])
    save("gte", model, tok, "cls", rename=lambda key: key if key.startswith("new.") else f"new.{key}", config=config)
    yield pooled("gte", model, tok, "cls")

    tok = fast(kept("gte-plain", wordpiece), **BERT_TOKENS)
    model = gte_model(tok, 500_000.0, type_vocab_size=0)
    save("gte-plain", model, tok, "cls", rename=lambda key: key.removeprefix("new."))
    yield pooled("gte-plain", model, tok, "cls")


def causal():
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = dict(pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    size = dict(max_position_embeddings=64, num_key_value_heads=2, rms_norm_eps=1e-6, **BERT_LIKE)
    template = "$A <|endoftext|>"
    tok = fast(kept("qwen3", lambda: byte_level(special, template)), padding_side="left", **tokens)
    config = Qwen3Config(vocab_size=len(tok), head_dim=12, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **size)
    model = half(Qwen3Model(config))
    model.config.architectures = ["Qwen3ForCausalLM"]
    save("qwen3", model, tok, "lasttoken")
    yield encoded("qwen3")

    tok = fast(kept("qwen2", lambda: byte_level(special, template)), padding_side="left", **tokens)
    config = Qwen2Config(vocab_size=len(tok), rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **size)
    model = half(Qwen2Model(config))
    folder = save("qwen2", model, tok, "lasttoken")
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"architectures": ["Qwen2ForCausalLM"]})
    yield encoded("qwen2")
    # A tokenizer that pads on the right, as `pooled` takes the last token.
    tok.padding_side = "right"

    class Bidirectional(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
            mask = mask.expand(-1, 1, input_ids.shape[1], -1)
            return model(input_ids=input_ids, attention_mask={"full_attention": mask})

    yield pooled("qwen2", Bidirectional(), tok, "lasttoken", is_causal=False)

    # The tokenizer's file adds no end token: tokenizer_config.json asks for it, as in e5-mistral.
    special = ["<unk>", "<s>", "</s>"]
    tok = fast(kept("mistral", lambda: byte_level(special, "<s> $A")), add_bos_token=True, add_eos_token=True,
               bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    config = MistralConfig(vocab_size=len(tok), sliding_window=12, rope_parameters={"rope_type": "default", "rope_theta": 1e4}, **size)
    model = half(MistralModel(config))
    folder = save("mistral", model, tok, "lasttoken")
    yield encoded("mistral")
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain["post_processor"] = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    (folder / "tokenizer.json").write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder / "tokenizer_config.json", settings | {"add_bos_token": True, "add_eos_token": True})


def main():
    torch.manual_seed(11)
    found = {"vectors": [], "entities": [], "ranking": []}
    found["vectors"] += robertas()
    distilberts(found)
    found["vectors"].append(mpnet())
    debertas(found)
    found["vectors"].append(nomic())
    found["vectors"].append(jina())
    found["vectors"] += gtes()
    found["vectors"] += causal()
    for folder in OUT.iterdir():
        for extra in ("special_tokens_map.json", "README.md"):
            (folder / extra).unlink(missing_ok=True)
    lines = [f'"{key}": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]" for key, cases in found.items()]
    (HERE / "encoders.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    sizes = {f.name: sum(x.stat().st_size for x in f.rglob("*") if x.is_file()) for f in sorted(OUT.iterdir())}
    print(sizes)
    assert max(sizes.values()) < 80_000


if __name__ == "__main__":
    main()
