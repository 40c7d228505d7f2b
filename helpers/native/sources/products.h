// Products of a few tokens and a matrix, for every format of weights. A product is a single sum of floats (W8A8: of whole
// numbers), in the order of columns: its bits do not depend on the other tokens, nor on how a row is stored.
#pragma once
#include "formats.h"

// The tokens that meet a matrix, in the form that its format wants.
struct Tokens {
  const float* x;  // [count, columns]
  int count, columns;
  std::vector<int8_t> codes;  // for W8A8: each token with a scale of its own
  std::vector<float> scale;
  Tokens(const Matrix& m, const float* x, int count) : x(x), count(count), columns(m.columns) {
    if (m.format == W8A8) {
      codes.resize((size_t)count * columns), scale.resize(count);
      for (int t = 0; t < count; t++) scale[t] = quantise(x + (size_t)t * columns, columns, &codes[(size_t)t * columns]);
    }
  }
  // Returns the scale: the largest number / 127, so that a NaN is not lost.
  static float quantise(const float* x, int n, int8_t* codes) {
    F most = {};
    for (int i = 0; i < n; i += W) {
      F v = load(x + i);
      v = v < 0.0f ? -v : v;
      most = v > most ? v : v != v ? v : most;
    }
    float peak = most[0];
    for (int i = 1; i < W; i++) peak = most[i] > peak || most[i] != most[i] ? most[i] : peak;
    const float scale = peak / 127 < std::numeric_limits<float>::min() ? std::numeric_limits<float>::min() : peak / 127;
    for (int i = 0; i < n; i += W) {
      const F shifted = load(x + i) / scale + 12582912.0f;  // 1.5 * 2^23: the last bits now hold the number, rounded
      U bits; memcpy(&bits, &shifted, sizeof bits);
      for (int j = 0; j < W; j++) codes[i + j] = (int8_t)bits[j];
    }
    return scale;
  }
};

// y[c][r] of R rows of plain weights and C tokens. Rows that are read soon are asked for.
template <int R, int C, bool MORE, class T>
static void dots(const T* const* w, const float* x, int n, float* y) {
  F s[C][R] = {};
  for (int i = 0; i < n; i += W) {
    if (MORE && i % (64 / sizeof(T)) == 0) for (int r = 0; r < R; r++) __builtin_prefetch(w[r] + 2 * R * n + i);
    F v[C];
    for (int c = 0; c < C; c++) v[c] = load(x + (size_t)c * n + i);
    for (int r = 0; r < R; r++) {
      F u = load(w[r] + i);
      for (int c = 0; c < C; c++) s[c][r] = fma(u, v[c], s[c][r]);
    }
  }
  for (int c = 0; c < C; c++) for (int r = 0; r < R; r += 4) {
    Quad four = sums(s[c][r], s[c][r + 1], s[c][r + 2], s[c][r + 3]);
    memcpy(y + c * TILE + r, &four, sizeof four);
  }
}
// The eight rows of a tile of codes and one token.
template <class T>
static void coded_dot(const Matrix& m, int first, const float* x, float* y) {
  F s[TILE] = {};
  each_block<T, TILE, 1>(m, first / TILE, 0, [&](int r, int column, const F* w) {
    for (int i = 0; i < SPAN / W; i++) s[r] = fma(w[i], load(x + column + i * W), s[r]);
  });
  for (int r = 0; r < TILE; r += 4) {
    Quad four = sums(s[r], s[r + 1], s[r + 2], s[r + 3]);
    memcpy(y + r, &four, sizeof four);
  }
}

// The same of several tokens: weights stay in registers while sums come from the L1 cache and go back.
template <class T>
static void coded_dots(const Matrix& m, int first, const Tokens& t, float* y) {
  static thread_local std::vector<float> kept;  // [token][row][W]
  kept.assign((size_t)t.count * TILE * W, 0.0f);
  float* s = kept.data();
  each_block<T, TILE, 2>(m, first / TILE, 0, [&](int r, int column, const F* w) {
    for (int c = 0; c < t.count; c++) {
      const float* x = t.x + (size_t)c * t.columns + column;
      float* at = s + (c * TILE + r) * W;
      F a = load(at), b = load(at + W);
      for (int i = 0; i < SPAN / W; i++) a = fma(w[i], load(x + i * W), a), b = fma(w[SPAN / W + i], load(x + i * W), b);
      store(at, a), store(at + W, b);
    }
  });
  for (int i = 0; i < t.count * TILE; i += 4, s += 4 * W) {
    Quad four = sums(load(s), load(s + W), load(s + 2 * W), load(s + 3 * W));
    memcpy(y + i, &four, sizeof four);
  }
}

