"""Trials of all operators, which take seconds and are run once."""

import pytest
import torch

from helpers.measurements import try_operators


@pytest.fixture(scope="session")
def outcomes():
    """The results of all trials on this machine's CPU."""
    return try_operators(torch.device("cpu"))
