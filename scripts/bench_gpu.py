"""A model of the shape of multilingual-e5-base with random weights, texts for it, and its peers' speed.

Used by `scripts/bench-gpu`. Needs torch, transformers and sentence-transformers, and a CUDA device for both commands:
`make DIR FIXTURE` writes DIR/store, DIR/*.txt and the reference vectors; `make-text DIR` a language model;
`peer DIR PRECISION…` prints the speed of sentence-transformers and of transformers' bare forward pass at their best
batch sizes.
"""

import json
import math
import random
import shutil
import sys
import time
from pathlib import Path

import torch

NAME = "bench/e5-base"
VOCABULARY = 250_002
LENGTHS = {"tokens16": (32_768, lambda r: 16), "tokens512": (1_024, lambda r: 512),
           "mixed": (8_192, lambda r: int(math.exp(r.uniform(math.log(8), math.log(512)))))}


def make(folder: Path, fixture: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    model_dir = folder / "store" / NAME
    for module in ("1_Pooling", "2_Normalize"):
        (model_dir / module).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    config = XLMRobertaConfig(vocab_size=VOCABULARY, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                              intermediate_size=3072, max_position_embeddings=514, type_vocab_size=1,
                              layer_norm_eps=1e-5, initializer_range=0.04)
    config.architectures = ["XLMRobertaModel"]
    with torch.device("cuda"):
        model = XLMRobertaModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Biases and norms are drawn too, so that a forgotten one shows.
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(model_dir)

    draw = random.Random(1)
    words = set()
    while len(words) < VOCABULARY - 5:
        words.add("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 10))))
    words = sorted(words)
    pieces = [[token, 0.0] for token in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [["\u2581" + word, -10.0] for word in words]
    tokenizer = json.loads((fixture / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = pieces + [["<mask>", 0.0]]
    tokenizer["added_tokens"][-1]["id"] = VOCABULARY - 1
    (model_dir / "tokenizer.json").write_text(json.dumps(tokenizer))
    special = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>",
               "unk_token": "<unk>", "mask_token": "<mask>"}
    (model_dir / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **special}))
    shutil.copy(fixture / "modules.json", model_dir)
    (model_dir / "1_Pooling" / "config.json").write_text(json.dumps(
        {"word_embedding_dimension": 768, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}))
    (model_dir / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": False}))

    def text(tokens: int) -> str:
        return " ".join(draw.choices(words, k=tokens - 2))

    for name, (count, length) in LENGTHS.items():
        (folder / f"{name}.txt").write_text("".join(text(length(draw)) + "\n" for _ in range(count)))
    compared = [text(length) for length in
                [3, 4, 15, 16, 17, 18, 31, 32, 33, 47, 48, 49, 63, 64, 65, 66, 100, 127, 128, 129, 191, 192, 193, 255, 256,
                 257, 300, 383, 384, 385, 511, 512] + [draw.randint(3, 64) for _ in range(64)]]
    (folder / "compare.txt").write_text("".join(line + "\n" for line in compared))
    reference(folder, model, compared)


def make_text(folder: Path) -> None:
    """A language model of the shape of Qwen2.5-7B with random weights in bf16, at DIR/store/bench/qwen2-7b."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=152_064, hidden_size=3_584, intermediate_size=18_944, num_hidden_layers=28,
                         num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=32_768,
                         rope_theta=1e6, tie_word_embeddings=False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config).eval()
    model.save_pretrained(folder / "store" / "bench" / "qwen2-7b", max_shard_size="4GB")


def reference(folder: Path, model, texts: list[str]) -> None:
    """Mean of the last hidden states, by transformers in f32 and eager attention, a text at a time."""
    from tokenizers import Tokenizer

    model.set_attn_implementation("eager")
    torch.set_float32_matmul_precision("highest")
    tokenizer = Tokenizer.from_file(str(folder / "store" / NAME / "tokenizer.json"))
    with torch.no_grad(), open(folder / "compare.f32", "wb") as file:
        for line in texts:
            ids = torch.tensor([tokenizer.encode(line).ids], device="cuda")
            mean = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0)
            file.write(mean.float().cpu().numpy().astype("<f4").tobytes())


def timed(work, texts: int) -> float:
    """Texts per second, the better of two rounds after one that warms up."""
    work()
    best = 0.0
    for _ in range(2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        best = max(best, texts / (time.perf_counter() - started))
    return best


def peer(folder: Path, precisions: list[str]) -> None:
    import sentence_transformers
    import transformers
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    model_dir = str(folder / "store" / NAME)
    print(f"| peers: torch {torch.__version__}, transformers {transformers.__version__}, "
          f"sentence-transformers {sentence_transformers.__version__} |", flush=True)
    for name in precisions:
        arguments = {"dtype": getattr(torch, name), "attn_implementation": "sdpa"}
        encoder = SentenceTransformer(model_dir, device="cuda", model_kwargs=arguments)
        for texts_name, sizes, take in (("tokens512", (128, 256), 1_024), ("tokens16", (256, 1_024, 4_096), 16_384),
                                        ("mixed", (64, 256), 4_096)):
            texts = (folder / f"{texts_name}.txt").read_text().splitlines()[:take]
            rates = {size: timed(lambda: encoder.encode(texts, batch_size=size, convert_to_tensor=False), len(texts))
                     for size in sizes}
            size = max(rates, key=rates.get)
            print(f"| {texts_name} | sentence-transformers {name} sdpa | best batch {size} | {rates[size]:.0f} texts/s |",
                  flush=True)
        model = AutoModel.from_pretrained(model_dir, add_pooling_layer=False, **arguments).cuda().eval()
        for tokens, sizes in ((512, (64, 256)), (16, (1_024, 8_192))):
            with torch.inference_mode():
                rates = {}
                for size in sizes:
                    ids = torch.randint(5, VOCABULARY - 1, (size, tokens), device="cuda")
                    rates[size] = timed(lambda: model(input_ids=ids).last_hidden_state.float().mean(1).cpu(), size)
            size = max(rates, key=rates.get)
            print(f"| tokens{tokens} | transformers forward {name} sdpa, ids on the GPU | best batch {size} | "
                  f"{rates[size]:.0f} texts/s |", flush=True)
        del encoder, model


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        make(folder, Path(sys.argv[3]))
    elif command == "make-text":
        make_text(folder)
    else:
        peer(folder, sys.argv[3:])
