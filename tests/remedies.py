"""How a test says what a person should do: whole, where pytest would cut a long comparison off."""

from collections.abc import Iterable

import pytest


def nothing(found: Iterable[object]) -> None:
    """Fail with all texts that were found, each in full, unless there is none."""
    if texts := [str(text) for text in found]:
        pytest.fail("\n\n".join(texts), pytrace=False)
