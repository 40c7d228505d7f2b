"""Prefill and decode on devices of their own: prompts computed on some, keys and values sent, answers decoded on others.

Source: DistServe (arXiv:2401.09670).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from helpers.engine.routing import Router, least_requests
from helpers.simulation.collective_times import Wire
from helpers.simulation.pass_time import Load, PassTime
from helpers.simulation.replicas import simulate_replicas, together
from helpers.simulation.simulator import SimulatedEngine
from helpers.traffic.outcome import Outcome
from helpers.traffic.report import Report
from helpers.traffic.trace import Trace


class DecodeNodeTime:
    """Predict passes of a device that decodes alone: a prompt's tokens come over the wire while answers are decoded.

    For a `SimulatedEngine` whose token budget no prompt fills: a prompt that joins is one transfer.
    """

    def __init__(self, decode: PassTime, wire: Wire, token_bytes: float):
        """Take the time of the device's own passes, and the cache's bytes of one token.

        Raises ValueError for bytes that are not above 0.
        """
        if not token_bytes > 0:
            raise ValueError(f"a token's keys and values take more than 0 bytes, got {token_bytes}")
        self.decode, self.wire, self.token_bytes = decode, wire, token_bytes

    def __call__(self, load: Load) -> float:
        """Return the seconds: decoding one token of each sequence, or what arrives meanwhile, whichever takes longer."""
        moved = load.tokens - load.sequences
        history = load.history + moved
        seconds = self.decode(Load(load.sequences, load.sequences, history, history + load.sequences))
        return max(seconds, self.wire.send(moved * self.token_bytes)) if moved else seconds


def simulate_disaggregated(
    trace: Trace,
    prefill: Sequence[SimulatedEngine],
    decode: Sequence[SimulatedEngine],
    router: Router = least_requests,
) -> Report:
    """Serve a trace: each prompt and its first token on a prefill engine, the rest of the answer on a decode engine.

    The decode engines' pass times are `DecodeNodeTime`. `router` chooses among each kind. The report is what clients saw;
    passes and time in passes are sums over all engines. Raises ValueError without engines of both kinds, for a request
    that follows another one, and as `simulate_replicas` does.
    """
    if not prefill or not decode:
        raise ValueError("expected one prefill engine and one decode engine or more")
    if any(arrival.follows is not None for arrival in trace):
        raise ValueError("a request that follows another one is not simulated on two kinds of engines")
    prompts = [replace(a, new_tokens=min(a.new_tokens, 1), max_tokens=None) for a in trace]
    first = together(simulate_replicas(replace(trace, arrivals=prompts), prefill, router))
    whole = {outcome.name: outcome for outcome in first.outcomes}
    going = sorted((whole[place].ended, place) for place, a in enumerate(trace) if a.new_tokens > 1)
    rest = [
        replace(
            trace[place], at=at, prompt_tokens=trace[place].prompt_tokens + 1,
            new_tokens=trace[place].new_tokens - 1, max_tokens=None,
        )
        for at, place in going
    ]  # fmt: skip
    second = together(simulate_replicas(replace(trace, arrivals=rest), decode, router))
    for outcome in second.outcomes:
        place = going[int(str(outcome.name))][1]
        whole[place] = _joined(whole[place], outcome)
    return Report.summed(
        whole.values(),
        first.busy + second.busy,
        first.passes + second.passes,
        first.computed + second.computed,
        first.row_seconds + second.row_seconds,
        len(prefill) + len(decode),
    )


def _joined(first: Outcome, second: Outcome) -> Outcome:
    """Return one request's outcome of the two that its halves had."""
    gap = 0.0
    if first.first_token is not None and second.first_token is not None:
        gap = second.first_token - first.first_token
    return replace(
        first,
        new_tokens=first.new_tokens + second.new_tokens,
        ended=second.ended,
        last_token=second.last_token,
        largest_gap=max(gap, second.largest_gap),
        reason=second.reason,
        preemptions=first.preemptions + second.preemptions,
        computed=first.computed + second.computed,
    )
