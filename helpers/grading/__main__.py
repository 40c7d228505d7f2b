"""The judge's process: cells come as JSON on stdin, verdicts go as JSON to stdout."""

from __future__ import annotations

import json
import sys

from helpers.grading.judge import judge
from helpers.grading.submission import Cell

if __name__ == "__main__":
    print(json.dumps(judge([Cell(**cell) for cell in json.load(sys.stdin)])))
