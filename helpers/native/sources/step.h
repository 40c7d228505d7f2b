// A whole pass of a decoder over a few tokens in one call: instead of some hundred operators, five loops a layer, shared by
// all threads. Sums and activations are fp32, whatever the weights are. A token's sums do not depend on its neighbours.
#pragma once
#include "attention.h"

// A format of weights is a type with `unpack`: numbers i to i + W of a row, as floats. Later formats bring their own.
struct F32 { float w; static F unpack(const F32* row, int i) { return load(&row->w + i); } };
struct BF16 { bf16 w; static F unpack(const BF16* row, int i) { return load(&row->w + i); } };

struct Matrix { const void* weight; const float* bias; int32_t rows, columns; };  // no bias: null
struct Layer {
  const float *input_norm, *post_norm, *q_norm, *k_norm;  // no norm of queries and keys: null
  Matrix qkv, o, gate_up, down;
};
struct Model { const Layer* layers; const float* norm; Matrix head; int32_t num_layers, hidden; float eps; };
struct Pass {
  float* x;                       // [tokens, hidden], embedded; spent
  const float *cos, *sin;         // [tokens, dim]
  float* logits;                  // [outputs, vocabulary]
  const int32_t* outputs;         // the tokens whose logits are wanted
  int32_t tokens, num_outputs;
  int64_t layer_stride;           // numbers from one layer's keys to the next one's
};

// y[c][r] of R rows of weights and C tokens: a single sum each, so that its bits are the same for all R and C.
template <int R, int C, class T>
static void dots(const T* const* w, const float* x, int n, float y[C][R]) {
  F s[C][R] = {};
  for (int i = 0; i < n; i += W) {
    F v[C];
    for (int c = 0; c < C; c++) v[c] = load(x + (size_t)c * n + i);
    for (int r = 0; r < R; r++) {
      F u = T::unpack(w[r], i);
      for (int c = 0; c < C; c++) s[c][r] = fma(u, v[c], s[c][r]);
    }
  }
  for (int c = 0; c < C; c++) for (int r = 0; r < R; r += 4) {
    Quad four = sums(s[c][r], s[c][r + 1], s[c][r + 2], s[c][r + 3]);
    memcpy(&y[c][r], &four, sizeof four);
  }
}

// put(token, row, sum) for each token of x [tokens, columns] and the rows at w; rows behind `count` are not put.
template <int R, class T, class Put>
static void rows(const T* const* w, int count, const float* x, int tokens, int columns, Put put) {
  int t = 0;
  auto some = [&](auto size) {
    constexpr int C = decltype(size)::value;
    float y[C][R];
    dots<R, C>(w, x + (size_t)t * columns, columns, y);
    for (int c = 0; c < C; c++) put(t + c, y[c], count);
    t += C;
  };
  while (tokens - t >= 3) some(std::integral_constant<int, 3>());
  if (tokens - t == 2) some(std::integral_constant<int, 2>());
  if (tokens - t == 1) some(std::integral_constant<int, 1>());
}

// The product of x [tokens, columns] and a matrix, shared by the threads: put(token, first row, sums, how many).
template <int R, class T, class Put>
static void product(const Matrix& m, const float* x, int tokens, Put put) {
  const T* weight = (const T*)m.weight;
#pragma omp for schedule(static)
  for (int first = 0; first < m.rows; first += R) {
    const T* w[R];
    for (int r = 0; r < R; r++) w[r] = weight + (size_t)std::min(first + r, m.rows - 1) * m.columns;
    rows<R>(w, std::min(R, m.rows - first), x, tokens, m.columns, [&](int t, float* y, int count) {
      for (int r = 0; m.bias && r < count; r++) y[r] += m.bias[first + r];
      put(t, first, y, count);
    });
  }
}

static void rms_norm(const float* x, const float* weight, float* out, int n, float eps) {
  F s = {};
  for (int i = 0; i < n; i += W) s = fma(load(x + i), load(x + i), s);
  const F scale = all(1 / std::sqrt(sum(s) / n + eps));
  for (int i = 0; i < n; i += W) store(out + i, load(x + i) * scale * load(weight + i));
}

// Rotates one head by its token's angles.
template <class T>
static void rotate(const float* x, const float* cos, const float* sin, int dim, T* out) {
  float y[1024];
  for (int i = 0, h = dim / 2; i < h; i++) {
    y[i] = x[i] * cos[i] - x[i + h] * sin[i];
    y[i + h] = x[i + h] * cos[i] + x[i] * sin[i];
  }
  for (int i = 0; i < dim; i += W) store(out + i, load(y + i));
}

