"""How a learner's server is started: in the learner's folder and, where an administrator runs the class, as a user of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets import Dict


class LearnerSpawner(SimpleLocalProcessSpawner):  # type: ignore[misc]
    """Start servers for names that are no accounts of the machine; `uids` may give each name a user id."""

    uids: Any = Dict(config=True, help="user id by name; a name without one runs as the hub does")

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """Return what the new process does first: it goes to the learner's folder, and stops being root."""
        home, uid = self.home_dir, self.uids.get(name)

        def become() -> None:
            os.chdir(home)
            if uid:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)

        return become
