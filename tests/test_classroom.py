"""A class on this machine: two learners log in, start servers, work on lab 1; nothing of it stays behind."""

import dataclasses
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

pytest.importorskip("jupyterhub", reason="a class needs: pip install -e '.[classroom]' -c constraints.txt")
from tools import notebooks as nbs
from tools.classroom import folder as folders
from tools.classroom import hub, identity, measure
from tools.classroom.client import ClassroomError, Learner
from tools.classroom.folder import Classroom
from tools.classroom.spawner import LearnerSpawner

PASSWORD = "heron-lake"
COMMAND = [sys.executable, str(nbs.ROOT / "tools" / "classroom")]
RIGHT = """
def kv_bytes(shape, batch_size, seq_len, element_size):
    return 2 * batch_size * seq_len * shape.num_layers * shape.num_kv_heads * shape.head_dim * element_size
"""
ARTICLE = RIGHT.replace("shape.num_kv_heads * shape.head_dim", "shape.hidden_size")
CHECK = "from helpers.checks import lab01\nlab01.check_kv_bytes(kv_bytes)\n"
WHERE = "import os\nprint(os.getcwd(), os.environ['OMP_NUM_THREADS'])"


def classroom(*words, **options):
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_DATA"}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


class School:
    """A running class, as its instructor sees it."""

    def __init__(self, root):
        self.root, self.told = root, {}
        self.process = classroom(root, "--learners", 2, "--port", 0, "--password", PASSWORD)
        # A hub that hangs must not hang the tests.
        timer = threading.Timer(600, self.process.kill)
        timer.start()
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            word, _, rest = line.partition(": ")
            self.told[word] = rest.strip()
            if line.startswith("Ctrl+C"):
                break
        timer.cancel()
        assert "open" in self.told, "".join(self.said) + self.log()
        self.learners = [Learner(self.told["open"], name) for name in ("learner01", "learner02")]

    def log(self):
        file = self.root / "hub" / "hub.log"
        return file.read_text() if file.exists() else ""

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=300)
        return self.process.returncode


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    opened = School(tmp_path_factory.mktemp("school"))
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda learner: (learner.log_in(PASSWORD), learner.start()), opened.learners))
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.end()


def test_two_learners_work_on_lab_1_each_for_themselves(school):
    def work(learner, answer):
        kernel = learner.open(measure.LAB)
        try:
            said = learner.run(kernel, answer + CHECK)
        except ClassroomError as error:
            said = str(error)
        return said, learner.run(kernel, WHERE)

    with ThreadPoolExecutor() as pool:
        ada, bob = pool.map(work, school.learners, (RIGHT, ARTICLE))
    assert ada[0] == "Exercise 1.2, mend the KV cache formula: done.\n"
    assert "Exercise 1.2, mend the KV cache formula: the value is wrong" in bob[0]
    allowed = hub.threads(os.cpu_count(), 2)
    for (_, where), name in zip((ada, bob), ("learner01", "learner02"), strict=True):
        assert where == f"{school.root}/learners/{name}/course/labs {allowed}\n"
    records = [path.relative_to(school.root).parts[1] for path in school.root.rglob("progress.json")]
    assert records == ["learner01"]  # who has done something, in a folder of her own


def test_a_learner_gets_the_course_without_solutions_and_without_the_library(school):
    copy = school.root / "learners" / "learner01" / "course"
    assert {path.name for path in copy.glob("labs/*")} == {
        p.name for p in (nbs.ROOT / "labs").glob("*.ipynb")
    }
    assert {path.name for path in copy.iterdir()} == {".git", "README.md", "docs", "labs", "notebooks"}
    assert not (copy / "notebooks" / "src").exists()


def test_who_is_refused(school):
    ada, _ = school.learners
    with pytest.raises(ClassroomError, match="not let in"):
        Learner(ada.url, "learner01").log_in(PASSWORD + "s")
    with pytest.raises(ClassroomError, match="not let in"):
        Learner(ada.url, "mallory").log_in(PASSWORD)
    with pytest.raises(ClassroomError, match="not let in"):
        Learner(ada.url, "instructor").log_in(PASSWORD)
    with pytest.raises(ClassroomError, match="403"):
        ada.server("GET", "api/contents", of="learner02")


