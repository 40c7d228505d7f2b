"""Traces as others publish them: known columns are read, other tables are refused."""

import pytest

from helpers.traffic import Arrival, load_csv


def test_published_columns(tmp_path):
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    burst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,x\n2,GPT-4,10,0,10,x\n"
    plain = "id,arrival,input_tokens,output_tokens\n1,0.5,7,8\n"
    for name, text in (("azure", azure), ("burst", burst), ("plain", plain)):
        (tmp_path / f"{name}.csv").write_text(text)
    first = load_csv(tmp_path / "azure.csv")
    assert [(round(a.at, 5), a.prompt_tokens, a.new_tokens) for a in first] == [
        (0.0, 374, 44),
        (4.31458, 396, 109),
    ]
    assert first.name == "azure"
    assert [(a.at, a.new_tokens) for a in load_csv(tmp_path / "burst.csv")] == [(0.0, 0), (3.0, 18)], "sorted"
    assert list(load_csv(tmp_path / "plain.csv")) == [Arrival(0.0, 7, 8)]
    assert len(load_csv(tmp_path / "azure.csv", limit=1)) == 1
    own = load_csv(tmp_path / "plain.csv", ("id", "output_tokens", "input_tokens"))
    assert (own[0].prompt_tokens, own[0].new_tokens) == (8, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "expected the columns TIMESTAMP, ContextTokens, GeneratedTokens or"),
        ("arrival,input_tokens,output_tokens\n1,x,3\n", "line 2"),
        ("arrival,input_tokens,output_tokens\n1,2,3\nnoon,2,3\n", "line 3"),
        ("arrival,input_tokens,output_tokens\n1,0,3\n", "line 2"),
        ("arrival,input_tokens,output_tokens\n1,2\n", "line 2"),
        ("", "expected the columns"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_csv(tmp_path / "x.csv")
