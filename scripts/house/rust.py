"""Reads one Rust file: tokens, comments, functions, items and what is test code. A lexer and a few patterns over its
tokens, no parser: what macros make is not seen, what stands in them is read like any code.
"""

import re
from bisect import bisect_right

TOKEN = re.compile(r"""
    (?P<comment>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>[bc]?r(?P<marks>\#*)"[\s\S]*?"(?P=marks))
  | (?P<string>[bc]?"(?:[^"\\]|\\[\s\S])*")
  | (?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|[\s\S])|[^\\'\n])')
  | (?P<life>'[A-Za-z_]\w*)
  | (?P<ident>(?:r\#)?[A-Za-z_]\w*)
  | (?P<number>\d\w*(?:\.\d\w*)?)
  | (?P<punct>::|->|=>|[^\s\w])
""", re.X)
BLOCK_EDGE = re.compile(r"/\*|\*/")
OPEN, CLOSE = "([{", ")]}"
ITEMS = {"fn", "struct", "enum", "union", "trait", "const", "type", "static", "mod"}
COMBINATORS = {
    "all", "any", "chain", "enumerate", "filter", "filter_map", "find", "find_map", "flat_map", "flatten", "fold",
    "for_each", "inspect", "map", "map_while", "partition", "position", "rev", "scan", "skip_while", "take_while",
    "try_fold", "try_for_each", "unzip", "zip",
}


class Comment:
    """A comment; `doc` is "outer" for `///`, "inner" for `//!`, else empty."""

    def __init__(self, text, first, last):
        self.text, self.first, self.last = text, first, last
        self.doc = ""
        if text.startswith(("//!", "/*!")):
            self.doc = "inner"
        elif (text.startswith("///") and not text.startswith("////")) or (
                text.startswith("/**") and not text.startswith(("/***", "/**/"))):
            self.doc = "outer"

    def words(self):
        return re.sub(r"^\s*(?://[/!]?|/\*[*!]?|\*/|\*(?!/))|\*/$", "", self.text, flags=re.M).strip()


class Function:
    def __init__(self, name, line, body, parameters, is_test):
        self.name, self.line, self.body = name, line, body
        self.parameters, self.is_test = parameters, is_test


class Item:
    """A bare `pub` item."""

    def __init__(self, kind, name, line, modules, documented):
        self.kind, self.name, self.line = kind, name, line
        self.modules, self.documented = modules, documented


class Module:
    """A declaration `mod name;` or `mod name {…}`; `modules` are the inline modules around it."""

    def __init__(self, name, modules, is_pub, inline, is_test, path):
        self.name, self.modules, self.is_pub = name, modules, is_pub
        self.inline, self.is_test, self.path = inline, is_test, path