// Whole numbers times whole numbers: R rows of a tile from r on, C tokens.
template <int R, int C>
static void whole_dots(const Matrix& m, int first, int r, const Tokens& t, int token, float* y) {
  const int n = m.columns;
  const int8_t* w = (const int8_t*)m.weight + (size_t)first * n + r * SPAN;
  const int8_t* x = &t.codes[(size_t)token * n];
  Sums s[C][R] = {};
  for (int i = 0; i < n; i += SPAN, w += TILE * SPAN) {
    for (int k = 0; k < R * SPAN; k += 64) __builtin_prefetch(w + AHEAD + k);
    for (int k = 0; k < R; k++) for (int c = 0; c < C; c++) s[c][k] = add_products(s[c][k], w + k * SPAN, x + (size_t)c * n + i);
  }
  float scale[TILE];
  eight(m.scale, m.number, first, scale);
  for (int c = 0; c < C; c++) for (int k = 0; k < R; k++) y[c * TILE + r + k] = (float)sum(s[c][k]) * t.scale[token + c] * scale[r + k];
}

// Calls f with 3, 2 or 1 as a constant, and the first of so many tokens.
template <class Call>
static void by_three(int tokens, Call f) {
  int t = 0;
  for (; tokens - t >= 3; t += 3) f(std::integral_constant<int, 3>(), t);
  if (tokens - t == 2) f(std::integral_constant<int, 2>(), t);
  if (tokens - t == 1) f(std::integral_constant<int, 1>(), t);
}

// The rows of a tile of plain weights, four at once: eight streams of memory are slower than four.
template <class T>
static void plain_dots(const Matrix& m, int first, const Tokens& t, float* y) {
  const int n = m.columns;
  const T* w[TILE];
  for (int r = 0; r < TILE; r++) w[r] = (const T*)m.weight + (size_t)std::min(first + r, m.rows - 1) * n;
  for (int r = 0; r < TILE; r += 4) by_three(t.count, [&](auto C, int i) {
    const float* x = t.x + (size_t)i * n;
    i == 0 ? dots<4, C, true>(w + r, x, n, y + r) : dots<4, C, false>(w + r, x, n, y + i * TILE + r);
  });
}
template <class T>
static void coded(const Matrix& m, int first, const Tokens& t, float* y) {
  t.count == 1 ? coded_dot<T>(m, first, t.x, y) : coded_dots<T>(m, first, t, y);
}

// y[token][r]: the products of all tokens and the rows first to first + TILE.
static void tile(const Matrix& m, int first, const Tokens& t, float* y) {
  if (m.format == PLAIN32) plain_dots<float>(m, first, t, y);
  else if (m.format == PLAIN16) plain_dots<bf16>(m, first, t, y);
  else if (m.format == INT4) coded<Codes4>(m, first, t, y);
  else if (m.format == INT8) coded<Codes8>(m, first, t, y);
  else for (int r = 0; r < TILE; r += 4)
    by_three(t.count, [&](auto C, int i) { whole_dots<4, C>(m, first, r, t, i, y + i * TILE); });
}

// The product of x [tokens, columns] and a matrix, shared by the threads: put(token, first row, sums, how many).
template <class Put>
static void product(const Matrix& m, const float* x, int tokens, Put put) {
  const Tokens t(m, x, tokens);
  std::vector<float> y((size_t)tokens * TILE);
#pragma omp for schedule(static)
  for (int first = 0; first < m.rows; first += TILE) {
    const int count = std::min(TILE, m.rows - first);
    tile(m, first, t, y.data());
    for (int i = 0; i < tokens; i++) {
      for (int r = 0; m.bias && r < count; r++) y[i * TILE + r] += m.bias[first + r];
      put(i, first, &y[i * TILE], count);
    }
  }
}
