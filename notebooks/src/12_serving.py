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
# # 12 Serving and load balancing
#
# **Promise.** You will put the engine behind an address that real clients use: answers are streamed, a client that
# leaves is cancelled, a full server says so. Then you will send requests to several engines, and route
# conversations to the one that knows them without overloading it.
#
# **You need** [chapter 5](05_continuous_batching.ipynb) (the engine) and [chapter 8](08_scheduling.ipynb) (traces,
# the simulator); [chapter 6](06_paged_attention.ipynb) helps. About 75 minutes.
#
# **We measure** from outside, as clients do: the time to the first token (TTFT), the time per output token (TPOT),
# end to end, and the hit rate, the share of prompt tokens that a cache had. Servers run in this notebook, on
# this machine's own address (*loopback*, 127.0.0.1), and are closed when their part of the chapter ends.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: a handler that generates
#
# A web server calls a **handler** for each request. Here is one as one would write it: it generates the answer and
# returns the answer. `async def` says that it runs in the **event loop**, one thread that serves all
# connections in turns: a handler runs until it waits for something (`await`), and then another one runs.

# %%
from fastapi import FastAPI

from helpers import KVCache
from helpers.model import chat_prompt, checkpoint, generate

loaded = checkpoint.load(device="cpu")
model, tokenizer = loaded.model, loaded.tokenizer
plausible = FastAPI()

# %%


@plausible.get("/health")
async def health():
    return "well"


@plausible.post("/generate")
async def answer(body: dict):
    """Answer a prompt. Plausible, and wrong."""
    ids = tokenizer(body["prompt"])["input_ids"]
    cache = KVCache.for_model(model, 1, 256)
    return {"text": generate(model, ids, body["max_tokens"], cache).answer}


# %% [markdown]
# One client asks for an answer of 40 tokens. While it waits, a load balancer asks `/health`, which has nothing
# to compute. And then a client leaves: it gives up after a quarter of a second, and we ask `/health` again.

# %% tags=["skip-emulated"]
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from helpers.display import measured
from helpers.serving.clients import Loopback

http = httpx.Client(verify=False, timeout=60, trust_env=False)
LONG = {"prompt": "Once upon a time", "max_tokens": 40}


# %% tags=["skip-emulated"]
def health_beside(url, work):
    """Seconds of a `/health` call that begins shortly after `work`, and of the work."""
    with ThreadPoolExecutor(1) as another:
        begin = time.perf_counter()
        done = another.submit(lambda: (work(), time.perf_counter())[1])
        time.sleep(0.1)
        asked = time.perf_counter()
        http.get(url + "/health")
        return time.perf_counter() - asked, done.result() - begin


# %% tags=["skip-emulated"]
def give_up(url):
    """A client that leaves before its answer is there."""
    try:
        httpx.post(url + "/generate", json=LONG, timeout=0.25, verify=False, trust_env=False)
    except httpx.ReadTimeout:
        return "gone"


with Loopback(plausible) as server:
    http.post(server.url + "/generate", json={**LONG, "max_tokens": 2})  # warm
    small, long = health_beside(server.url, lambda: http.post(server.url + "/generate", json=LONG))
    after, left = health_beside(server.url, lambda: give_up(server.url))
print("the long answer:           ", measured(long))
print("/health beside it:         ", measured(small))
print("a client gives up after:   ", measured(left))
print("/health beside that client:", measured(after))

# %% [markdown]
# **Mistake one: the handler computes in the event loop.** It never waits, so nothing else runs until its answer is
# complete: no other answer, no `/health`. A load balancer that gets no sign of life sends the machine's traffic
# elsewhere, or restarts the server.
#
# **Mistake two: the computation does not learn that its client has left.** The answer is computed to its end, for
# a closed connection.
#
# Written with a plain `def`, handlers run in threads instead. Then `/health` answers. But four clients mean four loops
# that each read all weights for one token (chapter 5 has the cure, a batch). And four hundred clients mean as many
# caches: nothing bounds them.
#
# **Mistake three is one of several engines.** Four engines stand behind one address, and a *round-robin* router
# sends each request to the next. A conversation sends its whole text each time, but the engine that knows this text is
# only one of four. On paper, for Llama-3-8B on four dies of an Ascend 910C (the simulator of chapter 8):

# %%
from helpers.engine import PrefixRouter, RoundRobinRouter
from helpers.estimates import accelerator_ceilings
from helpers.model import PUBLISHED
from helpers.simulation import RooflineTime, SimulatedEngine, simulate_replicas, together
from helpers.traffic import Lengths, Mix, multi_turn, shared_prefix

