"""What a learner of a class on one machine costs: `python -m benchmarks.classroom`; seconds and memory for three learners.

Each of them starts a server, opens lab 1 and has the model answer. Nothing else should run on the machine.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import record
from helpers.storage import cache_folder
from tools.classroom import hub, measure
from tools.classroom.client import Learner
from tools.classroom.folder import Classroom

LEARNERS, CLASS = 3, 30
PACKAGES = ("jupyterhub", "jupyterhub-traefik-proxy", "jupyterlab", "ipykernel", "torch", "transformers")


def main() -> None:
    """Measure, print the table of a class, and write `results/classroom.json`."""
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        room = Classroom(Path(folder), LEARNERS)
        room.prepare()
        at = hub.door("127.0.0.1", 0, "")
        own = hub.variables(os.cpu_count() or 1, CLASS, cache_folder().absolute())
        config = hub.write_configuration(room, hub.configuration(room, at, own))
        with hub.running(room, config, at.url):
            people = [Learner(at.url, name) for name in room.names]
            costs = measure.measure(room.folder, people, at.password)
    print(measure.report(costs, CLASS))
    reckoned = {step: costs.of_class(step, CLASS) for step in measure.STEPS}
    results = {
        **asdict(costs),
        "threads of a kernel": int(own["OMP_NUM_THREADS"]),
        "load before": os.getloadavg()[0],
    }
    print(record.write("classroom", {**results, f"bytes of a class of {CLASS}": reckoned}, PACKAGES))


if __name__ == "__main__":
    main()
