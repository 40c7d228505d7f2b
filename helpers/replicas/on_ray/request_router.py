"""Ray Serve's question which replica gets a request, answered by the routers that the simulator uses."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from helpers.engine.routing import named_router
from helpers.replicas.accounts import Accounts


class CourseRouter(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray is not there for the type check
    """Route calls `(request, samples)` by a router of the course.

    An object of this class lives in each process that holds a handle, and knows what that process sent. Its
    arguments come as `request_router_kwargs`. `FIFOMixin` stands first: without it, Ray gives a waiting
    request the replica that was chosen for another one. Written for Ray 2.60, where this interface is alpha.
    """

    def initialize_state(
        self, router: str = "bounded-prefix", num_pages: int = 512, page_size: int = 16
    ) -> None:
        """Begin with the router of that name; the sizes are those of each replica's cache."""
        self.accounts = Accounts(named_router(router), num_pages, page_size)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas as ranks of one: the chosen replica first, then from the least load on.

        A call that asks for no answer may go to any replica.
        """
        if pending_request is None or not pending_request.args or not candidate_replicas:
            return [candidate_replicas]
        # An order of its own: Ray's order changes when a replica is replaced.
        there = sorted(candidate_replicas, key=lambda replica: str(replica.replica_id))
        request, samples = pending_request.args[:2]
        names = [replica.replica_id for replica in there]
        call = pending_request.metadata.internal_request_id
        named = there[self.accounts.choose(call, request, samples, names)]
        others = [replica for replica in there if replica is not named]
        others.sort(key=lambda replica: self.accounts[replica.replica_id].tokens_asked)
        return [[replica] for replica in (named, *others)]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Note where a call for answers went."""
        if not pending_request.args:
            return
        request, samples = pending_request.args[:2]
        self.accounts.sent(pending_request.metadata.internal_request_id, request, samples, replica_id)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Note that a call has ended."""
        self.accounts.ended(internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Forget the replicas that are gone."""
        self.accounts.keep([replica.replica_id for replica in replicas])
        super().update_replicas(replicas)
