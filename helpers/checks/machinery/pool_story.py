"""A learner's pool of pages lives through a story beside the library's, which knows what must come out."""

from __future__ import annotations

import random
from typing import Any, TypeGuard

from helpers.caches.page_pool import PagePool
from helpers.checks.machinery.core import CheckFailed, describe
from helpers.checks.machinery.limit import attempt

SIZES = {"num_pages": 64, "page_size": 4}


def random_story(seed: int) -> str:
    """Return calls in any order that makes sense, such as `start A|append A 2|fork A B`."""
    rng, alive, lines, names = random.Random(seed), ["A"], ["start A"], iter("BCDEFGHIJKLMNOPQRSTUVWXYZ")
    for _ in range(25):
        what = rng.choice(["append"] * 5 + ["fork", "fork", "free", "start"])
        if what == "start" or not alive:
            alive.append(next(names))
            lines.append(f"start {alive[-1]}")
        elif what == "fork" and len(alive) < 5:
            parent, child = rng.choice(alive), next(names)
            alive.append(child)
            lines.append(f"fork {parent} {child}")
        elif what == "free":
            lines.append(f"free {alive.pop(rng.randrange(len(alive)))}")
        else:
            lines.append(f"append {rng.choice(alive)} {rng.randrange(1, 4)}")
    return "|".join(lines)


def _told(lines: list[str]) -> str:
    """Return a story in words."""
    words = {"start": "{0} starts", "append": "{0} appends {1}", "fork": "{0} forks {1}", "free": "{0} ends"}
    parts = (line.split() for line in lines)
    return "; ".join(words[what].format(*rest) for what, *rest in parts)


