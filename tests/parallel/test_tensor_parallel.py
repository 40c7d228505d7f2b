"""Tensor parallel models: one, two and three ranks give what one process gives."""

import time

import pytest
import torch

from helpers.engine import POLICIES
from helpers.model import FlatBatch
from tests.parallel import toys

TEXT = [5, 9, 2, 77, 96, 31, 0, 8]
PARTS = {  # heads, KV heads, MLP columns of each rank
    ("llama", 2): [(6, 2, 16), (3, 1, 32)],
    ("llama", 3): [(3, 1, 16)] * 3,
    ("qwen2", 2): [(3, 1, 24)] * 2,
    ("qwen2", 3): [(2, 1, 16), (1, 1, 16), (3, 1, 16)],
    ("biases", 2): [(4, 2, 16), (2, 1, 32)],
    ("biases", 3): [(2, 1, 16)] * 3,
}


def work(name, world=1):
    """Every policy for the model with the course's heads, three of them on three ranks; else one engine, and samples."""
    some = ["fcfs", "priority", "fair_share"] if world == 3 else POLICIES
    return toys.jobs(some if name == "llama" else ["fcfs"])


@pytest.fixture(scope="module")
def answers(folders, ranks_of):
    """Answers of all ranks by model and number of ranks; each number of ranks starts once."""
    found = {(name, 1): [toys.on_ranks(folders[name], work(name), TEXT)] for name in folders}
    for world in (2, 3):
        for name in folders:
            jobs = work(name, world)
            found[name, world] = ranks_of(world).run(toys.on_ranks, folders[name], jobs, TEXT)
    return found


CASES = [(name, world) for name in toys.CONFIGS for world in (1, 2, 3)]


@pytest.fixture(scope="module")
def alone(folders):
    """What one process serves with the whole model."""
    models = {name: toys.whole(folder) for name, folder in folders.items()}
    return models, {n: [toys.serve(m, job, time.perf_counter) for job in work(n)] for n, m in models.items()}


@pytest.mark.parametrize(("name", "world"), CASES)
def test_tokens_are_those_of_one_process_and_all_ranks_plan_alike(answers, alone, name, world):
    one = {
        job.policy + str(job.samples): served for job, served in zip(work(name), alone[1][name], strict=True)
    }
    for rank in answers[name, world]:
        for job, here, first in zip(work(name, world), rank[0], answers[name, world][0][0], strict=True):
            assert here.tokens == one[job.policy + str(job.samples)].tokens
            assert here.plans == first.plans


def test_the_jobs_preempt_share_and_sample(alone):
    served = alone[1]["llama"]
    assert sum(job.preempted for job in served) > 3
    assert all(job.hits > 0 for job in served)
    assert {"length"} == {reason for job in served for reason, _ in job.tokens.values()}
    assert len({tuple(served[-1].tokens["sampled", i][1]) for i in range(3)}) > 1


@pytest.mark.parametrize(("name", "world"), CASES)
def test_logits_agree_with_one_process_and_are_equal_on_all_ranks(answers, alone, name, world):
    expected = alone[0][name](FlatBatch.pack([TEXT, TEXT[:5]]), logits="all")
    first = answers[name, world][0][1]
    assert (first - expected).abs().max() < 1e-3
    assert expected.abs().max() > 1
    assert all(torch.equal(rank[1], first) for rank in answers[name, world])


@pytest.mark.parametrize(("name", "world"), CASES)
def test_calls_and_bytes_are_those_of_the_formula(answers, name, world):
    layers, hidden, vocab = (toys.SIZES[size] for size in ("num_hidden_layers", "hidden_size", "vocab_size"))
    for rank in answers[name, world]:
        for job in rank[0]:
            assert job.calls["all_reduce"] == (2 * layers + 1) * len(job.plans)
            assert job.calls["all_gather"] == len(job.plans)
            assert job.nbytes["all_reduce"] == (2 * layers + 1) * job.computed * hidden * 4
            assert job.nbytes["all_gather"] == job.rows * -(-vocab // world) * 4
            assert job.nbytes["broadcast"] == 8 * job.calls["broadcast"]


@pytest.mark.parametrize(("name", "world"), sorted(PARTS))
def test_each_rank_holds_its_part(answers, name, world):
    assert [rank[3] for rank in answers[name, world]] == PARTS[name, world]
