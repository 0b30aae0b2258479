"""Training texts: what is said of each concept, in which language, and sentences with the concepts they name.

Concepts and titles that score_titles.py leaves out never appear, nor does the test part of the written advertisements or
a sentence of the development sets.
"""
import ast
import csv
import gzip
import hashlib
import json
import re
from dataclasses import dataclass, field

from evaluate import left_out, lines, normalised, table


@dataclass
class Concept:
    """Texts of a concept. The first of each list is its preferred label."""

    domain: str
    en: list = field(default_factory=list)
    es: list = field(default_factory=list)
    about: list = field(default_factory=list)


def unique(texts):
    """The texts without blanks around them and repetitions."""
    return list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))


def split(cell):
    """The parts of a cell of the merged tables."""
    return cell.split(' | ') if cell else []


def genders(label):
    """A label as 'director técnico/directora técnica' and its two forms."""
    parts = label.split('/')
    return [label] if len(parts) != 2 or min(map(len, parts)) < 4 else [label, *parts]


def skills(data):
    """Skills of ESCO with the Latin American wordings."""
    wordings = {row[0]: row[1].split('|') for row in lines(data / 'esco-latam-phrases/esco-latam-phrases.tsv.gz')[1:]}
    found = {}
    for row in table(data / 'esco-merged/skills_en_es.csv.gz'):
        uri = row['conceptUri']
        if not left_out(uri):
            english = unique([row['preferredLabel_en'], *split(row['altLabels_en'])])
            spanish = unique([row['preferredLabel_es'], *split(row['altLabels_es']), *wordings.get(uri, [])])
            found[uri] = Concept('skill', english, spanish, unique([row['description_en'], row['description_es']]))
    return found


def occupations(data):
    """Occupations of ESCO in both languages, and the groups of ISCO."""
    found = {}
    for row in table(data / 'esco-merged/occupations_en_es.csv.gz'):
        english = unique([row['preferredLabel_en'], *split(row['altLabels_en'])])
        spanish = unique([*genders(row['preferredLabel_es']), *split(row['altLabels_es'])])
        found[row['conceptUri']] = Concept('title', english, spanish, unique([row['description_en']]))
    for row in table(data / 'esco-1.2-es-occupations/occupations_es.csv.gz'):
        concept = found.setdefault(row['conceptUri'], Concept('title'))
        concept.es = unique([*concept.es, *genders(row['preferredLabel']), *row['altLabels'].split('\n')])
        concept.about = unique([*concept.about, row['description']])
    return {uri: concept for uri, concept in found.items() if not left_out(uri)}


def groups(data):
    """Groups of ISCO and of ESCO's skills in both languages."""
    found = {}
    sources = [('title', 'esco-1.1.1-en/ISCOGroups_en.csv.gz', 'en'),
               ('title', 'esco-1.2-es-occupations/ISCOGroups_es.csv.gz', 'es'),
               ('skill', 'esco-1.2.0-en-partial/skillGroups_en.csv.gz', 'en'),
               ('skill', 'esco-1.2-es-occupations/skillGroups_es.csv.gz', 'es')]
    for domain, path, language in sources:
        for row in table(data / path):
            concept = found.setdefault(row['conceptUri'], Concept(domain))
            getattr(concept, language).extend(unique([row['preferredLabel'], *(row['altLabels'] or '').split('\n')]))
            concept.about.extend(unique([row['description']]))
    return {uri: concept for uri, concept in found.items() if not left_out(uri)}


def cuoc(data):
    """Occupations of CUOC: names, titles that are not left out, descriptions and functions."""
    found = {}
    for row in lines(data / 'cuoc-2025-co/occupations.tsv.gz')[1:]:
        found[row[0]] = Concept('cuoc', [], [row[1]], unique([row[11]]))
    for row in lines(data / 'cuoc-2025-co/titles_dev.tsv.gz')[1:]:
        if not left_out(row[2]):
            found[row[0]].es = unique([*found[row[0]].es, row[2]])
    for row in lines(data / 'cuoc-2025-co/functions.tsv.gz')[1:]:
        found[row[0]].about.append(row[2])
    return {'cuoc:' + code: concept for code, concept in found.items()}


def withheld(data):
    """Normalised texts that are asked for in the figures: titles and preferred labels of skills that are left out."""
    titles = [row[2] for row in lines(data / 'cuoc-2025-co/titles_dev.tsv.gz')[1:] if left_out(row[2])]
    labels = [row[column] for row in table(data / 'esco-merged/skills_en_es.csv.gz') if left_out(row['conceptUri'])
              for column in ('preferredLabel_en', 'preferredLabel_es')]
    return {normalised(text) for text in (*titles, *labels)}