class PoolStory:
    """Plays one story with a learner's pool. After every call each request reads what is its own, and the counts are right."""

    def __init__(self, answer: Any, lines: list[str]):
        """Make the learner's pool with `answer`. Raise CheckFailed when `answer` makes none."""
        self.lines, self.shown = lines, dict[str, Any]()
        self.truth = PagePool(**SIZES, sharing=False)
        self.texts: dict[str, list[float]] = {}
        self._written = 0
        self.pool = attempt(answer, **SIZES)
        if self.pool is None:
            raise CheckFailed("there is no pool", SIZES, hint="Was a class given?")

    def play(self) -> None:
        """Play the story from beginning to end. Raise CheckFailed where it goes wrong first."""
        for i, line in enumerate(self.lines):
            what, name, *rest = line.split()
            self.shown = {"page_size": SIZES["page_size"], "after": _told(self.lines[max(0, i - 7) : i + 1])}
            if what == "append":
                for _ in range(int(*rest)):
                    self._append(name)
                continue
            getattr(self, f"_{what}")(name, *rest)
            self._call(what, name, *rest)
            self._compare(name, what)
            if what == "free":
                self._require_gone(name)
                self._free_again(name)
        if len(self.texts) > 1:
            self._fork_again(*list(self.texts)[-2:])

    def _append(self, name: str) -> None:
        """Append one more number."""
        self._written += 1
        self.texts[name].append(float(self._written))
        before = {other: list(table) for other, table in self._accounts()[0].items()}
        if self.truth.append_anonymous(name, 1):  # the last page is to be copied
            before[name].pop()
        self.truth.confirm(name)
        self._call("append", name, float(self._written))
        self._compare(name, "append")
        self._compare_tables(before)

    def _start(self, name: str) -> None:
        """Record what a start makes true."""
        self.texts[name] = []
        self.truth.admit(name, [])

    def _fork(self, parent: str, child: str) -> None:
        """Record what a fork makes true."""
        self.texts[child] = list(self.texts[parent])
        self.truth.fork(parent, child)

    def _free(self, name: str) -> None:
        """Record what the end of a request makes true."""
        del self.texts[name]
        self.truth.free(name)

    def _call(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the learner's pool returns."""
        if not callable(getattr(self.pool, method, None)):
            raise CheckFailed(f"the pool has no method {method}", got=describe(self.pool))
        try:
            return attempt(lambda: getattr(self.pool, method)(*arguments))
        except CheckFailed as failure:
            if failure.broken.startswith("not done yet"):
                raise CheckFailed(f"{method}: {failure.broken}") from None
            raise CheckFailed(
                f"{method}: {failure.broken}", self.shown, hint=failure.hint, error=failure.error
            ) from None

    def _require_gone(self, name: str) -> None:
        """Raise CheckFailed unless nothing is left of a request that has ended."""
        for what in ("tables", "lengths"):
            if name in getattr(self.pool, what, {}):
                hint = "A request that has ended has neither a table nor a length. Is one of them left?"
                raise CheckFailed(f"{what} still has {name}", self.shown, hint=hint)

    def _fork_again(self, parent: str, child: str) -> None:
        """Raise CheckFailed unless a fork to a name that is taken raises ValueError and changes nothing."""
        try:
            self._call("fork", parent, child)
        except CheckFailed as failure:
            if not isinstance(failure.error, ValueError):
                hint = "Ask whether there is such a request already, and raise ValueError."
                raise CheckFailed(
                    "a fork to a name that is taken must be refused with ValueError", self.shown, got=failure.broken, hint=hint
                ) from None  # fmt: skip
        else:
            hint = "What becomes of the pages of a request when another one takes its name?"
            raise CheckFailed("a fork took the name of another request", self.shown, hint=hint)
        self._compare(child, "fork")

    def _free_again(self, name: str) -> None:
        """Raise CheckFailed unless a second free of a request raises ValueError and changes nothing."""
        try:
            self._call("free", name)
        except CheckFailed as failure:
            if not isinstance(failure.error, ValueError):
                hint = "Ask whether there is such a request, and raise ValueError."
                raise CheckFailed(
                    "freeing twice must be refused with ValueError", self.shown, got=failure.broken, hint=hint
                ) from None
        else:
            hint = "What happens to pages that are given back twice, when two others take them?"
            raise CheckFailed("a request was freed twice", self.shown, hint=hint)
        self._compare(name, "free")

    def _compare(self, who: str, what: str) -> None:
        """Raise CheckFailed unless each request reads its own numbers, counts are right, and no page too many
        is in use.
        """
        tables, refs = self._accounts()
        for name, text in self.texts.items():
            if name not in tables:
                hint = "Does a fork give the child a table and a length?"
                raise CheckFailed(f"{name} has no table", self.shown, hint=hint)
            got = self._call("read", name)
            if not isinstance(got, list) or got != text:
                raise CheckFailed(
                    f"{name} does not read its own values", self.shown, expected=text, got=describe(got),
                    hint=_read_hint(name, who, what),
                )  # fmt: skip
        if len({id(table) for table in tables.values()}) < len(tables):
            hint = "Do parent and child have one and the same list? What happens when one of them grows?"
            raise CheckFailed("two requests have one table", self.shown, hint=hint)
        self._compare_counts(tables, refs, who, what)

    def _accounts(self) -> tuple[dict[str, list[int]], list[int]]:
        """Return the learner's `tables` and `refs`.

        Raise CheckFailed when they are something else than before.
        """
        tables, refs = getattr(self.pool, "tables", None), getattr(self.pool, "refs", None)
        if (
            not isinstance(tables, dict)
            or not all(_is_counts(table) for table in tables.values())
            or not _is_counts(refs)
            or len(refs) != SIZES["num_pages"]
        ):
            got = f"{describe(tables)}, {describe(refs)}"
            broken = "tables is a dictionary of lists of pages, refs a list with one count for each page"
            raise CheckFailed(broken, self.shown, got=got)
        return tables, refs

    def _compare_tables(self, before: dict[str, list[int]]) -> None:
        """Raise CheckFailed when a page left a table in which it could have stayed."""
        for name, pages in before.items():
            got = self.pool.tables[name]
            if got[: len(pages)] != pages:
                raise CheckFailed(
                    f"the table of {name} has other pages than before", self.shown, expected=f"{pages} and what follows",
                    got=got, hint=_used_hint("append"),
                )  # fmt: skip

    def _compare_counts(self, tables: dict[str, list[int]], refs: list[int], who: str, what: str) -> None:
        """Raise CheckFailed unless refs are what the tables say, and as many pages are in use as must be."""
        named = [sum(page in table for table in tables.values()) for page in range(len(refs))]
        used, right = sum(count > 0 for count in named), self.truth.num_used
        if used != right:
            hint = _used_hint(what) if used > right else "Do two requests write into one page?"
            raise CheckFailed(
                "the number of pages in the tables is wrong", self.shown, expected=right, got=used, hint=hint
            )
        if refs != named:
            page = next(i for i, (a, b) in enumerate(zip(refs, named, strict=True)) if a != b)
            raise CheckFailed(
                f"refs of page {page} is wrong", self.shown, expected=named[page], got=describe(refs[page]),
                hint=_refs_hint(what, new=tables.get(who, [])[-1:] == [page]),
            )  # fmt: skip


def _is_counts(value: Any) -> TypeGuard[list[int]]:
    """Return whether that is a list of whole numbers."""
    return isinstance(value, list) and all(type(item) is int for item in value)


def _read_hint(name: str, who: str, what: str) -> str:
    """Return why a request reads something else than it should, as a question."""
    if what == "free":
        return "Another request ended. Which requests still use the pages that were given back?"
    if what == "fork":
        return "A child begins with everything of its parent: pages and length. Whose length has it?"
    if name != who:
        return "Another request wrote. Was that page shared when it was written into, or copied the wrong way round?"
    return "When a page is copied, what must be in the copy? And where does the new value go?"


def _used_hint(what: str) -> str:
    """Return why too many pages are in use, as a question."""
    hints = {
        "fork": "What must be copied before any request writes?",
        "free": "Is the request's table gone, too?",
    }
    return hints.get(what, "Is a page copied that no other request names, or a full one?")


def _refs_hint(what: str, new: bool) -> str:
    """Return why a count is wrong, as a question; `new`: of the page that was written into."""
    hints = {
        "fork": "A fork names each of its parent's pages once more. Is that counted?",
        "free": "A request that ends names its pages no more. Is each of them counted down, once?",
    }
    if what not in hints and new:
        return "`take` counts the new page already. Is it counted again?"
    return hints.get(what, "A request that copies a page names the old one no more. Is that counted?")
