// Formats of weights: how numbers of a matrix are stored, and how they become floats again.
// Weights of 4 and 8 bits lie in tiles of eight rows and blocks of 32 columns, so that a product reads one stream of
// memory. A code stands for fma(code, scale, low), which is the number that the definition in Python gives, to the bit.
#pragma once
#include <algorithm>
#include <limits>
#include <vector>
#include "vectors.h"

constexpr int TILE = 8, SPAN = 32;  // rows and columns that lie together

enum Format : int32_t { PLAIN32, PLAIN16, INT4, INT8, W8A8 };
enum Number : int32_t { FP32, FP16, BF16 };
enum Offset : int32_t { MIDDLE, MINIMUM, ZERO };  // what a group stores beside its scale: nothing, a value, a code

struct Matrix {
  const void* weight;         // [rows, columns]; codes: [rows / TILE, columns / SPAN, TILE, SPAN], INT4 in half the bytes
  const float* bias;          // no bias: null
  const void *scale, *offset; // [rows / TILE, groups, TILE], the offset like the scale, a ZERO in a byte
  int32_t rows, columns, group;
  Format format;
  Number number;              // of scales and minima
  Offset kind;
};

// The eight floats from number i on.
static inline void eight(const void* p, Number number, size_t i, float* out) {
  if (number == FP32) memcpy(out, (const float*)p + i, 32);
  else if (number == BF16) for (int j = 0; j < 8; j++) {
    const uint32_t bits = (uint32_t)((const bf16*)p)[i + j] << 16;
    memcpy(out + j, &bits, sizeof bits);
  }
  else halves((const uint16_t*)p + i, out);
}

// What codes of the eight rows of a tile mean in a group: fma(code, scale, low).
static inline void grids(const Matrix& m, size_t at, float* scale, float* low) {
  eight(m.scale, m.number, at, scale);
  if (m.kind == MINIMUM) eight(m.offset, m.number, at, low);
  else for (int r = 0; r < TILE; r++)
    low[r] = -scale[r] * (m.kind == ZERO ? (float)((const uint8_t*)m.offset)[at + r] : m.format == INT4 ? 8.0f : 128.0f);
}

// 32 weights of a row: byte i of the 16 holds the codes of columns i (lower half) and i + 16.
struct Codes4 {
  static constexpr int BYTES = SPAN / 2;
  static void unpack(const uint8_t* q, F scale, F low, F* w) {
    for (int i = 0; i < 16 / W; i++) {
      U both = bytes(q + i * W);
#if defined(__AVX512F__)
      F values = fma(counted(), scale, low);  // the values of all 16 codes: a look-up needs neither masks nor conversions
      w[i] = looked_up(values, both), w[16 / W + i] = looked_up(values, both >> 4);
#else
      w[i] = fma(floats(both & 15), scale, low), w[16 / W + i] = fma(floats(both >> 4), scale, low);
#endif
    }
  }
};
struct Codes8 {
  static constexpr int BYTES = SPAN;
  static void unpack(const uint8_t* q, F scale, F low, F* w) {
    for (int i = 0; i < SPAN / W; i++) w[i] = fma(floats(bytes(q + i * W)), scale, low);
  }
};

// take(row, column, floats) for all weights of R rows of a tile from r on: A rows at once, 32 floats each, block by block.
template <class T, int R, int A, class Take>
static inline void each_block(const Matrix& m, int tile, int r, Take take) {
  const int blocks = m.columns / SPAN, each = std::min(m.group, m.columns) / SPAN;
  size_t group = (size_t)tile * ((blocks + each - 1) / each) * TILE;
  const uint8_t* q = (const uint8_t*)m.weight + ((size_t)tile * blocks * TILE + r) * T::BYTES;
  float scale[TILE], low[TILE];  // in memory on purpose: registers are for sums
  // One loop, not one for groups and one for blocks: the compiler keeps sums in registers in an innermost loop only.
  for (int b = 0, left = 0; b < blocks; b++, left--, q += TILE * T::BYTES) {
    if (left == 0) grids(m, group, scale, low), group += TILE, left = each;
    for (int i = 0; i < R * T::BYTES; i += 64) __builtin_prefetch(q + AHEAD + i);
#pragma GCC unroll 8
    for (int i = 0; i < R; i += A) {
      F w[A * SPAN / W];
      for (int a = i; a < i + A; a++) T::unpack(q + a * T::BYTES, all(scale[r + a]), all(low[r + a]), w + (a - i) * SPAN / W);
      take(i, b * SPAN, w);
    }
  }
}

// Writes R rows from `first` on as floats, one behind the other; rows behind the last are the last one again.
template <int R>
static void write_rows(const Matrix& m, int first, float* out) {
  const int n = m.columns;
  auto put = [&](int r, int column, const F* w) { memcpy(out + (size_t)r * n + column, w, SPAN * sizeof(float)); };
  if (m.format == INT4) return each_block<Codes4, R, 1>(m, first / TILE, first % TILE, put);
  if (m.format == INT8) return each_block<Codes8, R, 1>(m, first / TILE, first % TILE, put);
  for (int r = 0; r < R; r++) {
    const size_t at = (size_t)std::min(first + r, m.rows - 1) * n;
    for (int i = 0; i < n; i += W)
      store(out + (size_t)r * n + i, m.format == PLAIN32 ? load((const float*)m.weight + at + i) : load((const bf16*)m.weight + at + i));
  }
}
