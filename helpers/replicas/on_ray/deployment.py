"""From a number of replicas to a running deployment of Ray Serve."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from helpers.replicas.on_ray.engine_actor import EngineActor
from helpers.replicas.on_ray.request_router import CourseRouter
from helpers.serving.app import Service

NAME = "course"
PASSED_ON = (
    "PYTHONPATH", "COURSE_MODEL", "COURSE_CACHE", "COURSE_DEVICE", "COURSE_NATIVE", "COURSE_KERNELS",
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TORCH_DEVICE_BACKEND_AUTOLOAD",
)  # fmt: skip
"""Environment variables that an actor has from the process that starts it."""


def start_ray(address: str | None = None) -> None:
    """Join the cluster at an address, or start one on this machine. Raises RuntimeError where that fails.

    Ray gives its own start 30 seconds, which a busy machine may exceed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    here: dict[str, Any] = dict(include_dashboard=False, object_store_memory=100_000_000)
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level="ERROR", namespace=NAME,
            runtime_env={"env_vars": passed}, **({} if address else here),
        )  # fmt: skip
    except Exception as error:  # Ray raises plain Exceptions here, too
        raise RuntimeError(f"Ray did not start: {error}") from error


def deploy(
    make_service: Callable[[], Service],
    replicas: int,
    router: str = "bounded-prefix",
    pages: tuple[int, int] = (512, 16),
    resources: Mapping[str, float] | None = None,
    local: bool = False,
) -> DeploymentHandle:
    """Return a handle to a deployment of that many actors, each with the engine that `make_service` makes.

    `pages` are the number and the size of an engine's pages, `resources` what each actor takes of Ray's
    resources, such as `{"NPU": 1}`. With `local` the one replica is an object of this process, and no
    router is asked: Ray's own way to test. Raises ValueError for less than one replica.
    """
    if replicas < 1:
        raise ValueError(f"replicas must be 1 or more, got {replicas}")
    if not local:
        # The routes are this program's own: Ray's HTTP server would only take a port.
        serve.start(proxy_location="Disabled")
    router_options = {"router": router, "num_pages": pages[0], "page_size": pages[1]}
    engine = serve.deployment(EngineActor).options(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 0, "resources": dict(resources or {})},
        # The group bounds what is on its way; Ray's own bound of 5 would starve a batch.
        max_ongoing_requests=100_000,
        request_router_config=RequestRouterConfig(
            request_router_class=CourseRouter, request_router_kwargs=router_options
        ),
        health_check_period_s=2,
        graceful_shutdown_timeout_s=5,
    )
    return serve.run(engine.bind(make_service), name=NAME, route_prefix=None, _local_testing_mode=local)


def stop() -> None:
    """End the deployment and what `start_ray` started."""
    serve.shutdown()
    ray.shutdown()
