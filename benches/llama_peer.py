"""llama.cpp as a peer: the same GGUF file, driven over standard input and output.

Each line read is a JSON object: "do" is "read" (`tokens` of one prompt), "write" (`tokens` of one text, behind a prompt
of `prompt`) or "batch" (the same of `sequences` texts, one token of each a step). Each line written is the answer:
"tokens" and the "seconds" they took; of written tokens those behind the prompt. No token is sampled, as in llama-bench:
the ids are random, so the time is that of the forward passes and of the logits. The first line written is how it works.

`--logits` prints instead what the file gives for token ids on standard input, a JSON list of lists: the logits behind
the last token of each, with keys and values in f32.
"""

import argparse
import json
import random
import sys
import time

import llama_cpp as llama

CONTEXT = 2048
BATCH = 2048
UBATCH = 512


class Peer:
    """A model with one context for `sequences` texts."""

    def __init__(self, path, threads, sequences, exact=False):
        llama.llama_log_set(quiet, None)
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        self.words = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = CONTEXT
        parameters.n_batch = BATCH
        parameters.n_ubatch = UBATCH
        parameters.n_seq_max = sequences
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        if exact:
            parameters.type_k = parameters.type_v = llama.GGML_TYPE_F32
        self.context = llama.llama_init_from_model(self.model, parameters)
        self.memory = llama.llama_get_memory(self.context)
        self.batch = llama.llama_batch_init(BATCH, 0, 1)
        self.random = random.Random(1)

    def step(self, rows):
        """One forward pass over (token, position, sequence, whether its logits are asked for)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, logits) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = logits
        if llama.llama_decode(self.context, batch) != 0:
            sys.exit("llama.cpp cannot compute the batch")

    def clear(self):
        llama.llama_memory_clear(self.memory, False)

    def token(self):
        return self.random.randrange(250)

    def prompt(self, length, sequence=0):
        return [(self.token(), place, sequence, place + 1 == length) for place in range(length)]

    def read(self, tokens):
        self.clear()
        rows = self.prompt(tokens)
        started = time.perf_counter()
        self.step(rows)
        return {"tokens": tokens, "seconds": time.perf_counter() - started}

    def write(self, tokens, prompt, sequences=1):
        self.clear()
        self.step([row for sequence in range(sequences) for row in self.prompt(prompt, sequence)])
        started = time.perf_counter()
        for place in range(prompt, prompt + tokens):
            self.step([(self.token(), place, sequence, True) for sequence in range(sequences)])
        return {"tokens": tokens * sequences, "seconds": time.perf_counter() - started}

    def logits(self, ids):
        """Behind the last of the ids."""
        self.clear()
        self.step([(token, place, 0, place + 1 == len(ids)) for place, token in enumerate(ids)])
        return llama.llama_get_logits_ith(self.context, -1)[: self.words]


@llama.llama_log_callback
def quiet(level, text, data):
    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--logits", action="store_true")
    args = parser.parse_args()
    peer = Peer(args.model, args.threads, args.sequences, exact=args.logits)
    if args.logits:
        print(json.dumps([peer.logits(ids) for ids in json.load(sys.stdin)]))
        return
    system = llama.llama_print_system_info().decode().strip().rstrip("|").strip()
    cache = "f16 keys and values, flash attention where llama.cpp chooses it"
    settings = f"n_ctx {CONTEXT}, n_batch {BATCH}, n_ubatch {UBATCH}, {args.threads} threads, {cache}; {system}"
    print(json.dumps({"version": llama.__version__, "settings": settings}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "read":
            answer = peer.read(command["tokens"])
        else:
            sequences = command["sequences"] if command["do"] == "batch" else 1
            answer = peer.write(command["tokens"], command["prompt"], sequences)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
