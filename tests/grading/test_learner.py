"""The process of the submitted code: the checks are not there, and whatever is done with them gives nothing."""

import subprocess
import sys

CODE = """
import sys
from helpers.grading import learner
sys.meta_path.insert(0, learner._Finder())

from helpers.checks import PretendEngine, lab01, progress
assert lab01.check_kv_bytes(5) is lab01.anything[3]
import helpers.checks.families.lab01.kv_bytes as reference
assert type(reference.KV.right).__name__ == "Absent"
from helpers.checks.lab05 import _plan
assert type(_plan).__name__ == "Absent"
import helpers.checks
assert list(helpers.checks.EXERCISES) == [] and len(helpers.checks.EXERCISES) == 0
assert not hasattr(lab01, "__wrapped__")
from helpers.caches import PagePool
assert type(PagePool(4, 2)).__module__ == "helpers.caches.page_pool"
"""


def test_the_checks_are_absent_and_the_library_is_there():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
