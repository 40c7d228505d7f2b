"""Exercise 12.2: server-sent events, cut anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import plain

_DONE = "[DONE]"


def events(
    pieces: Sequence[bytes], *, whole: bool = True, piecewise: bool = False, unfinished: bool = False, strip: str = "one", joined: str = "\n",
    comments: bool = False, done: str = "ends", returns: bool = True, empty: bool = False,
    begins: str = "data:", ends: str = "line feed",
) -> list[str]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    if piecewise:
        return [one for piece in pieces for one in events([piece], whole=False, unfinished=True)]
    text = b"".join(pieces).decode() if whole else "".join(piece.decode(errors="replace") for piece in pieces)
    found, data = list[str](), list[str]()
    lines = (text.replace("\r\n", "\n") if returns else text).split("\n")
    lines = lines if ends == "line feed" else [*text.splitlines(), ""]
    for line in lines[:-1] + ([lines[-1], ""] if unfinished else []):
        if not line:
            if data or empty:
                found.append(_joined(data, joined))
            data = []
        elif _is_data(line, begins) or (comments and ":" in line):
            value = line.partition("data:" if begins == "anywhere" else ":")[2]
            if done == "line" and value.removeprefix(" ") == _DONE:
                return found
            data.append(
                {
                    "one": value.removeprefix(" "),
                    "all": value.strip(),
                    "none": value,
                    "left": value.lstrip(" "),
                }[strip]
            )
    if done == "kept":
        return found
    if done == "skipped":
        return [one for one in found if one != _DONE]
    looks = {"stripped": [one.strip() for one in found], "suffix": [one[-len(_DONE) :] for one in found]}.get(
        done, found
    )
    end = looks.index(_DONE) if _DONE in looks else len(found)
    return found[: end + (done == "with")]


def _is_data(line: str, begins: str) -> bool:
    """Return whether an answer takes a line for data."""
    if begins == "anywhere":
        return "data:" in line
    return (line.lstrip() if begins == "spaces" else line).startswith("data" if begins == "data" else "data:")


def _joined(data: Sequence[str], joined: str) -> str:
    """Return an event's lines as one text."""
    if joined in ("first", "last"):
        return data[0 if joined == "first" else -1] if data else ""
    return joined.join(data)


