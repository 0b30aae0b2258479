#!/usr/bin/env python3
"""Writes example.json: an invented report document for tests and for authors of templates.

Every figure and sentence in it is made up here. Run without arguments; the output never differs.
"""

import json
import math
import pathlib
import random
import re

SKILLS = [
    ("Microsoft Excel", "hard", "tool"), ("Trabajo en equipo", "soft", "soft"), ("Inglés", "hard", "language"),
    ("Atención al cliente", "soft", "soft"), ("SQL", "hard", "technology"), ("Comunicación efectiva", "soft", "soft"),
    ("Python", "hard", "technology"), ("Gestión de proyectos", "hard", "method"), ("JavaScript", "hard", "technology"),
    ("Liderazgo", "soft", "soft"), ("Contabilidad general", "hard", "knowledge"), ("Java", "hard", "technology"),
    ("Power BI", "hard", "tool"), ("Metodologías ágiles", "hard", "method"), ("SAP", "hard", "tool"),
    ("Git", "hard", "tool"), ("Resolución de problemas", "soft", "soft"), ("AWS", "hard", "technology"),
    ("Negociación con proveedores", "hard", "knowledge"), ("React", "hard", "technology"),
    ("Licencia de conducir", "hard", "license"), ("Docker", "hard", "technology"), ("C#", "hard", "technology"),
    ("Análisis de datos", "hard", "knowledge"), ("Facturación electrónica", "hard", "knowledge"),
    ("Redacción de informes técnicos", "hard", "knowledge"), ("Linux", "hard", "technology"),
    ("Node.js", "hard", "technology"), ("Scrum", "hard", "method"), ("Portugués", "hard", "language"),
    ("Control de inventarios y logística de distribución internacional", "hard", "knowledge"),
    ("Angular", "hard", "technology"), ("Seguridad y salud en el trabajo", "hard", "knowledge"),
    ("Marketing digital", "hard", "knowledge"), ("Kubernetes", "hard", "technology"), (".NET", "hard", "technology"),
    ("AutoCAD", "hard", "tool"), ("Empatía", "soft", "soft"), ("PostgreSQL", "hard", "technology"),
    ("Nómina y prestaciones sociales", "hard", "knowledge"), ("C++", "hard", "technology"),
    ("Certificación ITIL", "hard", "certification"), ("Adaptabilidad", "soft", "soft"),
    ("Pensamiento crítico", "soft", "soft"), ("PHP", "hard", "technology"), ("Tableau", "hard", "tool"),
    ("Ventas consultivas", "hard", "knowledge"), ("Jira", "hard", "tool"), ("Azure", "hard", "technology"),
    ("Soldadura MIG", "hard", "knowledge"),
]
CLUSTERS = [
    ("Desarrollo web", ["JavaScript", "React", "Node.js", "Angular"]),
    ("Bases de datos y análisis", ["SQL", "Power BI", "Análisis de datos", "PostgreSQL"]),
    ("Nube y contenedores", ["AWS", "Docker", "Kubernetes", "Azure"]),
    ("Contabilidad, facturación y obligaciones tributarias", ["Contabilidad general", "SAP"]),
    ("Trato con clientes", ["Atención al cliente", "Comunicación efectiva", "Empatía"]),
    ("Gestión ágil de proyectos", ["Gestión de proyectos", "Metodologías ágiles", "Scrum", "Jira"]),
    ("Lenguajes compilados", ["Java", "C#", ".NET", "C++"]),
    ("Idiomas", ["Inglés", "Portugués"]),
    ("Logística y compras", ["Negociación con proveedores"]),
    ("Trabajo con otros", ["Trabajo en equipo", "Liderazgo"]),
    ("Oficios técnicos", ["Soldadura MIG", "AutoCAD"]),
]
# Labels with an invented unit group and code.
OCCUPATIONS = [
    ("asesor comercial/asesora comercial", "9901", "99011"),
    ("auxiliar administrativo/auxiliar administrativa", "9902", "99021"),
    ("desarrollador de software/desarrolladora de software", "9903", None),
    ("contador/contadora", "9904", "99041"), ("Operarios de bodega", None, "99059"),
    ("cocinero/cocinera", "9906", "99061"), ("conductor de camión/conductora de camión", "9907", "99071"),
    ("enfermero/enfermera", "9908", "99081"), ("soldador/soldadora", "0909", "09091"),
    ("técnico de mantenimiento de equipos de refrigeración y aire acondicionado", "9910", None),
]
COUNTRIES = [("CO", 1180), ("MX", 902), ("AR", 655)]
POSTINGS = 2611
EVIDENCE = [
    ("Microsoft Excel", "description", "Indispensable manejo de ", "Excel avanzado", ", tablas dinámicas y macros."),
    ("Microsoft Excel", "requirements", "Conocimientos: ", "Microsoft Excel", " intermedio y correo electrónico."),
    ("Trabajo en equipo", "description", "Buscamos personas con ", "capacidad de trabajar en equipo", " y ganas de aprender."),
    ("Inglés", "requirements", "", "Inglés B2", " o superior (se evaluará en la entrevista)."),
    ("SQL", "requirements", "Escribir consultas ", "SQL", " sobre bases de datos con más de 10 millones de filas."),
    ("Python", "title", "Desarrollador/a ", "Python", " — remoto"),
    ("C#", "requirements", "Tres años con ", "C#", " y .NET; salario en US$ y comisiones del 5 % #urgente."),
]


