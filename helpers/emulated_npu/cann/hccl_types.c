/* Element types of the collective library, and sums over them. */
#include "hccl.h"

static const struct {
  const char *name;
  int size;
} TYPES[] = {{"int8", 1},   {"int16", 2},  {"int32", 4},  {"fp16", 2},   {"fp32", 4}, {"int64", 8},
             {"uint64", 8}, {"uint8", 1},  {"uint16", 2}, {"uint32", 4}, {"fp64", 8}, {"bf16", 2},
             {"int128", 0}, {"type 13", 0}, {"hif8", 1},   {"fp8 e4m3", 1}, {"fp8 e5m2", 1}, {"fp8 e8m0", 1}};
enum { KNOWN = sizeof TYPES / sizeof *TYPES };

size_t hccl_size_of(int type) { return type >= 0 && type < KNOWN ? TYPES[type].size : 0; }
const char *hccl_type_name(int type) { return type >= 0 && type < KNOWN ? TYPES[type].name : "unknown"; }

/* 16-bit floats are written as 32-bit ones: not every compiler has a type for them. */
static float of_bits(uint32_t word) {
  float value;
  memcpy(&value, &word, 4);
  return value;
}
static uint32_t bits_of(float value) {
  uint32_t word;
  memcpy(&word, &value, 4);
  return word;
}
static float widen(uint16_t bits, int bf16) {
  if (bf16) return of_bits((uint32_t)bits << 16);
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fff;
  if (rest >= 0x7c00) return of_bits(sign | 0x7f800000 | rest << 13); /* infinity, NaN */
  float value = of_bits((rest << 13) + (112u << 23));                /* another bias of the exponent */
  if (rest < 0x0400) value = of_bits((rest << 13) + (113u << 23)) - of_bits(113u << 23); /* subnormal */
  return sign ? -value : value;
}
static uint16_t narrow(float value, int bf16) { /* to the nearest, to even between two */
  uint32_t word = bits_of(value), sign = word >> 16 & 0x8000, rest = word & 0x7fffffff;
  if (rest > 0x7f800000) return sign | (bf16 ? 0x7fc0 : 0x7e00);
  if (bf16) return (word + 0x7fff + (word >> 16 & 1)) >> 16;
  if (rest >= 0x47800000) return sign | 0x7c00;
  if (rest < 0x38800000) return sign | (bits_of(of_bits(rest) + 0.5f) - bits_of(0.5f)); /* the sum rounds */
  return sign | ((rest + 0xfff + (rest >> 13 & 1) - (112u << 23)) >> 13);
}

/* A NaN wins a maximum and a minimum. */
#define COMBINED(a, b) \
  (op == 0        ? (a) + (b)               \
   : op == 1      ? (a) * (b)               \
   : (a) != (a)   ? (a)                     \
   : op == 2      ? ((a) > (b) ? (a) : (b)) \
                  : ((a) < (b) ? (a) : (b)))
#define ALL(T)                                                                \
  {                                                                           \
    T *x = into;                                                              \
    const T *y = from;                                                        \
    for (size_t i = 0; i < bytes / sizeof(T); i++) x[i] = COMBINED(x[i], y[i]); \
    return;                                                                   \
  }

/* Sums of 16-bit floats are rounded after each rank. */
void hccl_combine(void *into, const void *from, size_t bytes, int type, int op) {
  switch (type) {
    case 0: ALL(int8_t)
    case 1: ALL(int16_t)
    case 2: ALL(int32_t)
    case 4: ALL(float)
    case 5: ALL(int64_t)
    case 6: ALL(uint64_t)
    case 7: ALL(uint8_t)
    case 8: ALL(uint16_t)
    case 9: ALL(uint32_t)
    case 10: ALL(double)
    case 3:
    case 11: {
      uint16_t *x = into;
      const uint16_t *y = from;
      for (size_t i = 0; i < bytes / 2; i++) {
        float a = widen(x[i], type == 11), b = widen(y[i], type == 11);
        x[i] = narrow(COMBINED(a, b), type == 11);
      }
    }
  }
}
