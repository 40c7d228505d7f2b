"""Lab 6: every wrong answer is refused with the message meant for it, every right one is accepted."""

import math

import pytest
import torch

from helpers.checks import lab06
from helpers.checks.machinery import limit
from tests.labs.answers import accepts, endless, patience, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


@pytest.mark.parametrize("answer", [15, 15.0, 6 + 9])
def test_1_right(capsys, answer):
    accepts(lab06.check_pages, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (27, "Is anything shared?"),
        (16, "The last of the three"),
        (12, "Who needs them, and in which page?"),
        (13, "Who needs them, and in which page?"),
        (9, "That is the table of one request."),
        (25, "Can two requests write into one page?"),
        (390 / 16, "Can two requests write into one page?"),
        (190 / 16, "Can two requests write into one page?"),
        (..., "there is no value yet"),
        (None, "there is no value yet"),
        (True, "expected a number, got True"),
        ("15", "expected a number, got '15'"),
        (math.nan, "the value is wrong"),
        (torch.zeros(2), "expected a number, got a tensor of shape (2,)"),
    ],
)
def test_1_wrong(answer, words):
    refuses(lab06.check_pages, answer, words)


def append(table, length, new, page_size, free, *, tokens=lambda t, n, new, size: n + new, rounding=math.ceil,
           end=1, order=list.__add__, guard=True, least=0, refuse=True, spare=0):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""
    count = rounding(tokens(table, length, new, page_size) / page_size) - len(table)
    if refuse and count + spare > len(free):
        raise ValueError("too few pages")
    return order(table, free[::end][: max(least, count) if guard else count])


def one_by_one(table, length, new, page_size, free):
    """Written differently."""
    table, free = tuple(table), iter(free)
    for _ in range(new):
        if length == len(table) * page_size:
            page = next(free, None)
            if page is None:
                raise ValueError("no page")
            table += (page,)
        length += 1
    return table


def test_2_right(capsys):
    accepts(lab06.check_append, append, capsys)
    accepts(lab06.check_append, one_by_one, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"tokens": lambda t, n, new, size: len(t) * size + new},
            "They follow the last token.",
        ),  # the article's
        ({"tokens": lambda t, n, new, size: new}, "Are the old tokens counted, too?"),
        ({"rounding": lambda x: math.floor(x) + 1}, "not full, or exactly full?"),
        ({"rounding": math.floor}, "Is that rounded up?"),
        ({"least": 99}, "Are all free pages taken?"),
        ({"end": -1}, "From which end"),
        ({"guard": False}, "What does a negative number of pages take?"),
        ({"order": lambda table, taken: taken}, "Where are the request's own?"),
        ({"order": lambda table, taken: taken + table}, "Are the pages in the order of the tokens"),
        ({"order": lambda table, taken: sorted(table + taken)}, "Are the pages in the order of the tokens"),
        ({"order": lambda table, taken: table + taken[:1] * len(taken)}, "Is one page in the table twice?"),
        (
            {"order": lambda table, taken: table + taken + [99] * bool(taken)},
            "How many pages do all tokens need",
        ),
        ({"spare": 1}, "There are just as many pages as are needed."),
        ({"refuse": False}, "A slice that is too long is cut silently."),
    ],
)
def test_2_wrong(options, words):
    refuses(lab06.check_append, lambda **given: append(**given, **options), words)


def popping(table, length, new, page_size, free):
    """Changes what it is given."""
    while len(table) * page_size < length + new:
        table.append(free.pop(0))
    return [*table]


