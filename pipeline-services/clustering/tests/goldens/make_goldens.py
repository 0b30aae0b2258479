#!/usr/bin/env python3
"""Makes the JSON fixtures in its folder from the reference implementations.

Run in an environment of its own, Python 3.11:

    pip install numpy==2.4.6 scikit-learn==1.9.1 umap-learn==0.5.12 hdbscan==0.8.44
    python make_goldens.py

Every table is made here from a seed and stored as integers over a power of two, so that the
32-bit numbers of the tests are the very numbers the references saw. Nothing is taken from a
published data set.
"""

import json
import pathlib
import warnings

import hdbscan as pypi_hdbscan
import numpy as np
import umap
from sklearn.cluster import HDBSCAN
from sklearn.manifold import trustworthiness
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from umap.umap_ import find_ab_params

HERE = pathlib.Path(__file__).parent


def quantised(values, scale):
    """Integers, and the numbers they stand for."""
    integers = np.round(values * scale).astype(np.int64)
    return integers, integers / scale


def table(integers, scale):
    return {"scale": scale, "dims": int(integers.shape[1]), "integers": integers.ravel().tolist()}


def write(name, value):
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    print(path.name, path.stat().st_size, "bytes")


def rounded(values, digits=7):
    return [round(float(v), digits) for v in values]


def mixture(rng, rows, dims, topics):
    """Directions of a low-rank topic mixture: what embeddings of skills look like."""
    basis = rng.normal(size=(12, dims))
    centres = rng.normal(size=(topics, 12)) @ basis
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.normal(size=(rows, 12)) @ basis
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = centres[rng.integers(0, topics, rows)] + 0.6 * noise
    return mixed + 0.2 * rng.normal(size=(rows, dims)) / np.sqrt(dims)


def digit_like(rng, rows):
    """6 x 6 pictures in 17 grey levels: ten smooth prototypes, shifted, scaled and blurred."""
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6)), axis=-1)
    strokes = rng.uniform(0, 5, size=(10, 5, 2))
    pictures = []
    for kind in rng.integers(0, 10, rows):
        spots = strokes[kind] + rng.normal(scale=0.35, size=(5, 2)) + rng.normal(scale=0.3, size=2)
        squares = ((grid[None] - spots[:, None, None]) ** 2).sum(-1)
        picture = np.exp(-squares / rng.uniform(0.9, 1.6)).sum(0)
        pictures.append((picture / picture.max() * 16).ravel())
    return np.clip(np.array(pictures) + rng.normal(scale=0.7, size=(rows, 36)), 0, 16)


def roll(rng, rows):
    """A rolled sheet, the classic surface that a straight projection folds onto itself."""
    angle = 1.5 * np.pi * (1 + 2 * rng.random(rows))
    return np.stack([angle * np.cos(angle), 21 * rng.random(rows), angle * np.sin(angle)], axis=1)


def curves():
    pairs = [(1.0, 0.1), (1.0, 0.0), (1.0, 0.5), (1.0, 0.99), (2.0, 0.25)]
    fitted = [(spread, least, *map(float, find_ab_params(spread, least))) for spread, least in pairs]
    write("curves", [dict(zip(("spread", "min_dist", "a", "b"), row)) for row in fitted])


def graphs():
    integers, values = quantised(mixture(np.random.default_rng(11), 100, 8, 6), 256)
    cases = []
    for metric in ("cosine", "euclidean"):
        # The layout would prune the graph in place.
        model = umap.UMAP(n_neighbors=15, metric=metric, random_state=42, transform_mode="graph")
        model.fit(values.astype(np.float32))
        upper = model.graph_.tocoo()
        edges = sorted((int(i), int(j), float(w)) for i, j, w in zip(upper.row, upper.col, upper.data) if i < j)
        cases.append({
            "metric": metric,
            "sigmas": rounded(model._sigmas),
            "rhos": rounded(model._rhos),
            "heads": [e[0] for e in edges],
            "tails": [e[1] for e in edges],
            "weights": rounded([e[2] for e in edges], 6),
        })
    write("graphs", {"points": table(integers, 256), "cases": cases})


