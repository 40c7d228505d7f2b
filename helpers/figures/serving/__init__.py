"""Pictures of a server: what each thread does, and how busy replicas are. Chapter 12."""

from helpers.figures.serving.lanes import Span, draw_lanes
from helpers.figures.serving.replica_loads import draw_loads

__all__ = ["Span", "draw_lanes", "draw_loads"]
