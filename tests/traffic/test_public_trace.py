"""Traces as others publish them: tables, JSON lines and conversations are read or refused."""

import json
import random

import pytest

from helpers.traffic import Arrival, load_csv, load_mooncake, load_sharegpt, load_trace
from tests.traffic.runs import words


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


def lines(folder, rows, name="m.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(timestamp, tokens, hashes, answer=5):
    return {"timestamp": timestamp, "input_length": tokens, "output_length": answer, "hash_ids": hashes}


def common(trace, i, j):
    """Tokens with which two prompts of a trace begin alike."""
    pairs = zip(*(trace.request(place).prompt_ids for place in (i, j)), strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(trace[i].prompt_tokens, trace[j].prompt_tokens)
    )


def test_hash_ids_become_shared_beginnings(tmp_path):
    path = lines(
        tmp_path, [row(2000, 1100, [0, 1, 2], 7), row(5000, 1030, [0, 1, 3], 9), row(6500, 700, [8, 9])]
    )
    trace = load_mooncake(path)
    assert [(a.at, a.prompt_tokens, a.new_tokens, a.shared_tokens) for a in trace] == [
        (0.0, 1100, 7, 1024), (3.0, 1030, 9, 1024), (4.5, 700, 5, 0),
    ]  # fmt: skip
    assert (common(trace, 0, 1), common(trace, 0, 2)) == (1024, 0)
    assert trace.name == "m"
    assert list(load_trace(path, limit=1)) == [Arrival(0.0, 1100, 7)]


def test_turns_of_a_conversation_share_as_far_as_each_goes(tmp_path):
    trace = load_mooncake(lines(tmp_path, [row(i, 500 + 512 * i, [*range(i), 90 + i]) for i in range(1, 5)]))
    assert [common(trace, 0, i) for i in (1, 2, 3)] == [512, 512, 512]
    assert [common(trace, i, 3) for i in (1, 2)] == [1024, 1536]


def test_beginnings_that_fork_share_nothing_that_was_not_shared(tmp_path):
    paths = [[0, 1, 10], [0, 1, 11], [0, 1, 12], [0, 2, 13], [0, 2, 14], [0, 15]]
    trace = load_mooncake(lines(tmp_path, [row(i, 1200, hashes) for i, hashes in enumerate(paths)]))
    for i in range(len(paths)):
        for j in range(i):
            real = next(n for n, (a, b) in enumerate(zip(paths[i], paths[j], strict=False)) if a != b) * 512
            assert common(trace, i, j) <= real
    assert (common(trace, 0, 2), common(trace, 3, 4), common(trace, 0, 5)) == (1024, 1024, 512)


def test_an_answer_of_a_conversation_is_a_request_that_follows(tmp_path):
    talk = [("human", "w5 w6"), ("gpt", "w7"), ("human", "w8"), ("gpt", "w9 w10"), ("human", "w1")]
    turns = [{"from": who, "value": says} for who, says in talk]
    other = [{"from": "gpt", "value": "w3"}, {"from": "system", "value": "a b"}, *turns[:2]]
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"conversations": t} for t in (turns, other, turns)]))
    trace = load_sharegpt(path, words, gap=2.0)
    assert [(a.at, a.prompt_tokens, a.new_tokens, a.follows) for a in trace] == [
        (0.0, 2, 1, None), (0.0, 4, 2, 0), (2.0, 4, 1, None), (4.0, 2, 1, None), (4.0, 4, 2, 3),
    ]  # fmt: skip
    assert list(load_trace(path, words)) == list(load_sharegpt(path, words))
    with pytest.raises(ValueError, match="give the tokenizer"):
        load_trace(path)


def test_a_prompt_holds_second_answers_and_what_a_tool_said(tmp_path):
    talk = [
        ("human", "w5"),
        ("gpt", "w6 w7"),
        ("gpt", "w8"),
        ("tool", "a b c"),
        ("human", "w1"),
        ("gpt", "w2"),
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"conversations": [{"from": who, "value": says} for who, says in talk]}]))
    assert [(a.prompt_tokens, a.new_tokens, a.follows) for a in load_sharegpt(path, words)] == [
        (1, 2, None),
        (8, 1, 0),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a,b\n1,2\n", "expected the columns"),
        (b"", "expected the columns"),
        (b'[{"conversations": [', "is not whole"),
        (b'[{"conversations": 3}]', "conversation 0: expected turns"),
        (b'[{"conversations": [{"from": "gpt"}]}]', "conversation 0: expected turns"),
        (b'{"input_length": 3}\n', "line 1"),
        (json.dumps(row(float("nan"), 3, [])).encode(), "line 1"),
        (json.dumps(row(0, 3, [0.5])).encode(), "line 1"),
        (json.dumps(row(0, -3, [])).encode(), "line 1"),
        (b"arrival,input_tokens,output_tokens\nnan,2,3\n", "line 2"),
        (b"arrival,input_tokens,output_tokens\ninf,2,3\n", "line 2"),
    ],
)
def test_what_is_wrong_in_a_file_of_a_known_kind_is_named(tmp_path, text, said):
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match=said):
        load_trace(tmp_path / "x", words)


def test_a_loader_says_which_one_reads_the_file(tmp_path):
    path = lines(tmp_path, [row(0, 3, [])])
    with pytest.raises(
        ValueError, match=r"seems to hold requests as JSON lines \(Mooncake\); expected a table"
    ):
        load_csv(path)
    with pytest.raises(ValueError, match="expected conversations"):
        load_sharegpt(path, words)


def test_damaged_files_are_read_or_refused(tmp_path):
    """Bytes cut out, repeated or changed: a trace or a ValueError, nothing else."""
    rng, refused = random.Random(5), 0
    whole = [
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.99,396,109\n",
        "".join(json.dumps(row(i, 700, [0, i])) + "\n" for i in range(4)).encode(),
        json.dumps(
            [{"conversations": [{"from": "human", "value": "a b"}, {"from": "gpt", "value": "c"}]}] * 3
        ).encode(),
    ]
    for _ in range(300):
        text, at = bytearray(rng.choice(whole)), 0
        for _ in range(rng.randint(1, 3)):
            at, n = rng.randrange(len(text)), rng.randint(1, 12)
            text[at : at + n] = rng.choice(
                [b"", bytes(rng.randrange(256) for _ in range(n)), text[at : at + n] * 2]
            )
        (tmp_path / "x").write_bytes(bytes(text))
        try:
            load_trace(tmp_path / "x", words)
        except ValueError:
            refused += 1
    assert 50 < refused < 300
