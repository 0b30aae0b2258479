"""onnxruntime as a peer: the same encoder as an ONNX graph, driven over standard input and output.

The graph is built from the checkpoint in the two forms that onnxruntime's own transformer optimiser makes of an
exported BERT (`attention` with fused projections, `multihead` with flash attention where no mask is needed), and in
plain operators that ORT_ENABLE_ALL fuses by itself. `tune` tries all three with several batch sizes on texts sorted by
length and keeps the fastest by processor time; `run` is what is measured.

Each line read is a JSON object: "do" is "tune", "use" (what was found by tuning), "run" or "vectors", "workload" a
file. Each line written is the answer. Processor time is that of the whole process.
"""

import argparse
import json
import struct
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FORMS = ("attention", "multihead", "plain")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
# More tokens than this at once win nothing on two cores and cost minutes of tuning.
MOST_TOKENS = 4096
MICROSOFT = "com.microsoft"


def read_safetensors(path):
    """Name to float32 array."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        raw = data[8 + length + start : 8 + length + end]
        tensors[name] = raw.view(np.float32).reshape(entry["shape"])
    return tensors


class Graph:
    """An XLM-RoBERTa encoder from token ids to hidden states."""

    def __init__(self, tensors, config, form, masked):
        self.tensors, self.form, self.masked = tensors, form, masked
        self.heads, self.width = config["num_attention_heads"], config["hidden_size"]
        self.epsilon = config["layer_norm_eps"]
        self.nodes, self.initializers = [], {}
        hidden = self.embeddings()
        for layer in range(config["num_hidden_layers"]):
            hidden = self.layer(f"encoder.layer.{layer}", hidden)
        self.node("Identity", [hidden], outputs=["hidden"])

    def node(self, kind, inputs, outputs=None, **attributes):
        outputs = outputs or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def value(self, name, array):
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name):
        return self.value(name, self.tensors[name])

    def matrix(self, name):
        """The transposed weight of a linear layer."""
        return self.value(f"{name}.weight", self.tensors[f"{name}.weight"].T)

    def embeddings(self):
        words = self.node("Gather", [self.weight("embeddings.word_embeddings.weight"), "ids"])
        types = self.tensors["embeddings.token_type_embeddings.weight"][0]
        table = self.value("positions", self.tensors["embeddings.position_embeddings.weight"] + types)
        total = self.node("Add", [words, self.node("Gather", [table, "places"])])
        return self.norm("embeddings.LayerNorm", total)

    def norm(self, name, x):
        parts = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.node("LayerNormalization", parts, epsilon=self.epsilon)

    def linear(self, name, x):
        product = self.node("MatMul", [x, self.matrix(name)])
        return self.node("Add", [product, self.weight(f"{name}.bias")])

    def qkv(self, at):
        parts = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self.tensors[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self.tensors[f"{part}.bias"] for part in parts])
        return weight, bias

    def attend(self, at, x):
        if self.form == "plain":
            return self.attend_plain(at, x)
        weight, bias = self.qkv(at)
        weight, bias = self.value(f"{at}.qkv.weight", weight), self.value(f"{at}.qkv.bias", bias)
        if self.form == "attention":
            inputs = [x, weight, bias] + (["mask"] if self.masked else [])
            return self.node("Attention", inputs, num_heads=self.heads, domain=MICROSOFT)
        product = self.node("MatMul", [x, weight])
        names = [f"{at}.{part}" for part in "qkv"]
        self.node("Split", [product], outputs=names, axis=2, num_outputs=3)
        inputs = names + [bias] + (["mask"] if self.masked else [])
        return self.node("MultiHeadAttention", inputs, num_heads=self.heads, domain=MICROSOFT)

    def attend_plain(self, at, x):
        size = self.width // self.heads
        apart = self.value("apart", np.array([0, 0, self.heads, size], np.int64))
        together = self.value("together", np.array([0, 0, self.width], np.int64))
        query, key, value = (
            self.node("Reshape", [self.linear(f"{at}.attention.self.{part}", x), apart])
            for part in ("query", "key", "value")
        )
        query = self.node("Transpose", [query], perm=[0, 2, 1, 3])
        key = self.node("Transpose", [key], perm=[0, 2, 3, 1])
        value = self.node("Transpose", [value], perm=[0, 2, 1, 3])
        root = self.value("root", np.array(size**0.5, np.float32))
        scores = self.node("Div", [self.node("MatMul", [query, key]), root])
        if self.masked:
            scores = self.node("Add", [scores, self.bias()])
        context = self.node("MatMul", [self.node("Softmax", [scores], axis=-1), value])
        return self.node("Reshape", [self.node("Transpose", [context], perm=[0, 2, 1, 3]), together])

    def bias(self):
        """What is added to the scores of padding, made once."""
        if not any(node.output[0] == "mask_bias" for node in self.nodes):
            axes = self.value("axes", np.array([1, 2], np.int64))
            mask = self.node("Cast", [self.node("Unsqueeze", ["mask", axes])], to=TensorProto.FLOAT)
            off = self.node("Sub", [self.value("one", np.array(1, np.float32)), mask])
            low = self.value("low", np.array(-1e9, np.float32))
            self.node("Mul", [off, low], outputs=["mask_bias"])
        return "mask_bias"

    def skip_norm(self, name, x, skip, bias):
        if self.form == "plain":
            total = self.node("Add", [self.node("Add", [x, self.weight(bias)]), skip])
            return self.norm(name, total)
        inputs = [x, skip, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), self.weight(bias)]
        return self.node("SkipLayerNormalization", inputs, epsilon=self.epsilon, domain=MICROSOFT)

    def gelu(self, x, bias):
        if self.form != "plain":
            return self.node("BiasGelu", [x, self.weight(bias)], domain=MICROSOFT)
        return self.node("Gelu", [self.node("Add", [x, self.weight(bias)])])

    def layer(self, at, x):
        context = self.node("MatMul", [self.attend(at, x), self.matrix(f"{at}.attention.output.dense")])
        x = self.skip_norm(f"{at}.attention.output.LayerNorm", context, x, f"{at}.attention.output.dense.bias")
        inner = self.node("MatMul", [x, self.matrix(f"{at}.intermediate.dense")])
        inner = self.gelu(inner, f"{at}.intermediate.dense.bias")
        out = self.node("MatMul", [inner, self.matrix(f"{at}.output.dense")])
        return self.skip_norm(f"{at}.output.LayerNorm", out, x, f"{at}.output.dense.bias")

    def model(self):
        names = ["ids", "places"] + (["mask"] if self.masked else [])
        kinds = {"ids": TensorProto.INT64, "places": TensorProto.INT64, "mask": TensorProto.INT32}
        inputs = [helper.make_tensor_value_info(name, kinds[name], ["batch", "length"]) for name in names]
        outputs = [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "length", self.width])
        ]
        graph = helper.make_graph(self.nodes, "encoder", inputs, outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 10
        return model.SerializeToString()


class Peer:
    """Sessions of one form, made when first needed: with a mask for padded batches and without."""

    def __init__(self, folder, threads):
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = read_safetensors(folder / "model.safetensors")
        self.threads, self.sessions = threads, {}
        self.form, self.batch = "attention", 32

    def session(self, masked):
        key = (self.form, masked)
        if key not in self.sessions:
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
            # Threads that spin for work would be charged for it.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry("session.set_denormal_as_zero", "1")
            model = Graph(self.tensors, self.config, self.form, masked).model()
            self.sessions[key] = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return self.sessions[key]

    def vectors(self, texts):
        """The mean over each text's hidden states, texts sorted by length into batches."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = np.empty((len(texts), self.config["hidden_size"]), np.float32)
        at = 0
        while at < len(order):
            chosen = order[at : at + self.batch]
            out[chosen] = self.forward([texts[index] for index in chosen])
            at += self.batch
        return out

    def forward(self, texts):
        lengths = np.array([len(text) for text in texts])
        longest = int(lengths.max())
        pad = self.config["pad_token_id"]
        ids = np.full((len(texts), longest), pad, np.int64)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = text
        inside = np.arange(longest) < lengths[:, None]
        places = np.where(inside, np.arange(longest) + pad + 1, pad)
        masked = bool((lengths != longest).any())
        inputs = {"ids": ids, "places": places}
        if masked:
            inputs["mask"] = inside.astype(np.int32)
        (hidden,) = self.session(masked).run(["hidden"], inputs)
        if not masked:
            return hidden.mean(axis=1)
        weights = inside.astype(np.float32) / lengths[:, None].astype(np.float32)
        return np.matmul(weights[:, None, :], hidden)[:, 0]

    def run(self, texts):
        wall, cpu = time.perf_counter(), time.process_time()
        self.vectors(texts)
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    def tune(self, texts):
        """Keeps the form and batch size that need the least processor time.

        All batch sizes are tried in the first form, then the others with the best and its neighbours.
        """
        longest = max(len(text) for text in texts)
        batches = [batch for batch in BATCHES if batch == 1 or batch * longest <= MOST_TOKENS]
        tried = {(FORMS[0], batch): self.cost(texts, FORMS[0], batch) for batch in batches}
        best = batches.index(min(tried, key=tried.get)[1])
        for form in FORMS[1:]:
            for batch in batches[max(best - 1, 0) : best + 2]:
                tried[form, batch] = self.cost(texts, form, batch)
        self.form, self.batch = min(tried, key=tried.get)
        self.sessions = {key: session for key, session in self.sessions.items() if key[0] == self.form}
        return {"form": self.form, "batch": self.batch}

    def cost(self, texts, form, batch):
        self.form, self.batch = form, batch
        self.vectors(texts[:1])
        return self.run(texts)["cpu"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    peer = Peer(args.model, args.threads)
    for line in sys.stdin:
        command = json.loads(line)
        texts = json.loads(Path(command["workload"]).read_text())
        if command["do"] == "tune":
            answer = peer.tune(texts)
        elif command["do"] == "use":
            peer.form, peer.batch, answer = command["form"], command["batch"], {}
        elif command["do"] == "run":
            answer = peer.run(texts)
        else:
            answer = {"vectors": peer.vectors(texts).tolist()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