there = RooflineTime(PUBLISHED["Llama-3-8B"], accelerator_ceilings("Ascend 910C (one die)"))
talk = Mix(Lengths(120, 0.6, 16, 600), Lengths(80, 0.6, 8, 300))
talks = multi_turn(40, 6, turns=6, think=2, mix=talk, seed=1)


def fleet(trace, router, replicas=4, pages=1024):
    """One report for each simulated engine behind a router."""
    sizes = {"num_pages": pages, "max_batch_size": 8}
    return simulate_replicas(
        trace, [SimulatedEngine(there, **sizes) for _ in range(replicas)], router
    )


# %%
in_turn = together(fleet(talks, RoundRobinRouter()))
at_home = together(fleet(talks, PrefixRouter(balance=0)))
print(f"{len(talks)} requests of 40 conversations; prompt tokens found in a cache:")
print(f"in turn {in_turn.hit_rate:.0%}, to the engine with most of the text {at_home.hit_rate:.0%}")

# %% [markdown]
# So send each request where its text is, at any price? **Mistake four: absolute affinity.** Now all requests begin with
# one of eight long system prompts, and one of these is popular. Of any time, **p50** is the median, and **p99** is what
# 99 of 100 requests stay under:

# %%
short = Mix(Lengths(60, 0.6, 4, 300), Lengths(40, 0.6, 4, 200))
popular = shared_prefix(200, 60, 8, Lengths(2000), short, popularity=1.5, seed=2)
for name, router in {"in turn": RoundRobinRouter(), "at any price": PrefixRouter(0)}.items():
    reports = fleet(popular, router)
    whole, counts = together(reports), [len(report.outcomes) for report in reports]
    print(f"{name:12} requests at each engine {counts},", end=" ")
    print(f"hit rate {whole.hit_rate:.0%}, TTFT p99 {whole.percentile('ttft', 99):.2f} s")

# %% [markdown]
# The hit rate is better, and the tail (p99) is worse: one engine has nearly half of the requests, while the last one
# has an eighth.
#
# ## The idea in a picture
#
# Two threads, and a list between them. The **event loop** takes calls and sends pieces of answers, and never computes.
# The **engine loop** runs passes of the batch, and never waits for a client. The figure is drawn to scale for passes of
# 20 ms (assumed) and three calls: a long one (a), a short one (b), and one whose client leaves (c). The first line is
# the handler of the beginning; the other two lines are the two threads, with the same calls.

# %%
from helpers.display import plots
from helpers.figures import Span, draw_lanes

PASS = 20
runs = {"a": range(1, 8), "b": range(2, 5), "c": range(3, 6)}  # the passes of each call
comes = {"a": 12, "b": 31, "c": 47, "c leaves": 115}


def events(passes):
    """What the event loop does: calls when they come, pieces after each pass."""
    calls = [Span(at, at + 3, "a call comes or leaves") for at in comes.values()]
    sends = [Span((i + 1) * PASS, (i + 1) * PASS + 3, "pieces are sent") for i in passes]
    return sorted(calls + sends)


def batch(i):
    """The names of the calls in pass i."""
    return " ".join(name for name, passes in runs.items() if i in passes)


# %%
passes = [Span(i * PASS, (i + 1) * PASS, "a pass", batch(i)) for i in runs["a"]]
handler = [Span(12, 152, "a handler generates", "a"), Span(152, 212, "a handler generates", "b")]
handler.append(Span(212, 352, "a handler generates", "c, for a closed connection"))
lanes = {"handler that generates": handler, "event loop": events(runs["a"]), "engine loop": passes}
fig = draw_lanes("Three calls: one thread, or two", lanes)
plots.show(fig, alt="One thread serves calls one after another; two threads serve them in a batch")

# %% [markdown]
# The handler that generates blocks its thread from the first call to the last. The two threads have served all three
# calls when the long answer ends. Whatever a client does has its effect in the next pass: a call that comes takes part
# in it, and a call that leaves does not.
#
# ## Build it: the engine loop
#
# `EngineLoop` is that thread. Other threads leave *actions* in its inbox: begin these requests, end that call. Between
# two passes the engine loop does them. What a pass brought goes out by `call_soon_threadsafe`, the one method of an
# event loop that other threads may call.

# %%
from helpers.display import show_source
from helpers.serving import EngineLoop

show_source(EngineLoop._turn)

# %%
show_source(EngineLoop._next_inbox)

# %% [markdown]
# When there is nothing to do, the thread sleeps at `wait`, so an idle server costs nothing. The order in `_turn` makes
# the promise of the picture: all actions come before the next pass. Now the same experiment as above, with
# the course's server (`python3 course.py serve` starts the same one from a terminal):

# %% tags=["skip-emulated"]
from helpers.serving import make_service
from helpers.serving.clients import call, completion

