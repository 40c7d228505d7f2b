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
# # 8 Scheduling
#
# **Promise.** You will watch a scheduler ignore urgency and starve long prompts, put small policies in its place on
# the real engine and in a simulator, and hold the simulator's predictions against the clock.
#
# **You need** [chapter 5](05_continuous_batching.ipynb); [chapter 6](06_paged_attention.ipynb) helps. About 70 minutes.
#
# **We measure** waits at the median and at the end of the line, the share of requests within an objective (goodput),
# fairness, and how far simulated and measured times are apart. Of any time, **p50** is the median, and **p99** what
# 99 % of the requests stay under. TTFT is the time to the first token, TPOT the time per output token (chapter 2).

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: an order that is not the one asked for
#
# When more requests come than can be served at once, some must wait. Which ones? Here is a
# scheduler as one would write it. It knows four policies by name. Requests are kept in order of
# their priority (a smaller number is more urgent), and short prompts are taken first, "because they
# are quick".


# %%
class PlausibleScheduler:
    """Knows four policies. Plausible, and wrong."""

    POLICIES = ("fcfs", "priority", "sjf", "round_robin")

    def __init__(self, max_batch_size=32, policy="fcfs"):
        assert policy in self.POLICIES
        self.max_batch_size, self.policy, self.queue = max_batch_size, policy, []

    def add_request(self, request):
        self.queue.append(request)
        self.queue.sort(key=lambda request: request.priority)

    def schedule(self):
        by_length = sorted(self.queue, key=lambda request: len(request.prompt_ids))
        batch = by_length[: self.max_batch_size]
        self.queue = [request for request in self.queue if request not in batch]
        return batch


# %% [markdown]
# Six requests come in the order of their letters, A to D from one client, E and F from another. B
# and E are urgent. A **seat** is the place of one running request in the batch; here there is one.
# In which order do they get it?

# %%
from helpers.engine import Request

PROMPTS = {"A": 300, "B": 900, "C": 40, "D": 500, "E": 2000, "F": 120}  # tokens
NEW_TOKENS = {"A": 30, "B": 12, "C": 60, "D": 8, "E": 20, "F": 40}
six = [
    Request(
        name,
        [1] * PROMPTS[name],
        NEW_TOKENS[name],
        priority=0 if name in "BE" else 1,
        client="one" if name in "ABCD" else "two",
    )
    for name in PROMPTS
]
for policy in PlausibleScheduler.POLICIES:
    scheduler = PlausibleScheduler(1, policy)
    for request in six:
        scheduler.add_request(request)
    print(f"{policy:12}", " ".join(scheduler.schedule()[0].request_id for _ in six))

# %% [markdown]
# **Priority is ignored**: the second sort undoes the first, and the urgent E comes last. **Four policies are named,
# and none is implemented.** Now let the stream go on: every time a batch is taken, as many short prompts come in.

# %%
scheduler, rounds = PlausibleScheduler(4, "priority"), 1000
scheduler.add_request(six[4])  # E: urgent, and long
served = []
for i in range(rounds):
    for j in range(4):
        scheduler.add_request(Request((i, j), [1] * 100, priority=9))
    served += [request.request_id for request in scheduler.schedule()]
print(f"after {rounds} rounds {len(served)} requests are served, E {served.count('E')} times")

# %% [markdown]
# A request [**starves**](../docs/glossary.md#starves) when newcomers keep overtaking it, for as
# long as they come. E starves, because shorter requests come all the time. And one more thing was
# forgotten:

# %%
from helpers.caches import PagePool

pool = PagePool(num_pages=2048, page_size=16)
scheduler = PlausibleScheduler()
for i in range(64):
    scheduler.add_request(Request(i, [1] * (800 + 40 * i)))
