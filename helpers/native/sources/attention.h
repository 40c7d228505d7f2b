// Attention over keys and values that lie in pages, read where they are: online softmax, block by block of keys.
// A query meets the same keys in the same blocks and the same order, whatever stands beside it in the batch, and no sum
// is split. So its result is the same, bit for bit, alone, in a chunk, or beside queries that share its pages.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>
#include "vectors.h"

constexpr int BLOCK = 32;   // keys in a block: the block, and the next one on its way, stay in the L1 cache
constexpr int TOKENS = 8;   // tokens that read a block together

struct Cache {  // one layer's keys and values; strides count numbers
  const void *k, *v;
  int64_t page_stride, token_stride, head_stride;
  int32_t page_size, kv_heads, dim;
};
struct Batch {  // sequence i owns the tokens q_start[i]:q_start[i + 1], the last of its first kv_lens[i] keys
  const int32_t *tables, *q_start, *kv_lens;  // tables [sequences, width]
  int32_t sequences, width, heads, threads;
  float scale;
};
struct Query { int token, sequence, seen; };   // a token sees the first `seen` keys of its sequence
struct Task { int first, count, common; };     // tokens of a list, and how many keys they read together

// The query heads of some tokens that share one head of keys, and what is known of their softmax so far.
struct State {
  std::vector<float> q, out, scores, most, total, fade;
  State(int queries, int dim)
      : q(queries * dim), out(queries * dim), scores(queries * BLOCK),
        most(queries, -std::numeric_limits<float>::infinity()), total(queries), fade(queries) {}
};

// scores[a][i] of Q queries and n keys; the values of the same keys are asked for, because they are read next.
template <int Q, class T>
static void score(const float* q, const T* k, const T* v, const int64_t* at, int n, int dim, float* scores) {
  for (int i = 0; i < n; i += 4) {
    int64_t key[4];
    for (int c = 0; c < 4; c++) key[c] = at[std::min(i + c, n - 1)];  // behind the last key may be anything
    F s[Q][4] = {};
    for (int d = 0; d < dim; d += W) {
      F x[4];
      for (int c = 0; c < 4; c++) x[c] = load(k + key[c] + d), __builtin_prefetch(v + key[c] + d);
      for (int a = 0; a < Q; a++) {
        F y = load(q + a * dim + d);
        for (int c = 0; c < 4; c++) s[a][c] = fma(x[c], y, s[a][c]);
      }
    }
    for (int a = 0; a < Q; a++) {
      Quad four = sums(s[a][0], s[a][1], s[a][2], s[a][3]);
      memcpy(scores + a * BLOCK + i, &four, sizeof four);
    }
  }
}

// Turns n scores of a query into weights. What was summed before fades, because the largest score may have grown.
static void weigh(float* s, int n, float& most, float& total, float& fade) {
  for (int i = n; i < BLOCK; i++) s[i] = -std::numeric_limits<float>::infinity();
  F high = load(s), sum_of_all = {};
  for (int i = W; i < BLOCK; i += W) { F x = load(s + i); high = x > high ? x : high; }
  float peak = most;
  for (int j = 0; j < W; j++) peak = high[j] > peak ? high[j] : peak;
  for (int i = 0; i < BLOCK; i += W) { F x = exponential(load(s + i) - peak); store(s + i, x); sum_of_all += x; }
  fade = most == peak ? 1.0f : std::exp(most - peak);
  total = total * fade + sum(sum_of_all);
  most = peak;
}

// out[a] = out[a] * fade[a] + the values' sum by weights[a], V vectors at once from d on; the next block's keys are asked for.
template <int Q, int V, class T>
static int gather(const float* weights, const T* v, const T* k, const int64_t* at, int n, int dim, const float* fade, float* out, int d) {
  for (; d + V * W <= dim; d += V * W) {
    F s[Q][V];
    for (int a = 0; a < Q; a++) for (int j = 0; j < V; j++) s[a][j] = load(out + a * dim + d + j * W) * fade[a];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < V * W; j += 64 / (int)sizeof(T)) __builtin_prefetch(k + at[BLOCK + i] + d + j);
      for (int j = 0; j < V; j++) {
        F x = load(v + at[i] + d + j * W);
        for (int a = 0; a < Q; a++) s[a][j] = fma(x, all(weights[a * BLOCK + i]), s[a][j]);
      }
    }
    for (int a = 0; a < Q; a++) for (int j = 0; j < V; j++) store(out + a * dim + d + j * W, s[a][j]);
  }
  return d;
}

template <int Q, class T>
static void fold_some(State& t, int first, const T* k, const T* v, const int64_t* at, int n, int dim) {
  float *q = &t.q[first * dim], *s = &t.scores[first * BLOCK], *out = &t.out[first * dim], *fade = &t.fade[first];
  score<Q>(q, k, v, at, n, dim, s);
  for (int a = 0; a < Q; a++) weigh(s + a * BLOCK, n, t.most[first + a], t.total[first + a], fade[a]);
  constexpr int V = Q == 1 ? 8 : 4;  // as many sums as registers hold
  gather<Q, 1>(s, v, k, at, n, dim, fade, out, gather<Q, V>(s, v, k, at, n, dim, fade, out, 0));
}

