"""The import order of the house: a module imports from its own rank or from ranks below."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RANKS = (
    ("config", "errors", "dtypes", "shapes"),
    ("ops",),
    ("runtime",),
    ("engine",),
    ("nn", "optim", "data", "serialization", "linalg", "amp"),
    ("__init__", "__main__", "distributed", "inspect", "testing", "compat", "cli"),
    ("examples", "benchmarks"),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
TOPS = ("lazygrad", "examples", "benchmarks")
MODULES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))


def rank_of(parts: tuple[str, ...]) -> int:
    """The rank of a dotted path: `lazygrad.ops.sort` -> 1, `lazygrad` itself -> the face."""
    return RANK[(*parts, "__init__")[1] if parts[0] == "lazygrad" else parts[0]]


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and dotted path of each import, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            path = base + tuple(node.module.split(".") if node.module else ())
            # `from lazygrad import ops` imports the module, `from lazygrad.ops import f` a name.
            named = len(path) == 1 and path[0] == "lazygrad"
            yield from ((node.lineno, (*path, a.name) if named else path) for a in node.names)


@pytest.mark.parametrize("file", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_and_stand_at_the_top(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    tree = ast.parse(file.read_text(), str(file))
    for line, path in imports(tree, parts[:-1]):
        known = path[0] in TOPS
        target = (path[0], path[1] if path[1:] and path[1] in RANK else "__init__")
        assert not known or rank_of(target) <= rank_of(parts), f"{file}:{line} imports {path}"
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    for line, path in (found for f in functions for found in imports(f, parts[:-1])):
        third_party = path[0] not in (*sys.stdlib_module_names, "lazygrad", "numpy")
        assert third_party, f"{file}:{line} imports {path} inside a function"
