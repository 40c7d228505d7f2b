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

typedef float F __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
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
static inline void store(float* p, F v) { memcpy(p, &v, sizeof v); }
static inline void store(bf16* p, F v) {  // to the nearest, of two equally near to the even one
  U bits; memcpy(&bits, &v, sizeof bits);
  U rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  U nan = (U)(v != v);
  Halves h = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0u), Halves);
  memcpy(p, &h, sizeof h);
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
