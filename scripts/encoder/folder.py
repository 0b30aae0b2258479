"""Builds the folder that is served from the packaged encoder, the differences and the kept pieces.

It must have the bytes that `client-cli/src/models/packaged/tuned.rs` writes: the arithmetic is f32 in the same order.
"""
import json
import struct

import numpy
from safetensors.numpy import load_file

import vocabulary

WORDS = 'embeddings.word_embeddings.weight'


def scaled(tensors, name):
    """Integers times the factors of their rows."""
    return tensors[name].astype(numpy.float32) * tensors[name + '_scale'].astype(numpy.float32)


def quantized(weights):
    """Rows as integers of 8 bits, halves away from zero, and their factors."""
    largest = numpy.abs(weights).max(1, keepdims=True)
    factors = (largest / numpy.float32(127)).astype(numpy.float16)
    with numpy.errstate(divide='ignore'):
        inverse = numpy.where(largest == 0, numpy.float32(0), numpy.float32(1) / factors.astype(numpy.float32))
    values = weights * inverse.astype(numpy.float32)
    whole = numpy.trunc(values)
    nearest = whole + numpy.where(numpy.abs(values - whole) >= .5, numpy.sign(values), 0)
    return numpy.clip(nearest, -127, 127).astype(numpy.int8), factors


def tensors(base, learned, kept):
    """Names and arrays of the weights, in the order of the file."""
    packaged = load_file(base / 'model.safetensors')
    with open(base / 'model.safetensors', 'rb') as file:
        size, = struct.unpack('<Q', file.read(8))
        names = list(json.loads(file.read(size)))
    for name in names:
        if name == WORDS:
            weights = packaged[name][kept].astype(numpy.float32)
        elif name + '.low' in learned:
            weights = packaged[name].astype(numpy.float32)
            low, high = scaled(learned, name + '.low'), scaled(learned, name + '.high')
            for row in range(len(low)):
                weights += high[:, row:row + 1] * low[row]
        else:
            yield name, learned.get(name, packaged[name])
            continue
        integers, factors = quantized(weights)
        yield name, integers
        yield name + '_scale', factors


def write(base, differences, kept, folder):
    """Writes configuration, tokenizer and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((base / 'config.json').read_text(encoding='utf-8'))
    compact = {'ensure_ascii': False, 'separators': (',', ':')}
    (folder / 'config.json').write_text(json.dumps({**config, 'vocab_size': len(kept)}, **compact) + '\n', encoding='utf-8')
    description = json.loads(vocabulary.cut(base, kept))
    (folder / 'tokenizer.json').write_text(json.dumps(description, **compact) + '\n', encoding='utf-8')
    header, contents, end = {}, [], 0
    for name, array in tensors(base, load_file(differences), kept):
        start, end = end, end + array.nbytes
        kind = 'I8' if array.dtype == numpy.int8 else 'F16'
        header[name] = {'dtype': kind, 'shape': list(array.shape), 'data_offsets': [start, end]}
        contents.append(array.tobytes())
    header = json.dumps(header, separators=(',', ':')).encode()
    header += b' ' * (-len(header) % 8)
    (folder / 'model.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + b''.join(contents))
