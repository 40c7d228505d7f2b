// A whole pass of a decoder in one call: instead of some hundred operators, seven loops a layer, shared by
// all threads. Sums and activations are fp32, whatever the weights are. A token's sums do not depend on its neighbours.
#pragma once
#include "attention.h"
#include "products.h"

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

static void rms_norm(const float* x, const float* weight, float* out, int n, float eps) {
  F s = {};
  for (int i = 0; i < n; i += W) s = fma(load(x + i), load(x + i), s);
  const F scale = all(1 / std::sqrt(sum(s) / n + eps));
  for (int i = 0; i < n; i += W) store(out + i, load(x + i) * scale * load(weight + i));
}

static F silu(F x) { return x / (1.0f + exponential(-x)); }

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

template <class T>
static void pass(const Model& m, const Batch& b, const Cache& first, const Pass& p) {
  const int n = p.tokens, hidden = m.hidden, dim = first.dim, heads = b.heads + 2 * first.kv_heads;
  const int width = b.heads * dim, inner = m.layers->down.columns;
  std::vector<Query> queries;
  std::vector<Task> tasks;
  plan(b, first.page_size, queries, tasks);
  std::vector<float> qkv((size_t)n * heads * dim), attended((size_t)n * width), gates((size_t)n * 2 * inner), acted((size_t)n * inner);
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
      product(l->qkv, normed(l->input_norm), n, [&](int t, int row, const float* y, int count) {
        std::copy(y, y + count, &qkv[(size_t)t * heads * dim + row]);
      });
#pragma omp for schedule(static)
      for (int i = 0; i < n * heads; i++) place<T>(*l, b, c, p, m.eps, queries[i / heads], qkv.data(), i % heads);
#pragma omp for schedule(dynamic)
      for (int i = 0; i < (int)tasks.size() * c.kv_heads; i++) {
        const Task& task = tasks[i / c.kv_heads];
        attend_task<T>(b, c, qkv.data(), heads * dim, attended.data(), &queries[task.first], task, i % c.kv_heads);
      }
      product(l->o, attended.data(), n, add);
      product(l->gate_up, normed(l->post_norm), n, [&](int t, int row, const float* y, int count) {
        std::copy(y, y + count, &gates[(size_t)t * 2 * inner + row]);
      });
#pragma omp for schedule(static)
      for (int i = 0; i < n * inner / W; i++) {  // half of the rows are gates, half are ups
        const int t = i * W / inner, row = i * W % inner;
        const float* gate = &gates[(size_t)t * 2 * inner + row];
        store(&acted[(size_t)t * inner + row], silu(load(gate)) * load(gate + inner));
      }
      product(l->down, acted.data(), n, add);
      c.k = (const T*)c.k + p.layer_stride, c.v = (const T*)c.v + p.layer_stride;
    }
    for (int i = 0; i < p.num_outputs; i++) rms_norm(p.x + (size_t)p.outputs[i] * hidden, m.norm, &h[(size_t)i * hidden], hidden, m.eps);
    product(m.head, h.data(), p.num_outputs, [&](int t, int row, const float* y, int count) {
      std::copy(y, y + count, p.logits + (size_t)t * m.head.rows + row);
    });
  }
}
