"""What a clock says: the profiler, times of operators, a machine's limits, a device's report. Chapter 2."""

from helpers.measurements import device_report, environment, host_limits, operator_trials
from helpers.measurements.device_report import (
    cann_version,
    failures,
    report,
    scrub,
    summary,
    time_model,
    write,
)
from helpers.measurements.environment import environment_report
from helpers.measurements.host_limits import host_ceilings, measure_bandwidth, measure_flops
from helpers.measurements.operator_times import OperatorBreakdown, profile_operators
from helpers.measurements.operator_trials import TrialResult, run_trial, trials, try_operators
from helpers.measurements.profiling import GenerationProfile, InferenceProfiler
from helpers.measurements.trial import TOLERANCE, Trial

__all__ = [
    "TOLERANCE",
    "GenerationProfile",
    "InferenceProfiler",
    "OperatorBreakdown",
    "Trial",
    "TrialResult",
    "cann_version",
    "device_report",
    "environment",
    "environment_report",
    "failures",
    "host_ceilings",
    "host_limits",
    "measure_bandwidth",
    "measure_flops",
    "operator_trials",
    "profile_operators",
    "report",
    "run_trial",
    "scrub",
    "summary",
    "time_model",
    "trials",
    "try_operators",
    "write",
]
