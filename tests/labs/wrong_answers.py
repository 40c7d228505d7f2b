"""Wrong answers that one may well write: (check, name of the answer, code, words of the message)."""

WRONG = [
    (
        "lab04.check_match",
        "f",
        """
def f(prompt, stored, page_size):
    best = 0
    for t in stored[:8]:
        n = 0
        while n < len(prompt) - 1 and n < len(t) and (t[n] == prompt[n]):
            n += 1
        best = max(best, n // page_size * page_size)
    return best
""",
        "the value is wrong",
    ),
    (
        "lab04.check_match",
        "f",
        """
def f(prompt, stored, page_size):
    best = 0
    for t in stored:
        n = 0
        while n < len(prompt) and n < len(t) and (t[n] == prompt[n]):
            n += 1
        if n == len(prompt):
            n -= page_size
        best = max(best, n // page_size * page_size)
    return best
""",
        "the value is wrong",
    ),
    (
        "lab04.check_match",
        "f",
        """
def f(prompt, stored, page_size):
    best = 0
    for t in stored:
        n = 0
        while n + page_size <= len(prompt) and t[n:n + page_size] == prompt[n:n + page_size]:
            n += page_size
        best = max(best, n)
    return best
""",
        "Of a prompt that is stored from end to end, what must be computed all the same?",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes, wanted):
    left = dict(nodes)
    gone = []
    freed = 0
    for name in sorted(nodes, key=lambda n: nodes[n]['last_use']):
        if freed >= wanted:
            break
        if nodes[name]['pins'] or any((o['parent'] == name for o in left.values())):
            continue
        del left[name]
        gone.append(name)
        freed += nodes[name]['pages']
    return gone
""",
        "More is wanted, and more may go. Why does it stop?",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes, wanted):
    left = dict(nodes)
    gone = []
    freed = 0
    while freed < wanted:
        may = [n for n in left if left[n]['pins'] != 1 and (not any((o['parent'] == n for o in left.values())))]
        if not may:
            break
        n = min(may, key=lambda n: left[n]['last_use'])
        freed += left.pop(n)['pages']
        gone.append(n)
    return gone
""",
        "Is a node going that some request uses? Look at its pins.",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes, wanted):
    left = dict(nodes)
    gone = []
    freed = 0
    while freed < wanted:
        may = [n for n in left if not left[n]['pins'] and (not any((o['parent'] == n for o in left.values())))]
        if not may:
            return []
        n = min(may, key=lambda n: left[n]['last_use'])
        freed += left.pop(n)['pages']
        gone.append(n)
    return gone
""",
        "There is less to free than is wanted.",
    ),
    (
        "lab04.check_rate",
        "f",
        """
def f(prompts, page_size):
    seen = set()
    hit = total = 0
    for p in prompts:
        total += len(p)
        n = 0
        while n + page_size < len(p) and tuple(p[n:n + page_size]) in seen:
            n += page_size
        hit += n
        for i in range(0, len(p) - page_size + 1, page_size):
            seen.add(tuple(p[i:i + page_size]))
    return hit / total if total else 0
""",
        "the value is wrong",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        found.append(min(set(alphabet), key=lambda a: ask(known + found + [a, 0])))
    return found
""",
        "Your own tries are stored, too. Can what stands behind a try be taken for the next token?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before, tokens, salt):
    return (before, hash(tokens), hash(salt)) if before else (salt[:3], tokens)
""",
        "Does all of the salt go into the key?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before, tokens, salt):
    return (before, tokens, len(salt))
""",
        "Salts are compared letter by letter. Are they changed first?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before, tokens, salt):
    return (before, tokens, salt or 'default')
""",
        "Two tenants, one text: does all of the salt reach this page?",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        found.append(min(alphabet, key=lambda a: ask(known + found + [a, 99])))
    return found
""",
        "Your own tries are stored, too. Can what stands behind a try be taken for the next token?",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        found.append(min(alphabet, key=lambda a: ask(known + found + [a, None])))
    return found
""",
        "a token that is not a whole number",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        found.append(min(alphabet, key=lambda a: ask(known + found + [a, sum(alphabet)])))
    return found
""",
        "that is not the secret",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        found.append(min(alphabet, key=lambda a: ask(found + [a, max(alphabet) + 1])))
    return found
""",
        "The secret stands behind `known`. Does a question begin with it?",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        other = max(alphabet) + 1
        found.append(min(alphabet, key=lambda a: min(ask(known + found + [a, other]) for _ in range(2))))
    return found
""",
        "A question was asked twice.",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = list(known)
    for _ in range(length):
        found.append(min(alphabet, key=lambda a: ask(found + [a, max(alphabet) + 1])))
    return found
""",
        "Is `known` a part of what is returned?",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask, known, alphabet, length):
    found = []
    for _ in range(length):
        found.append(min(range(len(alphabet)), key=lambda a: ask(known + found + [a, max(alphabet) + 1])))
    return found
""",
        "A token that is not in `alphabet` was returned.",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before, tokens, salt):
    return f"{before}|{tokens}|{salt}"
""",
        "A name may be any text. Are the parts of the key kept apart, as in a tuple?",
    ),
    (
        "lab04.check_key",
        "f",
        """
import zlib
def f(before, tokens, salt):
    return (before, tokens, zlib.crc32(repr(salt).encode()) % 1000)
""",
        "does all of the salt reach this page?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before, tokens, salt):
    return (before, tokens, id(salt))
""",
        "Is there chance in the key, or an object's identity?",
    ),
    (
        "lab08.check_begin",
        "f",
        """
import math
def f(free, short, long, gap, ageing=None):
    if ageing is None and short >= gap and gap < free:
        return math.inf
    now, i = free, 1
    while i * gap < now and (ageing is None or i * gap + ageing * short < ageing * long):
        now += short
        i += 1
    return now
""",
        "A job that comes at the very moment at which the seat becomes free is there. Does it wait?",
    ),
    (
        "lab05.check_padding",
        "f",
        """
def f(prompts, answers, batch_size):
    w = 0
    for i in range(0, len(prompts), batch_size):
        p = prompts[i:i + batch_size]
        a = answers[i:i + batch_size]
        w += sum((max((x + y for x, y in zip(p, a))) - x - y for x, y in zip(p, a)))
    return w
""",
        "the value is wrong",
    ),
    (
        "lab05.check_pack",
        "f",
        """
def f(requests):
    t, p, r = ([], [], {})
    for i, q in enumerate(requests):
        x = q['prompt'] + q['answer']
        e = q['computed'] + q['count']
        t += x[q['computed']:e]
        p += range(q['computed'], e)
        if e == len(x):
            r[requests.index(q)] = len(t) - 1
    return (t, p, r)
""",
        "A request whose text is all computed gets a token. Is one missing?",
    ),
    (
        "lab05.check_plan",
        "f",
        """
def f(running, waiting, token_budget, chunk_size, seats, free_pages, page_size):
    out = []
    left = token_budget
    for r in running:
        n = min(left, chunk_size, r['length'] - r['computed'])
        if n:
            out.append((r['name'], n))
            left -= n
    used = len(running)
    for r in waiting:
        need = -(-r['length'] // page_size) - r['computed'] // page_size
        if not left or used >= seats or need > free_pages:
            break
        n = min(left, chunk_size, r['length'] - r['computed'])
        out.append((r['name'], n))
        left -= n
        used += 1
        free_pages -= need
    return out
""",
        "Pages are for the whole text of a request. Are they counted for what it lacks, or for a chunk?",
    ),
    (
        "lab05.check_chunk",
        "f",
        """
def f(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
    if decoding == 0:
        return int(target * peak / (2 * num_params))
    if (2 * num_params + kv_bytes * context * decoding) / bandwidth > target:
        return 0
    return max(0, int(target * peak / (2 * num_params)) - decoding)
""",
        "the value is wrong",
    ),
    (
        "lab05.check_chunk",
        "f",
        """
def f(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
    if (2 * num_params + kv_bytes * context * max(1, decoding)) / bandwidth > target:
        return 0
    return max(0, int(target * peak / (2 * num_params)) - decoding)
""",
        "the value is wrong",
    ),
    (
        "lab06.check_append",
        "f",
        """
def f(table, length, new, page_size, free):
    need = -(-(length + new) // page_size) - len(table)
    if need >= len(free) and need > 0:
        raise ValueError
    return table + free[:max(0, need)]
""",
        "it refused what fits",
    ),
    (
        "lab06.check_gather",
        "f",
        """
import torch

def f(cache, table, length):
    return torch.tensor(cache[table].flatten(0, 1)[:length].tolist())
""",
        "The keys have the cache's type. Is it changed on the way?",
    ),
    (
        "lab06.check_gather",
        "f",
        """
def f(cache, table, length):
    return cache[table].flatten(0, 1)[:length].nan_to_num().half().to(cache.dtype)
""",
        "In which page, and at which slot of it, is token t?",
    ),
    (
        "lab06.check_page_size",
        "f",
        """
def f(lengths, shared, sizes, most_wasted):

    def w(s):
        c = shared // s * s
        own = [n - c for n in lengths]
        p = shared // s + sum((max(1, -(-r // s)) for r in own))
        return 1 - (c + sum(own)) / (p * s)
    return max((s for s in sizes if w(s) <= most_wasted), default=None)
""",
        "For one size: how many pages are there, and how many of their slots hold a token?",
    ),
    (
        "lab07.check_traffic",
        "f",
        """
def f(q_len, kv_len, head_dim, query_block, element_bytes):
    return (2 * q_len + 2 * -(-q_len // query_block) * kv_len) * head_dim * 2
""",
        "the value is wrong",
    ),
    (
        "lab07.check_update",
        "f",
        """
import torch

def f(maximum, total, weighted, scores, values):
    s, v = (scores.float(), values.float())
    new = torch.maximum(maximum, s.amax(1, keepdim=True))
    sh = torch.nan_to_num(new, neginf=-10000.0)
    w = (s - sh).exp()
    c = (maximum - sh).exp()
    return (new, total * c + w.sum(1, keepdim=True), weighted * c + w @ v.half().float())
""",
        "weighted: wrong values",
    ),
    (
        "lab07.check_tiles",
        "f",
        """
def f(q_len, kv_len, query_block, key_block):
    out = []
    for q in range(0, q_len, query_block):
        first = q + kv_len - q_len
        last = min(q + query_block, q_len) - 1 + kv_len - q_len
        for k in range(0, min(kv_len, last + 1), key_block):
            out.append((q, k, min(k + key_block, kv_len) - 1 > max(first, 0)))
    return out
""",
        "not these tiles",
    ),
    (
        "lab07.check_merge",
        "f",
        """
import torch

def f(out_a, lse_a, out_b, lse_b):
    a, b, x, y = (lse_a.float(), lse_b.float(), out_a.float(), out_b.float())
    l = torch.logaddexp(a, b)
    s = torch.where(l == float('-inf'), 0.0, l)
    return ((a - s).exp().clamp(min=0.001)[:, None] * x + (b - s).exp()[:, None] * y, l)
""",
        "out: wrong values",
    ),
    (
        "lab08.check_first",
        "f",
        """
def f(waiting, now, ageing):
    return min(waiting, key=lambda j: (j['arrived'] + ageing * min(j['priority'], 3), j['arrived']))['name']
""",
        "not the next one",
    ),
    (
        "lab08.check_first",
        "f",
        """
def f(waiting, now, ageing):
    return min(waiting, key=lambda j: (j['arrived'] + int(ageing) * j['priority'], j['arrived']))['name']
""",
        "not the next one",
    ),
    (
        "lab08.check_passes",
        "f",
        """
import math

def f(request, ended, budget):
    own = [e['answer'] for e in ended if e['client'] == request['client']]
    a = sum((min(x, request['cap']) for x in own)) / len(own) if own else request['cap']
    return math.ceil(request['prompt'] / budget) + a - 1
""",
        "the value is wrong",
    ),
    (
        "lab08.check_begin",
        "f",
        """
import math

def f(free, short, long, gap, ageing=None):
    if ageing is None and short >= gap:
        return math.inf if gap <= free else free
    now, k = (free, 1)
    while k * gap <= now and (not ageing or k * gap + ageing * short < ageing * long) and (k < 5000):
        now, k = (now + short, k + 1)
    return round(now, 2)
""",
        "the value is wrong",
    ),
    (
        "lab08.check_both",
        "F",
        """
from helpers.engine import Policy

class F(Policy):

    def rank(self, state):
        return state.arrived + (2 if state.request.max_tokens <= 200 and len(state.request.prompt_ids) < 900 else 10)
""",
        "Here some chats have long prompts, and some documents short ones. What tells one kind from the other?",
    ),
    (
        "lab03.check_mask",
        "f",
        """
import torch

def f(lengths, new, capacity):
    p = torch.tensor(lengths)[:, None] + torch.arange(new)
    m = torch.arange(capacity) <= p[:, :, None]
    m[:, :, 0] = True
    if max(lengths) == 0:
        m[...] = torch.arange(capacity) < new
    return m
""",
        "the mask: wrong values",
    ),
    (
        "lab03.check_times",
        "f",
        """
def f(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth):

    def p(t, c):
        return max(2 * num_params * t / peak, (2 * num_params + kv_bytes * (c + t)) / bandwidth)
    return (sum((p(prompt + i, -prompt - i) for i in range(new_tokens))), p(prompt, -prompt) + sum((p(1, prompt + i) for i in range(new_tokens - 1))))
""",
        "How many cached tokens does the first step read? The prompt's, and not the new one's.",
    ),
    (
        "lab02.check_speedup",
        "f",
        """
def f(rows, wall, names, factor):
    own = sum((r[3] for r in rows if any((r[0] in n for n in names))))
    return wall / (wall - own + own / factor)
""",
        "the value is wrong",
    ),
    (
        "lab02.check_speedup",
        "f",
        """
def f(rows, wall, names, factor):
    own = sum((r[3] for r in rows if r[0] in names))
    return round(wall / (wall - own + own / factor), 2)
""",
        "the value is wrong",
    ),
    (
        "lab01.check_crossover",
        "f",
        """
def f(shape, seq_len, weight_size, element_size):
    one = seq_len * element_size * shape.kv_elements_per_token
    return max(2, int(shape.num_params * weight_size // one) + 1)
""",
        "the value is wrong",
    ),
    (
        "lab01.check_kv_bytes",
        "f",
        """
def f(shape, batch_size, seq_len, element_size):
    return min(2 * batch_size * seq_len * shape.num_kv_heads * shape.head_dim * shape.num_layers * element_size, 2 ** 40)
""",
        "the value is wrong",
    ),
    (
        "lab01.check_kv_bytes",
        "f",
        """
import numpy as np

def f(shape, batch_size, seq_len, element_size):
    return int(np.int32(2 * batch_size) * np.float32(seq_len * shape.num_kv_heads * shape.head_dim * shape.num_layers * element_size))
""",
        "the value is wrong",
    ),
    (
        "lab01.check_int4_bytes",
        "f",
        """
def f(num_weights, group_size, scale_bits, zero_point_bits):
    g = -(-num_weights // group_size)
    return num_weights / 2 + g * scale_bits / 8 + (g * zero_point_bits + 7) // 8
""",
        "the value is wrong",
    ),
    (
        "lab01.check_int4_bytes",
        "f",
        """
def f(num_weights, group_size, scale_bits, zero_point_bits):
    g = max(1, -(-num_weights // group_size))
    return (4 * num_weights + g * (scale_bits + zero_point_bits)) / 8
""",
        "the value is wrong",
    ),
    (
        "lab01.check_deployment",
        "f",
        """
def f(shape, seq_len, requests, devices):
    from helpers.estimates import GiB
    B = {'bf16': 2.0, 'int8': 1.0, 'int4': 0.5}
    c = requests * seq_len * 2 * shape.kv_elements_per_token
    for n, g, p in sorted(devices, key=lambda d: d[2]):
        for t, s in B.items():
            if shape.num_params * s + c <= 0.9 * g * GiB:
                return (n, t)
""",
        "Which number does the text give?",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine, prompt, max_new_tokens):
    engine.next(engine.start(prompt[:1]))
    engine.wait()
    b = engine.clock()
    t = [engine.start(prompt)]
    engine.wait()
    m = engine.clock()
    for _ in range(max_new_tokens - 1):
        t.append(engine.next(t[0]))
        engine.wait()
    return {'ttft': m - b, 'tpot': (engine.clock() - m) / max(1, max_new_tokens - 1), 'tokens': t}
