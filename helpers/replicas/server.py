"""The server with several engines as a program."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from functools import partial

from helpers.engine.routing import ROUTERS
from helpers.model import checkpoint
from helpers.replicas.service import make_group_service
from helpers.serving.app import Service
from helpers.serving.metrics import ServerMetrics
from helpers.serving.prompts import Prompts
from helpers.serving.server import DTYPES, command_line, parse, run, service_of, size, sizes_of

_SECONDS = 120.0


def main(words: Sequence[str] | None = None) -> int:
    """Serve the course's model with several engines until a signal comes; return an exit status."""
    options = parse(words, replica_command_line())
    return run(options, service_in_process if options.in_process else service_on_ray)


def replica_command_line() -> argparse.ArgumentParser:
    """Return the parser of the server's options, with those of replicas."""
    parser = command_line()
    parser.add_argument("--replicas", type=size, default=2, help="engines (default: 2)")
    parser.add_argument(
        "--router", choices=ROUTERS, default="bounded-prefix", help="which engine is next (bounded-prefix)"
    )
    parser.add_argument("--in-process", action="store_true", help="engines are threads here, without Ray")
    parser.add_argument("--ray-address", help="a running cluster (default: one is started on this machine)")
    parser.add_argument(
        "--resources", type=_resources, default={}, help='what each engine takes of Ray: {"NPU": 1}'
    )
    return parser


def service_in_process(options: argparse.Namespace) -> Service:
    """Return a service whose engines are threads that share one model's weights."""
    loaded = checkpoint.load(DTYPES[options.dtype], options.device)
    return make_group_service(
        loaded.model, loaded.tokenizer, checkpoint.locate().name, options.replicas, options.router,
        max_waiting=options.max_waiting, **sizes_of(options),
    )  # fmt: skip


def service_on_ray(options: argparse.Namespace) -> Service:
    """Return a service whose engines are actors of Ray Serve; closing its loop ends the actors.

    Raises RuntimeError where Ray is missing or does not start.
    """
    try:
        from helpers.replicas.on_ray.deployment import deploy, start_ray, stop
        from helpers.replicas.on_ray.group import RayGroup
    except ModuleNotFoundError as error:
        remedy = "python3 course.py serve --replicas 2 makes an environment with Ray; --in-process needs none"
        raise RuntimeError(f"{error}; {remedy}") from None
    # Engines that each took all cores would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.replicas)))
    start_ray(options.ray_address)
    try:
        pages = (options.pages, options.page_size)
        make = partial(service_of, options)
        handle = deploy(make, options.replicas, options.router, pages, options.resources)
        serves = handle.serves.remote().result(timeout_s=_SECONDS)
        metrics, prompts = ServerMetrics(serves.model), Prompts(checkpoint.load_tokenizer())
    except BaseException:
        stop()
        raise
    capacity = options.replicas * (options.max_batch_size + options.max_waiting)
    return Service(RayGroup(handle, capacity, metrics, stop), serves, prompts, metrics)


def _resources(word: str) -> dict[str, float]:
    """Return what an actor takes, from JSON."""
    try:
        found = json.loads(word)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(n, int | float) and n >= 0 for n in found.values()):
        raise argparse.ArgumentTypeError(f'expected names and numbers, such as {{"NPU": 1}}, got {word}')
    return found
