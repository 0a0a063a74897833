"""What the contest found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.peers.contest import Entry
from benchmarks.peers.forms import Form

Row = Sequence[Entry]


def duration(microseconds: float) -> str:
    """Microseconds, or milliseconds where that is shorter.

    >>> duration(83.4), duration(1234.0), duration(81530.0)
    ('83.4 us', '1.23 ms', '81.5 ms')
    """
    small = microseconds < 1000
    return f"{microseconds if small else microseconds / 1000:.3g} {'us' if small else 'ms'}"


def ratio(row: Row, figure: str) -> float | None:
    """The best of all peers over the slower form of lazygrad, if both were measured."""
    ours = [e.found[figure] for e in row if e.form.ours and figure in e.found]
    peers = [e.found[figure] for e in row if not e.form.ours and figure in e.found]
    return min(peers) / max(ours) if ours and peers else None


def step_times(row: Row) -> str:
    """The line of the first table."""
    cells = [_cell(entry, "median us", duration) for entry in row]
    reached = [ratio(row, figure) for figure in ("median us", "best us")]
    cells += ["-" if value is None else f"{value:.2f}" for value in reached]
    w = row[0].workload
    return _line([f"{w.name}, batch {w.batch}", *cells, f">= {w.ratio:g}"])


def tables(rows: Sequence[Row]) -> str:
    """All tables in markdown, and why a cell is empty."""
    forms = [entry.form for entry in rows[0]]
    parts = [
        "Microseconds or milliseconds a step, median of the rounds. Ratio: the best of all peers"
        " over the slower form of lazygrad; the second one compares everybody's best round.",
        "\n".join([header(forms), *map(step_times, rows)]),
        "The best round of each, which is what a shared machine disturbs least:",
        _table(forms, rows, lambda entry: _cell(entry, "best us", duration)),
        "First call in a fresh process, its imports done: no compiled code on disk / that of an"
        " earlier process (torch.compile and JAX with their caches on disk switched on).",
        _table(forms, rows, _first_call),
        "Peak memory of the process in MB from the first call on, in brackets what its imports"
        " alone take.",
        _table(forms, rows, _memory),
    ]
    short = [f"- {name(row)}: {text}" for row in rows for text in missed(row)]
    parts += ["Missed:\n\n" + "\n".join(short)] if short else []
    notes = [f"- {e.workload.name}, {e.form.title}: {e.error}" for r in rows for e in r if e.error]
    return "\n\n".join([*parts, *(["Not measured:\n\n" + "\n".join(notes)] if notes else [])])


def missed(row: Row) -> list[str]:
    """What lazygrad was to reach and did not: speed, memory, first call."""
    found = []
    reached = ratio(row, "median us")
    if reached is not None and reached < row[0].workload.ratio:
        found.append(f"the ratio is {reached:.2f}")
    limits = (
        ("peak MB", "PyTorch eager", 1, "peak memory"),
        ("first cold ms", "JAX jit", 2, "first call with a cold cache"),
        ("first warm ms", "JAX jit", 1, "first call with a warm cache"),
    )
    by_title = {entry.form.title: entry.found for entry in row}
    for figure, peer, factor, words in limits:
        ours = [e.found[figure] for e in row if e.form.ours and figure in e.found]
        limit = by_title.get(peer, {}).get(figure)
        if ours and limit is not None and max(ours) > factor * limit:
            found.append(f"{words} {max(ours):.0f}, at most {factor * limit:.0f} allowed")
    return found


def header(forms: Sequence[Form]) -> str:
    """Head of the first table."""
    return _head(["step", *(f.title for f in forms), "ratio", "ratio of bests", "to reach"])


def record(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that was found, for a JSON file."""
    return {
        name(row): {
            **{e.form.title: e.found | ({"error": e.error} if e.error else {}) for e in row},
            "ratio": ratio(row, "median us"),
            "ratio of bests": ratio(row, "best us"),
            "ratio to reach": row[0].workload.ratio,
            "missed": missed(row),
        }
        for row in rows
    }


def name(row: Row) -> str:
    """The workload of a row."""
    return row[0].workload.name


def _cell(entry: Entry, figure: str, text: Callable[[float], str]) -> str:
    return text(entry.found[figure]) if figure in entry.found else "-"


def _first_call(entry: Entry) -> str:
    found = entry.found
    if "first warm ms" not in found:
        return "-"
    return f"{found['first cold ms']:.0f} / {found['first warm ms']:.0f} ms"


def _memory(entry: Entry) -> str:
    found = entry.found
    return f"{found['peak MB']:.0f} ({found['imports MB']:.0f})" if "peak MB" in found else "-"


def _table(forms: Sequence[Form], rows: Sequence[Row], cell: Callable[[Entry], str]) -> str:
    lines = [_line([name(row), *map(cell, row)]) for row in rows]
    return "\n".join([_head(["", *(f.title for f in forms)]), *lines])


def _head(titles: Sequence[str]) -> str:
    return _line(titles) + "\n" + "|---" * len(titles) + "|"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
