"""`lazygrad machine` and `lazygrad cache`: what the machine can do, and what is kept on disk."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lazygrad.runtime.native.ceilings import ceilings
from lazygrad.runtime.native.disk import cache
from lazygrad.runtime.native.target import host

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Commands) -> None:
    """Add the two commands to the parser."""
    machine = commands.add_parser("machine", help="show what this machine can do at most")
    machine.add_argument("--again", action="store_true", help="measure once more")
    machine.set_defaults(run=show_machine)
    kept = commands.add_parser("cache", help="show or empty the cache of machine code")
    actions = kept.add_subparsers(required=True, metavar="action")
    info = actions.add_parser("info", help="show where it is and how large")
    info.set_defaults(run=show_cache)
    clear = actions.add_parser("clear", help="remove all that lazygrad keeps there")
    clear.set_defaults(run=clear_cache)


def show_machine(args: argparse.Namespace) -> int:
    """`lazygrad machine`: the ceilings that profiles are compared with."""
    try:
        found, here = ceilings(args.again), host()
    except ImportError as error:
        print(f"lazygrad: error: no machine code without LLVM: {error}", file=sys.stderr)
        return 1
    rows = {
        "processor": here.cpu,
        "vector width": f"{here.lanes * 32} bits, {here.lanes} float32, {here.registers} registers",
        "cores": str(found.threads),
        "recommended workers": str(found.workers),
        "float32": _pair(found.flops, "GFLOP/s"),
        "memory read": _pair(found.read, "GB/s"),
        "memory copy": f"{_pair(found.copy, 'GB/s')} (read and written)",
    }
    _print(rows)
    return 0


def _pair(figures: tuple[float, float], unit: str) -> str:
    one, all_ = (f"{figure / 1e9:.{0 if figure >= 1e11 else 1}f}" for figure in figures)
    return f"{one} {unit} on one core, {all_} on all"


def show_cache(args: argparse.Namespace) -> int:
    """`lazygrad cache info`."""
    kept = cache()
    count, size = kept.info()
    _print(
        {
            "folder": str(kept.folder),
            "entries": str(count),
            "size": f"{size / 2**20:.1f} of at most {kept.limit >> 20} MB",
            "in use": f"no: {kept.refused()}" if kept.refused() else "yes",
        }
    )
    return 0


def clear_cache(args: argparse.Namespace) -> int:
    """`lazygrad cache clear`."""
    count, size = cache().info()
    print(f"{cache().clear()} of {count} entries removed ({size / 2**20:.1f} MB)")
    return 0


def _print(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