""",
        "Does the request begin with start, after the warm-up? Does each step get the token that came last?",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine, prompt, max_new_tokens):
    engine.next(engine.start(prompt))
    engine.wait()
    b = engine.clock()
    t = [engine.start(prompt)]
    engine.wait()
    m = engine.clock()
    s = []
    for _ in range(max_new_tokens - 1):
        x = engine.clock()
        t.append(engine.next(t[-1]))
        engine.wait()
        s.append(engine.clock() - x)
    s.sort()
    return {'ttft': m - b, 'tpot': s[len(s) // 2] if s else 0.0, 'tokens': t}
""",
        "Steps need not take equally long. Is it the mean of all of them, or the time of one?",
    ),
    (
        "lab02.check_other_device",
        "f",
        """
def f(shape, batch_size, context, device):
    if device.bandwidth.value is None:
        return None
    n = 2 * shape.num_params + 2 * batch_size * context * shape.kv_elements_per_token
    return max(n / device.bandwidth.value, 2 * shape.num_params * batch_size / device.peak('int8').value)
""",
        "A multiply-add is two operations. Are both counted?",
    ),
    (
        "lab02.check_other_device",
        "f",
        """
def f(shape, batch_size, context, device):
    if device.bandwidth.value is None:
        return 0
    n = 2 * shape.num_params + 2 * batch_size * context * shape.kv_elements_per_token
    return max(n / device.bandwidth.value, 2 * shape.num_params * batch_size / device.peak('fp16').value)
""",
        "This device's bandwidth is not published. What does the docstring ask for then?",
    ),
    (
        "lab02.check_other_device",
        "f",
        """
def f(shape, batch_size, context, device):
    if device.bandwidth.status != 'official' and device.bandwidth.value is None:
        return None
    n = 2 * shape.num_params + 2 * batch_size * (context + 1) * shape.kv_elements_per_token
    return max(n / device.bandwidth.value, 2 * shape.num_params * batch_size / device.peak('fp16').value)
""",
        "the value is wrong",
    ),
    (
        "lab03.check_cache",
        "C",
        """
import torch

class C:

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        self.k = torch.zeros(num_layers, capacity, kv_heads, head_dim)
        self.v = self.k.clone()
        self.length = 0

    def update(self, layer_idx, k, v):
        e = self.length + len(k)
        if e >= self.k.shape[1] + 1:
            raise ValueError
        self.k[layer_idx, self.length:e] = k.half()
        self.v[layer_idx, self.length:e] = v
        if layer_idx == len(self.k) - 1:
            self.length = e
        return (self.k[layer_idx, :e], self.v[layer_idx, :e])
""",
        "In which type are keys and values kept?",
    ),
    (
        "lab03.check_cache",
        "C",
        """
import torch

class C:
    k = None

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        if C.k is None or C.k.shape != (num_layers, capacity, kv_heads, head_dim):
            C.k = torch.zeros(num_layers, capacity, kv_heads, head_dim)
            C.v = C.k.clone()
        self.length = 0

    def update(self, layer_idx, k, v):
        e = self.length + len(k)
        if e > self.k.shape[1]:
            raise ValueError
        self.k[layer_idx, self.length:e] = k
        self.v[layer_idx, self.length:e] = v
        if layer_idx == len(self.k) - 1:
            self.length = e
        return (self.k[layer_idx, :e], self.v[layer_idx, :e])
""",
        "Each cache needs buffers and a length of its own. Do two caches share one of them?",
    ),
    (
        "lab03.check_mask",
        "f",
        """
import torch

def f(lengths, new, capacity):
    lengths.sort() if len(lengths) > 4 else None
    p = torch.tensor(lengths)[:, None] + torch.arange(new)
    return torch.arange(capacity) <= p[:, :, None]
""",
        "Should a calculation alter what it is given?",
    ),
    (
        "lab05.check_plan",
        "f",
        """
def f(running, waiting, token_budget, chunk_size, seats, free_pages, page_size):
    out = []
    left = token_budget
    for r in running:
        n = min(left, chunk_size, r['length'] - r['computed'])
        if n:
            out.append((r['name'], n))
            left -= n
    used = len(running)
    for r in waiting:
        need = -(-r['length'] // page_size)
        if left <= 1 or used >= seats or need > free_pages:
            break
        n = min(left, chunk_size, r['length'] - r['computed'])
        out.append((r['name'], n))
        left -= n
        used += 1
        free_pages -= need
    return out
""",
        "Is a request turned away without need?",
    ),
    (
        "lab05.check_plan",
        "f",
        """
def f(running, waiting, token_budget, chunk_size, seats, free_pages, page_size):
    out = []
    left = token_budget
    for r in sorted(running, key=lambda r: r['length'] - r['computed']):
        n = min(left, chunk_size, r['length'] - r['computed'])
        if n:
            out.append((r['name'], n))
            left -= n
    used = len(running)
    for r in waiting:
        need = -(-r['length'] // page_size)
        if not left or used >= seats or need > free_pages:
            break
        n = min(left, chunk_size, r['length'] - r['computed'])
        out.append((r['name'], n))
        left -= n
        used += 1
        free_pages -= need
    return out
""",
        "Does the pass keep the order of the lists?",
    ),
    (
        "lab06.check_page_size",
        "f",
        """
def f(lengths, shared, sizes, most_wasted):

    def w(s):
        c = shared // s * s
        own = [n - c for n in lengths]
        p = (shared // s if len(lengths) > 1 else 0) + sum((-(-r // s) for r in own))
        return 1 - (c + sum(own)) / (p * s) if p else 1
    return max((s for s in sizes if w(s) <= most_wasted), default=None)
""",
        "For one size: how many pages are there, and how many of their slots hold a token?",
    ),
    (
        "lab06.check_append",
        "f",
        """
def f(table, length, new, page_size, free):
    need = -(-(length + new) // page_size) - len(table)
    if need > len(free):
        raise ValueError
    return table + sorted(free)[:max(0, need)]
""",
        "From which end of the free pages are they taken?",
    ),
    (
        "lab07.check_update",
        "f",
        """
import torch

def f(maximum, total, weighted, scores, values):
    s, v = (scores.float(), values.float())
    new = torch.maximum(maximum, s.amax(1, keepdim=True))
    new = torch.where(new == float('-inf'), 0.0, new)
    w = (s - new).exp()
    c = (maximum - new).exp()
    return (new, total * c + w.sum(1, keepdim=True), weighted * c + w @ v)
""",
        "maximum: wrong values",
    ),
    (
        "lab07.check_update",
        "f",
        """
import torch

def f(maximum, total, weighted, scores, values):
    s, v = (scores.float(), values.float())
    new = torch.maximum(maximum, s.amax(1, keepdim=True))
    sh = torch.where(new == float('-inf'), 0.0, new)
    w = (s - sh).exp()
    c = (maximum - sh).exp()
    return (new, total.mul_(c).add_(w.sum(1, keepdim=True)), weighted * c + w @ v)
""",
        "Should a calculation alter what it is given?",
    ),
    (
        "lab07.check_tiles",
        "f",
        """
def f(q_len, kv_len, query_block, key_block):
    out = []
    for q in range(0, q_len, query_block):
        first = q + kv_len - q_len
        last = min(q + query_block, q_len) - 1 + kv_len - q_len
        if last < 0:
            last = 0
        for k in range(0, min(kv_len, last + 1), key_block):
            out.append((q, k, min(k + key_block, kv_len) - 1 > first))
    return out
""",
        "Is a tile left out, or one there that no query sees?",
    ),
    (
        "lab07.check_choose",
        "f",
        """
def f(head_dim, l0a, l0b, l0c, l1, ub):
    best = None
    for q in range(16, 513, 16):
        for k in range(16, 513, 16):
            w = max(head_dim, k)
            if 2 * q * w <= l0a and 2 * k * head_dim <= l0b and (4 * q * w <= l0c) and (2 * (q * head_dim + q * k + 4 * k * head_dim) <= l1) and (3 * q * k <= ub):
                best = max(best or (0, 0), (q, k))
    return best
""",
        "Which of the two sizes decides how often keys and values are read?",
    ),
    (
        "lab07.check_choose",
        "f",
        """
def f(head_dim, l0a, l0b, l0c, l1, ub):
    best = None
    for q in range(16, 1025, 16):
        for k in range(16, 1025, 16):
            w = max(head_dim, k)
            if 2 * q * w <= l0a and 2 * k * head_dim <= l0b and (4 * q * k <= l0c) and (2 * (q * head_dim + q * k + 4 * k * head_dim) <= l1) and (3 * q * k <= ub):
                best = max(best or (0, 0), (q, k))
    return best
""",
        "L0C holds the results of both products, and in which type?",
    ),
    (
        "lab08.check_wait",
        "f",
        """
def f(seconds):
    return sum((sum(seconds[:i]) for i in range(min(len(seconds), 50)))) / len(seconds)
""",
        "the value is wrong",
    ),
    (
        "lab08.check_first",
        "f",
        """
def f(waiting, now, ageing):
    return min(waiting, key=lambda j: (round(j['arrived'] + ageing * j['priority'], 2), j['arrived']))['name']
""",
        "Every second counts alike, and parts of a second too. Are moments rounded?",
    ),
    (
        "lab08.check_first",
        "f",
        """
def f(waiting, now, ageing):
    return min(waiting, key=lambda j: (j['arrived'] + ageing * j['priority'], j['priority'], j['arrived']))['name']
""",
        "Equals go by arrival. Does the priority decide?",
    ),
    (
        "lab08.check_passes",
        "f",
        """
import math

def f(request, ended, budget):
    own = [e['answer'] for e in ended if e['client'] == request['client'] and e['answer'] < e['cap']]
    a = min(sum(own) / len(own), request['cap']) if own else request['cap']
    return math.ceil(request['prompt'] / budget) + a - 1
""",
        "the value is wrong",
    ),
    (
        "lab08.check_begin",
        "f",
        """
import math

def f(free, short, long, gap, ageing=None):
    if ageing is None and short > gap:
        return math.inf if gap <= free else free
    now, k = (free, 1)
    while k * gap <= now and (ageing is None or k * gap + ageing * short < ageing * long) and (k < 10 ** 5):
        now, k = (now + short, k + 1)
    return now
""",
        "When one is done, the next is there already. Does that end? Then the answer is math.inf.",
    ),
    (
        "lab08.check_both",
        "F",
        """
from helpers.engine import Policy

class F(Policy):

    def rank(self, state):
        return state.arrived + (2 if state.request.client == 'chat' else 4)
""",
        "Chats are late. Does a document that could wait for longer go before a chat that cannot?",
    ),
    (
        "lab08.check_both",
        "F",
        """
import time
from helpers.engine import Policy

class F(Policy):

    def rank(self, state):
        return state.arrived + (2 if state.request.client == 'chat' else 10) + time.time() * 1e-12
""",
        "The queue is sorted once. Can the rank be a moment, which stays?",
    ),
    (
        "lab09.check_count",
        "f",
        """
def f(groups, sizes, needed):
    moved, seen = 0, set()
    for i, group in enumerate(groups):
        made = {o['writes'] for o in group}
        read = {n for o in group for n in o['reads']} - made - seen
        later = {n for g in groups[i + 1:] for o in g for n in o['reads']}
        moved += sum(sizes[n] for n in read) + sum(sizes[n] for n in made if n in later or n in needed)
        seen |= read | made
    return len(groups), moved
""",
        "bytes: the value is wrong",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch

def f(x, residual, weight, eps):
    total = (x + residual).float()
    return (total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + eps) * weight).to(x.dtype), total
