# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,nbgrader,slideshow,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 Continuous batching
#
# **Promise.** You will watch requests wait for each other, write a scheduler that mixes up their
# answers, and then run one that lets requests join and leave after every pass, and proves that no
# request's tokens change.
#
# **You need** [chapter 3](03_kv_cache.ipynb); [chapter 4](04_prefix_reuse.ipynb) helps. About 60 minutes.
#
# **We measure** wasted tokens (exactly), throughput, the time to the first token (TTFT), the time
# per output token (TPOT), and the longest silence between two tokens.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: waiting for the longest
#
# A decode step reads every weight of the model for one token. Chapter 2 found the cure: serve several requests in one
# pass, and they share the reading.

# %%
from helpers.estimates import decode_cost
from helpers.model import PUBLISHED

smol, fp32 = PUBLISHED["SmolLM2-135M"], {"weight_bytes": 4, "element_bytes": 4}
for batch in (1, 8):
    megabytes = decode_cost(smol, 100, batch, **fp32).nbytes / 1e6
    print(f"a decode step for {batch} moves {megabytes:.0f} MB, {megabytes / batch:.0f} per token")

# %% [markdown]
# The obvious way is a [**static batch**](../docs/glossary.md#static-batch): take eight requests, pad their prompts to one length, and decode until all are done. Here
# are sixteen requests, ragged as real ones are: questions about longer or shorter texts, with longer or shorter answers.

# %%
from helpers import ContinuousBatcher, PagedKVCache
from helpers.engine import Request
from helpers.model import chat_prompt, checkpoint, generate

model, tokenizer = checkpoint.load()
PASSAGE = (
    "The lighthouse keeper climbed the stairs at dusk. The lamp was old, its glass was cracked, "
    "and yet the light reached nine miles across the bay. Ships from Norway brought timber, "
    "ships from Spain brought oranges, and once a year a ship from Greenland brought nothing "
    "but cold air and tales. The keeper wrote all of them down. When she retired, the museum "
    "found forty books."
)
WORDS = (4, 40, 8, 66, 12, 6, 52, 20, 60, 4, 16, 46, 9, 30, 5, 58)  # of the passage
ANSWERS = (6, 30, 3, 12, 26, 9, 4, 18, 8, 28, 5, 16, 24, 3, 20, 10)  # tokens
texts = [" ".join(PASSAGE.split()[:n]) for n in WORDS]
prompts = [chat_prompt(tokenizer, f"{text} Who is this about?") for text in texts]
requests = [Request(i, prompt, ANSWERS[i]) for i, prompt in enumerate(prompts)]
print("prompts:", [len(prompt) for prompt in prompts])
print("answers:", list(ANSWERS))


# %%
from helpers.engine import StaticBatcher
from helpers.traffic import Served


def serve(batcher, requests):
    """The batcher, after it has served all of them."""
    for request in requests:
        batcher.add_request(request)
    batcher.run()
    return batcher


def pages(n=256):
    """A cache of its own for each batcher; pages are chapter 6's subject."""
    return PagedKVCache.for_model(model, n, sharing=False)


# %% tags=["skip-emulated"]
serve(StaticBatcher(model, pages()), requests[:2])  # the first pass ever is slow
static = serve(StaticBatcher(model, pages(), max_batch_size=8), requests)
print("tokens computed:", (seen := Served.of(static)).computed, " needed:", seen.needed)
print(f"wasted tokens: {100 * seen.wasted:.0f} %")

# %% [markdown]
# A [**seat**](../docs/glossary.md#seat) is the place of one request in the batch. There are two kinds
# of waste. A short prompt is padded to the longest; and a request that has finished keeps its seat
# until the longest answer ends. All the while the next eight requests wait, although there are seats
# that do no work.
#
# ## Feel the problem: joining and leaving, wrongly
#
# So let requests join and leave between passes. Here is what one would write: take from the queue
# while there are seats, run a pass over the new tokens of all (a whole prompt, or the token chosen
# last), give each request its next token, drop those that are done.

# %%
from dataclasses import replace

import torch

from helpers.engine import RequestState
from helpers.model import FlatBatch, Generation


class Kept(RequestState):
    """A request that also notes how clear its choices were, as `Generation` does."""

    margins = ()


# %%
class PlausibleBatcher:
    """Requests join and leave after every pass. Plausible, and wrong."""

    def __init__(self, cache, max_batch_size=32, max_wait_time=0.1):
        self.cache, self.seats = cache, max_batch_size
        self.waiting, self.running = [], []

    def add_request(self, request):
        self.waiting.append(Kept(request, arrived=0.0))


