"""The driver: any number of threads, in any order, gives what one command after another gives."""

import ctypes
import gc
import platform
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygrad.runtime.native import driver, jit
from lazygrad.runtime.native.driver import BARRIER, CHECKS, MOST_CLAIMS, PASS, SOLO, Command, Table
from tests.runtime.native.units import command, pairs

THREADS = (1, 2, 7, 64)
ROOT = Path(__file__).parents[3]


def arrays(count: int, size: int = 100) -> list[np.ndarray]:
    return [np.zeros(size, np.int64) for _ in range(count)]


# What runs ----------------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, int, int, int, int, int]]:
    """Commands over five arrays: (word, out, a, b, rows, chunk)."""
    one = st.tuples(
        st.sampled_from(("parallel", "parallel", "serial", "mean")),
        *[st.integers(0, 4)] * 3,
        st.sampled_from((0, 1, 2, 37, 100)),
        st.sampled_from((1, 3, 16, 100)),
    )
    return draw(st.lists(one, min_size=1, max_size=12))


@given(programs())
@settings(max_examples=60)
def test_every_number_of_threads_gives_the_same(
    program: list[tuple[str, int, int, int, int, int]],
) -> None:
    commands, wanted = [], [np.arange(100) + k for k in range(5)]
    for word, out, a, b, rows, chunk in program:
        if word == "mean":
            commands.append(command("mean", *pairs(out + 1, a + 1), rows=rows))
            for i in range(rows):
                wanted[out][0] += wanted[a][i]
        else:
            commands.append(
                command(
                    "sum",
                    *pairs(out + 1, a + 1, b + 1),
                    rows=rows,
                    chunk=chunk,
                    parallel=word == "parallel",
                )
            )
            wanted[out][:rows] = wanted[a][:rows] + wanted[b][:rows] + 1
    table = Table(commands, 5)
    for threads in THREADS:
        for _ in range(3):
            found = [np.arange(100) + k for k in range(5)]
            assert table.run(0, found, threads) == 0
            np.testing.assert_array_equal(found, wanted)


def test_commands_without_a_barrier_share_the_threads() -> None:
    table = Table(
        [
            command("sum", *pairs(k, k, k), rows=100, chunk=9, parallel=True, barrier=False)
            for k in (1, 2, 3, 4)
        ],
        4,
    )
    for threads in THREADS:
        found = arrays(4)
        for _ in range(50):
            table.run(0, found, threads)
        assert {int(x) for x in np.ravel(found)} == {2**50 - 1}


def test_many_chunks_are_taken_several_at_a_time() -> None:
    rows = 5 * MOST_CLAIMS + 3
    table = Table([command("sum", *pairs(1, 2, 2), rows=rows, parallel=True)], 2)
    for threads in THREADS:
        out, a = np.zeros(rows, np.int64), np.arange(rows)
        table.run(0, [out, a], threads)
        np.testing.assert_array_equal(out, 2 * a + 1)


@pytest.mark.parametrize("threads", THREADS)
def test_each_thread_has_its_own_memory(threads: int) -> None:
    arena, chunks = np.zeros(1024 + 8 * 64, np.int64), 200
    table = Table(
        [command("scratch", 1, 0, rows=chunks, local_offset=64, local=64, parallel=True)], 1
    )
    for _ in range(20):
        out = np.zeros(chunks, np.int64)
        table.run(arena.ctypes.data, [out], threads)
        assert out.all()
    assert not arena[:8].any() and not arena[8 + 8 * threads :].any()


def test_an_empty_table_runs() -> None:
    for commands in ([], [command("sum", *pairs(1, 1, 1), rows=0, parallel=True)]):
        assert [Table(commands, 1).run(0, arrays(1), n) for n in THREADS] == [0] * 4


# Checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", THREADS)
def test_a_check_stops_the_program(threads: int) -> None:
    """The first command that fails, its smallest code; nothing behind it runs."""
    codes = [0] * 20
    failing = [*codes[:7], 9, *codes[8:12], 5, *codes[13:]]
    for rows in (20, 1):
        checks = [
            command("check", 1, 0, *words, rows=rows, parallel=True, checks=True)
            for words in (codes, failing[-rows:] if rows == 20 else [5], failing)
        ]
        after = command("sum", *pairs(2, 2, 2), rows=20, chunk=3, parallel=True)
        table = Table([after, *checks, after], 2)
        for _ in range(20):
            found = arrays(2)
            assert table.run(0, found, threads) == (2 << 32 | 5)
            assert found[0][:rows].all()
            assert (found[1][:20] == 1).all()


