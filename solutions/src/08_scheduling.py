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
# # Lab 8: Scheduling
#
# Five exercises, about 75 minutes. You need [chapter 8](../notebooks/08_scheduling.ipynb). Write your code where the cells say so, run
# the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under each exercise, from vague to
# concrete. No model is needed here; the engines are simulated.

# %%
import math

from helpers.checks import lab08, progress

# %% [markdown]
# ## 8.1 Predict the wait ●○○ 5 minutes
#
# Some jobs are here at the same moment, and there is one seat, the place of a running job. They are served one by one, in the order of
# the list; `seconds` says how long each takes. How long do they wait, on average, until they begin?
#
# <details><summary>Hint 1</summary>The first one does not wait. How long does the third one?</details>
# <details><summary>Hint 2</summary>A job waits for all those before it. Or: a job of <code>s</code> seconds adds <code>s</code> to the
# wait of each that comes after it.</details>


# %% nbgrader={"grade": false, "grade_id": "wait", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mean_wait(seconds):
    """The mean of the seconds that each job waits; `seconds` is a list of at least one length."""
    ### BEGIN SOLUTION
    behind = reversed(range(len(seconds)))
    return sum(s * others for s, others in zip(seconds, behind)) / len(seconds)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-wait", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
lab08.check_wait(mean_wait)

# %% [markdown]
# Which order has the least mean wait, and who pays for it?

# %%
jobs = [6.0, 1.0, 9.0, 2.0, 2.0, 4.0]
for name, order in (
    ("as they came", jobs),
    ("longest first", sorted(jobs)[::-1]),
    ("shortest first", sorted(jobs)),
):
    print(f"{name:15} {mean_wait(order):5.2f} s on average, {sum(order[:-1]):4.1f} s for the last")

# %% [markdown]
# A long job in front is waited for by all, so the shortest goes first. The mean gets smaller, and the longest job pays.
#
# ## 8.2 Mend the ageing ●●○ 15 minutes
#
# Urgent requests go first, and no request must starve. So those that wait become more urgent: `ageing` seconds of waiting outweigh **one step**
# of priority. Here is what one would write.


# %%
def plausible_first(waiting, now, ageing):
    def urgency(job):
        return job["priority"] - (now - job["arrived"]) // ageing

    return min(waiting, key=urgency)["name"]


# %%
old, new = (
    {"name": "old", "priority": 1, "arrived": 0.0},
    {"name": "new", "priority": 0, "arrived": 13.0},
)
for now in (14.0, 21.0, 24.0, 31.0, 34.0):
    print(f"at {now:4.1f} s: {plausible_first([new, old], now, ageing=10.0)} goes first")

# %% [markdown]
# Both wait, nothing else happens, and the order changes back and forth: each time both have aged by equally many whole steps, the place in the
# list decides. A queue that is sorted when a request joins it (a heap) would be wrong a second later.
#
# Write it right: every second counts alike, and of equals the one that came first is next.
#
# <details><summary>Hint 1</summary>Leave the whole steps out. By how much is a request more urgent after a second?</details>
# <details><summary>Hint 2</summary>Compare two requests, and multiply both urgencies by <code>ageing</code>. What becomes of
# <code>now</code>?</details>
# <details><summary>Hint 3</summary>All requests age equally fast, so <code>now</code> falls out: what is left is a moment, that of
# the arrival, put back by so many seconds for each step.</details>


# %% nbgrader={"grade": false, "grade_id": "first", "locked": false, "schema_version": 3, "solution": true, "task": false}
def first(waiting, now, ageing):
    """The name of the request that is next.

    `waiting` is a list of dictionaries: `name`, `priority` (smaller is more urgent), `arrived` in
    seconds. `now` and `ageing` are seconds.
    """

    ### BEGIN SOLUTION
    def key(job):
        return job["arrived"] + ageing * job["priority"], job["arrived"]

    return min(waiting, key=key)["name"]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-first", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab08.check_first(first)
### BEGIN HIDDEN TESTS
assert [first([new, old], 30.0, ageing) for ageing in (7.0, 13.0, 20.0)] == ["old", "old", "new"]
### END HIDDEN TESTS

# %% [markdown]
# For a minute, an urgent job of one second comes every second, and the seat is never free. One patient job (priority 2) comes right after
# the first. When does it begin?

