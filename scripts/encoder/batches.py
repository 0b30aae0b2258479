"""Batches of pairs for contrastive training: two texts of one concept in each row, near concepts in many rows.

Every batch follows from the seed and its number alone, so that a run goes on where it ended.
"""
import random
import unicodedata

from evaluate import lines, normalised, table
from texts import plural

# Rows of a batch by kind: long texts take more time each.
ROWS = {'skill': 160, 'title': 144, 'cuoc': 80, 'about': 48, 'sentence': 64}
# Shares of the kinds. Not tuned: each kind has a development set, skills the most texts.
SHARES = {'skill': .42, 'title': .22, 'cuoc': .12, 'about': .08, 'sentence': .16}
# Share of the rows that come in groups of near concepts, and the size of a group. Not tuned.
NEAR, GROUP = .6, 8


def siblings(data, concepts):
    """Concepts that stand near each in ESCO's hierarchy or CUOC's list of related occupations."""
    members = {}
    for path in ('esco-1.1.1-en/broaderRelationsSkillPillar.csv.gz', 'esco-1.1.1-en/broaderRelationsOccPillar.csv.gz'):
        for row in table(data / path):
            members.setdefault(row['broaderUri'], []).append(row['conceptUri'])
    near = {}
    for group in members.values():
        group = [name for name in group if name in concepts]
        for name in group:
            near.setdefault(name, []).extend(other for other in group if other != name)
    for code, other in lines(data / 'cuoc-2025-co/related.tsv.gz')[1:]:
        near.setdefault('cuoc:' + code, []).append('cuoc:' + other)
    return {name: [other for other in found if other in concepts] for name, found in near.items()}


# Share of the texts that lose their accents, and of the titles that are put into the plural. Not tuned: advertisements
# in capitals have few accents, and classifications name occupations in the plural.
BARE, PLURALS = .1, .25


def varied(text, pick):
    """The text as it is, or without accents; the tokenizer makes its letters small."""
    if pick.random() < BARE:
        return ''.join(c for c in unicodedata.normalize('NFD', text) if c != '\u0301')
    return text


def one(texts, first, pick):
    """The preferred label with the probability `first`, else another."""
    return texts[0] if len(texts) == 1 or pick.random() < first else pick.choice(texts[1:])


class Batches:
    """Draws batches from concepts and sentences."""

    def __init__(self, data, concepts, names, sentences, seed):
        self.concepts, self.names, self.sentences, self.seed = concepts, names, sentences, seed
        self.siblings = siblings(data, concepts)
        # Nearest concepts by the encoder itself, set while it learns.
        self.mined = {}
        self.members = {'skill': [], 'title': [], 'cuoc': []}
        for name, concept in concepts.items():
            if len(concept.en) + len(concept.es) > 1:
                self.members[concept.domain].append(name)
        self.described = [name for name, concept in concepts.items() if concept.about and (concept.en or concept.es)]

    def batch(self, number):
        """Kind, left texts, right texts, and for each row the ids of what it means."""
        pick = random.Random(self.seed * 1_000_003 + number)
        kind = pick.choices(list(SHARES), list(SHARES.values()))[0]
        if kind == 'sentence':
            rows = [self.sentence(*found, pick) for found in pick.sample(self.sentences, ROWS[kind])]
        else:
            chosen = self.chosen(self.described if kind == 'about' else self.members[kind], ROWS[kind], pick)
            draw = self.description if kind == 'about' else self.labels
            rows = [draw(name, pick) for name in chosen]
        left, right, meant = zip(*rows)
        return kind, list(left), list(right), [self.ids(*row) for row in zip(left, right, meant)]

    def ids(self, left, right, meant):
        """Concepts and texts by which two rows are no negatives of each other."""
        found = set(meant)
        for text in (left, right):
            text = normalised(text)
            found |= self.names.get(text, set()) | {text}
        return found

    def chosen(self, members, count, pick):
        """Different concepts, many of them near each other."""
        allowed = set(members)
        found = {}
        while len(found) < count:
            seed = pick.choice(members)
            found[seed] = None
            if pick.random() < NEAR * 2 / GROUP:
                near = self.mined.get(seed, []) if pick.random() < .6 else self.siblings.get(seed, [])
                near = [name for name in near if name in allowed]
                found.update(dict.fromkeys(pick.sample(near, min(GROUP - 1, len(near)))))
        return list(found)[:count]

    def labels(self, name, pick):
        """Two labels of a concept, mostly Spanish and English."""
        concept = self.concepts[name]
        both = concept.en and concept.es
        choices = [texts for texts in (concept.en, concept.es) if len(texts) > 1]
        if not choices or both and pick.random() < (.6 if concept.domain == 'skill' else .35):
            left, right = one(concept.es, .4, pick), one(concept.en, .6, pick)
        else:
            spanish = .5 if concept.domain == 'skill' else .75
            texts = choices[-1] if not choices[1:] or pick.random() < spanish else choices[0]
            left, right = pick.sample(texts, 2) if pick.random() < .5 else (pick.choice(texts[1:]), texts[0])
        if concept.domain != 'skill' and left in concept.es and pick.random() < PLURALS:
            left = plural(left)
        left, right = varied(left, pick), varied(right, pick)
        return (left, right, {name}) if pick.random() < .5 else (right, left, {name})

    def description(self, name, pick):
        """A label and a description, or the beginning of one, or a function."""
        concept = self.concepts[name]
        texts = concept.es if not concept.en or (concept.es and pick.random() < .5) else concept.en
        return one(texts, .5, pick), pick.choice(concept.about), {name}

    def sentence(self, sentence, texts, concepts, pick):
        """A sentence, or a part of it, and a skill in it: as it is called there or a label of its concept."""
        right = pick.choice(texts)
        exact = sorted(self.names.get(normalised(right), set()) & concepts)
        if exact and pick.random() < .6:
            concept = self.concepts[pick.choice(exact)]
            right = one(concept.en if concept.en and pick.random() < .75 else concept.es or concept.en, .7, pick)
        return sentence, right, concepts
