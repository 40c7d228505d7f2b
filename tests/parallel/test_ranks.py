"""Ranks: what they give, each way in which one can fail, and that none is left."""

import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path

import pytest
import torch

from helpers.parallel import RankFailed, Ranks, run_ranks
from tests.course_support import ROOT
from tests.parallel import functions


def alive(pid):
    """Whether a process runs; one that has ended and is not collected yet does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds=300.0):
    """Whether something comes to hold."""
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return holds


def gone(pids, seconds=300.0):
    """Whether all of these processes end."""
    return until(lambda: not any(map(alive, pids)), seconds)


def shared_by(pids):
    """Shared memory that is named after one of these processes."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return [name for name in names if {str(pid) for pid in pids} & set(re.findall(r"\d+", name))]


def failure(function, *args, world=2, limit=60.0):
    """Return the error of ranks that fail; none of their processes is left."""
    with Ranks(world, limit=limit) as ranks:
        pids, folder = ranks.pids, ranks._folder
        # A short limit is for collectives, and not for imports, which end on a busy machine one long after another.
        until(lambda: all(ranks._log(rank).exists() for rank in range(world)))
        with pytest.raises(RankFailed) as caught:
            ranks.run(function, *args)
        assert gone(pids, 0.0)
        assert not folder.exists()
        assert not shared_by(pids)
        with pytest.raises(ValueError, match="have ended"):
            ranks.run(function, *args)
    return caught.value


def test_values_come_in_the_order_of_ranks_and_modules_keep_their_state():
    with Ranks(3) as ranks:
        pids = ranks.pids
        assert len(set(pids)) == 3
        assert all(map(alive, pids))
        first, second = ranks.run(functions.total, 1), ranks.run(functions.total, 10)
        assert ranks.run(functions.threads) == [1, 1, 1]
    assert [rank for rank, _, _ in first] == [0, 1, 2]
    assert [kept for _, _, kept in second] == [[6, 33]] * 3
    assert all(torch.equal(value, torch.tensor([6])) for _, value, _ in first)
    assert gone(pids, 0.0)


def test_a_rank_that_raises_is_named_with_its_traceback():
    error = failure(functions.raises, 1)
    assert error.rank == 1
    assert str(error).startswith("rank 1 of 2: KeyError: 'a bug'")
    assert "in raises" in str(error)
    assert "on the way to a bug" in str(error)


def test_a_rank_that_is_killed_is_named_before_the_limit_and_not_those_that_waited_for_it(tmp_path):
    error = failure(functions.killed, 1, tmp_path / "death", world=3, limit=600.0)
    assert time.time() - float((tmp_path / "death").read_text()) < 300, "nothing waits for the limit"
    assert str(error).startswith("rank 1 of 3: ended without an answer, exit code -9")


def test_shared_memory_that_is_left_is_seen():
    segment = shared_memory.SharedMemory(f"ranks-{os.getpid()}-left", create=True, size=64)
    try:
        assert shared_by([os.getpid()]) == [segment.name.lstrip("/")]
        assert not shared_by([os.getpid() + 1])
    finally:
        segment.close()
        segment.unlink()


def test_a_rank_that_hangs_is_named_with_the_place_where_it_stands():
    error = failure(functions.hangs, 0, limit=4.0)
    assert str(error).startswith("rank 0 of 2: gave no answer while another rank waited for it")
    assert "asleep_at_the_wheel" in str(error)


def test_a_rank_that_is_slow_alone_is_named_after_the_limit():
    error = failure(functions.slow, 1, limit=4.0)
    assert str(error).startswith("rank 1 of 2: gave no answer in time")
    assert "asleep_at_the_wheel" in str(error)


def test_sizes_that_differ_show_what_gloo_wrote():
    error = failure(functions.other_sizes)
    assert "ended without an answer" in str(error)
    assert "EnforceNotMet" in str(error)


def test_a_rank_that_waits_for_one_that_is_done_is_named():
    error = failure(functions.skips, 1, limit=4.0)
    assert error.rank == 0
    assert "in skips" in str(error)


@pytest.mark.parametrize(
    ("end", "when"), [(signal.SIGKILL, "busy"), (signal.SIGKILL, "early"), (signal.SIGINT, "busy")]
)
def test_no_rank_outlives_its_parent(end, when):
    command = [sys.executable, "-m", "tests.parallel.parent", when]
    parent = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        *numbers, folder = parent.stdout.readline().split()
        pids = [int(number) for number in numbers]
        assert len(pids) == 2
        assert all(map(alive, pids))
        if end == signal.SIGINT:
            os.killpg(parent.pid, end)  # Ctrl-C reaches all processes of a terminal
        else:
            parent.send_signal(end)
        parent.wait(300)
    assert gone(pids)  # a rank that still imports ends when it has, which takes long on a busy machine
    assert not Path(folder).exists()


def test_what_cannot_start_is_refused_before_a_process_starts():
    for world, threads, limit in ((0, 1, 60.0), (1, 0, 60.0), (1, 1, 0.0), (1, 1, float("nan"))):
        with pytest.raises(ValueError, match="must be above 0"):
            Ranks(world, threads, limit)
    with Ranks(1) as ranks:
        with pytest.raises(ValueError, match="write it into a file"):
            ranks.run(lambda: 1)
        with pytest.raises(ValueError, match="cannot be sent"):
            ranks.run(functions.total, lambda: 1)
        assert ranks.run(functions.total, 4) == [(0, torch.tensor([4]), [4])]


def test_ranks_for_one_call():
    assert run_ranks(functions.threads, 1, threads=2) == [2]
