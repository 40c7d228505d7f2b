"""The hub of a class: its configuration, written as a file that can be read, and its start and end."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.classroom.folder import COPY, ROOT, Classroom

FIRST_PAGE = f"/lab/tree/{COPY}/notebooks/00_start_here.ipynb"
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""The variables by which numerical libraries are told how many threads a process may have."""
# What a learner has no use for, though the instructor's environment may have it, and what takes seconds to start.
UNUSED = [
    f"nbgrader.server_extensions.{name}"
    for name in ("formgrader", "validate_assignment", "assignment_list", "course_list")
]
UNUSED += ["jupyter_lsp"]
PASSED_ON = ("COURSE_DEVICE", "COURSE_MODEL", "COURSE_CHECK_PROCESS")


@dataclass(frozen=True)
class Door:
    """Where a class is reached, and with which passwords."""

    ip: str
    port: int
    password: str
    admin_password: str

    @property
    def url(self) -> str:
        """Return the address on which the class listens, without a slash at its end."""
        return f"http://{self.ip}:{self.port}"

    @property
    def shown(self) -> str:
        """Return the address that a learner's browser opens: with this machine's name where it listens on all addresses."""
        return f"http://{socket.gethostname()}:{self.port}" if self.ip == "0.0.0.0" else self.url


def door(ip: str, port: int, password: str) -> Door:
    """Return a door; port 0 stands for any that is free, and an empty password for a random one."""
    return Door(ip, port or free_port(), password or secrets.token_hex(5), secrets.token_urlsafe(32))


def threads(cores: int, learners: int) -> int:
    """Return how many threads a kernel may use, so that all kernels together have about one a core."""
    return max(1, cores // learners)


def variables(cores: int, learners: int, cache: Path) -> dict[str, str]:
    """Return what each server, and so each kernel, has in its environment."""
    return {
        **dict.fromkeys(POOLS, str(threads(cores, learners))),
        "COURSE_CACHE": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",  # all learners share the library, and no process writes beside it
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }


def configuration(room: Classroom, at: Door, own: Mapping[str, str]) -> dict[str, Any]:
    """Return JupyterHub's settings by name."""
    hub_port, api_port = free_port(), free_port()
    return {
        "JupyterHub.bind_url": at.url,
        "JupyterHub.hub_bind_url": f"http://127.0.0.1:{hub_port}",
        "JupyterHub.proxy_class": "traefik_file",
        "TraefikFileProviderProxy.traefik_api_url": f"http://127.0.0.1:{api_port}",
        "TraefikFileProviderProxy.traefik_api_username": "hub",
        "TraefikFileProviderProxy.traefik_api_password": secrets.token_hex(16),
        # No question to a server elsewhere: a class may be offline.
        "TraefikFileProviderProxy.extra_static_config": {"global": {"checkNewVersion": False}},
        "JupyterHub.authenticator_class": "shared-password",
        "SharedPasswordAuthenticator.user_password": at.password,
        "SharedPasswordAuthenticator.admin_password": at.admin_password,
        "SharedPasswordAuthenticator.allowed_users": {*room.names},
        "SharedPasswordAuthenticator.admin_users": {"instructor"},
        "JupyterHub.spawner_class": "tools.classroom.spawner.LearnerSpawner",
        "LearnerSpawner.uids": {name: room.uid(name) for name in room.names if room.first_uid},
        "LearnerSpawner.home_dir_template": f"{room.folder}/learners/{{username}}",
        "LearnerSpawner.cmd": [str(Path(sys.executable).parent / "jupyterhub-singleuser")],
        "LearnerSpawner.args": [
            f"--LabApp.app_settings_dir={ROOT / 'tools' / 'jupyterlab'}",
            "--allow-root",
            *(f"--ServerApp.jpserver_extensions={name}=False" for name in UNUSED),
        ],
        "LearnerSpawner.default_url": FIRST_PAGE,
        "LearnerSpawner.environment": dict(own),
        "LearnerSpawner.start_timeout": 180,
        "LearnerSpawner.http_timeout": 180,
    }


def write_configuration(room: Classroom, settings: Mapping[str, Any]) -> Path:
    """Write `hub/jupyterhub_config.py`, which holds passwords and is its owner's alone; return its path."""
    path = room.hub / "jupyterhub_config.py"
    lines = ["import sys", "", f"sys.path.insert(0, {str(ROOT)!r})"]
    lines += [f"c.{name} = {value!r}" for name, value in settings.items()]
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def running(
    room: Classroom, config: Path, url: str, limit: float = 300.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the hub, yield it when it answers, and end it, its proxy and all servers afterwards.

    Raises RuntimeError, which names the log, when it does not answer within `limit` seconds.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    log = room.hub / "hub.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "--config", str(config)], cwd=room.hub,
            env={**os.environ, "PATH": path}, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        _await(process, f"{url}/hub/health", limit, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def pull_link(room: Classroom, url: str, page: str = f"lab/tree/{COPY}/labs/01_memory_math.ipynb") -> str:
    """Return the nbgitpuller link that merges the handout's latest state into a copy and opens a page of it."""
    wanted = {"repo": room.handout.as_uri(), "branch": "main", "targetpath": COPY, "urlpath": page}
    return f"{url}/hub/user-redirect/git-pull?{urlencode(wanted)}"


def free_port() -> int:
    """Return a port of this machine that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await(process: subprocess.Popen[bytes], url: str, limit: float, log: Path) -> None:
    """Wait until a URL answers. Raises RuntimeError when the process ends first, or time is up."""
    end = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the hub does not answer; its log says why: {log}")
