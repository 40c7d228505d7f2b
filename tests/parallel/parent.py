"""A program that starts ranks, tells their numbers, and is ended from outside: `python -m tests.parallel.parent`.

With the argument `early` the program tells the numbers while the ranks still start.
"""

import sys
import time

from helpers.parallel import Ranks
from tests.parallel import functions


def main() -> None:
    with Ranks(2) as ranks:
        early = "early" in sys.argv
        if not early:
            ranks.run(functions.total, 1)
        print(*ranks.pids, ranks._folder, flush=True)
        if early:
            time.sleep(1000)
        ranks.run(functions.waits)


if __name__ == "__main__":
    main()