def layouts():
    rng = np.random.default_rng(5)
    sets = [
        ("mixture", "cosine", mixture(rng, 300, 24, 12), 64),
        ("digit-like", "euclidean", digit_like(rng, 400), 1),
        ("roll", "euclidean", roll(rng, 400), 64),
    ]
    cases = []
    for name, metric, data, scale in sets:
        integers, values = quantised(data, scale)
        trusts = []
        for seed in (42, 43, 44):
            layout = umap.UMAP(n_neighbors=15, min_dist=0.1, metric=metric, random_state=seed)
            found = layout.fit_transform(values.astype(np.float32))
            trusts.append(float(trustworthiness(values, found, n_neighbors=15, metric=metric)))
        print(name, trusts)
        cases.append({
            "name": name,
            "metric": metric,
            "points": table(integers, scale),
            "trustworthiness_seed_42": trusts[0],
            "trustworthiness_mean_of_3_seeds": float(np.mean(trusts)),
        })
    write("layouts", cases)


def groups(rng, rows):
    """Five groups of several densities in the plane and a tenth of scattered points."""
    centres = rng.uniform(0, 16, size=(5, 2))
    spreads = rng.uniform(0.3, 1.1, size=5)
    which = rng.integers(0, 5, rows)
    points = centres[which] + rng.normal(size=(rows, 2)) * spreads[which, None]
    scattered = rng.random(rows) < 0.1
    points[scattered] = rng.uniform(0, 16, size=(scattered.sum(), 2))
    return points, which


def scores():
    rng = np.random.default_rng(3)
    points, which = groups(rng, 250)
    integers, values = quantised(points, 4096)
    labels = np.where(rng.random(250) < 0.2, -1, which)
    kept = labels >= 0
    other, other_values = quantised(points + rng.normal(scale=2.0, size=points.shape), 4096)
    write("scores", {
        "points": table(integers, 4096),
        "labels": labels.tolist(),
        "silhouette": float(silhouette_score(values[kept], labels[kept])),
        "davies_bouldin": float(davies_bouldin_score(values[kept], labels[kept])),
        "calinski_harabasz": float(calinski_harabasz_score(values[kept], labels[kept])),
        "layout": table(other, 4096),
        "trustworthiness_5_euclidean": float(trustworthiness(values, other_values, n_neighbors=5)),
        "trustworthiness_15_cosine": float(
            trustworthiness(values, other_values, n_neighbors=15, metric="cosine")
        ),
    })


def clusterings():
    # Fine steps, so that no two distances are equal. From min_samples 3 (itself included) on,
    # equal mutual reachability distances cannot be avoided: a core distance is shared by all
    # neighbours within it.
    integers, values = quantised(groups(np.random.default_rng(8), 400)[0], 65536)
    cases = []
    for size, samples in ((5, 1), (5, 3), (12, 8), (25, 2)):
        model = HDBSCAN(min_cluster_size=size, min_samples=samples, copy=True).fit(values)
        cases.append({
            "library": "scikit-learn",
            "min_cluster_size": size,
            "min_samples": samples,
            "counts_itself": True,
            "labels": model.labels_.tolist(),
            "probabilities": rounded(model.probabilities_, 8),
        })
    for size, samples in ((5, 2), (10, 5)):
        model = pypi_hdbscan.HDBSCAN(
            min_cluster_size=size, min_samples=samples, approx_min_span_tree=False, algorithm="generic"
        ).fit(values)
        cases.append({
            "library": "hdbscan",
            "min_cluster_size": size,
            "min_samples": samples,
            "counts_itself": False,
            "labels": model.labels_.tolist(),
            "probabilities": rounded(model.probabilities_, 8),
        })
    for case in cases:
        print(case["library"], case["min_cluster_size"], case["min_samples"], len(set(case["labels"])))
    write("clusterings", {"points": table(integers, 65536), "cases": cases})


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    curves()
    graphs()
    layouts()
    scores()
    clusterings()
