"""A server for the time of a block: nothing listens and no thread runs afterwards."""

import socket
import threading

import httpx
import pytest
from fastapi import FastAPI

from helpers.serving import make_service
from helpers.serving.clients import Loopback, call, completion
from tests.serving.service import NAME, SIZES, model, tokenizer


def listens(url):
    """Whether a connection can be made."""
    try:
        socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), 1).close()
    except OSError:
        return False
    return True


def test_a_service_lives_for_the_time_of_the_block():
    before = set(threading.enumerate())
    service = make_service(model(), tokenizer(), NAME, **SIZES)
    with Loopback(service) as server:
        assert call(server.url, completion("Hello", 3)).ok
        assert listens(server.url)
    assert not listens(server.url)
    assert set(threading.enumerate()) <= before
    assert service.loop.engine.cache.used_pages == 0


def test_any_application_is_served_and_closing_again_changes_nothing():
    app = FastAPI()
    app.get("/health")(lambda: "well")
    server = Loopback(app).start()
    assert httpx.get(server.url + "/health").json() == "well"
    server.close()
    server.close()
    assert not listens(server.url)


def test_it_ends_when_the_block_raises():
    service = make_service(model(), tokenizer(), NAME, **SIZES)
    with pytest.raises(KeyError), Loopback(service) as server:
        raise KeyError
    assert not listens(server.url)
    assert not service.loop.alive