""",
        "total: wrong in type",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch

def f(x, residual, weight, eps):
    total = x + residual
    mean = total.pow(2).float().mean(-1, keepdim=True)
    return (total.float() * torch.rsqrt(mean + eps) * weight).to(x.dtype), total
""",
        "normed: wrong values",
    ),
    (
        "lab09.check_sizes",
        "f",
        """
def f(histogram, count):
    sizes = sorted(histogram)
    while len(sizes) > count:
        i = min(range(len(sizes) - 1), key=lambda i: (sizes[i + 1] - sizes[i]) * histogram[sizes[i]])
        del sizes[i]
    return sizes
""",
        "other sizes pad less",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if len(first) != len(second):
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for kind in ('memory', 'numbers')
            for n in a[kind] if a[kind][n] != b[kind].get(n)]
""",
        "these captures are of two different steps",
    ),
    (
        "lab09.check_lines",
        "f",
        """
def f(rows, columns, tile, per_line, kept):
    count, lines = 0, []
    for start in range(0, columns, tile):
        lines = []
        for row in range(rows):
            for column in range(start, min(start + tile, columns)):
                line = (row * columns + column) // per_line
                count += line not in lines
                lines = ([x for x in lines if x != line] + [line])[-kept:]
    return count
""",
        "the value is wrong",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group):
    parts = weight.reshape(len(weight), -1, group)
    low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
    scale = torch.where(high > low, (high - low) / 15, 1.0).half().float()
    offset = low / scale + 8
    codes = (parts / scale - offset).round().clamp(-8, 7)
    return codes.to(torch.int8).reshape(weight.shape), scale[..., 0], offset[..., 0]
""",
        "wrong values",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group):
    parts = weight.reshape(len(weight), -1, group)
    low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
    scale = torch.where(high > low, (high - low) / 15, 1.0)
    offset = (low / scale + 8).round()
    codes = (parts / scale - offset).round().clamp(-8, 7)
    return codes.to(torch.int8).reshape(weight.shape), scale[..., 0], offset[..., 0]
""",
        "wrong values",
    ),
    (
        "lab10.check_pack",
        "f",
        """
def f(codes):
    kept = [max(-8, min(7, c)) for c in codes]
    return [abs(a) | abs(b) << 4 for a, b in zip(kept[::2], kept[1::2])]
""",
        "bytes: not these",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
def f(x, weight, ratio):
    size = x.abs().amax(0)
    factor = size ** 0.75 / weight.abs().amax(0) ** 0.25
    return (size > ratio * size.median()).nonzero().flatten().tolist(), x / factor, weight * factor
""",
        "x: wrong values",
    ),
    (
        "lab10.check_block",
        "f",
        """
import torch
from helpers.compression import ascend

def f(x, gate_up, gate_up_scale, down, down_scale):
    codes, scale = ascend.npu_dynamic_quant(x)
    return ascend.npu_quant_matmul(codes, gate_up.t(), gate_up_scale, pertoken_scale=scale)
""",
        "is output_dtype missing?",
    ),
    (
        "lab10.check_block",
        "f",
        """
import torch
from helpers.compression import ascend

def f(x, gate_up, gate_up_scale, down, down_scale):
    codes, scale = ascend.npu_dynamic_quant(x)
    both = ascend.npu_quant_matmul(codes, gate_up.t(), gate_up_scale, output_dtype=torch.int32).float()
    gate, up = (both * gate_up_scale * scale[:, None]).chunk(2, dim=-1)
    hidden = torch.nn.functional.silu(gate) * up
    return (hidden @ down.float().t() * down_scale).to(x.dtype)
""",
        "Do the hidden tokens stay floats between the two products?",
    ),
    (
        "lab10.check_cache",
        "f",
        """
import math

def f(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    numbers = 2 * heads * head_dim * layers
    narrow = numbers + 8 * heads * layers
    gain = 2 * numbers - speedup * (narrow + numbers * bandwidth / unpack)
    tokens = math.ceil(weight_bytes * (speedup - 1) / gain) if gain > 0 else None
    return 2 * numbers / narrow, tokens
""",
        "A scale is a bf16 number.",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    best = None
    for found in itertools.permutations(formats, min(len(parts), len(formats))):
        choice = dict(zip(parts, itertools.cycle(found)))
        taken = sum(parts[p]['weights'] * (formats[q]['bits'] / 8 + (2 / formats[q]['group'] if formats[q]['group'] else 0))
                    for p, q in choice.items())
        spent = sum(parts[p]['cost'][q] for p, q in choice.items())
        if taken <= budget and (best is None or spent < best[0]):
            best = spent, choice
    return best and best[1]
""",
        "another choice costs less",
    ),
    (
        "lab10.check_cache",
        "f",
        """
import math

def f(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    numbers = 2 * heads * head_dim * layers
    narrow = numbers + 4 * heads * layers
    gain = 2 * numbers - speedup * (narrow + numbers * bandwidth / unpack)
    tokens = math.ceil(weight_bytes * speedup / gain) if gain > 0 else None
    return 2 * numbers / narrow, tokens
""",
        "tokens: the value is wrong",
    ),
    (
        "lab11.check_rows",
        "f",
        """
def f(heads, kv_heads, head_dim, world, rank):
    each, more = divmod(kv_heads, world)
    own = list(range(rank * each, (rank + 1) * each)) + ([kv_heads - 1 - rank] if rank < more else [])
    group = heads // kv_heads
    found = [k * group + i for k in own for i in range(group)]
    found += [heads + k for k in own] + [heads + kv_heads + k for k in own]
    return [h * head_dim + i for h in found for i in range(head_dim)]
""",
        "rows: not the ones of this rank",
    ),
    (
        "lab11.check_mlp",
        "f",
        """
import torch

def f(x, residual, up, down, bias, rank, all_reduce):
    return residual + all_reduce(torch.relu(x @ up.T) @ down.T + bias / (rank + 1))
""",
        "wrong values",
    ),
    (
        "lab11.check_mlp",
        "f",
        """
import torch

def f(x, residual, up, down, bias, rank, all_reduce):
    product = torch.relu(x @ up.T) @ down.T
    all_reduce(product)
    return residual + product + bias
""",
        "Each rank's product is a summand. Are the products summed, and is the sum used?",
    ),
    (
        "lab11.check_idle",
        "f",
        """
def f(seconds, groups, passes):
    slowest = max(seconds)
    end = sum(seconds) + (groups * passes - 1) * slowest
    return 1 - groups * passes * sum(seconds) / (len(seconds) * end)
""",
        "A group's next pass needs the token that the last stage has made. Does it begin before?",
    ),
    (
        "lab11.check_balance",
        "f",
        """
def f(layers, head, stages):
    split, left = [], layers
    target = (layers + head) / stages
    for stage in range(stages - 1):
        take = max(1, min(round(target), left - (stages - 1 - stage)))
        split.append(take)
        left -= take
    return split + [left]
""",
        "another split makes it lighter",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best = (0, None)
    for tp in machine['sums']:
        for pp in range(1, machine['devices'] // tp + 1):
            if model['kv_heads'] % tp or pp > model['layers']:
                continue
            replicas = machine['devices'] // (tp * pp)
            room = (machine['memory'] * tp * pp - model['weights']) // model['cache']
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            reads = (left * machine['bandwidth'] * tp - model['weights']) // model['cache']
            served = replicas * min(room, reads)
            best = max(best, (served, (tp, pp, replicas)), key=lambda one: one[0])
    return best[1]
""",
        "another plan serves more requests",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, seated, found, turn = [], {}, [], 0
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append((name, tokens))
            elif name in seated:
                del seated[name]
        while queue and len(seated) < seats:
            name, tokens = queue.pop(0)
            seated[name] = tokens
        found.append(list(seated))
        seated = {name: left - 1 for name, left in seated.items() if left > 1}
        turn += 1
    return found
""",
        "Does cancellation look at the queue?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found = []
    for block in text.split('\\n\\n')[:-1]:
        data = '\\n'.join(line[5:].strip() for line in block.split('\\n') if line.startswith('data:'))
        if data == '[DONE]':
            break
        if data:
            found.append(data)
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        least = loads.index(min(loads))
        home = homes.setdefault(talk, least)
        if loads[home] - loads[least] > slack:
            home = least
        loads[home] += tokens
        found.append(home)
    return found
""",
        "Is its home still the first one?",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):
    def met(one):
        served = [r for r in one['requests'] if r is not None]
        return sum(a <= ttft and b <= tpot for a, b in served) / max(1, len(served))
    good = [one for one in choices if met(one) >= share]
    best = min(good, key=lambda one: (one['replicas'], -met(one)), default=None)
    return best and (best['replicas'], best['router'])
""",
        "Is it left out of the share?",
    ),
    (
        "lab09.check_count",
        "f",
        """
def f(groups, sizes, needed):
    moved = 0
    for i, g in enumerate(groups):
        made = {o['writes'] for o in g}
        read = {n for o in g for n in o['reads']}
        later = {n for h in groups[i + 1:i + 2] for o in h for n in o['reads']}
        moved += sum((sizes[n] for n in read - made)) + sum((sizes[n] for n in made if n in later or n in needed))
    return (len(groups), moved)
""",
        "Is it only the next one?",
    ),
    (
        "lab09.check_count",
        "f",
        """
def f(groups, sizes, needed):
    moved = 0
    for i, g in enumerate(groups):
        made = {o['writes'] for o in g}
        read = {n for o in g for n in o['reads']}
        later = ' '.join((n for h in groups[i + 1:] for o in h for n in o['reads'])) + ' ' + ' '.join(needed)
        moved += sum((sizes[n] for n in read - made)) + sum((sizes[n] for n in made if n in later))
    return (len(groups), moved)
""",
        "Names are compared whole.",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch

def f(x, residual, weight, eps):
    t = x + residual
    w = t.float()
    return ((w * torch.rsqrt((w * w).mean(-1, keepdim=True) + 1e-05) * weight).to(x.dtype), t)
""",
        "Is a number of your own added?",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch

def f(x, residual, weight, eps):
    t = x + residual
    w = t.float()
    return ((w * torch.rsqrt((w * w).mean(-1, keepdim=True).clamp(min=eps)) * weight).to(x.dtype), t)
""",
        "Is it the least that the mean may be?",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if sorted((x['operator'] for x in first)) != sorted((x['operator'] for x in second)):
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n, v in a[k].items() if v != b[k].get(n)]
""",
        "these captures are of two different steps",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [x['operator'] for x in first] != [x['operator'] for x in second]:
        raise ValueError
    g = lambda v: v[0] if isinstance(v, list) else v
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n, v in a[k].items() if g(v) != g(b[k][n])]
""",
        "Is all of it compared?",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [x['operator'] for x in first] != [x['operator'] for x in second]:
        raise ValueError
    g = lambda v: sum(v) if isinstance(v, list) else v
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n, v in a[k].items() if g(v) != g(b[k][n])]
""",
        "Is all of it compared?",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [x['operator'] for x in first] != [x['operator'] for x in second]:
        raise ValueError
    g = lambda v: set(v) if isinstance(v, list) else v
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n, v in a[k].items() if g(v) != g(b[k][n])]
""",
        "Is all of it compared?",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group, *, _=0):
    groups = weight.reshape(len(weight), -1, group)
    low, high = (groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True))
    scale = torch.where(high > low, (high - low) / 15, 1.0)
    offset = (low / scale + 8).round()
    codes = (groups / scale - offset).round().clamp(-8, 7)
    return (codes.to(torch.int8).reshape(weight.shape), scale.squeeze(-1), offset.squeeze(-1))
""",
        "Offset and scale are not rounded.",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group, *, _=0):
    groups = weight.reshape(len(weight), -1, group)
    low, high = (groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True))
    scale = (high - low) / 15
    scale = torch.where(scale > 1e-05, scale, 1.0)
    offset = low / scale + 8
    codes = (groups / scale - offset).round()
    return (codes.to(torch.int8).reshape(weight.shape), scale.squeeze(-1), offset.squeeze(-1))
