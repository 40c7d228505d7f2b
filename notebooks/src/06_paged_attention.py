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
# # 6 Paged attention
#
# **Promise.** You will keep keys and values in small pages instead of long rows: first in a way that wastes, leaks
# and mixes requests up, then in one that is proven token for token, shares what is equal and survives a full memory.
#
# **You need** [chapter 3](03_kv_cache.ipynb) and continuous batching ([chapter 5](05_continuous_batching.ipynb)). About 90 minutes.
#
# **We measure** how much of the memory holds tokens, for rows and for pages of 16 to 128 tokens (counted exactly),
# and what reading pages costs a decode step.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: rows are mostly empty
#
# Chapter 3's cache reserves a row for every request, as long as a request may become. Here are 160 requests, in
# prompt and new tokens, and memory for 16,384 tokens. What share of it ever holds a token? `replay_occupancy` counts it
# without a model.

# %%
import random

from helpers.simulation import replay_occupancy

rng = random.Random(0)
trace = [
    (rng.randrange(16, 16 << rng.randrange(1, 7)), rng.randrange(8, 8 << rng.randrange(1, 7)))
    for _ in range(160)
]
lengths = [prompt + new for prompt, new in trace]
print(f"{min(lengths)} to {max(lengths)} tokens each, {sum(lengths) / 160:.0f} on average")
rows_of_2048 = replay_occupancy(trace, 16384, 2048)
print(f"{rows_of_2048.mean_running:.0f} requests run at once,", end=" ")
print(f"{100 * rows_of_2048.shares[0]:.0f} % of the memory holds tokens")

# %% [markdown]
# The rest is reserved and empty, while requests wait. Operating systems have met this problem, and answered it with
# [**pages**](../docs/glossary.md#pages): take memory in small pieces when it is needed, and write down for each request which pieces are its own.
# That list is the request's [**block table**](../docs/glossary.md#block-table) (vLLM and the operators of an NPU call a page a *block*).
#
# Here is what one would write in ten minutes.


# %%
class PlausiblePages:
    """Pages of keys and values. Plausible, and wrong."""

    def __init__(self, page_size):
        self.page_size, self.pages, self.free, self.tables = page_size, [], [], {}

    def allocate_page(self):
        if self.free:
            return self.free.pop()
        sizes = (2, cfg.num_layers, self.page_size, cfg.num_kv_heads, cfg.head_dim)
        self.pages.append(torch.zeros(sizes, device=model.device))
        return len(self.pages) - 1

    def append_tokens(self, name, num_tokens):
        table = self.tables.setdefault(name, [])
        length = len(table) * self.page_size
        while len(table) * self.page_size < length + num_tokens:
            table.append(self.allocate_page())


# %%
import torch

from helpers.model import checkpoint


def get_kv(self, name, layer):
    """One layer's keys and values of a request, put together from its pages."""
    return torch.cat([self.pages[page][:, layer] for page in self.tables[name]], dim=1)


def free_request(self, name):
    """Free a request's pages."""
    self.free += self.tables[name]


PlausiblePages.get_kv, PlausiblePages.free_request = get_kv, free_request
model, tokenizer = checkpoint.load()
cfg = model.cfg

# %% [markdown]
# By hand first: 100 tokens, and then 50 more, in pages of 16.

# %%
pages = PlausiblePages(page_size=16)
pages.append_tokens("A", 100)
pages.append_tokens("A", 50)
print(f"150 tokens take {len(pages.tables['A'])} pages; {-(-150 // 16)} are enough")
print(f"get_kv gives {pages.get_kv('A', 0).shape[1]} keys for them")

# %% [markdown]
# The **new tokens are counted from the end of the last page**, not from the last token: 100 tokens
# fill 7 pages, 50 more take 4 further pages, and a gap of 12 slots stays between them. A
# [**slot**](../docs/glossary.md#slot) is a page's room for one token. And `get_kv` returns **whole
# pages, the unused slots too**.
#
# Now free the pages, twice by mistake: a client cancels a request that has just ended.

# %%
pages.free_request("A")
pages.free_request("A")
pages.append_tokens("B", 160)
pages.append_tokens("C", 160)
mixed = set(pages.tables["B"]) & set(pages.tables["C"])
print(f"B and C write into the same {len(mixed)} of their {len(pages.tables['B'])} pages")
pages.append_tokens("D", 8192)
nbytes = sum(page.nbytes for page in pages.pages)
print(f"and nothing stops D: {len(pages.pages)} pages, {nbytes / 1e6:.0f} MB")
del pages