def test_the_pull_link_brings_corrections_and_keeps_work(school):
    room, ada = Classroom.read(school.root), school.learners[0]
    copy = room.home("learner01") / "course"
    (copy / "labs" / "mine.txt").write_text("my work")
    (room.handout / "README.md").write_text("corrected")
    room._git("commit", "--quiet", "--all", "--message", "a correction")
    link = urlsplit(school.told["pull link"])
    assert link.path == "/hub/user-redirect/git-pull"
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    said = ada.server("GET", f"git-pull/api?{urlencode(query)}")
    assert '"phase": "finished"' in said, said
    assert (copy / "README.md").read_text() == "corrected"
    assert (copy / "labs" / "mine.txt").read_text() == "my work"
    page = query["urlpath"].removeprefix("lab/tree/")
    assert ada.server("GET", f"api/contents/{page}?content=0")["type"] == "notebook"


def test_a_broken_copy_is_made_anew_and_the_old_one_kept(school):
    home = school.root / "learners" / "learner02"
    lab = home / "course" / "labs" / "01_memory_math.ipynb"
    lab.write_text("broken")
    done = subprocess.run(
        [*COMMAND, str(school.root), "--reset", "learner02"], capture_output=True, text=True, check=True
    )
    (kept,) = home.glob("course-until-*")
    assert str(kept) in done.stdout
    assert (kept / "labs" / lab.name).read_text() == "broken"
    assert lab.read_bytes() == (nbs.ROOT / "labs" / lab.name).read_bytes()
    assert school.learners[1].server("GET", "api/contents/course/labs")["type"] == "directory"


