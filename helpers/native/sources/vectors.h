// Vectors of W floats, as wide as this processor's registers: AVX-512, AVX2, else four (NEON, SSE).
// The vector types are GCC's and Clang's. A processor without vectors computes the same, number by number.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;  // of vectors
#else
constexpr int REGISTERS = 16;
#endif
constexpr int AHEAD = 2048;  // bytes that a stream of weights is asked for in advance

typedef float F __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint8_t Bytes __attribute__((vector_size(W)));
typedef float Quad __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(2 * W)));
typedef uint16_t bf16;  // the upper half of a float

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Places __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Places){__VA_ARGS__})
#endif

// a * b + c, rounded once where the processor can. Written out, because a compiler that may choose (-ffp-contract) chooses
// differently from loop to loop, and equal sums would differ in their last bit.
static inline F fma(F a, F b, F c) {
#if defined(__AVX512F__)
  return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
static inline F all(float x) { return x - (F){}; }  // W times the same

static inline F load(const float* p) { F v; memcpy(&v, p, sizeof v); return v; }
// W numbers of 16 bits as 32 bits. GCC 12 makes five instructions of the last line on AVX2, where there is one.
static inline U widen(const bf16* p) {
#if defined(__AVX512F__)
  return (U)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__) && defined(__FMA__)
  return (U)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
#else
  Halves h; memcpy(&h, p, sizeof h);
  return __builtin_convertvector(h, U);
#endif
}
static inline F load(const bf16* p) {
  U bits = widen(p) << 16;
  F v; memcpy(&v, &bits, sizeof v); return v;
}
// Eight numbers of 16 bits with 5 bits of exponent (IEEE's fp16) as floats.
static inline void halves(const uint16_t* p, float* out) {
#if defined(__F16C__)
  _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)));
#elif defined(__aarch64__)
  for (int i = 0; i < 8; i += 4) vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + i))));
#else
  for (int i = 0; i < 8; i++) {
    const uint32_t sign = (p[i] & 0x8000u) << 16, rest = p[i] & 0x7fffu;
    const uint32_t bits = rest < 0x7c00u ? rest << 13 : rest << 13 | 0x7f800000u;
    float v; memcpy(&v, &bits, sizeof v);
    if (rest < 0x7c00u) v *= 5.192296858534828e33f;  // 2^112: the exponents count from different numbers
    uint32_t all_bits; memcpy(&all_bits, &v, sizeof v);
    all_bits |= sign, memcpy(out + i, &all_bits, sizeof v);
  }
#endif
}
// W bytes as 32 bits; convertvector alone would be compiled to code that takes byte after byte.
static inline U bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (U)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
#elif defined(__AVX2__) && defined(__FMA__)
  return (U)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
#elif defined(__aarch64__)
  uint32_t four; memcpy(&four, p, sizeof four);
  return (U)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
#else
  Bytes b; memcpy(&b, p, sizeof b);
  return __builtin_convertvector(b, U);
#endif
}
static inline F floats(U v) { return __builtin_convertvector((I)v, F); }  // of numbers below 2^31
// Numbers of 4 bits of 16 rows and four columns, in 32 bytes (row by row; the upper halves are rows 8 to 15): each 32 bits
// of the vectors hold a row's four.
static inline void nibbles(const uint8_t* p, U* out) {
  constexpr uint32_t HALF = 0x0f0f0f0f;
#if defined(__AVX512F__)
  const U both = (U)_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i*)p));
  out[0] = (both >> (U){0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4}) & HALF;
#else
  for (int j = 0; j < 8 / W; j++) {
    U both; memcpy(&both, p + j * sizeof both, sizeof both);
    out[j] = both & HALF, out[8 / W + j] = both >> 4 & HALF;
  }
#endif
}

// For each of W rows, the sum of four more products of a code below 16 and a digit (int8): exact for 32 products.
// Where 16 bits hold a sum, a row has two of them; whole gives the sums.
#if defined(__AVX512F__) && defined(__AVX512BW__)
static inline I add_digits(I s, U codes, const int8_t* digits) {
  int32_t four; memcpy(&four, digits, sizeof four);
#if defined(__AVX512VNNI__)
  return (I)_mm512_dpbusd_epi32((__m512i)s, (__m512i)codes, _mm512_set1_epi32(four));
}
static inline I whole(I s) { return s; }
#else
  return (I)_mm512_add_epi16((__m512i)s, _mm512_maddubs_epi16((__m512i)codes, _mm512_set1_epi32(four)));
}
static inline I whole(I s) { return (I)_mm512_madd_epi16((__m512i)s, _mm512_set1_epi16(1)); }
#endif
#elif defined(__AVX2__) && !defined(__AVX512F__)
static inline I add_digits(I s, U codes, const int8_t* digits) {
  int32_t four; memcpy(&four, digits, sizeof four);
#if defined(__AVXVNNI__)
  return (I)_mm256_dpbusd_avx_epi32((__m256i)s, (__m256i)codes, _mm256_set1_epi32(four));
}
static inline I whole(I s) { return s; }
#else
  __m256i more = _mm256_add_epi16((__m256i)s, _mm256_maddubs_epi16((__m256i)codes, _mm256_set1_epi32(four)));
  asm("" : "+x"(more));  // GCC would compute all products before it adds one, and run out of registers
  return (I)more;
}
static inline I whole(I s) { return (I)_mm256_madd_epi16((__m256i)s, _mm256_set1_epi16(1)); }
#endif
#elif defined(__aarch64__)
static inline I add_digits(I s, U codes, const int8_t* digits) {
  int32_t four; memcpy(&four, digits, sizeof four);
  const int8x16_t x = (int8x16_t)codes, y = vreinterpretq_s8_s32(vdupq_n_s32(four));
#if defined(__ARM_FEATURE_DOTPROD)
  return (I)vdotq_s32((int32x4_t)s, x, y);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
  return (I)vaddq_s32((int32x4_t)s, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(x, y))));