def test_a_run_after_a_failed_one_is_like_any_other() -> None:
    out = command("sum", *pairs(2, 2, 2), rows=100, chunk=9, parallel=True)
    check = command("check", 1, 0, *[3] * 20, rows=20, parallel=True, checks=True)
    table, good = Table([out, check, out], 2), Table([out, out], 2)
    for threads in THREADS:
        found = arrays(2)
        for turn in range(1, 10):
            assert table.run(0, found, threads) == (1 << 32 | 3)
            assert good.run(0, found, threads) == 0
            assert (found[1] == 2 ** (3 * turn) - 1).all()


def test_codes_of_commands_that_do_not_check_are_nothing() -> None:
    table = Table([command("check", 1, 0, *[3] * 20, rows=20, parallel=True)], 1)
    assert [table.run(0, arrays(1), n) for n in THREADS] == [0] * 4


# The table ----------------------------------------------------------------------------------------


def test_barriers_of_single_claims_are_the_callers_alone() -> None:
    wide = Command(1, (), rows=8, parallel=True)
    one, none = Command(1, (), rows=8), Command(1, (), rows=0)
    flags, totals = driver._barriers([wide, one, none, one, wide], [8, 1, 0, 1, 8])
    last = SOLO | BARRIER  # the next segment is everybody's: all wait
    assert flags == [BARRIER | PASS, SOLO | BARRIER | PASS, SOLO, last, BARRIER | PASS]
    assert totals == [8, 1, 0, 1, 8]


def test_everybody_waits_for_a_check() -> None:
    check = Command(1, (), rows=8, checks=True, barrier=False)
    flags, totals = driver._barriers([check, Command(1, ())], [1, 1])
    assert flags == [CHECKS | SOLO | BARRIER, SOLO | BARRIER | PASS]
    assert totals == [1, 1]


@pytest.mark.parametrize("known", [True, False])
def test_arguments_are_looked_at(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """Also where Python's objects do not lie in memory as they do here."""
    monkeypatch.setattr(driver, "_layout_holds", lambda: known)
    table = Table([command("sum", *pairs(1, 1, 1))], 1)
    good = np.zeros(1, np.int64)

    class Sub(np.ndarray):
        pass

    bad = ((0, [], 1), (0, [good, good], 1), (0, (good,), 1), (0, [3], 1), (0, [good]), ())
    for arguments in (*bad, (0, [good.view(Sub)], 1), ("x", [good], 1), (0, [good], None)):
        with pytest.raises(TypeError):
            table.run(*arguments)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        table.run(2**64, [good], 1)
    assert not good.any()
    assert table.run(0, [good], 1) == 0 and good[0] == 1


def test_the_layout_of_objects_is_known_here() -> None:
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert driver._layout_holds() is not free_threaded


def test_run_outlives_its_table() -> None:
    run = Table([command("sum", *pairs(1, 1, 1), rows=100)], 1).run
    gc.collect()
    kept = [np.full(10_000, -1) for _ in range(20)]  # what was freed is written over
    found = arrays(1)
    assert run(0, found, 2) == 0 and (found[0] == 1).all()
    assert len(kept) == 20


def test_release_can_change() -> None:
    table = Table([command("sum", *pairs(1, 1, 1))], 1, release=True)
    assert table.release
    table.release = False
    assert not table.release and table.run(0, arrays(1), 1) == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets a register of x86-64")
def test_the_callers_rounding_is_not_used_and_stays() -> None:
    """Some libraries turn subnormals off for the threads that load them."""
    text = """
    declare void @llvm.x86.sse.ldmxcsr(ptr)
    declare void @llvm.x86.sse.stmxcsr(ptr)
    define void @change() {
      %at = alloca i32
      call void @llvm.x86.sse.stmxcsr(ptr %at)
      %old = load i32, ptr %at
      %new = xor i32 %old, 32832
      store i32 %new, ptr %at
      call void @llvm.x86.sse.ldmxcsr(ptr %at)
      ret void
    }
    """
    table = Table([command("halve", *pairs(1, 2), rows=64, chunk=8, parallel=True)], 2)
    change = ctypes.CFUNCTYPE(None)(*jit.compile_functions(text, ["change"]))
    tiny = np.full(64, 1e-38, np.float32)
    for threads in THREADS:
        out = np.zeros(64, np.float32)
        change()
        table.run(0, [out, tiny], threads)
        flushed = tiny * np.float32(0.5)
        change()
        assert out.all() and not flushed.any()


# Threads and processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("release", [False, True])
def test_many_threads_call_at_once(release: bool) -> None:
    table = Table(
        [command("sum", *pairs(1, 1, 2), rows=100, chunk=9, parallel=True)] * 5, 2, release
    )
    wrong: list[np.ndarray] = []

    def call() -> None:
        found = arrays(2)
        for _ in range(300):
            table.run(0, found, 2)
        if not (found[0] == 1500).all():
            wrong.append(found[0])

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_idle_workers_sleep_and_wake() -> None:
    table = Table([command("sum", *pairs(1, 1, 1), rows=100, chunk=9, parallel=True)], 1)
    pool = driver._code().pool
    assert pool is not None
    for turn in range(5):
        table.run(0, arrays(1), 4)
        deadline = time.monotonic() + 20
        while pool.workers < 3 or pool.asleep < pool.workers:
            assert time.monotonic() < deadline, (turn, pool.workers, pool.asleep)
            time.sleep(0.001)


COMMON = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from tests.runtime.native.units import command, pairs
from lazygrad.runtime.native import driver
table = driver.Table(
    [command("sum", *pairs(1, 1, 2), rows=100, chunk=9, parallel=True)] * 5, 2, release=True
)
def run(times=50):
    found = [np.zeros(100, np.int64) for _ in range(2)]
    for _ in range(times):
        assert table.run(0, found, 4) == 0
    assert (found[0] == 5 * times).all()
pool = driver._code().pool
"""

PROCESSES = {
    "ends while workers spin": "run(); print('done')",
    "ends while workers sleep": "run(); time.sleep(0.05); print('done')",
    "ends during a run": """
def forever():
    while True:
        run()
for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
run(); time.sleep(0.02); print('done')
""",
    "forks": """
run()
for turn in range(3):
    pid = os.fork()
    if not pid:
        assert pool.workers == 0
        run()
        if turn == 0:
            time.sleep(0.02)
        inner = os.fork()
        if not inner:
            run(); os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) == 7
        os._exit(3)
    run()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