def one_too_many(table, length, new, page_size, free):
    """No refusal, an IndexError of its own."""
    free = list(free)
    return table + [free.pop(0) for _ in range(-(-(length + new) // page_size) - len(table))]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 3, "expected a list of pages"),
        (lambda table, **_: [*table, None], "expected a list of pages"),
        (lambda table, **_: [float("nan")], "expected a list of pages"),
        (lambda table, **_: [torch.tensor([1])], "expected a list of pages"),
        (popping, "Whose error is it?"),
        (one_too_many, "Whose error is it?"),
        (lambda **given: {}["x"], "it raised KeyError"),
        (endless, "Is there a loop that never ends?"),
        ([1], "expected a function"),
    ],
)
def test_2_wrong_in_kind(answer, words):
    refuses(lab06.check_append, answer, words)


def test_2_no_end_when_there_are_too_few():
    def waiting(table, length, new, page_size, free):
        while -(-(length + new) // page_size) - len(table) > len(free):
            pass
        return append(table, length, new, page_size, free)

    refuses(lab06.check_append, waiting, "Is there a loop that never ends?")


def gather(cache, table, length):
    """By slots, not by pages."""
    size = cache.shape[1]
    slots = [table[t // size] * size + t % size for t in range(length)]
    return cache.reshape(-1, *cache.shape[2:])[slots]


def test_3_right(capsys):
    accepts(lab06.check_gather, gather, capsys)
    accepts(lab06.check_gather, lambda cache, table, length: cache[table].flatten(0, 1)[:length], capsys)

    def in_a_loop(cache, table, length):
        return torch.stack([cache[table[t // cache.shape[1]], t % cache.shape[1]] for t in range(length)])

    accepts(lab06.check_gather, in_a_loop, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda cache, table, length: cache[table].flatten(0, 1), "Are that whole pages?"),  # the article's
        (lambda cache, table, length: cache[table], "Pages and their slots are two dimensions here."),
        (lambda cache, table, length: cache.flatten(0, 1)[:length], "Is the table used?"),
        (lambda cache, table, length: cache[table[0] :].flatten(0, 1)[:length], "lie side by side?"),
        (lambda cache, table, length: gather(cache, sorted(table), length), "Is it kept?"),
        (lambda cache, table, length: gather(cache, table[::-1], length), "Is it reversed?"),
        (lambda cache, table, length: cache.flatten(0, 1)[table], "Its entries are pages."),
        (lambda cache, table, length: cache[table, 0], "Is the first slot of every page taken"),
        (lambda cache, table, length: gather(cache, table, length)[1:], "In which page, and at which slot"),
        (lambda cache, table, length: gather(cache, table, length) + 1, "wrong values"),
        (lambda cache, table, length: gather(cache, table, length) * math.nan, "wrong values"),
        (lambda cache, table, length: gather(cache, table, length).double(), "wrong in shape or type"),
        (lambda cache, table, length: gather(cache, table, length).tolist(), "expected a tensor"),
        (lambda cache, table, length: cache.fill_(0)[table].flatten(0, 1)[:length], "it changed its input"),
        (lambda cache, table, length: cache[length], "it raised IndexError"),
        (lambda **_: None, "Is a return missing?"),
        (unwritten, "not done yet"),
        (endless, "Is there a loop that never ends?"),
        (torch.zeros(1), "expected a function"),
    ],
)  # fmt: skip
def test_3_wrong(answer, words):
    refuses(lab06.check_gather, answer, words)


class Pool:
    """What the lab gives, and the right answer."""

    def __init__(self, num_pages, page_size):
        self.page_size = page_size
        self.values = torch.zeros(num_pages, page_size)
        self.refs = [0] * num_pages
        self.tables, self.lengths = {}, {}

    def take(self):
        page = self.refs.index(0)
        self.refs[page] = 1
        return page

    def start(self, name):
        self.tables[name], self.lengths[name] = [], 0

    def read(self, name):
        return self.values[self.tables[name]].flatten()[: self.lengths[name]].tolist()

    def fork(self, parent, child):
        if child in self.tables:
            raise ValueError("taken")
        self.tables[child], self.lengths[child] = list(self.tables[parent]), self.lengths[parent]
        self.count()

    def append(self, name, value):
        table, place = self.tables[name], self.lengths[name] % self.page_size
        if place == 0:
            table.append(self.take())
        elif self.must_copy(table):
            old = table.pop()
            table.append(self.take())
            self.copy(old, table[-1])
        self.values[table[-1], place] = value
        self.lengths[name] += 1
        self.count()

    def must_copy(self, table):
        return self.refs[table[-1]] > 1

    def copy(self, old, new):
        self.values[new] = self.values[old]

    def free(self, name):
        if name not in self.tables:
            raise ValueError("gone")
        del self.tables[name], self.lengths[name]
        self.count()

    def count(self):
        for page in range(len(self.refs)):
            self.refs[page] = sum(table.count(page) for table in self.tables.values())


class LikeTheSolution(Pool):
    """Written differently: counts step by step, and takes pages from the back."""

    def take(self):
        page = max(page for page, count in enumerate(self.refs) if not count)
        self.refs[page] += 1
        return page

    def must_copy(self, table):
        if self.refs[table[-1]] == 1:
            return False
        self.refs[table[-1]] -= 1
        return True

    def fork(self, parent, child):
        if child in self.lengths:
            raise ValueError(child)
        self.tables[child], self.lengths[child] = self.tables[parent][:], self.lengths[parent]
        for page in self.tables[child]:
            self.refs[page] += 1

    def free(self, name):
        if name not in self.lengths:
            raise ValueError(name)
        del self.lengths[name]
        for page in reversed(self.tables.pop(name)):
            self.refs[page] -= 1

    def count(self):
        pass


def test_4_right(capsys):
    accepts(lab06.check_copy_on_write, Pool, capsys)
    accepts(lab06.check_copy_on_write, LikeTheSolution, capsys)
    accepts(lab06.check_copy_on_write, lambda num_pages, page_size: Pool(num_pages, page_size), capsys)


def pool(base=Pool, **methods):
    """The right answer with some methods replaced."""
    return type("MyPool", (base,), methods)


def eager_fork(self, parent, child):
    """Copies the partial page at once."""
    Pool.fork(self, parent, child)
    if self.lengths[child] % self.page_size:
        self.tables[child][-1] = self.take()
        self.copy(self.tables[parent][-1], self.tables[child][-1])
    self.count()


def one_table(self, parent, child):
    self.tables[child], self.lengths[child] = self.tables[parent], self.lengths[parent]
    for page in self.tables[child]:
        self.refs[page] += 1


def uncounted_fork(self, parent, child):
    self.tables[child], self.lengths[child] = list(self.tables[parent]), self.lengths[parent]


def short_fork(self, parent, child):
    Pool.fork(self, parent, child)
    self.lengths[child] -= self.lengths[child] % self.page_size


def copy_when_full_too(self, name, value):
    """Copies the page before a new one is begun."""
    table = self.tables[name]
    if table and self.refs[table[-1]] > 1 and self.lengths[name] % self.page_size == 0:
        old, table[-1] = table[-1], self.take()
        self.copy(old, table[-1])
    Pool.append(self, name, value)


def copy_all(self, name, value):
    """Copies the whole table."""
    table, place = self.tables[name], self.lengths[name] % self.page_size
    if place and self.must_copy(table):
        for i, old in enumerate(table):
            table[i] = self.take()
            self.copy(old, table[i])
            self.refs[old] -= 1
    Pool.append(self, name, value)


def keeps_the_old_one(self, table):
    """Does not let go of the page that was copied."""
    return LikeTheSolution.must_copy(self, table) and not self.refs.__setitem__(
        table[-1], self.refs[table[-1]] + 1
    )


def free_for_all(self, name):
    if name not in self.tables:
        raise ValueError("gone")
    for page in self.tables.pop(name):
        self.refs[page] = 0
    del self.lengths[name]


def taken_twice(self):
    page = LikeTheSolution.take(self)
    self.refs[page] += len(self.tables) > 1
    return page


def free_uncounted(self, name):
    if name not in self.tables:
        raise ValueError("gone")
    del self.tables[name], self.lengths[name]


def free_again(self, name):
    if name in self.tables:
        Pool.free(self, name)


def free_in_name_only(self, name):
    if name not in self.lengths:
        raise ValueError("gone")
    del self.lengths[name]


def free_then_refuse(self, name):
    """Refuses the second time, but counts first."""
    self.last = self.tables.get(name, getattr(self, "last", []))
    for page in self.last:
        self.refs[page] -= 1
    if name not in self.tables:
        raise ValueError("gone")
    del self.tables[name], self.lengths[name]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pool(must_copy=lambda self, table: False), "Do two requests write into one page?"),
        (pool(copy=lambda self, old, new: Pool.copy(self, new, old)), "or copied the wrong way round?"),
        (pool(must_copy=lambda self, table: True), "Is a page copied that no other request names, or a full one?"),
        (pool(append=copy_when_full_too), "Is a page copied that no other request names, or a full one?"),
        (pool(append=copy_all), "Is a page copied that no other request names, or a full one?"),
        (pool(copy=lambda self, old, new: None), "what must be in the copy?"),
        (pool(LikeTheSolution, must_copy=keeps_the_old_one), "A request that copies a page names the old one no more."),
        (pool(LikeTheSolution, take=taken_twice), "`take` counts the new page already."),
        (pool(fork=eager_fork), "What must be copied before any request writes?"),
        (pool(fork=one_table), "Do parent and child have one and the same list?"),
        (pool(LikeTheSolution, fork=uncounted_fork), "names each of its parent's pages once more."),
        (pool(fork=short_fork), "A child begins with everything of its parent"),
        (pool(fork=lambda self, parent, child: None), "Does a fork give the child a table and a length?"),
        (pool(LikeTheSolution, free=free_for_all), "names its pages no more. Is each of them counted down, once?"),
        (pool(LikeTheSolution, free=free_uncounted), "names its pages no more. Is each of them counted down, once?"),
        (pool(free=free_in_name_only), "Is the request's table gone, too?"),
        (pool(free=free_again), "when two others take them?"),
        (pool(free=lambda self, name: self.tables.pop(name) and self.count()), "Is one of them left?"),
        (pool(LikeTheSolution, free=free_then_refuse), "Is each of them counted down, once?"),
    ],
)  # fmt: skip
def test_4_wrong(answer, words):
    refuses(lab06.check_copy_on_write, answer, words)


def raising(self, *_):
    raise ZeroDivisionError("no")


def tables_of_tensors(self, name):
    self.tables[name], self.lengths[name] = torch.zeros(0), 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pool(fork=lambda self, parent, child: unwritten()), "not done yet"),
        (pool(append=lambda self, name, value: unwritten()), "not done yet"),
        (pool(free=lambda self, name: unwritten()), "not done yet"),
        (pool(append=raising), "append: it raised ZeroDivisionError: no"),
        (pool(fork=lambda self, parent, child: endless()), "Is there a loop that never ends?"),
        (pool(read=lambda self, name: None), "A does not read its own values"),
        (pool(read=lambda self, name: torch.zeros(3)), "A does not read its own values"),
        (pool(read=lambda self, name: [math.nan]), "A does not read its own values"),
        (pool(start=tables_of_tensors), "tables is a dictionary of lists of pages"),
        (pool(count=lambda self: setattr(self, "refs", None)), "tables is a dictionary of lists of pages"),
        (pool(count=lambda self: self.refs.append(0)), "tables is a dictionary of lists of pages"),
        (pool(fork=None), "the pool has no method fork"),
        (lambda num_pages, page_size: None, "Was a class given?"),
        (lambda: None, "it raised TypeError"),
        (Pool(64, 4), "expected a function"),
    ],
)
def test_4_wrong_in_kind(answer, words):
    refuses(lab06.check_copy_on_write, answer, words)