def concepts(data):
    """All concepts by name, without the names that other concepts share with what is left out."""
    found = {**skills(data), **occupations(data), **groups(data), **cuoc(data)}
    kept_out = withheld(data)
    for concept in found.values():
        concept.en = [text for text in concept.en if normalised(text) not in kept_out]
        concept.es = [text for text in concept.es if normalised(text) not in kept_out]
    return {name: concept for name, concept in found.items() if len(concept.en) + len(concept.es) + len(concept.about) > 1}


def known(found):
    """Concepts by the normalised texts that name them."""
    texts = {}
    for name, concept in found.items():
        for text in (*concept.en, *concept.es):
            texts.setdefault(normalised(text), set()).add(name)
    return texts


def fragments(ad):
    """Each marked skill of an advertisement with the line around it, and its normal form."""
    text = ad['description']
    for span in ad['spans']:
        start = max(text.rfind(sign, 0, span['start']) for sign in '\n') + 1
        end = text.find('\n', span['end'])
        line = text[start:len(text) if end < 0 else end].strip(' -•*·')
        # Glued advertisements are one line: then the words around the mark.
        if len(line) > 240:
            line = text[max(0, span['start'] - 90):span['end'] + 90]
            line = line.partition(' ')[2].rpartition(' ')[0]
        yield line, text[span['start']:span['end']], span['norm']


def written(ads, names):
    """Sentences of the written advertisements, their test part left out: (sentence, texts, concepts)."""
    found = []
    with gzip.open(ads, 'rt', encoding='utf-8') as file:
        for ad in map(json.loads, file):
            if hashlib.sha256(ad['id'].encode()).digest()[0] >= 46:
                lines_of = {}
                for line, surface, norm in fragments(ad):
                    entry = lines_of.setdefault(line, [[], set()])
                    entry[0].append(norm)
                    entry[1].update(names.get(normalised(norm), ()), names.get(normalised(surface), ()))
                found += [(line, unique(texts), frozenset(uris)) for line, (texts, uris) in lines_of.items()]
    return found


def skillskape(data, names):
    """Synthetic English sentences with labels of ESCO."""
    found = []
    for row in table(data / 'gold-skillskape-synthetic/train.csv.gz'):
        labels = [label for label in ast.literal_eval(row['skills']) if normalised(label) in names]
        uris = frozenset().union(*(names[normalised(label)] for label in labels))
        if labels:
            found.append((row['sentence'], labels, uris))
    return found


def skillspan(data, names):
    """Sentences of SkillSpan's training part with the spans in them, without any sentence of the development sets."""
    judged = set()
    for name in ('tech', 'house'):
        with open(data / f'gold-decorte-esco/{name}_validation.csv', encoding='utf-8', newline='') as file:
            judged.update(normalised(row['sentence']) for row in csv.DictReader(file))
    found = []
    with gzip.open(data / 'gold-skillspan/train.jsonl.gz', 'rt', encoding='utf-8') as file:
        for row in map(json.loads, file):
            sentence = ' '.join(row['tokens'])
            spans = [' '.join(words) for tags in (row['tags_skill'], row['tags_knowledge']) for words in tagged(row['tokens'], tags)]
            if spans and normalised(sentence) not in judged:
                uris = frozenset().union(*(names.get(normalised(span), set()) for span in spans))
                found.append((sentence, unique(spans), uris))
    return found


def tagged(tokens, tags):
    """The words of each span of a row of BIO tags."""
    spans = []
    for token, tag in zip(tokens, tags):
        if tag == 'B':
            spans.append([token])
        elif tag == 'I' and spans:
            spans[-1].append(token)
    return spans


def sentences(data, ads, names, allowed):
    """All sentences: (sentence, texts of skills in it, concepts among the allowed)."""
    found = [*written(ads, names), *skillskape(data, names), *skillspan(data, names)]
    return [(sentence, texts, uris & allowed) for sentence, texts, uris in found if len(sentence) > 3]


PLURAL = re.compile(r'^(\w+)(.*)$', re.S)


def plural(title):
    """A Spanish title with its first word in the plural, as classifications write it."""
    word, rest = PLURAL.match(title).groups() if PLURAL.match(title) else (title, '')
    if word[-1:] in 'aeoé':
        return word + 's' + rest
    if word[-1:] == 'z':
        return word[:-1] + 'ces' + rest
    return word + 'es' + rest if word[-1:] in 'rnld' else title