print('done')
""",
    "forks during a run of another thread": """
stop = []
def forever():
    while not stop:
        run()
other = threading.Thread(target=forever)
other.start()
for _ in range(10):
    pid = os.fork()
    if not pid:
        run(); os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
stop.append(1); other.join(); print('done')
""",
    "leaves the processor of the caller": """
allowed = os.sched_getaffinity(0) if sys.platform == 'linux' else ()
if len(allowed) > 1:
    here, before = min(allowed), set(os.listdir('/proc/self/task'))
    run()
    workers = {int(t) for t in set(os.listdir('/proc/self/task')) - before}
    assert len(workers) == 3
    while pool.workers < 3:  # one that comes up later knows no other processor
        time.sleep(0.001)
    os.sched_setaffinity(0, {here})
    for worker in workers:
        os.sched_setaffinity(worker, {here})
    size = 1 << 22  # a run long enough for the others to get their turn on this processor
    slow = driver.Table(
        [command("sum", *pairs(1, 1, 2), rows=size, chunk=size >> 6, parallel=True)], 2
    )
    found = [np.zeros(size, np.int64) for _ in range(2)]
    end = time.monotonic() + 50
    while any(here in os.sched_getaffinity(worker) for worker in workers):
        assert time.monotonic() < end
        slow.run(0, found, 4)
    assert all(os.sched_getaffinity(w) == allowed - {here} for w in workers)
print('done')
""",
    "gets its own signals": """
signal.signal(signal.SIGUSR1, lambda *a: got.append(threading.current_thread().name))
got = []
run()
for _ in range(5):
    os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0.001)
def blocked(task, number):
    lines = open(f'/proc/self/task/{task}/status').read().splitlines()
    return int(next(x for x in lines if x.startswith('SigBlk')).split()[1], 16) >> number - 1 & 1
if sys.platform == 'linux':
    tasks = os.listdir('/proc/self/task')
    deaf = [t for t in tasks if blocked(t, signal.SIGUSR1) and not blocked(t, signal.SIGSEGV)]
    assert len(deaf) == pool.workers
assert got == ['MainThread'] * 5, got
print('done')
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="no threads of the driver's own there")
@pytest.mark.parametrize("name", PROCESSES)
def test_a_process(name: str) -> None:
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", COMMON + PROCESSES[name]],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert (found.returncode, found.stdout) == (0, "done\n"), found.stderr
