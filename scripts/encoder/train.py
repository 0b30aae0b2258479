"""Fine-tunes the packaged encoder into one for skills and occupations; `scripts/train-encoder` calls it."""
import argparse
import json
import math
import pathlib
import time

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

import texts
import vocabulary
from batches import Batches
from network import Embedder, Encoder, padded, shorten

# As many as fit into 90 minutes on two cores. Not tuned: other lengths were not tried.
STEPS = 1800
# Not tuned: the published recipe of E5 has 0.01, which leaves all cosines above .7.
TEMPERATURE = .03
SEED = 20261201
# Tokens of a text; longer ones lose their end.
TOKENS = 64
# Steps between two searches for the nearest concepts, and concepts found for each.
MINE, NEIGHBOURS = 400, 24
# Steps between two checkpoints.
SAVE = 100


class Trainer:
    """State of a run: network, optimiser, batches and the number of the next step."""

    def __init__(self, options):
        self.options = options
        self.folder = options.work
        self.folder.mkdir(parents=True, exist_ok=True)
        self.concepts = texts.concepts(options.data)
        self.names = texts.known(self.concepts)
        skills = {name for name, concept in self.concepts.items() if concept.domain == 'skill'}
        found = texts.sentences(options.data, options.ads, self.names, skills)
        self.kept = self.vocabulary([sentence for sentence, _, _ in found])
        self.tokenizer = Tokenizer.from_str(vocabulary.cut(options.base, self.kept))
        self.batches = Batches(options.data, self.concepts, self.names, found, SEED)
        torch.manual_seed(SEED)
        self.network = Encoder(options.base, self.kept, options.rank)
        free = list(self.network.free.values())
        low = [*self.network.low.values(), *self.network.high.values()]
        self.optimiser = torch.optim.AdamW(
            [{'params': low, 'rate': options.rate}, {'params': free, 'rate': options.rate / 5}],
            lr=options.rate, betas=(.9, .98), weight_decay=0)
        self.step, self.cache = 0, {}

    def vocabulary(self, sentences):
        """Ids of the kept pieces, chosen once for a working folder."""
        path = self.folder / 'pieces.json'
        if not path.exists():
            used = [text for concept in self.concepts.values() for text in (*concept.en, *concept.es, *concept.about)]
            path.write_text(json.dumps(vocabulary.choose(self.options.base, self.options.wheel, [*used, *sentences])))
        return json.loads(path.read_text())

    def encodings(self, batch):
        """Token ids of texts, kept for the next time."""
        missing = [text for text in dict.fromkeys(batch) if text not in self.cache]
        for text, found in zip(missing, self.tokenizer.encode_batch(['query: ' + text for text in missing])):
            self.cache[text] = shorten(found.ids, TOKENS)
        return [self.cache[text] for text in batch]

    def vectors(self, batch):
        """Vectors of texts, in three parts of similar length."""
        encodings = self.encodings(batch)
        order = sorted(range(len(batch)), key=lambda i: len(encodings[i]))
        layers = self.network.weights()
        size = -(-len(order) // 3)
        parts = [self.network(*padded([encodings[i] for i in order[start:start + size]], 1), layers)
                 for start in range(0, len(order), size)]
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back]

    def loss(self, number):
        """Contrastive loss in both directions; rows that share a meaning are no negatives."""
        kind, left, right, ids = self.batches.batch(number)
        count = len(left)
        vectors = self.vectors(left + right)
        a, b = vectors[:count], vectors[count:]
        same = shared(ids)
        wanted = torch.arange(count)
        across, beside = a @ b.T / TEMPERATURE, same | torch.eye(count, dtype=torch.bool)
        across = across.masked_fill(same, -1e4)
        left_side = torch.cat([across, (a @ a.T / TEMPERATURE).masked_fill(beside, -1e4)], 1)
        right_side = torch.cat([across.T, (b @ b.T / TEMPERATURE).masked_fill(beside, -1e4)], 1)
        return kind, (F.cross_entropy(left_side, wanted) + F.cross_entropy(right_side, wanted)) / 2

    def mine(self):
        """The nearest concepts of each by the vectors of their preferred labels."""
        embed = Embedder(self.network, self.tokenizer)
        for domain, members in self.batches.members.items():
            labels = [(self.concepts[name].en or self.concepts[name].es)[0] for name in members]
            vectors = embed(labels)
            for start in range(0, len(members), 1024):
                nearest = (vectors[start:start + 1024] @ vectors.T).topk(NEIGHBOURS + 1).indices.tolist()
                for row, found in enumerate(nearest, start):
                    self.batches.mined[members[row]] = [members[i] for i in found if i != row][:NEIGHBOURS]

    def save(self):
        """Writes the checkpoint as a whole."""
        state = {'step': self.step, 'network': self.network.state_dict(), 'optimiser': self.optimiser.state_dict(),
                 'mined': self.batches.mined}
        torch.save(state, self.folder / 'checkpoint.new')
        (self.folder / 'checkpoint.new').rename(self.folder / 'checkpoint.pt')

    def load(self):
        """Goes on where an earlier run ended."""
        path = self.folder / 'checkpoint.pt'
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.step, self.batches.mined = state['step'], state['mined']
            self.network.load_state_dict(state['network'])
            self.optimiser.load_state_dict(state['optimiser'])

    def rate(self):
        """Share of the learning rate: 100 steps up, then half a cosine down."""
        if self.step < 100:
            return (self.step + 1) / 100
        return .5 + .5 * math.cos(math.pi * (self.step - 100) / max(1, self.options.steps - 100))

    def train(self):
        """Runs the remaining steps."""
        losses, start, last = {}, time.time(), time.time()
        while self.step < self.options.steps:
            if self.step % MINE == 0:
                self.mine()
            for group in self.optimiser.param_groups:
                group['lr'] = group['rate'] * self.rate()
            kind, loss = self.loss(self.step)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.)
            self.optimiser.step()
            self.step += 1
            losses.setdefault(kind, []).append(loss.item())
            if self.step % 50 == 0:
                means = {name: round(sum(found) / len(found), 3) for name, found in sorted(losses.items())}
                print(f'step {self.step} {(time.time() - last) / 50:.2f} s {time.time() - start:.0f} s {means}', flush=True)
                losses, last = {}, time.time()
            if self.step % SAVE == 0 or self.step == self.options.steps:
                self.save()


def shared(ids):
    """Which two rows share an id; a row with itself does not count."""
    rows = {}
    for row, found in enumerate(ids):
        for name in found:
            rows.setdefault(name, []).append(row)
    same = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for found in rows.values():
        if len(found) > 1:
            same[torch.tensor(found)[:, None], torch.tensor(found)] = True
    return same.fill_diagonal_(False)


def main():
    """Reads the options and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('base', 'wheel', 'data', 'ads', 'work'):
        parser.add_argument('--' + name, type=pathlib.Path, required=True)
    parser.add_argument('--steps', type=int, default=STEPS)
    parser.add_argument('--rank', type=int, default=48)
    parser.add_argument('--rate', type=float, default=6e-4)
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trainer = Trainer(options)
    trainer.load()
    trainer.train()


if __name__ == '__main__':
    main()
