"""Figures of an encoder on the development sets, vectors alone, each with what of it stands in the training pairs.

A query counts as seen if its normalised text, and as pair if it and one of its right answers, stand in the training
texts of one concept.
"""
import csv
import gzip
import hashlib
import json
import unicodedata

import torch

csv.field_size_limit(1 << 30)


def normalised(text):
    """Case, accents, punctuation and blanks folded."""
    text = unicodedata.normalize('NFKD', text.casefold())
    return ' '.join(''.join(c if c.isalnum() or c in '+#' else ' ' for c in text if not unicodedata.combining(c)).split())


def left_out(text):
    """The rule of score_titles.py: a tenth of the concepts and titles stays out of everything learned."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10 == 0


def table(path):
    """Rows of a gzipped CSV file with a header."""
    with gzip.open(path, 'rt', encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def lines(path):
    """Rows of a gzipped file, split at tabulators."""
    with gzip.open(path, 'rt', encoding='utf-8') as file:
        return [line.rstrip('\n').split('\t') for line in file]


class Ranking:
    """Queries, targets and which targets are right: rows of `right` are sets of target numbers."""

    def __init__(self, queries, targets, right, groups=None):
        self.queries, self.targets, self.right = queries, targets, right
        # Number of the concept of each target; a concept's score is that of its best target.
        self.groups = groups

    def order(self, embed, best=None):
        """Numbers of targets (or concepts) for each query, the nearest first."""
        scores = embed(self.queries) @ embed(self.targets).T
        if self.groups is not None:
            groups = torch.tensor(self.groups)
            whole = torch.full((len(self.queries), int(groups.max()) + 1), -2.)
            scores = whole.scatter_reduce(1, groups.expand(len(self.queries), -1), scores, 'amax')
        return scores.topk(min(best or scores.shape[1], scores.shape[1]), dim=1).indices.tolist()


def skill_labels(data):
    """Spanish preferred labels of concepts that were left out, among the English ones of all."""
    rows = table(data / 'esco-merged/skills_en_es.csv.gz')
    targets = [row['preferredLabel_en'] for row in rows]
    asked = [(i, row) for i, row in enumerate(rows) if left_out(row['conceptUri']) and row['preferredLabel_es']
             and row['preferredLabel_es'].lower() != row['preferredLabel_en'].lower()]
    return Ranking([row['preferredLabel_es'] for _, row in asked], targets, [{i} for i, _ in asked])


def cuoc_titles(data):
    """Titles of CUOC that were left out, among the names and other titles of all occupations."""
    occupations = [(row[0], row[1]) for row in lines(data / 'cuoc-2025-co/occupations.tsv.gz')[1:]]
    titles = [(row[0], row[2]) for row in lines(data / 'cuoc-2025-co/titles_dev.tsv.gz')[1:]]
    number = {code: i for i, (code, _) in enumerate(occupations)}
    known = occupations + [(code, title) for code, title in titles if not left_out(title)]
    asked = [(code, title) for code, title in titles if left_out(title)]
    return Ranking([title for _, title in asked], [text for _, text in known], [{number[code]} for code, _ in asked],
                   [number[code] for code, _ in known])


def similar_titles(data, language):
    """TalentCLEF 2025, task A, development half."""
    base = data / 'talentclef2025-es'
    queries, corpus = (lines(base / f'{part}_{language}.tsv.gz')[1:] for part in ('queries', 'corpus'))
    place = {row[0]: i for i, row in enumerate(corpus)}
    right = {row[0]: set() for row in queries}
    for row in lines(base / f'qrels_{language}.tsv.gz'):
        right[row[0]].add(place[row[2]])
    return Ranking([row[1] for row in queries], [row[1] for row in corpus], [right[row[0]] for row in queries])


def national_titles(data):
    """MELO, Spanish titles among the surface forms of ESCO."""
    read = lambda path: [line.rstrip('\n').split('\t') for line in path]
    base = data / 'gold-melo-es'
    queries = read((base / 'queries.tsv').open(encoding='utf-8'))
    corpus = lines(base / 'corpus_elements.tsv.gz')
    place = {row[0]: i for i, row in enumerate(corpus)}
    right = {row[0]: set() for row in queries}
    for row in read((base / 'annotations.tsv').open(encoding='utf-8')):
        right[row[0]].add(place[row[2]])
    return Ranking([row[1] for row in queries], [row[1] for row in corpus], [right[row[0]] for row in queries])


def sentences(data, name, alternatives=False):
    """Sentences of SkillSpan among ESCO's English labels; the score of a skill is that of its best label."""
    rows = table(data / 'esco-merged/skills_en_es.csv.gz')
    place = {row['preferredLabel_en'].casefold(): i for i, row in enumerate(rows)}
    right = {}
    with open(data / f'gold-decorte-esco/{name}_validation.csv', encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            found = place.get((row['label'] or '').strip().casefold())
            right.setdefault(row['sentence'], set()).update(() if found is None else (found,))
    targets = [(i, row['preferredLabel_en']) for i, row in enumerate(rows)]
    if alternatives:
        targets += [(i, text) for i, row in enumerate(rows) for text in row['altLabels_en'].split(' | ') if text]
    asked = [(sentence, found) for sentence, found in right.items() if found]
    return Ranking([sentence for sentence, _ in asked], [text for _, text in targets], [found for _, found in asked],
                   [i for i, _ in targets])


def figures(order, right):
    """Means of top-1, top-5, reciprocal rank, average precision and R-precision at 5."""
    sums = dict.fromkeys(('top1', 'top5', 'mrr', 'map', 'rp5'), 0.)
    for ranks, wanted in zip(order, right):
        places = [n for n, found in enumerate(ranks, 1) if found in wanted]
        first = places[0] if places else 1e9
        sums['top1'] += first == 1
        sums['top5'] += first <= 5
        sums['mrr'] += 1 / first
        sums['map'] += sum(hit / n for hit, n in enumerate(places, 1)) / max(1, len(wanted))
        sums['rp5'] += sum(n <= 5 for n in places) / min(5, max(1, len(wanted)))
    return {name: round(value / max(1, len(right)), 4) for name, value in sums.items()}


def sets(data, alternatives=False):
    """The development sets by name, with the figure that counts on each."""
    return {
        'labels': ('top1', skill_labels(data)), 'melo': ('mrr', national_titles(data)),
        'melo-lower': ('mrr', lowered(national_titles(data))),
        'talentclef-es': ('map', similar_titles(data, 'spanish')), 'talentclef-en': ('map', similar_titles(data, 'english')),
        'tech': ('rp5', sentences(data, 'tech', alternatives)), 'house': ('rp5', sentences(data, 'house', alternatives)),
        'cuoc': ('top1', cuoc_titles(data)),
    }


def lowered(ranking):
    """The same with queries in lower case: MELO's stand in capitals."""
    return Ranking([text.lower() for text in ranking.queries], ranking.targets, ranking.right, ranking.groups)


def measure(embed, data, names=None, alternatives=False, known=None):
    """Figures by set; with `known`, the normalised training texts by concept, also of the queries outside of them."""
    cache, found = {}, {}

    def cached(texts):
        missing = [text for text in dict.fromkeys(texts) if text not in cache]
        if missing:
            cache.update(zip(missing, embed(missing)))
        return torch.stack([cache[text] for text in texts])
    for name, (main, ranking) in sets(data, alternatives).items():
        if names and name not in names:
            continue
        order = ranking.order(cached)
        entry = {'queries': len(ranking.queries), **figures(order, ranking.right), 'main': main}
        if known is not None:
            entry.update(leaks(ranking, order, known))
        found[name] = entry
        print(name, json.dumps(entry), flush=True)
    return found


def leaks(ranking, order, known):
    """Shares of queries and targets among the training texts, and the figures of queries that are not."""
    seen = [normalised(text) in known for text in ranking.queries]
    parts = {'queries_seen': sum(seen) / len(seen),
             'targets_seen': sum(normalised(text) in known for text in ranking.targets) / len(ranking.targets)}
    right_texts = {}
    for number, text in enumerate(ranking.targets):
        group = number if ranking.groups is None else ranking.groups[number]
        right_texts.setdefault(group, []).append(text)
    pair = [any(known.get(normalised(query), set()) & known.get(normalised(text), set())
                for group in wanted for text in right_texts[group])
            for query, wanted in zip(ranking.queries, ranking.right)]
    parts['pairs_seen'] = sum(pair) / len(pair)
    keep = [i for i, found in enumerate(pair) if not found]
    parts['without_pairs'] = figures([order[i] for i in keep], [ranking.right[i] for i in keep])
    fresh = [i for i, found in enumerate(seen) if not found]
    parts['without_seen'] = figures([order[i] for i in fresh], [ranking.right[i] for i in fresh])
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in parts.items()}