# %%
def process_batch(self):
    """One pass."""
    while self.waiting and len(self.running) < self.seats:
        self.running.append(self.waiting.pop(0))
    new = [state.token_ids[-1:] or state.request.prompt_ids for state in self.running]
    cached = [state.num_tokens - len(tokens) for state, tokens in zip(self.running, new)]
    batch = FlatBatch.pack(new, cached, [state.name for state in self.running], model.device)
    best = self.logits(self.place(batch)).topk(2)
    for state, (first, second), (token, _) in zip(self.running, best.values, best.indices.tolist()):
        state.token_ids.append(token)
        state.margins += (float(first - second),)
    for state in self.running:
        if len(state.token_ids) == state.request.max_tokens:
            self.cache.free_request(state.name)
    self.running = [s for s in self.running if s.name in self.cache.pool.requests]


PlausibleBatcher.process_batch = process_batch


# %%
def place(self, batch):
    """Positions: a prompt's tokens from 0 on, and an answer's tokens from 0 on."""
    starts = [len(state.token_ids) for state in self.running]
    parts = [torch.arange(n, n + new) for n, new in zip(starts, batch.query_lens)]
    return replace(batch, positions=torch.cat(parts).to(model.device))


def logits(self, batch):
    """The pass itself."""
    return model(batch, self.cache, logits="all")


PlausibleBatcher.place, PlausibleBatcher.logits = place, logits

# %%
questions = ["What is the opposite of hot?", "Name a fruit.", "What colour is the sky?"]


def ask(kind, num_pages=64, tokens=7):
    """The batcher after its work, and the requests as we, not it, have kept them."""
    batcher = kind(PagedKVCache.for_model(model, num_pages, sharing=False))
    for question in questions:
        batcher.add_request(Request(question, chat_prompt(tokenizer, question), tokens))
    states = list(batcher.waiting)
    while batcher.waiting or batcher.running:
        batcher.process_batch()
    return batcher, states


batcher, states = ask(PlausibleBatcher)
print(f"{len(states)} went in; in the batcher are now {len(batcher.waiting + batcher.running)}")

# %% [markdown]
# **The first mistake** is on the last line of `process_batch`: a request that is done is dropped,
# and its answer is lost. We have kept the requests outside of the batcher. What did it
# answer?


# %%
def show(states):
    """Each question with what was answered."""
    for state in states:
        answer = Generation(state.request.prompt_ids, state.token_ids, list(state.margins))
        print(f"{state.name:29} {answer.text(tokenizer)!r}")


show(states)

# %% [markdown]
# Nonsense. **The second mistake**: the pass gives logits for every token of the flat batch, one row each, and the batcher takes
# the first three rows for its three requests. All of them belong to the first request's prompt. The rows that count are each
# prompt's last.

# %%
flat = FlatBatch.pack([state.request.prompt_ids for state in states])
print(f"{len(flat.token_ids)} rows of logits; taken 0, 1, 2;", end=" ")
print("needed", flat.last_token_indices.tolist())


class RightRows(PlausibleBatcher):
    """Takes the rows of last tokens."""

    def logits(self, batch):
        return model(batch, self.cache)


batcher, states = ask(RightRows)
show(states)

# %% [markdown]
# That is language, and one of them even sounds like an answer. (A similar mistake is
# `logits.argmax()` without a dimension: it counts through all rows and columns, and gives a "token"
# far beyond the vocabulary.)
#
# **The third mistake** is the hard one to see. The first token after a prompt of `n` tokens has position `n`; `place` counts
# an answer from 1. Keys and queries carry their positions, so the model believes that it is back at the start of the prompt.


# %%
class RightPlaces(RightRows):
    """An answer stands behind its prompt."""

    def place(self, batch):
        return batch  # FlatBatch has counted from the tokens that are cached


batcher, states = ask(RightPlaces)
show(states)

# %% [markdown]
# These are the model's answers. **The fourth mistake** shows when memory is short. Three requests
# are admitted because there are seats; whether their tokens find pages is never checked.

# %%
from helpers.caches import OutOfPages

try:
    ask(RightPlaces, num_pages=10, tokens=14)
except OutOfPages as error:
    print(error)

