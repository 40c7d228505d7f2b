"""Files of the cache folder: replaced as a whole or not at all, and known again by their content."""

import json

import pytest

from helpers.storage import matches, record, replacing


def test_replacing_keeps_the_old_file_when_the_block_fails(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        write_half()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_manifest_speaks_of_each_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    record(tmp_path, [tmp_path / "a", tmp_path / "b"])
    assert matches(tmp_path, required="a")
    assert not matches(tmp_path, required="c")
    (tmp_path / "b").write_text("B")
    assert not matches(tmp_path, required="a")
    assert set(json.loads((tmp_path / "manifest.json").read_text())) == {"a", "b"}
