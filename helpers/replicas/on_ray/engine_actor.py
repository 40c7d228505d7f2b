"""One engine in an actor of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from helpers.engine.request import Request
from helpers.serving.answers import Piece
from helpers.serving.app import Service
from helpers.serving.calls import Serves
from helpers.serving.errors import ApiError


class EngineActor:
    """Run one engine; a deployment of Ray Serve makes as many of these as it has replicas.

    Errors of the server travel as values, not as exceptions: Ray would wrap them.
    """

    def __init__(self, make_service: Callable[[], Service]):
        """Make the service and its engine here, in the actor's process."""
        self._service = make_service()

    async def generate(self, request: Request, samples: int) -> AsyncIterator[Piece | ApiError]:
        """Yield the pieces of `samples` answers to a request, or at last the error that ends them.

        The bound on waiting answers is the caller's. A caller that leaves cancels the answers.
        """
        try:
            answers = self._service.loop.submit([request], samples, admitted=True)
        except ApiError as error:
            yield error
            return
        try:
            async for piece in answers:
                yield piece
        except ApiError as error:
            yield error
        finally:
            answers.close()

    async def serves(self) -> Serves:
        """Return what the engine serves."""
        return self._service.serves

    def check_health(self) -> None:
        """Raise RuntimeError when the engine's thread has ended: Ray then replaces the actor."""
        if not self._service.loop.alive:
            raise RuntimeError("the engine's thread has ended")

    def __del__(self) -> None:
        """End the engine's thread with the actor."""
        service = getattr(self, "_service", None)
        if service is not None:
            service.loop.close()
