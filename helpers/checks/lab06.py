"""Checks of lab 6, paged attention."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab06.append import APPEND
from helpers.checks.families.lab06.gather import GATHER
from helpers.checks.families.lab06.size import SIZE
from helpers.checks.machinery.core import exercise, require_callable, require_number
from helpers.checks.machinery.family import check_family, seed
from helpers.checks.machinery.pool_story import PoolStory, random_story

LAB = "06_paged_attention"
_STORIES = 16


@exercise(LAB, 1, "predict the pages")
def check_pages(answer: Any) -> None:
    """Check `answer`: pages of 16 slots in use, for a prompt of 100 tokens in three requests that write 30
    tokens more each.
    """
    full, each = 100 // 16, -(-130 // 16)
    right = full + 3 * (each - full)
    mistakes: dict[str, float | tuple[float, ...]] = {
        "Is anything shared? The prompt's full pages are in all three tables.": 3 * each,
        "The last of the three to write into the shared page need not copy it. Whose is it then?": right + 1,
        "Some of the prompt's tokens lie in a page that is not full. Who needs them, and in which page?": (
            full + 3 * 2, full + 1 + 3 * 2,
        ),
        "That is the table of one request. There are three.": each,
        "Those are tokens divided by 16. Can two requests write into one page?": (
            -(-390 // 16), 390 / 16, 190 / 16,
        ),
    }  # fmt: skip
    require_number(answer, right, mistakes=mistakes, reveal=False)


@exercise(LAB, 2, "append without over-allocating")
def check_append(answer: Any) -> None:
    """Check that `answer(table, length, new, page_size, free)` returns the table with room for the new
    tokens.
    """
    check_family(answer, APPEND)


@exercise(LAB, 3, "gather by block table")
def check_gather(answer: Any) -> None:
    """Check that `answer(cache, table, length)` returns keys `[length, kv_heads, head_dim]` in the order of
    the tokens.
    """
    check_family(answer, GATHER)


@exercise(LAB, 4, "copy on write")
def check_copy_on_write(answer: Any) -> None:
    """Check that `answer(num_pages, page_size)` makes a pool with start, append, fork, read, free, `refs` and
    `tables`.
    """
    require_callable(answer)
    stories = [
        "start A|append A 6|fork A B|append B 1|append A 1|append B 4|free A|append B 1|free B",
        "start A|append A 4|fork A B|append A 1|append B 1|free B|append A 3|free A",
        "start A|append A 5|fork A B|free A|append B 2|free B",
        "start A|append A 2|fork A B|fork A C|fork B D|append D 1|append A 1|append C 1|append B 1|append D 3|free A|free C",
        "start A|append A 1|fork A B|append B 1|free B|start C|append C 6|append A 4",
        "start A|fork A B|append A 1|append B 2|free A|free B",
        "start A|append A 5|start B|append B 1|free A|fork B A|append A 1|free B|append A 4",
    ]
    for story in [*stories, *(random_story(seed() + number) for number in range(_STORIES))]:
        PoolStory(answer, story.split("|")).play()


@exercise(LAB, 5, "find the page size")
def check_page_size(answer: Any) -> None:
    """Check that `answer(lengths, shared, sizes, most_wasted)` returns the largest size with an acceptable
    waste, or None.
    """
    check_family(answer, SIZE)
