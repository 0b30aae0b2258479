#!/usr/bin/env python3
"""Writes expected.json: 10,000 strings, by a generator that the test repeats, and what their tokens are.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    make.py TOKENIZER_JSON      # of the converted encoder: vocabulary and parts are taken from it, its map is not

The reference is the `tokenizers` library with SentencePiece's own map (`nmt_nfkc`, which XLM-RoBERTa's tokenizer carries) in
the place of the converted one. Code points that SentencePiece learned after XLM-RoBERTa was published are left out.
"""
import base64, hashlib, io, json, sys
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

WORDS = """Excel|SAP S/4HANA|C++|C#|Node.js|.NET|atención al cliente|Bogotá, D.C.|años de experiencia|¿Hablas inglés?|¡Únete!
ingeniería civil|desarrollador(a) full-stack|Python3|PL/SQL|$ 1.500.000,00|9:00–18:00|e-mail: rrhh@example.com|«comillas»|“inglés”
niño|señora|pingüino|nin\u0303o|sen\u0303ora|pingu\u0308ino|a\u0301rea|E\u0301xito|o\u0302\u0301|e\u0301\u0302|A\u0340|q\u0301
ﬁnanzas|oﬃce|½ jornada|①②③|ＡＢＣ１２３|㈱|№ 5|™|®|℃|Ⅳ|ﬀ|ｶﾞ|ﾊﾟ|한국어|日本語の求人|招聘|مطلوب مهندس|דרוש|इंजीनियर|Инженер|Ηλεκτρολόγος
👩‍💻|👍🏽|🇨🇴|❤️|★★★|►|•|✓|▁|▁▁a|<s>|</s>|<mask>|<unk>|<pad>|&amp;|\\n|%%|___|...|!!!!!!!!|aaaaaaaaaaaaaaaaaaaaaaaa|0123456789
ǅ|ŉ|ſ|ẛ̣|Å|Ω|ﷺ|ﬗ|\ufeffBOM|a\u00adb|x\u200by|x\u200ey|\u0001|\u007f|\u009f|\u3000|\u2028|fi\u0301n""".replace("\u200d", "")
SEPARATORS = [" ", " ", " ", "  ", "", "", "\n", "\t", "\u00a0", ", ", "-", "/", "   \n ", "\r\n"]
RANGES = [[0x20, 0x7E], [0xA0, 0x24F], [0x300, 0x36F], [0x370, 0x3FF], [0x400, 0x4FF], [0x1E00, 0x1FFF], [0x2000, 0x200C],
          [0x2010, 0x206F], [0x2070, 0x218B], [0x2460, 0x24FF], [0x3040, 0x30FF], [0x3200, 0x32FE], [0x3300, 0x33FF],
          [0x4E00, 0x4EFF], [0xAC00, 0xACFF], [0xF900, 0xFAD9], [0xFB00, 0xFB4F], [0xFE30, 0xFE6B], [0xFF01, 0xFFEE],
          [0x1D400, 0x1D4FF], [0x1F100, 0x1F16B], [0x1F600, 0x1F64F], [0x0, 0x1F], [0x2F800, 0x2F8FF]]
COUNT, GROUP = 10_000, 100


class Numbers:
    def __init__(self):
        self.state = 42

    def below(self, bound):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % bound


def strings(words):
    numbers = Numbers()
    for _ in range(COUNT):
        text = ""
        for _ in range(1 + numbers.below(12)):
            if numbers.below(3) == 0:
                low, high = RANGES[numbers.below(len(RANGES))]
                text += chr(low + numbers.below(high - low + 1))
            else:
                text += words[numbers.below(len(words))]
            text += SEPARATORS[numbers.below(len(SEPARATORS))]
        yield text


def reference(path):
    model = io.BytesIO()
    lines = (f"hola mundo esto es una prueba de texto numero {number}" for number in range(500))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=model, vocab_size=60, minloglevel=2,
                                             normalization_rule_name="nmt_nfkc", hard_vocab_limit=False)
    parsed = sentencepiece_model_pb2.ModelProto()
    parsed.ParseFromString(model.getvalue())
    tokenizer = json.loads(Path(path).read_text())
    charsmap = base64.b64encode(parsed.normalizer_spec.precompiled_charsmap).decode()
    tokenizer["normalizer"]["normalizers"][0]["precompiled_charsmap"] = charsmap
    return Tokenizer.from_str(json.dumps(tokenizer))


def main():
    words = [word for line in WORDS.split("\n") for word in line.split("|")]
    tokenizer = reference(sys.argv[1])
    groups, digest = [], hashlib.sha256()
    for index, text in enumerate(strings(words), 1):
        digest.update((" ".join(map(str, tokenizer.encode(text).ids)) + "\n").encode())
        if index % GROUP == 0:
            groups.append(digest.hexdigest()[:16])
            digest = hashlib.sha256()
    expected = {"count": COUNT, "group": GROUP, "words": words, "separators": SEPARATORS, "ranges": RANGES, "sha256": groups}
    out = Path(__file__).with_name("expected.json")
    out.write_text(json.dumps(expected, ensure_ascii=True, indent=1) + "\n")


main()
