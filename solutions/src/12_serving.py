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
# # Lab 12: Serving and load balancing
#
# Four exercises, about 75 minutes. You need [chapter 12](../notebooks/12_serving.ipynb). Write your code where the
# cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under
# each exercise, from vague to concrete. No model is needed here.

# %%
from helpers.checks import lab12, progress

# %% [markdown]
# ## 12.1 Turn the engine loop ●●○ 20 minutes
#
# The engine loop does what came since the last pass, and then runs a pass. A **seat** is the place of one running
# request in the batch. `turns[i]` are the actions that came before pass `i`, in their order:
#
# - `("begin", name, tokens)`: a request joins the queue. Its answer will have `tokens` tokens, 1 or more.
# - `("cancel", name, 0)`: the client has left. Its request leaves the queue, or its seat, before this pass. When it has ended
#   already, or is not known, nothing happens.
#
# Then requests of the queue get the free seats, the oldest first, and the pass gives one token to each request that has
# a seat. After its last token a request leaves its seat. The loop goes on while turns are left or requests are there. (A turn
# in which no request has a seat is a sleep: its list is empty.)
#
# Names are whole numbers, each begun once. Which requests get a token in each pass? List them in the order in which they got
# their seats: a request with a new seat stands behind the others, also where another one has left.
#
# <details><summary>Hint 1</summary>Two lists, the queue and the seats. In which of them can a cancelled request be?</details>
# <details><summary>Hint 2</summary>Keep <code>[name, tokens left]</code> for each request. A cancellation filters both
# lists.</details>
# <details><summary>Hint 3</summary><code>while turn < len(turns) or queue or seated:</code> do the actions, fill the seats, note the
# names, take a token from each, and keep those that have some left.</details>


# %% nbgrader={"grade": false, "grade_id": "loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def passes(turns, seats):
    """A list with the names that get a token, for each pass.

    `turns` is a list of lists of actions, as above; `seats` is 1 or more.
    """
    ### BEGIN SOLUTION
    queue, seated, found, turn = [], [], [], 0
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == "begin":
                queue.append([name, tokens])
            else:
                queue, seated = ([o for o in all_ if o[0] != name] for all_ in (queue, seated))
        while queue and len(seated) < seats:
            seated.append(queue.pop(0))
        found.append([name for name, _ in seated])
        seated = [[name, left - 1] for name, left in seated if left > 1]
        turn += 1
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-loop", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab12.check_loop(passes)

# %% [markdown]
# Two seats and three requests; the first client leaves before the third pass. The cell shows the same with and without its
# cancellation:

# %%
begun = [("begin", 1, 6), ("begin", 2, 5), ("begin", 3, 3)]
print("all stay:   ", passes([begun], 2))
print("one leaves: ", passes([begun, [], [("cancel", 1, 0)]], 2))

# %% [markdown]
# The seat of the client that has left is taken in the very next pass, and the third answer is complete earlier.
#
# ## 12.2 Read a stream of events ●●○ 20 minutes
#
# A client gets the bytes of a stream in pieces, which end where the network likes: between events, in a line, inside a
# character. Read the events:
#
# - The stream is UTF-8 without a byte order mark. It may break off, but not inside a character. A line ends with `\n`, or with `\r\n`,
#   and a stream may have both; a carriage return stands nowhere else.
# - A line that begins with `data:` adds what follows to the event; one space behind the colon is left out. Several such lines
#   of an event are joined by `\n`. All other lines, such as `: comment` or `id: 7`, add nothing.
# - An empty line ends the event. An event without a line of data is none, and what was not ended has not come.
# - The event `[DONE]` ends the stream. It is not returned, and neither is anything behind it.
#
# <details><summary>Hint 1</summary>What is complete, whatever the pieces are? Nothing says that you must work piece by
# piece.</details>
# <details><summary>Hint 2</summary>Join the pieces, decode once, and go through the lines. The last one has no end.</details>
# <details><summary>Hint 3</summary><code>*lines, rest = text.replace("\r\n", "\n").split("\n")</code>; <code>rest</code> has not
# ended. Collect data in a list; an empty line returns and empties it.</details>


