"""Right answers in unusual styles are accepted: numpy's numbers, tuples for lists, other types of infinity, other ways."""

import bisect
import codecs
import collections
import decimal
import fractions
import functools
import heapq
import importlib
import itertools
import math
import operator
import statistics

import numpy as np
import pytest
import torch

from helpers.compression import ascend
from helpers.engine import Policy
from helpers.estimates import GiB
from tests.labs.answers import accepts
from tests.labs.right_answers import RIGHT as CODE


def kv_numpy(shape, batch_size, seq_len, element_size):
    return np.prod(
        np.array(
            [2, batch_size, seq_len, element_size, shape.num_layers, shape.num_kv_heads, shape.head_dim],
            dtype=object,
        )
    )


def kv_by_layers(shape, batch_size, seq_len, element_size):
    per_token = sum(2 * shape.num_kv_heads * shape.head_dim for _ in range(shape.num_layers))
    return fractions.Fraction(per_token * element_size) * batch_size * seq_len


def hybrid_numpy(layers, seq_len, element_size):
    """Tokens and elements of all layers as arrays of one product; states apart."""
    growing = [layer for layer in layers if layer["kind"] != "state"]
    kept = np.array([min(layer.get("window", seq_len + 1) - 1, seq_len) for layer in growing], dtype=np.int64)
    wide = [layer.get("latent_dim", 0) + layer.get("rotated_dim", 0) + 2 * layer.get("kv_heads", 0) * layer.get("head_dim", 0)
            for layer in growing]  # fmt: skip
    states = np.array(
        [layer["state_elements"] for layer in layers if layer["kind"] == "state"], dtype=np.int64
    )
    return np.dot(kept, np.array(wide, dtype=np.int64)) * element_size + states.sum() * 4


def hybrid_growing(layers, seq_len, element_size):
    """Each kind by a function of its own, by name."""
    kinds = {
        "full": lambda kv_heads, head_dim: (
            seq_len * (kv_heads * head_dim + kv_heads * head_dim) * element_size
        ),
        "window": lambda kv_heads, head_dim, window: (
            len(range(seq_len)[-(window - 1) :] if window > 1 else ())
            * (2 * kv_heads * head_dim * element_size)
        ),
        "latent": lambda latent_dim, rotated_dim, num_heads: (
            (latent_dim + rotated_dim) * element_size * seq_len
        ),
        "state": lambda state_elements: fractions.Fraction(state_elements) * 32 / 8,
    }
    return sum(kinds[layer["kind"]](**{k: v for k, v in layer.items() if k != "kind"}) for layer in layers)


def int4_decimal(num_weights, group_size, scale_bits, zero_point_bits):
    full, rest = divmod(num_weights, group_size)
    groups = full + bool(rest)
    return float(
        decimal.Decimal(num_weights) / 2 + decimal.Decimal(groups * (scale_bits + zero_point_bits)) / 8
    )


def int4_numpy(num_weights, group_size, scale_bits, zero_point_bits):
    groups = np.ceil(np.float64(num_weights) / group_size)
    return np.float64(num_weights) * 0.5 + groups * (scale_bits + zero_point_bits) / 8


def crossover_numpy(shape, seq_len, weight_size, element_size):
    return np.int64(
        shape.num_params * weight_size // (seq_len * element_size * shape.kv_elements_per_token) + 1
    )


def crossover_by_search(shape, seq_len, weight_size, element_size):
    one = seq_len * element_size * shape.kv_elements_per_token
    return bisect.bisect_right(range(10**7), shape.num_params * weight_size, key=lambda n: n * one)


def deployment_by_filter(shape, seq_len, requests, devices):
    table = (("bf16", 2.0), ("int8", 1.0), ("int4", 0.5195))
    held = requests * seq_len * shape.kv_elements_per_token * 2
    fits = [(d, t) for d in devices for t, s in table if shape.num_params * s + held <= 0.9 * d[1] * GiB]
    fits.sort(key=lambda pair: (pair[0][2], [t for t, _ in table].index(pair[1])))
    return [fits[0][0][0], np.str_(fits[0][1])] if fits else None


def deployment_by_heap(shape, seq_len, requests, devices):
    heap = [(price, name, gib) for name, gib, price in devices]
    heapq.heapify(heap)
    while heap:
        _, name, gib = heapq.heappop(heap)
        room = gib * GiB * 0.9 - requests * seq_len * shape.kv_elements_per_token * 2
        for dtype, size in (("bf16", 2), ("int8", 1), ("int4", 0.5195)):
            if shape.num_params * size <= room:
                return name, dtype


def profile_by_list(engine, prompt, max_new_tokens):
    warm = engine.start([1, 2])
    engine.wait()
    engine.next(warm)
    engine.wait()
    times, tokens = [engine.clock()], collections.deque()
    while len(tokens) < max_new_tokens:
        tokens.append(engine.next(tokens[-1]) if tokens else engine.start(prompt))
        engine.wait()
        times.append(engine.clock())
    steps = np.diff(times)
    return dict(
        ttft=steps[0], tpot=steps[1:].mean() if len(steps) > 1 else np.float64(0), tokens=list(tokens)
    )


def profile_ordered(engine, prompt, max_new_tokens):
    for _ in range(3):
        engine.next(engine.start(prompt))
    engine.wait()
    found = collections.OrderedDict(tokens=[], ttft=None, tpot=0)
    start = engine.clock()
    found["tokens"].append(engine.start(prompt))
    engine.wait()
    found["ttft"] = (middle := engine.clock()) - start
    for _ in itertools.repeat(None, max_new_tokens - 1):
        found["tokens"].append(engine.next(found["tokens"][-1]))
    engine.wait()
    if max_new_tokens > 1:
        found["tpot"] = (engine.clock() - middle) / (max_new_tokens - 1)
    return found


def utilisation_numpy(shape, batch_size, context, seconds, peak, bandwidth):
    nbytes = 2 * (shape.num_params + batch_size * context * shape.kv_elements_per_token)
    done = np.array([2 * shape.num_params * batch_size, nbytes], dtype=np.float64)
    return tuple(done / np.array([peak, bandwidth]) / seconds)


def utilisation_named(shape, batch_size, context, seconds, peak, bandwidth):
    pair = collections.namedtuple("pair", "mfu mbu")
    nbytes = (
        2 * shape.num_params
        + 4 * shape.num_layers * shape.num_kv_heads * shape.head_dim * context * batch_size
    )
    return pair(2 * batch_size * shape.num_params / (peak * seconds), nbytes / (bandwidth * seconds))