batch = scheduler.schedule()
pages = sum(-(-len(request.prompt_ids) // pool.page_size) for request in batch)
print(f"a batch of {len(batch)} is taken; it needs {pages} pages, and there are {pool.num_pages}")

# %% [markdown]
# **The order of the queue is taken for the only resource.** A request needs a seat in the batch,
# tokens of the pass's budget, and pages for its keys and values; a request that is admitted without
# pages forces a preemption.
#
# How bad is it with real traffic? To find out in seconds, not in hours, we need an engine on a [**virtual clock**](../docs/glossary.md#virtual-clock): the
# scheduler and the page accounts are real, and instead of a model's pass there is a number of seconds. For an
# accelerator that is not here, chapter 2's roofline gives it: a *prediction*, of the least time a pass can take.

# %%
from helpers.engine import Policy
from helpers.estimates import accelerator_ceilings
from helpers.model import PUBLISHED
from helpers.simulation import RooflineTime, SimulatedEngine, simulate

# %%
llama = PUBLISHED["Llama-3-8B"]
there = RooflineTime(llama, accelerator_ceilings("Ascend 910C (one die)"))


def serve(trace, policy="fcfs", **options):
    """The report of a simulated engine that has served a trace."""
    sizes = {"num_pages": 4096, "max_batch_size": 16, "policy": policy, **options}
    return simulate(trace, SimulatedEngine(there, **sizes))


def capacity(trace, **options):
    """Requests per second when all are here at once, the rush's first and last quarter left out."""
    ends = sorted(o.ended for o in serve(trace.faster(1e6), **options).outcomes)
    n = len(ends)
    return (n // 2) / (ends[3 * n // 4] - ends[n // 4])


# %% [markdown]
# A [**trace**](../docs/glossary.md#trace) says when each request comes, with how long a prompt, and
# for how long an answer. Lengths are log-normal, as those of published traces roughly are: many
# short ones and a long tail. One in four is urgent. Arrivals are Poisson's, each independent of the
# others, at 120 % of what the engine can do: the rush hour.

# %%
from helpers.traffic import Lengths, Mix, poisson

mix = Mix(
    prompt=Lengths(300, 0.8, 16, 4000), answer=Lengths(80, 0.7, 4, 400), priorities=(0, 1, 1, 1)
)
base = poisson(160, 1.0, mix, seed=3)
most = capacity(base)
print(f"Llama-3-8B on a die of an Ascend 910C, 16 seats, predicted: {most:.1f} requests/s at most")
rush = base.faster(1.2 * most)
print(f"{len(rush)} requests in {rush.duration:.1f} s")


class Article(Policy):
    """Ascending length of the prompt."""

    def rank(self, state):
        return len(state.request.prompt_ids)


# %%
from helpers.display import Table


def waits(report, kind):
    """The longest wait of those that `kind` chooses, as text."""
    return f"{max(o.wait for o in report.outcomes if kind(o)):.1f} s"


rows = []
longer = poisson(320, 1.2 * most, mix, seed=3)
for trace in (rush, longer):
    for name, policy in (("by length", Article), ("in order of arrival", "fcfs")):
        report = serve(trace, policy)
        long, urgent = (
            waits(report, k) for k in (lambda o: o.prompt_tokens > 1000, lambda o: not o.priority)
        )
        rows.append((name, len(trace), f"{report.percentile('ttft', 50):.2f} s", urgent, long))
head = ("served", "requests", "TTFT p50", "worst wait, urgent", "worst wait, long prompts")
Table(head, rows)

# %% [markdown]
# By length, the median request is served soon, so this order looks good in a demonstration. Long
# prompts wait until the rush is over, urgent or not, and the longer the rush, the longer they wait.
# In order of arrival all wait, and none for so long.
#
# ## The idea in a picture
#
# No order makes the work less. But it decides **who waits**. Eight requests are here at once,
# two seats; the passes are planned by the real scheduler and timed on paper.

# %%
from helpers import ContinuousBatcher
from helpers.display import plots
from helpers.figures import draw_gantt
from helpers.simulation import PaperModel, serve_on_paper
from helpers.traffic import VirtualClock

TEXTS = (2000, 300, 200, 1200, 150, 400, 250, 100)
ANSWERS = (40, 8, 24, 30, 6, 14, 10, 5)


def on_paper(policy):
    """A batcher that has served the eight."""
    clock = VirtualClock()
    paper = PaperModel(llama, accelerator_ceilings("Ascend 910C (one die)"), clock)
    batcher = ContinuousBatcher(
        paper, paper.cache(4096), max_batch_size=2, policy=policy, clock=clock
    )
    serve_on_paper(batcher, TEXTS, ANSWERS, [0.0] * len(TEXTS), clock)
    return batcher


# %%
charts = {"first come, first served": on_paper("fcfs"), "shortest job first": on_paper("sjf")}
fig = draw_gantt("Eight requests at once, two seats", charts)
plots.show(
    fig,
    alt="In order of arrival short requests wait for long ones; shortest first, long ones wait",
)
for name, batcher in charts.items():
    states = batcher.finished.values()
    waiting, end = sum(s.first_scheduled for s in states), max(s.ended for s in states)
    print(f"{name}: {waiting:.2f} s of waiting in sum, the last answer ends at {end:.2f} s")

# %% [markdown]
# Grey is waiting. When the short ones go first there is less of it in sum, and it is distributed
# otherwise. (The last answer ends a little later: the longest request runs alone in the end.) Who
# may wait is not a question of computer science, but of what was promised to whom. So a scheduler
# should keep the mechanism (seats, tokens, pages) apart from the
# [**policy**](../docs/glossary.md#policy) (which request is next, which one is preempted).
#
# ## Build it
#
# `RequestScheduler` is the mechanism. It is the one that `ContinuousBatcher` has used since chapter 5; it plans passes
# and never sees a tensor, so it runs by itself, too:

# %%
from helpers import RequestScheduler
from helpers.engine import POLICIES

first = {}
for policy in POLICIES:
    scheduler = RequestScheduler(max_batch_size=1, policy=policy)
    for request in six:
        scheduler.add_request(request)
    while scheduler.waiting or scheduler.running:
        for state, tokens in scheduler.schedule():
            first.setdefault(policy, {})[state.name] = None
            state.computed += len(tokens)
            if not state.remaining:
                scheduler.took(state, token=0, now=0.0)
for policy, order in first.items():
    print(f"{policy:20}", " ".join(order))

# %% [markdown]
# Now the names mean something. (`round_robin` and `fair_share` look at clients, and nothing is
# cached here.) An admission asks for all three resources. **A waiting request is admitted when free
# pages suffice for its whole text and for what running prompts still need.** What running prompts
# need is counted because their next chunks would otherwise find too few pages. And no request is
# preempted unless that suffices.

# %%
from helpers.display import show_source

show_source(RequestScheduler._has_place)

# %%
show_source(RequestScheduler._admit)

# %% [markdown]
# A policy keeps the waiting requests, because it knows their order. Most policies order by one key,
# so a heap does: with $n$ waiting requests a decision costs $O(\log n)$, and a request's key must
# not change while it waits. A strategy says no more than its `rank`:

# %%
from helpers.engine import Priority, ShortestJobFirst

show_source(Policy.key)

# %%
show_source(ShortestJobFirst.rank)

# %% [markdown]
# ### Priority, ageing, preemption
#
# On the longer trace above: urgent requests first; the same with ageing; and **preemptive**, where
# an urgent request takes a running one's seat, and what is lost is computed again. With
# [**ageing**](../docs/glossary.md#ageing), waiting counts as priority: here every 1.5 seconds
# outweigh one step of priority.

# %%
from IPython.display import display

from helpers.figures import comparison
from helpers.traffic import Objective

runs = {
    "first come, first served": "fcfs",
    "priority": "priority",
    "priority, ageing 1.5 s": lambda: Priority(ageing=1.5),
    "priority, preemptive": "preemptive_priority",
}
reports = {name: serve(longer, policy) for name, policy in runs.items()}
columns = ("TTFT p50", "TTFT p99", "end to end p99", "worst wait", "preempted")
for level, words in enumerate(("the urgent ones", "the others")):
    part = {name: report.of_priority(level) for name, report in reports.items()}
    display(comparison(part, columns=columns, caption=f"{words}, predicted"))

# %% [markdown]
# The urgent ones hardly wait any more; what they gain is taken from the others. Preemption saves
# the last milliseconds of their wait, and the work that it throws away delays all others. It pays
# where urgent requests must not wait for an answer to end. Ageing is a choice in between: while the
# rush goes on, the others have waited for so long that new urgent ones come behind them.
#
# Ageing does not ask how urgent a request is *now*. All requests age equally fast, so the order of
# two requests never changes. The key is a time: the arrival, plus `ageing` seconds for each step of
# priority. That gives a bound, too (see *Prove it*).

# %% [markdown]
# ### Shortest job first: known, predicted, capped
#
# Serving the shortest job first gives the least mean wait (Smith 1956), if lengths are known. They are not: an
# answer's length is known when it ends. An engine can **predict** it (here: the true length times a random factor,
# which is 1.6 or its inverse at one standard deviation), or take what the client allows, the **cap**. Here all
# clients allow 512 tokens, as they tend to do.

# %%
import math
import random

from helpers.traffic import with_caps

asked = with_caps(longer, Lengths(512))


def known(request):
    """Passes that a request takes alone, by its true length."""
    return math.ceil(len(request.prompt_ids) / 512) + asked[request.request_id].new_tokens - 1


def predicted(request):
    """The same with an error that depends on the request alone."""
    return known(request) * random.Random(request.request_id).lognormvariate(0, 0.5)


# %%
runs = {
    "first come, first served": "fcfs",
    "shortest, known": lambda: ShortestJobFirst(known),
    "shortest, predicted": lambda: ShortestJobFirst(predicted),
    "shortest, by the cap": "sjf",
    "predicted, ageing": lambda: ShortestJobFirst(predicted, ageing=0.01),
}
reports = {name: serve(asked, policy) for name, policy in runs.items()}
columns = ("TTFT p50", "TTFT p99", "end to end p50", "worst wait")
comparison(reports, columns=columns, caption="120 % load, predicted")

# %% [markdown]
# A rough prediction is nearly as good as the truth: it only has to tell short from long. Equal caps
# leave only the prompts to compare, as `Article` does. All of these orders starve long requests;
# ageing (10 ms of waiting outweigh a pass) limits that.
#
# ### Fairness: one client floods the engine
#
# Three clients; one of them sends eight times as much as each of the others, and all together twice of what can be
# done. **Round robin** serves clients in turn. [**Fair share**](../docs/glossary.md#fair-share) counts the *tokens* that each was served (the virtual
# token counter, arXiv:2401.00588), since requests weigh differently. [**Jain's index**](../docs/glossary.md#jains-index) is 1 when all get their fair
# share and falls towards $1/n$ when one gets everything.

# %%
from helpers.engine import FairShare, RoundRobin

clients = Mix(mix.prompt, mix.answer, clients=("flood",) * 8 + ("Ann", "Bob"))
flood = poisson(160, 2 * most, clients, seed=5)
runs = {
    "first come, first served": "fcfs",
    "round robin": "round_robin",
    "fair share": "fair_share",
    "fair share, flood pays for 8": lambda: FairShare({"flood": 8.0}),
    "round robin, 32 tokens a turn": lambda: RoundRobin(quantum=32),
}
rows = []
for name, policy in runs.items():
    report = serve(flood, policy)
    own = [f"{report.of_client(c).percentile('ttft', 50):.2f} s" for c in ("flood", "Ann", "Bob")]
    rows.append(
        (name, *own, f"{report.fairness:.2f}", report.preemptions, f"{report.throughput:,.0f}")
    )
Table(("TTFT p50 of", "flood", "Ann", "Bob", "Jain", "preempted", "tokens/s"), rows)

# %% [markdown]
# In order of arrival, Ann and Bob wait as long as the flood, although they did not cause the load.
# Fair policies let them through, and the flood waits for itself. A client who pays for more gets a
# weight. With a **quantum**, requests take turns, too, as processes do in an operating system. All
# first tokens come sooner, but a request that loses its seat is computed again, unless the cache
# still has its tokens (here it has).
#
# ### Cache-aware
#
# Prompts with common beginnings find them in the cache, if they were not evicted meanwhile
# (chapters 4 and 6). So take those requests first whose beginning is cached now. Without a bound,
# prompts that share nothing would starve. `CacheAware` has a bound: no request is overtaken more
# than `patience` times (here 16), also when requests are preempted. 24 beginnings of 1,500 tokens
# or so, in a pool that cannot hold them all beside the requests:

# %%
from helpers.engine import CacheAware
from helpers.traffic import bursty, shared_prefix

short = Mix(Lengths(60, 0.6, 4, 300), Lengths(40, 0.6, 4, 200))
groups = shared_prefix(160, 1.0, 24, Lengths(1500, 0.3, 200, 4000), short, popularity=0.8, seed=2)
crowded = groups.faster(1.2 * capacity(groups, num_pages=2048))
runs = {
    "first come, first served": "fcfs",
    "cache-aware": "cache_aware",
    "cache-aware, no bound": lambda: CacheAware(patience=10**6, window=10**6),
}
reports = {name: serve(crowded, policy, num_pages=2048) for name, policy in runs.items()}
hits = "; ".join(f"{name} {report.hit_rate:.0%}" for name, report in reports.items())
print(f"prompt tokens found cached: {hits}")
comparison(reports, columns=columns, caption="120 % load, predicted")

# %% [markdown]
# ## Prove it
#
# **A policy decides when, never what.** Eight requests on the real model, four seats, and one
# policy that takes seats away: each request's tokens must be those of a run alone, whatever the
# order.

# %%
from helpers import KVCache, PagedKVCache
from helpers.model import chat_prompt, checkpoint, generate

model, tokenizer = checkpoint.load()
QUESTIONS = (
    "What is 2 + 2?",
    "Name a fruit.",
    "What colour is the sky?",
    "Who are you?",
    "What is the capital of France?",
    "Name three animals that live in the sea.",
)


# %%
def ask(i):
    """A request for a few tokens, of one of three clients."""
    ids = chat_prompt(tokenizer, QUESTIONS[i % 6])
    return Request(i, ids, 3 + 2 * (i % 3), priority=i % 3, client=i % 3)


def answers(policy, requests, pages=14):
    """A batcher that has served requests, the last ones of which came after the fourth pass."""
    batcher = ContinuousBatcher(model, PagedKVCache.for_model(model, pages), 4, 64, policy=policy)
    for i, request in enumerate(sorted(requests, key=lambda r: r.request_id % 3, reverse=True)):
        while i >= 5 and len(batcher.steps) < 4:
            batcher.process_batch()
        batcher.add_request(request)
    batcher.run()
    return batcher


# %%
def alone(request):
    """The tokens of its own run."""
    cache = KVCache.for_model(model, 1, 64)
    return generate(model, request.prompt_ids, request.max_tokens, cache).token_ids


# %% tags=["skip-emulated"]
requests = [ask(i) for i in range(8)]
own = [alone(request) for request in requests]
rows = []
for policy in POLICIES:
    batcher = answers(policy, requests)
    equal = sum(batcher.finished[i].token_ids == tokens for i, tokens in enumerate(own))
    given = sum(state.preemptions for state in batcher.finished.values())
    order = sorted(batcher.finished.values(), key=lambda state: state.first_scheduled)
    rows.append((policy, f"{equal} of 8", given, " ".join(str(state.name) for state in order)))
Table(("policy", "tokens equal", "preempted", "served in this order"), rows)

# %% [markdown]
# **No request starves under ageing.** With `ageing` of $a$ seconds, a request of priority $p$ that
# came at $t$ is overtaken by none of priority $q$ that comes at $t + a\,(p - q)$ or later, whatever
# the load. So the wait is at most that head start and the work of the requests that were ahead
# then. Every pair of requests of a long, overloaded run:

# %% tags=["skip-emulated"]
ageing, levels = 1.5, (0, 0, 0, 1, 3)
hard = poisson(320, 1.5 * most, Mix(mix.prompt, mix.answer, priorities=levels), seed=7)
aged = serve(hard, lambda: Priority(ageing=ageing))
overtaken = [
    (b.arrived - a.arrived, ageing * (a.priority - b.priority))
    for a in aged.outcomes
    for b in aged.outcomes
    if a.arrived < b.arrived and b.admitted < a.admitted
]
beyond = sum(late >= bound for late, bound in overtaken)
print(f"{len(overtaken)} pairs in which the later one went first; beyond the bound: {beyond}")
latest, bound = max(late for late, _ in overtaken), ageing * (levels[-1] - levels[0])
print(f"the latest came {latest:.3f} s later; the largest bound is {bound:.3f} s")

# %% tags=["skip-emulated"]
strict = serve(hard, "priority")
for name, report in (("ageing", aged), ("no ageing", strict)):
    print(f"worst wait, {name}: {report.worst_wait:.1f} s of a rush of {hard.duration:.1f} s")

# %% [markdown]
# ## Measure it: is the simulator right?
#
# A simulator is worth as much as its predictions. For this machine, pass times are **calibrated**: a short run of the
# engine itself, and a curve fitted to its log. Then three traces and two policies, each simulated first and then
# served three times by the real engine, which waits for arrivals as the trace says. They come at three times the rate
# that can be served. (The figure shows the middle one of the three runs.)

# %% tags=["skip-emulated"]
from helpers.simulation import calibrate
from helpers.traffic import Report, WallClock, replay_trace

# %% tags=["skip-emulated"]
SEATS = dict(max_batch_size=4, token_budget=128)
small = Mix(Lengths(48, 0.7, 8, 160), Lengths(12, 0.8, 3, 40))
here = calibrate(model, **SEATS, prompts=small.prompt)


def simulated(trace, policy="fcfs"):
    """The prediction for this machine."""
    return simulate(trace, SimulatedEngine(here, num_pages=256, policy=policy, **SEATS))


def really(trace, policy):
    """The same on the engine."""
    cache, clock = PagedKVCache.for_model(model, 256), WallClock()
    engine = ContinuousBatcher(model, cache, policy=policy, clock=clock, **SEATS)
    nothing = replay_trace(trace, engine, clock, vocab_size=model.cfg.vocab_size)
    return Report.of(engine, nothing)


# %% tags=["skip-emulated"]
COUNT, RUNS = 8, 3
traces = [
    poisson(COUNT, 1.0, small, seed=5),
    bursty(COUNT, 1.0, 3.0, small, seed=5),
    shared_prefix(COUNT, 1.0, 2, Lengths(64), Mix(Lengths(24, 0.7, 4, 80), small.answer), seed=5),
]
told, seen = {}, {}


def simulate_and_run(trace):
    """Both policies, simulated once and served by the engine `RUNS` times."""
    trace = trace.faster(3 * COUNT / simulated(trace.faster(1e6)).seconds / trace.rate)
    told.update({(trace.name, policy): simulated(trace, policy) for policy in ("fcfs", "sjf")})
    for _ in range(RUNS):  # in turn, so that a slow minute of the machine meets both
        for policy in ("fcfs", "sjf"):
            seen.setdefault((trace.name, policy), []).append(really(trace, policy))


# %% tags=["skip-emulated"]
simulate_and_run(traces[0])

# %% tags=["skip-emulated"]
simulate_and_run(traces[1])

# %% tags=["skip-emulated"]
simulate_and_run(traces[2])

# %% tags=["skip-emulated"]
from helpers.display import measured


def median_wait(report):
    """The median time to the first token, in seconds."""
    return report.percentile("ttft", 50)


rows = []
for key, runs in seen.items():
    speeds = sorted(run.throughput for run in runs)
    firsts = sorted(median_wait(run) for run in runs)
    cells = [measured(x, "tok/s") for x in (told[key].throughput, speeds[0], speeds[-1])]
    cells += [measured(x) for x in (median_wait(told[key]), firsts[0], firsts[-1])]
    rows.append((*key, *cells))
head = ("trace", "policy", "tokens/s, simulated", "slowest run", "fastest run")
Table((*head, "TTFT p50, simulated", "shortest", "longest"), rows)

# %% tags=["skip-emulated"]
print(f"TTFT p50 of sjf as a multiple of that of fcfs, each run of {RUNS} beside each of {RUNS}:")
for trace in ("Poisson", "bursty", "shared prefix"):
    one = median_wait(told[trace, "sjf"]) / median_wait(told[trace, "fcfs"])
    waits = [[median_wait(run) for run in seen[trace, policy]] for policy in ("sjf", "fcfs")]
    ratios = [sjf / fcfs for sjf in waits[0] for fcfs in waits[1]]
    print(f"{trace}: simulated {measured(one, 'x')}, on the engine", end=" ")
    print(f"{measured(min(ratios), 'x')} to {measured(max(ratios), 'x')};", end=" ")
    sooner = sum(ratio < 1 for ratio in ratios) / len(ratios)
    print(f"sjf was sooner in {measured(100 * sooner, '%')} of the pairs")

# %% tags=["measured", "skip-emulated"]
from helpers.figures import draw_predictions

middle = {key: sorted(map(median_wait, runs))[RUNS // 2] for key, runs in seen.items()}
fig = draw_predictions(
    "Median time to first token, simulated and measured", "s",
    {" ".join(key): (median_wait(told[key]), wait) for key, wait in middle.items()},
    within=0.25,
)  # fmt: skip
plots.show(fig, alt="Six points, and the line on which simulated and measured times are equal")

# %% [markdown]
# Read a line from its end. Where shortest job first was sooner in all pairs of runs, the engine says
# so, for this trace and this machine; in some of them only, three runs do not tell. Where the engine
# does tell, a simulated multiple on the same side of 1 has the order of the policies right. Whether
# it has the *size* of the gain right is another question: only if it lies between the two ends.
#
# That is how far a simulator can be trusted here. It chooses between policies, seats and budgets
# without hours on the machine, where they differ by more than runs do. Where times are
# apart, look at the machine first: its other work is not in the calibration.
#
# ## Measure it: half, nearly, and too full
#
# So much for one load. Now 50, 90 and 120 %, with three kinds of arrivals: Poisson, **bursty** (the gaps vary three
# times as much), and shared beginnings. [**Goodput**](../docs/glossary.md#goodput) is what meets an objective: here a first token within 500 ms and
# no more than 20 ms for each further one. All of it is predicted for the 910C die.

# %% tags=["skip-emulated"]
objective = Objective(ttft=0.5, tpot=0.02)
kinds = {"Poisson": base, "bursty": bursty(160, 1.0, 3.0, mix, seed=3), "shared prefix": groups}
policies = {
    "fcfs": "fcfs",
    "by prompt": Article,
    "sjf, ageing": lambda: ShortestJobFirst(ageing=0.02),
    "cache-aware": "cache_aware",
}
full, found = {"Poisson": most, "bursty": most}, {}
full["shared prefix"] = capacity(groups, num_pages=2048)
for kind, trace in kinds.items():
    for load in (0.5, 0.9, 1.2):
        arrives = trace.faster(load * full[kind] / trace.rate)
        for name, policy in policies.items():
            found[kind, load, name] = serve(arrives, policy, num_pages=2048)


# %% tags=["skip-emulated"]
def grid(cell, caption):
    """A table of a number of each run: arrivals and load down, policies across."""
    rows = [
        (kind, f"{load:.0%}", *(cell(found[kind, load, name]) for name in policies))
        for kind in kinds
        for load in (0.5, 0.9, 1.2)
    ]
    return Table(("arrivals", "load", *policies), rows, caption)


display(grid(lambda r: f"{r.goodput(objective):.1f}", "goodput, requests/s within the objective"))
display(grid(lambda r: f"{r.worst_wait:.2f} s", "worst wait"))

# %% tags=["skip-emulated"]
from helpers.figures import draw_percentiles

names = {f"{load:.0%}, {name}": found["Poisson", load, name]
         for load in (0.5, 0.9, 1.2) for name in ("fcfs", "by prompt", "sjf, ageing")}  # fmt: skip
title = "Poisson arrivals: from half full to too full (predicted)"
fig = draw_percentiles(title, names, ("ttft", "latency"))
plots.show(
    fig, alt="At half load all policies are alike; at 120 % medians and tails part by factors"
)

# %% [markdown]
# At 50 % no request queues, and every policy is right, unless arrivals come in bursts: a burst is
# an overload that passes. At 90 % it begins to matter. Beyond 100 % the queue grows for as long as
# the rush lasts, and a policy decides **whose** requests are late. By order of arrival, soon all
# requests are late: the goodput collapses although the engine works as hard as ever. Short ones
# first saves most of it. But look at both tables: by goodput alone one would choose the order by
# prompt, which starves long ones. Ageing gives some of the goodput for a shorter worst wait.
# (Cache-aware is first come, first served where prompts share nothing.)
#
# ### What an admission must leave free
#
# What is free at this moment is not what an admission may take: running prompts will ask for pages
# with their next chunks. Four rules, in a memory that is tight (300 pages of 16 tokens, chunks of
# 64 tokens). The first two are vLLM's: the whole prompt must fit (`--scheduler-reserve-full-isl`, on
# in 0.23 and 0.33), and a *watermark*, a share of all pages, stays free (`--watermark` in 0.33, off
# unless asked for). The third is this scheduler's.

# %% tags=["skip-emulated"]
from helpers.engine import Admission

rules = {
    "its text": Admission(owed=False),
    "text, 1 % free": Admission(owed=False, watermark=0.01),
    "text, what is owed": Admission(),
    "all three": Admission(watermark=0.01),
}
tight = {"num_pages": 300, "chunk_size": 64}
rows = []
for kind, trace in kinds.items():
    hurried = trace.faster(20 / trace.rate)
    runs = [serve(hurried, admission=rule, **tight) for rule in rules.values()]
    rows.append((f"{kind}, preemptions", *(f"{run.preemptions}" for run in runs)))
    rows.append((f"{kind}, tokens computed", *(f"{run.computed:,}" for run in runs)))
Table(("admitted if free pages suffice for", *rules), rows)

# %% [markdown]
# A prompt that loses its pages half computed is computed again, and again finds too few. To count
# what running prompts still need ends that; the few preemptions that are left come from answers,
# whose growth no rule can know. A watermark leaves some room for those.
#
# ## Load over replicas
#
# With several engines, a [**router**](../docs/glossary.md#router) chooses one of them for each
# request. Four engines with eight seats each; four kinds of traffic, and five routers, each of
# which has a weakness:
#
# - in turn: fails where heavy requests come in step with the turns (here every fourth one is
#   heavy);
# - fewest requests: counts heavy ones like light ones;
# - fewest tokens: takes the caps for lengths;
# - none of the three knows where a beginning is cached;
# - where most is cached, at any price: one popular beginning overloads one engine. *With balance*:
#   unless that engine is busier than the others.

# %%
from helpers.engine import PrefixRouter, RoundRobinRouter, least_requests, least_tokens
from helpers.simulation import simulate_replicas, together
from helpers.traffic import Arrival, Trace

# %% tags=["skip-emulated"]
step = [(3000, 250) if i % 4 == 0 else (100, 40) for i in range(160)]
uneven = Mix(Lengths(300, 1.2, 16, 4000), Lengths(60, 1.3, 2, 800))
beginning = Lengths(2000)
traffic = {
    "every fourth is heavy": Trace([Arrival(i / 24, *sizes) for i, sizes in enumerate(step)]),
    "caps say nothing": with_caps(poisson(160, 30, uneven, seed=4), Lengths(1024)),
    "24 beginnings": shared_prefix(160, 60, 24, beginning, short, popularity=0.5, seed=2),
    "one is popular": shared_prefix(160, 60, 8, beginning, short, popularity=1.5, seed=2),
}
routers = {
    "in turn": RoundRobinRouter,
    "fewest requests": lambda: least_requests,
    "fewest tokens": lambda: least_tokens,
    "most cached": lambda: PrefixRouter(balance=0.0),
    "most cached, balance": PrefixRouter,
}


# %% tags=["skip-emulated"]
def fleet(trace, router):
    """What the clients of four engines saw."""
    engines = [SimulatedEngine(there, num_pages=1024, max_batch_size=8) for _ in range(4)]
    return together(simulate_replicas(trace, engines, router()))


seen = {(kind, name): fleet(trace, router)
        for kind, trace in traffic.items() for name, router in routers.items()}  # fmt: skip
rows = [
    (kind, *(f"{seen[kind, name].percentile('ttft', 99):.2f} s" for name in routers))
    for kind in traffic
]
display(Table(("TTFT p99, predicted", *routers), rows))
rows = [(kind, *(f"{seen[kind, name].hit_rate:.0%}" for name in routers)) for kind in traffic]
Table(("prompt tokens found cached", *routers), rows)

# %% [markdown]
# Read the columns: every router fails on some traffic, but the last one never by much. Its score is
# the share of the prompt that an engine has cached, less its load above the average.
#
# ## Sweep it
#
# Sixty requests, Poisson. Move the rate until the engine is too full, and then look for a policy, or a number of
# seats, that keeps the promise for most.

# %%
from helpers.display import SweepPanel, dropdown, int_slider, power_slider

crowd = poisson(60, 1.0, mix, seed=8)


def draw(policy, rate, seats, objective):
    policy = Article if policy == "by prompt" else policy
    report = serve(crowd.faster(rate), policy, max_batch_size=seats)
    title = f"{rate} requests/s, {seats} seats"
    fig, ax = plots.new_figure(title, "comes at, s", "time to first token, s")
    for level, color, name in ((1, "weights", "others"), (0, "decode", "urgent")):
        part = report.of_priority(level).outcomes
        at = [o.arrived for o in part], [o.ttft for o in part]
        ax.plot(*at, "so"[level], color=plots.COLORS[color], label=name)
    ax.axhline(objective / 1000, color=plots.COLORS["accent"], linestyle="--", label="promised")
    plots.log_axis(ax, "y")
    plots.legend(ax)
    return fig, summary(report, objective)


# %%
def summary(report, objective):
    """The panel's table."""
    kept = report.attainment(Objective(ttft=objective / 1000))
    rows = [("promise kept", f"{kept:.0%}"), ("tokens/s", f"{report.throughput:,.0f}")]
    rows += [(f"TTFT p{p}", f"{report.percentile('ttft', p):.2f} s") for p in (50, 90, 99)]
    rows += [("TPOT p50", f"{1e3 * report.percentile('tpot', 50):.1f} ms")]
    rows += [("worst wait", f"{report.worst_wait:.2f} s"), ("preempted", report.preemptions)]
    return Table(("predicted", "here"), rows)


# %%
SweepPanel(
    draw,
    {
        "policy": dropdown("policy", [*POLICIES, "by prompt"], value="priority"),
        "rate": int_slider("requests/s", value=20, min=2, max=60),
        "seats": power_slider("seats", value=16, min=1, max=64),
        "objective": int_slider("promised TTFT, ms", value=500, min=50, max=2000, step=50),
    },
    alt="The time to first token of each request over its arrival, urgent ones marked",
)

# %% [markdown]
# ## On Ascend
#
# Scheduling is the host's work, between two passes, and no operator of torch_npu takes part in it.
# That makes it a matter of time: while the host plans, the NPU has nothing to do, unless the next
# pass is planned while this one runs. Two things keep the plan short here: a heap, and a plan that
# looks at running requests and at the first waiting one. What a plan costs with few and with many
# waiting, beside the pass of 16 decoding requests on a 910C die:

# %% tags=["skip-emulated"]
from helpers.machine import Stopwatch
from helpers.simulation import Load


def plan_time(count):
    """Seconds in which 16 of `count` waiting requests are admitted."""
    scheduler = RequestScheduler(16, policy="sjf")
    for i in range(count):
        scheduler.add_request(Request(i, [1] * 16, 1 + i * 7919 % 500))
    with Stopwatch(model.device) as watch:
        scheduler.schedule()
    return watch.seconds


for count in (100, 20_000):
    print(f"{count:6,} waiting: 16 admitted, {measured(min(plan_time(count) for _ in range(3)))}")
print(f"a pass, predicted: {1e3 * there(Load.of([(1, 500)] * 16)):.1f} ms")

# %% [markdown]
# What the NPU sees of a policy is the shape of the batch. A decode pass is replayed as a captured
# graph only for certain batch sizes, and padded to the next of them. A policy that preempts and
# readmits brings mixed passes, which run as graphs in pieces or without one (chapter 2). And what the
# device computes must not depend on which requests share the pass:

# %%
from helpers.machine import where_it_ran

few = [ask(i) for i in range(5)]
batcher = answers("preemptive_priority", few, pages=8)
equal = all(batcher.finished[request.request_id].token_ids == alone(request) for request in few)
print("preemptive, 8 pages: everybody's tokens those of a run alone:", equal)
print(where_it_ran(model.device))

# %% [markdown]
# ## In production
#
# vLLM and vLLM-Ascend plan the next pass while this one runs, unless another option forbids it. Their orders are `fcfs` (the default) and
# `priority`: each request may carry a `priority`, smaller first, ties by arrival, and the least urgent one is preempted when
# pages run out. There is no ageing, so an endless stream of urgent requests starves the others. Seats and token budget bound
# what any policy can do, since no running request is overtaken. `vllm bench serve` counts this chapter's goodput: `--goodput ttft:1000 tpot:50`
# in vLLM 0.23 and 0.33.

# %%
from helpers.production import options_table

options_table(
    {
        "--scheduling-policy": "the policy",
        "--max-num-seqs": "the seats",
        "--max-num-batched-tokens": "the token budget of a pass",
        "--async-scheduling": "the plan costs the device no time",
        "--goodput": "objectives for TTFT and TPOT, in ms",
    }
)

# %% [markdown]
# vLLM-Ascend adds schedulers, in `--additional-config`. In 0.25 and later the first of them is turned on by
# `--additional-config '{"scheduler_config": {"short_request_first_config": {"enabled": true, "threshold": 256, "long_max_wait_ms": 2000}}}'`
# (in 0.24 without the outer key, on prefill nodes alone). Prompts of up to `threshold` tokens go first, until the oldest long one has
# waited for `long_max_wait_ms`; the policy must be `fcfs`. This is shortest job first with two lengths, and ageing: leave the wait
# out, and long prompts starve. The scheduler for batch jobs predicts lengths and has no bound on waiting, and its document says so.
#
# Over replicas, a router in front does what the table above compares. vLLM-Ascend's repository has two as examples (August 2026): a load
# balancer that sends short and long prompts to different replicas, and a proxy for prefill and decode on different nodes, between which
# keys and values move by `--kv-transfer-config` (vLLM-Ascend 0.23 and later).

# %%
options_table(
    {
        "scheduler_config": "the place of these keys",
        "short_request_first_config": "shortest job first with two lengths",
        "threshold": "the border between the lengths",
        "long_max_wait_ms": "ageing",
        "batch_job_sched_config": "longest job first, by predicted lengths",
        "enable_balance_scheduling": "replicas that wait for the fullest",
        "profiling_chunk_config": "chunks by measured time",
        "recompute_scheduler_enable": "preempted requests on a decode node",
    }
)

# %% [markdown]
# ## Recap
#
# A policy cannot make the engine faster; it decides who waits: some requests gain a factor by that,
# and others pay for it. The mechanism (seats, tokens, pages) is one, the policies are small, and
# none changes a token. Test them where it hurts, beyond 90 % load and at the end of the line, in a
# simulator that you have held against the clock. And give every order that favours some requests a
# bound for the others.
#
# **Check yourself.**
#
# 1. Your service has 95 % of its first tokens within the objective, and one customer complains every day. The policy is shortest job first.
#    What do you look at, and what do you change?
# 2. You let 64 instead of 16 requests run at once. TTFT falls. What rises, and where does it end?
#
# <details><summary>Answers</summary>
#
# 1. The worst wait, and who has it: the customer with the long jobs, who is overtaken by all others as long as there are any. Ageing bounds it; so does
#    a share of their own for each customer.
# 2. The time per output token, since passes have more tokens, and the need for pages. When they run out, requests are preempted and computed again, and
#    throughput falls.
#
# </details>
#
# Now you: [Lab 8](../labs/08_scheduling.ipynb).
# Next: [9 Operator fusion and graph capture](09_operator_fusion.ipynb).
# Back: [7 Flash attention](07_flash_attention.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