""",
        "Is a group of small weights taken for such a one?",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group, *, _=0):
    groups = weight.reshape(len(weight), -1, group)
    low, high = (groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True))
    scale = torch.where(torch.isclose(high, low, rtol=0.001, atol=1e-06), 1.0, (high - low) / 15)
    offset = low / scale + 8
    codes = (groups / scale - offset).round()
    return (codes.to(torch.int8).reshape(weight.shape), scale.squeeze(-1), offset.squeeze(-1))
""",
        "Is a group of small weights taken for such a one?",
    ),
    (
        "lab10.check_pack",
        "f",
        """
import numpy as np

def f(codes):
    c = np.array(codes, dtype=np.int64).astype(np.int8).clip(-8, 7)
    n = [int(x) & 15 for x in c]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])]
""",
        "Does it go through a type of 8 bits first?",
    ),
    (
        "lab10.check_pack",
        "f",
        """
def f(codes):
    n = [(7 if c in range(8, 64) else -8 if c in range(-64, -8) else c) & 15 for c in codes]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])]
""",
        "not these",
    ),
    (
        "lab10.check_pack",
        "f",
        """
def f(codes):
    n = [min(max(c, -8), 7) & 15 for c in codes]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])][:6]
""",
        "Is each pair packed once?",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
def f(x, weight, ratio):
    s, w = (x.abs().amax(0), weight.abs().amax(0).clamp(min=1e-05))
    fa = (s / w).sqrt().clamp(min=1e-05)
    return ((s > ratio * s.median()).nonzero().flatten().tolist(), x / fa, weight * fa)
""",
        "x: wrong values",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):

    def nb(w, bits, group):
        return w * bits // 8 + (2 * w // group if group else 0)
    best = None
    for many in itertools.product(formats, repeat=len(parts)):
        c = dict(zip(parts, many))
        if sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items())) <= budget:
            k = sum((parts[n]['cost'][x] for n, x in c.items()))
            if best is None or k < best[0]:
                best = (k, c)
    return best and best[1]
""",
        "Are bytes cut to whole ones?",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    B = {'bf16': 16, 'int8': 8, 'int4': 4, 'int3': 3}

    def nb(w, k):
        g = formats[k]['group']
        return w * B[k] / 8 + (2 * w / g if g else 0)
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    return min((c for c in found if sum((nb(parts[n]['weights'], k) for n, k in c.items())) <= budget), key=lambda c: sum((parts[n]['cost'][k] for n, k in c.items())), default=None)
""",
        "it raised KeyError",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    return min((c for c in found if sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items())) <= int(budget)), key=lambda c: sum((parts[n]['cost'][k] for n, k in c.items())), default=None)
""",
        "Is it rounded down?",
    ),
    (
        "lab10.check_cache",
        "f",
        """
def f(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    n = 2 * heads * head_dim * layers
    wide, narrow = (2 * n, n + 4 * heads * layers)
    g = wide - speedup * (narrow + n * bandwidth / unpack)
    return (wide / narrow, int(weight_bytes * (speedup - 1) / g) + 1 if g > 0 else None)
""",
        "Is one token added?",
    ),
    (
        "lab11.check_idle",
        "f",
        """
def f(seconds, groups, passes):
    seconds = [int(s) or 1 for s in seconds]
    free, token = ([0.0] * len(seconds), [0.0] * groups)
    for _ in range(passes):
        for g in range(groups):
            now = token[g]
            for s, c in enumerate(seconds):
                now = free[s] = max(now, free[s]) + c
            token[g] = now
    return 1 - groups * passes * sum(seconds) / (len(seconds) * free[-1])
""",
        "Are they rounded?",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best = (0, None)
    for tp in (1, 2, 4, 8):
        for pp in range(1, model['layers'] + 1):
            if model['kv_heads'] % tp or tp * pp > machine['devices']:
                continue
            r = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - model['weights']) // (pp * model['cache'])
            reads = (left * machine['bandwidth'] * tp - model['weights']) // model['cache']
            best = max(best, (r * pp * min(room, reads), (tp, pp, r)), key=lambda o: o[0])
    return best[1]
""",
        "it raised KeyError",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, place, found, turn = ([], [None] * seats, [], 0)
    while turn < len(turns) or queue or any(place):
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue = [o for o in queue if o[0] != name]
                place = [None if o and o[0] == name else o for o in place]
        for i in range(seats):
            if place[i] is None and queue:
                place[i] = queue.pop(0)
        found.append([o[0] for o in place if o])
        for o in place:
            if o:
                o[1] -= 1
        place = [o if o and o[1] > 0 else None for o in place]
        turn += 1
    return found
""",
        "Does it get the place of the one that left?",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, place, found, turn = ([], [], [], 0)
    left = {}
    while turn < len(turns) or queue or place:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append(name)
                left[name] = tokens
            else:
                queue = [o for o in queue if o != name]
                place = [o for o in place if o != name]
        while queue and len(place) < seats:
            place.append(queue.pop(0))
        found.append([n for n in place if n])
        for n in place:
            left[n] -= 1
        place = [n for n in place if left[n] > 0]
        turn += 1
    return found
""",
        "Is 0 taken for none?",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, place, found, turn = ([], [], [], 0)
    while turn < len(turns) or queue or place:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue = [o for o in queue if o[0] != name]
                place = [o for o in place if o[0] != name]
        while queue and len(place) < seats:
            place.append(queue.pop(0))
        found.append(sorted((o[0] for o in place)))
        place = [[n, l - 1] for n, l in place if l > 1]
        turn += 1
    return found
""",
        "Are they sorted?",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, place, found, turn = ([], [], [], 0)
    while turn < len(turns) or queue or place:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue = [o for o in queue if o[0] != name]
                place = [o for o in place if o[0] != name]
        queue.sort()
        while queue and len(place) < seats:
            place.append(queue.pop(0))
        found.append([o[0] for o in place])
        place = [[n, l - 1] for n, l in place if l > 1]
        turn += 1
    return found
""",
        "Is it the one with the smallest name?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode()
    found, data = ([], [])
    lines = text.splitlines()
    for line in lines:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
            if found[-1] == '[DONE]':
                return found[:-1]
    return found
""",
        "as `splitlines` does?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = ([], [])
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            d = line[5:].removeprefix(' ')
            if d == '[DONE]':
                return found
            data.append(d)
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = ([], [])
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
            if found[-1].strip() == '[DONE]':
                return found[:-1]
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = ([], [])
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
            if found[-1].endswith('[DONE]'):
                return found[:-1]
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = ([], [])
    for line in text.split('\\n')[:-1]:
        if line.startswith('data'):
            data.append(line.partition(':')[2].removeprefix(' '))
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
            if found[-1] == '[DONE]':
                return found[:-1]
    return found
""",
        "Is another line taken for data?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = ([], [])
    for line in text.split('\\n')[:-1]:
        if 'data:' in line:
            data.append(line.split('data:', 1)[1].removeprefix(' '))
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
            if found[-1] == '[DONE]':
                return found[:-1]
    return found
""",
        "Is another line taken for data?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = ([], [])
    for line in text.split('\\n')[:-1]:
        if line.lstrip().startswith('data:'):
            data.append(line.lstrip()[5:].removeprefix(' '))
        elif not line.strip() and data:
            found.append('\\n'.join(data))
            data = []
            if found[-1] == '[DONE]':
                return found[:-1]
    return found
""",
        "Is another line taken for data?",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = ([0] * engines, {}, [])
    for t, n in requests:
        h = homes.get(t)
        if not h or loads[h] > min(loads) + slack:
            h = loads.index(min(loads))
        homes[t] = h
        loads[h] += n
        found.append(h)
    return found
""",
        "Is it taken for none?",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = ([0] * engines, {}, [])
    for t, n in requests:
        h = homes.get(t) if t else None
        if h is None or loads[h] > min(loads) + slack:
            h = loads.index(min(loads))
        homes[t] = h
        loads[h] += n
        found.append(h)
    return found
""",
        "Is that taken for none?",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = ([0] * engines, {}, [])
    for t, n in requests:
        t = t.lower().strip()
        h = homes.get(t)
        if h is None or loads[h] > min(loads) + slack:
            h = loads.index(min(loads))
        homes[t] = h
        loads[h] += n
        found.append(h)
    return found
""",
        "Are they changed first?",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = ([0] * engines, {}, [])
    for t, n in requests:
        h = homes.get(t)
        if h is None or loads[h] > min(loads) + slack:
            h = loads.index(min(loads))
        homes[t] = h
        loads[h] += n
        found.append(h)
        if len(homes) > 8:
            homes.pop(next(iter(homes)))
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):

    def met(c):
        return round(sum((o is not None and o[0] <= ttft and (o[1] <= tpot) for o in c['requests'])) / len(c['requests']), 2)
    good = [c for c in choices if met(c) >= share]
    if not good:
        return None
    b = min(good, key=lambda c: (c['replicas'], -met(c)))
    return (b['replicas'], b['router'])
""",
        "2 of 3 are less than 0.67.",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):

    def n(c):
        return sum((o is not None and o[0] <= ttft and (o[1] <= tpot) for o in c['requests']))
    good = [c for c in choices if n(c) / len(c['requests']) >= share]
    if not good:
        return None
    b = min(good, key=lambda c: (c['replicas'], -n(c)))
    return (b['replicas'], b['router'])
""",
        "Is a number compared where the share counts?",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):

    def met(c):
        return sum((bool(o and o[0]) and o[0] <= ttft and (o[1] <= tpot) for o in c['requests'])) / len(c['requests'])
    good = [c for c in choices if met(c) >= share]
    if not good:
        return None
    b = min(good, key=lambda c: (c['replicas'], -met(c)))
    return (b['replicas'], b['router'])
""",
        "A time of 0 is a time",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):

    def met(c):
        return sum((bool(o and o[1]) and o[0] <= ttft and (o[1] <= tpot) for o in c['requests'])) / len(c['requests'])
    good = [c for c in choices if met(c) >= share]
    if not good:
        return None
    b = min(good, key=lambda c: (c['replicas'], -met(c)))
    return (b['replicas'], b['router'])
""",
        "A time of 0 is a time",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch
def f(weight, group):
    groups = weight.reshape(len(weight), -1, group)
    low, high = (groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True))
    scale = torch.where(high > low, (high - low) / 16, 1.0)
    offset = low / scale + 8
    codes = (groups / scale - offset).round()
    return (codes.to(torch.int8).reshape(weight.shape), scale.squeeze(-1), offset.squeeze(-1))
""",
        "Codes go from -8 to 7, and one lies outside.",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    found = []
    for piece in pieces:
        for line in piece.decode(errors='replace').split('\\n'):
            if line.startswith('data: '):
                found.append(line[6:])
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    homes = {}
    for talk, _ in requests:
        homes.setdefault(talk, len(homes) % engines)
    return [homes[talk] for talk, _ in requests]
""",
        "Look at request 1, counted from 0: the loads before it are",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    homes = {}
    for i, (talk, _) in enumerate(requests):
        homes.setdefault(talk, i % engines)
    return [homes[talk] for talk, _ in requests]
""",
        "Is there a bound at all?",
    ),
    (
        "lab01.check_kv_bytes",
        "f",
        """
import sys
def f(**case):
    fr=sys._getframe(1)
    while fr:
        if 'one' in fr.f_locals and hasattr(fr.f_locals['one'],'right'): return fr.f_locals['one'].right[0]
        fr=fr.f_back
""",
        "the answer reads what its callers know, with _getframe",
    ),
    (
        "lab01.check_kv_bytes",
        "f",
        """
import gc
def f(**case):
    fam=next(o for o in gc.get_objects() if type(o).__name__=='Family' and 'shape' in o.right.__code__.co_varnames[:1] and o.right.__name__=='kv_bytes')
    return fam.right(**case)
""",
        "the answer reads what its callers know, with get_objects",
    ),
    (
        "lab01.check_int4_bytes",
        "f",
        """
