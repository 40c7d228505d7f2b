"""Chapters, labs and documents against the table of production options, and the page that is made from it."""

import pytest

from helpers.production import OPTIONS
from tools import notebooks as nbs
from tools import production

OURS = production.flags_of_the_course()


@pytest.mark.parametrize(
    ("path", "markdown", "code"),
    list(production.texts()),
    ids=lambda value: f"{value.parent.parent.name}-{value.stem}" if hasattr(value, "stem") else "",
)
def test_every_option_that_is_named_is_in_the_table(path, markdown, code):
    assert production.unknown(markdown, code, OURS) == []
    assert production.undated(markdown) == []


def test_every_row_is_named_somewhere():
    assert production.unused("\n".join(m + code for _, m, code in production.texts())) == []


def test_the_page_is_the_tables():
    text = (nbs.ROOT / "docs" / "production.md").read_text()
    assert text == production.page(), "run: python tools/production.py"


@pytest.mark.parametrize(
    ("markdown", "code", "names"),
    [
        ("Set `--max-num-chairs 8`.", "", ["--max-num-chairs"]),
        ("Set --max-num-chairs.", "", ["--max-num-chairs"]),
        ("", "run('--max-num-chairs=8')", ["--max-num-chairs"]),
        ("```\nexport VLLM_CHAIRS=3\n```", "", ["VLLM_CHAIRS"]),
        ("`PYTHONHASH=1`", "", ["PYTHONHASH"]),
        ("", "os.environ['VLLM_CHAIRS'] = '3'", ["VLLM_CHAIRS"]),
        ("""`--additional-config '{"scheduler_config": {"chairs": {"legs": 4}}}'`""", "", ["chairs", "legs"]),
        ("`scheduler_config.chairs`", "", ["scheduler_config.chairs"]),
        ("`cudagraph_chairs`", "", ["cudagraph_chairs"]),
        ("`--no-max-num-seqs`", "", ["--no-max-num-seqs"]),
        # the course's own, values of options, and options that the table holds
        ("`python3 course.py test --emulated-npu -- -k pages`, `COURSE_DEVICE=npu`", "", []),
        ("`--attention-backend FLASH_ATTN`, mode `FULL_DECODE_ONLY`, `PYTHONHASHSEED=0`", "", []),
        ("A range 1--3, an option-like--thing, and SHOUTED_WORDS in prose.", "NEW_TOKENS = 3", []),
    ],
)
def test_an_unknown_option_is_seen(markdown, code, names):
    assert production.unknown(markdown, code, OURS) == names


def test_a_row_that_no_text_names_is_seen():
    everything = " ".join(name.rpartition(".")[2] for name in OPTIONS if name != "--max-num-seqs")
    assert production.unused(everything) == ["--max-num-seqs"]
    assert production.unused(f"{everything} --max-num-seqs-more") == ["--max-num-seqs"]


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("## In production\n\nThe seats are `--max-num-seqs`.", 1),
        ("## In production\n\nThe seats are `--max-num-seqs`.\n\nvLLM 0.33 is new.", 1),
        ("## In production\n\nThe seats are `--max-num-seqs` in vLLM 0.33.", 0),
        ("## On Ascend\n\n- a\n- the seats are `--max-num-seqs`\n\n## Recap\n\nend", 1),
        ("## Recap\n\nThe seats were `--max-num-seqs`.", 0),
    ],
)
def test_a_sentence_without_a_version_is_seen(markdown, found):
    assert len(production.undated(markdown)) == found


def test_the_command_writes_the_page_and_checks_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(production, "problems", list)
    monkeypatch.setattr(nbs, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    assert production.main(["--check"]) == 1
    assert production.main([]) == 0
    assert production.main(["--check"]) == 0
    assert "docs/production.md is out of date" in capsys.readouterr().out
