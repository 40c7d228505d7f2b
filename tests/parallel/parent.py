"""A program that starts ranks, tells their numbers, and is ended from outside: `python -m tests.parallel.parent`."""

from helpers.parallel import Ranks
from tests.parallel import functions


def main() -> None:
    with Ranks(2) as ranks:
        ranks.run(functions.total, 1)
        print(*ranks.pids, ranks._folder, flush=True)
        ranks.run(functions.waits)


if __name__ == "__main__":
    main()