def test_passwords_are_their_owners_alone(school):
    assert stat.S_IMODE((school.root / "hub").stat().st_mode) == 0o700
    assert stat.S_IMODE((school.root / "hub" / "jupyterhub_config.py").stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_what_learners_cost_is_measured_and_nothing_stays_behind(school):
    before = measure.class_bytes(school.root)
    servers = measure.processes(school.root)
    assert len(servers) >= 6  # the command, hub, proxy, two servers, a kernel or more
    assert before > 100 * 2**20
    assert school.end() == 128 + signal.SIGTERM
    end = time.monotonic() + 200  # a kernel looks once a second whether its server is there
    while (left := measure.processes(school.root)) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == []


# Without a hub.


def test_kernels_share_the_cores():
    assert [hub.threads(16, learners) for learners in (1, 4, 5, 16, 30)] == [16, 4, 3, 1, 1]
    for cores, learners in ((16, 4), (2, 2), (64, 30), (7, 3)):
        assert learners * hub.threads(cores, learners) <= cores
    own = hub.variables(16, 30, nbs.ROOT)
    assert {own[name] for name in hub.POOLS} == {"1"}


def test_a_class_listens_on_this_machine_alone_unless_told_otherwise():
    from tools.classroom import __main__ as command

    assert command.command_line().parse_args(["x"]).ip == "127.0.0.1"


def test_the_printed_address_is_one_that_other_machines_can_open():
    from tools.classroom import __main__ as command

    room = Classroom(Path("/home/you/class"), 2)
    at = hub.door("0.0.0.0", 9000, PASSWORD)
    said = command.words(room, at, {"OMP_NUM_THREADS": "1"})
    assert f"http://{socket.gethostname()}:9000" in said
    assert "0.0.0.0" not in said
    assert at.url == "http://0.0.0.0:9000"
    assert hub.door("127.0.0.1", 9000, PASSWORD).shown == "http://127.0.0.1:9000"


def test_a_learners_link_is_not_written_through(tmp_path):
    Classroom(tmp_path, 1).prepare()
    room = Classroom.read(tmp_path)
    settings, theirs = room.home("learner01") / ".gitconfig", tmp_path / "theirs.txt"
    theirs.write_text("theirs")
    settings.unlink()
    settings.symlink_to(theirs)
    room.reset("learner01")
    assert theirs.read_text() == "theirs"
    assert not settings.is_symlink()
    assert str(room.handout) in settings.read_text()


def test_costs_are_those_of_one_more_learner():
    step = {"server": [1.0, 2.0, 3.0]}
    costs = measure.Costs(50, step, {"server": [150, 230, 310]})
    assert costs.each("server") == 80
    assert costs.of_class("server", 30) == 150 + 29 * 80
    assert costs.of_class("server", 3) == 310
    assert measure.Costs(50, step, {"server": [150]}).each("server") == 100


def test_the_workshops_table_is_what_was_measured():
    kept = json.loads((nbs.ROOT / "benchmarks" / "results" / "classroom.json").read_text())
    costs = measure.Costs(*(kept[field.name] for field in dataclasses.fields(measure.Costs)))
    page = (nbs.ROOT / "docs" / "workshop.md").read_text()
    rows = re.findall(r"^\| ([\w ]+) \| (\d+) \| (\d+\.\d) \|$", page, re.MULTILINE)
    assert [step for step, *_ in rows] == list(measure.STEPS)
    for step, each, whole in rows:
        assert each == f"{costs.each(step) / 2**20:.0f}"
        assert whole == f"{costs.of_class(step, 30) / 2**30:.1f}"
        assert kept["bytes of a class of 30"][step] == costs.of_class(step, 30)
        assert len(costs.seconds[step]) == 3
    assert kept["environment"]["processor"] in page
    assert f"{kept['environment']['cpus']} cores" in page


def test_the_pages_link_is_the_one_that_is_printed():
    page = (nbs.ROOT / "docs" / "workshop.md").read_text()
    room = Classroom(Path("/home/you/class"), 30)
    assert hub.pull_link(room, "http://127.0.0.1:8000") in page.splitlines()


def test_what_is_no_class_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="1 to 99 learners, not 100"):
        Classroom(tmp_path, 100)
    with pytest.raises(ValueError, match="no class in"):
        Classroom.read(tmp_path)
    room = Classroom(tmp_path, 2)
    with pytest.raises(ValueError, match="learner03 is not one of learner01 to learner02"):
        room.reset("learner03")
    with pytest.raises(ValueError, match="no copy yet"):
        room.reset("learner01")
    assert list(tmp_path.iterdir()) == []
    done = subprocess.run([*COMMAND, str(tmp_path), "--update"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("classroom: there is no class in")


def test_a_second_start_keeps_what_learners_wrote(tmp_path):
    Classroom(tmp_path, 2).prepare()
    mine = tmp_path / "learners" / "learner01" / "course" / "labs" / "01_memory_math.ipynb"
    mine.write_text("my work")
    room = Classroom.read(tmp_path)
    assert room.publish() is False
    room.prepare()
    assert mine.read_text() == "my work"


def test_what_the_course_no_longer_has_leaves_the_handout(tmp_path, monkeypatch):
    room = Classroom(tmp_path, 1)
    room.prepare()
    monkeypatch.setattr(folders, "HANDED_OUT", ("README.md",))
    assert room.publish() is True
    assert room._git("ls-files") == "README.md\n"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user"
)
def test_as_root_a_learners_server_runs_as_a_user_of_its_own(tmp_path):
    tmp_path.chmod(0o755)
    spawner = LearnerSpawner(uids={"ada": identity.FIRST_UID}, home_dir="/")
    seen = [
        subprocess.check_output(["id", "-u"], preexec_fn=spawner.make_preexec_fn(name), text=True)
        for name in ("ada", "bob")
    ]
    assert seen == [f"{identity.FIRST_UID}\n", "0\n"]


def test_servers_run_as_one_user_where_another_could_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(identity, "unreadable", lambda paths, uid: "the cache")
    number, sentence = identity.first_uid(tmp_path, tmp_path, False)
    assert (number, "the cache" in sentence) == (0, True)
    monkeypatch.setattr(identity, "unreadable", lambda paths, uid: "")
    assert identity.first_uid(tmp_path, tmp_path, False)[0] == identity.FIRST_UID
    assert identity.first_uid(tmp_path, tmp_path, True)[0] == 0
