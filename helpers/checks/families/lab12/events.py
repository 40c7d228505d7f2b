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
    begins: str = "data:", ends: str = "line feed", blank: bool = False,
) -> list[str]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    if piecewise:
        return [one for piece in pieces for one in events([piece], whole=False, unfinished=True)]
    text = b"".join(pieces).decode() if whole else "".join(piece.decode(errors="replace") for piece in pieces)
    found, data = list[str](), list[str]()
    lines = (text.replace("\r\n", "\n") if returns else text).split("\n")
    lines = lines if ends == "line feed" else [*text.splitlines(), ""]
    for line in lines[:-1] + ([lines[-1], ""] if unfinished else []):
        if not line or (blank and not line.strip()):
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
                    "signs": value.lstrip(),
                }[strip]
            )
    if done == "kept":
        return found
    if done == "skipped":
        return [one for one in found if one != _DONE]
    looks = [_looked_at(one, done) for one in found]
    end = looks.index(_DONE) if _DONE in looks else len(found)
    return found[: end + (done == "with")]


def _looked_at(event: str, done: str) -> str:
    """Return the part of an event that an answer compares with `[DONE]`; the whole event is right."""
    if done == "within":
        return _DONE if _DONE in event else event
    ways = {
        "stripped": event.strip(), "suffix": event[-len(_DONE) :], "prefix": event[: len(_DONE)], "any case": event.upper(),
        "last line": event.rpartition("\n")[2], "first line": event.partition("\n")[0], "run together": event.replace("\n", ""),
    }  # fmt: skip
    return ways.get(done, event)


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


def _last_done(pieces: Sequence[bytes]) -> list[str]:
    """Cut at the last [DONE]."""
    found = events(pieces, done="kept")
    return found[: len(found) - 1 - found[::-1].index(_DONE)] if _DONE in found else found


def _drops_empty(pieces: Sequence[bytes]) -> list[str]:
    """Leave out events without a letter."""
    return [one for one in events(pieces) if one]


def _one_end(pieces: Sequence[bytes]) -> list[str]:
    """Take carriage returns for ends of lines everywhere, or nowhere else."""
    stream = b"".join(pieces)
    lines = stream.split(b"\r\n") if b"\r\n" in stream else stream.split(b"\n")
    unbroken = [line.replace(b"\n", "\ue000".encode()) for line in lines]
    return [one.replace("\ue000", "\n") for one in events([b"\n".join(unbroken)])]


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
        ("data:\ta\n\n", 100), ("DATA: x\ndata: a\n\n", 100), ("data: a\n \ndata: b\n\n", 100), ("data: cafe\u0301\n\n", 100), ("data: a\0b\n\n", 100),
        ("data: a\ndata: [DONE]\n\ndata: b\n\n", 100), ("data:\ndata: [DONE]\n\ndata: b\n\n", 100), ("data: [DO\ndata: NE]\n\ndata: b\n\n", 100),
        ("data: [done]\n\ndata: b\n\n", 100), ("data: a\n\ndata: [DONE]\n\ndata: b\n\ndata: [DONE]\n\n", 100),
        ("data: a\n\ndata: b\r\n\r", 100), ("data: a\r\n\ndata: b\n\r\ndata: c\n\n", 100), ("data: a\n\r\ndata: b\r\n\ndata: c\r\n\r\n", 1),
    ):  # fmt: skip
        raw = text.encode()
        yield {"pieces": [raw[i : i + size] for i in range(0, len(raw), size)]}
    while True:
        end = draw.choice(("\n", "\n", "\r\n", "mixed"))
        mixed, end = end == "mixed", "\n" if end == "mixed" else end
        story = "".join(_block(draw, end) for _ in range(draw.randrange(1, 7)))
        if draw.random() < 0.4:
            story += f"data: {_DONE}{end}{end}" + (_block(draw, end) if draw.random() < 0.3 else "")
        if mixed:
            story = "".join(draw.choice(("\n", "\r\n")) if sign == "\n" else sign for sign in story)
        stream = story.encode()
        if draw.random() < 0.25:
            stream = stream[: -draw.choice((1, 2, 3))]
            while (stream and (stream[-1] & 0xC0) == 0x80) or (stream and stream[-1] >= 0xC0):
                stream = stream[:-1]  # a stream may end early, and not within a character
        cuts = sorted(draw.sample(range(1, len(stream)), min(len(stream) - 1, draw.choice((0, 1, 3, 8)))))
        yield {"pieces": [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]}


def _block(draw: random.Random, end: str) -> str:
    """Return an event, or something that is none, with its empty line."""
    words = ("a", "b c", "{}", "x: y", " two", "né", "日本", "🙂", "end ", "", _DONE + "?", "\tt", "e\u0301")
    lines = [
        draw.choice(("data: ", "data: ", "data:")) + draw.choice(words) for _ in range(draw.choice((1, 1, 1, 2, 3)))
    ]  # fmt: skip
    if len(lines) > 1 and draw.random() < 0.2:
        lines[draw.randrange(len(lines))] = f"data: {_DONE}"
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
        "Try the same bytes as one piece. If its events are right, are the pieces joined before lines are looked for?"
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
        "After the colon one space is left out, if there is one. Are all spaces?": (_events(strip="all"), _events(strip="left"), _events(strip="signs")),
        "After the colon one space is left out. Is it kept?": _events(strip="none"),
        "An event may have several lines of data, joined by line ends. Is each line an event?": _each_line,
        "An event may have several lines of data. Is only one kept?": (_events(joined="first"), _events(joined="last")),
        "Several lines of data are joined by line ends. Are they joined by something else?": (_events(joined=""), _events(joined=" ")),
        "Lines that do not begin with `data:` say something else. Are they taken for data?": _events(comments=True),
        "Data begin with `data:`, at the start of a line. Is another line taken for data?": (
            _events(begins="data"), _events(begins="spaces"), _events(begins="spaces", blank=True), _events(begins="anywhere")),
        "A line with a space in it is not empty. Does it end an event?": _events(blank=True),
        "A line ends with a line feed. Is it broken at other signs, too, as `splitlines` does?": _events(ends="any"),
        "`[DONE]` is a whole event. Is it looked for in a line, or in a part of one?": (
            _events(done="line"), _events(done="stripped"), _events(done="suffix"), _events(done="prefix"), _events(done="within"),
            _events(done="last line"), _events(done="first line"), _events(done="run together")),
        "`[DONE]` is written in large letters. Are other letters taken for it?": _events(done="any case"),
        "The first `[DONE]` ends the stream. Is the last one looked for?": _last_done,
        "A line `data:` is a line of data, and its event is an empty text. Is the event left out?": _drops_empty,
        "A stream may have both line ends, `\\n` and `\\r\\n`. Does one decide for all lines?": _one_end,
        "`[DONE]` says that the stream has ended. Is it returned?": (_events(done="with"), _events(done="kept")),
        "Nothing counts behind `[DONE]`. Is something behind it returned?": _events(done="skipped"),
        "Lines may end with a carriage return and a line feed. Is the empty line found?": _events(returns=False),
        "Without a line of data there is no event. Is an empty one returned?": _events(empty=True),
    }),),
    kind=events_kind,
    valid=_is_stream,
)  # fmt: skip
