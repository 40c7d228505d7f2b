"""The report that chapters print once, and `course.py check`."""

import torch

from helpers.measurements import environment


def test_versions_and_device_are_said(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    rows = dict(environment.environment_report().rows)
    assert rows["torch"].startswith(torch.__version__.split("+")[0])
    assert rows["device"].startswith("CPU")


def test_check_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COURSE_DEVICE", "tpu")
    assert environment.main() == 1
    assert "unknown device 'tpu'" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.setenv("COURSE_MODEL", str(tmp_path))
    assert environment.main() == 1
    assert f"{tmp_path} holds no config.json" in capsys.readouterr().out


def test_check_is_content_here(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert environment.main() == 0
    assert "model: ready in" in capsys.readouterr().out
