"""PNG charts of a table, drawn by matplotlib where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lazygrad.cli.bench.table import Cell, Table

NO_CHARTS = "Charts need matplotlib: pip install 'lazygrad[plot]'"


def lines(table: Table, titles: list[str], path: Path, unit: str) -> Path | None:
    """Columns over the first one, on a logarithmic scale; None without matplotlib."""
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot()
    for title in titles:
        points = [
            (x, y)
            for x, y in zip(table.column(table.columns[0]), table.column(title), strict=True)
            if isinstance(y, float)
        ]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=title)
    axes.set_yscale("log")
    axes.set_xlabel(table.columns[0])
    axes.set_ylabel(unit)
    return _save(figure, axes, path)


def bars(table: Table, labels: list[str], titles: list[str], path: Path) -> Path | None:
    """A group of bars per row, on a logarithmic scale; None without matplotlib."""
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot()
    height = 0.8 / len(titles)
    for number, title in enumerate(titles):
        places = [row + number * height for row in range(len(labels))]
        axes.barh(places, list(map(_length, table.column(title))), height, label=title)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    return _save(figure, axes, path)


def _length(cell: Cell) -> float:
    return cell if isinstance(cell, float) else 0.0


def _figure() -> Any:
    """A figure without a window, or None."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(8, 6), layout="constrained")


def _save(figure: Any, axes: Any, path: Path) -> Path:
    axes.legend()
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=120)
    return path