# %% nbgrader={"grade": false, "grade_id": "events", "locked": false, "schema_version": 3, "solution": true, "task": false}
def events(pieces):
    """The data of each event, a list of texts. `pieces` is a list of bytes, none of them empty."""
    ### BEGIN SOLUTION
    text = b"".join(pieces).decode().replace("\r\n", "\n")
    found, data = [], []
    for line in text.split("\n")[:-1]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            found.append("\n".join(data))
            data = []
            if found[-1] == "[DONE]":
                return found[:-1]
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-events", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab12.check_events(events)
### BEGIN HIDDEN TESTS
assert events([b"data: a\n", b"\ndata: caf\xc3", b"\xa9\n\n"]) == ["a", "café"]
### END HIDDEN TESTS

# %% [markdown]
# Here is what chapter 12's server sends for an answer of five tokens. The cell cuts it into pieces of 20 bytes and shows the text
# that your function finds:

# %%
import json

texts = ["Str", "eam", "ing", " caf", "é"]
wire = [{"choices": [{"index": 0, "text": text}]} for text in texts]
lines = [f"data: {json.dumps(one, ensure_ascii=False)}\n\n" for one in wire]
stream = "".join([*lines, "data: [DONE]\n\n"]).encode()
cut = [stream[i : i + 20] for i in range(0, len(stream), 20)]
answer = [json.loads(data)["choices"][0]["text"] for data in events(cut)]
print(len(cut), "pieces,", len(answer), "events:", "".join(answer))

# %% [markdown]
# ## 12.3 Route with a bound ●●○ 15 minutes
#
# Requests of conversations come to several engines. In this exercise no request ends, so an engine's load is the sum of the tokens
# that were sent to it. A conversation is **at home** at the engine that got its latest request: its text is cached there.
#
# - A request goes to its conversation's home if the home's load is at most `slack` above the least load of all engines. The loads are
#   those before the request comes.
# - All others go to the engine with the least load, of equal engines to the first one. This engine is then the home.
#
# <details><summary>Hint 1</summary>What must you remember from one request to the next?</details>
# <details><summary>Hint 2</summary>A list of loads, and a dictionary from conversation to home.</details>
# <details><summary>Hint 3</summary><code>home is not None and loads[home] <= min(loads) + slack</code>. And
# <code>loads.index(min(loads))</code> is the first of the least loaded engines.</details>


# %% nbgrader={"grade": false, "grade_id": "route", "locked": false, "schema_version": 3, "solution": true, "task": false}
def places(requests, engines, slack):
    """The engine of each request, a list of whole numbers from 0.

    `requests` is a list of pairs, conversation (a text) and tokens (1 or more). `engines` is their
    number, 1 or more; `slack` is a number of tokens, 0 or more.
    """
    ### BEGIN SOLUTION
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] += tokens
        found.append(home)
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-route", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab12.check_route(places)

# %% [markdown]
# Forty requests, half of them of one conversation, over four engines. The cell counts how many find their text, and how far the loads
# are apart in the end:

# %%
import random

draw = random.Random(7)
day = [(draw.choice("aaaaabcdef"), draw.randrange(20, 200)) for _ in range(40)]
for slack in (0, 100, 300, 1000, 10_000):
    where, homes_, loads_, hits = places(day, 4, slack), {}, [0] * 4, 0
    for (talk, tokens), engine in zip(day, where):
        hits += homes_.get(talk) == engine
        homes_[talk], loads_[engine] = engine, loads_[engine] + tokens
    apart = max(loads_) - min(loads_)
    print(
        f"slack {slack:6,}: {hits:2} of {len(day)} find their text; loads {apart:5,} tokens apart"
    )

