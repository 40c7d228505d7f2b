"""What README and docs say: commands are commands, tables are complete, examples are computed."""

import functools
import importlib.util
import math
import re
import shlex
import struct

import pytest
from transformers import LlamaConfig

from helpers import RequestScheduler
from helpers.caches import PrefixStore
from helpers.engine import Request
from helpers.estimates import (
    ACCELERATORS,
    ExpertLoad,
    GiB,
    KVTransfer,
    MemoryCalculator,
    TensorTraffic,
    accelerator_ceilings,
    blocks,
    compute_bound_batch,
    decode_cost,
    draw_routes,
    kv_cache_bytes,
    prefill_cost,
)
from helpers.graphs import Buckets, decode_counts, step_seconds
from helpers.model import PUBLISHED, DecoderConfig, LayerShape
from helpers.parallel import idle_shares, pipeline_slots
from helpers.simulation import PaperPages, Wire
from helpers.traffic import jain
from tools import notebooks as nbs
from tools import readme_figure

README = (nbs.ROOT / "README.md").read_text()
PAGES = [nbs.ROOT / "README.md", nbs.ROOT / "CONTRIBUTING.md", *sorted((nbs.ROOT / "docs").glob("*.md"))]


def test_every_command_is_one(tmp_path):
    spec = importlib.util.spec_from_file_location("course_of_the_readme", nbs.ROOT / "course.py")
    course = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(course)
    commands = [
        line for page in PAGES for line in re.findall(r"python3 course\.py ([^`\n]*)", page.read_text())
    ]
    assert len(commands) > 8
    for line in commands:
        words = shlex.split(line.rstrip(".,;:)"))
        assert course.parse(words).command == words[0]


def test_files_and_variables_that_are_named_exist():
    for name in re.findall(r"`((?:helpers|tools|notebooks|docs|tests)/[\w/.-]+)`", README):
        assert (nbs.ROOT / name).exists(), name
    code = "\n".join(
        path.read_text() for path in [nbs.ROOT / "course.py", *(nbs.ROOT / "helpers").glob("**/*.py")]
    )
    for name in set(re.findall(r"`(COURSE_[A-Z]+)`", README)):
        assert name in code, name


def beginning(path):
    """The first two cells of a notebook, its title and promise among them."""
    return "\n".join(cell.source for cell in nbs.read(path).cells[:2])


def minutes(path):
    """How long a chapter or a lab says it takes."""
    text = beginning(path)
    return 10 if "In ten minutes" in text else int(re.search(r"[Aa]bout (\d+) minutes", text).group(1))


@pytest.mark.parametrize("folder", ["notebooks", "labs"])
def test_the_tables_hold_every_chapter_and_lab(folder):
    rows = {link: (number, title, int(time or 0)) for number, title, link, time in rows_of(folder)}
    expected = {}
    for path in sorted((nbs.ROOT / folder).glob("*.ipynb")):
        title = re.search(r"^# (?:Lab )?(\d+):? (.+)$", beginning(path), re.MULTILINE)
        expected[f"{folder}/{path.name}"] = (title[1], title[2].lower(), minutes(path))
    assert {link: (n, title.lower(), time) for link, (n, title, time) in rows.items()} == expected


def rows_of(folder):
    """Number, title, link and minutes of each row of a table."""
    lines = [line for line in README.splitlines() if re.match(rf"\| \d+ \| \[[^\]]+\]\({folder}/", line)]
    for line in lines:
        number, title, link = re.match(r"\| (\d+) \| \[([^\]]+)\]\(([^)]+)\)", line).groups()
        yield number, title, link, re.search(r"\| (\d+) \|", line[4:]).group(1)


def test_pictures_are_small_and_say_what_they_show():
    pictures = re.findall(r"!\[([^\]]*)\]\((docs/images/[^)]+)\)", README)
    assert len(pictures) == 2
    for alt, name in pictures:
        content = (nbs.ROOT / name).read_bytes()
        assert len(alt) > 20
        assert content.startswith(b"\x89PNG")
        assert len(content) < 250_000
        assert struct.unpack(">I", content[16:20])[0] >= 600


def test_the_figure_is_its_chapters():
    assert readme_figure.TARGET.read_bytes() == readme_figure.figure(), "run: python tools/readme_figure.py"
    with pytest.raises(ValueError, match="no figure"):
        readme_figure.figure(alt="a unicorn")


