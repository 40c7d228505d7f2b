"""A service whose replicas are threads of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.engine.routing import Router, named_router
from helpers.model.decoder import DecoderLM
from helpers.replicas.group import ReplicaGroup
from helpers.serving.app import Service
from helpers.serving.calls import Limits
from helpers.serving.engine_loop import EngineLoop
from helpers.serving.metrics import ServerMetrics
from helpers.serving.prompts import Prompts
from helpers.serving.server import make_engine, serves_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_group_service(
    model: DecoderLM,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    replicas: int = 2,
    router: str | Router = "bounded-prefix",
    *,
    max_waiting: int = 64,
    limits: Limits | None = None,
    **sizes: Any,
) -> Service:
    """Return a model's service with several engines, until `service.loop.close()`.

    The engines share the model's weights, and each has a thread and pages of its own. `router` is a name of
    `ROUTERS`, or a router that serves no other group. `sizes` are those of `make_engine` and `max_waiting` is that
    of `make_service`, for each engine. `/metrics` tells the engines apart by the label `engine`. Raises ValueError for less than
    one replica, a size under 1, an unknown policy and an unknown router.
    """
    if replicas < 1:
        raise ValueError(f"replicas must be 1 or more, got {replicas}")
    chosen = named_router(router) if isinstance(router, str) else router
    engines = [make_engine(model, tokenizer, **sizes) for _ in range(replicas)]
    metrics = [ServerMetrics(name)]
    metrics += [ServerMetrics(name, metrics[0]) for _ in range(replicas - 1)]
    loops = [EngineLoop(*parts) for parts in zip(engines, [max_waiting] * replicas, metrics, strict=True)]
    serves = serves_of(engines[0], tokenizer, name, limits)
    return Service(ReplicaGroup(loops, chosen), serves, Prompts(tokenizer), metrics[0])
