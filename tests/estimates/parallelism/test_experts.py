"""Experts on devices: routes, placements and loads against counts by hand and against what must always hold."""

import random
from itertools import combinations

import pytest

from helpers.estimates import ExpertLoad, balanced, blocks, devices_per_token, draw_routes, expert_counts


def test_routes_are_different_experts_and_follow_their_weights():
    routes = draw_routes(3000, 8, 2, skew=1.0, seed=4)
    assert all(len(set(chosen)) == 2 and max(chosen) < 8 for chosen in routes)
    assert routes == draw_routes(3000, 8, 2, skew=1.0, seed=4)
    counts = expert_counts(routes, 8)
    assert counts == sorted(counts, reverse=True)
    level = expert_counts(draw_routes(3000, 8, 2), 8)
    assert all(abs(count - 750) < 100 for count in level)
    assert sum(counts) == sum(level) == 6000


def test_a_single_expert_is_drawn_by_its_share():
    counts = expert_counts(draw_routes(6000, 3, 1, skew=1.0), 3)
    for count, share in zip(counts, (6 / 11, 3 / 11, 2 / 11), strict=True):
        assert abs(count / 6000 - share) < 0.03


def test_a_load_by_hand():
    routes = [(0, 1), (0, 3), (2, 3)]  # tokens 0 and 2 on device 0, token 1 on device 1
    load = ExpertLoad.of(routes, blocks(4, 2), 2)
    assert load == ExpertLoad((3, 3), 2)  # token 1 needs expert 0, token 2 experts 2 and 3: one row each
    assert load.imbalance == 1.0
    assert load.nbytes(10, 2) == 40
    one_sided = ExpertLoad.of(routes, [(0,), (0,), (0,), (0,)], 2)
    assert (one_sided.per_device, one_sided.rows_sent, one_sided.imbalance) == ((6, 0), 1, 2.0)
    copies = ExpertLoad.of([(0,)] * 4, [(0, 1)], 2)  # the copies take turns, and so do the tokens' devices
    assert copies == ExpertLoad((2, 2), 0)


@pytest.mark.parametrize("seed", range(8))
def test_placements_fill_devices_evenly_and_hold_no_expert_twice(seed):
    draw = random.Random(seed)
    world = draw.choice((2, 3, 4, 8))
    experts = world * draw.randrange(1, 6)
    copies = world * draw.randrange(0, min(4, experts * (world - 1) // world + 1))
    counts = [draw.expovariate(1.0) for _ in range(experts)]
    places = balanced(counts, world, copies)
    assert sum(len(devices) for devices in places) == experts + copies
    assert all(len(set(devices)) == len(devices) >= 1 for devices in places)
    held = [sum(device in devices for devices in places) for device in range(world)]
    assert held == [(experts + copies) // world] * world


def test_the_second_copy_goes_to_another_device_even_where_the_first_ones_is_the_least_loaded():
    places = balanced([6.0, 5.0, 4.0, 1.0, 1.0, 1.0], world=3, copies=3)
    assert (
        [len(set(devices)) for devices in places]
        == [len(devices) for devices in places]
        == [2, 2, 2, 1, 1, 1]
    )


def test_copies_level_what_placing_alone_cannot():
    routes = draw_routes(1000, 32, 4, skew=1.2, seed=2)
    counts = expert_counts(routes, 32)
    imbalances = [
        ExpertLoad.of(routes, places, 8).imbalance
        for places in (blocks(32, 8), balanced(counts, 8, 0), balanced(counts, 8, 16))
    ]
    assert imbalances == sorted(imbalances, reverse=True)
    assert max(counts) / (sum(counts) / 8) > 1.2 > 1.05 > imbalances[-1]
    assert ExpertLoad.of(routes, blocks(32, 8), 8).rows_sent <= 4000


def test_devices_of_a_token_are_counted_over_all_choices():
    for experts, per_token, world in ((4, 2, 2), (6, 3, 3), (8, 2, 4)):
        places = blocks(experts, world)
        every = [len({places[e][0] for e in chosen}) for chosen in combinations(range(experts), per_token)]
        assert devices_per_token(experts, per_token, world) == pytest.approx(sum(every) / len(every))
    assert devices_per_token(8, 2, 1) == 1.0


def test_what_cannot_be_is_refused():
    for tokens, per_token in ((0, 1), (1, 0), (1, 5)):
        with pytest.raises(ValueError, match="1 to 4 experts"):
            draw_routes(tokens, 4, per_token)
    for world in (0, 5):
        with pytest.raises(ValueError, match="go to 1 to 4 devices"):
            blocks(4, world)
    for world, copies in ((0, 0), (2, 1), (2, -2), (2, 6)):
        with pytest.raises(ValueError, match="do not fill"):
            balanced([1.0] * 4, world, copies)
    with pytest.raises(ValueError, match="devices are 0 to 1"):
        ExpertLoad.of([(0,)], [(2,)], 2)
    with pytest.raises(ValueError, match="experts are 0 to 0"):
        ExpertLoad.of([(1,)], [(0,)], 2)