# %%
stream = [{"name": str(i), "priority": 0, "arrived": float(i), "seconds": 1.0} for i in range(60)]
patient = {"name": "patient", "priority": 2, "arrived": 0.5, "seconds": 1.0}
for ageing in (1.0, 5.0, 20.0, 1000.0):
    waits = lab08.one_seat(first, [*stream, patient], ageing)
    others = max(seconds for name, seconds in waits.items() if name != "patient")
    print(
        f"ageing {ageing:6.1f} s: it waits {waits['patient']:4.1f} s, the others up to {others} s"
    )

# %% [markdown]
# A request that comes more than `2 * ageing` seconds later does not overtake it. That is the whole proof that no request starves. It works because the
# order of two requests never changes.
#
# ## 8.3 Predict the length ●●○ 15 minutes
#
# Shortest job first needs lengths, and how long an answer will be is not known. What is known: the prompt, what the request allows
# (`cap`), who asks, and how long the answers of those were that have `ended`. Predict the **passes** that a request will take:
#
# - The answer is as long as this client's answers were on average, but not longer than the request allows.
# - For a client with no finished request, expect what the request allows.
# - A pass computes up to `budget` tokens of a prompt. The prompt's last pass gives the first token of the answer, each further pass one more.
#
# <details><summary>Hint 1</summary>First the answer's length, then the passes.</details>
# <details><summary>Hint 2</summary>A prompt of 513 tokens takes two passes with a budget of 512. An answer of one token takes no
# pass of its own.</details>
# <details><summary>Hint 3</summary><code>math.ceil(prompt / budget) + answer - 1</code>; a mean need not be whole.</details>


# %% nbgrader={"grade": false, "grade_id": "passes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def passes(request, ended, budget):
    """The passes that a request is expected to take, a number.

    `request` is a dictionary: `client`, `prompt` and `cap` in tokens. `ended` is a list of such
    dictionaries that have, besides, the `answer` in tokens. `budget` is in tokens.
    """
    ### BEGIN SOLUTION
    seen = [e["answer"] for e in ended if e["client"] == request["client"]]
    answer = min(sum(seen) / len(seen), request["cap"]) if seen else request["cap"]
    return math.ceil(request["prompt"] / budget) + answer - 1
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-passes", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab08.check_passes(passes)

# %% [markdown]
# Four clients ask for titles, summaries, letters and reports, and all of them allow 512 tokens. Four seats, and for a while more work than
# can be done. Your prediction learns from the first answers on (p50 is the median):

# %%
from functools import partial

from helpers.engine import FirstComeFirstServed, ShortestJobFirst
from helpers.figures import comparison

trace = lab08.letters()


def known(request):
    """The true length, which no engine knows."""
    return math.ceil(len(request.prompt_ids) / 512) + trace[request.request_id].new_tokens - 1


# %%
runs = {
    "first come, first served": FirstComeFirstServed,
    "shortest, by the cap": ShortestJobFirst,
    "shortest, predicted": partial(lab08.Learning, passes),
    "shortest, known": partial(ShortestJobFirst, known),
    "predicted, and ageing": partial(lab08.Learning, passes, ageing=0.05),
}
reports = {name: lab08.serve(trace, policy) for name, policy in runs.items()}
comparison(reports, columns=("TTFT p50", "end to end p50", "worst wait"))

# %% [markdown]
# The cap says nothing: all clients allow the same, and what is left is the prompt. A mean per client is nearly as good as knowing.
# And the worst wait has become longer: reports starve while anything shorter is there. Ageing gives part of the gain back to them.
#
# ## 8.4 When does the long one begin? ●●○ 15 minutes
#
# One seat, shortest job first, no prediction needed. A job of `long` seconds comes at moment 0 and waits; the seat is free at moment
# `free`. Short jobs, `short` seconds each, come at the moments `gap`, `2 * gap`, `3 * gap` and so on, for ever. When does the long job
# begin?
#
# With `ageing` (seconds of waiting that outweigh one second of length) the job with the smallest `arrived + ageing * length` goes
# first. Where two are equal, the one that came first goes first: the long job came at 0, before all others. Without ageing (`None`),
# the shortest goes first. A job that comes at the very moment at which the seat becomes free is there already. A job that has begun
# keeps the seat to its end.
#
# <details><summary>Hint 1</summary>Go through the short jobs one by one. When does a short one go first?</details>
# <details><summary>Hint 2</summary>If it is here, and if it is ahead in the order. The first one that is not ends the story.</details>
# <details><summary>Hint 3</summary>Without ageing there may be no end: when the next short one is always there before the last one is
# done. Then the answer is <code>math.inf</code>, and a loop would not find it.</details>