// Turns a token's queries, and puts its key and its value where the cache has room for them.
template <class T>
static void place(const Layer& l, const Batch& b, const Cache& c, const Pass& p, float eps, const Query& query, float* qkv, int head) {
  const int dim = c.dim, position = query.seen - 1;
  const float *cos = p.cos + (size_t)query.token * dim, *sin = p.sin + (size_t)query.token * dim;
  float* x = qkv + (size_t)(query.token * (b.heads + 2 * c.kv_heads) + head) * dim;
  const float* norm = head < b.heads ? l.q_norm : l.k_norm;
  if (norm && head < b.heads + c.kv_heads) rms_norm(x, norm, x, dim, eps);
  if (head < b.heads) return rotate(x, cos, sin, dim, x);
  const int kv = head - b.heads, page = b.tables[(int64_t)query.sequence * b.width + position / c.page_size];
  const int64_t at = page * c.page_stride + position % c.page_size * c.token_stride + kv % c.kv_heads * c.head_stride;
  if (kv < c.kv_heads) return rotate(x, cos, sin, dim, (T*)c.k + at);
  for (int i = 0; i < dim; i += W) store((T*)c.v + at + i, load(x + i));
}

template <class T, class Number, int R>
static void pass(const Model& m, const Batch& b, const Cache& first, const Pass& p) {
  const int n = p.tokens, hidden = m.hidden, dim = first.dim, heads = b.heads + 2 * first.kv_heads;
  const int width = b.heads * dim, inner = m.layers->down.columns;
  std::vector<Query> queries;
  std::vector<Task> tasks;
  plan(b, first.page_size, queries, tasks);
  std::vector<float> qkv((size_t)n * heads * dim), attended((size_t)n * width), acted((size_t)n * inner);
#pragma omp parallel num_threads(b.threads)
  {
    std::vector<float> h((size_t)n * hidden);  // each thread norms all tokens itself: that costs less than to wait
    auto normed = [&](const float* weight) {
      for (int t = 0; t < n; t++) rms_norm(p.x + (size_t)t * hidden, weight, &h[(size_t)t * hidden], hidden, m.eps);
      return h.data();
    };
    auto add = [&](int t, int row, const float* y, int count) {
      for (int r = 0; r < count; r++) p.x[(size_t)t * hidden + row + r] += y[r];
    };
    Cache c = first;
    for (const Layer* l = m.layers; l < m.layers + m.num_layers; l++) {
      product<R, T>(l->qkv, normed(l->input_norm), n, [&](int t, int row, const float* y, int count) {
        std::copy(y, y + count, &qkv[(size_t)t * heads * dim + row]);
      });
#pragma omp for schedule(static)
      for (int i = 0; i < n * heads; i++) place<Number>(*l, b, c, p, m.eps, queries[i / heads], qkv.data(), i % heads);
#pragma omp for schedule(dynamic)
      for (int i = 0; i < (int)tasks.size() * c.kv_heads; i++) {
        const Task& task = tasks[i / c.kv_heads];
        attend_task<Number>(b, c, qkv.data(), heads * dim, attended.data(), &queries[task.first], task, i % c.kv_heads);
      }
      product<R, T>(l->o, attended.data(), n, add);
      const float* x = normed(l->post_norm);
      const T* weight = (const T*)l->gate_up.weight;
#pragma omp for schedule(static)
      for (int i = 0; i < inner; i += R / 2) {  // half of the rows are gates, half are ups
        const T* w[R];
        for (int r = 0; r < R; r++) w[r] = weight + (size_t)(r / (R / 2) * inner + std::min(i + r % (R / 2), inner - 1)) * hidden;
        rows<R>(w, std::min(R / 2, inner - i), x, n, hidden, [&](int t, float* y, int count) {
          for (int r = 0; r < count; r++) {
            const float *bias = l->gate_up.bias, g = y[r] + (bias ? bias[i + r] : 0), u = y[R / 2 + r] + (bias ? bias[inner + i + r] : 0);
            acted[(size_t)t * inner + i + r] = g / (1 + std::exp(-g)) * u;
          }
        });
      }
      product<R, T>(l->down, acted.data(), n, add);
      c.k = (const Number*)c.k + p.layer_stride, c.v = (const Number*)c.v + p.layer_stride;
    }
    for (int i = 0; i < p.num_outputs; i++) rms_norm(p.x + (size_t)p.outputs[i] * hidden, m.norm, &h[(size_t)i * hidden], hidden, m.eps);
    product<R, T>(m.head, h.data(), p.num_outputs, [&](int t, int row, const float* y, int count) {
      std::copy(y, y + count, p.logits + (size_t)t * m.head.rows + row);
    });
  }
}