def device_numpy(shape, batch_size, context, device):
    if device.bandwidth.value is None:
        return None
    nbytes = 2 * (shape.num_params + batch_size * context * shape.kv_elements_per_token)
    return np.maximum(
        nbytes / device.bandwidth.value, 2 * shape.num_params * batch_size / device.peak("fp16").value
    )


def device_sorted(shape, batch_size, context, device):
    bandwidth = getattr(device.bandwidth, "value", None)
    nbytes = 2.0 * shape.num_params + 2.0 * batch_size * context * shape.kv_elements_per_token
    peak = device.peak("fp16").value
    return bandwidth and sorted((nbytes / bandwidth, 2.0 * shape.num_params * batch_size / peak))[-1]


def speedup_numpy(rows, wall, names, factor):
    own = np.array([row[3] for row in rows if row[0] in names], dtype=float)
    return np.float64(wall) / (wall - own.sum() * (1 - 1 / factor))


def speedup_counted(rows, wall, names, factor):
    table = collections.defaultdict(float)
    for name, *_, own in rows:
        table[name] += own
    return 1 / (1 - sum(table[n] for n in set(names)) / wall * (1 - 1 / factor))


class Growing:
    """Keeps what it has in lists of tensors and a count of its own."""

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        self.kept, self.capacity, self.length = [[] for _ in range(num_layers)], capacity, np.int64(0)

    def update(self, layer_idx, k, v):
        if self.length + k.shape[0] > self.capacity:
            raise ValueError
        self.kept[layer_idx].append((k.detach().clone(), v.detach().clone()))
        if layer_idx + 1 == len(self.kept):
            self.length += k.size(0)
        return [torch.cat(part) for part in zip(*self.kept[layer_idx], strict=True)]


class Flat:
    """Keys and values side by side in one buffer; the length is a property."""

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        self.buffer = torch.empty(2, num_layers, capacity, kv_heads, head_dim)
        self.counts = [0] * num_layers

    @property
    def length(self):
        return self.counts[-1]

    def update(self, layer_idx, k, v):
        start = self.counts[layer_idx]
        end = start + len(v)
        if not end <= self.buffer.shape[2]:
            raise type("TooMany", (ValueError,), {})("too many")
        self.buffer[:, layer_idx, start:end] = torch.stack((k, v))
        self.counts[layer_idx] = end
        return tuple(self.buffer[:, layer_idx, :end].unbind())


def mask_numpy(lengths, new, capacity):
    last = np.asarray(lengths)[:, None] + np.arange(new)[None]
    return torch.from_numpy(np.arange(capacity)[None, None] <= last[..., None])


def mask_tril(lengths, new, capacity):
    whole = torch.ones(capacity, capacity).tril().bool()
    return torch.stack([whole[n : n + new] for n in lengths])


def times_tensor(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth):
    i = torch.arange(new_tokens, dtype=torch.float64)
    read = 2 * num_params / bandwidth
    without = torch.maximum(
        2 * num_params * (prompt + i) / peak, torch.tensor(read, dtype=torch.float64)
    ).sum()
    computed = torch.where(i == 0, float(prompt), 1.0).double() * 2 * num_params / peak
    cached = torch.where(i == 0, 0.0, prompt + i - 1)
    return without, torch.maximum(computed, read + kv_bytes * cached / bandwidth).sum()


def times_loop(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth):
    totals = [0.0, 0.0]
    for n in range(new_tokens):
        for kind, (tokens, cached) in enumerate(
            [(prompt + n, 0), (1 if n else prompt, (prompt + n - 1) * bool(n))]
        ):
            computing = tokens * num_params / peak * 2
            totals[kind] += max(computing, num_params * 2 / bandwidth + kv_bytes * cached / bandwidth)
    return totals


