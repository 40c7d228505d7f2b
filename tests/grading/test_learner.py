"""The process of the submitted code: the checks are not there, and whatever is done with them gives nothing."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.argv = ["learner"]
from helpers.grading import learner
sys.meta_path.insert(0, learner._Finder())
"""


@pytest.mark.parametrize(
    "code",
    [
        "from helpers.checks import lab01, progress; assert lab01.check_kv_bytes(5) is lab01.anything[3]",
        "import helpers.checks.families.lab01.kv_bytes as k; assert type(k).__name__ == 'Absent'",
        "from helpers.checks.lab05 import _plan; assert type(_plan).__name__ == 'Absent'",
        "import helpers.checks; assert list(helpers.checks.EXERCISES) == [] and len(helpers.checks.EXERCISES) == 0",
        "from helpers.checks import PretendEngine\nfor word in PretendEngine: print(word)",
        "import helpers.checks as c\nassert not hasattr(c, '__wrapped__')",
        "from helpers.caches import PagePool; assert PagePool(4, 2)",
    ],
)
def test_the_checks_are_absent_and_the_library_is_there(code):
    done = subprocess.run([sys.executable, "-c", CODE + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
