// Formats of weights: how numbers of a matrix are stored, and how they become floats again.
// A matrix lies in tiles of 16 rows (outputs), a tile column by column: one load reads a column of several rows, and a
// product reads one stream of memory. A code stands for fma(code, scale, low), which is the number that the definition
// in Python gives, to the bit.
#pragma once
#include <algorithm>
#include <limits>
#include <vector>
#include "vectors.h"

constexpr int TILE = 16, SPAN = 32;  // rows that lie together, and columns that are computed in one go
constexpr int V = TILE / W;          // vectors of a column

enum Format : int32_t { PLAIN32, PLAIN16, INT4, INT8, W8A8 };
enum Number : int32_t { FP32, FP16, BF16 };
enum Offset : int32_t { MIDDLE, MINIMUM, ZERO };  // what a group stores beside its scale: nothing, a value, a code

struct Matrix {
  const void* weight;         // [tiles, columns, TILE]; INT4: [tiles, columns / 4, TILE / 2, 4]; W8A8: [tiles, columns / SPAN, TILE, SPAN]
  const float* bias;          // no bias: null
  const void *scale, *offset; // [tiles, groups, TILE], the offset like the scale, a ZERO in a byte
  int32_t rows, columns, group;
  Format format;
  Number number;              // of scales and minima
  Offset kind;
};
static inline int tiles(const Matrix& m) { return (m.rows + TILE - 1) / TILE; }
static inline int bytes_of_column(Format f) { return f == PLAIN32 ? 4 * TILE : f == PLAIN16 ? 2 * TILE : f == INT4 ? TILE / 2 : TILE; }
static inline const char* tile_at(const Matrix& m, int tile) {
  return (const char*)m.weight + (size_t)tile * m.columns * bytes_of_column(m.format);
}

// A tile's numbers from i on as floats.
static inline void grid(const void* p, Number number, size_t i, F* out) {
  if (number == FP16) {
    float v[TILE];
    halves((const uint16_t*)p + i, v), halves((const uint16_t*)p + i + 8, v + 8);
    for (int j = 0; j < V; j++) out[j] = load(v + j * W);
  }
  else for (int j = 0; j < V; j++) out[j] = number == FP32 ? load((const float*)p + i + j * W) : load((const bf16*)p + i + j * W);
}

// Plain weights: column(k, w) gives column k of a tile.
template <class T>
struct Plain {
  const T* at;
  Plain(const Matrix& m, int tile) : at((const T*)tile_at(m, tile)) {}
  explicit Plain(const T* at) : at(at) {}
  void begin(int) {}
  void column(int k, F* w) const { for (int j = 0; j < V; j++) w[j] = load(at + (size_t)k * TILE + j * W); }
};

// Codes. A byte of INT4 holds rows j (lower half) and j + 8. begin(k) comes before column k, a multiple of SPAN.
template <Format FORMAT>
struct Coded {
  const Matrix& m;
  const uint8_t* at;
  size_t group;
  int next = 0;  // the column with which the next group begins
  F scale[V] = {}, low[V] = {};
  Coded(const Matrix& m, int tile) : m(m), at((const uint8_t*)tile_at(m, tile)) {
    group = (size_t)tile * ((m.columns + m.group - 1) / m.group) * TILE;
  }
  void begin(int k) {
    if (k < next) return;
    const size_t i = group;
    group += TILE, next += m.group;
    grid(m.scale, m.number, i, scale);
    if (m.kind == MINIMUM) return grid(m.offset, m.number, i, low);
    for (int j = 0; j < V; j++) {
      const F zero = m.kind == ZERO ? floats(bytes((const uint8_t*)m.offset + i + j * W)) : all(FORMAT == INT4 ? 8.0f : 128.0f);
      low[j] = -scale[j] * zero;
    }
  }
  void column(int k, F* w) const {
    U codes[V];
    if (FORMAT == INT4) {
      nibbles(at + (size_t)k / 4 * (TILE * 2), codes);
      for (int j = 0; j < V; j++) codes[j] = codes[j] >> 8 * (k % 4) & 15;
    }
    else for (int j = 0; j < V; j++) codes[j] = bytes(at + (size_t)k * TILE + j * W);
    for (int j = 0; j < V; j++) w[j] = fma(floats(codes[j]), scale[j], low[j]);
  }
};

// Calls f with a tile's weights, in the type that their format has.
template <class Call>
static inline void of_format(const Matrix& m, int tile, Call f) {
  if (m.format == PLAIN32) f(Plain<float>(m, tile));
  else if (m.format == PLAIN16) f(Plain<bf16>(m, tile));
  else if (m.format == INT4) f(Coded<INT4>(m, tile));
  else f(Coded<INT8>(m, tile));
}

// Writes a tile as floats, column by column.
static void write_tile(const Matrix& m, int tile, float* out) {
  of_format(m, tile, [&](auto weights) {
    for (int k = 0; k < m.columns; k++, out += TILE) {
      if (k % SPAN == 0) weights.begin(k);
      F w[V];
      weights.column(k, w);
      for (int j = 0; j < V; j++) store(out + j * W, w[j]);
    }
  });
}
