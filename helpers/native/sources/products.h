// Products of tokens and a matrix, for every format of weights. A product is a single sum of floats (W8A8: of whole
// numbers), in the order of columns: its bits do not depend on the other tokens, nor on how a row is stored.
#pragma once
#include "fixed_point.h"

// The tokens that meet a matrix, in the form that its format wants.
struct Tokens {
  const float* x;  // [count, columns]
  int count, columns;
  std::vector<int8_t> codes;  // for W8A8: each token with a scale of its own
  std::vector<float> scale;
  std::vector<Block> blocks;  // where they are written in digits: [count, columns / SPAN]
  Tokens(const Matrix& m, const float* x, int count, bool in_digits) : x(x), count(count), columns(m.columns) {
    if (in_digits) {
      blocks.resize((size_t)count * columns / SPAN);
      for (size_t i = 0; i < blocks.size(); i++) blocks[i] = Block(x + i * SPAN);
    }
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

// What is read after this tile, asked for while this tile is multiplied: nothing where bytes is 0.
struct Ahead {
  const char* next;
  int bytes, part, parts;  // bytes of a column; which of how many equal parts of the tile this pass asks for
  void ask(int k) const {
    const int each = SPAN * bytes / parts;
    const char* from = next + (size_t)k * bytes + part * each;
    for (int i = 0; i < each; i += 64) __builtin_prefetch(from + i, 0, 2);
  }
};

// y[c][row] of C tokens and N tiles that follow each other: all sums stay in registers.
template <int C, int N, class Weights>
static void sums_of(Weights (&tile)[N], int columns, const float* x, const Ahead& ahead, float* y, size_t y_stride) {
  F s[C][N * V] = {};
  for (int k = 0; k < columns; k += SPAN) {
    for (int i = 0; i < N; i++) tile[i].begin(k);
    ahead.ask(k);
    const int end = std::min(k + SPAN, columns);
#pragma GCC unroll 4
    for (int j = k; j < end; j++) {
      F w[N * V];
      for (int i = 0; i < N; i++) tile[i].column(j, w + i * V);
#pragma GCC unroll 16
      for (int c = 0; c < C; c++) {
        const F token = all(x[(size_t)c * columns + j]);
        for (int i = 0; i < N * V; i++) s[c][i] = fma(w[i], token, s[c][i]);
      }
    }
  }
  for (int c = 0; c < C; c++) for (int i = 0; i < N * V; i++) store(y + c * y_stride + i * W, s[c][i]);
}

// Whole numbers times whole numbers: the R rows of a tile that lie together from r on, C tokens.
template <int R, int C>
static void whole_dots(const Matrix& m, int tile, int r, const Tokens& t, int token, float* y) {
  const int n = m.columns;
  const int8_t* w = (const int8_t*)tile_at(m, tile) + (size_t)r * n;
  const int8_t* x = &t.codes[(size_t)token * n];
  Sums s[C][R] = {};
  for (int i = 0; i < n; i += SPAN, w += R * SPAN) {
    for (int k = 0; k < R * SPAN; k += 64) __builtin_prefetch(w + AHEAD + k);
    for (int k = 0; k < R; k++) for (int c = 0; c < C; c++) s[c][k] = add_products(s[c][k], w + k * SPAN, x + (size_t)c * n + i);
  }
  F scale[V];
  grid(m.scale, m.number, (size_t)tile * TILE, scale);
  for (int c = 0; c < C; c++) for (int k = 0; k < R; k++) y[c * TILE + r + k] = (float)sum(s[c][k]) * t.scale[token + c] * scale[(r + k) / W][(r + k) % W];
}

// Calls f with a count from 1 to MOST as a constant.
template <int MOST, class Call>
static void as_constant(int count, Call f) {
  if constexpr (MOST > 1) if (count < MOST) return as_constant<MOST - 1>(count, f);
  f(std::integral_constant<int, MOST>());
}

// Tokens that meet a tile together, and tiles that a single token meets together: as many sums as registers hold, and
// enough of them that no product waits for the sum before it.
constexpr int MOST = W == 16 ? 12 : W == 8 ? 6 : V == 4 && REGISTERS < 32 ? 2 : 6;
constexpr int ALONE = V < 4 ? 4 / V : 1;
constexpr int CHUNK = 512;  // tokens that meet all tiles, so that they stay in the caches, before the next ones do

// Bytes of a column that few tokens ask for: plain weights are read so fast then that the processor's own look-ahead is
// busy enough.
static int asked(const Matrix& m) { return m.format == INT4 || m.format == INT8 ? bytes_of_column(m.format) : 0; }

// One token and N tiles: codes become floats in registers.
template <int N>
static void meet_alone(const Matrix& m, int first, const float* x, float* y) {
  of_format(m, first, [&](auto one) {
    using Weights = decltype(one);
    auto call = [&](auto... i) {
      Weights some[N] = {Weights(m, first + i)...};
      sums_of<1, N>(some, m.columns, x, Ahead{tile_at(m, first + N), N * asked(m), 0, 1}, y, 0);
    };
    if constexpr (N == 1) call(0);
    else if constexpr (N == 2) call(0, 1);
    else call(0, 1, 2, 3);
  });
}
// The same for two or three tokens and one tile.
static void meet_few(const Matrix& m, int tile, const Tokens& t, float* y) {
  of_format(m, tile, [&](auto one) {
    decltype(one) some[1] = {one};
    const Ahead ahead = {tile_at(m, tile + 1), asked(m), 0, 1};
    if (t.count == 2) sums_of<2, 1>(some, m.columns, t.x, ahead, y, TILE);
    else sums_of<3, 1>(some, m.columns, t.x, ahead, y, TILE);
  });
}

// Several tokens and a tile: its weights become floats once, and stay in the caches while all tokens meet them.
static void meet(const Matrix& m, int tile, const Tokens& t, float* y) {
  static thread_local std::vector<float> wide;
  const float* at = (const float*)tile_at(m, tile);
  if (m.format != PLAIN32) {
    wide.resize((size_t)m.columns * TILE);
    write_tile(m, tile, wide.data());
    at = wide.data();
  }
  const int parts = (t.count + MOST - 1) / MOST;
  for (int part = 0, first = 0, count; part < parts; part++, first += count) {
    count = (t.count - first + parts - part - 1) / (parts - part);
    as_constant<MOST>(count, [&](auto C) {
      Plain<float> one[1] = {Plain<float>(at)};
      const Ahead ahead = {tile_at(m, tile + 1), C > 4 ? bytes_of_column(m.format) : asked(m), part, parts};
      sums_of<C, 1>(one, m.columns, t.x + (size_t)first * m.columns, ahead, y + (size_t)first * TILE, TILE);
    });
  }
}
static void meet_whole(const Matrix& m, int tile, const Tokens& t, float* y) {
  for (int r = 0; r < TILE; r += 4)
    for (int i = 0, count; i < t.count; i += count) {
      count = std::min(3, t.count - i);
      as_constant<3>(count, [&](auto C) { whole_dots<4, C>(m, tile, r, t, i, y + (size_t)i * TILE); });
    }
}

// Codes of 4 bits: a tile's sums in the order of blocks, each block's a sum of whole numbers. Eight or more of these are
// counted before they become floats: one by one, each would wait for the steps of the one before it.
static void meet_digits(const Matrix& m, int tile, const Tokens& t, float* y) {
  static thread_local std::vector<DigitSums> sums;
  Coded<INT4> w(m, tile);
  const Ahead ahead = {tile_at(m, tile + 1), bytes_of_column(INT4), 0, 1};
  const int blocks = m.columns / SPAN, some = std::max(8 / t.count, 1);
  sums.resize((size_t)some * t.count);
  std::fill(y, y + (size_t)t.count * TILE, 0.0f);
  for (int first = 0; first < blocks; first += some) {
    const int end = std::min(first + some, blocks);
    DigitSums* sum = sums.data();
    for (int b = first; b < end; b++) {
      ahead.ask(b * SPAN);
      for (int c = 0, count; c < t.count; c += count, sum += count) {
        count = std::min(TOGETHER, t.count - c);
        as_constant<TOGETHER>(count, [&](auto C) {
          count_block<C>(w.at + (size_t)b * SPAN * bytes_of_column(INT4), &t.blocks[(size_t)c * blocks + b], blocks, sum);
        });
      }
    }
    sum = sums.data();
    for (int b = first; b < end; b++) {
      w.begin(b * SPAN);
      for (int c = 0; c < t.count; c++) add_block(w, t.blocks[(size_t)c * blocks + b], *sum++, y + (size_t)c * TILE);
    }
  }
}

// The product of x [tokens, columns] and a matrix, shared by the threads: put(token, first row, sums, how many).
template <class Put>
static void product(const Matrix& m, const float* x, int tokens, Put put) {
  const bool digits = m.format == INT4 && tokens <= MOST_IN_DIGITS;
  const int unit = tokens == 1 && m.format != W8A8 && !digits ? ALONE : 1;
  std::vector<float> y((size_t)std::min(tokens, CHUNK) * unit * TILE);
  for (int from = 0; from < tokens; from += CHUNK) {
    const Tokens t(m, x + (size_t)from * m.columns, std::min(CHUNK, tokens - from), digits);
#pragma omp for schedule(static)
    for (int first = 0; first < tiles(m); first += unit) {
      if (m.format == W8A8) meet_whole(m, first, t, y.data());
      else if (digits) meet_digits(m, first, t, y.data());
      else if (t.count > 3) meet(m, first, t, y.data());
      else if (t.count > 1) meet_few(m, first, t, y.data());
      else if (unit == ALONE && first + unit <= tiles(m)) meet_alone<ALONE>(m, first, t.x, y.data());
      else for (int i = first; i < std::min(first + unit, tiles(m)); i++) meet_alone<1>(m, i, t.x, &y[(i - first) * TILE]);
      const int row = first * TILE, count = std::min(unit * TILE, m.rows - row);
      for (int i = 0; i < t.count; i++) {
        float* sums = &y[(size_t)i * TILE];
        for (int r = 0; m.bias && r < count; r++) sums[r] += m.bias[row + r];
        put(from + i, row, sums, count);
      }
    }
  }
}