# %% [markdown]
# **Pages can be freed twice**, and then have two owners. **The pool grows without limit**, until the machine has no
# more. Behind the cache contract of this course, on the real model, you find what else is wrong:

# %%
from helpers import ops
from helpers.model import Cache, chat_prompt, generate


class PlausibleCache(Cache):
    """The pages above as a cache for one request."""

    def __init__(self, page_size):
        self.pages = PlausiblePages(page_size)

    def prepare(self, batch):
        self.pages.append_tokens(0, batch.query_lens[0])

    def attend(self, layer, q, k, v, batch):
        keys, values = self.pages.get_kv(0, layer)
        start, scale = batch.query_start_loc, q.shape[-1] ** -0.5
        return ops.attention(q, keys, values, start, (0, len(keys)), scale)

    def commit(self, batch): ...


# %%
prompt = chat_prompt(tokenizer, "What is 2 + 2?")
plain = generate(model, prompt, 20, stop_ids=[tokenizer.eos_token_id])
wrong = generate(model, prompt, 12, PlausibleCache(16))
print("no cache:", repr(plain.text(tokenizer)))
print("pages:   ", repr(wrong.text(tokenizer)))

# %% [markdown]
# **Nothing ever writes a page.** Memory management is so absorbing that one forgets what it is for.
# So let us write each token's keys and values to its slot:


# %%
class WritingCache(PlausibleCache):
    """It writes. It is still wrong."""

    def attend(self, layer, q, k, v, batch):
        size, table = self.pages.page_size, self.pages.tables[0]
        for token, place in enumerate(batch.positions.tolist()):
            page = self.pages.pages[table[place // size]]
            page[:, layer, place % size] = torch.stack((k[token], v[token]))
        return super().attend(layer, q, k, v, batch)


cache = WritingCache(16)
wrong = generate(model, prompt, 12, cache)
print(repr(wrong.text(tokenizer)))
print(f"{len(prompt) + 11} tokens take {len(cache.pages.tables[0])} pages")

# %% [markdown]
# It even talks sense, which is the dangerous kind of wrong. The answer is another one, because the
# unused slots take part in the attention with keys of zero (chapter 3's padded buffer again). And
# each decoded token takes a page of its own.
#
# ## The idea in a picture
#
# The right version has a **fixed pool**. Watch three requests in it. A page is hatched where it is taken and empty:
# at most the last page of each request.

# %%
from helpers import PagedKVCache
from helpers.display import plots
from helpers.figures import PageMap, draw_pages

cache = PagedKVCache(num_layers=1, page_size=16, num_pages=32)
for name, length in (("A", 100), ("B", 37), ("C", 80)):
    cache.allocate_request(name, length)
cache.append_tokens("A", 50)
cache.append_tokens("B", 20)
fig = draw_pages(PageMap.of(cache.pool), "32 pages of 16 slots, after A and B have grown")
plots.show(
    fig, alt="A grid of pages; A and B have pages at two places, only their last ones hatched"
)
for name in "AB":
    print(name, "block table", cache.pool.table(name), "for", cache.pool.length(name), "tokens")

# %% [markdown]
# Pages of a request need not lie side by side. Its table says where they are, in the order of its tokens. Token
# number $t$ is in **slot** `table[t // page_size] * page_size + t % page_size`:

# %%
first, last = 109, 114
print(f"A's tokens {first} to {last} are in the slots", cache.pool.slots("A", first, last + 1))

# %% [markdown]
# ## Build it
#
# `PagePool` keeps the accounts and never sees a tensor; `PagedKVCache` adds two tensors `[layers, pages, page_size,
# kv_heads, head_dim]`. What goes wrong above is refused here, before anything changes:

# %%
cache.free_request("C")
for wrong_call in (
    lambda: cache.free_request("C"),
    lambda: cache.append_tokens("A", 1000),
    lambda: cache.pool.slots("A", 140, 160),
):
    try:
        wrong_call()
    except ValueError as error:
        print(f"{type(error).__name__}: {error}")
print("keys of A:", tuple(cache.get_kv("A", 0)[0].shape), "without an unused slot")

# %% [markdown]
# `append` makes room for a request's next token ids, `append_anonymous` for a number of unknown
# tokens, whose pages are never shared. Both call `_extend`. That method counts the pages needed,
# refuses if too few are free, takes them, and makes the table longer. Two of its steps serve what
# comes later in this chapter: `_own_tail` copies a last page that others read, too, and `_fill`
# makes the text of full pages known.

# %%
from helpers.caches import PagePool
from helpers.display import show_source

show_source(PagePool._extend)

# %% [markdown]
# A model's pass writes all new tokens of all requests by their slots, in one call, and then attends. Plain PyTorch
# has no attention that reads through a table. Where the pages of a request lie side by side, they are read in place;
# others are collected first. An NPU's operator reads them where they are (see below). In the listings, `T` counts the new
# tokens of all requests, `H` query heads, `KV` key/value heads, and `D` is the head dimension.

# %%
show_source(PagedKVCache.attend)

# %%
show_source(ops.write_kv_pages)

# %%
show_source(ops.attention_pages)

# %% [markdown]
# ### What is equal is kept once
#
# Chapter 4 shared beginnings through a tree. Pages offer a simpler way: give every *full* page a key, made of its
# tokens and of the key of the page before. Equal keys, equal text, equal keys and values (*key* means two things
# here: the name of a page's text, and attention's keys).
# Many engines take a hash for the key. How long must it be? Here are 2,000 different pages, with a chained hash of 16
# bits:

# %%
from hashlib import blake2b

texts = [(1000 + i, 7, 7, 7) for i in range(2000)]
hashes = {blake2b(repr(("", text)).encode(), digest_size=2).digest() for text in texts}
print(f"{len(texts)} texts, {len(hashes)} hashes")

# %% [markdown]
# Each missing hash would give a request the keys and values of another text. Long hashes make that
# unlikely, and only cryptographic ones protect from a person who looks for it. Here the key is
# *not* a hash. A page's text is looked up by the id of the text before it (each id is given once)
# and by the page's tokens. Python's dictionary hashes these and **compares them in full**.

# `match` walks through a prompt page by page: the id of the text so far and the page's tokens give
# the next page, and that page's text has the next id. Where nothing is found, the walk ends. The
# list `following` is a shortcut: the page that came next the last time is tried first, and believed
# only if both id and tokens are equal.

# %%
from helpers.caches import PageIndex

show_source(PageIndex.match)


# %%
def chat(question):
    """A prompt with instructions that all prompts here begin with."""
    system = (
        "You are the assistant of the Harbour Museum. The museum is open from ten to six, on "
        "Fridays until nine. Tickets cost nine euros; children go free. Answer in one sentence."
    )
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# %%
from helpers.model import FlatBatch

cache = PagedKVCache.for_model(model, num_pages=32)
for name, question in (("A", "When do you open?"), ("B", "Where is the cafe?")):
    ids = chat(question)
    cached = cache.allocate_request(name, ids)
    batch = FlatBatch.pack([ids[cached:]], [cached], [name], device=model.device)
    model(batch, cache)
    print(f"{name}: {len(ids)} tokens, {cached} found, {len(ids) - cached} computed")
cache.free_request("A")
fig = draw_pages(PageMap.of(cache.pool), "A has ended, and B lives on", names="AB")
plots.show(
    fig,
    alt="Two shared pages are B's alone now; a full page of A is free but kept, its last one free",
)

# %% [markdown]
# Two full pages were shared; in the third the prompts part. When A ends, these pages stay B's,
# because a page is free only when *no* table names it: every page has a
# [**reference count**](../docs/glossary.md#reference-count), the number of tables that name it. A's
# own full page is free, but its text may come again. A page that is free and keeps its text is
# [**cached**](../docs/glossary.md#cached): it can be hit until it is evicted, because a request
# needs a page. The page that has been free for longest is taken first.
#
# ### Copy on write
#
# Often one wants several answers to one prompt
# ([**parallel sampling**](../docs/glossary.md#parallel-sampling)). `fork` gives a request's tokens
# to a second one: the table is copied, and no page. As long as both only read, that is right. But
# the last page is partly filled, and both will write into it. The request that first writes into a
# shared page makes a copy of it: [**copy on write**](../docs/glossary.md#copy-on-write).

# %%
cache = PagedKVCache.for_model(model, num_pages=16)
prompt = chat_prompt(tokenizer, "Name three colours.")
first = model(FlatBatch.pack([prompt], seq_ids=["A"], device=model.device), cache)
for child in "BC":
    cache.fork("A", child)
fig = draw_pages(PageMap.of(cache.pool), "One prompt, three owners", names="ABC")
plots.show(fig, alt="Three pages that A, B and C share, the last one partly filled")

# %%
from helpers.engine import Request, choose


def sample(requests, cache, logits, count):
    """Draws `count` tokens for each request; all have their prompts in the cache."""
    answers = [[] for _ in requests]
    for place in range(count):
        drawn = choose(logits, requests, [place] * len(requests))
        answers = [[*answer, token] for answer, token in zip(answers, drawn)]
        history = [len(prompt) + place] * len(requests)
        names = [request.request_id for request in requests]
        batch = FlatBatch.pack([[t] for t in drawn], history, names, device=model.device)
        logits = model(batch, cache)
    return answers


# %%
samples = [Request(name, prompt, temperature=1.0, seed=i) for i, name in enumerate("ABC")]
together = sample(samples, cache, first.expand(3, -1), 16)
fig = draw_pages(PageMap.of(cache.pool), "16 tokens later", names="ABC")
plots.show(fig, alt="Two full pages are shared; A, B and C each have pages of their own")

# %%
for i, request in enumerate(samples):
    alone = PagedKVCache.for_model(model, num_pages=16)
    names = [request.request_id]
    logits = model(FlatBatch.pack([prompt], seq_ids=names, device=model.device), alone)
    equal = sample([request], alone, logits, 16)[0] == together[i]
    print(f"{request.request_id}: equal to its own run with the same seed:", equal)
print(f"pages copied: {cache.pool.stats().copies}, pages used: {cache.pool.num_used};", end=" ")
print("three separate requests would use", 3 * -(-(len(prompt) + 16) // 16))

# %% [markdown]
# Three owners of a page make two copies: the last owner has the page to itself, and writes in
# place. (`ContinuousBatcher.add_samples` does all this for answers in a running batch.) The rule
# behind it all is short: **write only into a page that one table names and that has no key.**
#
# ### When the pool is full
#
# A pool that does not grow will be full one day. A pass that finds too few pages is refused as a whole, before
# anything has changed, and the neighbours go on:

# %%
cache = PagedKVCache.for_model(model, num_pages=6)
model(FlatBatch.pack([prompt], seq_ids=["A"], device=model.device), cache)
before = cache.pool.stats()
try:
    model(FlatBatch.pack([[1] * 80], seq_ids=["greedy"], device=model.device), cache)
except ValueError as error:
    print(error)
print("nothing has changed:", cache.pool.stats() == before)
token = generate(model, prompt, 2).token_ids
batch = FlatBatch.pack([token[:1]], [len(prompt)], ["A"], device=model.device)
print("A goes on, same token as alone:", int(model(batch, cache).argmax()) == token[1])

# %% [markdown]
# But often all requests fit in the beginning, and then grow. To refuse one then would throw
# finished work away. Chapter 5's `ContinuousBatcher` **preempts** instead: the pages of the request
# that joined last are freed, and that request waits at the head of the queue. Later its prompt and
# its answer so far are computed again. (That costs less than it seems: they are one prefill, and
# what is still cached of them is hit.) Only a request that could never fit, even alone, is refused
# at once:

# %%
from helpers import ContinuousBatcher

cache = PagedKVCache.for_model(model, num_pages=15)
engine = ContinuousBatcher(model, cache, max_batch_size=8, token_budget=64)
try:
    engine.add_request(Request("greedy", chat("When do you open?"), max_tokens=1000))
except ValueError as error:
    print(error)

# %% [markdown]
# Seven requests, one more every four passes, in a pool of 15 pages that is far too small for all of them. Between the
# passes we take a map of the pool.

# %%
asked = {
    "A": ("When do you open?", 40),
    "B": ("How much is a ticket for a child?", 24),
    "C": ("What is there to see on a rainy day?", 56),
    "D": ("Name a fruit.", 16),
    "E": ("Where is the cafe?", 48),
    "F": ("Who are you?", 32),
    "G": ("Tell me about ships.", 40),
}
coming = [Request(name, chat(question), new) for name, (question, new) in asked.items()]
maps = []
while coming or engine.waiting or engine.running:
    if coming and len(maps) % 4 == 0:
        engine.add_request(coming.pop(0))
    engine.process_batch()
    maps.append(PageMap.of(cache.pool))

# %%
from helpers.display import Table
from helpers.figures import draw_history

gave_way = {i: " ".join(step.preempted) for i, step in enumerate(engine.steps) if step.preempted}
fig = draw_history(maps, "15 pages over time; dotted: preemptions", gave_way)
plots.show(
    fig, alt="Pages in their requests' colours over the passes; dotted lines mark preemptions"
)

# %% [markdown]
# The dark pages are the instructions that all share (where only one request is left, in its own
# colour). A page is pale while it is nearly empty. Where a dotted line is, the pool was full, and
# the named request was preempted; grey pages are free and still cached.

# %% [markdown]
# ## Prove it
#
# The tokens of all requests, preempted ones too, are those of a run alone in chapter 3's cache:

# %% tags=["skip-emulated"]
from helpers import KVCache

rows = []
for name, state in sorted(engine.finished.items()):
    ids, new = list(state.request.prompt_ids), state.request.max_tokens
    alone = generate(model, ids, new, KVCache.for_model(model, 1, 128))
    preempted, computed = state.preemptions, state.tokens_computed
    rows.append((name, preempted, computed, len(ids) + new - 1, state.token_ids == alone.token_ids))
Table(("", "preempted", "tokens computed", "alone, no sharing", "tokens equal"), rows)

# %% [markdown]
# And pages of any size give the tokens of rows and of no cache at all. All pages are full of NaN
# (*not a number*) before: if any unused slot took part in the attention, the answer would be
# ruined.

# %% tags=["skip-emulated"]
questions = ("What is 2 + 2?", "What is the capital of France?", "Name a fruit.")
for question in questions:
    ids = chat_prompt(tokenizer, question)
    no_cache = generate(model, ids, 8).token_ids
    rows_cache = generate(model, ids, 8, KVCache.for_model(model, 1, 64)).token_ids
    paged = []
    for size in (1, 16, 32, 64, 128):
        cache = PagedKVCache.for_model(model, num_pages=-(-64 // size), page_size=size)
        cache.k.fill_(float("nan")), cache.v.fill_(float("nan"))
        paged.append(generate(model, ids, 8, cache).token_ids)
    equal = all(tokens == no_cache for tokens in (rows_cache, *paged))
    print(f"{question:32} no cache = rows = pages of 1, 16, 32, 64, 128:", equal)

# %% [markdown]
# ## Measure it: waste
#
# Prediction first. A row is empty behind its request's last token. With pages, a request wastes the
# empty slots of its last page: on average half a page, $(\mathrm{size} - 1) / 2$ slots. So for
# 16,384 slots and $r$ requests at once, the empty share should be
# $r\,(\mathrm{size} - 1) / 2 / 16384$. The same trace as above:

# %%
runs = {f"pages of {size}": replay_occupancy(trace, 16384, size) for size in (16, 32, 64, 128)}
runs["rows of 2048"] = rows_of_2048
rows = []
for (name, run), size in zip(runs.items(), (16, 32, 64, 128, 2048)):
    predicted = 100 * run.mean_running * (size - 1) / 2 / 16384 if size < 2048 else None
    counted = f"{100 * run.shares[1]:.1f} %"
    guess = "-" if predicted is None else f"{predicted:.1f} %"
    rows.append((name, f"{run.mean_running:.0f}", run.passes, run.preemptions, guess, counted))
head = (
    "",
    "at once",
    "passes until all are done",
    "preempted",
    "empty, predicted",
    "empty, counted",
)
Table(head, rows)

# %%
from helpers.figures import draw_shares

fig = draw_shares(runs, "16,384 slots, 160 requests: what the memory holds")
plots.show(
    fig, alt="Bars: pages of 16 hold tokens in nearly all slots, rows in a small part of them"
)

# %%
small, rows_run = runs["pages of 16"], runs["rows of 2048"]
print(f"{small.mean_running / rows_run.mean_running:.1f} times as many requests at once,", end=" ")
print(f"{rows_run.passes / small.passes:.1f} times fewer passes")
print(
    f"preempted {small.preemptions} times, {small.recomputed:,} tokens computed twice, of", end=" "
)
print(f"{sum(lengths):,}")

# %% [markdown]
# That is what paged attention is for: not one operation becomes faster; **the batch becomes larger**. (What that is
# worth comes below.)
#
# Why not pages of one token, then? And why does an NPU like 128?

# %% [markdown]
# ## Measure it: the size of a page
#
# Small pages waste less, and share more: only full pages of a common beginning are shared. Large ones mean shorter
# tables, fewer keys, and longer pieces that lie in one place. Eight requests of different lengths, with a
# common beginning of 200 tokens:

# %%
common = list(range(200))
prompts = [common + [1000 * i + t for t in range(38 * i - 6)] for i in range(1, 9)]
print(f"{len(prompts)} requests of {len(prompts[0])} to {len(prompts[-1])} tokens")


def counts(size):
    """Entries of all tables, empty slots, and tokens shared, for the eight prompts."""
    pool = PagePool(num_pages=8 * 512 // size, page_size=size)
    for name, text in enumerate(prompts):
        cached = pool.admit(name, text)
        pool.append(name, text[cached:])
    pool.confirm(*pool.requests)
    entries = sum(len(pool.table(name)) for name in pool.requests)
    return entries, pool.stats().wasted_slots, pool.stats().hit_tokens


# %%
sizes = (1, 16, 32, 64, 128)
Table(
    ("page size", "table entries", "empty slots", "tokens shared"),
    [(size, *counts(size)) for size in sizes],
)

# %% [markdown]
# And the time? A decode step with eight requests of 500 tokens, in four ways: rows; pages that lie side by side and
# are read in place; pages of 16 and of 128 that are scattered and must be collected. Prediction: a step reads the
# weights and the history, whether in rows or in pages. Collecting adds a write and a second reading of the history,
# unless the copy, one layer's at a time, stays in the processor's own cache. So the scattered steps should take
# between 1 time and this many times those of rows:

# %%
from helpers.estimates import decode_cost
from helpers.model import PUBLISHED

smol = PUBLISHED["SmolLM2-135M"]
step = decode_cost(smol, 500, 8, weight_bytes=4, element_bytes=4)
most, layer = (step.nbytes + 2 * step.kv_bytes) / step.nbytes, step.kv_bytes / smol.num_layers
print(f"a step moves {step.nbytes / 1e6:.0f} MB, {step.kv_bytes / 1e6:.0f} MB are keys and values")
print(f"{layer / 1e6:.1f} MB in each layer; collected: up to {most:.1f} times")


# %%
def in_rows():
    """Eight rows with 500 tokens each."""
    cache = KVCache.for_model(model, 8, 512)
    zeros = torch.zeros(cfg.num_layers, cfg.num_kv_heads, 500, cfg.head_dim, device=model.device)
    for row in range(8):
        cache.restore(row, zeros, zeros)
    return cache


def in_pages(size, scattered, requests=8, length=500):
    """Requests of some length, in pages side by side, or taken in turns."""
    pages = -(-length // size)
    cache = PagedKVCache.for_model(model, num_pages=requests * pages, page_size=size)
    piece = size if scattered else length
    for start in range(0, length, piece):
        for name in range(requests):
            if not start:
                cache.allocate_request(name, 0)
            cache.append_tokens(name, min(piece, length - start))
    return cache


# %%
from helpers.machine import Stopwatch, repeats


def step_times(cache, requests=8, length=500):
    """Seconds of a decode step, and of its preparation alone: medians of several."""
    steps, hosts = [], []
    for i in range(1 + repeats(model.device, 7)):
        batch = FlatBatch.pack([[5]] * requests, [length + i] * requests, device=model.device)
        with Stopwatch(model.device) as host:
            cache.prepare(batch)
        with Stopwatch(model.device) as watch:
            model(batch, cache)
        steps.append(watch.seconds), hosts.append(host.seconds)
    return sorted(steps[1:])[len(steps) // 2], sorted(hosts[1:])[len(hosts) // 2]


# %% tags=["skip-emulated"]
kinds = {
    "rows": (in_rows, "1"),
    "pages of 128, side by side": (lambda: in_pages(128, scattered=False), "1"),
    "pages of 16, scattered": (lambda: in_pages(16, scattered=True), f"1 to {most:.1f}"),
    "pages of 128, scattered": (lambda: in_pages(128, scattered=True), f"1 to {most:.1f}"),
}
times = {name: step_times(make()) for name, (make, _) in kinds.items()}

# %% tags=["skip-emulated"]
from helpers.display import measured

rows = []
for name, (_, predicted) in kinds.items():
    seconds, preparing = times[name]
    ratio = measured(seconds / times["rows"][0], "x")
    rows.append((name, predicted, ratio, measured(seconds), measured(preparing)))
Table(("", "predicted", "times that of rows", "step", "of it, preparing"), rows)

# %% [markdown]
# Paging makes no step faster. What was predicted for the scattered pages is the worst case; the
# nearer to 1 they come, the better one layer's copy fits into the processor's cache. The size of a
# page hardly matters to a copy. One cost is not in the bytes, and so pages side by side do not
# reach their 1. Reading pages in place takes a call of attention for each request in each layer,
# where rows and collected pages take one for all. An NPU's fused operator does not collect: it
# fetches page after page into the core's buffers, and there the length of a piece counts. Preparing
# a step (slots and tables, on the host) takes little time beside the step.
#
# ## Measure it: a larger batch
#
# What is it worth that the memory holds so many more requests? A decode step reads the weights once, for however many
# it serves. Chapter 2's arithmetic, for the two batches of the trace, and this machine beside it:

# %% tags=["skip-emulated"]
from helpers.estimates import accelerator_ceilings
from helpers.measurements import host_ceilings

llama, die = PUBLISHED["Llama-3-8B"], accelerator_ceilings("Ascend 910C (one die)")
ceilings, rows = host_ceilings(model.device), []
for name in ("rows of 2048", "pages of 16"):
    batch = round(runs[name].mean_running)
    seconds = step_times(in_pages(16, False, batch, 258), batch, 258)[0]
    least = decode_cost(smol, 258, batch, weight_bytes=4, element_bytes=4).seconds(ceilings)
    there = batch / decode_cost(llama, 258, batch).seconds(die)
    here = (measured(batch / least, "tok/s"), measured(batch / seconds, "tok/s"))
    rows.append((name, batch, f"{there:,.0f} tok/s", *here))
head = ("memory in", "requests", "Llama-3-8B, 910C die, predicted", "SmolLM2 here, by ceilings")
Table((*head, "SmolLM2 here"), rows)

# %% [markdown]
# Where reading the weights takes nearly all of a step, as on the accelerator, tokens per second grow almost as the
# batch does. A small processor reaches its limit of computing much earlier, and gains less; and it stays far below what
# its ceilings allow, because a small model's step is many small operators (chapter 2).
#
# ## Sweep it
#
# A batch of requests of random lengths, up to the longest. How much of the memory is empty, for every size of a page?


# %%
from helpers.display import SweepPanel, dropdown, power_slider
from helpers.estimates import ACCELERATORS, GiB, MemoryCalculator


def used_pages(batch, longest, size):
    """Tokens and pages of a batch of random lengths."""
    rng = random.Random(1)
    drawn = [rng.randrange(1, longest + 1) for _ in range(batch)]
    return sum(drawn), sum(-(-length // size) for length in drawn)


# %%
def draw(model, page_size, batch, sequence):
    sizes = [2**i for i in range(sequence.bit_length())]
    fig, ax = plots.new_figure(
        f"{model}, {batch} requests", "page size, tokens", "empty, %", width=6
    )
    tokens, pages = used_pages(batch, sequence, page_size)
    waste = [100 * (1 - tokens / (size * used_pages(batch, sequence, size)[1])) for size in sizes]
    ax.plot(sizes, waste, "o-", color=plots.COLORS["kv_cache"])
    ax.axvline(page_size, color=plots.COLORS["accent"], linestyle="--")
    plots.log_axis(ax, "x")
    ax.set_ylim(0, 100)
    per_token = 2 * PUBLISHED[model].kv_elements_per_token
    memory = ACCELERATORS["Ascend 910B1"].memory.value
    room = MemoryCalculator().kv_budget_bytes(PUBLISHED[model], memory) / per_token
    rows = [("tokens", f"{tokens:,}"), ("pages", f"{pages:,}")]
    rows += [("empty slots", f"{pages * page_size - tokens:,}")]
    rows += [("pages take", f"{pages * page_size * per_token / GiB:.2f} GiB")]
    rows += [("rows would take", f"{batch * sequence * per_token / GiB:.2f} GiB")]
    rows += [("such batches on a 910B1", f"{room / (pages * page_size):,.1f}")]
    return fig, Table(("", "here"), rows)


# %%
SweepPanel(
    draw,
    {
        "model": dropdown("model", list(PUBLISHED), value="Llama-3-8B"),
        "page_size": power_slider("page size", value=128, min=1, max=2048),
        "batch": power_slider("requests", value=32, max=256),
        "sequence": power_slider("longest, tokens", value=2048, min=128, max=32768),
    },
    alt="Empty share of the memory over the page size, with the chosen size marked",
)

# %% [markdown]
# ## On Ascend
#
# Two operators of torch_npu do what this chapter is about:
#
# - `npu_scatter_pa_kv_cache(key, value, key_cache, value_cache, slot_mapping, cache_mode="Norm")` writes new tokens
#   into caches `[blocks, block_size, kv_heads, head_dim]`, in place. No slot may come twice. Its default mode is
#   another one (`PA_NZ`, for a layout with 16 elements side by side): leave `cache_mode` out, and the data stands in
#   another order.
# - `npu_fused_infer_attention_score_v2(..., block_table=..., block_size=128, actual_seq_kvlen=[...])` attends through
#   the tables: int32, two-dimensional, unused entries 0. **The ids are not checked**; a wrong one reads other memory.
#   The cache is passed as `[blocks, block_size, kv_heads * head_dim]`: four dimensions would be taken for another
#   layout. Lengths of keys are *plain* here, one for each request, not cumulative. Without them the unused slots
#   count.
#
# The block size is a multiple of 16 for decode. Prefill over pages wants a multiple of 128. Both want 512 at most, and the
# library refuses larger pages on an NPU in 16 bits before any operator is called. So 128 serves all, and is what production
# takes.
#
# The next cell runs a decode step by both in 16 bits, over scattered pages, and compares with attention over one
# piece.

# %%
from helpers.machine import where_it_ran


def decode_through_pages(size, dtype=torch.bfloat16, lens=(130, 300)):
    """The largest difference to attention over keys and values in one piece."""
    torch.manual_seed(0)
    q, keys, values = (torch.randn(n, h, 64) for n, h in ((2, 6), (sum(lens), 2), (sum(lens), 2)))
    q, keys, values = (t.to(model.device, dtype) for t in (q, keys, values))
    k, v = (torch.full((64, size, 2, 64), 9.0).to(q) for _ in "kv")
    tables = [
        list(range(i, 64, 2))[: -(-n // size)] for i, n in enumerate(lens)
    ]  # even and odd pages
    slots = [t[i // size] * size + i % size for t, n in zip(tables, lens) for i in range(n)]
    ops.write_kv_pages(k, v, keys, values, torch.tensor(slots, device=q.device))
    block_tables = ops.BlockTables(tables, lens, size, q.device)
    got = ops.attention_pages(q, k, v, block_tables, (0, 1, 2), 64**-0.5)
    want = ops.attention(q, keys, values, (0, 1, 2), (0, lens[0], sum(lens)), 64**-0.5)
    return float((got - want).abs().max())


# %%
for size in (16, 128):
    print(f"pages of {size}: within 0.01 of one piece:", decode_through_pages(size) < 0.01)
print(where_it_ran(model.device))

# %% [markdown]
# ## In production
#
# vLLM calls a page a block. Its size can be asked for, but vLLM-Ascend 0.23 and later set it to 128 while prefix caching or chunked prefill is
# on, and both are on by default. How many pages there are follows from memory: as many as weights and activations leave room for. When
# the log says that requests were preempted, the pool is too small for the seats: allow fewer at once, or give the pool more
# room.

# %%
from helpers.production import options_table

options_table(
    {
        "--block-size": "the page size",
        "--gpu-memory-utilization": "memory, hence the number of pages",
        "--no-enable-prefix-caching": "pages are not shared",
        "--max-num-seqs": "the requests that need pages at once",
    }
)

# %% [markdown]
# ## Recap
#
# A request takes pages when its tokens come, and its block table says where they are; at most one
# page of each is partly empty, so that several times as many requests fit. Full pages of equal text
# are shared, and no request writes into a page that others read: it is copied first. A full pool is
# no catastrophe: the last request to join is preempted, and computed again later.
#
# **Check yourself.**
#
# 1. A page size of 16, a prompt of 100 tokens, forked twice so that three requests go on, 20 new tokens each. How many pages are used
#    in the end?
# 2. Your paged cache gives right answers until the server has run for an hour. What do you suspect?
#
# <details><summary>Answers</summary>
#
# 1. 100 tokens fill 6 pages, which all share, and 4 slots of a seventh. Each sample has 24 tokens
#    behind the six pages, in 2 pages of its own: 6 + 3 x 2 = 12.
# 2. Pages begin to be used a second time. Either one is freed twice or too early, and has two
#    owners, or slots are read that were not written since: they held zeros in the beginning, and
#    now hold another request's text.
#
# </details>
#
# Now you: [Lab 6](../labs/06_paged_attention.ipynb).
# Next: [7 Flash attention](07_flash_attention.ipynb).
# Back: [5 Continuous batching](05_continuous_batching.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