def match_numpy(prompt, stored, page_size):
    best = np.int64(0)
    for text in stored:
        n = min(len(text), max(len(prompt) - 1, 0))
        differ = np.flatnonzero(np.array(prompt[:n]) != np.array(text[:n]))
        best = max(best, (differ[0] if len(differ) else np.int64(n)) // page_size * page_size)
    return best


def match_pages(prompt, stored, page_size):
    end = 0
    while end + page_size < len(prompt) and any(
        t[: end + page_size] == prompt[: end + page_size] for t in stored
    ):
        end += page_size
    return float(end)


def evict_heap(nodes, wanted):
    children = collections.Counter(node["parent"] for node in nodes.values())
    heap = [(node["last_use"], name) for name, node in nodes.items() if not children[name]]
    heapq.heapify(heap)
    freed = 0
    gone = ()
    while heap and freed < wanted:
        _, name = heapq.heappop(heap)
        if nodes[name]["pins"]:
            continue
        freed, gone, parent = freed + nodes[name]["pages"], (*gone, np.str_(name)), nodes[name]["parent"]
        children[parent] -= 1
        if parent is not None and not children[parent]:
            heapq.heappush(heap, (nodes[parent]["last_use"], parent))
    return gone


def evict_generator(nodes, wanted):
    def going(left):
        while True:
            may = [
                n for n in left if not left[n]["pins"] and not any(o["parent"] == n for o in left.values())
            ]
            if not may:
                return
            name = sorted(may, key=lambda n: left[n]["last_use"])[0]
            yield name, left.pop(name)["pages"]

    found, freed = [], 0
    for name, pages in going(dict(nodes)) if wanted > 0 else ():
        found.append(name)
        freed += pages
        if freed >= wanted:
            break
    return found


def rate_set(prompts, page_size):
    stored, hit, total = set(), 0, 0
    for p in prompts:
        end = 0
        while end + page_size < len(p) and tuple(p[: end + page_size]) in stored:
            end += page_size
        hit, total = hit + end, total + len(p)
        stored |= {tuple(p[:n]) for n in range(page_size, len(p) + 1, page_size)}
    return np.float64(hit) / total if total else np.float64(0)


def rate_fraction(prompts, page_size):
    total = sum(map(len, prompts))
    found = [match_pages(p, prompts[:i], page_size) for i, p in enumerate(prompts)]
    return fractions.Fraction(int(sum(found)), total or 1)


def recover_gap(ask, known, alphabet, length):
    found = ()
    for _ in range(length):
        seconds = np.array([ask((*known, *found, token, -1, -2)) for token in alphabet])
        found += (np.int64(alphabet[int(seconds.argmin())]),)
    return found


def recover_recursive(ask, known, alphabet, length):
    if not length:
        return []
    best = min(alphabet, key=lambda token: ask([*known, token, max(alphabet) + 1000]))
    return [best, *recover_recursive(ask, [*known, best], alphabet, length - 1)]


def key_frozen(before, tokens, salt):
    return f"{salt!r}|{before!r}|{tokens!r}"


def key_chain(before, tokens, salt):
    return (before or ("salt", salt)) + (tokens,)


def padding_numpy(prompts, answers, batch_size):
    wasted = np.int64(0)
    for i in range(0, len(prompts), batch_size):
        p, a = np.array(prompts[i : i + batch_size]), np.array(answers[i : i + batch_size])
        wasted += (p.max() - p + a.max() - a).sum()
    return wasted


def padding_rows(prompts, answers, batch_size):
    rows = iter(zip(prompts, answers, strict=True))
    total = 0.0
    while batch := list(itertools.islice(rows, batch_size)):
        longest = [max(column) for column in zip(*batch, strict=True)]
        total += sum(longest[0] + longest[1] - sum(row) for row in batch)
    return total


def pack_numpy(requests):
    tokens, positions, rows = [], [], {}
    for i, r in enumerate(requests):
        where = np.arange(r["computed"], r["computed"] + r["count"])
        text = np.array(r["prompt"] + r["answer"])
        tokens.extend(text[where])
        positions.extend(where)
        if where[-1] == len(text) - 1:
            rows[np.int64(i)] = np.int64(len(tokens)) - 1
    return tokens, np.array(positions, dtype=int), rows


def pack_sums(requests):
    ends = list(itertools.accumulate(r["count"] for r in requests))
    flat = [
        ((r["prompt"] + r["answer"])[n], n)
        for r in requests
        for n in range(r["computed"], r["computed"] + r["count"])
    ]
    whole = [r["computed"] + r["count"] == len(r["prompt"]) + len(r["answer"]) for r in requests]
    return [
        tuple(t for t, _ in flat),
        tuple(n for _, n in flat),
        {i: ends[i] - 1 for i, done in enumerate(whole) if done},
    ]


def plan_numpy(running, waiting, token_budget, chunk_size, seats, free_pages, page_size):
    out, left = [], np.int64(token_budget)
    free, seats = np.int64(free_pages), seats - len(running)
    for group, admitting in ((running, False), (waiting, True)):
        for r in group:
            need = np.int64(math.ceil(r["length"] / page_size)) * admitting
            if admitting and (left == 0 or seats < 1 or need > free):
                return tuple(out)
            share = np.minimum(np.minimum(left, chunk_size), r["length"] - r["computed"])
            free, seats = free - need, seats - admitting
            if share:
                out.append([r["name"], share])
            left -= share
    return tuple(out)


def plan_recursive(running, waiting, token_budget, chunk_size, seats, free_pages, page_size):
    def rest(queue, budget, seats, pages):
        if not queue or not budget:
            return []
        (r, runs), *others = queue
        need = 0 if runs else -(-r["length"] // page_size)
        if not runs and (not seats or need > pages):
            return []
        n = min(budget, chunk_size, r["length"] - r["computed"])
        return [(r["name"], n), *rest(others, budget - n, seats - (not runs), pages - need)]

    queue = [(r, True) for r in running] + [(r, False) for r in waiting]
    return rest(queue, token_budget, seats - len(running), free_pages)


def chunk_search(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
    def seconds(chunk):
        return max(
            (decoding + chunk) * 2 * num_params / peak,
            (2 * num_params + decoding * context * kv_bytes) / bandwidth,
        )

    chunk = 0
    while seconds(chunk + 1) <= target:
        chunk += 1
    return np.int32(chunk)


def chunk_clip(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
    enough = (num_params * 2 + kv_bytes * decoding * context) / bandwidth <= target
    return float(enough) * np.clip(np.floor(target * peak / (2 * num_params)) - decoding, 0, None)


def chunk_by_time_per_token(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
    if num_params * 2 / bandwidth + kv_bytes * decoding * context / bandwidth > target:
        return 0
    return max(0, int(target / (2 * num_params / peak)) - decoding)


def append_numpy(table, length, new, page_size, free):
    pages = np.ceil((length + new) / page_size).astype(int)
    missing = max(pages - len(table), 0)
    if missing > len(free):
        raise ValueError("too few")
    return tuple(np.concatenate([np.array(table, dtype=int), np.array(free, dtype=int)[:missing]]))


def append_own_error(table, length, new, page_size, free):
    class Full(ValueError):
        pass

    pages, rest = list(table), collections.deque(free)
    while len(pages) * page_size < length + new:
        if not rest:
            raise Full
        pages += [rest.popleft()]
    return pages


def gather_cat(cache, table, length):
    return torch.cat([cache[page] for page in table])[:length]


def gather_select(cache, table, length):
    t = torch.arange(length)
    return cache[torch.tensor(table)[t // cache.shape[1]], t % cache.shape[1]].clone()


class NumpyPool:
    """The lab's pool with values in numpy."""

    def __init__(self, num_pages, page_size):
        self.page_size, self.values = page_size, np.zeros((num_pages, page_size))
        self.refs, self.tables, self.lengths = [0] * num_pages, {}, {}

    def take(self):
        page = self.refs.index(0)
        self.refs[page] = 1
        return page

    def start(self, name):
        self.tables[name], self.lengths[name] = [], 0

    def read(self, name):
        return self.values[self.tables[name]].ravel()[: self.lengths[name]].tolist()

    def fork(self, parent, child):
        if child in self.lengths:
            raise ValueError(child)
        self.tables[child], self.lengths[child] = self.tables[parent].copy(), self.lengths[parent]
        for page in self.tables[parent]:
            self.refs[page] += 1

    def append(self, name, value):
        table, slot = self.tables[name], self.lengths[name] % self.page_size
        if slot and self.refs[table[-1]] > 1:
            self.refs[table[-1]] -= 1
            self.values[new := self.take()] = self.values[table[-1]]
            table[-1] = new
        table += [] if slot else [self.take()]
        self.values[table[-1], slot] = value
        self.lengths[name] += 1

    def free(self, name):
        try:
            table = self.tables.pop(name)
        except KeyError:
            raise ValueError(f"no {name}") from None
        self.lengths.pop(name)
        for page in table:
            self.refs[page] -= 1


class Releasing(NumpyPool):
    """Frees page by page, from the end."""

    def free(self, name):
        if self.tables.get(name) is None:
            raise ValueError
        while self.tables[name]:
            self.refs[self.tables[name].pop()] -= 1
        del self.lengths[name], self.tables[name]


def size_numpy(lengths, shared, sizes, most_wasted):
    sizes = np.sort(np.array(sizes))[::-1]
    for size in sizes:
        own = np.array(lengths) - shared // size * size
        pages = shared // size + np.ceil(own / size).sum()
        if (pages * size - own.sum() - shared // size * size) / (pages * size) <= most_wasted:
            return size


def size_sets(lengths, shared, sizes, most_wasted):
    good = set()
    for size in sizes:
        common = shared // size
        slots = (common + sum(math.ceil((n - common * size) / size) for n in lengths)) * size
        empty = slots - common * size - sum(n - common * size for n in lengths)
        good |= {size} if empty <= most_wasted * slots else set()
    return max(good) if good else None


def traffic_numpy(q_len, kv_len, head_dim, query_block, element_bytes):
    return np.int64(head_dim) * element_bytes * 2 * (q_len + int(np.ceil(q_len / query_block)) * kv_len)


def traffic_loop(q_len, kv_len, head_dim, query_block, element_bytes):
    moved = 0.0
    for start in range(0, q_len, query_block):
        moved += 2 * min(query_block, q_len - start) + 2 * kv_len
    return moved * head_dim * element_bytes


def update_lse(maximum, total, weighted, scores, values):
    s, v = scores.to(torch.float32), values.to(torch.float32)
    top = torch.cat((maximum, s), dim=1).max(dim=1, keepdim=True)[0]
    safe = top.masked_fill(top.isinf(), 0)
    p, c = torch.exp(s - safe), torch.exp(maximum - safe)
    return [
        top,
        c.mul(total).add(p.sum(-1, keepdim=True)),
        c.mul(weighted).add(torch.einsum("qk,kd->qd", p, v)),
    ]


def update_key_by_key(maximum, total, weighted, scores, values):
    for s, v in zip(scores.float().T, values.float(), strict=True):
        new = torch.maximum(maximum, s[:, None])
        base = torch.nan_to_num(new, neginf=0.0, posinf=0.0)
        c, p = (maximum - base).exp(), (s[:, None] - base).exp()
        maximum, total, weighted = new, total * c + p, weighted * c + p * v
    return maximum, total, weighted


def tiles_numpy(q_len, kv_len, query_block, key_block):
    sees = np.arange(kv_len)[None] <= np.arange(q_len)[:, None] + kv_len - q_len
    found = []
    for q, k in itertools.product(range(0, q_len, query_block), range(0, kv_len, key_block)):
        tile = sees[q : q + query_block, k : k + key_block]
        if tile.any():
            found.append([np.int64(q), np.int64(k), ~tile.all()])
    return found


def tiles_tuple(q_len, kv_len, query_block, key_block):
    def one(q, k):
        places = range(q + kv_len - q_len, min(q + query_block, q_len) + kv_len - q_len)
        last = min(k + key_block, kv_len) - 1
        return () if k > places[-1] else ((q, k, not last <= places[0]),)

    return tuple(
        t for q in range(0, q_len, query_block) for k in range(0, kv_len, key_block) for t in one(q, k)
    )


def merge_max(out_a, lse_a, out_b, lse_b):
    a, b = lse_a.float(), lse_b.float()
    top = torch.maximum(a, b)
    base = torch.where(torch.isinf(top), torch.zeros(()), top)
    x, y = (a - base).exp(), (b - base).exp()
    total = (x + y).clamp(min=torch.finfo(torch.float32).tiny)
    out = (x[:, None] * out_a.float() + y[:, None] * out_b.float()) / total[:, None]
    return out, torch.where(x + y == 0, torch.tensor(-math.inf), base + total.log())


def merge_sigmoid(out_a, lse_a, out_b, lse_b):
    a, b = lse_a.to(torch.float32), lse_b.to(torch.float32)
    share = torch.sigmoid(torch.nan_to_num(a - b, nan=0.0, posinf=math.inf, neginf=-math.inf))[:, None]
    return [share * out_a.float() + (1 - share) * out_b.float(), torch.logaddexp(a, b)]


def choose_down(head_dim, l0a, l0b, l0c, l1, ub):
    for q in range(l0a // (2 * head_dim) // 16 * 16, 0, -16):
        most = [l0b // (2 * head_dim), l0a // (2 * q), l0c // (4 * q), ub // (3 * q)]
        most.append((l1 // 2 - q * head_dim) // (q + 4 * head_dim))
        k = min(most) // 16 * 16
        if k > 0 and 4 * q * head_dim <= l0c:
            return [q, np.int64(k)]


def choose_numpy(head_dim, l0a, l0b, l0c, l1, ub):
    q, k = np.meshgrid(np.arange(16, 1025, 16), np.arange(16, 1025, 16), indexing="ij")
    wide = np.maximum(k, head_dim)
    fits = (2 * q * wide <= l0a) & (2 * k * head_dim <= l0b) & (4 * q * wide <= l0c) & (3 * q * k <= ub)
    fits &= 2 * (q * head_dim + q * k + 4 * k * head_dim) <= l1
    found = list(zip(q[fits], k[fits], strict=True))
    return tuple(max(found)) if found else None


def wait_numpy(seconds):
    return np.cumsum([0.0, *seconds])[:-1].mean()


def wait_fraction(seconds):
    return statistics.mean(sum(map(fractions.Fraction, seconds[:i])) for i in range(len(seconds)))


def first_by_compare(waiting, now, ageing):
    def compare(a, b):
        one, two = (job["priority"] * ageing - (now - job["arrived"]) for job in (a, b))
        return (one > two) - (one < two) or (a["arrived"] > b["arrived"]) - (a["arrived"] < b["arrived"])

    return sorted(waiting, key=functools.cmp_to_key(compare))[0]["name"]


def first_numpy(waiting, now, ageing):
    moments = np.array([(job["arrived"] + job["priority"] * ageing, job["arrived"]) for job in waiting])
    return np.str_(waiting[np.lexsort((moments[:, 1], moments[:, 0]))[0]]["name"])


def passes_numpy(request, ended, budget):
    own = np.array([e["answer"] for e in ended if e["client"] == request["client"]])
    answer = np.minimum(own.mean() if own.size else np.inf, request["cap"])
    return np.ceil(request["prompt"] / budget) + answer - 1


def passes_fraction(request, ended, budget):
    own = [fractions.Fraction(e["answer"]) for e in ended if e["client"] == request["client"]] or [
        request["cap"]
    ]
    full, rest = divmod(request["prompt"], budget)
    return full + bool(rest) - 1 + min(sum(own) / len(own), request["cap"])


def begins_float32(free, short, long, gap, ageing=None):
    now, k = free, 1
    while k * gap <= now and (ageing is None or k * gap + ageing * short < ageing * long):
        now, k = now + short, k + 1
        if ageing is None and short >= gap:
            return np.float32("inf")
    return np.float64(now)


def begins_closed(free, short, long, gap, ageing=None):
    most = math.inf if ageing is None else max(0, math.ceil(ageing * (long - short) / gap) - 1)
    if free < gap or not most:
        return free
    if short >= gap:
        return torch.tensor(math.inf) if most == math.inf else free + most * short
    served = math.floor((free - short) / (gap - short))
    while served and served * gap > free + (served - 1) * short:
        served -= 1
    while (served + 1) * gap <= free + served * short:
        served += 1
    return free + short * min(served, most)


class Deadline(Policy):
    """A rank in numpy."""

    def rank(self, state):
        return np.float64(state.arrived) + (10 if state.request.priority else 2)


class Whole(Policy):
    """A rank that is a fraction, in milliseconds."""

    def rank(self, state):
        return (
            fractions.Fraction(state.arrived) * 1000
            + {"chat": 2000, "document": 10_000}[state.request.client]
        )


def count_counter(groups, sizes, needed):
    reads = [{name for one in group for name in one["reads"]} for group in groups]
    moved = np.int64(0)
    for i, group in enumerate(groups):
        inside = [one["writes"] for one in group]
        moved += sum([sizes[n] for n in reads[i] if n not in inside])
        moved += sum([sizes[n] for n in inside if n in set().union(*reads[i + 1 :], needed)])
    return [np.int64(len(groups)), moved]


def count_backwards(groups, sizes, needed):
    wanted, moved = set(needed), 0
    for group in reversed(groups):
        made = {one["writes"] for one in group}
        outside = set().union(*(one["reads"] for one in group)) - made
        moved += sum(map(sizes.get, (made & wanted) | outside))
        wanted |= outside
    return len(groups), moved


def norm_in_place(x, residual, weight, eps):
    residual += x
    wide = residual.to(torch.float32)
    return ((wide * (wide.square().mean(1, True) + eps) ** -0.5) * weight.float()).type_as(x), residual


def norm_fp64(x, residual, weight, eps):
    total = torch.add(x, residual)
    t = total.double()
    length = torch.linalg.vector_norm(t, dim=-1, keepdim=True) ** 2 / t.shape[-1]
    return [(t / (length + eps).sqrt() * weight.double()).to(x.dtype), total]


def sizes_all(histogram, count):
    batches, best = sorted(histogram), None
    for n in range(1, min(count, len(batches)) + 1):
        for sizes in itertools.combinations(batches, n):
            if sizes[-1] == batches[-1]:
                rows = sum(sizes[bisect.bisect_left(sizes, b)] * steps for b, steps in histogram.items())
                best = min(best or (rows, sizes), (rows, sizes))
    return best[1]


def sizes_recursive(histogram, count):
    batches = sorted(histogram)

    @functools.cache
    def least(n, left):
        if not n:
            return 0, ()
        if not left:
            return math.inf, ()
        ways = []
        for before in range(n):
            cost, sizes = least(before, left - 1)
            own = sum((batches[n - 1] - b) * histogram[b] for b in batches[before:n])
            ways.append((cost + own, (*sizes, batches[n - 1])))
        return min(ways)

    return np.array(least(len(batches), count)[1])


def stale_numpy(first, second):
    if list(map(operator.itemgetter("operator"), first)) != [one["operator"] for one in second]:
        raise ValueError("other operators")
    return [
        [np.int64(i), name]
        for i, pair in enumerate(zip(first, second, strict=True))
        for name in {**pair[0]["memory"], **pair[0]["numbers"]}
        if any(pair[0][kind].get(name) != pair[1][kind].get(name) for kind in ("memory", "numbers"))
    ]


def stale_generator(first, second):
    class Different(ValueError):
        pass

    def pairs():
        for i, (one, other) in enumerate(itertools.zip_longest(first, second, fillvalue={"operator": None})):
            if one["operator"] != other["operator"]:
                raise Different(i)
            for kind in ("numbers", "memory"):
                yield from ((i, name) for name in one[kind] if one[kind][name] != other[kind][name])

    return tuple(pairs())


def lines_numpy(rows, columns, tile, per_line, kept):
    places = np.arange(rows * columns).reshape(rows, columns) // per_line
    last_use, now, fetches = {}, 0, 0
    for start in range(0, columns, tile):
        for line in places[:, start : start + tile].ravel():
            now += 1
            newer = sum(used > last_use.get(line, 0) for used in last_use.values())
            fetches += line not in last_use or newer >= kept
            last_use[line] = now
    return np.int64(fetches)


def lines_float(rows, columns, tile, per_line, kept):
    cache, fetches = collections.OrderedDict(), 0.0
    for block, row in itertools.product(range(math.ceil(columns / tile)), range(rows)):
        for column in range(columns)[block * tile : (block + 1) * tile]:
            line = (columns * row + column) // per_line
            if cache.pop(line, None) is None:
                fetches += 1
                if len(cache) == kept:
                    cache.popitem(last=False)
            cache[line] = line
    return fetches


def groups_loop(weight, group):
    codes, scale, offset = torch.empty(weight.shape, dtype=torch.int8), [], []
    for i, row in enumerate(weight):
        for start in range(0, len(row), group):
            part = row[start : start + group].double()
            low, step = float(part.min()), float(part.max() - part.min()) / 15 or 1.0
            codes[i, start : start + group] = torch.round((part - low) / step) - 8
            scale.append(step)
            offset.append(low / step + 8)
    return [codes, *(torch.tensor(found).reshape(len(weight), -1) for found in (scale, offset))]


def groups_numpy(weight, group):
    parts = weight.numpy().reshape(len(weight), -1, group)
    scale = np.ptp(parts, axis=2) / np.float32(15)
    scale[scale == 0] = 1
    offset = parts.min(2) / scale + 8
    codes = np.rint(parts / scale[..., None] - offset[..., None]).astype(np.int8)
    return tuple(torch.from_numpy(found) for found in (codes.reshape(weight.shape), scale, offset))


def pack_numpy_bytes(codes):
    low, high = np.clip(np.array(codes, dtype=np.int64).reshape(-1, 2).T, -8, 7) % 16
    return (low + 16 * high).astype(np.uint8)


def pack_tensor(codes):
    nibbles = torch.tensor(codes, dtype=torch.int64).clamp(-8, 7).remainder(16).view(-1, 2)
    return (nibbles * torch.tensor([1, 16])).sum(1)


def smooth_loop(x, weight, ratio):
    size = [max(map(abs, channel)) for channel in x.t().tolist()]
    usual = statistics.median(size)
    factor = [math.sqrt(s / max(map(abs, w))) for s, w in zip(size, weight.t().tolist(), strict=True)]
    loud = {j for j, s in enumerate(size) if s / usual > ratio}
    return loud, x / torch.tensor(factor), weight * torch.tensor(factor)


def smooth_numpy(x, weight, ratio):
    size = np.abs(x.numpy()).max(0)
    factor = np.sqrt(size) / np.sqrt(np.abs(weight.numpy()).max(0))
    loud = np.flatnonzero(size > ratio * np.median(size))
    scaled = (x.numpy() / factor[None], weight.numpy() * factor[None])
    return [loud, *map(torch.from_numpy, scaled)]


def block_apart(x, gate_up, gate_up_scale, down, down_scale):
    inner, (codes, scale) = len(gate_up) // 2, ascend.npu_dynamic_quant(x)
    halves = [
        ascend.npu_quant_matmul(codes, half.t(), one, pertoken_scale=scale, output_dtype=torch.bfloat16)
        for half, one in zip(gate_up.split(inner), gate_up_scale.split(inner), strict=True)
    ]
    hidden = torch.nn.functional.silu(halves[0].float()) * halves[1].float()
    codes, scale = ascend.npu_dynamic_quant(hidden.to(torch.bfloat16))
    sums = ascend.npu_quant_matmul(codes, down.t(), torch.ones(1), output_dtype=torch.int32)
    return (sums * down_scale * scale.unsqueeze(1)).bfloat16()


def block_swapped(x, gate_up, gate_up_scale, down, down_scale):
    """The halves exchanged in place of `activate_left`."""
    inner, (codes, scale) = len(gate_up) // 2, ascend.npu_dynamic_quant(x)
    other, others = gate_up.roll(inner, 0), gate_up_scale.roll(inner)
    sums = ascend.npu_quant_matmul(codes, other.t(), others, output_dtype=torch.int32)
    hidden, scales = ascend.npu_dequant_swiglu_quant(
        sums, weight_scale=others.unsqueeze(0), activation_scale=scale.unsqueeze(1), quant_mode=1
    )
    return ascend.npu_quant_matmul(
        hidden, down.t(), down_scale, pertoken_scale=scales, output_dtype=torch.bfloat16
    )


def choose_table(parts, formats, budget):
    best = {0: (0, {})}
    for name, part in parts.items():
        further = {}
        for (used, (spent, chosen)), (fmt, one) in itertools.product(best.items(), formats.items()):
            scales = fractions.Fraction(2 * part["weights"], one["group"]) if one["group"] else 0
            now = used + fractions.Fraction(part["weights"] * one["bits"], 8) + scales
            if now <= budget:
                entry = (spent + part["cost"][fmt], {**chosen, name: fmt})
                further[now] = min(further.get(now, entry), entry, key=operator.itemgetter(0))
        best = further
    return min(best.values(), key=operator.itemgetter(0))[1] if best else None


def choose_ordered(parts, formats, budget):
    found = []
    for several in itertools.product(*([(name, fmt) for fmt in formats] for name in parts)):
        bits = sum(
            parts[name]["weights"]
            * (formats[fmt]["bits"] + (16 / formats[fmt]["group"] if formats[fmt]["group"] else 0))
            for name, fmt in several
        )
        if bits <= 8 * budget:
            spent = sum(parts[name]["cost"][fmt] for name, fmt in several)
            heapq.heappush(found, (spent, len(found), several))
    return collections.OrderedDict(found[0][2]) if found else None


def cache_search(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    per_layer = 2 * heads * head_dim
    wide, narrow = 2 * per_layer * layers, layers * 2 * heads * (head_dim + 2)
    slope = narrow / bandwidth + per_layer * layers / unpack

    def reached(n):
        return weight_bytes + n * wide >= speedup * (weight_bytes + n * slope * bandwidth)

    if not reached(10**12):
        return wide / narrow, None
    return [wide / narrow, bisect.bisect_left(range(10**12), True, key=reached)]


def cache_fraction(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    exact = fractions.Fraction
    numbers = 2 * heads * head_dim * layers
    narrow = exact(numbers) * (head_dim + 2) / head_dim
    gain = 2 * numbers - exact(speedup) * (narrow + numbers * exact(bandwidth) / exact(unpack))
    tokens = exact(weight_bytes) * (exact(speedup) - 1) / gain if gain > 0 else None
    return np.float64(2 * numbers / narrow), tokens and float(math.ceil(tokens))


def rows_numpy(heads, kv_heads, head_dim, world, rank):
    """The matrix's rows as a table, one line a KV head."""
    group = heads // kv_heads
    numbers = np.arange((heads + 2 * kv_heads) * head_dim)
    queries, keys, values = np.split(numbers, [heads * head_dim, (heads + kv_heads) * head_dim])
    own = np.array_split(np.arange(kv_heads), world)[rank]
    parts = [part.reshape(kv_heads, -1)[own].ravel() for part in (queries, keys, values)]
    assert parts[0].size == group * len(own) * head_dim
    return np.concatenate(parts)


def rows_filtered(heads, kv_heads, head_dim, world, rank):
    """Ask of each row whose it is."""
    owners = [r for r in range(world) for _ in range(kv_heads // world + (kv_heads % world > r))]

    def owner(row):
        head = row // head_dim
        return owners[head * kv_heads // heads if head < heads else (head - heads) % kv_heads]

    return tuple(filter(lambda row: owner(row) == rank, range((heads + 2 * kv_heads) * head_dim)))


def mlp_first_rank(x, residual, up, down, bias, rank, all_reduce):
    summand = torch.nn.functional.linear(torch.nn.functional.linear(x, up).clamp_min(0), down)
    if not rank:
        summand = summand + bias + residual
    return all_reduce(summand)


def mlp_shared_out(x, residual, up, down, bias, rank, all_reduce):
    """Columns one by one, the residual's memory used up."""
    product = torch.zeros_like(x, dtype=torch.float64)
    for row, column in zip(up, down.T, strict=True):
        product += torch.outer((x.double() @ row.double()).maximum(torch.tensor(0.0)), column.double())
    residual += all_reduce(product.float())
    residual += bias
    return residual


def idle_events(seconds, groups, passes):
    """A heap of what is next, by moment, in the order in which each stage must take it."""
    order = [(p, g) for p in range(passes) for g in range(groups)]
    done, now = {}, dict.fromkeys(range(len(seconds)), fractions.Fraction(0))
    for p, g in order:
        for s, cost in enumerate(seconds):
            inputs = done.get((p, g, s - 1) if s else (p - 1, g, len(seconds) - 1), fractions.Fraction(0))
            now[s] = done[p, g, s] = max(inputs, now[s]) + fractions.Fraction(cost)
    waited = sum(max(now.values()) - len(order) * fractions.Fraction(cost) for cost in seconds)
    return waited / (len(seconds) * max(now.values()))


def idle_numpy(seconds, groups, passes):
    free, token = np.zeros(len(seconds)), np.zeros(groups)
    for turn in range(passes * groups):
        moment = token[turn % groups]
        for stage in range(len(seconds)):
            free[stage] = np.maximum(moment, free[stage]) + seconds[stage]
            moment = free[stage]
        token[turn % groups] = moment
    return np.float64(1) - np.sum(np.array(seconds)) * passes * groups / (free.max() * len(free))


def balance_greedy(layers, head, stages):
    """Give each further layer to the stage that is lightest."""
    split = [1] * stages
    for _ in range(layers - stages):
        weights = [*split[:-1], split[-1] + head]
        split[weights.index(min(weights))] += 1
    return split


def balance_numpy(layers, head, stages):
    lasts = np.arange(1, layers - stages + 2) if stages > 1 else np.array([layers])
    others = np.ceil((layers - lasts) / max(stages - 1, 1))
    last = lasts[np.argmin(np.maximum(others, lasts + head))]
    return np.array(
        [*(len(part) for part in np.array_split(np.arange(layers - last), max(1, stages - 1))), last]
    )[-stages:]


def choose_counting(model, machine, limit):
    """Let each group grow by one request until the next one would be too many."""

    def bearable(tp, pp, group):
        held = fractions.Fraction(model["weights"] + pp * group * model["cache"], tp * pp)
        moment = fractions.Fraction(model["weights"] + group * model["cache"], tp * machine["bandwidth"])
        moment += 2 * model["layers"] * machine["sums"][tp] + (pp - 1) * machine["hop"]
        return held <= machine["memory"] and moment <= limit

    found = {}
    for tp in [tp for tp in machine["sums"] if model["kv_heads"] % tp == 0]:
        for pp in range(1, min(model["layers"], machine["devices"] // tp) + 1):
            group = bisect.bisect_left(
                range(1, 10**6), True, key=lambda n, tp=tp, pp=pp: not bearable(tp, pp, n)
            )
            replicas = machine["devices"] // (tp * pp)
            found[tp, pp, replicas] = group * pp * replicas
    best = max(found, key=found.get, default=None)
    return best if best and found[best] else None


def choose_numpy_plan(model, machine, limit):
    """All plans as rows of one array."""
    plans = np.array([
        (tp, pp, r)
        for tp, pp, r in itertools.product(machine["sums"], range(1, 17), range(1, 17))
        if tp * pp * r <= machine["devices"] and pp <= model["layers"] and model["kv_heads"] % tp == 0
    ], dtype=np.int64)  # fmt: skip
    tp, pp, replicas = plans.T
    sums = np.array([machine["sums"][n] for n in tp.tolist()])
    fits = (machine["memory"] * tp * pp - model["weights"]) // (pp * model["cache"])
    left = limit - 2 * model["layers"] * sums - (pp - 1) * machine["hop"]
    fast = (left * machine["bandwidth"] * tp - model["weights"]) // model["cache"]
    served = replicas * pp * np.minimum(fits, fast)
    return list(plans[served.argmax()]) if served.max() > 0 else None


def passes_recursive(turns, seats, queue=(), seated=()):
    if not turns and not queue and not seated:
        return []
    queue, seated = dict(queue), dict(seated)
    for what, name, tokens in turns[0] if turns else ():
        if what == "begin":
            queue[name] = tokens
        else:
            queue.pop(name, None), seated.pop(name, None)
    for name in [*queue][: max(0, seats - len(seated))]:
        seated[name] = queue.pop(name)
    left = {name: tokens - 1 for name, tokens in seated.items() if tokens > 1}
    return [tuple(seated), *passes_recursive(turns[1:], seats, queue, left)]


def turns_numpy(turns, seats):
    names = [name for turn in turns for what, name, _ in turn if what == "begin"]
    left, here, gone = np.zeros(len(names), int), [], set()
    place, found, turn = {name: i for i, name in enumerate(names)}, [], 0
    while turn < len(turns) or any(left[place[name]] > 0 and name not in gone for name in here):
        for what, name, tokens in turns[turn] if turn < len(turns) else ():
            if what == "begin":
                here.append(name)
                left[place[name]] = tokens
            elif name in here:
                gone.add(name)
        alive = [name for name in here if left[place[name]] > 0 and name not in gone]
        found.append(alive[:seats])
        for name in alive[:seats]:
            left[place[name]] -= 1
        turn += 1
    return found


def events_bytewise(pieces):
    found, line, data = [], bytearray(), []
    for byte in b"".join(pieces):
        if byte != 10:
            line.append(byte)
            continue
        text = line.removesuffix(b"\r").decode()
        line.clear()
        if text.startswith("data: "):
            data.append(text[6:])
        elif text.startswith("data:"):
            data.append(text[5:])
        if text == "" and data:
            if data == ["[DONE]"]:
                break
            found.append("\n".join(data))
            data = []
    return found


def events_incremental(pieces):
    decoder, rest, found, data = codecs.getincrementaldecoder("utf-8")(), "", [], None
    for piece in pieces:
        rest += decoder.decode(piece)
        while "\n" in rest:
            line, rest = rest.split("\n", 1)
            name, colon, value = line.rstrip("\r").partition(":")
            if name == "data" and colon:
                value = value[1:] if value[:1] == " " else value
                data = value if data is None else f"{data}\n{value}"
            elif not name and not colon and data is not None:
                if data == "[DONE]":
                    return tuple(found)
                found.append(data)
                data = None
    return tuple(found)


def places_numpy(requests, engines, slack):
    loads, homes = np.zeros(engines, int), {}
    found = np.zeros(len(requests), int)
    for i, (talk, tokens) in enumerate(requests):
        home = homes.get(talk, -1)
        stays = home >= 0 and loads[home] - loads.min() <= slack
        found[i] = homes[talk] = home if stays else int(loads.argmin())
        loads[found[i]] += tokens
    return found


def places_recursive(requests, engines, slack):
    if not requests:
        return []
    *before, (talk, _) = requests
    found = places_recursive(before, engines, slack)
    loads = [
        sum(n for (_, n), where in zip(before, found, strict=True) if where == i) for i in range(engines)
    ]
    homes = [where for (name, _), where in zip(before, found, strict=True) if name == talk]
    if homes and loads[homes[-1]] <= min(loads) + slack:
        return [*found, homes[-1]]
    return [*found, min((load, i) for i, load in enumerate(loads))[1]]


def plan_sorted(choices, ttft, tpot, share):
    def late(choice):
        return sum(one is None or one[0] > ttft or one[1] > tpot for one in choice["requests"])

    for choice in sorted(
        choices, key=lambda one: (one["replicas"], fractions.Fraction(late(one), len(one["requests"])))
    ):
        if 1 - late(choice) / len(choice["requests"]) >= share:
            return [choice["replicas"], choice["router"]]
    return None


def plan_numpy12(choices, ttft, tpot, share):
    best = None
    for choice in choices:
        times = np.array([(math.inf, math.inf) if one is None else one for one in choice["requests"]])
        met = ((times <= (ttft, tpot)).all(axis=1)).mean()
        better = (
            best is None or choice["replicas"] < best[0] or (choice["replicas"] == best[0] and met > best[2])
        )
        if met >= share and better:
            best = choice["replicas"], choice["router"], met
    return best and best[:2]


RIGHT = {
    "lab01.check_kv_bytes": (kv_numpy, kv_by_layers),
    "lab01.check_int4_bytes": (int4_decimal, int4_numpy),
    "lab01.check_crossover": (crossover_numpy, crossover_by_search),
    "lab01.check_deployment": (deployment_by_filter, deployment_by_heap),
    "lab01.check_hybrid_bytes": (hybrid_numpy, hybrid_growing),
    "lab02.check_profiler": (profile_by_list, profile_ordered),
    "lab02.check_utilisation": (utilisation_numpy, utilisation_named),
    "lab02.check_other_device": (device_numpy, device_sorted),
    "lab02.check_speedup": (speedup_numpy, speedup_counted),
    "lab03.check_cache": (Growing, Flat),
    "lab03.check_mask": (mask_numpy, mask_tril),
    "lab03.check_times": (times_tensor, times_loop),
    "lab04.check_match": (match_numpy, match_pages),
    "lab04.check_evict": (evict_heap, evict_generator),
    "lab04.check_rate": (rate_set, rate_fraction),
    "lab04.check_secret": (recover_gap, recover_recursive),
    "lab04.check_key": (key_frozen, key_chain),
    "lab05.check_padding": (padding_numpy, padding_rows),
    "lab05.check_pack": (pack_numpy, pack_sums),
    "lab05.check_plan": (plan_numpy, plan_recursive),
    "lab05.check_chunk": (chunk_search, chunk_clip, chunk_by_time_per_token),
    "lab06.check_append": (append_numpy, append_own_error),
    "lab06.check_gather": (gather_cat, gather_select),
    "lab06.check_copy_on_write": (NumpyPool, Releasing),
    "lab06.check_page_size": (size_numpy, size_sets),
    "lab07.check_traffic": (traffic_numpy, traffic_loop),
    "lab07.check_update": (update_lse, update_key_by_key),
    "lab07.check_tiles": (tiles_numpy, tiles_tuple),
    "lab07.check_merge": (merge_max, merge_sigmoid),
    "lab07.check_choose": (choose_down, choose_numpy),
    "lab08.check_wait": (wait_numpy, wait_fraction),
    "lab08.check_first": (first_by_compare, first_numpy),
    "lab08.check_passes": (passes_numpy, passes_fraction),
    "lab08.check_begin": (begins_float32, begins_closed),
    "lab08.check_both": (Deadline, Whole),
    "lab09.check_count": (count_counter, count_backwards),
    "lab09.check_norm": (norm_in_place, norm_fp64),
    "lab09.check_sizes": (sizes_all, sizes_recursive),
    "lab09.check_stale": (stale_numpy, stale_generator),
    "lab09.check_lines": (lines_numpy, lines_float),
    "lab10.check_groups": (groups_loop, groups_numpy),
    "lab10.check_pack": (pack_numpy_bytes, pack_tensor),
    "lab10.check_smooth": (smooth_loop, smooth_numpy),
    "lab10.check_block": (block_apart, block_swapped),
    "lab10.check_budget": (choose_table, choose_ordered),
    "lab10.check_cache": (cache_search, cache_fraction),
    "lab11.check_rows": (rows_numpy, rows_filtered),
    "lab11.check_mlp": (mlp_first_rank, mlp_shared_out),
    "lab11.check_idle": (idle_events, idle_numpy),
    "lab11.check_balance": (balance_greedy, balance_numpy),
    "lab11.check_choose": (choose_counting, choose_numpy_plan),
    "lab12.check_loop": (passes_recursive, turns_numpy),
    "lab12.check_events": (events_bytewise, events_incremental),
    "lab12.check_route": (places_numpy, places_recursive),
    "lab12.check_plan": (plan_sorted, plan_numpy12),
}
PAIRS = [(check, answer) for check, several in RIGHT.items() for answer in several]


@pytest.mark.parametrize(("check", "answer"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_a_right_answer_of_any_style_is_accepted(check, answer, capsys):
    lab, name = check.split(".")
    accepts(getattr(importlib.import_module(f"helpers.checks.{lab}"), name), answer, capsys)


@pytest.mark.parametrize(("check", "code"), CODE, ids=[check for check, _ in CODE])
def test_a_right_answer_of_a_learner_is_accepted(check, code, capsys):
    names = {"__name__": "__main__"}
    exec(code, names)
    lab, name = check.split(".")
    accepts(getattr(importlib.import_module(f"helpers.checks.{lab}"), name), names["f"], capsys)


def test_every_exercise_that_asks_for_code_is_here():
    checks = set()
    for number in range(1, 13):
        module = importlib.import_module(f"helpers.checks.lab{number:02d}")
        checks |= {f"lab{number:02d}.{name}" for name in vars(module) if name.startswith("check_")}
    of_a_number = {
        "lab01.check_token_bytes",
        "lab02.check_step_time",
        "lab03.check_copied",
        "lab06.check_pages",
    }
    assert {check for check in checks if not check.endswith("check_family")} - of_a_number == set(RIGHT)
