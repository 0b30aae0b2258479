"""Writes what is committed of a trained encoder: the differences in 8 bits, the kept pieces and vectors to test with.

`client-cli/src/models/packaged/tuned.rs` builds the model from the first two and the package.
"""
import argparse
import gzip
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import vocabulary
from network import Embedder, Encoder

# Texts of the test: Spanish, English and Portuguese, capitals, signs outside of the vocabulary, a long one.
GOLDEN = ['Excel', 'manejo de personal', 'DIRECTORES DE DEPARTAMENTO DE DISEÑO', 'manage musical staff', 'C++ / C#',
          'atendimento ao cliente e vendas', 'técnico/a de soporte informático — turno noche', '日本語 y español',
          'Buscamos una persona con experiencia en contabilidad, facturación electrónica y manejo de SAP; se valora inglés. ' * 3]


def integers(tensor):
    """Rows as integers of 8 bits with one factor for each."""
    scale = (tensor.abs().amax(1, keepdim=True) / 127).half()
    return (tensor / scale.float().clamp_min(1e-12)).round().clamp(-127, 127).to(torch.int8), scale


def differences(network):
    """The learned tensors by the name of what they belong to."""
    found = {}
    for name, low in network.low.items():
        high, low = network.high[name].detach(), low.detach()
        # Both factors alike in size, so that none is lost to rounding; the product stays.
        share = (high.norm(dim=0) / low.norm(dim=1).clamp_min(1e-12)).sqrt().clamp_min(1e-12)
        name = name.replace('/', '.')
        for part, tensor in (('low', low * share[:, None]), ('high', high / share)):
            found[f'{name}.{part}'], found[f'{name}.{part}_scale'] = integers(tensor)
    found.update((name.replace('/', '.'), tensor.detach().half()) for name, tensor in network.free.items())
    return {name: found[name].contiguous() for name in sorted(found)}


def main():
    """Reads the options and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('base', 'work', 'out', 'vectors'):
        parser.add_argument('--' + name, type=pathlib.Path, required=True)
    options = parser.parse_args()
    kept = json.loads((options.work / 'pieces.json').read_text(encoding='utf-8'))
    state = torch.load(options.work / 'checkpoint.pt', weights_only=True)
    rank = next(tensor.shape[0] for name, tensor in state['network'].items() if name.startswith('low.'))
    network = Encoder(options.base, kept, rank, torch.float32)
    network.load_state_dict(state['network'])
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(differences(network), options.out / 'difference.safetensors')
    pieces = json.loads((options.base / 'tokenizer.json').read_text(encoding='utf-8'))['model']['vocab']
    text = ''.join(f'{i}\t{pieces[i][0]}\n' for i in kept)
    (options.out / 'pieces.tsv.gz').write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    tokenizer = Tokenizer.from_str(vocabulary.cut(options.base, kept))
    vectors = Embedder(network, tokenizer, tokens=512)(GOLDEN)
    content = {'texts': GOLDEN, 'vectors': [[round(value, 4) for value in vector] for vector in vectors.tolist()]}
    options.vectors.write_text(json.dumps(content, ensure_ascii=False, separators=(',', ':')) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
