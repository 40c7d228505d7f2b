"""The engine on paper and on a virtual clock: the same scheduler and pool, no tensors. Chapters 5, 6, 8 and 11."""

from helpers.simulation.calibration import calibrate, calibration_run, whole_passes
from helpers.simulation.collective_times import Wire
from helpers.simulation.disaggregation import DecodeNodeTime, simulate_disaggregated
from helpers.simulation.expert_time import ExpertParallelTime
from helpers.simulation.occupancy import Occupancy, replay_occupancy
from helpers.simulation.paper_model import PaperModel, serve_on_paper
from helpers.simulation.paper_pages import PaperPages
from helpers.simulation.parallel_time import PipelineTime, TensorParallelTime, stage_shares
from helpers.simulation.pass_time import FittedTime, Load, PassTime, RooflineTime, pass_cost
from helpers.simulation.replicas import simulate, simulate_replicas, together
from helpers.simulation.scattered_time import ScatteredTime
from helpers.simulation.simulator import SimulatedEngine
from helpers.simulation.sweeps import Setting, sweep

__all__ = [
    "DecodeNodeTime",
    "ExpertParallelTime",
    "FittedTime",
    "Load",
    "Occupancy",
    "PaperModel",
    "PaperPages",
    "PassTime",
    "PipelineTime",
    "RooflineTime",
    "ScatteredTime",
    "Setting",
    "SimulatedEngine",
    "TensorParallelTime",
    "Wire",
    "calibrate",
    "calibration_run",
    "pass_cost",
    "replay_occupancy",
    "serve_on_paper",
    "simulate",
    "simulate_disaggregated",
    "simulate_replicas",
    "stage_shares",
    "sweep",
    "together",
    "whole_passes",
]
