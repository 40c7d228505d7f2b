"""Files with traces: gzipped or not, told apart by how they begin, and others named for what they seem."""

import gzip
import json

import pytest

from helpers.traffic import Arrival, Trace, load_trace
from tests.traffic.runs import words

TABLE = "arrival,input_tokens,output_tokens\n1,2,3\n"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_any_of_them_may_be_gzipped(tmp_path, kind):
    texts = {
        "csv": "arrival,input_tokens,output_tokens\n1,2,3\n",
        "jsonl": '{"timestamp": 0, "input_length": 2, "output_length": 3, "hash_ids": []}\n',
        "json": json.dumps(
            [{"conversations": [{"from": "human", "value": "a b"}, {"from": "gpt", "value": "c d e"}]}]
        ),
    }
    path = tmp_path / f"t.{kind}.gz"
    path.write_bytes(gzip.compress(texts[kind].encode()))
    trace = load_trace(path, words)
    assert list(trace) == [Arrival(0.0, 2, 3)]
    assert trace.name == "t"
    path.write_bytes(gzip.compress(texts[kind].encode())[:-9])
    with pytest.raises(ValueError, match="is gzipped and not whole"):
        load_trace(path, words)


def test_a_saved_trace_is_known(tmp_path):
    Trace([Arrival(0.0, 5, 2)], "own").save(tmp_path / "x.jsonl")
    assert load_trace(tmp_path / "x.jsonl").name == "own"


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\n \n"], ids=["mark", "mark and lines"])
def test_a_byte_order_mark_hides_no_kind(tmp_path, before):
    path = tmp_path / "x"
    path.write_bytes(
        before
        + json.dumps(
            [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]
        ).encode()
    )
    assert list(load_trace(path, words)) == [Arrival(0.0, 1, 1)]


def test_a_gzipped_file_needs_no_ending(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(TABLE.encode()))
    (tmp_path / "y.gz").write_text(TABLE)
    assert list(load_trace(tmp_path / "x")) == list(load_trace(tmp_path / "y.gz")) == [Arrival(0.0, 2, 3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"<!DOCTYPE html><html>", "seems to be a page"),
        (b'[{"prompt": "x"}]', "a JSON list of something else than conversations"),
        (b'{"error": "not found"}', "seems to be JSON with error"),
        (b"\xff\xfe\x00\x80", "is no text"),
        (b"PK\x03\x04\x80\x81", "is no text"),
    ],
)
def test_a_file_of_another_kind_is_named_for_what_it_seems(tmp_path, text, said):
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match=said):
        load_trace(tmp_path / "x", words)