# %% [markdown]
# Some slack gives most of the hits. More slack gives a few more, and one engine becomes much busier than the others.
#
# ## 12.4 Choose replicas and router ●●● 20 minutes
#
# A service promises a time to the first token (TTFT) and a time per output token (TPOT). You have tried some choices.
# For each request you know `(ttft, tpot)` in seconds. A request that was refused, because the queue was full, has
# `None`. A request is **served well** when it was not refused and each of its two times is at most what was promised.
#
# A choice is good enough when at least `share` of its requests are served well. Of the choices that are good enough, take the one with the
# fewest replicas; among these the one with the largest share served well; among these the first in the list.
#
# <details><summary>Hint 1</summary>First a function for the share of one choice. What is the share divided by?</details>
# <details><summary>Hint 2</summary>Both times of <i>one</i> request count, so two separate percentages do not do.</details>
# <details><summary>Hint 3</summary><code>min(good, key=lambda one: (one["replicas"], -met(one)))</code>: <code>min</code> keeps the first of equal
# ones. What if <code>good</code> is empty?</details>


# %% nbgrader={"grade": false, "grade_id": "plan", "locked": false, "schema_version": 3, "solution": true, "task": false}
def plan(choices, ttft, tpot, share):
    """`(replicas, router)` of the choice, or None where no choice is good enough.

    `choices` is a list of dictionaries with `replicas` (a whole number), `router` (a name) and
    `requests` (a list, not empty, as above). `ttft` and `tpot` are seconds, `share` is above 0 and
    at most 1.
    """

    ### BEGIN SOLUTION
    def met(choice):
        served = [one for one in choice["requests"] if one is not None]
        return sum(a <= ttft and b <= tpot for a, b in served) / len(choice["requests"])

    good = [choice for choice in choices if met(choice) >= share]
    if not good:
        return None
    best = min(good, key=lambda choice: (choice["replicas"], -met(choice)))
    return best["replicas"], best["router"]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-plan", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab12.check_plan(plan)

# %% [markdown]
# Now a real decision: conversations with long prompts, Llama-3-8B on dies of an Ascend 910C, simulated. First tokens are promised within
# 100 ms and further ones within 20 ms:

# %%
from helpers.engine import BoundedPrefixRouter, RoundRobinRouter
from helpers.estimates import accelerator_ceilings
from helpers.model import PUBLISHED
from helpers.simulation import RooflineTime, SimulatedEngine, simulate_replicas, together
from helpers.traffic import Lengths, Mix, multi_turn

passes_ = RooflineTime(PUBLISHED["Llama-3-8B"], accelerator_ceilings("Ascend 910C (one die)"))
talks = multi_turn(30, 8, turns=5, think=1, mix=Mix(Lengths(600, 0.5), Lengths(60, 0.5)), seed=2)
tried = []
for replicas in (2, 3, 4, 6):
    for router in (RoundRobinRouter(), BoundedPrefixRouter(4000)):
        engines = [SimulatedEngine(passes_, 2048, max_batch_size=8) for _ in range(replicas)]
        seen = together(simulate_replicas(talks, engines, router)).outcomes
        times = [(one.ttft, one.tpot or 0.0) for one in seen]
        name = type(router).__name__
        tried.append({"replicas": replicas, "router": name, "requests": times})
        good = sum(a <= 0.1 and b <= 0.02 for a, b in times) / len(times)
        print(f"{replicas} replicas, {name:19} {good:.0%} served well")

# %%
for share in (0.8, 0.9, 0.95, 0.999):
    print(f"{share:.1%} served well: {plan(tried, 0.1, 0.02, share)}")

# %% [markdown]
# Two replicas are too few for this traffic, whatever the router. With three, a router that finds cached text does as much as a
# fourth replica: compare its share with that of four replicas in turn. And more replicas are not always better. Six serve fewer
# requests well than four, because each of them knows a smaller part of the conversations.

# %% [markdown]
# ## How far you are
#
# Back: [12 Serving and load balancing](../notebooks/12_serving.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab12.LAB)
