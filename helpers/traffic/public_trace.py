"""Traces that others published: tables (Azure, BurstGPT), JSON lines (Mooncake) and conversations (ShareGPT),
gzipped or not.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.traffic.trace import Arrival, Trace
from helpers.traffic.trace_files import kind_of, opened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = (
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
    ("arrival", "input_tokens", "output_tokens"),
)
"""Names of the columns for arrival, input and output tokens: in the Azure LLM inference traces (Patel et al.,
arXiv:2311.18677), in BurstGPT (Wang et al., arXiv:2401.17644), and plain ones.
"""
HASH_TOKENS = 512
"""Tokens for which one of Mooncake's hash ids stands (Qin et al., arXiv:2407.00079)."""
_FROM_USER, _FROM_MODEL = ("human", "user"), ("gpt", "assistant", "chatgpt", "bing", "bard")


def load_trace(
    path: Path | str, tokenizer: PreTrainedTokenizerBase | None = None, limit: int | None = None
) -> Trace:
    """Read a published trace of any known kind; `tokenizer` counts the tokens of conversations.

    Raises ValueError that says what another file seems to be, and what is read.
    """
    kind = kind_of(path)
    if kind == "conversations":
        if tokenizer is None:
            raise ValueError(
                f"{path} holds conversations (ShareGPT): give the tokenizer that counts their tokens"
            )
        return load_sharegpt(path, tokenizer, limit=limit)
    if kind == "saved":
        return Trace.load(path)
    return load_mooncake(path, limit) if kind == "lines" else load_csv(path, limit=limit)


def load_csv(
    path: Path | str, columns: tuple[str, str, str] | None = None, limit: int | None = None
) -> Trace:
    """Read a published trace: a CSV file with a head and a column each for arrival, input and output tokens
    (names: `COLUMNS`).

    Arrivals are seconds, or dates and times, and are counted from the earliest. A row of 0 output tokens is
    kept; one of 0 input tokens raises ValueError, as do unknown columns and what is no number. `limit` takes
    the first rows only.
    """
    _expect(path, ("table",))
    read: list[tuple[float, Arrival]] = []
    with opened(path) as file:
        rows = csv.DictReader(file)
        names = _columns(rows.fieldnames or (), columns)
        for number, row in enumerate(islice(rows, limit), 2):
            try:
                at, prompt, answer = (row[name] for name in names)
                read.append((_seconds(at), Arrival(0.0, int(prompt), int(answer))))
            except (ValueError, TypeError, csv.Error) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return _from_the_first(read, path)


def load_mooncake(path: Path | str, limit: int | None = None) -> Trace:
    """Read JSON lines as Mooncake publishes them: `timestamp` in ms, `input_length`, `output_length` and
    `hash_ids`.

    A hash id stands for 512 tokens and for all tokens before them. Requests whose first hashes are equal
    begin alike, as members of a group. A trace has groups without groups inside: where beginnings fork, the
    more frequent one keeps the group, and the other's requests share among themselves. So nothing is shared
    that was not, and a little less than was.
    """
    _expect(path, ("lines",))
    rows: list[tuple[float, Arrival, tuple[int, ...]]] = []
    with opened(path) as file:
        for number, line in islice(enumerate(file, 1), limit):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
                hashes = tuple(_count(value) for value in fields.get("hash_ids", ()))
                arrival = Arrival(0.0, _count(fields["input_length"]), _count(fields["output_length"]))
                rows.append((_seconds(str(fields["timestamp"])) / 1e3, arrival, hashes))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: {type(error).__name__} {error}") from error
    chains = _chains([hashes for _, _, hashes in rows])
    return _from_the_first([(at, _grouped(a, hashes, chains)) for at, a, hashes in rows], path)


def load_sharegpt(
    path: Path | str, tokenizer: PreTrainedTokenizerBase, gap: float = 1.0, limit: int | None = None
) -> Trace:
    """Read conversations as ShareGPT's JSON has them: a request for each answer, whose prompt is all that was
    said before.

    An answer's request follows the one before in its conversation. The file has no times: conversations begin
    `gap` seconds apart, and turns follow at once. Answers before a first question, and questions without
    answer, make no request. Of two answers in a row the second one is only text of the prompts behind it.
    """
    _expect(path, ("conversations",))
    if not gap >= 0:
        raise ValueError(f"the gap must be 0 seconds or more, got {gap}")
    with opened(path) as file:
        try:
            talks = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not whole: {error}") from error
    arrivals: list[Arrival] = []
    for number, talk in enumerate(islice(talks, limit)):
        try:
            turns = [
                (str(turn["from"]).lower(), len(tokenizer(_text(turn))["input_ids"]))
                for turn in talk["conversations"]
            ]
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"{path}, conversation {number}: expected turns of from and value ({error!r})"
            ) from error
        arrivals += _answers(turns, number * gap, len(arrivals))
    return Trace(arrivals, _name(path))


