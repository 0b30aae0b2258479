"""The figures of a group of crates."""

import re
from math import ceil

from house import rust
from house.crates import circles

# The list that the test `tidy` goes by, one phrase a line.
PHRASES = "tests/tests/tidy/phrases.txt"
# Equal lines one after the other that count as copied.
BLOCK = 8


def quantile(values, share):
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0


def spread(values, *shares):
    return [quantile(values, share) for share in shares] + [max(values, default=0)]


def shipped_lines(file):
    hidden = {line for first, last in file.source.tests for line in range(first, last + 1)}
    return file.source.line_count - len(hidden)


def comment_lines(file):
    """Lines outside of tests with a plain comment, and with a doc comment."""
    plain, doc = set(), set()
    for comment in file.source.comments:
        if not file.source.in_test(comment.first):
            (doc if comment.doc else plain).update(range(comment.first, comment.last + 1))
    return len(plain), len(doc)


def normal_lines(file):
    """The code lines outside of tests that say something: no imports, no lone brackets."""
    imports = set()
    source = file.source
    for at, text in enumerate(source.texts):
        if text == "use" and source.kinds[at] == "ident":
            end = at
            while end < len(source.texts) and source.texts[end] != ";":
                end += 1
            last = source.lines[min(end, len(source.lines) - 1)]
            imports.update(range(source.lines[at], last + 1))
    return [(line, text) for line, text in sorted(source.code_lines().items())
            if line not in imports and re.search(r"\w", text)]


def copied_lines(files):
    """Lines of blocks that occur in two places, by file; and the pairs of places, for `--copies`."""
    places, lines = {}, {}
    for file in files:
        lines[file.name] = normal_lines(file)
        texts = [text for _, text in lines[file.name]]
        for at in range(len(texts) - BLOCK + 1):
            places.setdefault(tuple(texts[at:at + BLOCK]), []).append((file.name, at))
    copied, pairs = {}, []
    for found in places.values():
        if len(found) < 2:
            continue
        pairs.append([f"{name}:{lines[name][at][0]}" for name, at in found])
        for name, at in found:
            copied.setdefault(name, set()).update(line for line, _ in lines[name][at:at + BLOCK])
    return {name: len(found) for name, found in copied.items()}, sorted(pairs)


def phrases(root):
    """The phrases to look for, in lower case; none in a workspace without the list."""
    path = root / PHRASES
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line.lower() for line in lines if line]


def pattern(words):
    return re.compile(r"(?<!\w)(?:" + "|".join(re.escape(word) for word in words) + r")(?!\w)")


def phrase_counts(files, words):
    if not words:
        return {}
    counts, matcher = {}, pattern(words)
    for file in files:
        for text in file.source.said():
            for match in matcher.finditer(text):
                counts.setdefault(match.group(), {}).setdefault(file.name, 0)
                counts[match.group()][file.name] += 1
    return counts


def embed_walk(root):
    """The files that ARCHITECTURE.md lists under a heading with "Embed request", in order; None where it does not."""
    path = root / "ARCHITECTURE.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    section = re.search(r"^(#+)[^\n]*embed request[^\n]*\n(.*?)(?=^#{1,6} |\Z)", text, re.I | re.M | re.S)
    names = re.findall(r"(?<![\w/.-])[\w/.-]*\w\.rs\b", section.group(2)) if section else []
    return list(dict.fromkeys(names)) or None


def tests(files):
    """Lengths of the bodies of tests."""
    return [f.body for file in files for f in file.source.functions() if f.is_test and f.body]


def measure(crates, copied, words):
    """All figures of a group of crates, by name."""
    files = [file for crate in crates for file in crate.files]
    ship = [file for file in files if not file.is_test]
    sizes = [shipped_lines(file) for file in ship]
    lines, code = sum(sizes), sum(len(file.source.code_lines()) for file in ship)
    functions = [f for file in ship for f in file.source.functions() if not file.source.in_test(f.line) and not f.is_test]
    bodies = [f.body for f in functions if f.body]
    plain, doc = map(sum, zip(*(comment_lines(file) for file in ship))) if ship else (0, 0)
    items = [(crate, file, item) for crate in crates for file in crate.shipped() for item in file.source.public_items()]
    documented = [documented_item(crate, file, item) for crate, file, item in items]
    edges = [(crate, crate.imports()) for crate in crates]
    lengths = tests(files)

    def thousand(matches):
        return round(1000 * sum(file.source.count(matches) for file in ship) / code, 2) if code else 0

    def percent(part, whole, digits=1):
        return round(100 * part / whole, digits) if whole else 0

    return {
        "crates": len(crates),
        "files, shipped": len(ship),
        "files, tests": len(files) - len(ship),
        "lines, shipped": lines,
        "lines of code, shipped": code,
        "lines, tests": sum(file.source.line_count for file in files) - lines,
        "file median / p90 / max": spread(sizes, 0.5, 0.9),
        "files over 500 lines": sum(size > 500 for size in sizes),
        "functions": len(bodies),
        "function median / p90 / p99 / max": spread(bodies, 0.5, 0.9, 0.99),
        "functions over 60 lines": sum(body > 60 for body in bodies),
        "functions over 40 lines": sum(body > 40 for body in bodies),
        "functions with more than 5 parameters": sum(f.parameters > 5 for f in functions),
        "`//` comments, % of lines": percent(plain, lines),
        "doc comments, % of lines": percent(doc, lines),
        "named closures per 1,000": thousand(rust.is_closure),
        "iterator combinators per 1,000": thousand(rust.is_combinator),
        "unwrap per 1,000": thousand(rust.is_unwrap),
        "tests": len(lengths),
        "test median": quantile(lengths, 0.5),
        "public items": len(items),
        "public items reachable": sum(crate.is_reachable(file, item) for crate, file, item in items),
        "public items documented, %": percent(sum(documented), len(items), 2),
        "module docs of one line or none": sum(file.source.module_doc_lines() <= 1 for file in ship),
        "circles of files": sum(len(circles(found)) for _, found in edges),
        "circles of rooms": sum(len(circles(crate.rooms(found))) for crate, found in edges),
        "copied lines": sum(copied.get(file.name, 0) for file in ship),
        "phrases of the list": sum(sum(by.values()) for by in phrase_counts(files, words).values()) if words else "no list",
    }


def documented_item(crate, file, item):
    """A module may have its documentation inside."""
    if item.documented or item.kind != "mod":
        return item.documented
    tree, module = file.module or ("", ())
    inside = crate.trees.get(tree, {}).get(module + item.modules + (item.name,))
    return bool(inside and inside.source.module_doc_lines())
