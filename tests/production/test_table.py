"""The table: unique names, look-up, and how it is printed."""

import re

import pytest

from helpers.production import OPTIONS, against, collect, option, options_table, reference


def test_a_name_comes_once():
    fact = OPTIONS["--max-num-seqs"]
    assert collect([fact]) == {"--max-num-seqs": fact}
    with pytest.raises(ValueError, match="--max-num-seqs is in the table twice"):
        collect([fact, fact])


def test_a_key_is_found_with_and_without_its_group():
    assert option("short_request_first_config") is option("scheduler_config.short_request_first_config")
    with pytest.raises(ValueError, match="'--seats' is not in the table of production options"):
        option("--seats")


def test_a_printed_table_says_against_which_versions_it_was_read():
    table = options_table({"--block-size": "the page", "--watermark": "free pages"})
    assert table.caption == (
        "Read on 2026-11-29 in vLLM 0.23.0, 0.33.0; vLLM-Ascend 0.23.0, main 182b75ea84 of 2026-08-22."
    )
    assert [row[:2] for row in table.rows] == [("--block-size", "the page"), ("--watermark", "free pages")]
    assert "on Ascend 128" in table.rows[0][2]
    with pytest.raises(ValueError, match="'--seats' is not"):
        options_table({"--seats": ""})


def test_versions_are_those_of_the_options_that_are_printed():
    assert "vLLM-Ascend" not in against(["--watermark"])
    assert "0.23.0" not in against(["--watermark"])


def test_the_reference_has_a_row_for_every_option_with_its_sources():
    rows = reference().splitlines()[2:]
    assert [re.match(r"\| `([^`]+)`", row).group(1) for row in rows] == list(OPTIONS)
    for row, fact in zip(rows, OPTIONS.values(), strict=True):
        assert row.count("|") == 6
        assert all(str(source) in row for source in fact.sources)