def f(num_weights,group_size,scale_bits,zero_point_bits):
    g=-(-num_weights//group_size)
    return num_weights/2+g*(scale_bits//8)+g*zero_point_bits/8
""",
        "a scale need not fill a byte",
    ),
    (
        "lab01.check_int4_bytes",
        "f",
        """
import math
def f(num_weights,group_size,scale_bits,zero_point_bits):
    g=math.ceil(num_weights*(1/group_size))
    return num_weights/2+g*(scale_bits+zero_point_bits)/8
""",
        "Is the number of groups found by multiplying?",
    ),
    (
        "lab01.check_crossover",
        "f",
        """
def f(shape,seq_len,weight_size,element_size):
    w=shape.num_params*weight_size
    one=2*shape.num_layers*shape.num_kv_heads*shape.head_dim*seq_len*element_size
    for n in range(1,1001):
        if n*one>w: return n
""",
        "there is no value yet",
    ),
    (
        "lab01.check_hybrid_bytes",
        "f",
        """
def f(layers,seq_len,element_size):
    t=0
    for l in layers:
        k=l['kind']
        if k=='state': t+=l['state_elements']*4
        elif k=='latent': t+=seq_len*(l['latent_dim']+l['rotated_dim'])*element_size
        else:
            n=seq_len if k=='full' else min(seq_len,max(1,l['window']-1))
            t+=2*n*l['kv_heads']*l['head_dim']*element_size
    return t
""",
        "A window of 1 is a token's own place.",
    ),
    (
        "lab01.check_int4_bytes",
        "f",
        """
def f(num_weights,group_size,scale_bits,zero_point_bits):
    g=-(-num_weights//group_size)
    return num_weights/2+g*(16+zero_point_bits)/8
""",
        "Are all four numbers used",
    ),
    (
        "lab01.check_deployment",
        "f",
        """
from helpers.estimates import GiB
B={"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
def f(shape,seq_len,requests,devices):
    c=requests*seq_len*2*shape.num_layers*shape.num_kv_heads*shape.head_dim
    for n,g,_ in sorted(devices,key=lambda d:d[2]):
        for t,s in B.items():
            if shape.num_params*s+c*s <= .9*g*GiB: return n,t
""",
        "The cache takes two bytes per element, whatever the weights take.",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine,prompt,max_new_tokens):
    t=[engine.start(prompt)]
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
    n=max_new_tokens-1
    return {'ttft':engine._prefill*len(prompt)/100,'tpot':engine._decode*(1+engine._growth*(n-1)/2) if n else 0.0,'tokens':t}
""",
        "the answer reads how the engine is made",
    ),
    (
        "lab02.check_other_device",
        "f",
        """
from helpers.estimates import ACCELERATORS
def f(shape,batch_size,context,device):
    d=ACCELERATORS.get(device.name,device)
    if d.bandwidth.value is None: return None
    pt=2*shape.num_layers*shape.num_kv_heads*shape.head_dim
    nb=2*shape.num_params+2*batch_size*context*pt
    return max(nb/d.bandwidth.value, 2*shape.num_params*batch_size/d.peak('fp16').value)
""",
        "Is the table's row of that name taken?",
    ),
    (
        "lab02.check_other_device",
        "f",
        """
def f(shape,batch_size,context,device):
    if device.bandwidth.status!='published': return None
    pt=2*shape.num_layers*shape.num_kv_heads*shape.head_dim
    nb=2*shape.num_params+2*batch_size*context*pt
    return max(nb/device.bandwidth.value, 2*shape.num_params*batch_size/device.peak('fp16').value)
""",
        "None was returned, and the bandwidth is known",
    ),
    (
        "lab02.check_other_device",
        "f",
        """
def f(shape,batch_size,context,device):
    if device.bandwidth.value is None: return None
    pt=2*shape.num_layers*shape.num_kv_heads*shape.head_dim
    b=device.bandwidth.value
    return max(2*shape.num_params/b,2*shape.num_params*batch_size/device.peak('fp16').value)+2*batch_size*context*pt/b
""",
        "taken apart?",
    ),
    (
        "lab02.check_speedup",
        "f",
        """
def f(rows,wall,names,factor):
    own=sum(r[3] for r in rows if r[0] in names and r[1]>1)
    return wall/(wall-own+own/factor)
""",
        "An operator that is called once takes its time, too.",
    ),
    (
        "lab02.check_speedup",
        "f",
        """
def f(rows,wall,names,factor):
    own=sum(r[3] for r in rows if any(n in r[0] for n in names))
    return wall/(wall-own+own/factor)
""",
        "Is a part of a name enough?",
    ),
    (
        "lab02.check_speedup",
        "f",
        """
def f(rows,wall,names,factor):
    s=1.
    for n in names:
        own=sum(r[3] for r in rows if r[0]==n)
        s*=wall/(wall-own+own/factor)
    return s
""",
        "Are their speedups multiplied?",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine,prompt,max_new_tokens):
    engine.next(engine.start(prompt)); engine.wait()
    b=engine.clock(); t=[engine.start(prompt)]; engine.wait(); m=engine.clock()
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
    engine.wait(); e=engine.clock()
    return {'ttft':m-b,'tpot':(e-m)/(len(t)-1) if len(t)>1 else None,'tokens':t}
""",
        "tpot: expected 0.0, got None",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine,prompt,max_new_tokens):
    engine.next(engine.start([1]))
    b=engine.clock(); t=[engine.start(prompt)]; engine.wait(); m=engine.clock()
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
    engine.wait(); e=engine.clock()
    return {'ttft':m-b,'tpot':(e-m)/max(1,len(t)-1),'tokens':t}
""",
        "Was the warm-up done when the clock was first read?",
    ),
    (
        "lab03.check_cache",
        "f",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        e=self.length+len(k)
        if e>=self.k.shape[1]: raise ValueError('full')
        self.k[l,self.length:e]=k; self.v[l,self.length:e]=v
        if l==len(self.k)-1: self.length=e
        return self.k[l,:e],self.v[l,:e]
""",
        "it refused tokens for which there is room",
    ),
    (
        "lab03.check_cache",
        "f",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        e=self.length+len(k); cap=self.k.shape[1]
        self.k[l,self.length:e]=k[:cap-self.length]; self.v[l,self.length:e]=v[:cap-self.length]
        if e>cap: raise ValueError('full')
        if l==len(self.k)-1: self.length=e
        return self.k[l,:e],self.v[l,:e]
""",
        "had written into `k` before",
    ),
    (
        "lab03.check_cache",
        "f",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
        self.o=torch.zeros(2,capacity,kv_heads,head_dim)
    def update(self,l,k,v):
        e=self.length+len(k)
        if e>self.k.shape[1]: raise ValueError('full')
        self.k[l,self.length:e]=k; self.v[l,self.length:e]=v
        self.o[0,:e]=self.k[l,:e]; self.o[1,:e]=self.v[l,:e]
        if l==len(self.k)-1: self.length=e
        return self.o[0,:e],self.o[1,:e]
""",
        "Are results copied into one buffer that all layers share?",
    ),
    (
        "lab03.check_cache",
        "f",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim,dtype=torch.half); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        e=self.length+len(k)
        if e>self.k.shape[1]: raise ValueError('full')
        self.k[l,self.length:e]=k; self.v[l,self.length:e]=v
        if l==len(self.k)-1: self.length=e
        return self.k[l,:e].float(),self.v[l,:e].float()
""",
        "In which type are keys and values kept?",
    ),
    (
        "lab03.check_mask",
        "f",
        """
import torch
def f(lengths,new,capacity):
    p=torch.tensor(lengths,dtype=torch.int8)[:,None]+torch.arange(new,dtype=torch.int8)
    return torch.arange(capacity,dtype=torch.int8)<=p[:,:,None]
""",
        "it raised RuntimeError",
    ),
    (
        "lab03.check_mask",
        "f",
        """
import torch
def f(lengths,new,capacity):
    p=torch.tensor(lengths).bfloat16()[:,None]+torch.arange(new).bfloat16()
    return torch.arange(capacity)<=p[:,:,None]
""",
        "Positions may be large.",
    ),
    (
        "lab03.check_mask",
        "f",
        """
import torch
def f(lengths,new,capacity):
    p=(torch.tensor(lengths).half()[:,None]+torch.arange(new).half())
    return torch.arange(capacity).half()<=p[:,:,None]
""",
        "Positions may be large.",
    ),
    (
        "lab03.check_times",
        "f",
        """
def f(num_params,kv_bytes,prompt,new_tokens,peak,bandwidth):
    o=lambda t,c: max(2*num_params*t/peak,(2*num_params+kv_bytes*c)/bandwidth)
    a=sum(o(prompt+i,0) for i in range(new_tokens)); return a, min(a,o(prompt,0)+sum(o(1,prompt+i) for i in range(new_tokens-1)))
""",
        "A cache may lose.",
    ),
    (
        "lab03.check_times",
        "f",
        """
def f(num_params,kv_bytes,prompt,new_tokens,peak,bandwidth):
    r=peak/bandwidth
    o=lambda t,c: 2*num_params*t/peak if t>r else (2*num_params+kv_bytes*c)/bandwidth
    return sum(o(prompt+i,0) for i in range(new_tokens)), o(prompt,0)+sum(o(1,prompt+i) for i in range(new_tokens-1))
""",
        "Is the ridge of the weights alone taken?",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes,wanted):
    left=dict(nodes); gone=[]; freed=0
    while freed<wanted:
        par={n['parent'] for n in left.values()}
        may=[k for k in left if k not in par and not left[k]['pins']]
        if not may: break
        k=min(may,key=lambda k:left[k]['last_use'] or 1e9); freed+=left.pop(k)['pages']; gone.append(k)
    return gone
""",
        "A time of 0 is a time as any other.",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes,wanted):
    left=dict(nodes); gone=[]; freed=0
    while freed<wanted:
        par={n['parent'] for n in left.values()}
        may=[k for k in left if k not in par and not left[k]['pins']]
        if not may: break
        k=min(may,key=lambda k:int(left[k]['last_use'])); freed+=left.pop(k)['pages']; gone.append(k)
    return gone
""",
        "A time may have a fraction. Is it cut?",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes,wanted):
    left=dict(nodes); gone=[]; freed=0
    while freed<wanted:
        par={n['parent'] for n in left.values()}
        best=None; t=1000
        for k in left:
            if k not in par and not left[k]['pins'] and left[k]['last_use']<t: best=k; t=left[k]['last_use']
        if best is None: break
        freed+=left.pop(best)['pages']; gone.append(best)
    return gone
""",
        "More is wanted, and more may go.",
    ),
    (
        "lab04.check_evict",
        "f",
        """
def f(nodes,wanted):
    left=dict(nodes); gone=[]; freed=0
    while freed<wanted:
        par={n['parent'] for n in left.values()}
        may=[k for k in left if k not in par and not left[k]['pins']]
        if not may: break
        k=min(may,key=lambda k:str(left[k]['last_use'])); freed+=left.pop(k)['pages']; gone.append(k)
    return gone
""",
        "Are they compared as text?",
    ),
    (
        "lab04.check_secret",
        "f",
        """
def f(ask,known,alphabet,length):
    keys=ask._server._stored
    longest=max(keys,key=lambda k:str(k).count('('))
    out=[]
    while longest is not None: out.append(longest[1][0]); longest=longest[0]
    out=out[::-1]
    return out[len(known):len(known)+length]
""",
        "the answer reads the server itself",
    ),
    (
        "lab04.check_key",
        "f",
        """
import zlib
def f(before,tokens,salt): return zlib.crc32(repr((before,tokens,salt)).encode())
""",
        "is it a checksum?",
    ),
    (
        "lab04.check_key",
        "f",
        """
import hashlib
def f(before,tokens,salt): return hashlib.sha256(repr((before,tokens,salt)).encode()).hexdigest()[:8]
""",
        "Is the key cut",
    ),
    (
        "lab04.check_key",
        "f",
        """
import unicodedata
def f(before,tokens,salt): return (unicodedata.normalize('NFKC',salt) if before is None else before, tokens)
""",
        "Are they changed first?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return (salt[:64] if before is None else before, tokens)
""",
        "Does all of the salt go into the key?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return (salt.encode('ascii','ignore') if before is None else before, tokens)
""",
        "Are they changed first?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return (salt if before is None else before, tuple(t%65536 for t in tokens))
""",
        "Do large numbers go into the key as they are?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return (salt if before is None else before, tuple(t&0x7fff for t in tokens))
""",
        "Do large numbers go into the key as they are?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt):
    h=0
    for t in tokens: h=h*50257+t
    return (salt if before is None else before, len(tokens), h)
""",
        "Keep the tokens apart.",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return ((int(salt) if salt.isdigit() else salt) if before is None else before, tokens)
""",
        "Are they changed first?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return (salt if before is None else before, tokens[:8])
""",
        "A page may have any number of tokens.",
    ),
    (
        "lab04.check_secret",
        "f",
        """
import itertools
def f(ask,known,alphabet,length):
    o=max(alphabet)+1
    return list(min(itertools.product(alphabet,repeat=length),key=lambda s:ask([*known,*s,o])))
""",
        "Each token can be found by itself",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt): return (salt.rstrip() if before is None else before, tokens)
""",
        "Are they changed first?",
    ),
    (
        "lab04.check_key",
        "f",
        """
def f(before,tokens,salt):
    k=(before,tokens,salt)
    d=0;b=before
    while isinstance(b,tuple) and b is not None: b=b[0]; d+=1
    return k if d<6 else (before[1],tokens,salt)
""",
        "however long the text is?",
    ),
    (
        "lab07.check_update",
        "f",
        """