def skills(rng):
    rows = []
    for i, (label, kind, category) in enumerate(SKILLS):
        count = round(940 / (1 + i) ** 0.72)
        implicit = round(count * rng.uniform(0, 0.3)) if kind == "soft" or rng.random() < 0.3 else 0
        weights = [c * rng.uniform(0.6, 1.4) for _, c in COUNTRIES]
        parts = [round(count * w / sum(weights)) for w in weights]
        countries = [{"country": c, "job_count": n} for (c, _), n in zip(COUNTRIES, parts) if n > 0]
        cluster = next((n for n, (_, top) in enumerate(CLUSTERS) if label in top), None)
        uri = None if rng.random() < 0.25 else f"https://taxonomy.example/skill/{i + 1:04d}"
        rows.append({
            "label": label, "kind": kind, "category": category, "uri": uri,
            "preferred_label": label.lower() if uri else None, "job_count": count - implicit,
            "implicit_count": implicit,
            "countries": sorted(countries, key=lambda c: -c["job_count"]), "cluster": cluster,
        })
    return sorted(rows, key=lambda r: -r["job_count"])


def categories(rows):
    names = {r["category"] for r in rows}
    out = []
    for name in names:
        counts = [r["job_count"] for r in rows if r["category"] == name]
        out.append({"category": name, "skills": len(counts), "job_count": min(POSTINGS, round(sum(counts) * 0.62))})
    return sorted(out, key=lambda c: (-c["job_count"], c["category"]))


def occupations():
    rows = []
    for i, (label, isco, cuoc) in enumerate(OCCUPATIONS):
        title = label.split("/")[0].capitalize()
        rows.append({
            "label": label, "uri": f"https://taxonomy.example/occupation/{i + 1:04d}" if isco else None,
            "isco": isco, "cuoc": cuoc, "job_count": round(430 / (1 + i) ** 0.8),
            "titles": [{
                "job_id": f"00000000-0000-7000-8000-{i + 101:012d}", "portal": "portal-uno", "country": "CO",
                "url": f"https://portal.example/oferta/{i + 101}", "published": "2026-10-20", "field": "title",
                "span": {"start": 0, "end": len(title)}, "before": "", "surface": title, "after": "",
                "method": ["rule"], "confidence": 0.9}] if i < 3 else [],
        })
    return {"rows": rows, "without": POSTINGS - sum(r["job_count"] for r in rows)}


def clusters(rng, rows):
    known = {r["label"]: r["job_count"] for r in rows}
    listed, points = [], []
    for n, (label, top) in enumerate(CLUSTERS):
        size = max(len(top), 30 - 2 * n)
        angle = n * 2.4
        center = (9 * math.sqrt(n + 0.5) * math.cos(angle) / 3, 9 * math.sqrt(n + 0.5) * math.sin(angle) / 3)
        for i in range(size):
            name = top[i] if i < len(top) else f"habilidad {n + 1}.{i + 1}"
            x, y = (round(rng.gauss(c, 0.75), 4) for c in center)
            points.append({"label": name, "x": x, "y": y, "cluster": n, "job_count": known.get(name, rng.randint(1, 40))})
        listed.append({
            "cluster_id": n, "label": label, "size": size, "job_count": sum(known.get(t, 0) for t in top),
            "top_skills": top, "cohesion": round(rng.uniform(0.55, 0.93), 4),
        })
    noise = 41
    for i in range(noise):
        x, y = round(rng.uniform(-11, 11), 4), round(rng.uniform(-11, 11), 4)
        points.append({"label": f"habilidad suelta {i + 1}", "x": x, "y": y, "cluster": None, "job_count": rng.randint(1, 9)})
    return {
        "embedding_model": "example/encoder-small",
        "parameters": [{"name": n, "value": v} for n, v in [
            ("umap.n_neighbors", "15"), ("umap.min_dist", "0.1"), ("umap.seed", "42"),
            ("hdbscan.min_cluster_size", "5"), ("hdbscan.min_samples", "3"), ("hdbscan.metric", "euclidean")]],
        "analysed": 402,
        "metrics": {"points": len(points), "noise": noise, "silhouette": 0.4127, "davies_bouldin": 0.7391},
        "clusters": listed, "points": points,
    }


