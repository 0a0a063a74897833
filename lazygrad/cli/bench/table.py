"""A table that is printed line by line as it grows, and written as CSV, markdown and charts."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

Cell = float | int | str | None


@dataclass
class Table:
    """Columns whose titles end in (s) hold seconds, those with "Speedup" factors."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def head(self) -> str:
        """The first two lines in markdown."""
        return _line(self.columns) + "\n" + "|---" * len(self.columns) + "|"

    def add(self, *cells: Cell) -> str:
        """Append a row; returns it in markdown."""
        self.rows.append(cells)
        return self._row(cells)

    def markdown(self) -> str:
        """Everything."""
        return "\n".join([self.caption, "", self.head(), *map(self._row, self.rows)]) + "\n"

    def column(self, title: str) -> list[Cell]:
        """The cells of a column."""
        place = self.columns.index(title)
        return [row[place] for row in self.rows]

    def write(self, folder: Path) -> list[Path]:
        """Write `NAME.csv` and `NAME.md` to a folder that is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{self.name}.csv", folder / f"{self.name}.md"]
        with files[0].open("w", newline="") as stream:
            csv.writer(stream).writerows([self.columns, *self.rows])
        files[1].write_text(self.markdown())
        return files

    def _row(self, cells: tuple[Cell, ...]) -> str:
        return _line([_text(c, t) for c, t in zip(cells, self.columns, strict=True)])


def _text(cell: Cell, title: str) -> str:
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.1f}x" if "Speedup" in title else f"{cell:.{3 if cell < 10 else 2}f}"


def _line(texts: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def speedup(slow: Cell, fast: Cell) -> float | None:
    """How many times faster, where both are numbers.

    >>> speedup(6.0, 0.5), speedup("RecursionError", 0.5)
    (12.0, None)
    """
    return slow / fast if isinstance(slow, float) and isinstance(fast, float) else None