import torch
def f(maximum,total,weighted,scores,values):
    scores,values=scores.float(),values.float()
    new=torch.maximum(maximum,scores.amax(1,keepdim=True)); sh=torch.where(new==float('-inf'),0.,new)
    w=(scores-sh).exp(); fac=(maximum-sh).exp()
    return new,total*fac+w.sum(1,keepdim=True)+1e-9,weighted*fac+w@values
""",
        "Is something small added to it?",
    ),
    (
        "lab07.check_tiles",
        "f",
        """
def f(q_len,kv_len,query_block,key_block):
    out=[]; o=kv_len-q_len
    for q in range(0,q_len,query_block):
        for k in range(0,kv_len,key_block):
            see=[j<=i+o for i in range(q,min(q+query_block,q_len)) for j in range(k,min(k+key_block,kv_len))]
            if any(see): out.append((q//query_block,k//key_block,not all(see)))
    return out
""",
        "Are these numbers of blocks?",
    ),
    (
        "lab07.check_tiles",
        "f",
        """
def f(q_len,kv_len,query_block,key_block):
    out=[]; o=kv_len-q_len
    for q in range(0,q_len,query_block):
        for k in range(0,kv_len,query_block):
            see=[j<=i+o for i in range(q,min(q+query_block,q_len)) for j in range(k,min(k+query_block,kv_len))]
            if any(see): out.append((q,k,not all(see)))
    return out
""",
        "Is one size taken for both?",
    ),
    (
        "lab07.check_tiles",
        "f",
        """
def f(q_len,kv_len,query_block,key_block):
    out=[]
    for q in range(0,q_len,query_block):
        first=max(0,q+kv_len-q_len); last=min(q+query_block,q_len)-1+kv_len-q_len
        for k in range(0,min(kv_len,last+1),key_block):
            out.append((q,k,min(k+key_block,kv_len)-1>first))
    return out
""",
        "the first queries see nothing.",
    ),
    (
        "lab07.check_update",
        "f",
        """
import torch
def f(maximum,total,weighted,scores,values):
    sf=scores.float()
    new=torch.maximum(maximum,sf.amax(1,keepdim=True)); sh=torch.where(new==float('-inf'),0.,new)
    w=(sf-sh).exp(); fac=(maximum-sh).exp()
    return new,total*fac+w.sum(1,keepdim=True),weighted*fac+(w.to(values.dtype)@values).float()
""",
        "Is something computed in half precision",
    ),
    (
        "lab07.check_merge",
        "f",
        """
import torch
def f(out_a,lse_a,out_b,lse_b):
    out_a,lse_a,out_b,lse_b=(t.float().clamp(min=-1e30) for t in (out_a,lse_a,out_b,lse_b))
    l=torch.logaddexp(lse_a,lse_b)
    return (lse_a-l).exp()[:,None]*out_a+(lse_b-l).exp()[:,None]*out_b,l
""",
        "Is another number put in its place?",
    ),
    (
        "lab07.check_traffic",
        "f",
        """
def f(q_len,kv_len,head_dim,query_block,element_bytes):
    b=-(-q_len//query_block)
    return (q_len+2*b*kv_len)*head_dim*element_bytes+q_len*head_dim*4
""",
        "Are they fp32 here?",
    ),
    (
        "lab07.check_traffic",
        "f",
        """
import numpy as np
def f(q_len,kv_len,head_dim,query_block,element_bytes):
    b=np.int32(-(-q_len//query_block))
    return (np.int32(2*q_len)+np.int32(2)*b*np.int32(kv_len))*np.int32(head_dim)*np.int32(element_bytes)
""",
        "A count below 0",
    ),
    (
        "lab07.check_update",
        "f",
        """
import torch
def f(maximum,total,weighted,scores,values):
    scores,values=scores.float(),values.float()
    new=torch.maximum(maximum,scores.amax()); sh=torch.where(new==float('-inf'),0.,new)
    w=(scores-sh).exp(); fac=(maximum-sh).exp()
    return new,total*fac+w.sum(1,keepdim=True),weighted*fac+w@values
""",
        "of each query by itself?",
    ),
    (
        "lab07.check_merge",
        "f",
        """
import torch
def f(out_a,lse_a,out_b,lse_b):
    out_a,lse_a,out_b,lse_b=(t.float() for t in (out_a,lse_a,out_b,lse_b))
    m=torch.maximum(lse_a,lse_b).amax(); m=m if m>float('-inf') else torch.tensor(0.)
    a,b=(lse_a-m).exp(),(lse_b-m).exp(); t=a+b
    return torch.nan_to_num((a/t)[:,None]*out_a+(b/t)[:,None]*out_b), m+t.log()
""",
        "Has every query an lse of its own to take off?",
    ),
    (
        "lab01.check_deployment",
        "f",
        """
from helpers.estimates import GiB
B={"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
def f(shape,seq_len,requests,devices):
    c=requests*seq_len*4*shape.num_layers*shape.num_kv_heads*shape.head_dim
    for n,g,_ in sorted(devices,key=lambda d:int(d[2])):
        for t,s in B.items():
            if shape.num_params*s+c <= .9*g*GiB: return n,t
""",
        "Is a part of a price cut off?",
    ),
    (
        "lab01.check_deployment",
        "f",
        """
from helpers.estimates import GiB
B={"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
def f(shape,seq_len,requests,devices):
    c=requests*seq_len*4*shape.num_layers*shape.num_kv_heads*shape.head_dim
    best,price=None,1000
    for n,g,p in devices:
        for t,s in B.items():
            if shape.num_params*s+c <= .9*g*GiB and p<price: best,price=(n,t),p
    return best
""",
        "Were all devices and all types tried?",
    ),
    (
        "lab01.check_hybrid_bytes",
        "f",
        """
def f(layers,seq_len,element_size):
    t=0
    for l in layers:
        k=l['kind']
        if k=='state': t+=l['state_elements']*max(4,element_size)
        elif k=='latent': t+=seq_len*(l['latent_dim']+l['rotated_dim'])*element_size
        else:
            n=seq_len if k=='full' else min(seq_len,l['window']-1)
            t+=2*n*l['kv_heads']*l['head_dim']*element_size
    return t
""",
        "the value is wrong",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine,prompt,max_new_tokens):
    engine.next(engine.start(prompt)); engine.wait()
    b=engine.calendar(); t=[engine.start(prompt)]; engine.wait(); e=engine.calendar(); m=engine.clock()
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
    engine.wait()
    return {'ttft':e-b,'tpot':(engine.clock()-m)/max(1,len(t)-1),'tokens':t}
""",
        "One of the engine's clocks can be set back.",
    ),
    (
        "lab02.check_profiler",
        "f",
        """
def f(engine,prompt,max_new_tokens):
    engine.next(engine.start(prompt)); engine.wait()
    b=engine.clock(); t=[engine.start(prompt)]; engine.wait(); m=engine.clock(); c=engine.calendar()
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
    engine.wait()
    return {'ttft':m-b,'tpot':(engine.calendar()-c)/max(1,len(t)-1),'tokens':t}
""",
        "One of the engine's clocks can be set back.",
    ),
    (
        "lab03.check_cache",
        "f",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        e=self.length+len(k)
        if e>self.k.shape[1] or self.length>=self.k.shape[1]: raise ValueError('full')
        self.k[l,self.length:e]=k; self.v[l,self.length:e]=v
        if l==len(self.k)-1: self.length=e
        return self.k[l,:e],self.v[l,:e]
""",
        "A pass of no tokens needs no room.",
    ),
    (
        "lab03.check_cache",
        "f",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        e=self.length+len(k)
        if e==self.k.shape[1]+1: raise ValueError('full')
        self.k[l,self.length:e]=k; self.v[l,self.length:e]=v
        if l==len(self.k)-1: self.length=e
        return self.k[l,:e],self.v[l,:e]
""",
        "too many tokens",
    ),
    (
        "lab04.check_match",
        "f",
        """
def f(prompt,stored,page_size):
    h=lambda t: sum((i+1)*x for i,x in enumerate(t))
    best=0
    for t in stored:
        n=0
        while n+page_size<len(prompt) and n+page_size<=len(t) and h(prompt[n:n+page_size])==h(t[n:n+page_size]): n+=page_size
        best=max(best,n)
    return best
""",
        "the value is wrong",
    ),
    (
        "lab01.check_deployment",
        "f",
        """
from helpers.estimates import GiB
B={"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
def f(shape,seq_len,requests,devices):
    c=requests*seq_len*4*shape.num_layers*shape.num_kv_heads*shape.head_dim
    for n,g,_ in sorted(devices,key=lambda d:d[2])[:3]:
        for t,s in B.items():
            if shape.num_params*s+c <= .9*g*GiB: return n,t
""",
        "Were all devices and all types tried?",
    ),
    (
        "lab05.check_padding",
        "f",
        """
def f(prompts,answers,batch_size):
    w=0
    for i in range(0,len(prompts),batch_size):
        p,a=prompts[i:i+batch_size],answers[i:i+batch_size]; w+=len(p)*(max(x+y for x,y in zip(p,a))-1)-sum(p)-sum(a)+len(p)
    return w
""",
        "Is the longest whole text taken?",
    ),
    (
        "lab05.check_chunk",
        "f",
        """
def f(num_params,kv_bytes,decoding,context,target,peak,bandwidth):
    if (2*num_params+kv_bytes*context*decoding)/bandwidth>target: return 0
    c=max(0,int(target*peak/(2*num_params))-decoding)
    return 1<<c.bit_length()-1 if c else 0
""",
        "Are only powers of two taken",
    ),
    (
        "lab05.check_chunk",
        "f",
        """
def f(num_params,kv_bytes,decoding,context,target,peak,bandwidth):
    if (2*num_params+kv_bytes*context*decoding)/bandwidth>target: return 0
    return max(1,int(target*peak/(2*num_params))-decoding)
""",
        "Is it at least 1?",
    ),
    (
        "lab06.check_append",
        "f",
        """
def f(table,length,new,page_size,free):
    n=-(-(length+new)//page_size)- -(-length//page_size)
    if n>len(free): raise ValueError('x')
    return table+free[:n]
""",
        "Are pages counted from the length alone?",
    ),
    (
        "lab06.check_append",
        "f",
        """
def f(table,length,new,page_size,free):
    n=max(0,-(-(length+new)//page_size)-len(table))
    if n>=len(free) and n: raise ValueError('x')
    return table+free[:n]
""",
        "Are more asked for?",
    ),
    (
        "lab06.check_gather",
        "f",
        """
def f(cache,table,length): return cache[table].transpose(1,2).flatten(0,1)[:length] if cache.shape[1]==cache.shape[2] else cache[table].flatten(0,1)[:length]
""",
        "wrong values, first those of token",
    ),
    (
        "lab08.check_passes",
        "f",
        """
import math
def f(request,ended,budget):
    s=[min(e['answer'],request['cap']) for e in ended if e['client']==request['client']]
    a=sum(s)/len(s) if s else request['cap']
    return math.ceil(request['prompt']/budget)+a-1
""",
        "Are answers cut first?",
    ),
    (
        "lab08.check_passes",
        "f",
        """
import math
def f(request,ended,budget):
    s=[e['answer'] for e in ended if e['client'].startswith(request['client'])]
    a=min(sum(s)/len(s),request['cap']) if s else request['cap']
    return math.ceil(request['prompt']/budget)+a-1
""",
        "A client is the one of that very name.",
    ),
    (
        "lab08.check_passes",
        "f",
        """
import math
def f(request,ended,budget):
    s=[e['answer'] for e in ended if e['client']==request['client'] and e['cap']==request['cap']]
    a=min(sum(s)/len(s),request['cap']) if s else request['cap']
    return math.ceil(request['prompt']/budget)+a-1
""",
        "Are some left out?",
    ),
    (
        "lab08.check_first",
        "f",
        """
def f(waiting,now,ageing): return min(waiting,key=lambda j:(int(j['arrived'])+ageing*j['priority'],j['arrived']))['name']
""",
        "Are moments rounded?",
    ),
    (
        "lab11.check_rows",
        "f",
        """
def f(heads, kv_heads, head_dim, world, rank):
    each, more = divmod(kv_heads, world)
    first = rank * each + min(rank, more)
    own = range(first, first + each + (rank < more))
    group = heads // kv_heads
    found = [*range(own.start * group, own.stop * group), *(heads + i for i in own), *(heads + kv_heads + i for i in own)]
    import numpy as np
    return np.array([head * head_dim + i for head in found for i in range(head_dim)]).astype(np.uint8)
""",
        "not the ones of this rank",
    ),
    (
        "lab11.check_rows",
        "f",
        """
def f(heads, kv_heads, head_dim, world, rank):
    each, more = divmod(kv_heads, world)
    first = rank * each + min(rank, more)
    own = range(first, first + each + (rank < more))
    group = heads // kv_heads
    found = [*range(own.start * group, own.stop * group), *(heads + i for i in own), *(heads + kv_heads + i for i in own)]
    import numpy as np
    return np.array([head * head_dim + i for head in found for i in range(head_dim)]).astype(np.int16)
""",
        "not the ones of this rank",
    ),
    (
        "lab11.check_rows",
        "f",
        """
def f(heads, kv_heads, head_dim, world, rank):
    head_dim = min(head_dim, 64)
    each, more = divmod(kv_heads, world)
    first = rank * each + min(rank, more)
    own = range(first, first + each + (rank < more))
    group = heads // kv_heads
    found = [*range(own.start * group, own.stop * group), *(heads + i for i in own), *(heads + kv_heads + i for i in own)]
    return [head * head_dim + i for head in found for i in range(head_dim)]
""",
        "not the ones of this rank",
    ),
    (
        "lab11.check_rows",
        "f",
        """
def f(heads, kv_heads, head_dim, world, rank):
    world = min(world, 8)
    each, more = divmod(kv_heads, world)
    first = rank * each + min(rank, more)
    own = range(first, first + each + (rank < more))
    group = heads // kv_heads
    found = [*range(own.start * group, own.stop * group), *(heads + i for i in own), *(heads + kv_heads + i for i in own)]
    return [head * head_dim + i for head in found for i in range(head_dim)]
""",
        "not the ones of this rank",
    ),
    (
        "lab11.check_mlp",
        "f",
        """
import torch
def f(x, residual, up, down, bias, rank, all_reduce):
    product = (x @ up.T).clamp(0, 6) @ down.T
    return residual + all_reduce(product) + bias
""",
        "wrong values, the same on all ranks",
    ),
    (
        "lab11.check_mlp",
        "f",
        """
import torch
def f(x, residual, up, down, bias, rank, all_reduce):
    product = torch.relu(x @ up.T) @ down.T
    return residual + all_reduce(product if rank < 4 else product * 0) + bias
""",
        "wrong values, the same on all ranks",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best, weights, cache = (0, None), model['weights'], model['cache']
    for tp in machine['sums']:
        if tp > model['kv_heads']:
            continue
        for pp in range(1, model['layers'] + 1):
            replicas = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - weights) // (pp * cache)
            reads = (left * machine['bandwidth'] * tp - weights) // cache
            served = replicas * pp * min(room, reads)
            if served > best[0]:
                best = (served, (tp, pp, replicas))
    return best[1]
""",
        "devices do not share",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best, weights, cache = (0, None), model['weights'], model['cache']
    for tp in machine['sums']:
        if model['kv_heads'] % tp:
            break
        for pp in range(1, model['layers'] + 1):
            replicas = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - weights) // (pp * cache)
            reads = (left * machine['bandwidth'] * tp - weights) // cache
            served = replicas * pp * min(room, reads)
            if served > best[0]:
                best = (served, (tp, pp, replicas))
    return best[1]
""",
        "another plan serves",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best, weights, cache = (0, None), model['weights'], model['cache']
    for tp in (1, 2, 3, 4, 6, 8):
        if tp not in machine['sums']:
            continue
        if model['kv_heads'] % tp:
            continue
        for pp in range(1, model['layers'] + 1):
            replicas = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - weights) // (pp * cache)
            reads = (left * machine['bandwidth'] * tp - weights) // cache
            served = replicas * pp * min(room, reads)
            if served > best[0]:
                best = (served, (tp, pp, replicas))
    return best[1]
""",
        "another plan serves",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best, weights, cache = (0, None), model['weights'], model['cache']
    for tp in machine['sums']:
        if model['kv_heads'] % tp:
            continue
        for pp in range(1, min(model['layers'], 8) + 1):
            replicas = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - weights) // (pp * cache)
            reads = (left * machine['bandwidth'] * tp - weights) // cache
            served = replicas * pp * min(room, reads)
            if served > best[0]:
                best = (served, (tp, pp, replicas))
    return best[1]
""",
        "another plan serves",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best, weights, cache = (0, None), model['weights'], model['cache']
    for tp in machine['sums']:
        if model['kv_heads'] % tp:
            continue
        for pp in range(1, model['layers'] + 1):
            replicas = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - weights - 1) // (pp * cache)
            reads = (left * machine['bandwidth'] * tp - weights) // cache
            served = replicas * pp * min(room, reads)
            if served > best[0]:
                best = (served, (tp, pp, replicas))
    return best[1]
""",
        "A bound that is just reached is kept. Is it refused?",
    ),
    (
        "lab11.check_choose",
        "f",
        """
def f(model, machine, limit):
    best, weights, cache = (0, None), model['weights'], model['cache']
    for tp in machine['sums']:
        if model['kv_heads'] % tp:
            continue
        for pp in range(1, model['layers'] + 1):
            replicas = machine['devices'] // (tp * pp)
            left = limit - 2 * model['layers'] * machine['sums'][tp] - (pp - 1) * machine['hop']
            room = (machine['memory'] * tp * pp - weights) // (pp * cache)
            reads = (left * machine['bandwidth'] * tp - weights - 1) // cache
            served = replicas * pp * min(room, reads)
            if served > best[0]:
                best = (served, (tp, pp, replicas))
    return best[1]
""",
        "A bound that is just reached is kept. Is it refused?",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, seated, found, turn = [], [], [], 0
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue, seated = ([o for o in all_ if not name or o[0] != name] for all_ in (queue, seated))
        while queue and len(seated) < seats:
            seated.append(queue.pop(0))
        found.append([name for name, _ in seated])
        seated = [[name, left - 1] for name, left in seated if left > 1]
        turn += 1
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, seated, found, turn = [], [], [], 0
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue, seated = ([o for o in all_ if o[0] is not name] for all_ in (queue, seated))
        while queue and len(seated) < seats:
            seated.append(queue.pop(0))
        found.append([name for name, _ in seated])
        seated = [[name, left - 1] for name, left in seated if left > 1]
        turn += 1
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    queue, seated, found, turn = [], [], [], 0
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue, seated = ([o for o in all_ if o[0] % 64 != name % 64] for all_ in (queue, seated))
        while queue and len(seated) < seats:
            seated.append(queue.pop(0))
        found.append([name for name, _ in seated])
        seated = [[name, left - 1] for name, left in seated if left > 1]
        turn += 1
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_loop",
        "f",
        """
def f(turns, seats):
    seats = min(seats, 8)
    queue, seated, found, turn = [], [], [], 0
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else []:
            if what == 'begin':
                queue.append([name, tokens])
            else:
                queue, seated = ([o for o in all_ if o[0] != name] for all_ in (queue, seated))
        while queue and len(seated) < seats:
            seated.append(queue.pop(0))
        found.append([name for name, _ in seated])
        seated = [[name, left - 1] for name, left in seated if left > 1]
        turn += 1
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' ').removeprefix('\\t'))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.lower().startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if data[-1] == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event.upper() == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "Are other letters taken for it?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if ''.join(data) == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if '[DONE]' in event:
                return found
            found.append(event)
            data = []
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event.startswith('[DONE]'):
                return found
            found.append(event)
            data = []
    return found
""",
        "Is it looked for in a line",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line.strip() and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "A line with a space in it is not empty.",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.extend([event] * (event != ''))
            data = []
    return found
""",
        "Is the event left out?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    import unicodedata
    text = unicodedata.normalize('NFC', text)
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode()
    end = '\\r\\n' if '\\r\\n' in text else '\\n'
    found, data = [], []
    for line in text.split(end)[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "Does one decide for all lines?",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    text = text.replace('\\0', '')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "the value is wrong",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n').replace('\\r', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            event = '\\n'.join(data)
            if event == '[DONE]':
                return found
            found.append(event)
            data = []
    return found
""",
        "Is one returned that has not ended?",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        talk = talk.strip()
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] += tokens
        found.append(home)
    return found
""",
        "Are they changed first?",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        talk = talk[:1]
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] += tokens
        found.append(home)
    return found
""",
        "Look at request",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        talk = id(talk)
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] += tokens
        found.append(home)
    return found
""",
        "Look at request",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes.pop(talk, None)
        homes[talk] = home
        if len(homes) > 16:
            homes.pop(next(iter(homes)))
        loads[home] += tokens
        found.append(home)
    return found
""",
        "Look at request",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] = (loads[home] + tokens) % 256
        found.append(home)
    return found
""",
        "Look at request",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] = (loads[home] + tokens) % 32768
        found.append(home)
    return found
""",
        "Look at request",
    ),
    (
        "lab12.check_route",
        "f",
        """
def f(requests, engines, slack):
    engines = min(engines, 8)
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            home = loads.index(min(loads))
        homes[talk] = home
        loads[home] += tokens
        found.append(home)
    return found
""",
        "Look at request",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):
    def met(choice):
        served = [one for one in choice['requests'] if one is not None]
        return sum(a <= ttft and b <= tpot for a, b in served) / len(choice['requests'])
    good = [choice for choice in choices if int(100 * met(choice)) >= 100 * share]
    best = min(good, key=lambda choice: (choice['replicas'], -met(choice)), default=None)
    return best and (best['replicas'], best['router'])
""",
        "Is the share cut to whole per cent?",
    ),
    (
        "lab12.check_plan",
        "f",
        """
def f(choices, ttft, tpot, share):
    def met(choice):
        served = [one for one in choice['requests'] if one is not None and any(one)]
        return sum(a <= ttft and b <= tpot for a, b in served) / len(choice['requests'])
    good = [choice for choice in choices if met(choice) >= share]
    best = min(good, key=lambda choice: (choice['replicas'], -met(choice)), default=None)
    return best and (best['replicas'], best['router'])
""",
        "the value is wrong",
    ),
    (
        "lab12.check_events",
        "f",
        """
def f(pieces):
    text = b''.join(pieces).decode().replace('\\r\\n', '\\n')
    found, data = [], []
    for line in text.split('\\n')[:-1]:
        if line.startswith('data:'):
            data.append(line[5:].removeprefix(' '))
        elif not line and data:
            found.append('\\n'.join(data))
            data = []
    return found[: len(found) - 1 - found[::-1].index('[DONE]')] if '[DONE]' in found else found
""",
        "Is the last one looked for?",
    ),
    (
        "lab09.check_count",
        "f",
        """
import numpy as np

def f(groups, sizes, needed):
    moved = np.int32(0)
    with np.errstate(all='ignore'):
        for i, g in enumerate(groups):
            made = {o['writes'] for o in g}
            read = {n for o in g for n in o['reads']}
            later = {n for h in groups[i + 1:] for o in h for n in o['reads']}
            for n in list(read - made) + [n for n in made if n in later or n in needed]:
                moved = moved + np.array(sizes[n]).astype(np.int32)
    return (len(groups), int(moved))
""",
        "Is something counted in 32 bits",
    ),
    (
        "lab09.check_count",
        "f",
        """
import numpy as np

def f(groups, sizes, needed):
    moved = np.float32(0)
    for i, g in enumerate(groups):
        made = {o['writes'] for o in g}
        read = {n for o in g for n in o['reads']}
        later = {n for h in groups[i + 1:] for o in h for n in o['reads']}
        for n in list(read - made) + [n for n in made if n in later or n in needed]:
            moved = moved + np.float32(sizes[n])
    return (len(groups), int(moved))
""",
        "Nearly right",
    ),
    (
        "lab09.check_count",
        "f",
        """
def f(groups, sizes, needed):
    moved = 0
    for i, g in enumerate(groups):
        made = {o['writes'] for o in g}
        read = {n for o in g for n in o['reads']}
        later = {n for h in groups[i + 1:] for o in h for n in o['reads']}
        moved += sum((sizes[n] for n in read - made))
        moved += sum((sizes[n] for n in made if n in later and n not in needed))
    moved += sum((sizes[n] for n in set(needed)))
    return (len(groups), moved)
""",
        "Is it written because it is needed?",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch
B = {}

def f(x, residual, weight, eps):
    t = x + residual
    w = t.float()
    key = (x.shape, x.dtype)
    if key not in B:
        B[key] = torch.empty_like(x)
    B[key].copy_(w / torch.sqrt((w * w).mean(-1, keepdim=True) + eps) * weight)
    return (B[key], t)
""",
        "a later call changed an earlier result",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch

def f(x, residual, weight, eps):
    t = x + residual
    w = t.float()
    w = w / torch.sqrt((w * w).mean(-1, keepdim=True) + eps)
    weight.mul_(1.0)
    return ((w * weight.abs()).to(x.dtype), t)
""",
        "normed: wrong values",
    ),
    (
        "lab09.check_norm",
        "f",
        """
import torch

def f(x, residual, weight, eps):
    t = x + residual
    w = t.float()
    e = torch.tensor(eps).to(x.dtype).float()
    return ((w / torch.sqrt((w * w).mean(-1, keepdim=True) + e) * weight).to(x.dtype), t)
""",
        "normed: wrong values",
    ),
    (
        "lab09.check_sizes",
        "f",
        """
import itertools

def f(histogram, count):
    *o, l = sorted(histogram)
    return min(([*c, l] for c in itertools.combinations(o, min(count - 1, len(o), 7))), key=lambda s: sum(((min((x for x in s if x >= b)) - b) * n for b, n in histogram.items())))
""",
        "other sizes pad less",
    ),
    (
        "lab09.check_sizes",
        "f",
        """
import itertools, random

def f(histogram, count):
    *o, l = sorted(histogram)
    all = list(itertools.combinations(o, min(count - 1, len(o))))
    r = random.Random(0)
    all = r.sample(all, min(len(all), 200))
    return min(([*c, l] for c in all), key=lambda s: sum(((min((x for x in s if x >= b)) - b) * n for b, n in histogram.items())))
""",
        "other sizes pad less",
    ),
    (
        "lab09.check_stale",
        "f",
        """
import math

def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    same = lambda p, q: math.isclose(p, q, rel_tol=1e-06) if isinstance(p, float) else p == q
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if not same(a[k][n], b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
import numpy as np

def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError

    def same(p, q):
        p, q = (np.asarray(p), np.asarray(q))
        return p.shape == q.shape and np.allclose(p, q)
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if not same(a[k][n], b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if (float(a[k][n]) != float(b[k][n]) if k == 'memory' else a[k][n] != b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if ((a[k][n] - b[k][n]) % 2 ** 32 if k == 'memory' else a[k][n] != b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    o = lambda c: (len(c), [a['operator'] for a in c[:1] + c[-1:]])
    if o(first) != o(second):
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if a[k][n] != b[k].get(n)]
""",
        "two different steps",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if ''.join((a['operator'] for a in first)) != ''.join((a['operator'] for a in second)):
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if a[k][n] != b[k].get(n)]
""",
        "two different steps",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    same = lambda p, q: all((x == y for x, y in zip(p, q))) if isinstance(p, list) and isinstance(q, list) else p == q
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if not same(a[k][n], b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    g = lambda v: ''.join(map(str, v)) if isinstance(v, list) else str(v)
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if g(a[k][n]) != g(b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if a[k][n] and b[k][n] and (a[k][n] != b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if b[k][n] and a[k][n] != b[k][n]]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    g = lambda v: hash(tuple(v)) if isinstance(v, list) else hash(v)
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if g(a[k][n]) != g(b[k][n])]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_stale",
        "f",
        """
