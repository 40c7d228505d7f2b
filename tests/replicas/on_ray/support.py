"""A service of the tiny model, made in an actor's process."""

import os

from helpers.serving import make_service
from tests.replicas.support import model
from tests.serving.service import NAME, SIZES, tokenizer


def make(slow=0.0):
    """The tiny model's service, with passes of a chosen length."""
    return make_service(model(slow), tokenizer(), NAME, **SIZES)


def pid():
    """This process's number."""
    return os.getpid()