SEATS = dict(max_batch_size=4, token_budget=128)
service = make_service(model, tokenizer, "SmolLM2", num_pages=256, max_waiting=8, **SEATS)
server = Loopback(service).start()
url = server.url
call(url, completion("Once upon a time", 2))  # warm
small, long = health_beside(url, lambda: call(url, completion("Once upon a time", 40)))
print("the long answer:  ", measured(long))
print("/health beside it:", measured(small))

# %% [markdown]
# ### Streaming: what is on the wire
#
# An answer of hundreds of tokens takes seconds. A reader wants to begin at once, so the answer is streamed as
# [**server-sent events**](../docs/glossary.md#server-sent-events) (SSE): lines of text, `data: ` before each
# piece, an empty line behind it. A socket and some bytes suffice to ask for one. (The dots stand for fields
# that are the same in all events: name, time, model.)

# %% tags=["skip-emulated"]
import json
import re
import socket

question = chat_prompt(tokenizer, "What is the capital of France?")
body = json.dumps(completion(question, 4, stream=True))
port = int(url.rsplit(":", 1)[1])
lines = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Connection: close"]
lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", body]
# %% tags=["skip-emulated"]
with socket.create_connection(("127.0.0.1", port)) as wire:
    wire.sendall("\r\n".join(lines).encode())
    raw = b"".join(iter(lambda: wire.recv(4096), b""))
head, _, rest = raw.decode().partition("\r\n\r\n")
shown = re.sub(r'"id": .*?"choices"', '..., "choices"', rest)
print("\n".join(line for line in head.splitlines() if not line.startswith("date")))
print("\n".join(["", *shown.splitlines()[:10]]))
print(
    "the pieces:",
    *re.findall(r'"text": ("[^"]*")', rest),
    "and",
    *re.findall(r"data: (\[.*)", rest),
)

# %% [markdown]
# `Transfer-Encoding: chunked` says that the length is not known in advance; the short line before an event is the
# event's length in hexadecimal digits, and belongs to HTTP. Two things are easily done wrong.
#
# **Where pieces end.** A network may cut a stream anywhere, not only between events. A client that takes each piece
# that it receives for one event fails under load, when pieces arrive together or halved:

# %%
from helpers.serving.clients import EventParser

events_ = ["Par", "is is", " café", " and 日本"]
stream = "".join(f"data: {text}\n\n" for text in events_).encode()
for size in (1000, 9, 1):
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    parser = EventParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    naive = [
        text.removeprefix(b"data: ").decode(errors="replace")
        for piece in pieces
        for text in piece.split(b"\n\n")
        if text
    ]
    print(
        f"pieces of {size:4}: parser right {found == events_!s:5} piece by piece {naive == events_}"
    )

# %% [markdown]
# **Where characters end.** Tokens are bytes, and a character may need several. Decoded token by token, the halves
# become replacement characters. A server holds back what a later token could still change:

# %%
from helpers.model import AnswerText

text = AnswerText(tokenizer)
naive, kept, before = [], [], 0
for token in tokenizer("café 日本 🙂")["input_ids"]:
    text.push(token)
    naive.append(tokenizer.decode([token]))
    kept.append(text.text[before:])
    before = len(text.text)
print("token by token:", naive)
print("held back:     ", kept)

# %% [markdown]
# ### Cancellation: within a pass
#
# A client that closes its connection wants no more. The event loop hears of it and leaves an action; before the next
# pass the request's pages are free. This client asks for 200 tokens and leaves after 3 events. `/metrics` counts what
# the engine computed. It uses the names of vLLM's metrics, so that dashboards made for vLLM can read it:


# %% tags=["skip-emulated"]
def metric(name):
    """A counter or gauge of the server."""
    lines = http.get(url + "/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"vllm:{name}{{")).split()[-1])


def until_idle(service):
    """Wait until no answer is on its way."""
    while service.loop.num_answers:
        time.sleep(0.005)


before = metric("generation_tokens_total")
heard = call(url, completion("Once upon a time", 200), leave_after=3)
until_idle(service)
more = metric("generation_tokens_total") - before
print(f"asked for 200 tokens, read {len(heard.moments)} events")
print("computed fewer than 100 tokens:", more < 100)
print("pages in use afterwards:", service.loop.engine.cache.used_pages)

# %% [markdown]
# What else does `/metrics` count? Watch the time to the first token and the waiting requests to see an overload. Compare
# hits and queries of the prefix cache to see what routing gives:

# %% tags=["skip-emulated"]
page = http.get(url + "/metrics").text
found = re.findall(r"^# HELP vllm:(\S+) (.*)", page, re.MULTILINE)
meanings = {name: meaning for name, meaning in found if not name.endswith("_created")}
for name, meaning in meanings.items():
    print(f"{name:38} {meaning}")

# %% [markdown]
# ### Backpressure: a full server says so
#
# The engine has 4 seats (a **seat** is the place of one running request in the batch), and `max_waiting` allows 8 more
# answers to wait. Why not a thousand? A request that waits for a minute is answered for a client that has left. So a
# server bounds its queue and refuses the rest at once, with status 429 and `Retry-After`; this is
# [**backpressure**](../docs/glossary.md#backpressure). Twenty clients at once:

# %% tags=["skip-emulated"]
from helpers.serving.clients import at_once

heard = at_once(url, [completion(f"Story {i}", 48) for i in range(20)])
refused = [one for one in heard if one.status == 429]
print(f"answered: {sum(one.ok for one in heard)}, refused: {len(refused)}")
print("a refusal took", measured(min(one.seconds for one in refused)), end="; ")
print(f"come again after {refused[0].retry_after} s")
print("the last of those that waited had its first token after", end=" ")
print(measured(max(one.moments[0] - one.begun for one in heard if one.ok)))

# %% [markdown]
# The bound is a promise: no request that is taken waits longer than it takes to serve 12 answers. A request that can
# never fit is refused with 400 before it waits, and one that fails in the engine ends alone with 500.
#
# ## Prove it
#
# **A stream changes no token.** Twelve clients call at once. Each text is compared with the one that `generate` gives
# alone. Then every second client leaves after some events: the others' texts must be the same, and the server must hold
# nothing afterwards.
#
# (The clients here are the course's own. In the tests OpenAI's own client judges the server: streams, errors, several
# answers, stop strings; see `tests/serving/test_app.py`. [The guide to serving](../docs/serving.md) shows how to point
# this client at your server.)

# %% tags=["skip-emulated"]
import threading

prompts = [chat_prompt(tokenizer, f"Name {i + 2} fruits.") for i in range(12)]


def alone(prompt, tokens=8):
    """The text of a run alone."""
    cache = KVCache.for_model(model, 1, 128)
    return tokenizer.decode(generate(model, prompt, tokens, cache).token_ids)


# %% tags=["skip-emulated"]
own = [alone(prompt) for prompt in prompts]
heard = at_once(url, [completion(prompt, 8) for prompt in prompts])
equal = sum(one.text == text for one, text in zip(heard, own))
print(f"texts equal, all stay: {equal} of {len(prompts)}")
leaves = [None if i % 2 else 1 + i // 2 for i in range(12)]
heard = at_once(url, [completion(prompt, 8) for prompt in prompts], leaves)
stayed = [(one.text, text) for one, text, leave in zip(heard, own, leaves) if leave is None]
until_idle(service)
same = sum(a == b for a, b in stayed)
print(f"texts equal, {sum(map(bool, leaves))} leave: {same} of {len(stayed)}")
print("answers on their way:", service.loop.num_answers, end="; ")
print("pages in use:", service.loop.engine.cache.used_pages)

# %% [markdown]
# ## Measure it: a load generator
#
# A **closed loop** has a fixed number of clients; each asks again when it is answered. An **open loop** sends calls at
# their moments, whether or not the server follows. They answer different questions. First the closed loop:

# %% tags=["skip-emulated"]
from helpers.display import Table
from helpers.serving.clients import closed_loop, open_loop


def row(name, report):
    """A line of the tables below."""
    times = [measured(report.percentile("ttft", p)) for p in (50, 99)]
    times += [measured(report.percentile("tpot", 50)), measured(report.percentile("latency", 50))]
    return (name, measured(report.throughput, "tok/s"), *times)


HEAD = ("", "throughput", "TTFT p50", "TTFT p99", "TPOT p50", "end to end p50")
bodies = [completion([100 + i] * 32, 12, cache_salt=f"{i}") for i in range(8)]
closed = {n: closed_loop(url, bodies, n) for n in (1, 2, 4)}
best = max(report.throughput for report in closed.values())
Table(
    HEAD, [row(f"{n} client{'s' * (n > 1)}", report) for n, report in closed.items()], "closed loop"
)

# %% [markdown]
# More clients, more tokens per second, because a pass of four costs little more than a pass of one (chapter 2). Each
# client waits a little longer for its tokens. But a closed loop never shows an overload: when the server is slow, its
# clients ask less. Users do not. So the open loop sends the same kind of calls at a share of the rate that the closed
# loop reached. **Times count from the moment when a call was due**, not from when it could be sent; to measure
# otherwise leaves out exactly the waits that overload causes (*coordinated omission*).

# %% tags=["skip-emulated"]
from helpers.traffic import poisson

calls = poisson(8, 1.0, Mix(Lengths(32), Lengths(12)), seed=4)
opened = {
    f"{load:.0%} of its rate": open_loop(url, calls.faster(load * best / 12), model.cfg.vocab_size)
    for load in (0.5, 1.0, 3.0)
}
Table(HEAD, [row(name, report) for name, report in opened.items()], "open loop")

# %% [markdown]
# At half of the rate, the server is as fast as for a few clients. Beyond its rate the queue grows, and the time to the
# first token with it. (Of eight calls, the p99 is nearly that of the slowest one.) TPOT grows only until all seats are
# taken. Watch TTFT to see an overload.
#
# This server has served its part:

# %% tags=["skip-emulated"]
server.close()
print(
    "threads of the server that still run:", sum(t.name == "engine" for t in threading.enumerate())
)

# %% [markdown]
# ## Several engines
#
# ### Two engines of one thread, or one of two?
#
# Suppose that a machine computes with two threads. One engine may use both, or two engines may use one each. Which is
# better for the same eight calls at once, each of 16 tokens? First the prediction in bytes. A decode pass reads all
# weights once, whatever the batch. Two engines with four requests each read them twice for the same eight tokens:

# %% tags=["skip-emulated"]
from helpers.estimates import decode_cost

smol = PUBLISHED["SmolLM2-135M"]
sizes = dict(weight_bytes=4.0, element_bytes=4.0)
one = decode_cost(smol, 40, 8, **sizes).nbytes
two = 2 * decode_cost(smol, 40, 4, **sizes).nbytes
print(f"one engine, batch 8: {one / 1e6:.0f} MB for eight tokens")
print(f"two engines, batch 4 each: {two / 1e6:.0f} MB")

# %% tags=["skip-emulated"]
import torch

from helpers.replicas import make_group_service

bodies = [completion([100 + i] * 32, 16, cache_salt=f"{i}") for i in range(8)]
threads, together_ = torch.get_num_threads(), []
for replicas, each in ((1, 2), (2, 1)):
    torch.set_num_threads(each)  # threads that begin from now on take this number
    group = make_group_service(
        model, tokenizer, "m", replicas, "round-robin", max_batch_size=8, num_pages=64
    )
    with Loopback(group) as server:
        closed_loop(server.url, bodies[:2], 2)  # warm
        report = closed_loop(server.url, bodies, 8)
    name = f"{replicas} engine{'s' * (replicas > 1)}, {each} thread{'s' * (each > 1)} each"
    together_.append(row(name, report))
torch.set_num_threads(threads)
Table(HEAD, together_)

# %% [markdown]
# Three effects are at work, and their sum depends on the machine. Two engines read twice as many bytes for a token, and
# share one memory. One engine with two threads divides every product in two, and waits each time for the slower half.
# And while an engine plans and hands over tokens, its second thread idles; with two engines the other one computes. On
# an accelerator whose decode step is bound by memory, the first effect is the largest: **one engine over several
# devices reads weights once** (chapter 11), as long as its links are fast. Replicas are for more load than that engine
# can serve.
#
# ### A router that keeps a bound
#
# A **router** sees each engine as three numbers: its unfinished requests, the tokens that they ask for, and how much of
# a prompt the engine's cache holds. *Affinity* sends a request to the engine that has most of its prompt. It is good
# until that engine is much busier than the others. So bound it: among the engines whose load is at most `slack` tokens
# above the least, take the one that has most of the prompt.

# %%
from helpers.engine import BoundedPrefixRouter

show_source(BoundedPrefixRouter.__call__)

# %% [markdown]
# `Watched` notes for each decision how far the chosen engine's load was above the least. With the bound, that is never
# more than the slack: here 4,000 tokens. Six routers serve both traces from above. *Two choices* draws two engines and
# takes the one with less load; *score* adds up what is cached and what is asked, without a bound:


# %%
class Watched:
    """A router that notes loads."""

    def __init__(self, router):
        self.router, self.above, self.loads = router, [], []

    def __call__(self, request, engines):
        chosen = self.router(request, engines)
        loads = [engine.tokens_asked for engine in engines]
        self.above.append(loads[chosen] - min(loads))
        self.loads.append([engine.num_requests for engine in engines])
        return chosen


# %%
from helpers.display import Table
from helpers.engine import TwoChoicesRouter, least_tokens

ROUTERS = {
    "in turn": RoundRobinRouter,
    "two choices": TwoChoicesRouter,
    "fewest tokens": lambda: least_tokens,
    "at any price": lambda: PrefixRouter(balance=0),
    "score": PrefixRouter,
    "bound 4,000": lambda: BoundedPrefixRouter(4000),
}
found, watched = {}, {}
for kind, trace in {"conversations": talks, "one is popular": popular}.items():
    for name, router in ROUTERS.items():
        watched[kind, name] = Watched(router())
        found[kind, name] = together(fleet(trace, watched[kind, name]))

# %%
from IPython.display import display


def cells(kind, name):
    """What a router does to a trace."""
    report, above = found[kind, name], max(watched[kind, name].above)
    ttft = [f"{1e3 * report.percentile('ttft', p):.0f} ms" for p in (50, 99)]
    return (name, f"{report.hit_rate:.0%}", *ttft, f"{above:,}")


for kind in ("conversations", "one is popular"):
    head = ("router", "hit rate", "TTFT p50", "TTFT p99", "above the least load, at most")
    display(Table(head, [cells(kind, name) for name in ROUTERS], f"{kind}, predicted"))
bound = found["conversations", "bound 4,000"]
print(
    f"hit rate with the bound: {bound.hit_rate / in_turn.hit_rate:.1f} times that of turns",
    end="; ",
)
print("bound kept:", max(max(watched[kind, "bound 4,000"].above) for kind, _ in found) <= 4000)

# %% [markdown]
# Conversations keep nearly all of their hit rate under the bound, and the popular prompt no longer overloads its
# engine. When that engine is too busy, another one computes the prompt, once, and has it from then on. Routers that
# look at loads alone have about the same tail for the popular prompt, but lose the conversations. The figure shows the
# popular trace, unfinished requests at each engine:

# %%
from helpers.figures import draw_loads

panels = {}
for name in ("at any price", "bound 4,000"):
    moments = sorted(arrival.at for arrival in popular)
    panels[name] = list(zip(moments, watched["one is popular", name].loads))
fig = draw_loads("One prompt is popular: unfinished requests at four engines (predicted)", panels)
plots.show(
    fig, alt="At any price one engine has a long queue; with the bound all engines are alike"
)

# %% [markdown]
# ### Measured
#
# Now really: two engines of SmolLM2 in this process, behind the server. Each engine has one thread, and both share the
# model's weights. Conversations of four turns come faster than they can be served.
#
# The simulator gets pass times that are **calibrated as they will be needed**: from the same two engines behind the same
# server, while they answer other conversations. Then cores, memory, event loop and client are shared in both. (Calibrated
# alone, an engine would have caches and bandwidth to itself, which it does not have in company.)
#
# Which engine is next often depends on which of two answers ended first, and that is chance. So one run is one outcome
# of many, and the simulator computes 20: passes scatter around the fitted times as the measured passes did. It gets the
# texts that the client sends (`as_sent`). A client is told an answer's text and not its tokens, so the load generator
# puts other tokens where the answer was, and these are computed anew.

# %% tags=["skip-emulated"]
from helpers.simulation import whole_passes

chat = Mix(Lengths(40, 0.3, 20, 80), Lengths(8, 0.3, 4, 16))
PAIR = {**SEATS, "num_pages": 96}


def conversations(count, seed):
    """Conversations of four turns, faster than two engines can serve them."""
    return multi_turn(count, 20.0, turns=4, think=0.05, mix=chat, seed=seed)


def real_pair(talks, router):
    """What clients of two engines see over HTTP, and the passes of both engines."""
    group = make_group_service(model, tokenizer, "m", 2, router, log=None, **PAIR)
    with Loopback(group) as server:
        report = open_loop(server.url, talks, model.cfg.vocab_size)
    logs = [replica.loop.engine.steps for replica in group.loop.replicas]
    return report, [step for log in logs for step in whole_passes(log[1:])]


# %% tags=["skip-emulated"]
makers = {"in turn": RoundRobinRouter, "bound 300": lambda: BoundedPrefixRouter(300)}
small_talks = conversations(5, seed=3)
torch.set_num_threads(1)
steps, seen = [], {}
for name, make in makers.items():  # calibrated and measured in the same minute
    steps += real_pair(conversations(4, seed=100), make())[1]
    seen[name], _ = real_pair(small_talks, make())
torch.set_num_threads(threads)
print(f"{len(small_talks)} requests, {sum(a.prompt_tokens for a in small_talks):,} prompt tokens")

# %% tags=["skip-emulated"]
from statistics import median

from helpers.serving.clients import as_sent
from helpers.simulation import FittedTime, ScatteredTime

here = FittedTime.of(steps, skip=0)
scatter = here.errors(steps)  # how far single passes lie from the fit


def simulated_pair(router, seed):
    """One outcome of many, as the simulator has it."""
    times = [ScatteredTime(here, scatter, 2 * seed + i) for i in range(2)]
    engines = [SimulatedEngine(time_of, **PAIR) for time_of in times]
    return together(simulate_replicas(as_sent(small_talks), engines, router))


WITHIN = 0.15  # what we ask of the simulator
told = {name: [simulated_pair(make(), i) for i in range(20)] for name, make in makers.items()}


# %% tags=["skip-emulated"]
def told_of(reports):
    """Throughput with its range, hit rate and time to the first token: medians of some runs."""
    speeds = sorted(report.throughput for report in reports)
    values = median(speeds), speeds[0], speeds[-1]
    hits = measured(100 * median(report.hit_rate for report in reports), "%")
    first = measured(median(report.percentile("ttft", 50) for report in reports))
    return (*(measured(value, "tok/s") for value in values), hits, first)


rows = []
for name in makers:
    rows += [(name, "simulated", *told_of(told[name])), (name, "measured", *told_of([seen[name]]))]
head = ("router", "", "throughput", "slowest run", "fastest run", "hit rate", "TTFT p50")
display(Table(head, rows))
for name in makers:
    apart = median(report.throughput for report in told[name]) / seen[name].throughput - 1
    print(f"{name}: apart by {measured(100 * abs(apart), '%')}, asked for: {WITHIN:.0%}")

# %% [markdown]
# With two engines a turn has an even chance to meet its conversation, and older turns are found as well. So there is
# less to gain than with four engines. The lines called "simulated" come from measured pass times, so they are printed as
# measured, too; the measured line is one run. If the measured throughput is within 15 % of the median, or between the
# slowest and the fastest simulated run, the simulator may choose a router for this machine. Elsewhere, look first at the
# machine's other work: it may have changed between calibration and measurement, or between two runs.
# `benchmarks/serving` measures longer runs, several times.
#
# ### A replica that dies
#
# What becomes of its answers? The router keeps each answer's tokens so far, and sends the prompt with these tokens to
# another replica, which goes on. No token is lost or doubled: a greedy token depends on the text before it alone, and a
# drawn one also on the request's seed and on its own number. `tests/replicas/test_relay.py` kills replicas in the
# middle of answers and compares every text.
#
# ## Sweep it
#
# Conversations on 910C dies. Move the rate until the engines are too full, then add engines, or let another router try.
# The slack is the bound of the last router in the list, in tokens.

# %%
from helpers.display import SweepPanel, dropdown, int_slider, power_slider

crowd = multi_turn(24, 1.0, turns=5, think=2, system_tokens=200, mix=talk, seed=6)


def draw(router, replicas, rate, slack):
    chosen = BoundedPrefixRouter(slack) if router == "bound" else ROUTERS[router]()
    noted = Watched(chosen)
    reports = fleet(crowd.faster(rate), noted, replicas, 512)
    fig, ax = plots.new_figure(
        f"{replicas} engines, {router}", "comes at, s", "time to first token, s"
    )
    for color, (number, report) in zip(plots.COLORS.values(), enumerate(reports, 1)):
        at = [o.arrived for o in report.outcomes], [o.ttft for o in report.outcomes]
        ax.plot(*at, "o", markersize=4, color=color, label=f"engine {number}")
    plots.log_axis(ax, "y")
    ax.set_ylim(top=2.5 * ax.get_ylim()[1])  # room for the legend
    plots.legend(ax, loc="upper left", ncols=4)
    return fig, summary(together(reports), reports, noted)


# %%
def summary(whole, reports, noted):
    """The panel's table."""
    counts = ", ".join(str(len(report.outcomes)) for report in reports)
    rows = [("hit rate", f"{whole.hit_rate:.0%}"), ("tokens/s", f"{whole.throughput:,.0f}")]
    rows += [(f"TTFT p{p}", f"{1e3 * whole.percentile('ttft', p):.0f} ms") for p in (50, 99)]
    rows += [("requests at each", counts), ("above the least load", f"{max(noted.above):,} tokens")]
    return Table(("predicted", "here"), rows)


SweepPanel(
    draw,
    {
        "router": dropdown("router", [*list(ROUTERS)[:-1], "bound"], value="bound"),
        "replicas": power_slider("engines", value=4, min=1, max=8),
        "rate": int_slider("conversations/s", value=6, min=1, max=30),
        "slack": power_slider("slack, tokens", value=4096, min=64, max=8192),
    },
    alt="The time to first token of each request over its arrival, one colour for each engine",
)

# %% [markdown]
# ## On Ascend
#
# A replica is an engine with devices of its own. The environment variable `ASCEND_RT_VISIBLE_DEVICES` says which (the
# examples of vLLM-Ascend 0.23 do it so). The router and the event loop are the host's work and know no device. What a
# device must guarantee is that replicas are alike: the same request has the same tokens, whichever replica gets it, and
# whatever else that replica computes. Two engines run on this notebook's device and serve four requests in turn. Each
# answer is compared with a run alone:

# %%
from helpers import ContinuousBatcher, PagedKVCache
from helpers.engine import Request
from helpers.machine import where_it_ran

device_model, _ = checkpoint.load()
# %%
few = [chat_prompt(tokenizer, f"Name {i + 2} animals.") for i in range(4)]
engines = [
    ContinuousBatcher(device_model, PagedKVCache.for_model(device_model, 16), 2, 64)
    for _ in range(2)
]
for i, prompt in enumerate(few):
    engines[i % 2].add_request(Request(i, prompt, 4))
for engine in engines:
    engine.run()
tokens = [engines[i % 2].finished[i].token_ids for i in range(4)]
own = [
    generate(device_model, prompt, 4, KVCache.for_model(device_model, 1, 64)).token_ids
    for prompt in few
]
print("tokens of two replicas equal to runs alone:", tokens == own)
print(where_it_ran(device_model.device))

# %% [markdown]
# Prompts and answers want different machines: a prompt's pass is bound by arithmetic, a decode pass by memory (chapter
# 2), and a long prompt beside decoding requests delays their next tokens. **Disaggregated prefill** computes prompts on
# some replicas and answers on others; the keys and values move between them (chapter 11 simulates it). How much moves
# for a prompt of 2,000 tokens of Llama-3-8B, and how long does it take over the published links?

# %%
from helpers.estimates import LINKS, KVTransfer

moved = KVTransfer.of(PUBLISHED["Llama-3-8B"], 2000)
again = moved.recomputed.seconds(accelerator_ceilings("Ascend 910C (one die)"))
print(f"{moved.nbytes / 1e6:.0f} MB of keys and values; to compute them: {1e3 * again:.0f} ms")
for name in ("HCCS (910B)", "UB (910C supernode)", "RoCE (910C supernode)"):
    seconds = LINKS[name].seconds(moved.nbytes, latency=1e-5)
    print(f"{name}: {1e3 * seconds:.1f} ms (10 µs latency assumed)")

# %% [markdown]
# Moving takes a small part of the time that computing takes on one 910C die, as long as not too many prompts share the
# link.
#
# ## In production
#
# vLLM (0.23 and later) starts several engines behind one address with `--data-parallel-size`. Its own
# balancer looks at the engines' running and waiting requests, and not at prefixes. For models without experts, its document
# advises independent servers and a router in front. For models with experts all ranks must pass in step, and an idle one
# computes empty passes; there `--data-parallel-rank` gives each rank an address of its own.
#
# vLLM-Ascend's repository (0.23) has two routers among its examples: one for ranks with addresses of their own, and one for
# disaggregated prefill. The second one adds up scores of requests by their lengths, and takes the least loaded prefill
# server and the least loaded decode server. Prefill servers run with `kv_role` set to `kv_producer`, the others with
# `kv_consumer`, both in `--kv-transfer-config`.

# %%
from helpers.production import options_table

options_table(
    {
        "--data-parallel-size": "the number of replicas",
        "--data-parallel-rank": "a replica for a router of one's own",
        "--max-num-seqs": "the seats of each replica",
        "--kv-transfer-config": "keys and values move between replicas",
        "kv_role": "computes prompts, or answers",
        "enable_balance_scheduling": "replicas that wait for the fullest",
    }
)

# %% [markdown]
# ## Recap
#
# The event loop speaks with clients and the engine loop computes. Between them is a list, and whatever a client does
# has its effect in the next pass. A server promises only what it bounds: its queue, its prompts, the imbalance of its
# replicas. Routing by prefix keeps conversations where their text is, and a bound keeps one popular text from
# overloading its replica.
#
# **Check yourself.**
#
# 1. Your dashboard shows a flat TPOT and a TTFT that has grown tenfold since noon. What happened, and what does adding a
#    replica change?
# 2. You replace round robin by the bounded router, and the hit rate does not move. What do you look at?
#
# <details><summary>Answers</summary>
#
# 1. More comes than can be served, so requests queue; those that run are as fast as ever. Another replica takes a share of
#    the queue. Until it is there, a shorter queue limit keeps TTFT within its promise, for those that are taken.
# 2. Whether requests share beginnings at all (a time of day or a name at the start of a prompt makes each one new), whether
#    pages suffice to keep a conversation until its next turn, and whether the slack is smaller than a request.
#
# </details>
#
# Now you: [Lab 12](../labs/12_serving.ipynb).
# Back: [11 Tensor and pipeline parallelism](11_parallelism.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
