"""Splits of texts by every pre-tokenizer of GGUF files: `src/models/gguf/tests/published/splits.json`.

A vocabulary is trained on the texts themselves, whole and split in several ways, until nothing is left to merge: a part
is then one token or few, and a split at another place gives other ids. The ids are llama.cpp's. Where llama.cpp
approximates the pattern of a model's own tokenizer (`OWN`), they are those of the tokenizers library with that pattern;
how many texts differ is printed. Wants llama-cpp-python 0.3.36 and tokenizers 0.23.
"""

import ctypes
import hashlib
import json
import pathlib
import struct
import sys
import tempfile

import llama_cpp as llama
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
TARGET = HERE / "../../src/models/gguf/tests/published/splits.json"

UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def cased(suffix, numbers, upper=UPPER, lower=LOWER, slash="/"):
    """Words that end where a capital follows a small letter."""
    start = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{start}{upper}*{lower}+{suffix}|{start}{upper}+{lower}*{suffix}"
    return rf"{words}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n{slash}]*|{TAIL}"


GPT4O = cased(CONTRACTION + "?", r"\p{N}{1,3}")
NOT_HAN = r"&&[^\p{Han}]]"
KIMI = r"\p{Han}+|" + cased(CONTRACTION + "?", r"\p{N}{1,3}", UPPER[:-1] + NOT_HAN, LOWER[:-1] + NOT_HAN, slash="")
# Patterns of the models' own tokenizers, as llama.cpp's source quotes them or their authors publish them.
OWN = {
    "gpt-4o": [GPT4O],
    "tekken": [cased("", r"\p{N}")],
    "kimi-k2": [KIMI],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
    "bailingmoe": [
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
}
# Ways to split the texts that the vocabulary is trained on.
TRAINED = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL,
    GPT4O,
    r"\S+",
]
SAME_AS = {
    "kanana2": "gpt-4o",
    "llama4": "gpt-4o",
    "minimax-m2": "gpt-4o",
    "talkie": "gpt-4o",
    "granite-embed-multi-97m": "gpt-4o",
    "cohere2moe": "tiny_aya",
    "bailingmoe2": "bailingmoe",
    "llada-moe": "bailingmoe",
}
NAMES = """default gpt-2 phi-2 a.x-4.0 exaone4 gigachat granite-docling jais jina-de jina-es jina-v1-en jina-v2-code
jina-v2-de jina-v2-es mellum modern-bert roberta-bpe trillion mpt olmo smollm codeshell exaone mellum2 minerva-7b refact
starcoder command-r llama-bpe llama3 llama-v3 falcon-h1 falcon3 jina-v5-nano lfm2 midm-2.0 pixtral chatglm-bpe dbrx
smaug-bpe glm4 glm5 minicpm5 jais-2 qwen2 deepseek-r1-qwen f2llmv2 grok-2 hunyuan kormo megrez solar-open stablelm2
qwen35 ufakzeka laguna bailingmoe bailingmoe2 llada-moe seed-coder exaone-moe gpt-4o kanana2 llama4 minimax-m2 talkie
granite-embed-multi-97m tekken cohere2moe tiny_aya kimi-k2 deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense hy_v4
joyai-llm spark2_5 afmoe youtu falcon bloom gpt3-finnish poro-chat viking superbpe chameleon""".split()