# %% [markdown]
# One request runs out of pages, and the exception loses the answers of all. (The fifth mistake does
# no harm: `max_wait_time` is accepted, and no line reads it.)
#
# ## The idea in a picture
#
# [**Continuous batching**](../docs/glossary.md#continuous-batching) decides anew after *every pass*
# which requests take part: iteration-level scheduling, invented by Orca (OSDI 2022). Here are
# twelve requests for an 8-billion-weight model on one die of an Ascend 910C, four seats. The passes
# are scheduled by the real batchers, and *timed on paper*: each takes as long as its bytes or its
# operations take, whichever is longer (chapter 2). The figure is a
# [**Gantt chart**](../docs/glossary.md#gantt-chart): a line for each request, time from left to
# right, and bars for what the request was doing.

# %%
from helpers.display import plots
from helpers.estimates import accelerator_ceilings
from helpers.figures import draw_gantt
from helpers.simulation import PaperModel, serve_on_paper
from helpers.traffic import VirtualClock

PROMPTS = (192, 768, 256, 1536, 128, 512, 64, 1024, 320, 96, 640, 224, 448, 160, 896, 288)
LENGTHS = (20, 6, 28, 12, 4, 24, 8, 30, 16, 10, 26, 5, 14, 22, 7, 18)


def on_paper(kind, count, gap, shape=PUBLISHED["Llama-3-8B"], **options):
    """A batcher that has served `count` requests, one every `gap` seconds, on a 910C die."""
    clock = VirtualClock()
    paper = PaperModel(shape, accelerator_ceilings("Ascend 910C (one die)"), clock)
    batcher = kind(paper, paper.cache(4096), clock=clock, **options)
    arrivals = [gap * i for i in range(count)]
    serve_on_paper(batcher, PROMPTS[:count], LENGTHS[:count], arrivals, clock)
    return batcher


# %%
runs = {
    "static": on_paper(StaticBatcher, 12, 0.025, max_batch_size=4),
    "continuous": on_paper(ContinuousBatcher, 12, 0.025, max_batch_size=4),
}
fig = draw_gantt("Twelve requests, one every 25 ms, four seats", runs)
plots.show(fig, alt="Static: four rows begin and end together. Continuous: a seat is taken at once")

# %% [markdown]
# Grey lines are waiting. Hatched stretches are wasted: there a static batch holds the seat of a
# request that has finished. In the lower chart a seat that becomes free is taken in the next pass.
#
# ## Build it
#
# `ContinuousBatcher` is the right version of the class above. A pass is planned in two halves.
# First come running requests, each with its next token or with the next
# [**chunk**](../docs/glossary.md#chunk) of its prompt, the part that one pass computes. Then
# waiting requests are admitted, from what is left of the `token_budget`. **A waiting request is
# admitted when free pages suffice for its whole text and for what running prompts still need.** The
# plan is a list of `Chunk(state, tokens)`, one for each request in the pass; `process_batch` makes
# the plan and runs the pass. Planning is the work of a scheduler that knows requests and free
# pages, but no tensors; chapter 8 makes more of it.

# %%
from helpers.display import show_source
from helpers.engine import RequestScheduler

show_source(RequestScheduler.schedule)

# %% [markdown]
# Watch it. Two seats, at most 32 tokens in a pass, at most 24 of one prompt.

# %%
from helpers.display import Table

small = ContinuousBatcher(model, pages(), max_batch_size=2, token_budget=32, chunk_size=24)
for name, n, answer in (("A", 30, 4), ("B", 40, 2), ("C", 10, 2)):
    small.add_request(Request(name, prompts[3][:n], answer))
small.run()


def words(part):
    """A share of a pass."""
    last = part.start + part.num_tokens - 1
    places = f"answer {last}" if part.decode else f"prompt {part.start} to {last}"
    return f"{part.request_id}: {places}"


rows = [(i + 1, "; ".join(map(words, step.parts))) for i, step in enumerate(small.steps)]
Table(("pass", "who computes which positions"), rows)

# %% [markdown]
# A prompt's chunk and a neighbour's answer share a pass, in one flat list of tokens, with no
# padding between them. C is admitted when B has ended. And nothing distinguishes a chunk from a
# decode step but its length: each brings tokens, and positions that follow what is cached.
#
# Each mistake of the plausible version is settled in one place. Positions come from the cache's
# lengths, a request's next token comes from its last row of logits, and a request that is done
# lands in `finished` with text, reason and times.

# %%
show_source(ContinuousBatcher._forward)

# %%
for state in small.finished.values():
    print(f"{state.name}: {len(state.token_ids)} tokens, ended by {state.finish_reason}")

