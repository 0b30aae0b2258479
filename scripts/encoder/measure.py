"""Figures of a folder on the development sets, with what of them stands in the training texts.

A folder is that of the packaged encoder or of the trained one; both are measured with the prompt "query: " on every text.
"""
import argparse
import json
import pathlib

import torch
from tokenizers import Tokenizer

import evaluate
import texts
from network import Embedder, Encoder


def known(data, ads):
    """Names of concepts by every normalised text that training sees, sentences included."""
    concepts = texts.concepts(data)
    found = texts.known(concepts)
    skills = {name for name, concept in concepts.items() if concept.domain == 'skill'}
    for sentence, _, meant in texts.sentences(data, ads, found, skills):
        found.setdefault(evaluate.normalised(sentence), set()).update(meant)
    return found


def main():
    """Reads the options and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('folder', 'data', 'ads'):
        parser.add_argument('--' + name, type=pathlib.Path, required=True)
    parser.add_argument('--sets', default='', help='names with commas between them; all of them without')
    parser.add_argument('--alternatives', action='store_true', help='sentences among alternative labels too')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pieces = json.loads((options.folder / 'config.json').read_text(encoding='utf-8'))['vocab_size']
    network = Encoder(options.folder, list(range(pieces)), 1)
    embed = Embedder(network, Tokenizer.from_file(str(options.folder / 'tokenizer.json')))
    names = options.sets.split(',') if options.sets else None
    evaluate.measure(embed, options.data, names, options.alternatives, known(options.data, options.ads))


if __name__ == '__main__':
    main()