# %% nbgrader={"grade": false, "grade_id": "begin", "locked": false, "schema_version": 3, "solution": true, "task": false}
def begins(free, short, long, gap, ageing=None):
    """The moment, in seconds, at which the long job begins; `math.inf` when it never does.

    All are seconds above 0, `short < long`; `ageing` may be None.
    """
    ### BEGIN SOLUTION
    if ageing is None and short >= gap:
        return math.inf if gap <= free else free
    now, comes = free, gap
    while comes <= now and (ageing is None or comes + ageing * short < ageing * long):
        now, comes = now + short, comes + gap
    return now
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-begin", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab08.check_begin(begins)

# %% [markdown]
# The busier the seat, the longer the long job waits, and from 100 % on for ever. With ageing the wait has a bound, whatever the load:

# %%
for short in (0.5, 0.8, 0.9, 1.0, 1.5):
    waits = [begins(5.5, short, 20.0, 1.0, ageing) for ageing in (None, 2.0, 1.0, 0.5)]
    words = "  ".join(f"{seconds:6.1f} s" for seconds in waits)
    print(f"load {short:4.0%}: no ageing {words[:8]}, ageing 2, 1 and 0.5: {words[8:]}")

# %% [markdown]
# ## 8.5 Keep two promises ●●● 25 minutes
#
# Two kinds of clients share four seats. **Chats** are mostly short, and are promised a first token within 2 seconds. **Documents** mostly
# have long prompts, and are promised theirs within 10. For 24 seconds there are so many chats that they alone fill the engine; then it
# gets calm. Each promise must hold for 95 % of its clients. What the usual policies do:

# %%
from helpers.engine import Policy, Priority

lab08.promises(
    **{
        "first come, first served": FirstComeFirstServed,
        "chats first": Priority,
        "shortest first": ShortestJobFirst,
    }
)

# %% [markdown]
# Write a policy that keeps both. `rank` says who goes first, smaller ones first; it must not change while a request waits. Look at
# `state.arrived` (seconds) and `state.request`: its `client` (`"chat"` or `"document"`), `prompt_ids`, `max_tokens` (200 for all), `priority`
# (0 for chats, 1 for documents). Your class is tried in three rushes, of which the table shows
# the first; in the last one some chats have long prompts, and some documents short ones.
#
# <details><summary>Hint 1</summary>Two requests, and one seat becomes free. Which one can still wait?</details>
# <details><summary>Hint 2</summary>Each has a moment by which it must have been answered.</details>
# <details><summary>Hint 3</summary>The request whose moment is nearest goes first (<i>earliest deadline first</i>). Which number says
# that, and stays the same while the request waits?</details>


# %% nbgrader={"grade": false, "grade_id": "both", "locked": false, "schema_version": 3, "solution": true, "task": false}
class BothPromises(Policy):
    """Chats within 2 seconds, documents within 10."""

    def rank(self, state):
        """A number, smaller is more urgent; `state.arrived` is in seconds."""
        ### BEGIN SOLUTION
        return state.arrived + {"chat": 2.0, "document": 10.0}[state.request.client]
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-both", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab08.check_both(BothPromises)

# %%
lab08.promises(
    **{
        "your policy": BothPromises,
        "ageing, 1 s": partial(Priority, ageing=1.0),
        "ageing, 8 s": partial(Priority, ageing=8.0),
        "ageing, 30 s": partial(Priority, ageing=30.0),
    }
)

# %% [markdown]
# No policy makes the engine faster. This one gives each kind what it was promised and not more: chats wait longer than they would
# with everything for them, and documents longer than in the order of arrival. Priorities with the right ageing do the same, since the promises
# differ by 8 seconds.

# %% [markdown]
# ## How far you are
#
# Next: [9 Operator fusion and graph capture](../notebooks/09_operator_fusion.ipynb).
# Back: [8 Scheduling](../notebooks/08_scheduling.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab08.LAB)