# %% [markdown]
# Memory: an admitted request finds pages for its whole text, but its answer may still outgrow the
# pool. Then a running request is [**preempted**](../docs/glossary.md#preempted): all its pages are
# freed, and its text so far is computed again later. No request is preempted unless that frees
# enough pages. A request that could never fit, even alone, is refused when it is added. One that finds
# too few pages later, while none runs that could free some, fails alone.

# %%
tight = ContinuousBatcher(model, pages(10))
for question in questions:
    tight.add_request(Request(question, chat_prompt(tokenizer, question), 14))
tight.run()
for state in tight.finished.values():
    print(f"{state.name:29} {len(state.token_ids)} tokens, preempted {state.preemptions} times")
try:
    tight.add_request(Request("the whole book", [1] * 500))
except ValueError as error:
    print(error)

# %% [markdown]
# ## Prove it
#
# All sixteen requests, with everything made difficult: six seats, chunks of 24 tokens, a pool so small that requests are preempted, and
# shared pages. Each request's tokens must be those of its own run, alone.

# %%
from helpers import KVCache


def by_itself(prompt, tokens):
    """The tokens of a request's own run, in a cache of its own."""
    return generate(model, prompt, tokens, KVCache.for_model(model, 1, 160)).token_ids


# %% tags=["skip-emulated"]
alone = [by_itself(request.prompt_ids, request.max_tokens) for request in requests]
crowded = PagedKVCache.for_model(model, 18, page_size=16)
proof = ContinuousBatcher(model, crowded, 6, token_budget=64, chunk_size=24)
serve(proof, requests)
equal = [proof.finished[i].token_ids == tokens for i, tokens in enumerate(alone)]
print(f"{sum(equal)} of {len(equal)} equal to their own runs")
print("preemptions:", sum(state.preemptions for state in proof.finished.values()))
print("pages still in use:", crowded.pool.num_used)

# %% [markdown]
# Joining and leaving in the middle disturbs no request, either. While request 1 speaks, others
# come, one of them is cancelled, and request 1 never notices:

# %%
batcher = ContinuousBatcher(model, pages(), chunk_size=32)
spoken = []
batcher.add_request(replace(requests[1], max_tokens=12))
for i in range(15):
    if i in (2, 5):
        batcher.add_request(requests[i])
    if i == 8:
        batcher.cancel(5)
    spoken += [token for name, token in batcher.process_batch() if name == 1]
print("tokens equal:", spoken == by_itself(prompts[1], 12))
print("request 5:", batcher.finished[5].finish_reason)

# %% [markdown]
# ## Measure it: static against continuous
#
# First what can be counted. The same sixteen requests, the same eight seats, the same model and cache.

# %% tags=["skip-emulated"]
continuous = serve(ContinuousBatcher(model, pages(), 8, token_budget=256), requests)
same = all(continuous.finished[i].token_ids == static.finished[i].token_ids for i in range(16))
print("tokens equal to the static batch's:", same)
both = {"static": Served.of(static), "continuous": Served.of(continuous)}
rows = [
    (name, s.passes, s.computed, f"{100 * s.wasted:.0f} %", f"{s.answered / s.passes:.1f}")
    for name, s in both.items()
]
Table(("", "passes", "tokens computed", "wasted", "new tokens per pass"), rows)

# %% [markdown]
# Now time, prediction first. Each pass of the log has its bytes and its operations; this machine's measured ceilings say how long it
# must take at least. The sum is the prediction.

# %% tags=["skip-emulated"]
from helpers.display import measured
from helpers.measurements import host_ceilings
from helpers.simulation import pass_cost

ceilings = host_ceilings(model.device)


def predicted(run):
    """The least seconds that its passes can take."""
    return sum(pass_cost(smol, step, **fp32).seconds(ceilings) for step in run.steps)


rows = [
    (name, measured(predicted(run)), measured(s.seconds), measured(s.throughput, "tok/s"),
     measured(s.mean_ttft), measured(s.mean_tpot))
    for (name, s), run in zip(both.items(), (static, continuous))
]  # fmt: skip
Table(("", "predicted (measured ceilings)", "time", "throughput", "mean TTFT", "mean TPOT"), rows)

# %% tags=["skip-emulated"]
told, clocked = predicted(static) / predicted(continuous), seen.seconds / both["continuous"].seconds
print(
    "the static batch takes, predicted:",
    measured(told, "x"),
    "  by the clock:",
    measured(clocked, "x"),
)