#endif
}
static inline I whole(I s) { return s; }
#else
static inline I add_digits(I s, U codes, const int8_t* digits) {
  for (int c = 0; c < 4; c++) s += (I)(codes >> 8 * c & 255) * digits[c];
  return s;
}
static inline I whole(I s) { return s; }
#endif

// Sums of products of int8, exact in int32: 32 products more, and the whole sum.
#if defined(__AVX2__)
typedef __m256i Sums;
static inline Sums add_products(Sums s, const int8_t* a, const int8_t* b) {
#if (defined(__AVX512VNNI__) && defined(__AVX512VL__)) || defined(__AVXVNNI__)
  const __m256i x = _mm256_loadu_si256((const __m256i*)a), y = _mm256_loadu_si256((const __m256i*)b);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  return _mm256_dpbusd_epi32(s, _mm256_abs_epi8(x), _mm256_sign_epi8(y, x));  // |a| times b with the sign of a
#else
  return _mm256_dpbusd_avx_epi32(s, _mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
#endif
#else
  auto wide = [](const int8_t* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p)); };
  s = _mm256_add_epi32(s, _mm256_madd_epi16(wide(a), wide(b)));
  return _mm256_add_epi32(s, _mm256_madd_epi16(wide(a + 16), wide(b + 16)));
#endif
}
static inline int32_t sum(Sums s) {
  int32_t v[8]; memcpy(v, &s, sizeof v);
  return v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
}
#elif defined(__aarch64__)
typedef int32x4_t Sums;
static inline Sums add_products(Sums s, const int8_t* a, const int8_t* b) {
  for (int i = 0; i < 32; i += 16) {
    const int8x16_t x = vld1q_s8(a + i), y = vld1q_s8(b + i);
#if defined(__ARM_FEATURE_DOTPROD)
    s = vdotq_s32(s, x, y);
#else
    s = vpadalq_s16(s, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
    s = vpadalq_s16(s, vmull_high_s8(x, y));
#endif
  }
  return s;
}
static inline int32_t sum(Sums s) { return vaddvq_s32(s); }
#else
typedef int32_t Sums;
static inline Sums add_products(Sums s, const int8_t* a, const int8_t* b) {
  for (int i = 0; i < 32; i++) s += a[i] * b[i];
  return s;
}
static inline int32_t sum(Sums s) { return s; }
#endif

static inline void store(float* p, F v) { memcpy(p, &v, sizeof v); }
static inline void store(bf16* p, F v) {  // to the nearest, of two equally near to the even one
  U bits; memcpy(&bits, &v, sizeof bits);
  U rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  U nan = (U)(v != v);
  Halves h = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0u), Halves);
  memcpy(p, &h, sizeof h);
}

static inline void store(int8_t* p, I v) {  // the last 8 bits of each
#if defined(__AVX512F__)
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(__AVX2__)
  const __m256i first = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m256i apart = _mm256_shuffle_epi8((__m256i)v, first);
  _mm_storel_epi64((__m128i*)p, _mm_or_si128(_mm256_castsi256_si128(apart), _mm256_extracti128_si256(apart, 1)));
#else
  for (int j = 0; j < W; j++) p[j] = (int8_t)v[j];
#endif
}

// The sums of four vectors, in order.
static inline Quad sums(F a, F b, F c, F d) {
  F four[4] = {a, b, c, d};
  Quad v[4];
  for (int i = 0; i < 4; i++) {
    Quad part[W / 4]; memcpy(part, &four[i], sizeof(F));
    v[i] = part[0];
    for (int j = 1; j < W / 4; j++) v[i] += part[j];
  }
  Quad ab = SHUFFLE(v[0], v[1], 0, 4, 1, 5) + SHUFFLE(v[0], v[1], 2, 6, 3, 7);
  Quad cd = SHUFFLE(v[2], v[3], 0, 4, 1, 5) + SHUFFLE(v[2], v[3], 2, 6, 3, 7);
  return SHUFFLE(ab, cd, 0, 1, 4, 5) + SHUFFLE(ab, cd, 2, 3, 6, 7);
}
static inline float sum(F v) { return sums(v, v, v, v)[0]; }

// e to the power of each number, to 2 units in the last place; 0 below -87, e^88 above 88, NaN for NaN.
// x = n ln 2 + r: 2^n is written as bits, e^r is a polynomial (Cephes' expf).
static inline F exponential(F x) {
  x = x > 88.0f ? all(88.0f) : x;
  F shifted = fma(x, all(1.44269504f), all(12582912.0f));  // 1.5 * 2^23: the last bits now hold n, rounded
  F n = shifted - 12582912.0f;
  F r = fma(n, all(2.12194440e-4f), fma(n, all(-0.693359375f), x));
  F y = fma(r, all(1.9875691500e-4f), all(1.3981999507e-3f));
  y = fma(y, r, all(8.3334519073e-3f));
  y = fma(y, r, all(4.1665795894e-2f));
  y = fma(y, r, all(1.6666665459e-1f));
  y = fma(y, r, all(5.0000001201e-1f));
  y = fma(y, r * r, r) + 1.0f;
  U bits; memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;
  F power; memcpy(&power, &bits, sizeof power);
  return x < -87.0f ? all(0) : y * power;
}