def _events(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda pieces: events(pieces, **options)


def _each_line(pieces: Sequence[bytes]) -> list[str]:
    """Take each line for an event."""
    lines = b"".join(pieces).decode().replace("\r\n", "\n").split("\n")[:-1]
    found = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
    return found[: found.index(_DONE)] if _DONE in found else found


def events_cases(draw: random.Random) -> Iterator[Case]:
    """Yield streams: empty ones, cut in events, lines, line ends and characters, with comments, other fields and without an end."""
    for text, size in (
        ("", 1), ("data: a\n\n", 100), ("data: a\n\ndata: b\n\n", 100), ("data: a\n\ndata: [DONE]\n\n", 4), ("data: caf\u00e9\n\n", 1),
        ("data: a\r\n\r\ndata: b\r\n\r\n", 9), ("data: one\ndata: two\n\n", 100), (": wait\n\ndata: a\n\n", 3), ("data: a\n\ndata: b\n", 100),
        ("data: a\n\ndata: b", 5), ("data:a\n\ndata:  b \n\n", 100), ("event: x\nid: 3\ndata: a\n\n", 6), ("data: [DONE]\n\ndata: a\n\n", 100),
        ("data: \n\n", 2), ("data: x: y\n\n", 100), ("\n\ndata: a\n\n", 100),
        ("database: x\ndata: a\n\n", 100), ("data\ndata: a\n\n", 100), (" data: x\ndata: a\n\n", 100), (": no data: x\ndata: a\n\n", 100),
        ("data: [DONE]\ndata: b\n\ndata: c\n\n", 100), ("data:  [DONE]\n\ndata: b\n\n", 100), ("data: not [DONE]\n\ndata: b\n\n", 100),
        ("data: a\u2028b\x0cc\n\ndata: d\n\n", 7),
    ):  # fmt: skip
        raw = text.encode()
        yield {"pieces": [raw[i : i + size] for i in range(0, len(raw), size)]}
    while True:
        end = draw.choice(("\n", "\n", "\r\n"))
        story = "".join(_block(draw, end) for _ in range(draw.randrange(1, 7)))
        if draw.random() < 0.4:
            story += f"data: {_DONE}{end}{end}" + (_block(draw, end) if draw.random() < 0.3 else "")
        stream = story.encode()
        if draw.random() < 0.25:
            stream = stream[: -draw.choice((1, 2, 3))]
            while (stream and (stream[-1] & 0xC0) == 0x80) or (stream and stream[-1] >= 0xC0):
                stream = stream[:-1]  # a stream may end early, and not within a character
        cuts = sorted(draw.sample(range(1, len(stream)), min(len(stream) - 1, draw.choice((0, 1, 3, 8)))))
        yield {"pieces": [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]}


def _block(draw: random.Random, end: str) -> str:
    """Return an event, or something that is none, with its empty line."""
    words = ("a", "b c", "{}", "x: y", " two", "né", "日本", "🙂", "end ", "", _DONE + "?")
    lines = [
        draw.choice(("data: ", "data: ", "data:")) + draw.choice(words) for _ in range(draw.choice((1, 1, 1, 2, 3)))
    ]  # fmt: skip
    if draw.random() < 0.2:
        lines.insert(draw.randrange(len(lines) + 1), draw.choice((": a comment", "event: note", "id: 7")))
    if draw.random() < 0.1:
        lines = [draw.choice((": keep alive", "id: 9"))]
    return end.join([*lines, "", ""])


def events_kind(got: Any, case: Case) -> tuple[list[str]]:
    """Return the events. Raises CheckFailed when they are something else."""
    got = plain(got)
    if got is None:
        raise CheckFailed("there is no list yet", case, got=got, hint="Is a return missing?")
    if not isinstance(got, list | tuple) or not all(isinstance(one, str) for one in got):
        raise CheckFailed("expected a list of texts, one for each event", case, got=describe(got))
    return (list(got),)


def events_facts(got: list[str], right: list[str], case: Case) -> str:
    """Return what the events themselves tell."""
    stream = b"".join(case["pieces"])
    if any("\ufffd" in one for one in got):
        return "A piece may end inside a character. Is each piece decoded by itself?"
    if any(one.endswith("\r") for one in got):
        return (
            "Lines may end with a carriage return and a line feed. Is the carriage return left in the text?"
        )
    if _DONE in got:
        return "`[DONE]` says that the stream has ended. Is it returned?"
    if got[: len(right)] == right and not stream.endswith((b"\n\n", b"\n\r\n")):
        return "An event ends with an empty line. Is one returned that has not ended?"
    return (
        "A piece may end anywhere. Are the pieces joined before lines are looked for?"
        if len(case["pieces"]) > 1
        else ""
    )


def _is_stream(pieces: Sequence[bytes]) -> bool:
    """Return whether the pieces are a text when joined, and none is empty."""
    try:
        text = b"".join(pieces).decode()
    except UnicodeDecodeError:
        return False
    return all(pieces) and "\r" not in text.replace("\r\n", "")


EVENTS = Family(
    events,
    events_cases,
    (Part(facts=events_facts, mistakes={
        "A piece may end anywhere. Is each piece taken for whole events?": _events(piecewise=True),
        "A piece may end inside a character. Is each piece decoded by itself?": _events(whole=False),
        "An event ends with an empty line. Is one returned that has not ended?": _events(unfinished=True),
        "After the colon one space is left out, if there is one. Are all spaces?": (_events(strip="all"), _events(strip="left")),
        "After the colon one space is left out. Is it kept?": _events(strip="none"),
        "An event may have several lines of data, joined by line ends. Is each line an event?": _each_line,
        "An event may have several lines of data. Is only one kept?": (_events(joined="first"), _events(joined="last")),
        "Several lines of data are joined by line ends. Are they joined by something else?": (_events(joined=""), _events(joined=" ")),
        "Lines that do not begin with `data:` say something else. Are they taken for data?": _events(comments=True),
        "Data begin with `data:`, at the start of a line. Is another line taken for data?": (
            _events(begins="data"), _events(begins="spaces"), _events(begins="anywhere")),
        "A line ends with a line feed. Is it broken at other signs, too, as `splitlines` does?": _events(ends="any"),
        "`[DONE]` is a whole event. Is it looked for in a line, or in a part of one?": (
            _events(done="line"), _events(done="stripped"), _events(done="suffix")),
        "`[DONE]` says that the stream has ended. Is it returned?": (_events(done="with"), _events(done="kept")),
        "Nothing counts behind `[DONE]`. Is something behind it returned?": _events(done="skipped"),
        "Lines may end with a carriage return and a line feed. Is the empty line found?": _events(returns=False),
        "Without a line of data there is no event. Is an empty one returned?": _events(empty=True),
    }),),
    kind=events_kind,
    valid=_is_stream,
)  # fmt: skip