class Source:
    """One file, read once. Positions are indices into `texts`, which holds no comments."""

    def __init__(self, text):
        self.text = text
        self.line_count = text.count("\n") + (not text.endswith("\n") and text != "")
        self.kinds, self.texts, self.lines, self.comments = [], [], [], []
        self._lex()
        self.partner = self._brackets()
        self.attributes = self._attributes()
        self.tests = self._test_regions()
        self.inline_modules, self.modules = self._modules()

    def _lex(self):
        text, at = self.text, 0
        starts = [0] + [match.end() for match in re.finditer("\n", text)]
        line_of = lambda place: bisect_right(starts, place)
        while at is not None:
            at, begun = None, at
            for match in TOKEN.finditer(text, begun):
                kind, start = match.lastgroup, match.start()
                if kind == "marks":
                    kind = "raw"
                if kind == "comment":
                    line = line_of(start)
                    self.comments.append(Comment(match.group(), line, line))
                elif kind == "block":
                    at = self._block_end(match.end())
                    self.comments.append(Comment(text[start:at], line_of(start), line_of(at - 1)))
                    break
                else:
                    self.kinds.append("string" if kind == "raw" else kind)
                    self.texts.append(match.group())
                    self.lines.append(line_of(start))

    def _block_end(self, at):
        depth = 1
        for edge in BLOCK_EDGE.finditer(self.text, at):
            depth += 1 if edge.group() == "/*" else -1
            if depth == 0:
                return edge.end()
        return len(self.text)

    def _brackets(self):
        partner, stack = {}, []
        for at, (kind, text) in enumerate(zip(self.kinds, self.texts)):
            if kind == "punct" and text in OPEN:
                stack.append(at)
            elif kind == "punct" and text in CLOSE and stack:
                begun = stack.pop()
                partner[begun], partner[at] = at, begun
        return partner

    def at(self, place):
        return self.texts[place] if 0 <= place < len(self.texts) else ""

    def _attributes(self):
        """Of each attribute the place of its `#` and of its last bracket."""
        found = []
        for at, text in enumerate(self.texts):
            if text == "#" and self.at(at + 1) == "[":
                found.append((at, self.partner.get(at + 1, at + 1)))
        return found

    def _item_end(self, at):
        """The end of the item that begins there: its brace, or its semicolon."""
        while at < len(self.texts):
            if self.texts[at] == ";":
                return at
            if self.texts[at] in OPEN and self.kinds[at] == "punct":
                end = self.partner.get(at, len(self.texts) - 1)
                if self.texts[at] == "{":
                    return end
                at = end
            at += 1
        return len(self.texts) - 1

    def _test_regions(self):
        """Lines of items under `#[cfg(test)]`, first and last."""
        regions, covered = [], -1
        for begun, end in self.attributes:
            words = self.texts[begun:end]
            if begun <= covered or self.at(begun + 2) != "cfg" or "test" not in words or "not" in words:
                continue
            covered = self._item_end(end + 1)
            regions.append((self.lines[begun], self.lines[covered]))
        return regions

    def in_test(self, line):
        return any(first <= line <= last for first, last in self.tests)

    def _modules(self):
        """The inline modules as (first, last, name), and all declarations."""
        inline, declared = [], []
        for at, text in enumerate(self.texts):
            if text != "mod" or self.kinds[at + 1:at + 2] != ["ident"] or self.at(at + 2) not in ("{", ";"):
                continue
            first = self._item_start(at)
            words = self.texts[first:at]
            path = None
            if "path" in words:
                path = next((text for text in words if text.startswith('"')), '""').strip('"')
            opens = self.at(at + 2) == "{"
            around = tuple(name for begun, end, name in inline if begun < at < end)
            is_pub = "pub" in words and self.at(words.index("pub") + first + 1) != "("
            name = self.texts[at + 1]
            declared.append(Module(name, around, is_pub, opens, self.in_test(self.lines[at]), path))
            if opens:
                inline.append((at, self.partner.get(at + 2, len(self.texts)), name))
        return inline, declared

    def modules_around(self, at):
        return tuple(name for begun, end, name in self.inline_modules if begun < at < end)

    def _item_start(self, at):
        """The first token of an item, attributes and visibility included, whose keyword stands there."""
        while at > 0:
            before = self.texts[at - 1]
            if before in ("pub", "unsafe", "async", "extern", "const", "default") or self.kinds[at - 1] == "string":
                at -= 1
            elif before == ")" and self.at(self.partner.get(at - 1, 0) - 1) == "pub":
                at = self.partner[at - 1] - 1
            elif before == "]" and self.at(self.partner.get(at - 1, 0) - 1) == "#":
                at = self.partner[at - 1] - 1
            else:
                return at
        return at

    def functions(self):
        for at, text in enumerate(self.texts):
            if text != "fn" or self.kinds[at] != "ident" or self.kinds[at + 1:at + 2] != ["ident"]:
                continue
            opens = at + 2
            depth = 0
            while opens < len(self.texts) and (depth or self.texts[opens] != "("):
                depth += {"<": 1, ">": -1}.get(self.texts[opens], 0)
                opens += 1
            closes = self.partner.get(opens)
            if closes is None:
                continue
            end = self._item_end(closes + 1)
            body = None
            if self.at(end) == "}":
                first, last = self.lines[self.partner[end]], self.lines[end]
                body = max(1, last - first - 1)
            yield Function(self.texts[at + 1], self.lines[at], body, self._parameters(opens, closes),
                           self._is_test(at))

    def _parameters(self, opens, closes):
        count, depth, pending, at = 0, 0, False, opens + 1
        while at < closes:
            text = self.texts[at]
            if text in OPEN:
                at = self.partner.get(at, at)
            depth += {"<": 1, ">": -1}.get(text, 0)
            if text == "," and depth == 0:
                count, pending = count + pending, False
            else:
                pending = True
            at += 1
        return count + pending

    def _is_test(self, at):
        start = self._item_start(at)
        for begun, end in self.attributes:
            if start <= begun < at:
                name = [text for text in self.texts[begun + 2:end]]
                name = name[:name.index("(")] if "(" in name else name
                if name[-1:] == ["test"]:
                    return True
        return False

    def public_items(self):
        """Bare `pub` items outside of tests."""
        outer = {line for comment in self.comments if comment.doc == "outer"
                 for line in range(comment.first, comment.last + 1)}
        plain = {comment.first for comment in self.comments if not comment.doc}
        for at, text in enumerate(self.texts):
            if text != "pub" or self.kinds[at] != "ident" or self.at(at + 1) == "(" or self.in_test(self.lines[at]):
                continue
            key = at + 1
            while self.at(key) in ("unsafe", "async", "extern") or self.kinds[key] == "string" or (
                    self.at(key) == "const" and self.at(key + 1) in ("fn", "unsafe", "async", "extern")):
                key += 1
            # An item that a macro names is documented where the macro is used.
            if self.at(key) not in ITEMS or self.at(key + 1) == "$":
                continue
            start = self._item_start(at)
            first = self.lines[start]
            above = first - 1
            while above in plain and above not in outer:
                above -= 1
            documented = above in outer or any(line in outer for line in range(first, self.lines[at] + 1))
            documented = documented or "doc" in self.texts[start:at]
            yield Item(self.at(key), self.at(key + 1), self.lines[at], self.modules_around(at), documented)

    def count(self, matches):
        """Places outside of tests where `matches(source, place)` holds."""
        return sum(1 for at in range(len(self.texts)) if matches(self, at) and not self.in_test(self.lines[at]))

    def code_lines(self):
        """Lines outside of tests that hold code, and their tokens joined."""
        joined = {}
        for text, line in zip(self.texts, self.lines):
            joined.setdefault(line, []).append(text)
        return {line: " ".join(texts) for line, texts in joined.items() if not self.in_test(line)}

    def module_doc_lines(self):
        first = self.lines[0] if self.lines else self.line_count + 1
        return sum(c.last - c.first + 1 for c in self.comments if c.doc == "inner" and c.first < first + 1)

    def said(self):
        """What comments and strings say: comments on lines one after the other are one text."""
        texts, last = [], (None, -1)
        for comment in self.comments:
            words = comment.words()
            if last == (comment.doc, comment.first - 1):
                texts[-1] += " " + words
            else:
                texts.append(words)
            last = (comment.doc, comment.last)
        for kind, text in zip(self.kinds, self.texts):
            if kind == "string":
                texts.append(re.sub(r"\\\n\s*", "", text))
        return [re.sub(r"\s+", " ", text.lower()) for text in texts]


def is_closure(source, at):
    """`let x = |…|`, with `mut`, `move` and `async` where they may stand."""
    if source.texts[at] != "let":
        return False
    at += 1 + (source.at(at + 1) == "mut")
    if source.kinds[at:at + 1] != ["ident"] or source.at(at + 1) != "=":
        return False
    at += 2
    while source.at(at) in ("async", "move"):
        at += 1
    return source.at(at) == "|"


def is_combinator(source, at):
    return source.texts[at] in COMBINATORS and source.at(at - 1) == "." and source.at(at + 1) in ("(", "::")


def is_unwrap(source, at):
    return source.texts[at] == "unwrap" and source.at(at - 1) == "." and source.at(at + 1) == "("