def least_free_pages(tokens, owed):
    """The fewest free pages of 16 with which a request is admitted while a running prompt lacks `owed` tokens."""
    for free in range(-(-max(tokens, 8 + owed) // 16), 20):  # each fits alone
        pages = PaperPages(free + 1, 16, sharing=False)
        scheduler = RequestScheduler(4, token_budget=8, chunk_size=8, pages=pages, room=10**6)
        scheduler.add_request(Request("runs", range(8 + owed), 1))
        scheduler.schedule()
        pages.commit()
        next(iter(scheduler.running)).computed = 8
        scheduler.add_request(Request("waits", range(100, 100 + tokens), 1))
        if scheduler.would_admit():
            return free
    raise AssertionError("never admitted")


CONFIG_8B = DecoderConfig.from_hf(LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, max_position_embeddings=8192, rope_theta=500000.0,
))  # fmt: skip


@functools.cache
def launches_of_a_token():
    """The launches of one decoded token of Llama-3-8B."""
    return decode_counts(CONFIG_8B).num_launches


def examples():
    """The cheat sheet's examples, by row, computed with the library."""
    llama, device = PUBLISHED["Llama-3-8B"], "Ascend 910C (one die)"
    limits, calculator = accelerator_ceilings(device), MemoryCalculator()
    step, prompt = decode_cost(llama, 1024), prefill_cost(llama, 512)
    fits = calculator.max_batch_size(llama, 1024, ACCELERATORS[device].memory.value)
    latent = LayerShape(kv_heads=1, key_dim=512, value_dim=64, latent=True)
    windowed, mixed = LayerShape(kv_heads=1, window=128), LayerShape(num_experts=128, experts_per_token=8)
    store, known = PrefixStore(1024, 16), list(range(600))
    launches, waits = launches_of_a_token(), step.seconds(limits)
    line = step_seconds(launches, 20e-6, step.nbytes, limits.bandwidth, overlapped=True)
    batches = {3: 1, 5: 1, 8: 1}
    padded = Buckets([4, 8]).padded_rows(batches)
    reused = store.replay([known, known]).reused_tokens
    said, moved = TensorTraffic.of(PUBLISHED["Llama-3-70B"], 8, 1, 1), KVTransfer.of(llama, 4096)
    skewed = ExpertLoad.of(draw_routes(2048, 128, 8, 1.0, seed=1), blocks(128, 8), 8)
    return {
        "sums of a pass, layers cut": f"{said.sums} of {said.sum_bytes:,.0f} B for a token of Llama-3-70B",
        "a message": f"{1e6 * Wire(1e-5, 196e9).send(said.sum_bytes):.1f} µs for those bytes, 10 µs and 196 GB/s",
        "a sum of $b$ bytes over $n$ devices, in two steps": f"{1e6 * Wire(1e-5, 196e9).all_reduce(256 * said.sum_bytes, 8):.0f} "
        "µs for 256 tokens of Llama-3-70B, 8 devices, 10 µs and 196 GB/s",
        "idle share of $p$ equal stages": f"{idle_shares(pipeline_slots([1, 1], [0, 1] * 12))[0]} for 2 stages, "
        "2 groups of 12 passes",
        "load of experts": f"{skewed.imbalance:.2f} for 2,048 tokens, 8 of 128 experts, skew 1, 8 devices",
        "moving a prompt's cache is faster than recomputing": f"{moved.least_bandwidth(limits) / 1e9:.1f} GB/s for "
        "Llama-3-8B and 4,096 tokens",
        "weights": f"{calculator.calculate_model_memory(llama.num_params, 'bf16'):.2f} GB",
        "KV cache of a token": f"{kv_cache_bytes(llama, 1, 1):,} B",
        "KV cache": f"{kv_cache_bytes(llama, 16, 1024) / GiB:.2f} GiB for 16 x 1024",
        "latent of a token (MLA)": f"{61 * 2 * latent.token_elements:,} B for DeepSeek-V3: 61 layers, 512 + 64",
        "tokens that a layer with a window of $w$ keeps": f"{windowed.cached_tokens(1024)} of 1024, window of 128",
        "experts of $E$ that $n$ tokens read, $k$ each": f"{mixed.distinct_experts(16):.1f} of 128 for 16 tokens with 8 each",
        "requests that fit": f"{fits} of 1024 tokens",
        "operations of a token": f"{decode_cost(llama, 0).flops / 1e9:.2f} GFLOP",
        "reading the weights": f"{1e3 * step.weight_bytes / limits.bandwidth:.1f} ms",
        "ridge": f"{limits.ridge:.0f} FLOP per byte",
        "least time of a pass": f"{1e3 * step.seconds(limits):.1f} ms for a decode step after 1024 tokens, "
        f"{1e3 * prompt.seconds(limits):.1f} ms for a prompt of 512",
        "bound by": f"{step.intensity:.2f} FLOP per byte for that step, {prompt.intensity:.0f} for that prompt",
        "MFU, MBU": f"{100 * step.bandwidth_utilisation(0.02, limits):.0f} % MBU at 20 ms a token",
        "reusable of a known prompt": f"{reused} of 600, pages of 16",
        "tokens computed without a cache": f"{sum(100 + i for i in range(3))} for 3 after 100",
        "tokens computed with one": f"{100 + 2}",
        "free pages for an admission": f"{least_free_pages(100, 48)} for 100 tokens while running prompts need 3, "
        "pages of 16",
        "launches of a token": f"{launches} for Llama-3-8B in this course's plain operators",
        "a step on an accelerator": f"{1e3 * line:.1f} ms for {launches} launches of 20 µs beside {1e3 * waits:.1f} ms of reading",
        "padding of a batch $B$": f"{100 * padded / (padded + sum(batches)):.0f} % of all rows for batches of 3, 5 and 8, "
        "one step each, sizes 4 and 8",
        "keys and values that move when prefill is disaggregated": f"{kv_cache_bytes(llama, 1, 2000) / 1e6:.0f} MB "
        "for 2,000 tokens of Llama-3-8B",
        "pages of a request": f"{math.ceil(100 / 16)} for 100 tokens, pages of 16",
        "Jain's index of shares $x_1 \\ldots x_n$": f"{jain([8, 1, 1]):.2f} for shares 8, 1 and 1",
        "batch from which decoding is bound by compute": f"{compute_bound_batch(llama, 0, limits)} without context; "
        f"{str(compute_bound_batch(llama, 1024, limits)).lower()} at 1024 tokens of context",
    }


@pytest.mark.parametrize("row", examples())
def test_the_cheat_sheets_examples_are_computed(row):
    lines = (nbs.ROOT / "docs" / "cheat_sheet.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {row} |")]
    assert len(cells) == 1
    assert cells[0][-1] == examples()[row]
