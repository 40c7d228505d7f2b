"""A replica's load: what was sent there and has not ended."""

import asyncio

from helpers.replicas import Replica
from tests.replicas.support import loop
from tests.serving.service import request, run


def test_each_answer_counts_until_it_ends():
    replica = Replica(loop(slow=0.002))
    size = len(request("a").prompt_ids) + 8

    async def call():
        share = replica.submit(request("a"), 3)
        assert (replica.num_requests, replica.tokens_asked) == (3, 3 * size)
        share.ended()
        assert (replica.num_requests, replica.tokens_asked) == (2, 2 * size)
        other = replica.submit(request("b"), 1)
        share.close()
        share.close()
        share.ended()
        assert (replica.num_requests, replica.tokens_asked) == (1, size)
        other.ended()
        other.ended()
        assert (replica.num_requests, replica.tokens_asked) == (0, 0)
        other.close()
        while replica.loop.num_answers:
            await asyncio.sleep(0.005)

    run(call())
    replica.loop.close()
