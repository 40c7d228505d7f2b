"""Pipelines of two and three stages, and a grid: tokens of one process, and the bytes and the order of the plan."""

import time
from fractions import Fraction

import pytest

from helpers.parallel import Grid, PipelineBatcher, idle_shares, load_stage, pipeline_slots
from tests.parallel import toys

JOB = toys.Job(toys.requests(), "priority", 9, options=dict(max_batch_size=4, token_budget=24, chunk_size=10))
CASES = [  # model, stages, ranks, groups
    ("llama", 1, 1, 2),
    ("llama", 2, 2, 1),
    ("llama", 2, 2, 2),
    ("biases", 2, 2, 3),
    ("llama", 3, 3, 3),
    ("qwen2", 3, 3, 2),
    ("qwen2", 2, 4, 2),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, folders, ranks_of):
    """A case, the answers of its ranks, and the tokens of one process."""
    name, stages, world, groups = request.param
    args = (folders[name], stages, groups, JOB)
    answers = ranks_of(world).run(toys.in_stages, *args) if world > 1 else [toys.in_stages(*args)]
    one = toys.serve(toys.whole(folders[name]), JOB, time.perf_counter)
    return request.param, answers, {name: tokens for name, (_, tokens) in one.tokens.items()}


def test_tokens_are_those_of_one_process_and_all_stages_plan_alike(case):
    _, answers, one = case
    for tokens, plans, log, *_ in answers:
        assert tokens == one
        assert plans == answers[0][1]
        assert log == answers[0][2]


def test_hidden_states_are_sent_once_and_collectives_stay_in_a_stage(case):
    (_, stages, world, _), answers, _ = case
    plans = [parts for group in answers[0][1] for parts in group]
    computed = sum(tokens for parts in plans for _, tokens in parts)
    for rank, (*_, sent, calls, (layers, _, pages)) in enumerate(answers):
        stage = rank // (world // stages)
        last = stage == stages - 1
        assert sent == (0 if last else computed * toys.SIZES["hidden_size"] * 4)
        assert calls["all_reduce"] == (2 * layers + (stage == 0)) * len(plans)
        assert calls.get("all_gather", 0) == (len(plans) if last else 0)
        assert pages[0] == layers


def test_groups_take_turns_and_idle_shares_follow_from_their_order(case):
    (_, stages, _, groups), answers, _ = case
    log = answers[0][2]
    full = log[: groups * min(log.count(g) for g in range(groups))]
    assert full == list(range(groups)) * (len(full) // groups)
    passes = len(full) // groups
    end = passes * max(groups, stages) + min(groups, stages) - 1
    assert idle_shares(pipeline_slots([1] * stages, full)) == [1 - Fraction(len(full), end)] * stages


def test_what_a_pipeline_refuses(folders):
    grid = Grid.of_all(1)
    model = load_stage(grid, folders["llama"])
    with pytest.raises(ValueError, match="1 to 1000 groups"):
        PipelineBatcher(grid, model, 0, 16)
    batcher = PipelineBatcher(grid, model, 2, 16)
    batcher.add_request(JOB.requests[0])
    with pytest.raises(ValueError, match="is here already"):
        batcher.add_request(JOB.requests[0])
    with pytest.raises(ValueError, match="stages share 3 layers"):
        load_stage(grid, folders["llama"], [range(2)])
    with pytest.raises(ValueError, match="call `run`"):
        model(toys.FlatBatch.pack([[1]]))
    with pytest.raises(ValueError, match="divides them"):
        Grid.of_all(2)
