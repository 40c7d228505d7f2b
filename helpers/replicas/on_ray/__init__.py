"""Replicas on Ray Serve, in the environment that `course.py serve --replicas` makes. Chapter 12.

Read in this order: `engine_actor` (one engine in an actor), `request_router` (which actor), `group` (the
actors in place of one engine loop), `deployment` (how they start).
"""

from helpers.replicas.on_ray.deployment import deploy, start_ray, stop
from helpers.replicas.on_ray.engine_actor import EngineActor
from helpers.replicas.on_ray.group import Deadline, RayGroup, Stream
from helpers.replicas.on_ray.request_router import CourseRouter

__all__ = ["CourseRouter", "Deadline", "EngineActor", "RayGroup", "Stream", "deploy", "start_ray", "stop"]