# %% tags=["measured", "skip-emulated"]
fig = draw_gantt("Sixteen requests, SmolLM2 in fp32", {"static": static, "continuous": continuous})
plots.show(fig, alt="The same requests on this machine: continuous batching is done earlier")

# %% [markdown]
# Both runs computed the same answers. The static one computed more for them and made the second
# eight wait for the first; the time to the first token shows it most. (Its TPOT may look better:
# while it runs, no prompt is computed beside the answers. That is paid for by queued requests, as
# longer TTFT.) What the prediction leaves out is what it left out in chapter 2, too: starting
# operators, and passes so small that neither ceiling is reached.
#
# ## Measure it: a long prompt arrives
#
# Three requests are being answered, and a client sends 384 tokens. In one piece, the prompt takes
# one long pass, and during that pass no other request gets a token. In chunks, the others' next
# tokens ride along with each chunk. The price: the newcomer's first token comes later. How long the
# longest silence is, chapter 2 can predict: the pass with the most tokens.

# %% tags=["skip-emulated"]
story = tokenizer("The tide came in and the tide went out, and nobody counted. " * 30)["input_ids"]


def newcomer(chunk_size):
    """A run in which 384 tokens arrive after the fourth pass."""
    batcher = ContinuousBatcher(model, pages(), chunk_size=chunk_size)
    for i in range(3):
        batcher.add_request(Request(i, prompts[i], 24))
    for _ in range(4):
        batcher.process_batch()
    batcher.add_request(Request("long", story[:384], 2))
    batcher.run()
    return batcher


late = {chunk: newcomer(chunk) for chunk in (384, 96, 24)}

# %% tags=["skip-emulated"]
rows = []
for chunk, run in late.items():
    slowest = max(pass_cost(smol, step, **fp32).seconds(ceilings) for step in run.steps[1:])
    gap, ttft = Served.of(run).largest_gap, run.finished["long"].ttft
    rows.append((chunk, len(run.steps), measured(slowest), measured(gap), measured(ttft)))
headers = ("chunk", "passes", "longest pass, predicted", "longest silence", "newcomer's TTFT")
Table(headers, rows)

# %% tags=["measured", "skip-emulated"]
charts = {f"chunks of {chunk}": run for chunk, run in late.items()}
fig = draw_gantt("A prompt of 384 tokens arrives", charts)
plots.show(fig, alt="With small chunks the others' answers go on while the prompt is computed")

# %% [markdown]
# A white line ends each token's pass: a long gap is a long wait for a token. Chunks (Sarathi-Serve,
# arXiv:2403.02310) trade the newcomer's TTFT for the TPOT of all others. Small chunks cost
# throughput, too: every pass reads all weights, whether it computes 24 tokens or 384.
#
# ## Sweep it
#
# Sixteen requests on paper, as above. Move the seats, the time between arrivals and the chunk, and
# watch which requests wait. A small chunk adds little time to a pass that is bound by memory; a
# long one silences all other requests.

# %%
from helpers.display import SweepPanel, dropdown, int_slider, power_slider


def draw(model, seats, gap, chunk):
    shape, arrive = PUBLISHED[model], gap / 1000
    run = on_paper(ContinuousBatcher, 16, arrive, shape, max_batch_size=seats,
                   token_budget=2048, chunk_size=chunk)  # fmt: skip
    old = Served.of(on_paper(StaticBatcher, 16, arrive, shape, max_batch_size=seats))
    new = Served.of(run)
    rows = [
        ("tokens computed", f"{old.computed:,}", f"{new.computed:,}"),
        ("new tokens per second", f"{old.throughput:.0f}", f"{new.throughput:.0f}"),
        ("mean TTFT", f"{1e3 * old.mean_ttft:.0f} ms", f"{1e3 * new.mean_ttft:.0f} ms"),
        ("mean TPOT", f"{1e3 * old.mean_tpot:.1f} ms", f"{1e3 * new.mean_tpot:.1f} ms"),
        ("longest silence", f"{1e3 * old.largest_gap:.0f} ms", f"{1e3 * new.largest_gap:.0f} ms"),
    ]
    fig = draw_gantt(f"{model}, 16 requests, {seats} seats", {"continuous": run})
    return fig, Table(("predicted", "static", "continuous"), rows)