# Ours, each about one thing that the patterns treat differently. In NFC, which some of the models normalise to.
TEXTS = [
    "Buscamos analista contable con 3 años de experiencia en SAP y Excel avanzado.",
    "Ingeniería de datos: Python, SQL (PostgreSQL 16), Airflow; inglés B2+.",
    "Salario: $2.500.000 COP + comisiones del 12,5 % — ¡únete!",
    "¿Tienes disponibilidad? Envía tu CV a talento@ejemplo.example, asunto: REF-00123/2026.",
    "ÁREA DE PRODUCCIÓN",
    "niñoÑandú áreaÁmbito JavaScriptDeveloper iOSApp ABCdef XMLHttpRequest",
    "C++, C#, .NET 8, Node.js, F#; 24/7 y 50/50",
    "I've, you're, he'll; IT'S, WE'VE and DON'T; it's o'clock: d'accord, l'équipe",
    "İstanbul'da Türkiye'nin 3'ü",
    "7 78 789 7890 78901 789012 7890123 78901234567890",
    "1,234,567.89 v1.2.3 10.0.0.1 0x1F 1e-9 ½ ² ٣٤٥ Ⅷ",
    "2026-12-01T09:30:00Z 12abc abc12 12345x",
    "a  b   c    d     e",
    "   tres espacios antes",
    "al final espacios   ",
    "\tTab\t\tdos  \t mezcla",
    "línea\notra\n\ndos\n\n\ntres",
    "Windows\r\nlínea\r\n\r\nfin\r\n",
    " \n \n\n  \n texto \n  ",
    "nbsp\u00a0aquí\u2003em\u3000ideográfico",
    "- uno\n- dos\n  * tres\n1) cuatro",
    "...!!!???;;;::: ---- ==== ++++ <<<>>> ^^^ ~~~ ||| ``` $$$",
    "«comillas» “dobles” ‘simples’ – — … ¿? ¡!",
    "paréntesis(anidados[dos]{tres})<cuatro>",
    "def f(x):\n    return x + 1  # suma\n\n\tif x:\n\t\tpass\n",
    "{\"clave\": [1, 2.5, null, true], \"otra\": \"válor\"}",
    "https://ejemplo.example/ruta?x=1&y=%C3%B1#ancla",
    "SELECT * FROM ads WHERE salary >= 1000;",
    "我们正在招聘软件工程师，年薪30万元。",
    "ソフトウェアエンジニア募集（東京）ひらがなカタカナ",
    "데이터 엔지니어를 찾습니다 3명 ㄱㄴㄷ",
    "ㄅㄆㄇ ｶﾅ ＡＢＣ １２３",
    "мы ищем инженера данных, опыт 5 лет",
    "Αναζητούμε μηχανικό λογισμικού",
    "हम डेटा इंजीनियर की तलाश कर रहे हैं।",
    "เรากำลังมองหาวิศวกร 3 คน",
    "نبحث عن مهندس بيانات، خبرة ٥ سنوات",
    "אנחנו מחפשים מהנדס נתונים",
    "🙂👩‍💻🚀 emoji🇨🇴🇲🇽 mezcla",
    "a\u200bb\u00adc\ufeffd",
    "x² + y² = z², ∑∫√ ≤ ≥ ≠ € £ ¥ ₿ ™ ©",
    "<sentinel:12> IMGIMGABZ <tool>",
    "ﬁn ǅ ǆ ʰ ⓐ Å ß ẞ",
    "palabra_con_guiones_bajos y-guiones-medios y.puntos",
    "el 'único' y 's 't 're 've 'm 'll 'd 'S 'LL",
    "!hola ?hola #etiqueta @usuario /ruta \\barra &y *x",
    " ?¿ (a) a( )b ,a .b",
    "MAYÚSCULASseguidas minúsculasSEGUIDAS Título",
    "uno/dos//tres ///\n/ cuatro",
    "(123)456 [78]9 {10}11 -12 +13 $14 %15",
    "a1b2c3 1a2b3c á1é2",
    "Tel. 300 123 4567 ext. 89",
    "\n",
    " ",
    "\r\r\n",
    "x",
    "9",
    "\u3000全角 空白\u3000",
    "Σ’s l’équipe d’accord ’S",
    "0 00 000 0000 1000000 y 12 345 678",
]


def split(pattern):
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


def trained():
    """Tokens and merges of the vocabulary."""
    texts = list(TEXTS)
    for pattern in TRAINED:
        for text in TEXTS:
            texts += [part for part, _ in split(pattern).pre_tokenize_str(text)]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=100_000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [" ".join(merge) for merge in model["merges"]]


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf(tokens, merges, name):
    """The bytes of a GGUF file of the vocabulary alone."""
    def text(key, value):
        return string(key) + struct.pack("<I", 8) + string(value)

    def texts(key, values):
        return string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))

    keys = [
        text("general.architecture", "gpt2"),
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", name),
        texts("tokenizer.ggml.tokens", tokens),
        texts("tokenizer.ggml.merges", merges),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


class LlamaCpp:
    """llama.cpp's tokenizer of a file."""

    def __init__(self, data):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(data)
            file.flush()
            parameters = llama.llama_model_default_params()
            parameters.vocab_only = True
            self.model = llama.llama_model_load_from_file(file.name.encode(), parameters)
        if not self.model:
            sys.exit("llama.cpp does not load the vocabulary")
        self.vocab = llama.llama_model_get_vocab(self.model)

    def ids(self, text):
        raw = text.encode()
        room = len(raw) + 8
        ids = (llama.llama_token * room)()
        count = llama.llama_tokenize(self.vocab, raw, len(raw), ids, room, False, False)
        return list(ids[:count])

    def close(self):
        llama.llama_model_free(self.model)


def own(tokens, merges, patterns):
    """The tokenizers library with a model's own patterns."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(pattern) for pattern in patterns] + [byte_level])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


@llama.llama_log_callback
def quiet(_level, _text, _data):
    pass


def digest(ids):
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:8]


def main():
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    tokens, merges = trained()
    rows = {}
    for name in NAMES:
        peer = LlamaCpp(gguf(tokens, merges, name))
        theirs = [peer.ids(text) for text in TEXTS]
        peer.close()
        patterns = OWN.get(SAME_AS.get(name, name))
        if patterns:
            ids = list(map(own(tokens, merges, patterns), TEXTS))
            differ = [text for text, one, other in zip(TEXTS, ids, theirs) if one != other]
            print(f"{name}: llama.cpp differs from the model's own pattern in {len(differ)} of {len(TEXTS)} texts")
        else:
            ids = theirs
        by = f"tokenizers {tokenizers.__version__}" if patterns else f"llama-cpp-python {llama.__version__}"
        rows.setdefault((by, *map(digest, ids)), []).append(name)
    rows = [{"names": names, "by": by, "digests": digests} for (by, *digests), names in rows.items()]
    listed = {"texts": TEXTS, "rows": rows}
    parts = [
        f'  "{key}": [\n' + ",\n".join("    " + json.dumps(value, ensure_ascii=False) for value in values) + "\n  ]"
        for key, values in listed.items()
    ]
    parts += [f'  "{key}": {json.dumps(values, ensure_ascii=False)}' for key, values in
              {"tokens": tokens, "merges": merges}.items()]
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print(f"{len(tokens)} tokens, {len(rows)} ways to split")


if __name__ == "__main__":
    main()