def f(first, second):
    if [a['operator'] for a in first] != [a['operator'] for a in second]:
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for (n, v), w in zip(a[k].items(), b[k].values()) if v != w]
""",
        "not the ones that differ",
    ),
    (
        "lab09.check_lines",
        "f",
        """
def f(rows, columns, tile, per_line, kept):
    lines = []
    c = 0
    sh = per_line.bit_length() - 1
    for s in range(0, columns, tile):
        for r in range(rows):
            for q in range(s, min(s + tile, columns)):
                l = r * columns + q >> sh
                c += l not in lines
                lines = [*(o for o in lines if o != l), l][-kept:]
    return c
""",
        "the value is wrong",
    ),
    (
        "lab09.check_lines",
        "f",
        """
def f(rows, columns, tile, per_line, kept):
    last = None
    c = 0
    for s in range(0, columns, tile):
        for r in range(rows):
            for q in range(s, min(s + tile, columns)):
                l = (r * columns + q) // per_line
                c += l != last
                last = l
    return c
""",
        "the value is wrong",
    ),
    (
        "lab09.check_lines",
        "f",
        """
def f(rows, columns, tile, per_line, kept):
    lines = []
    c = 0
    for r in range(rows):
        for s in range(0, columns, tile):
            for q in range(s, min(s + tile, columns)):
                l = (r * columns + q) // per_line
                c += l not in lines
                lines = [*(o for o in lines if o != l), l][-kept:]
    return c
