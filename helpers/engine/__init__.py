"""The serving engine: requests, policies, scheduler, batchers, routing, log of passes. Chapters 5 and 8."""

from helpers.engine.batching import ContinuousBatcher
from helpers.engine.cache_aware import CacheAware
from helpers.engine.fair_policies import FairShare, RoundRobin
from helpers.engine.offers import Admission, Offers
from helpers.engine.policies import (
    POLICIES,
    FirstComeFirstServed,
    Priority,
    ShortestJobFirst,
    capped_length,
    named_policy,
)
from helpers.engine.policy import Policy
from helpers.engine.request import FinishReason, Request, RequestState, TokenLogprobs
from helpers.engine.routing import PrefixRouter, RoundRobinRouter, Router, least_requests, least_tokens
from helpers.engine.samples import Samples
from helpers.engine.sampling import choose, kept_tokens, logprobs_of
from helpers.engine.scheduling import RequestScheduler
from helpers.engine.static_batching import PaddedBatch, StaticBatcher
from helpers.engine.step import Chunk, Part, Step

__all__ = [
    "POLICIES",
    "Admission",
    "CacheAware",
    "Chunk",
    "ContinuousBatcher",
    "FairShare",
    "FinishReason",
    "FirstComeFirstServed",
    "Offers",
    "PaddedBatch",
    "Part",
    "Policy",
    "PrefixRouter",
    "Priority",
    "Request",
    "RequestScheduler",
    "RequestState",
    "RoundRobin",
    "RoundRobinRouter",
    "Router",
    "Samples",
    "ShortestJobFirst",
    "StaticBatcher",
    "Step",
    "TokenLogprobs",
    "capped_length",
    "choose",
    "kept_tokens",
    "least_requests",
    "least_tokens",
    "logprobs_of",
    "named_policy",
]
