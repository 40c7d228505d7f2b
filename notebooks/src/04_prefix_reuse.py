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
# # 4 Prefix reuse
#
# **Promise.** You will let requests share the keys and values of what their prompts have in common: first in a way that tells
# one guest another guest's secret, then in a radix tree that cannot, proven token for token. You will count what it saves.
#
# **You need** [chapter 3](03_kv_cache.ipynb). About 55 minutes.
#
# **We measure** tokens that need not be computed (exactly), and the time to the first token (TTFT) that this saves.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: the same beginning again and again
#
# A chat model's prompt is the whole conversation, and conversations begin alike. Here three guests write to a museum. Every
# one of their prompts starts with the same instructions to the model, the [**system prompt**](../docs/glossary.md#system-prompt).

# %%
from helpers import KVCache
from helpers.model import FlatBatch, checkpoint, generate

model, tokenizer = checkpoint.load()
SYSTEM = (
    "You are the assistant of the Harbour Museum. The museum is open from ten to six, on Fridays "
    "until nine. Tickets cost nine euros; children go free. The cafe is on the second floor, the "
    "ship models on the third. Answer in one short sentence."
)


def chat(*turns, system=SYSTEM):
    """Token ids of a conversation: user and assistant in turn, ready for the next answer."""
    messages = [{"role": "system", "content": system}]
    messages += [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# %%
guests = [
    "My name is Petra and my secret number is 7391.",
    "What is my secret number?",
    "When do you open?",
]
prompts = [chat(question) for question in guests]
parted = next(i for i, tokens in enumerate(zip(*prompts)) if len(set(tokens)) > 1)
shared = prompts[0][:parted]
print("tokens of the prompts:", [len(p) for p in prompts])
print(f"the first {len(shared)} of them are the same in all three")

# %% [markdown]
# Keys and values of a token depend on the tokens before it, and on nothing else. So for equal beginnings they are equal,
# and computing them once is enough. Here is what one would write: a dictionary, from a prefix to a `KVCache` that holds it. A
# request continues from there.


# %%
class PlausibleReuse:
    """One cache for each prefix. Plausible, and wrong."""

    def __init__(self):
        self.entries, self.hits = {}, 0

    def generate(self, prefix, continuation, max_new_tokens):
        """The answer to the prefix and its continuation."""
        self.hits += tuple(prefix) in self.entries
        if tuple(prefix) not in self.entries:
            self.entries[tuple(prefix)] = KVCache.for_model(model, 1, 256)
            model(FlatBatch.pack([prefix]), self.entries[tuple(prefix)])
        cache = self.entries[tuple(prefix)]
        known = cache.seq_lens[0]
        text = [0] * known + continuation  # what is known is not looked at again
        return generate(model, text, max_new_tokens, cache, [tokenizer.eos_token_id], cached=known)


# %%
reuse, (petra, other, _) = PlausibleReuse(), prompts
end = petra.index(tokenizer.eos_token_id) + 2  # the system prompt, its end token, and a new line
reuse.generate(petra[:end], petra[end:], 20)
leaked = reuse.generate(other[:end], other[end:], 20)
own = KVCache.for_model(model, 1, 256)
alone = generate(model, other, 20, own, stop_ids=[tokenizer.eos_token_id])
print("another guest is told:", repr(leaked.text(tokenizer)))
print("without reuse it stays secret:", "7391" not in tokenizer.decode(alone.token_ids))
print(f"{len(other)} tokens were asked, attention looked back at {len(leaked.prompt_ids)}")

# %% [markdown]
# The second guest asked a question and got the first guest's secret. Nothing crashed. The
# **continuation was written into the shared entry**: Petra's words and the answer to her stand
# behind the system prompt now, and every later request attends to them.
#
# A second mistake costs no secret, only the benefit: **only an identical whole prefix hits**. In a conversation the
# prompt grows with every turn, so no two prefixes are ever the same. And **nothing is ever removed**.

# %%
talk = [
    "When do you open?",
    "At ten.",
    "And on Fridays?",
    "Until nine.",
    "Is there food?",
    "Yes, a cafe.",
]
reuse = PlausibleReuse()
for turns in (1, 3, 5):
    prompt = chat(*talk[:turns])
    reuse.generate(prompt[:-1], prompt[-1:], 1)
nbytes = sum(cache.nbytes for cache in reuse.entries.values())
print(
    f"{reuse.hits} hits in 3 turns; {len(reuse.entries)} entries, {nbytes / 1e6:.1f} MB, for ever"
)

# %% [markdown]
# So let the cache have a fixed size, here two rows, and let a new text take the row that was used longest ago. The fourth
# mistake: **nothing is protected while it is in use**.

# %%
rows, owners = KVCache.for_model(model, 2, 128), {}


def begin(name):
    """Computes a prompt but for its last token, in a free row or in the oldest one."""
    row = owners.pop(next(iter(owners))) if len(owners) == 2 else len(owners)
    rows.clear(row)
    model(FlatBatch.pack([prompts[name][:-1]], seq_ids=[row]), rows)
    owners[name] = row
    return row


row_of_petra = begin(0)
begin(1), begin(2)  # the third guest gets Petra's row
batch = FlatBatch.pack([petra[-1:]], [rows.seq_lens[row_of_petra]], [row_of_petra])
first = int(model(batch, rows).argmax())
own = generate(model, petra, 1).token_ids[0]
print("Petra's first token is another than in her own run:", first != own)
print("it is that of the third guest's:", first == generate(model, prompts[2], 1).token_ids[0])

# %% [markdown]
# ## The idea in a picture
#
# Keep texts in a [**radix tree**](../docs/glossary.md#radix-tree): each node is a run of tokens, and texts that begin alike go through the same nodes. To find
# the longest known beginning of a prompt, walk down from the root as long as the tokens agree. Each request that adds
# something makes the tree grow, and where two texts part in the middle of a run, the run is split.
#
# `KVCacheReuse` is the right version of the class above. Watch its tree after each guest.

# %%
from helpers import KVCacheReuse
from helpers.display import plots
from helpers.figures import draw_tree


def label(tokens):
    """The beginning and the end of a run, in words."""
    text = tokenizer.decode(tokens, skip_special_tokens=True).replace("\n", " ")
    return text if len(text) <= 44 else f"{text[:26]} ... {text[-14:]}"


# %%
store = KVCacheReuse(model, capacity=1024, page_size=1)
for i, prompt in enumerate(prompts):
    answer = store.generate_with_reuse(model, prompt, [], 4)
    computed = answer.tokens_computed - 3  # without those of the answer itself
    print(
        f"guest {i + 1}: {len(prompt)} tokens, {computed} computed, {len(prompt) - computed} reused"
    )
    fig = draw_tree(store.tree, f"After guest {i + 1}", label)
    plots.show(
        fig, alt=f"The radix tree after guest {i + 1}; the system prompt is their common node"
    )

# %% [markdown]
# ## Build it
#
# First the tree alone, by hand, with letters for tokens. The caller owns the **pages** in which
# keys and values lie (here one token each), and tells the tree their numbers. `match` finds,
# `insert` adds.

# %%
from helpers.caches import RadixTree

tree = RadixTree(page_size=1)


def letters(text):
    """Letters as tokens."""
    return [ord(letter) for letter in text]


tree.insert(letters("the cat sat"), pages=range(11))
found = tree.match(letters("the car"))
print(f"'the car' finds {found.num_tokens} tokens, in the pages {list(found.pages)}")
tree.insert(letters("the car"), pages=[*found.pages, 11])
for node in tree.nodes():
    print(f"  {''.join(map(chr, node.tokens))!r:8} pages {node.pages}")

# %% [markdown]
# `match` split the run at "the ca", and `insert` added one page for the "r". Now a request uses
# "the cat sat", and the tree has to free pages. A node is [**pinned**](../docs/glossary.md#pinned)
# as long as a request uses it or something below it. A page of a node that is not pinned is
# [**evictable**](../docs/glossary.md#evictable): it can be freed. Nodes go one by one, and only from
# the ends of the tree, its leaves: a text without its beginning is worth nothing. Among the leaves,
# the least recently used is evicted first ([**LRU**](../docs/glossary.md#lru)).

# %%
free = 0  # of 12 pages


def account(tree, free):
    """The sum that must hold after every step."""
    parts = (free, tree.evictable, tree.pinned)
    print(f"  free {parts[0]} + evictable {parts[1]} + pinned {parts[2]} =", sum(parts))


user = tree.match(letters("the cat sat")).node
tree.pin(user)
account(tree, free)
free += len(tree.evict(5))
account(tree, free)
tree.unpin(user)
free += len(tree.evict(5))
account(tree, free)
print([("".join(map(chr, node.tokens)), node.pages) for node in tree.nodes()])

# %% [markdown]
# Five pages were asked for, and only that of the "r" was freed: all others were in use. After
# `unpin`, pages were evicted from the end of the text.
#
# `KVCacheReuse` adds keys and values to it. What protects a shared text from the next request is one line: a request gets a
# **copy**, in a row of its own.

# %%
from helpers.display import show_source

show_source(KVCacheReuse.generate_with_reuse)

# %%
from helpers.caches import PrefixStore

show_source(PrefixStore.keep)

# %% [markdown]
# Look at `text[:-1]`: **the last token of a prompt is always computed**, even if all of it is known. A cache holds keys and
# values, and no logits; without a pass over at least one token there is nothing to choose the next token from.

# %%
for _ in range(2):
    answer = store.generate_with_reuse(model, prompts[2], [], 1)
    print(f"the same {len(prompts[2])} tokens again: {answer.tokens_computed} computed")

# %% [markdown]
# ## Prove it
#
# Three situations in which prompts begin alike: guests under one system prompt; [**few-shot**](../docs/glossary.md#few-shot) prompts, which start with the same
# worked examples; and a conversation, whose every prompt contains the last one and its answer. Pages hold 16 tokens now, as in
# production: only whole pages are kept.

# %%
examples = "\n".join(
    f"{a} plus {b} is {a + b}." for a, b in ((2, 3), (4, 5), (7, 1), (6, 6), (8, 3), (9, 9))
)
scenarios = {
    "system prompt": [chat(q) for q in (*guests, "How much is a ticket?", "Where is the cafe?")],
    "few-shot": [
        tokenizer(f"{examples}\n{a} plus {b} is")["input_ids"]
        for a, b in ((5, 5), (1, 8), (3, 9), (7, 7))
    ],
    "conversation": [chat(*talk[:turns]) for turns in (1, 3, 5)],
}


# %%
import functools

from helpers.display import Table


@functools.cache
def without_reuse(prompt):
    """Five tokens of the plain answer."""
    return generate(model, prompt, 5).token_ids


def serve(store, prompts):
    """Whether all answers equal those without reuse, and the tokens reused of those that came."""
    answers = [store.generate_with_reuse(model, prompt, [], 5).token_ids for prompt in prompts]
    equal = answers == [without_reuse(tuple(prompt)) for prompt in prompts]
    return equal, store.stats.reused_tokens, store.stats.prompt_tokens


# %% tags=["skip-emulated"]
rows = []
for name, texts in scenarios.items():
    equal, reused, total = serve(KVCacheReuse(model, 2048, page_size=16), texts)
    rows.append((name, len(texts), total, reused, f"{100 * reused / total:.0f} %", equal))
Table(("", "requests", "prompt tokens", "reused", "hit rate", "tokens equal"), rows)

# %% [markdown]
# The [**hit rate**](../docs/glossary.md#hit-rate) is the reused share of the prompts' tokens. And
# the answers stay the same when the store is far too small, so that pages are evicted all the time:

# %% tags=["skip-emulated"]
everything = [text for texts in scenarios.values() for text in texts] * 2
for capacity in (64, 160, 2048):
    tight = KVCacheReuse(model, capacity, page_size=16)
    equal, reused, total = serve(tight, everything)
    evicted = tight.tree.stats().evicted_pages
    print(f"room for {capacity:>4}: tokens equal {equal},", end=" ")
    print(f"{reused:>4} of {total} reused, {evicted} pages evicted")

# %% [markdown]
# ## Measure it: time to the first token
#
# Prediction first. Chapter 2: a prefill of that many tokens is bound by compute, so its time follows the tokens that are left to
# compute. `step_cost` counts their operations, with the history that they attend to; this machine's measured ceilings turn
# them into seconds.

# %%
from helpers.estimates import step_cost
from helpers.machine import Stopwatch, repeats
from helpers.measurements import host_ceilings
from helpers.model import PUBLISHED

smol, ceilings = PUBLISHED["SmolLM2-135M"], host_ceilings(model.device)
story = tokenizer("The tide came in and the tide went out, and nobody counted. " * 50)["input_ids"]


def first_token(reused, total=512):
    """Seconds to the first token of a prompt whose first `reused` tokens are stored."""
    times = []
    for _ in range(repeats(model.device, 3)):
        store = KVCacheReuse(model, 2 * total, page_size=16)
        if reused:
            store.get_or_create_cache(story[:reused])
        with Stopwatch(model.device) as watch:
            store.generate_with_reuse(model, story[:total], [], 1)
        times.append(watch.seconds)
    return sorted(times)[len(times) // 2]


# %% tags=["skip-emulated"]
shares = (0, 128, 256, 384, 496)
seconds = [first_token(reused) for reused in shares]
fp32 = {"weight_bytes": 4, "element_bytes": 4}
predicted = [step_cost(smol, [512 - n], [n], **fp32).seconds(ceilings) for n in shares]

# %% tags=["measured", "skip-emulated"]
fig, ax = plots.new_figure("A prompt of 512 tokens, SmolLM2 in fp32", "tokens reused", "TTFT, ms")
ax.plot(shares, [1e3 * s for s in predicted], "--", color=plots.COLORS["muted"], label="predicted")
ax.plot(shares, [1e3 * s for s in seconds], "o-", color=plots.COLORS["kv_cache"], label="measured")
ax.set_ylim(bottom=0)
plots.legend(ax, loc="upper right")
plots.show(fig, alt="The time to the first token falls nearly in proportion to the tokens reused")

# %% tags=["skip-emulated"]
from helpers.display import measured

rows = [
    (n, 512 - n, measured(p), measured(s), measured(s / p, "x"))
    for n, p, s in zip(shares, predicted, seconds)
]
Table(("reused", "computed", "predicted (measured ceilings)", "TTFT", "ratio"), rows)

# %% [markdown]
# The time falls with what is left, as predicted; it does not fall to zero. What the prediction
# leaves out is the same for every prompt: starting some hundred operators, copying the reused keys
# and values into the request's row, and storing the new ones. The fewer tokens are left, the more
# of the time that is.

# %% [markdown]
# ## Measure it: how large must the store be?
#
# Six people talk with a model in turns, in random order. Each of their prompts is a talk so far: a system prompt of 160 tokens that
# all share, and 48 tokens for each turn. Between them come 36 visitors with 256 tokens each, who never return. How much is
# reused depends on what the store has kept until the same person comes back. No model is needed to count it:
# `PrefixStore`, the bookkeeping of `KVCacheReuse`, replays the requests on paper.

# %%
import random


def talks(users=6, turns=6, visitors=36, seed=0):
    """Prompts in the order in which they come."""
    rng, order = random.Random(seed), [*range(users)] * turns + [None] * visitors
    rng.shuffle(order)
    texts = {user: list(range(160)) for user in range(users)}
    for user in order:
        new = [rng.randrange(1000, 50000) for _ in range(256 if user is None else 48)]
        texts[user] = new if user is None else texts[user] + new
        yield texts[user]


# %%
prompts_in_order = list(talks())
capacities = [64 * n for n in (4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 200)]
fig, ax = plots.new_figure("Six talks and 36 visitors", "capacity, tokens", "hit rate, %")
for policy, color, marker in (("lru", "kv_cache", "o"), ("lfu", "accent", "^")):
    stats = [PrefixStore(n, 16, policy).replay(prompts_in_order) for n in capacities]
    rates = [100 * s.hit_rate for s in stats]
    ax.plot(capacities, rates, marker + "-", color=plots.COLORS[color], label=policy.upper())
ax.set_ylim(0, 60)
plots.legend(ax, loc="lower right")
plots.show(fig, alt="The hit rate grows with the capacity, and stays level once everything fits")

# %%
best = PrefixStore(10**6, 16).replay(prompts_in_order)
print(f"room for all: {best.reused_tokens} of {best.prompt_tokens} tokens, {best.hit_rate:.3f}")

# %% [markdown]
# In a small store each talk is evicted before its owner comes back, and only the system prompt is
# reused. Then each extra page raises the hit rate, until everything fits. That is why a busy server
# keeps prefixes in all the memory it can get. [**LFU**](../docs/glossary.md#lfu) evicts what was
# matched least often instead of longest ago: here the visitors, who never come back.
#
# ## Measure it: the price of greed
#
# A scheduler that knows the tree is tempted to serve the request that reuses most. In each step,
# one request is served, and one more comes that shares a popular prefix of 200 tokens. Among the
# waiting requests is a **cold** one, which shares nothing. How long does it wait? With a bonus for
# every step waited, it must come first after at most 200 / bonus steps.


# %%
def wait_of_the_cold(bonus, steps=1000):
    """Steps until the cold request is served; None if that has not happened at the end."""
    tree, popular = RadixTree(), list(range(200))
    tree.insert(popular, pages=popular)
    waiting = [([9999] * 50, 0)]  # the prompt, and when it came
    for step in range(steps):
        waiting.append(([*popular, 1000 + step], step))
        chosen = max(waiting, key=lambda r: tree.peek(r[0]) + bonus * (step - r[1]))
        if chosen[0][0] == 9999:
            return step
        waiting.remove(chosen)
    return None


rows = [
    (b, wait_of_the_cold(b) or "over 1,000", f"{200 / b:.0f}" if b else "none")
    for b in (0, 1, 5, 20)
]
Table(("bonus per step", "cold request waits, steps", "bound"), rows)

# %% [markdown]
# Chapter 8 makes a policy of it.
#
# ## Measure it: reuse tells secrets
#
# The leak at the beginning is mended. A smaller one is left, and it is no bug: reuse is *visible*.
# A request whose prompt is cached gets its first token sooner. A second guest who knows how Petra's
# sentence begins can try its next digit, ten times, and see which try was fast. Here the tokens
# computed stand for the time.

# %% tags=["skip-emulated"]
store = KVCacheReuse(model, 4096, page_size=1)
start = tokenizer.decode(petra[:parted]) + "My name is Petra and my secret number is "


def guess(salt, digits=4):
    """Petra's number, from nothing but how much of a prompt had to be computed."""
    known = ""
    for _ in range(digits):
        tries = {}
        for digit in "0123456789":
            prompt = tokenizer(start + known + digit, add_special_tokens=False)["input_ids"]
            answer = store.generate_with_reuse(model, [*prompt, 0], [], 1, salt=salt)
            tries[digit] = answer.tokens_computed
        known += min(tries, key=tries.get)
    return known


store.generate_with_reuse(model, petra, [], 1, salt="Petra's company")
print("in the same store:", guess("Petra's company"))
print("with a salt of their own, the guess is wrong:", guess("somebody else") != "7391")

# %% [markdown]
# A [**salt**](../docs/glossary.md#salt) is part of the key of a text's first page: texts with different salts never meet, whatever they say. Give each
# tenant its own: reuse within a company stays, reuse between companies ends. What all may share, such as the system prompt,
# is then kept once for each tenant; that is the price.
#
# ## Sweep it
#
# Twenty-four requests in random order, three from each of eight users. A user's prompt has a part that all prompts share, and a
# part that is the user's own. Move the share, the length, and the room. The table translates tokens into a real model's memory.


# %%
def workload(shared, length):
    """The prompts of the panel."""
    order = [user for user in range(8) for _ in range(3)]
    random.Random(1).shuffle(order)
    common = list(range(length * shared // 100))
    own = [range(10**6 * user, 10**6 * user + length - len(common)) for user in range(1, 9)]
    return [[*common, *own[user]] for user in order]


# %%
from helpers.display import SweepPanel, dropdown, int_slider, power_slider
from helpers.estimates import GiB, kv_cache_bytes


def draw(model, capacity, shared, length):
    prompts, rooms = workload(shared, length), [2**i for i in range(9, 17)]
    stats = {room: PrefixStore(room, 128).replay(prompts) for room in {*rooms, capacity}}
    title = f"{model}, {shared} % shared"
    fig, ax = plots.new_figure(title, "capacity, tokens", "hit rate, %", width=6)
    rates = [100 * stats[room].hit_rate for room in rooms]
    ax.plot(rooms, rates, "o-", color=plots.COLORS["kv_cache"])
    here, size = stats[capacity], kv_cache_bytes(PUBLISHED[model], 1, capacity, "fp16") / GiB
    ax.axvline(capacity, color=plots.COLORS["accent"], linestyle="--", label=f"{size:.2f} GiB")
    plots.log_axis(ax, "x")
    plots.legend(ax, loc="upper left")
    ax.set_ylim(0, 100)
    rows = [("tokens asked", f"{here.prompt_tokens:,}"), ("reused", f"{here.reused_tokens:,}")]
    rows += [("hit rate", f"{100 * here.hit_rate:.1f} %"), ("store", f"{size:.2f} GiB")]
    return fig, Table(("", "here"), rows)


# %%
SweepPanel(
    draw,
    {
        "model": dropdown("model", list(PUBLISHED), value="Llama-3-8B"),
        "capacity": power_slider("capacity, tokens", value=4096, min=512, max=65536),
        "shared": int_slider("shared, %", value=25, min=0, max=100),
        "length": power_slider("prompt, tokens", value=1024, min=128, max=4096),
    },
    alt="Hit rate over the capacity of the store, with the chosen capacity marked",
)

# %% [markdown]
# ## On Ascend
#
# The tree lives on the host and knows nothing of devices. What the device must do is compute a prompt's *rest* against a longer
# history: fewer queries than keys. That is where one goes wrong with masks:
#
# - `npu_fused_infer_attention_score_v2` with `sparse_mode=3` aligns the causal mask at the **lower right**: the last query sees
#   all keys. That is right. `sparse_mode=2` aligns it at the upper left, and the rest of the prompt would not see its own
#   beginning.
# - `F.scaled_dot_product_attention(..., is_causal=True)` is upper left, too, in PyTorch and on the NPU. Never use it for a
#   prompt with history. The next cell shows both.
# - Lengths are host lists: `actual_seq_qlen` of what is new, `actual_seq_kvlen` of everything.

# %%
import torch
import torch.nn.functional as F

from helpers import ops
from helpers.machine import where_it_ran

q, k, v = (torch.randn(1, 2, n, 32, device=model.device) for n in (3, 8, 8))
ours = ops.attention(
    q[0].transpose(0, 1), k[0].transpose(0, 1), v[0].transpose(0, 1), (0, 3), (0, 8), 32**-0.5
)
lower_right = torch.ones(3, 8, dtype=torch.bool, device=model.device).tril(diagonal=5)
masked = F.scaled_dot_product_attention(q, k, v, attn_mask=lower_right)[0].transpose(0, 1)
upper_left = F.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1)
print("3 queries, 8 keys; equal to a lower-right mask:", torch.allclose(ours, masked, atol=1e-4))
print("is_causal=True differs from it:", not torch.allclose(ours, upper_left, atol=1e-4))
print(where_it_ran(model.device))

# %% [markdown]
# ## In production
#
# vLLM and vLLM-Ascend reuse prefixes unless told otherwise. The unit is a block, found by a hash of the block and everything before
# it (chapter 6 builds that); on Ascend it has 128 tokens, whatever is asked. SGLang keeps a radix tree. A request may carry a `cache_salt`.
#
# Beyond one device's memory, a store keeps prefixes in host memory or on other machines. In vLLM-Ascend 0.23 and later that is
# AscendStore, over Mooncake or another backend, named in `--kv-transfer-config`; LMCache has a plug-in for Ascend of its own. Nodes find
# each other's blocks by hash, so `PYTHONHASHSEED` must be the same on every node (documents of vLLM-Ascend 0.23): with different
# ones nothing is ever found, and no error says so.

# %%
from helpers.production import options_table

options_table(
    {
        "--no-enable-prefix-caching": "no reuse at all",
        "--block-size": "the unit in which prefixes are found",
        "--prefix-caching-hash-algo": "how a text becomes a key",
        "--kv-transfer-config": "the store beyond this device",
        "PYTHONHASHSEED": "equal keys on all nodes",
    }
)

# %% [markdown]
# ## Recap
#
# Equal beginnings have equal keys and values, so a prompt's known beginning need not be computed again: the time to the first token
# falls with what is left. A radix tree finds the longest known beginning; what is in use is pinned, what is shared is never
# written, the last token is always computed. What is reused can be seen from outside, so tenants get salts.
#
# **Check yourself.**
#
# 1. All 600 tokens of a prompt are stored, in pages of 16. How many must be computed, and why?
# 2. Your store evicts the least recently used node, wherever it stands in the tree. What breaks?
#
# <details><summary>Answers</summary>
#
# 1. The last token has no logits in the store, so at most 599 can be looked up; whole pages of 16
#    make that 592. Eight are computed.
# 2. A node in the middle may go while texts below it stay. No look-up reaches those any more, and
#    their pages are lost.
#
# </details>
#
# Now you: [Lab 4](../labs/04_prefix_reuse.ipynb).
# Next: [5 Continuous batching](05_continuous_batching.ipynb).
# Back: [3 KV cache](03_kv_cache.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
