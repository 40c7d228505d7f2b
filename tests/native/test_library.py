"""The kernels are compiled once, and their absence has a reason."""

import ctypes
import shutil

import pytest

from helpers.native import built, kernels, processor

compiled = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)


@pytest.fixture
def ask(monkeypatch):
    """Ask for the kernels under other variables, as a fresh process would."""

    def asked(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        found = kernels.__wrapped__()
        assert (found.functions is None) == ("compiled" not in found.reason)
        return found.reason

    return asked


def test_a_switch_turns_them_off(ask):
    assert ask(COURSE_NATIVE=0) == "off (COURSE_NATIVE=0)"


def test_without_a_compiler_the_reason_is_said(ask, tmp_path):
    said = ask(COURSE_CACHE=tmp_path, CXX="no-such-compiler")
    assert said.startswith("none: the native kernels need a C++ compiler once (g++ or clang++ or c++")
    assert said.endswith("; plain torch computes instead")


def test_a_compiler_that_fails_is_said_and_leaves_nothing(ask, tmp_path):
    said = ask(COURSE_CACHE=tmp_path, CXX=shutil.which("false"))
    assert said.startswith("none: the compiler could not build kernels.so")
    assert list((tmp_path / "native").iterdir()) == []


@compiled
def test_a_cache_folder_that_cannot_be_written_is_said(ask, tmp_path):
    (tmp_path / "file").touch()
    assert ask(COURSE_CACHE=tmp_path / "file").startswith("none: cannot write to")


@compiled
def test_the_library_is_found_again(monkeypatch):
    before = built()
    monkeypatch.setattr("helpers.native.library.compile_into", None)  # another compilation would fail
    assert built() == before
    assert ctypes.CDLL(str(before)).vector_width() == kernels().functions.vector_width()


def test_the_processor_is_named_with_its_features():
    assert len(processor()) > 5
    assert "\n" not in processor()
