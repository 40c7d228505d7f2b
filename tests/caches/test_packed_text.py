"""packed: whole numbers of any integer type, 32 bits each; roots that equal salts share and no number equals."""

import re
import struct

import numpy as np
import pytest
import torch

from helpers.caches import PagePool, RadixTree, packed

BIGGEST = 2**32 - 1


@pytest.mark.parametrize(
    "tokens",
    [
        [1, 256, BIGGEST],
        (1, 256, BIGGEST),
        np.array([1, 256, BIGGEST], dtype=np.uint32),
        np.array([1, 256, BIGGEST], dtype=np.int64),
        torch.tensor([1, 256, BIGGEST]),
        [np.int8(1), torch.tensor(256), np.uint64(BIGGEST)],
    ],
    ids=["list", "tuple", "uint32", "int64", "tensor", "mixed"],
)
def test_whole_numbers_of_any_integer_type_pack_alike(tokens):
    assert packed(tokens) == packed([1, 256, BIGGEST])


def test_a_token_takes_32_bits():
    assert packed([]) == b""
    assert len(packed([7] * 5)) == 20
    assert list(struct.unpack("3I", packed([3, 0, BIGGEST]))) == [3, 0, BIGGEST]
    assert packed([1, 2, 3])[4:] == packed([2, 3])


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([1, -1], "whole numbers from 0 to 2**32 - 1"),
        ([BIGGEST + 1], "whole numbers from 0 to 2**32 - 1"),
        ([1.0], "a token id must be a whole number, got 1.0"),
        ([1, None], "a token id must be a whole number, got None"),
        ("12", "a token id must be a whole number, got '1'"),
        (np.array([1.5]), "a token id must be a whole number, got"),
        (12, "expected a list of token ids, got 12"),
        (None, "expected a list of token ids, got None"),
        ([[1, 2]], "a token id must be a whole number, got [1, 2]"),
    ],
)
def test_what_is_no_token_is_named(tokens, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        packed(tokens)


def test_a_long_value_is_named_in_short():
    with pytest.raises(ValueError, match="must be a whole number") as error:
        packed(["x" * 1000])
    assert len(str(error.value)) < 150


@pytest.mark.parametrize(("one", "other"), [("a", "a"), (None, None), (("a", 1), ("a", 1)), (1, True)])
def test_equal_salts_have_the_same_root(one, other):
    tree = RadixTree()
    tree.insert([1, 2], [0, 1], salt=one)
    assert tree.peek([1, 2], salt=other) == 2


@pytest.mark.parametrize("other", ["", "b", None, 0, ("a",), b"a", packed([1])])
def test_other_salts_have_another_root(other):
    tree = RadixTree()
    tree.insert([1, 2], [0, 1], salt="a")
    assert tree.peek([1, 2], salt=other) == 0


def test_a_root_is_no_number_that_a_text_could_have():
    """Texts in a pool are numbered; a salt that is a number must not continue one of them."""
    pool = PagePool(8, 1)
    pool.admit("x", [1, 2, 3, 4])
    pool.append("x", [1, 2, 3, 4])
    for number in range(6):
        for token in (1, 2, 3, 4):
            assert pool.cached_tokens([token, 9], salt=number) == 0


@pytest.mark.parametrize(("salt", "kind"), [([], "list"), ({}, "dict"), (([],), "tuple"), ({1}, "set")])
def test_a_salt_without_a_hash_is_refused(salt, kind):
    with pytest.raises(ValueError, match=f"a salt must be hashable, such as a string; got {kind}"):
        RadixTree().peek([1], salt=salt)
