"""Accounts of distant replicas: the routers of the simulator choose by what was sent and has not ended."""

from helpers.engine import BoundedPrefixRouter, Request, RoundRobinRouter, least_requests, least_tokens
from helpers.replicas import Accounts


def asked(prompt, max_tokens=10, salt=None):
    return Request("r", prompt, max_tokens, salt=salt)


def loads(accounts, *names):
    return [(accounts[name].num_requests, accounts[name].tokens_asked) for name in names]


def test_a_call_counts_from_the_choice_to_its_end_at_the_replica_that_got_it():
    accounts = Accounts(least_tokens)
    assert accounts.choose("a", asked([1] * 5), 2, ["x", "y"]) == 0
    assert accounts.choose("b", asked([1] * 5), 1, ["x", "y"]) == 1, "a burst sees itself"
    assert loads(accounts, "x", "y") == [(2, 30), (1, 15)]
    accounts.sent("a", asked([1] * 5), 2, "y")
    assert loads(accounts, "x", "y") == [(0, 0), (3, 45)]
    assert accounts.choose("b", asked([1] * 5), 1, ["x", "y"]) == 0, "chosen for again, it counts once"
    for call in ("a", "b", "b", "unknown"):
        accounts.ended(call)
    assert loads(accounts, "x", "y") == [(0, 0), (0, 0)]


def test_the_prefix_router_finds_where_a_beginning_was_sent_until_that_replica_is_too_busy():
    accounts, beginning, other = Accounts(BoundedPrefixRouter(100), 64, 4), [1] * 20, [2] * 20

    def place(call, prompt):
        chosen = accounts.choose(call, asked(prompt), 1, ["x", "y"])
        accounts.sent(call, asked(prompt), 1, ["x", "y"][chosen])
        return chosen

    assert [place(0, [*beginning, 3]), place(1, [*other, 3])] == [0, 1]
    assert [place(2, [*other, 4]), place(3, [*beginning, 4]), place(4, [*other, 5])] == [1, 0, 1]
    assert [place(i, [*other, i]) for i in range(5, 10)].count(0) >= 1
    differ = abs(accounts["x"].tokens_asked - accounts["y"].tokens_asked)
    assert differ <= 100 + 31


def test_a_caller_that_left_before_its_call_was_sent_is_forgotten():
    now = [0.0]
    accounts = Accounts(least_requests, patience=5.0, clock=lambda: now[0])
    accounts.choose("lost", asked([1]), 1, ["x", "y"])
    accounts.choose("kept", asked([1]), 1, ["x", "y"])
    accounts.sent("kept", asked([1]), 1, "y")
    now[0] = 6.0
    assert accounts.choose("new", asked([1]), 1, ["x", "y"]) == 0
    assert loads(accounts, "x", "y") == [(1, 11), (1, 11)]


def test_a_replica_that_is_gone_takes_its_calls_along():
    accounts = Accounts(RoundRobinRouter())
    for call in range(3):
        accounts.choose(call, asked([1]), 1, ["x", "y"])
    accounts.keep(["y", "z"])
    assert loads(accounts, "x", "y", "z") == [(0, 0), (1, 11), (0, 0)]
    accounts.ended(0)
    assert loads(accounts, "x", "y", "z") == [(0, 0), (1, 11), (0, 0)]