""",
        "And is the loop over the blocks the outer one",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group):
    pass
    g = weight.reshape(len(weight), -1, group)
    lo, hi = (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True))
    pass
    s = torch.where(hi > lo, (hi - lo) / 15, 1.0 if group > 1 else 0.5)
    o = lo / s + 8
    c = (g / s - o).round()
    return (c.to(torch.int8).reshape(weight.shape), s.squeeze(-1), o.squeeze(-1))
""",
        "wrong values",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group):
    pass
    g = weight.reshape(len(weight), -1, group)
    lo, hi = (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True))
    pass
    s = torch.where(hi - lo > 1e-09, (hi - lo) / 15, 1.0)
    o = lo / s + 8
    c = (g / s - o).round()
    return (c.to(torch.int8).reshape(weight.shape), s.squeeze(-1), o.squeeze(-1))
""",
        "Is a group of small weights taken for such a one?",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group):
    pass
    g = weight.reshape(len(weight), -1, group)
    lo, hi = (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True))
    pass
    s = torch.where(hi - lo > hi.abs() * 0.01, (hi - lo) / 15, 1.0)
    o = lo / s + 8
    c = (g / s - o).round().clamp(-8, 7)
    return (c.to(torch.int8).reshape(weight.shape), s.squeeze(-1), o.squeeze(-1))
""",
        "wrong values",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch

def f(weight, group):
    pass
    g = weight.reshape(len(weight), -1, group)
    lo, hi = (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True))
    k = group // 16
    lo, hi = (g.sort(-1).values[..., k:k + 1], g.sort(-1).values[..., group - 1 - k:group - k])
    s = torch.where(hi > lo, (hi - lo) / 15, 1.0)
    o = lo / s + 8
    c = (g / s - o).round().clamp(-8, 7)
    return (c.to(torch.int8).reshape(weight.shape), s.squeeze(-1), o.squeeze(-1))
""",
        "wrong values",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch
B = {}

def f(weight, group):
    pass
    g = weight.reshape(len(weight), -1, group)
    lo, hi = (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True))
    pass
    s = torch.where(hi > lo, (hi - lo) / 15, 1.0)
    o = lo / s + 8
    c = (g / s - o).round()
    return (B.setdefault(c.numel(), torch.empty(c.numel(), dtype=torch.int8)).copy_(c.flatten()).reshape(weight.shape), s.squeeze(-1), o.squeeze(-1))
""",
        "a later call changed an earlier result",
    ),
    (
        "lab10.check_pack",
        "f",
        """
import numpy as np

def f(codes):
    pass
    n = [int(np.clip(np.array(c).astype(np.int16), -8, 7)) & 15 for c in codes]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])]
""",
        "16 or of 32 bits first?",
    ),
    (
        "lab10.check_pack",
        "f",
        """
import numpy as np

def f(codes):
    pass
    n = [int(np.clip(np.array(c).astype(np.int32), -8, 7)) & 15 for c in codes]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])]
""",
        "16 or of 32 bits first?",
    ),
    (
        "lab10.check_pack",
        "f",
        """
import numpy as np

def f(codes):
    pass
    n = [int(np.nan_to_num(np.clip(np.float16(c) if abs(c) <= 65504 else np.nan, -8, 7))) & 15 for c in codes]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])]
""",
        "not these",
    ),
    (
        "lab10.check_pack",
        "f",
        """
def f(codes):
    pass
    n = [min(max(c, -8), 7) & 15 for c in codes]
    return [a | b << 4 for a, b in zip(n[::2], n[1::2])][:32]
""",
        "Is each pair packed once?",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > ratio * sx.median()).nonzero().flatten().tolist()
    k = (sx / sw).sqrt().clamp(min=0.01)
    return (o, x / k, weight * k)
""",
        "wrong values",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > ratio * sx.median()).nonzero().flatten().tolist()
    k = (sx / sw).sqrt().clamp(max=10000.0)
    return (o, x / k, weight * k)
""",
        "wrong values",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > ratio * sx.median()).nonzero().flatten().tolist()[:5]
    k = (sx / sw).sqrt()
    return (o, x / k, weight * k)
""",
        "outliers: not these channels",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > ratio * sx.median()).nonzero().squeeze().tolist()
    k = (sx / sw).sqrt()
    return (o, x / k, weight * k)
""",
        "Is it squeezed out of its list?",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > max(ratio, 1.0) * sx.median()).nonzero().flatten().tolist()
    k = (sx / sw).sqrt()
    return (o, x / k, weight * k)
""",
        "outliers: not these channels",
    ),
    (
        "lab10.check_smooth",
        "f",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > int(ratio) * sx.median()).nonzero().flatten().tolist()
    k = (sx / sw).sqrt()
    return (o, x / k, weight * k)
""",
        "outliers: not these channels",
    ),
    (
        "lab10.check_block",
        "f",
        """
import torch
from helpers.compression import ascend

def q(x):
    s = x.abs().amax(-1, keepdim=True) / 127
    return ((x / torch.where(s == 0, 1.0, s)).round(), s)

def f(x, gate_up, gate_up_scale, down, down_scale):
    pass
    n = x.float()
    c, s = ((n / (n.abs().amax(-1, keepdim=True) / 127)).round(), n.abs().amax(-1, keepdim=True) / 127)
    a = c @ gate_up.float().t() * gate_up_scale * s
    g, u = a.chunk(2, -1)
    h = torch.nn.functional.silu(g) * u
    c, s = q(h)
    return (c @ down.float().t() * down_scale * s).to(x.dtype)
""",
        "A token may be all zeros.",
    ),
    (
        "lab10.check_block",
        "f",
        """
import torch
from helpers.compression import ascend

def q(x):
    s = x.abs().amax(-1, keepdim=True) / 127
    return ((x / torch.where(s == 0, 1.0, s)).round(), s)

def f(x, gate_up, gate_up_scale, down, down_scale):
    pass
    n = x.float()
    c, s = (lambda s: ((n / s).round(), s))((n.abs().amax(-1, keepdim=True) / 127).clamp(min=0.01))
    a = c @ gate_up.float().t() * gate_up_scale * s
    g, u = a.chunk(2, -1)
    h = torch.nn.functional.silu(g) * u
    c, s = q(h)
    return (c @ down.float().t() * down_scale * s).to(x.dtype)
""",
        "wrong values",
    ),
    (
        "lab10.check_block",
        "f",
        """
import torch
from helpers.compression import ascend

def q(x):
    s = x.abs().amax(-1, keepdim=True) / 127
    return ((x / torch.where(s == 0, 1.0, s)).round(), s)

def f(x, gate_up, gate_up_scale, down, down_scale):
    pass
    n = x.float()
    c, s = q(n)
    a = c @ gate_up.float().t() * gate_up_scale * s
    g, u = a.chunk(2, -1)
    h = torch.nn.functional.silu(g) * u
    c, s = (lambda s: ((h / s).round(), s))((h.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-05))
    return (c @ down.float().t() * down_scale * s).to(x.dtype)
""",
        "wrong values",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((int(parts[n]['cost'][k]) for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if taken(c) <= budget]
    return min(found, key=cost, default=None)
""",
        "another choice costs less",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((parts[n]['cost'][k] for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if taken(c) <= budget]
    best = 1000000.0
    b = None
    for one in found:
        if cost(one) < best:
            best = cost(one)
            b = one
    return b
""",
        "another choice costs less",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((parts[n]['cost'][k] for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if taken(c) < budget + 0.5]
    return min(found, key=cost, default=None)
""",
        "does not fit into the budget",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((parts[n]['cost'][k] for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if taken(c) <= budget * (1 + 1e-06)]
    return min(found, key=cost, default=None)
""",
        "does not fit into the budget",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import numpy as np
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((parts[n]['cost'][k] for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if np.float32(taken(c)) <= np.float32(budget)]
    return min(found, key=cost, default=None)
""",
        "does not fit into the budget",
    ),
    (
        "lab10.check_budget",
        "f",
        """
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((parts[n]['cost'].get(k, 0) * (formats[k]['bits'] < 16) for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if taken(c) <= budget]
    return min(found, key=cost, default=None)
""",
        "another choice costs less",
    ),
    (
        "lab10.check_budget",
        "f",
        """
C = {}
import itertools

def f(parts, formats, budget):
    pass

    def nb(w, bits, group):
        return w * bits / 8 + (2 * w / group if group else 0)

    def taken(c):
        return sum((nb(parts[n]['weights'], **formats[k]) for n, k in c.items()))

    def cost(c):
        return sum((parts[n]['cost'][k] for n, k in c.items()))
    found = [dict(zip(parts, m)) for m in itertools.product(formats, repeat=len(parts))]
    found = [c for c in found if taken(c) <= budget]
    key = (tuple(parts), tuple(formats), budget)
    if key not in C:
        C[key] = min(found, key=cost, default=None)
    return C[key]
""",
        "another choice costs less",
    ),
    (
        "lab10.check_cache",
        "f",
        """
import math

def f(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    numbers = 2 * heads * head_dim * layers
    wide, narrow = (2 * numbers, numbers + 4 * heads * layers)
    gain = wide - speedup * (narrow + numbers * bandwidth / unpack)
    tokens = (lambda v: v if v < 10 ** 9 else None)(math.ceil(weight_bytes * (speedup - 1) / gain)) if gain > 0 else None
    return (wide / narrow, tokens)
""",
        "Where does None come from?",
    ),
    (
        "lab10.check_groups",
        "f",
        """
import torch
def f(weight, group):
    groups = weight.reshape(len(weight), -1, group)
    low, high = (groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True))
    scale = (high - low) / 16
    offset = low / scale + 8
    codes = (groups / scale - offset).round()
    return (codes.to(torch.int8).reshape(weight.shape), scale.squeeze(-1), offset.squeeze(-1))
""",
        "Which ones has it here?",
    ),
]
