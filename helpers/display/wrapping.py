"""Python source in narrower lines: what a listing shows breaks where its syntax allows, never within a word."""

from __future__ import annotations

import ast
import io
import itertools
import re
import textwrap
import tokenize
from collections.abc import Sequence

from helpers.display.code_lines import split_code

LISTING_COLUMNS = 88
"""What fits into a notebook's cell on a screen of 1280 pixels."""


def wrapped(text: str, columns: int = LISTING_COLUMNS) -> str:
    """Return source code whose lines have at most `columns` characters, as far as its syntax allows.

    Statements are broken at brackets, commas and operators; docstrings and comments between words. A long
    string stays whole. What the code does stays the same, or the text is returned as it is.
    """
    if max(map(len, text.splitlines()), default=0) <= columns:
        return text
    try:
        result = _broken(text, columns)
    except (SyntaxError, tokenize.TokenError):
        return text
    return result if _meaning(result) == _meaning(text) else text


def _broken(text: str, columns: int) -> str:
    """Return the source with its long lines broken; raise SyntaxError or TokenError for what is no Python."""
    told = {number for token in _docstrings(text) for number in range(token.start[0], token.end[0] + 1)}
    inside = _inside_brackets(text)
    new, block = list[str](), list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if number in told or line.lstrip().startswith("#"):
            block.append(line)
            continue
        new += [*_words(block, columns), *split_code(line, columns, free=number in inside)]
        block = []
    return "\n".join(new[:-1])


def _docstrings(text: str) -> list[tokenize.TokenInfo]:
    """Return the tokens of strings that are statements of their own."""
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type != tokenize.NL]
    starts = (tokenize.INDENT, tokenize.NEWLINE, tokenize.DEDENT)
    return [
        t for before, t in itertools.pairwise(tokens) if t.type == tokenize.STRING and before.type in starts
    ]


def _inside_brackets(text: str) -> set[int]:
    """Return the numbers of the lines that begin or end within brackets or within a string."""
    numbers, first = set[int](), 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if first and first != token.start[0]:
                numbers.update(range(first, token.start[0] + 1))
            first = 0
        elif not first and token.type not in (
            tokenize.NL,
            tokenize.COMMENT,
            tokenize.INDENT,
            tokenize.DEDENT,
        ):
            first = token.start[0]
    return numbers


def _words(lines: Sequence[str], columns: int) -> list[str]:
    """Return lines of a docstring or a comment, each paragraph that has a long line filled anew."""
    new, paragraph = list[str](), list[str]()
    for line in [*lines, ""]:
        if paragraph and not _continues(paragraph, line):
            new += _filled(paragraph, columns)
            paragraph = []
        if line.strip():
            paragraph.append(line)
        else:
            new.append(line)
    return new[:-1]


def _continues(paragraph: Sequence[str], line: str) -> bool:
    """Return whether a line goes on with a paragraph: the same margin, no item of a list, no column of a table."""
    ends = line.strip() in ("", '"""', "'''")
    item = re.match(r"\s*(#\s*)?([-*]|\d+\.) ", line) or re.search(r"\S  +\S", line)
    return not ends and not item and _margin(line) == _margin(paragraph[0])


def _margin(line: str) -> str:
    """Return what stands before a line's words: spaces, and the mark of a comment."""
    return re.match(r"\s*(?:# ?)?", line).group()  # type: ignore[union-attr]


def _filled(paragraph: Sequence[str], columns: int) -> list[str]:
    """Return a paragraph's lines, filled anew if one of them is too long."""
    margin = _margin(paragraph[0])
    if max(map(len, paragraph)) <= columns:
        return list(paragraph)
    words = " ".join(line[len(margin) :] for line in paragraph)
    fill = textwrap.TextWrapper(
        columns, initial_indent=margin, subsequent_indent=margin, break_long_words=False
    )
    fill.break_on_hyphens = False
    return fill.wrap(words)


def _meaning(text: str) -> str:
    """Return what a source says to Python, the spaces within docstrings left out."""
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            node.value.value = " ".join(node.value.value.split())
    return ast.dump(tree)
