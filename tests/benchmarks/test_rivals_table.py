"""The README's table of engines: made from samples, in sync with the file of results."""

import pytest

from tools import rivals_table


def sample(seconds, tokens=320, equal=None, others=0.01, day="2026-11-29"):
    return {"seconds": seconds, "tokens": tokens, "equal": equal, "other cores": others, "day": day}


def entry(*samples, **versions):
    return {"versions": versions, "samples": {str(turn): one for turn, one in enumerate(samples)}}


RESULTS = {
    "machine": {"processor": "abacus", "platform": "Linux", "cpus": 4, "threads": 2},
    "entries": {
        "fp32": {
            "stream32": {
                "transformers": entry(sample(10.0, equal=[2, 2]), torch="1"),
                "ours": entry(sample(8.0, equal=[2, 2]), sample(2.0), sample(4.0, equal=[1, 2]), torch="1", helpers="x"),
                "openvino-genai": entry(sample(1.0, others=0.3, day="2026-11-30"), openvino="2"),
            },
            "ragged16": {
                "transformers": entry(sample(30.0, equal=[16, 16]), torch="1"),
                "ours": entry(sample(12.5, equal=[16, 16]), torch="1", helpers="x"),
            },
        },
        "bf16": {"stream32": {}},
    },
    "absent": {"fp32": {"ctranslate2": "not installed: ERROR: no network"}, "bf16": {}},
}  # fmt: skip

SECTION = """\
| fp32 | the course | transformers | OpenVINO GenAI |
| --- | ---: | ---: | ---: |
| one stream, context 32, tokens/s | 80.0 | 32.0 | **320** |
| 16 ragged requests, s | **12.5** | 30.0 | – |
| answers equal to transformers' in fp32 | 19 of 20 | 18 of 18 | – |

Medians; samples of each: 1 to 3, contenders in turns; abacus, 4 cores, 2 threads each; 2026-11-29 to 2026-11-30. \
Other programs used 0.01 cores (median; at most 0.30). One sample is up to 100% away from its median.
Versions: openvino 2, torch 1. llama.cpp's 16 bits are F16, its 8 Q8_0, its 4 Q4_1.

Not measured: CTranslate2 in fp32 (not installed: ERROR: no network).
"""


def test_the_table_follows_from_the_samples():
    assert rivals_table.section(RESULTS) == SECTION


def test_without_a_result_the_section_says_so():
    for nothing in ({}, {**RESULTS, "entries": {}}, {**RESULTS, "entries": {"fp32": {"stream32": {}}}}):
        assert rivals_table.section(nothing) == rivals_table.NOTHING


def test_only_the_section_of_the_readme_changes():
    text = f"# Title\n{rivals_table.BEGIN}old\n{rivals_table.END}\nrest\n"
    assert rivals_table.readme(text, RESULTS) == text.replace("old\n", SECTION)
    with pytest.raises(ValueError, match="the README has no line"):
        rivals_table.readme("# Title\n", RESULTS)


def test_the_readme_is_in_sync():
    text = rivals_table.TARGET.read_text()
    assert text == rivals_table.readme(text, rivals_table.recorded()), "run: python tools/rivals_table.py"


def test_the_check_tells_a_stale_table(monkeypatch, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"{rivals_table.BEGIN}old\n{rivals_table.END}")
    monkeypatch.setattr(rivals_table, "TARGET", readme)
    assert rivals_table.main(["--check"]) == 1
    assert "run: python tools/rivals_table.py" in capsys.readouterr().out
    assert readme.read_text() == f"{rivals_table.BEGIN}old\n{rivals_table.END}"
    assert rivals_table.main([]) == 0
    assert rivals_table.main(["--check"]) == 0