def size_of(lengths, shared, sizes, most_wasted, *, common=lambda shared, size: shared // size * size, whole=0,
            once=False, of="slots", pick=max, better=float.__le__, empty=None, none=None, until=False):  # fmt: skip
    """The right answer page by page, and with one of the options changed a wrong one."""
    good = []
    for size in sorted(sizes) if until else sizes:
        pages = {("all", i) for i in range(math.ceil(common(shared, size) / size))}
        tokens = common(shared, size) * (len(lengths) if whole else 1)
        for name, length in enumerate(lengths):
            own = length - common(shared, size)
            tokens += own
            pages |= {(name, i) for i in range(math.ceil(own / size))}
        if once:
            tokens = shared + sum(length - shared for length in lengths)
        slots = len(pages) * size
        missing = slots - tokens if empty is None else empty * size * len(lengths)
        if better(missing / {"slots": slots, "tokens": tokens}[of], most_wasted):
            good.append(size)
        elif until:
            break
    return pick(good) if good else none


def test_5_right(capsys):
    accepts(lab06.check_page_size, size_of, capsys)

    def downwards(lengths, shared, sizes, most_wasted):
        for size in sorted(sizes, reverse=True):
            unshared = shared % size
            pages = shared // size + sum(math.ceil((unshared + length - shared) / size) for length in lengths)
            tokens = shared - unshared + sum(unshared + length - shared for length in lengths)
            if 1 - tokens / (pages * size) <= most_wasted:
                return size

    accepts(lab06.check_page_size, downwards, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pick": min}, "The largest is asked for."),
        ({"pick": lambda good: good[-1]}, "Is the largest one chosen, or the last?"),
        ({"until": True}, "Does the search stop too early?"),
        ({"common": lambda shared, size: 0}, "Has every request its own here?"),
        ({"common": lambda shared, size: shared}, "Where is the rest of the common beginning?"),
        ({"whole": 1}, "How often are they counted?"),
        ({"once": True}, "Does it fill a slot in each?"),
        ({"of": "tokens"}, "not of the tokens."),
        ({"empty": 0.5}, "Half a page each is an average."),
        ({"better": float.__lt__}, "Is a waste of exactly most_wasted acceptable?"),
        ({"better": lambda wasted, most: True}, "What is returned then?"),
        ({"better": float.__ge__}, "how many pages are there"),
    ],
)
def test_5_wrong(options, words):
    refuses(lab06.check_page_size, lambda **given: size_of(**given, **options), words)


