"""A line of Python that is too long, in several: broken at brackets, commas and operators."""

from __future__ import annotations

import itertools
import re
import textwrap

_STRING = r"[rbfuRBFU]{0,2}(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')"
_PIECE = re.compile(rf"{_STRING}|\s(?:for|if|else|and|or)\s|\s[-+*|]\s|.", re.DOTALL)
_KEYWORD = r"(?:return|yield|if|elif|while|assert|for .*? in|from [\w.]+ import) "
_ASSIGNED = r"(?:[\w.,:\[\]* ]+ (?:[-+*/|&]|//)?= )+"
_STATEMENT = re.compile(rf"({_KEYWORD}|{_ASSIGNED})(.*?)(:?)$")
_OPERATORS = ((" for ",), (" if ", " else "), (" or ",), (" and ",), (" | ", " + ", " - "), (" * ",))


def split_code(line: str, columns: int, free: bool) -> list[str]:
    """Return a line of code in lines that are short enough; `free`: it may break anywhere between pieces."""
    if len(line) <= columns:
        return [line]
    indent, rest = line[: len(line) - len(line.lstrip())], line.strip()
    if found := re.match(rf"((?:{_STRING}|[^#\"'])*?)\s+(# .*)$", rest):
        words = textwrap.wrap(found[2], columns, initial_indent=indent, subsequent_indent=f"{indent}# ")
        return [*words, *split_code(indent + found[1], columns, free)]
    deeper = indent + "    "
    if pair := _largest_pair(rest, at_least=0.3):
        head, body, tail = rest[: pair[0] + 1], rest[pair[0] + 1 : pair[1]], rest[pair[1] :]
        if len(indent + head) <= columns and len(indent + tail) <= columns:
            return [indent + head, *split_code(deeper + body, columns, free=True), indent + tail]
    if free:
        parts = _split(rest) if len(_split(rest)) > 1 else _halves(rest, columns - len(indent))
        return (
            [each for part in parts for each in split_code(indent + part, columns, free=len(parts) > 1)]
            if len(parts) > 1
            else [line]
        )
    if found := _STATEMENT.match(rest):
        return [
            f"{indent}{found[1]}(",
            *split_code(deeper + found[2], columns, free=True),
            f"{indent}){found[3]}",
        ]
    return [line]


def _halves(text: str, columns: int) -> list[str]:
    """Return a string as two neighbours, which Python joins; the text itself where that is not possible."""
    found = re.fullmatch(rf"({_STRING})([,)\]}}]*)", text)
    if not found:
        return [text]
    mark = re.match(r"\w*.", text).group()  # type: ignore[union-attr]
    depth, fits = 0, 0
    for at, letter in enumerate(found[1][: columns - 1]):
        depth += "f" in mark and (letter == "{") - (letter == "}")
        if letter == " " and not depth and len(mark) <= at < len(found[1]) - 2:
            fits = at + 1
    return [text[:fits] + mark[-1], mark + text[fits:]] if fits else [text]


def _pieces(text: str) -> list[tuple[int, str, int]]:
    """Return the pieces of a line of code: where each begins, its text, and how many brackets are open around it."""
    found, depth = [], 0
    for match in _PIECE.finditer(text):
        piece = match.group()
        depth -= piece in ")]}"
        found.append((match.start(), piece, depth))
        depth += piece in "([{"
    return found


def _largest_pair(text: str, at_least: float) -> tuple[int, int] | None:
    """Return where the outermost brackets around the most text stand, if that is a good part of the line."""
    opened, pairs = 0, list[tuple[int, int]]()
    for at, piece, depth in _pieces(text):
        if depth == 0 and piece in "([{":
            opened = at
        elif depth == 0 and piece in ")]}" and text[opened] in "([{":
            pairs.append((opened, at))
    best = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0, 0))
    return best if best[1] - best[0] > max(2, at_least * len(text)) else None


def _split(text: str) -> list[str]:
    """Return the parts of a text within brackets: after its commas, or before the operators that bind least."""
    pieces = [(at, piece) for at, piece, depth in _pieces(text) if depth == 0]
    cuts = [at + 1 for at, piece in pieces if piece == "," and text[at + 1 :].strip()]
    for operators in _OPERATORS:
        cuts = cuts or [at for at, piece in pieces if piece in operators and at]
    edges = [0, *cuts, len(text)]
    return [text[a:b].strip() for a, b in itertools.pairwise(edges)]