def evidence(rng):
    out = {}
    for n, (label, field, before, surface, after) in enumerate(EVIDENCE):
        start = 40 * n + len(before)
        out.setdefault(label, []).append({
            "job_id": f"00000000-0000-7000-8000-{n + 1:012d}", "portal": ["portal-uno", "portal-dos"][n % 2],
            "country": COUNTRIES[n % 3][0], "url": f"https://portal.example/oferta/{n + 1}",
            "published": f"2026-10-{n + 10}", "field": field, "span": {"start": start, "end": start + len(surface)},
            "before": before, "surface": surface, "after": after, "method": ["lexicon"] if n % 2 else ["lexicon", "taxonomy"],
            "confidence": round(rng.uniform(0.8, 1), 2),
        })
    out["Liderazgo"] = [{
        "job_id": "00000000-0000-7000-8000-000000000099", "portal": "portal-uno", "country": "MX", "url": None,
        "published": None, "field": "description", "span": None, "before": "Tendrá ", "surface": "seis personas a cargo",
        "after": " en dos turnos.", "method": ["rule"], "confidence": 0.7}]
    return [{"label": label, "quotes": quotes} for label, quotes in out.items()]


def document():
    rng = random.Random(42)
    rows = skills(rng)
    section = clusters(rng, rows)
    return {
        "version": 2, "language": "es", "title": None, "generated_at": "2026-11-02T15:04:05Z",
        "publication": {"author": None, "contact": None, "licence": None},
        "scope": {
            "postings": POSTINGS, "sightings": 3127,
            "countries": [{"code": c, "name": None, "postings": n} for c, n in COUNTRIES],
            "portals": [{"portal": "portal-uno", "country": "CO", "sightings": 1804},
                        {"portal": "portal-dos", "country": None, "sightings": 1323}],
            "published": {"from": "2026-09-01", "to": "2026-10-31"},
            "collected": {"from": "2026-10-30", "to": "2026-11-01"},
            "filters": [{"kind": "since", "seconds": 5184000, "from": "2026-09-03T14:31:00Z"}],
        },
        "run": {
            "run_id": "00000000-0000-7000-8000-00000000002a", "started_at": "2026-11-02T14:31:00Z",
            "finished_at": "2026-11-02T15:04:00Z", "partial": True,
            "stages": [
                {"stage": "scrape", "state": "succeeded", "succeeded": 3127, "failed": 4, "skipped": 0, "duration_ms": 912_400},
                {"stage": "extract", "state": "succeeded", "succeeded": 2611, "failed": 0, "skipped": 0, "duration_ms": 41_870},
                {"stage": "enhance", "state": "partial", "succeeded": 2497, "failed": 114, "skipped": 0, "duration_ms": 65_000},
                {"stage": "embed", "state": "succeeded", "succeeded": 271, "failed": 0, "skipped": 1840, "duration_ms": 18_020},
                {"stage": "analyze", "state": "succeeded", "succeeded": 1, "failed": 0, "skipped": 0, "duration_ms": 740},
            ],
        },
        "models": [
            {"role": "embedding", "name": "example/encoder-small", "revision": "3f2a9c0d11e84b7796aa", "dimension": 384, "device": "cpu"},
            {"role": "enhancer", "name": "rules-and-taxonomy", "revision": None, "dimension": None, "device": None},
        ],
        "notices": [
            {"kind": "invented_postings"},
            {"kind": "illustrative_clusters", "model": "example/encoder-small"},
            {"kind": "partial_run", "stage": "enhance", "reason": "enhance: no progress within 120 s (12 times)"},
        ],
        "totals": {"skills": 1311, "skills_with_uri": 774, "postings_with_skills": 2540, "postings_with_digital": 1432, "explicit_mentions": 19_342,
                   "implicit_mentions": 2_118, "mentions_with_uri": 15_020},
        "skills": rows, "categories": categories(rows), "occupations": occupations(), "clusters": section, "evidence": evidence(rng),
        "quality": {
            "duplicates_folded": 516,
            # Of a report over a part of the store, as its filter makes it.
            "refused": None, "personal_data_removed": None,
            "undated": 37, "without_skills": 71, "quarantined": 2,
        },
        "methods": {
            "code_version": "0.1.0", "lexicon_version": "2026.10",
            "taxonomy": {"name": "example", "version": "1.0", "languages": ["es", "en"], "concepts": 1200},
            "parameters": [{"name": "extract.min_confidence", "value": "0.5"}],
        },
    }


if __name__ == "__main__":
    target = pathlib.Path(__file__).with_name("example.json")
    text = json.dumps(document(), ensure_ascii=False, indent=1)
    # One line for each innermost object.
    text = re.sub(r"\{[^{}\[\]]*\}", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text)
    target.write_text(text + "\n", encoding="utf-8")
