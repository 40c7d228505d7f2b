"""Requests over time: lengths, traces, clocks, replay, outcomes, reports. Chapters 5 and 8."""

from helpers.traffic.clock import VirtualClock, WallClock
from helpers.traffic.lengths import Lengths, Mix, stream
from helpers.traffic.outcome import Outcome
from helpers.traffic.predictions import KnownLength, PredictedLength
from helpers.traffic.public_trace import load_csv, load_mooncake, load_sharegpt, load_trace
from helpers.traffic.replay import Batcher, Coming, Next, replay_trace
from helpers.traffic.report import Metric, Objective, Report, jain, max_min
from helpers.traffic.served import Run, Served
from helpers.traffic.trace import Arrival, Trace
from helpers.traffic.workload import bursty, diurnal, multi_turn, poisson, shared_prefix, with_caps

__all__ = [
    "Arrival",
    "Batcher",
    "Coming",
    "KnownLength",
    "Lengths",
    "Metric",
    "Mix",
    "Next",
    "Objective",
    "Outcome",
    "PredictedLength",
    "Report",
    "Run",
    "Served",
    "Trace",
    "VirtualClock",
    "WallClock",
    "bursty",
    "diurnal",
    "jain",
    "load_csv",
    "load_mooncake",
    "load_sharegpt",
    "load_trace",
    "max_min",
    "multi_turn",
    "poisson",
    "replay_trace",
    "shared_prefix",
    "stream",
    "with_caps",
]
