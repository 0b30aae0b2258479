"""The crates of the workspace, their files, their trees of modules, and who imports whom."""

import re
from pathlib import Path

from house.rust import Source


class File:
    def __init__(self, crate, path, name):
        self.crate, self.path, self.name = crate, path, name
        self.source = Source(path.read_text(encoding="utf-8"))
        inside = path.relative_to(crate.folder).parts
        self.is_test = "tests" in inside[:-1] or inside[-1] == "tests.rs"
        # The module it is: names from the root, and whether each of them is bare `pub`.
        self.module, self.reachable = None, False


class Crate:
    """A package: files of src/, tests/ and build.rs. Examples and benches are not counted."""

    def __init__(self, root, folder):
        self.folder, self.name = root / folder, folder
        paths = [p for part in ("src", "tests") for p in (self.folder / part).rglob("*.rs")]
        if folder == "tests":
            # The crate of tests has its harness in src and another crate next to it.
            paths = [p for p in paths if "mutator" not in p.parts]
        paths += [p for p in [self.folder / "build.rs"] if p.exists()]
        self.files = [File(self, p, p.relative_to(root).as_posix()) for p in sorted(paths)]
        self.by_path = {file.path: file for file in self.files}
        # For each root file (lib.rs, main.rs) the modules below it: names -> file, visibility.
        self.trees = {}
        for root_file in ("lib.rs", "main.rs"):
            path = self.folder / "src" / root_file
            if path in self.by_path:
                self.trees[root_file] = {}
                self._grow(root_file, self.by_path[path], (), root_file == "lib.rs", False)

    def _grow(self, tree, file, module, reachable, is_test):
        if module in self.trees[tree]:
            return
        self.trees[tree][module] = file
        file.module = file.module if file.module is not None else (tree, module)
        file.reachable = file.reachable or reachable
        file.is_test = file.is_test or is_test
        inline = {(): reachable}
        for declared in file.source.modules:
            around = inline.get(declared.modules, False)
            below = module + declared.modules + (declared.name,)
            if declared.inline:
                inline[declared.modules + (declared.name,)] = around and declared.is_pub
                self.trees[tree].setdefault(below, file)
                continue
            target = self._find(file, module, declared)
            if target:
                self._grow(tree, target, below, around and declared.is_pub, is_test or declared.is_test)
        file.inline = inline

    def _find(self, file, module, declared):
        if declared.path:
            return self.by_path.get((file.path.parent / declared.path).resolve())
        folder = file.path.parent
        if file.path.name not in ("lib.rs", "main.rs", "mod.rs"):
            folder = folder / file.path.stem
        folder = folder.joinpath(*declared.modules)
        flat, nested = folder / f"{declared.name}.rs", folder / declared.name / "mod.rs"
        return self.by_path.get(flat) or self.by_path.get(nested)

    def shipped(self):
        return [file for file in self.files if not file.is_test]

    def is_reachable(self, file, item):
        return file.reachable and getattr(file, "inline", {}).get(item.modules, False)

    def imports(self):
        """Edges between shipped files, by names of files."""
        edges = {}
        for file in self.shipped():
            if file.module is None:
                continue
            tree, module = file.module
            targets = set()
            for base, path in paths(file.source, module):
                target = self._resolve(tree, base, path)
                if target is not None and target is not file and not target.is_test:
                    targets.add(target.name)
            edges[file.name] = targets
        return edges

    def _resolve(self, tree, base, path):
        modules, module = self.trees[tree], base
        if base not in modules:
            return None
        for name in path:
            if module + (name,) not in modules:
                break
            module += (name,)
        return modules[module]

    def rooms(self, edges):
        """Edges between top-level modules."""
        room = {f.name: f.module[1][0] for f in self.shipped() if f.module and f.module[1]}
        found = {name: set() for name in room.values()}
        for name, targets in edges.items():
            for target in targets:
                if name in room and target in room and room[name] != room[target]:
                    found[room[name]].add(room[target])
        return found


def paths(source, module):
    """Paths that begin with crate, super or self: the module they start from, and the names after it."""
    for at, text in enumerate(source.texts):
        if text not in ("crate", "super", "self") or source.at(at + 1) != "::" or source.at(at - 1) == "::":
            continue
        if source.in_test(source.lines[at]):
            continue
        base, next_at = module + source.modules_around(at), at + 2
        if text == "crate":
            base = ()
        elif text == "super":
            base = base[:-1]
        while source.at(next_at) == "super" and source.at(next_at + 1) == "::":
            base, next_at = base[:-1], next_at + 2
        yield from ((base, path) for path in tree(source, next_at))


def tree(source, at):
    """The names of a path, or those of each branch of `{…}`, from the place after a `::`."""
    names = []
    while source.kinds[at:at + 1] == ["ident"]:
        names.append(source.texts[at])
        if source.at(at + 1) != "::":
            break
        at += 2
    if source.at(at) != "{":
        yield tuple(names)
        return
    end, inner = source.partner.get(at, at), at + 1
    while inner < end:
        for path in tree(source, inner):
            yield tuple(names) + path
        while inner < end and source.at(inner) != ",":
            inner = source.partner.get(inner, inner) + 1 if source.at(inner) == "{" else inner + 1
        inner += 1


def circles(edges):
    """Strongly connected components of more than one node (Tarjan), each sorted."""
    index, low, stack, found = {}, {}, [], []

    def visit(root):
        work = [(root, iter(sorted(edges.get(root, ()))))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            node, targets = work[-1]
            step = next(targets, None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = stack[stack.index(node):]
                    del stack[stack.index(node):]
                    index.update((name, float("inf")) for name in group)
                    low.update((name, float("inf")) for name in group)
                    if len(group) > 1:
                        found.append(sorted(group))
            elif step not in index:
                index[step] = low[step] = len(index)
                stack.append(step)
                work.append((step, iter(sorted(edges.get(step, ())))))
            else:
                low[node] = min(low[node], index[step])

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(found)


def crates(root):
    """The members that the root manifest names, in its order."""
    manifest = (root / "Cargo.toml").read_text(encoding="utf-8")
    members = re.search(r"^members\s*=\s*\[(.*?)\]", manifest, re.S | re.M)
    names = re.findall(r'"([^"]+)"', members.group(1)) if members else []
    return [Crate(root, name) for name in names if (Path(root) / name / "Cargo.toml").exists()]
