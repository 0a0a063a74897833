"""PNG charts of a table, drawn by matplotlib where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lazygrad.cli.bench.table import Table

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


def dots(table: Table, labels: list[str], titles: list[str], path: Path) -> Path | None:
    """A line of dots per row, one for each column, on a logarithmic scale."""
    figure = _figure(height=1.5 + 0.4 * len(labels))
    if figure is None:
        return None
    axes = figure.add_subplot()
    for title in titles:
        points = [(x, y) for y, x in enumerate(table.column(title)) if isinstance(x, float)]
        axes.plot([x for x, _ in points], [y for _, y in points], "o", label=title)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    return _save(figure, axes, path)


def _figure(height: float = 6.0) -> Any:
    """A figure without a window, or None."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(8, height), layout="constrained")


def _save(figure: Any, axes: Any, path: Path) -> Path:
    axes.legend()
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=120)
    return path
