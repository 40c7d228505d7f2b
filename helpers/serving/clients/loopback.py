"""A server at this machine's own address, in a thread, for the time of a block."""

from __future__ import annotations

import signal
import threading
import time
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

from helpers.serving.app import Service
from helpers.serving.server import Server, address, bind

_START_SECONDS = 30.0


class Loopback:
    """Serve a service, or any other application, on a free port of this machine: `start`, then `close`.

    A `with` block does both. After `close` nothing listens, no thread of the server runs, and the service's
    engine is closed; what ran could finish for `grace` seconds.
    """

    def __init__(self, served: Service | ASGIApp, grace: float = 5.0):
        """Prepare a server; it does not listen yet."""
        self._service = served if isinstance(served, Service) else None
        self._server: uvicorn.Server = (
            Server(served, grace=grace) if isinstance(served, Service) else _plain(served, grace)
        )
        self.url = ""
        """The address, such as `http://127.0.0.1:40001`; known after the start."""
        self._thread: threading.Thread | None = None

    def start(self) -> Loopback:
        """Listen; return this object. Raises RuntimeError when the server does not start."""
        taken = bind("127.0.0.1", 0)
        self.url = address(taken)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [taken]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start; see its log")
            time.sleep(0.005)
        return self

    def close(self) -> None:
        """End the server as a signal would, and wait for its end. Closing again changes nothing."""
        if self._thread is not None:
            self._server.handle_exit(signal.SIGTERM, None)
            self._thread.join()
            self._thread = None
        if self._service is not None:
            self._service.loop.close()

    def __enter__(self) -> Loopback:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def _plain(app: ASGIApp, grace: float) -> uvicorn.Server:
    """Return a server for an application without an engine of its own."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, http="h11", ws="none", lifespan="off",
        timeout_graceful_shutdown=max(1, int(grace)), server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)