def test_5_wrong_only_when_nothing_will_do():
    refuses(lab06.check_page_size, lambda **given: size_of(**given) or 8 if 8 in given["sizes"] else size_of(**given),
            "What is returned then?")  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing"),
        (lambda sizes, **_: True, "expected one of the sizes, or None"),
        (lambda sizes, **_: 17, "expected one of the sizes, or None"),
        (lambda sizes, **_: math.nan, "expected one of the sizes, or None"),
        (lambda sizes, **_: torch.zeros(3), "expected one of the sizes, or None"),
        (lambda sizes, **_: list(sizes), "expected one of the sizes, or None"),
        (lambda **given: size_of(**given, pick=max) or max([]), "it raised ValueError"),
        (lambda lengths, **given: (size_of(lengths, **given), lengths.clear())[0], "it changed its input"),
        (endless, "Is there a loop that never ends?"),
        (64, "expected a function"),
    ],
)
def test_5_wrong_in_kind(answer, words):
    refuses(lab06.check_page_size, answer, words)


def test_5_no_case_hangs_on_rounding():
    """Whichever way the waste is computed, the answer is the same."""

    def other_way(lengths, shared, sizes, most_wasted):
        return size_of(lengths, shared, sizes, most_wasted, better=lambda w, most: 1 - w >= 1 - most - 1e-12)

    with patience():
        lab06.check_page_size(other_way)
