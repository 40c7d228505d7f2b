"""A class's folder: what is handed out, as a git repository, and a copy of it for each learner."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDED_OUT = ("README.md", "docs/**/*", "labs/*.ipynb", "notebooks/*.ipynb")
"""What learners get; the library stays where it is, and solutions stay with the instructor."""
COPY = "course"
"""The name of the copy in a learner's folder."""
MOST = 99


class Classroom:
    """A class of `learners` people in one folder; `first_uid` 0 means that all servers run as one user."""

    def __init__(self, folder: Path, learners: int, first_uid: int = 0):
        """Keep the sizes; nothing is written. Raises ValueError for a number of learners that is not 1 to 99."""
        if not 1 <= learners <= MOST:
            raise ValueError(f"a class has 1 to {MOST} learners, not {learners}")
        self.folder, self.first_uid = folder.absolute(), first_uid
        self.names = [f"learner{number:02}" for number in range(1, learners + 1)]
        self.handout, self.hub = self.folder / "handout", self.folder / "hub"

    @classmethod
    def read(cls, folder: Path) -> Classroom:
        """Return the class that was opened in a folder. Raises ValueError where there is none."""
        file = folder / "class.json"
        if not file.exists():
            raise ValueError(f"there is no class in {folder}; start one with --learners")
        return cls(folder, **json.loads(file.read_text()))

    def prepare(self) -> None:
        """Make whatever is missing: folders, handout, copies. What learners have written stays."""
        for folder in (self.folder, self.hub, self.folder / "learners"):
            folder.mkdir(parents=True, exist_ok=True)
        self.hub.chmod(0o700)
        settings = {"learners": len(self.names), "first_uid": self.first_uid}
        (self.folder / "class.json").write_text(json.dumps(settings))
        self.publish()
        for name in self.names:
            if not (self.home(name) / COPY).exists():
                self._copy(name)

    def publish(self) -> bool:
        """Take the course's notebooks over into the handout; return whether there was anything new."""
        self.handout.mkdir(exist_ok=True)
        if not (self.handout / ".git").exists():
            self._git("init", "--quiet", "--initial-branch=main")
        self._git("rm", "-r", "--quiet", "--ignore-unmatch", "--cached", ".")
        for path in _handed_out():
            target = self.handout / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            self._git("add", str(target))
        changed = self._git("status", "--porcelain", "--untracked-files=no") != ""
        if changed:
            self._git("commit", "--quiet", "--message", time.strftime("Handed out %Y-%m-%d %H:%M:%S"))
        return changed

    def reset(self, name: str) -> Path:
        """Give a learner a fresh copy; return the dated folder that holds the old one.

        Raises ValueError for a name that is not one of the class, and where there is nothing to keep.
        """
        if name not in self.names:
            raise ValueError(f"{name} is not one of {self.names[0]} to {self.names[-1]}")
        copy = self.home(name) / COPY
        if not copy.exists():
            raise ValueError(f"{name} has no copy yet; a start of the class makes one")
        kept = copy.with_name(f"{COPY}-until-{time.strftime('%Y-%m-%d-%H%M%S')}")
        copy.rename(kept)
        self._copy(name)
        return kept

    def home(self, name: str) -> Path:
        """Return a learner's folder."""
        return self.folder / "learners" / name

    def uid(self, name: str) -> int:
        """Return the user id of a learner's server; 0 stands for the instructor's own."""
        return self.first_uid + self.names.index(name) if self.first_uid else 0

    def _copy(self, name: str) -> None:
        """Clone the handout into a learner's folder, which belongs to the learner's user id."""
        home = self.home(name)
        home.mkdir(mode=0o700, exist_ok=True)
        # git serves a repository to its owner alone, unless the reader says that it may be trusted.
        trusted = f"[safe]\n\tdirectory = {self.handout}/.git\n\tdirectory = {self.handout}\n"
        _write_anew(home / ".gitconfig", trusted)
        self._git("clone", "--quiet", self.handout.as_uri(), str(home / COPY))
        if uid := self.uid(name):
            for folder, _, files in os.walk(home):
                for path in (folder, *(os.path.join(folder, file) for file in files)):
                    os.lchown(path, uid, uid)

    def _git(self, *words: str) -> str:
        """Return what git prints, run in the handout."""
        own = ["-c", "user.name=course", "-c", "user.email=course@localhost"]
        command = ["git", "-C", str(self.handout), *own, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _write_anew(path: Path, text: str) -> None:
    """Write a new file in place of whatever has its name; a link there is deleted and never followed."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o644), "w") as file:
        file.write(text)


def _handed_out() -> Iterator[Path]:
    """Yield the files that learners get."""
    for pattern in HANDED_OUT:
        yield from (path for path in sorted(ROOT.glob(pattern)) if path.is_file())
