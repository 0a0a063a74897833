"""The code blocks of the originals' READMEs, and the one change that they are run with.

`blocks/*.txt` holds them word for word. `ported` replaces lines that import, and nothing else: it
refuses to touch any other line. Mojo becomes Python by three words.
"""

import re
from pathlib import Path
from typing import Any

BLOCKS = Path(__file__).parent / "blocks"
_BLOCK = re.compile(r"^## (.+?)\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_IMPORT = re.compile(r"\s*(import|from) ")
MOJO = {"fn main() raises:": "def main():", "var a =": "a =", "var b =": "b =", "var c =": "c ="}
MOJO |= {"var d =": "d ="}


def blocks(original: str) -> dict[str, str]:
    """The blocks of a README by title."""
    return dict(_BLOCK.findall((BLOCKS / f"{original}.txt").read_text()))


ALL = {f"{file.stem}: {title}" for file in BLOCKS.glob("*.txt") for title in blocks(file.stem)}


def ported(original: str, title: str, imports: dict[str, str]) -> str:
    """A block with its import lines changed; `imports` names each line that is."""
    lines = blocks(original)[title].splitlines()
    for old, new in imports.items():
        assert _IMPORT.match(old), f"{old!r} imports nothing"
        assert all(_IMPORT.match(line) for line in new.splitlines()), f"{new!r} is no import"
        lines[lines.index(old)] = new
    return "\n".join(lines) + "\n"


def from_mojo(text: str) -> str:
    """The same program in Python."""
    for mojo, python in MOJO.items():
        assert mojo in text
        text = text.replace(mojo, python)
    return text


def run(text: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a block; returns its names."""
    names = {} if names is None else names
    exec(compile(text, "README", "exec"), names)
    return names
