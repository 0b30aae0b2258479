#!/usr/bin/env python3
"""Writes what transformers' token-classification pipeline answers for seeded random UTF-8.

    /tmp/goldens/bin/python make_entity_goldens.py                      (see make_goldens.py for the packages)
    /tmp/goldens/bin/python make_entity_goldens.py 5000 /tmp/more.json 2
    OBSERVATORY_ENTITY_GOLDENS=/tmp/more.json cargo nextest run entities_equal

Reads the checkpoints that make_goldens.py wrote, and writes entities-fuzzed.json next to itself, or N texts of
another seed into another file. A text is made of words of ours, single characters of many scripts and planes, marks,
joiners, controls, every kind of space, and characters that normalisation turns into several or none.
"""

import json
import random
import sys
from pathlib import Path

from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast, pipeline

HERE = Path(__file__).parent
MODELS = {
    "golden/xlmr-ner": dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>"),
    "golden/wordpiece-ner": dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"),
}
AGGREGATIONS = ("none", "simple", "first", "average", "max")
# Positions of the checkpoints less those that XLM-R does not use.
MOST_TOKENS = 38

WORDS = [
    "Python", "programación", "Análisis", "datos", "SQL", "C++", "C#", ".NET", "equipo", "cálculo", "español", "inglés",
    "proyectos", "ágiles", "R&D", "e-mail", "soldadura", "MIG/TIG", "Ñandú", "node.js", "24x7", "3,5", "$1.200.000", "a",
    "https://x.co/?q=1", "(SAP)", "«junior»", "“senior”", "¿sí?", "¡ya!", "query:", "[MASK]x", "<s>", "</s>x", "##ing",
]
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2009", "\u3000", "\u2028", "\u0085", "\u1680", ""]
# NFC and NFD, marks alone, joiners, bidi marks, soft hyphen, BOM, replacement, ligatures, squares, full and half
# width, letters whose case changes their length, jamo, flags, skin tones, families, tags, variation selectors.
ODD = [
    "é", "e\u0301", "\u0301", "ñ", "n\u0303", "\u200b", "\u200d", "\u200c", "\u200e", "\u202e", "\u00ad", "\ufeff",
    "\ufffd", "ﬁ", "㎏", "㍿", "½", "①", "™", "Ａｂ", "ｶﾞ", "İ", "ß", "ǆ", "ŉ", "각", "\u1100\u1161\u11a8", "🇨🇴", "👍🏽",
    "👨‍👩‍👧", "🏴\U000e0067\U000e0062\U000e007f", "❤\ufe0f", "مرحبا", "ﷺ", "สวัสดี", "नमस्ते", "שלום", "自然", "言語", "𝒳", "𠮷", "…",
    "–", "—", "\x00", "\x07", "\x1b", "\x7f", "\x9f", "\ue000", "\uffff", "\U0010ffff", "_", "'", "`", "^", "~", "|", "\\",
]


def text(rng):
    parts = []
    for _ in range(rng.randint(1, 9)):
        kind = rng.random()
        if kind < 0.55:
            word = rng.choice(WORDS)
            parts.append(rng.choice([word, word, word.upper(), word[: rng.randint(1, len(word))]]))
        elif kind < 0.9:
            parts.append(rng.choice(ODD))
        else:
            point = rng.choice([rng.randint(0x20, 0x24F), rng.randint(0x370, 0x2FFF), rng.randint(0x3000, 0xD7FF), rng.randint(0x10000, 0x1FFFF)])
            parts.append(chr(point))
        parts.append(rng.choice(SPACES))
    return "".join(parts)


def answers(name, count, seed):
    folder = HERE / "models" / name
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **MODELS[name])
    model = AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager").eval()
    run = {
        how: pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=how, ignore_labels=["O"])
        for how in AGGREGATIONS
    }
    rng, cases = random.Random(f"{name} {seed}"), []
    while len(cases) < count:
        one = text(rng)
        # A text of spaces alone is refused, and a long one read in windows.
        if not any(c.isalnum() for c in one) or len(tokenizer(one)["input_ids"]) > MOST_TOKENS:
            continue
        case = {"text": one}
        for how in AGGREGATIONS:
            case[how] = [
                [e.get("entity_group") or e["entity"], e["start"], e["end"], round(float(e["score"]), 6)] for e in run[how](one)
            ]
        cases.append(case)
    return cases


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "entities-fuzzed.json"
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    lines = []
    for name in MODELS:
        cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in answers(name, count, seed))
        lines.append(f"{json.dumps(name)}: [\n{cases}\n]")
    path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
