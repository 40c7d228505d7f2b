"""torch_npu's own process group between processes of this machine: each kind of call, its order, graphs, errors, models.

Two groups serve all tests: three ranks whose kernels run in the calling thread, and two with torch_npu's queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.machine import choose_device
from helpers.parallel import RankFailed, Ranks
from tests.npu import hccl_functions as functions
from tests.npu.hccl_kinds import KINDS
from tests.parallel import toys
from tests.parallel.test_ranks import shared_by
from tests.tiny import reference

BLOCKING, QUEUED = "three ranks, blocking", "two ranks, queued"
JOB = toys.Job(toys.requests(), "priority", 9, options=dict(max_batch_size=4, token_budget=24, chunk_size=10))


@pytest.fixture(scope="module")
def ranks_of() -> Iterator[Callable[[str], Ranks]]:
    """A function that gives a group's ranks, started when they are first asked for, or after a failure."""
    started: dict[str, Ranks] = {}

    def give(group: str) -> Ranks:
        if group not in started or not started[group].pids:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("COURSE_DEVICE", "emulated-npu")
                patch.setenv("ASCEND_LAUNCH_BLOCKING", str(int(group == BLOCKING)))
                patch.setenv("TASK_QUEUE_ENABLE", "1")  # which torch_npu turns off in a shell
                patch.setenv("ROOTINFO_SUBCOMM_ENABLE", str(int(group == QUEUED)))
                started[group] = Ranks(3 if group == BLOCKING else 2, limit=120)
        return started[group]

    yield give
    for ranks in started.values():
        ranks.close()


def failure(ranks: Ranks, function: Callable[..., Any], *args: Any) -> RankFailed:
    """The error of ranks that fail; no process is left, nor shared memory that is named after one."""
    ranks.run(functions.meet)
    pids = ranks.pids
    with pytest.raises(RankFailed) as caught:
        ranks.run(function, *args)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not shared_by(pids)
    return caught.value


@pytest.mark.parametrize("group", [BLOCKING, QUEUED])
def test_every_kind_of_call_means_what_plain_torch_says(ranks_of, group):
    times = 5
    for found, calls in ranks_of(group).run(functions.wrong_results, 1, times):
        assert found == {}
        assert calls == times * len(KINDS)


def test_every_type_is_combined_in_every_way(ranks_of):
    assert ranks_of(BLOCKING).run(functions.wrong_sums) == [{}] * 3


def test_all_kinds_are_there():
    assert len(KINDS) == 22


@pytest.mark.parametrize("group", [BLOCKING, QUEUED])
def test_work_goes_on_while_collectives_are_on_their_way(ranks_of, group):
    ranks = ranks_of(group)
    for wrong, sums in ranks.run(functions.many_at_once, 12):
        assert wrong == []
        assert sums == [3.0 * (i + 1) for i in range(12)]


def test_work_behind_a_message_waits_in_its_stream_and_not_on_the_host(ranks_of):
    before, after, z, large = ranks_of(QUEUED).run(functions.queued_behind_a_message)[1]
    assert before == (False, False)
    assert after == (True, True)
    expected = torch.arange(1000.0) + sum(range(30)) + 7
    assert torch.equal(z, expected)
    assert torch.equal(large, expected[expected > 1000])


@pytest.mark.parametrize("group", [BLOCKING, QUEUED])
def test_a_graph_records_collectives_and_messages_and_a_replay_makes_them(ranks_of, group):
    ranks = ranks_of(group)
    for rank, (unsent, replays) in enumerate(ranks.run(functions.captured, 3)):
        assert torch.equal(unsent, torch.full((6,), -1.0)), "a capture sends nothing"
        for turn, (z, pair) in enumerate(replays):
            total = sum(2 * (r + 10 * turn) for r in range(ranks.world))
            assert torch.equal(z, torch.full((6,), total + ranks.world - 2.0))
            assert torch.equal(pair, torch.full((6,), total + 1.0 if rank == 1 else -1.0))


@pytest.mark.parametrize("group", [BLOCKING, QUEUED])
def test_communicators_are_shared_by_their_ranks_and_their_memory_goes_with_them(ranks_of, group):
    answers = ranks_of(group).run(functions.communicators)
    (whole, part), _ = answers[0]
    assert whole != part
    assert part.startswith(whole) == (group == QUEUED), "made of the whole one where torch_npu is told so"
    for names, (before, during, after) in answers:
        assert names == [whole, part]
        assert (before > 0, during, after) == (True, before + 1, before)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> tuple[Path, dict]:
    """A folder with the toy of the course's heads, and the tokens of one process on the emulated NPU."""
    folder = Path(toys.save("llama", tmp_path_factory.mktemp("llama")))
    model = toys.whole(folder).to(choose_device("emulated-npu"))
    served = toys.serve(model, JOB, time.perf_counter)
    assert served.preempted > 0
    return folder, {name: tokens for name, (_, tokens) in served.tokens.items()}


@pytest.mark.parametrize("group", [BLOCKING, QUEUED])
def test_tensor_parallel_ranks_give_the_tokens_of_one_process(ranks_of, toy, group):
    ranks = ranks_of(group)
    answers = ranks.run(toys.on_ranks, toy[0], [JOB], [5, 9, 2, 77])
    for (served,), logits, _, (heads, *_) in answers:
        assert {name: tokens for name, (_, tokens) in served.tokens.items()} == toy[1]
        assert served.calls["all_reduce"] == 7 * len(served.plans)
        assert logits.device.type == "npu"
        assert torch.equal(logits, answers[0][1])
        assert heads < 9


@pytest.mark.parametrize("group", [BLOCKING, QUEUED])
def test_stages_give_the_tokens_of_one_process(ranks_of, toy, group):
    ranks = ranks_of(group)
    for rank, (tokens, *_, sent, _, shape) in enumerate(
        ranks.run(toys.in_stages, toy[0], ranks.world, ranks.world, JOB)
    ):
        assert tokens == toy[1]
        assert shape[0] < 3
        assert (sent > 0) == (rank < ranks.world - 1)


def test_a_captured_decode_step_of_a_part_of_a_model_gives_what_plain_passes_give(ranks_of, tmp_path):
    reference("qwen3").save_pretrained(tmp_path)
    ranks = ranks_of(QUEUED)
    for pairs, calls in ranks.run(functions.decode_steps, tmp_path, [[7, 8, 9], [1, 1, 1], [60, 2, 33]]):
        assert all(torch.equal(plain, captured) for plain, captured in pairs)
        assert len(pairs) == 3
        assert calls == 3 * 5, "plain passes alone call Python's collectives"


def test_sizes_that_differ_are_told_with_both_ranks(ranks_of):
    error = failure(ranks_of(BLOCKING), functions.other_sizes)
    assert "HCCL: calls differ: rank" in str(error)
    assert "HcclAllReduce(4 of fp32, op 0, root 0)" in str(error)


def test_a_rank_that_has_ended_is_named_before_the_limit(ranks_of, tmp_path):
    error = failure(ranks_of(QUEUED), functions.dies, 1, str(tmp_path / "told"))
    lines = (tmp_path / "told").read_text().splitlines()
    assert error.rank == 1
    assert "rank 0 waits in HcclAllReduce for rank 1 (process" in lines[-1]
    assert lines[-1].endswith("which has ended"), "and not: longer than the limit allows"


def test_a_rank_that_does_not_come_is_named(ranks_of):
    error = failure(ranks_of(QUEUED), functions.late, 1)
    assert error.rank == 1
    assert "gave no answer while another rank waited for it" in str(error)
    assert "in late" in str(error), "where it stands"