def _answers(turns: Iterable[tuple[str, int]], at: float, place: int) -> Iterator[Arrival]:
    """Yield a conversation's requests: roles and tokens in, prompts that grow by all that was said out.

    An answer that follows another answer makes no request, and neither does what a system or a tool says. The
    next prompt holds them all the same. Answers before a first question are left out.
    """
    text = asked = 0
    begun, follows = False, None
    for role, tokens in turns:
        if role in _FROM_MODEL and asked:
            yield Arrival(at, text, tokens, follows=follows)
            asked, follows, place = 0, place, place + 1
        elif role in _FROM_USER:
            asked, begun = asked + tokens, True
        if begun or role not in _FROM_MODEL:
            text += tokens


def _chains(rows: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """Return, for each hash id that more than one request has, the id under which its chain is a group.

    A chain goes on from a hash to the one that most requests have next. All requests of a chain begin alike,
    as far as each goes; requests that leave a chain begin another one.
    """
    counts = Counter(value for hashes in rows for value in set(hashes))
    nexts: dict[int | None, Counter[int]] = defaultdict(Counter)
    for hashes in rows:
        for before, value in zip((None, *hashes), hashes, strict=False):
            nexts[before][value] += 1
    chain: dict[int, int] = {}
    for hashes in rows:
        for before, value in zip((None, *hashes), hashes, strict=False):
            first = before is None or nexts[before].most_common(1)[0][0] != value
            chain.setdefault(value, value if first or before not in chain else chain[before])
    return {value: top for value, top in chain.items() if counts[value] > 1}


def _grouped(arrival: Arrival, hashes: tuple[int, ...], chains: dict[int, int]) -> Arrival:
    """Return the request with the beginning that another request has too."""
    common = next((i for i, value in enumerate(hashes) if value not in chains), len(hashes))
    if not common:
        return arrival
    tokens = min(common * HASH_TOKENS, arrival.prompt_tokens)
    return replace(arrival, group=f"hash {chains[hashes[common - 1]]}", shared_tokens=tokens)


def _from_the_first(read: list[tuple[float, Arrival]], path: Path | str) -> Trace:
    """Return arrivals in order of time, counted from the earliest."""
    read.sort(key=lambda pair: pair[0])
    return Trace([replace(arrival, at=at - read[0][0]) for at, arrival in read], _name(path))


def _name(path: Path | str) -> str:
    """Return a file's name without its endings."""
    return Path(path).name.removesuffix(".gz").rsplit(".", 1)[0]


def _expect(path: Path | str, kinds: tuple[str, ...]) -> None:
    """Raise ValueError that says what a file seems to be, where it is of another kind."""
    kind = kind_of(path)
    if kind not in kinds:
        raise ValueError(
            f"{path} seems to hold {_SEEMS[kind]}; expected {_SEEMS[kinds[0]]}; load_trace tells them apart"
        )


_SEEMS = {
    "table": "a table (CSV)", "lines": "requests as JSON lines (Mooncake)", "conversations": "conversations (ShareGPT)",
    "saved": "a trace saved by this course (Trace.load)",
}  # fmt: skip


def _columns(header: Sequence[str], wanted: tuple[str, str, str] | None) -> tuple[str, str, str]:
    """Return the names of the three columns that are there."""
    known = (wanted,) if wanted else COLUMNS
    for names in known:
        if set(names) <= set(header):
            return names
    expected = " or ".join(", ".join(names) for names in known)
    raise ValueError(f"expected the columns {expected}; the file has {', '.join(header)[:100]}")


def _seconds(text: str) -> float:
    """Return seconds: a finite number as it is, a date and time since 1970."""
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not abs(number) < float("inf"):
        raise ValueError(f"expected a time, got {text}")
    return number


def _count(value: Any) -> int:
    """Return a whole number of tokens; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a number of tokens, got {str(value)[:30]!r}")
    return value


def _text(turn: Any) -> str:
    """Return what a turn says."""
    value = turn["value"] if "value" in turn else turn["content"]
    if not isinstance(value, str):
        raise TypeError(f"a turn says {type(value).__name__}")
    return value
