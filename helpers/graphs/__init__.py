"""Passes captured once and replayed on an NPU. Chapter 9."""

from helpers.graphs.npu_graph import DecodeGraph

__all__ = ["DecodeGraph"]
