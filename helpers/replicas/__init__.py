"""Several engines behind one address: routing, and answers that outlive a replica. Chapter 12.

Read in this order: `replica` (an engine as a router sees it), `group` (several engines in place of one),
`relay` (an answer's way, across the death of replicas), `service` (a server with several engines).
"""

from helpers.replicas.accounts import Account, Accounts
from helpers.replicas.group import ReplicaGroup
from helpers.replicas.prompt_history import PromptHistory
from helpers.replicas.relay import Relay, Strand
from helpers.replicas.replica import CachingLoop, Replica, Share
from helpers.replicas.server import main, replica_command_line, service_in_process, service_on_ray
from helpers.replicas.service import make_group_service
from helpers.replicas.watched_answers import WatchedAnswers

__all__ = [
    "Account",
    "Accounts",
    "CachingLoop",
    "PromptHistory",
    "Relay",
    "Replica",
    "ReplicaGroup",
    "Share",
    "Strand",
    "WatchedAnswers",
    "main",
    "make_group_service",
    "replica_command_line",
    "service_in_process",
    "service_on_ray",
]
