"""What is compiled is made once, whole or not at all."""

import sys

import pytest

from helpers.storage import CacheError, compile_into, compiler, kept


def test_a_folder_is_filled_once(tmp_path):
    made = []

    def fill(folder):
        made.append(folder)
        (folder / "file").write_text("content")

    for _ in range(2):
        assert (kept(tmp_path / "deep" / "folder", fill) / "file").read_text() == "content"
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]


def test_of_two_that_build_at_once_the_first_counts(tmp_path):
    def late(folder):
        kept(tmp_path / "folder", lambda other: (other / "file").write_text("first"))
        (folder / "file").write_text("second")

    assert (kept(tmp_path / "folder", late) / "file").read_text() == "first"


def test_what_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        kept(tmp_path / "folder", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_cache_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError):
        kept(tmp_path / "file" / "folder", lambda folder: None)


def test_the_compiler_is_the_named_one_or_the_first_there_is(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    assert compiler("CXX", ("no-such-compiler", sys.executable), "x").endswith(
        sys.executable.rpartition("/")[2]
    )
    monkeypatch.setenv("CXX", sys.executable)
    assert compiler("CXX", ("no-such-compiler",), "x") == sys.executable
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="the kernels need a C compiler once"):
        compiler("CXX", ("cc",), "the kernels need")


def test_a_complaint_is_passed_on(tmp_path):
    complain = [sys.executable, "-c", "import sys; sys.exit('wrong')"]
    with pytest.raises(RuntimeError, match=r"could not build made\.so:\nwrong"):
        compile_into(tmp_path / "made.so", complain)
    write = [sys.executable, "-c", "import sys; open(sys.argv[2], 'w').close()"]
    compile_into(tmp_path / "made.so", write)
    assert (tmp_path / "made.so").exists()