# %%
SweepPanel(
    draw,
    {
        "model": dropdown("model", ["SmolLM2-135M", "Llama-3-8B"], value="Llama-3-8B"),
        "seats": power_slider("seats", value=8, min=1, max=16),
        "gap": int_slider("ms between arrivals", value=20, min=0, max=100),
        "chunk": power_slider("chunk, tokens", value=512, min=32, max=2048),
    },
    alt="A Gantt chart of sixteen requests under continuous batching",
)

# %% [markdown]
# ## On Ascend
#
# A mixed pass is one call of the fused attention operator, over packed tokens:
#
# - `npu_fused_infer_attention_score_v2(..., input_layout="TND")` takes packed tokens as they are
#   (tokens, number of heads, head dimension). `actual_seq_qlen` are the *cumulative* ends of the
#   sequences in it; `actual_seq_kvlen`, with a `block_table`, each sequence's *own* number of keys.
#   Give both in the same form, and lengths are wrong without an error.
# - `sparse_mode=3` (lower right) serves a chunk in the middle of a prompt, a whole prompt and a
#   single token alike.
# - Every pass has other shapes. A captured graph (chapter 2) needs fixed ones, so production
#   engines pad a decode batch to the next of some captured sizes, and run mixed passes as graphs in
#   pieces (vLLM 0.23 and 0.33 by default) or without a graph.
#
# One call over a chunk, a whole prompt and a decode token, against a call for each:

# %%
from helpers import ops
from helpers.machine import where_it_ran

shape = dict(device=model.device, dtype=torch.bfloat16)
k, v = (torch.randn(8, 128, 2, 128, **shape) for _ in range(2))  # 8 pages of 128 tokens
new, cached, tables = (5, 9, 1), (130, 0, 200), [[3, 0], [6], [1, 5]]
ends = [0, 5, 14, 15]
q = torch.randn(15, 4, 128, **shape)


# %%
def attend(q, tables, lengths, starts):
    """Attention over pages."""
    tables = ops.BlockTables(tables, lengths, 128, model.device)
    return ops.attention_pages(q, k, v, tables, starts, 128**-0.5).float()


together = attend(q, tables, [135, 9, 201], ends)
for i, kind in enumerate(("chunk", "prompt", "decode")):
    part = slice(ends[i], ends[i + 1])
    own = attend(q[part], tables[i : i + 1], [cached[i] + new[i]], [0, new[i]])
    print(f"{kind:6} equal to its own call:", torch.allclose(together[part], own, atol=0.02))
print(where_it_ran(model.device))

# %% [markdown]
# ## In production
#
# vLLM and vLLM-Ascend schedule as this chapter does, and admit a request only where its whole prompt fits. vLLM-Ascend once had a
# scheduler of its own that did not cut prompts: its key, `ascend_scheduler_config`, went with version 0.12. What it adds to
# vLLM's today is in chapter 8. A larger budget serves throughput and TTFT, a smaller one TPOT. Frequent preemptions in the log mean that
# there are more seats than memory.

# %%
from helpers.production import options_table

options_table(
    {
        "--max-num-seqs": "the seats",
        "--max-num-batched-tokens": "the token budget",
        "--long-prefill-token-threshold": "the chunk",
        "--enable-chunked-prefill": "prompts may be cut at all",
        "--scheduler-reserve-full-isl": "admission asks for the whole prompt",
        "--watermark": "pages that admission leaves free",
        "ascend_scheduler_config": "a scheduler that did not cut prompts",
    }
)

# %% [markdown]
# ## Recap
#
# A pass costs nearly the same for one request as for several, so requests share passes; continuous
# batching decides after every pass which requests share the next. No request waits for the longest,
# nothing is padded, and a budget with chunks bounds the silence between two tokens. It is right
# when positions follow the cache, rows follow the requests, and admission asks for memory: then
# each request's tokens are those of its own run.
#
# **Check yourself.**
#
# 1. With 8 seats and one prompt of 4,000 tokens arriving every second, your users complain of stutter. Which number do you
#    change, and what does it cost?
# 2. A request is preempted after 50 tokens of its answer. What must be computed again, and why does its text not change?
#
# <details><summary>Answers</summary>
#
# 1. The chunk (or the token budget), downwards. Long prompts then take more passes: their first tokens come later, and the weights
#    are read more often for the same work.
# 2. Its prompt and the 50 tokens, in one or more chunks like a prompt. Keys and values depend on tokens and positions alone, and those
#    are the same.
#
# </details>
#
# Now you: [Lab 5](../labs/05_continuous_batching.ipynb).
# Next: [6 Paged attention](06_paged_attention.ipynb).
# Back: [4 Prefix reuse](04_prefix_reuse.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
