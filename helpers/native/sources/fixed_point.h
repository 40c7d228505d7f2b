// Activations as whole numbers, so that codes of 4 bits meet whole numbers: an instruction computes more products of
// bytes than of floats, and a sum of 32 of them is exact.
#pragma once
#include "formats.h"

constexpr int DIGITS = 3;
constexpr int TOGETHER = W == 16 ? 4 : 2;  // tokens whose sums stay in registers
// Tokens up to which this is faster than to write the codes out as floats; always where an instruction adds four products.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
constexpr int MOST_IN_DIGITS = std::numeric_limits<int>::max();
#else
constexpr int MOST_IN_DIGITS = 12;
#endif

// 32 numbers of a token: number = step * (digit 0 + 256 * digit 1 + 65536 * digit 2). The step is a power of two for which
// the largest number has 22 bits. So a number is rounded as finely as its sum with the largest one would be in floats.
struct Block {
  int8_t digits[DIGITS][SPAN];
  float step, sum;  // sum: of all numbers as they are written here
  Block() {}
  explicit Block(const float* x) {
    I most = {};  // of floats without their sign: as whole numbers they have the same order, infinity and NaN the largest
    for (int i = 0; i < SPAN; i += W) {
      I v; memcpy(&v, x + i, sizeof v);
      v &= 0x7fffffff;
      most = v > most ? v : most;
    }
    int peak = most[0];
    for (int i = 1; i < W; i++) peak = std::max(peak, most[i]);
    const int exponent = std::max(peak >> 23, 27) - 21;  // of a peak below 2^-99 as if it were larger
    const int up = (254 - exponent) << 23, down = exponent << 23;
    float inverse; memcpy(&inverse, &up, sizeof up), memcpy(&step, &down, sizeof down);
    I total = {};
    for (int i = 0; i < SPAN; i += W) {
      const F shifted = fma(load(x + i), all(inverse), all(12582912.0f));  // 1.5 * 2^23: the last bits hold the number, rounded
      I n; memcpy(&n, &shifted, sizeof n);
      n -= 0x4b400000, total += n;
      const I second = (n + 128) >> 8;
      store(digits[0] + i, n), store(digits[1] + i, second), store(digits[2] + i, (second + 128) >> 8);
    }
    int whole = 0;
    for (int i = 0; i < W; i++) whole += total[i];
    if (peak >> 23 == 255) step = std::numeric_limits<float>::quiet_NaN();
    sum = (float)whole * step;
  }
};

// What a block's digits and a tile's codes of the same 32 columns add up to, for each row.
struct DigitSums { I of[DIGITS][V]; };

// Counts C tokens; x[c * stride] is token c's block.
template <int C>
static inline void count_block(const uint8_t* codes, const Block* x, size_t stride, DigitSums* out) {
  I s[C][DIGITS][V] = {};
#pragma GCC unroll 8
  for (int i = 0; i < SPAN / 4; i++) {
    U four[V];
    nibbles(codes + i * 2 * TILE, four);
    for (int c = 0; c < C; c++) for (int d = 0; d < DIGITS; d++) for (int j = 0; j < V; j++)
      s[c][d][j] = add_digits(s[c][d][j], four[j], x[c * stride].digits[d] + 4 * i);
  }
  for (int c = 0; c < C; c++) for (int d = 0; d < DIGITS; d++) for (int j = 0; j < V; j++) out[c].of[d][j] = s[c][d][j];
}
// Adds a block's products to y.
static inline void add_block(const Coded<INT4>& w, const Block& x, const DigitSums& s, float* y) {
  for (int j = 0; j < V; j++) {
    const I upper = whole(s.of[1][j]) + (whole(s.of[2][j]) << 8);  // below 2^24: a float holds it
    const F dot = fma(__builtin_convertvector(upper, F), all(256.0f), __builtin_convertvector(whole(s.of[0][j]), F));
    store(y + j * W, load(y + j * W) + fma(w.low[j], all(x.sum), dot * x.step * w.scale[j]));
  }
}