// Folds the keys begin:end of a table, a block at a time, into `count` queries from `first`.
template <class T>
static void fold(State& t, int first, int count, const Cache& c, int head, const int32_t* table, int begin, int end) {
  const T *k = (const T*)c.k + head * c.head_stride, *v = (const T*)c.v + head * c.head_stride;
  int64_t at[2 * BLOCK];  // where the keys of this block and of the next one lie; behind the last key, that key
  for (; begin < end; begin += BLOCK) {
    for (int i = 0, page = begin / c.page_size, offset = begin % c.page_size; i < 2 * BLOCK; i++) {
      if (begin + i >= end) { at[i] = at[i - 1]; continue; }
      at[i] = table[page] * c.page_stride + offset * c.token_stride;
      if (++offset == c.page_size) offset = 0, page++;
    }
    const int n = std::min(BLOCK, end - begin);
    int a = first, last = first + count;
    for (; a + 3 <= last; a += 3) fold_some<3>(t, a, k, v, at, n, c.dim);
    if (last - a == 2) fold_some<2>(t, a, k, v, at, n, c.dim);
    if (last - a == 1) fold_some<1>(t, a, k, v, at, n, c.dim);
  }
}

// One task for one head of keys: the common keys for all tokens at once, then each token's own.
// Queries and results may have another type (X) than keys and values (T).
template <class T, class X>
static void attend_task(const Batch& b, const Cache& c, const X* q, int64_t q_stride, X* out, const Query* queries, const Task& task, int head) {
  const int group = b.heads / c.kv_heads, dim = c.dim, count = task.count * group;
  State t(count, dim);
  auto table = [&](int i) { return b.tables + (int64_t)queries[i].sequence * b.width; };
  auto head_of = [&](int i) { return head * group + i % group; };
  for (int i = 0; i < count; i++) {
    const X* from = q + queries[i / group].token * q_stride + head_of(i) * dim;
    for (int d = 0; d < dim; d += W) store(&t.q[i * dim + d], load(from + d) * b.scale);
  }
  fold<T>(t, 0, count, c, head, table(0), 0, task.common);
  for (int i = 0; i < task.count; i++) fold<T>(t, i * group, group, c, head, table(i), task.common, queries[i].seen);
  for (int i = 0; i < count; i++) {
    X* to = out + (queries[i / group].token * (int64_t)b.heads + head_of(i)) * dim;
    for (int d = 0; d < dim; d += W) store(to + d, load(&t.out[i * dim + d]) / t.total[i]);
  }
}

// The tokens of a batch in tasks: neighbours of one sequence, or single tokens of sequences whose tables begin alike.
static void plan(const Batch& b, int page_size, std::vector<Query>& queries, std::vector<Task>& tasks) {
  auto table = [&](int i) { return b.tables + (int64_t)i * b.width; };
  auto end = [&](int i) { return table(i) + (b.kv_lens[i] + page_size - 1) / page_size; };
  auto whole = [](int keys) { return std::max(keys, 0) / BLOCK * BLOCK; };
  std::vector<int> order(b.sequences);
  for (int i = 0; i < b.sequences; i++) order[i] = i;
  std::sort(order.begin(), order.end(), [&](int i, int j) {  // tables that begin alike become neighbours
    return std::lexicographical_compare(table(i), end(i), table(j), end(j));
  });
  int before = -1;  // the sequence whose task the next one may join
  for (int i : order) {
    const int tokens = b.q_start[i + 1] - b.q_start[i], history = b.kv_lens[i] - tokens;
    if (tokens == 1 && before >= 0 && tasks.back().count < TOKENS) {
      Task& task = tasks.back();
      const int most = std::min(task.common, whole(b.kv_lens[i]));
      const int alike = (int)(std::mismatch(table(i), end(i), table(before), end(before)).first - table(i));
      const int common = std::min(most, whole(alike * page_size));
      if (common && 2 * common >= task.common) {
        task.common = common, task.count++;
        queries.push_back({b.q_start[i], i, b.kv_lens[i]});
        continue;
      }
    }
    for (int t = 0; t < tokens; t += TOKENS) {
      const int next = std::min(t + TOKENS, tokens);
      tasks.push_back({(int)queries.size(), next - t, whole(history + t + 1)});
      for (int j = t; j < next; j++) queries.push_back({b.q_start[i] + j, i, history + j + 1});
    }
    before = tokens == 1 ? i : -1;
  }
}

template <class T>
static void attend_all(const Batch& b, const Cache& c, const T* q, int64_t q_stride, T* out) {
  std::vector<Query> queries;
  std::vector<Task> tasks;
  plan(b, c.page_size, queries, tasks);
  const int count = (int)tasks.size();
#pragma omp parallel for schedule(dynamic) num_threads(b.threads)
  for (int i = 0; i < count * c.kv_heads; i++) {
    const Task& task = tasks[i / c.kv_heads];
    attend_task<T>(b, c, q, q_stride, out, &queries[task.first], task, i % c.kv_heads);
  }
}
