"""The encoder in PyTorch, as a frozen network with low-rank differences.

Weights are those of the converted folder; a difference is B·A on every product of a layer, and free on the
norms. Numbers are bf16 in the products where the processor has them, and f32 in the differences.
"""
import json

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

PRODUCTS = ('attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense',
            'intermediate.dense', 'output.dense')


class Encoder(nn.Module):
    """Mean-pooled, normalised vectors of token ids."""

    def __init__(self, base, kept, rank, dtype=torch.bfloat16):
        super().__init__()
        config = json.loads((base / 'config.json').read_text(encoding='utf-8'))
        weights = read_weights(base)
        self.heads, self.layers = config['num_attention_heads'], config['num_hidden_layers']
        self.epsilon, self.dtype = config['layer_norm_eps'], dtype
        weights['embeddings.word_embeddings.weight'] = weights['embeddings.word_embeddings.weight'][kept]
        self.frozen = weights
        self.free, self.low, self.high = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for name, tensor in weights.items():
            if name.startswith('encoder.') and name.endswith('.weight') and tensor.dim() == 2:
                rows, columns = tensor.shape
                self.low[key(name)] = nn.Parameter(torch.randn(rank, columns) / columns ** .5)
                self.high[key(name)] = nn.Parameter(torch.zeros(rows, rank))
            elif 'LayerNorm' in name:
                self.free[key(name)] = nn.Parameter(tensor.clone())
        positions = weights['embeddings.position_embeddings.weight'] + weights['embeddings.token_type_embeddings.weight'][0]
        self.positions = positions.contiguous()

    def matrix(self, name):
        """A product's weights with their difference."""
        return torch.addmm(self.frozen[name], self.high[key(name)], self.low[key(name)])

    def weights(self):
        """The matrices of all layers in the type of the arithmetic, query, key and value as one."""
        cast = lambda tensor: tensor.to(self.dtype)
        layers = []
        for layer in range(self.layers):
            name = lambda part: f'encoder.layer.{layer}.{part}'
            matrices = [self.matrix(name(product) + '.weight') for product in PRODUCTS]
            biases = [self.frozen[name(product) + '.bias'] for product in PRODUCTS]
            norms = [self.free[key(name(part))] for part in (
                'attention.output.LayerNorm.weight', 'attention.output.LayerNorm.bias',
                'output.LayerNorm.weight', 'output.LayerNorm.bias')]
            layers.append([cast(tensor) for tensor in (
                torch.cat(matrices[:3]), torch.cat(biases[:3]), matrices[3], biases[3], matrices[4], biases[4],
                matrices[5], biases[5], *norms)])
        return layers

    def forward(self, ids, mask, layers):
        """Vectors of a padded batch: ids and mask are [texts, tokens]."""
        count, length = ids.shape
        x = F.embedding(ids, self.frozen['embeddings.word_embeddings.weight']) + self.positions[:length]
        x = F.layer_norm(x, x.shape[-1:], self.free[key('embeddings.LayerNorm.weight')],
                         self.free[key('embeddings.LayerNorm.bias')], self.epsilon).to(self.dtype)
        unseen = torch.zeros(count, 1, 1, length, dtype=self.dtype).masked_fill(~mask[:, None, None, :], -1e4)
        unseen = unseen.expand(count, self.heads, 1, length).reshape(count * self.heads, 1, length)
        for layer in layers:
            x = self.block(x, unseen, *layer)
        x = x.float() * mask[:, :, None]
        return F.normalize(x.sum(1) / mask.sum(1, keepdim=True), dim=-1)

    def block(self, x, unseen, qkv, qkv_bias, out, out_bias, wide, wide_bias, back, back_bias, w1, b1, w2, b2):
        """One layer. The library's fused attention is slow backwards on a CPU: ten times this."""
        count, length, hidden = x.shape
        apart = F.linear(x, qkv, qkv_bias).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = apart.reshape(3, count * self.heads, length, -1)
        scores = torch.baddbmm(unseen, q, k.transpose(1, 2), alpha=q.shape[-1] ** -.5)
        mixed = torch.bmm(torch.softmax(scores, -1), v).view(count, self.heads, length, -1)
        mixed = mixed.transpose(1, 2).reshape(count, length, hidden)
        x = F.layer_norm(x + F.linear(mixed, out, out_bias), (hidden,), w1, b1, self.epsilon)
        inner = F.gelu(F.linear(x, wide, wide_bias))
        return F.layer_norm(x + F.linear(inner, back, back_bias), (hidden,), w2, b2, self.epsilon)


def read_weights(folder):
    """All tensors of a folder as f32; rows of integers are multiplied by their factors."""
    stored = load_file(folder / 'model.safetensors')
    scale = lambda name: stored[name + '_scale'].float() if name + '_scale' in stored else 1.
    return {name: tensor.float() * scale(name) for name, tensor in stored.items() if not name.endswith('_scale')}


def key(name):
    """A tensor's name as a parameter may have it."""
    return name.replace('.', '/')


def padded(encodings, pad):
    """Ids and mask of a batch of encodings, padded to the longest."""
    length = max(len(ids) for ids in encodings)
    ids = torch.full((len(encodings), length), pad, dtype=torch.long)
    mask = torch.zeros((len(encodings), length), dtype=torch.bool)
    for row, found in enumerate(encodings):
        ids[row, :len(found)] = torch.tensor(found)
        mask[row, :len(found)] = True
    return ids, mask


class Embedder:
    """Vectors of texts, in batches of similar length."""

    def __init__(self, network, tokenizer, prefix='query: ', tokens=128):
        self.network, self.tokenizer, self.prefix, self.tokens = network, tokenizer, prefix, tokens
        self.pad = tokenizer.token_to_id('<pad>')

    @torch.no_grad()
    def __call__(self, texts):
        encodings = []
        for start in range(0, len(texts), 8192):
            part = [self.prefix + text for text in texts[start:start + 8192]]
            encodings += [shorten(found.ids, self.tokens) for found in self.tokenizer.encode_batch(part)]
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i]))
        layers = self.network.weights()
        vectors = torch.empty(len(texts), self.network.positions.shape[1])
        start = 0
        while start < len(order):
            # About 8,192 tokens a batch; the texts are in order of length.
            size = max(1, 8192 // len(encodings[order[min(start + 255, len(order) - 1)]]))
            rows = order[start:start + size]
            vectors[rows] = self.network(*padded([encodings[i] for i in rows], self.pad), layers)
            start += size
        return vectors


def shorten(ids, tokens):
    """At most so many tokens, the last one kept."""
    return ids if len(ids) <= tokens else ids[:tokens - 1] + ids[-1:]
