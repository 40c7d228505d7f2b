// The functions that Python calls.
#include "attention.h"

extern "C" void attend_f32(const Batch* b, const Cache* c, const float* q, int64_t q_stride, float* out) { attend_all(*b, *c, q, q_stride, out); }
extern "C" void attend_bf16(const Batch* b, const Cache* c, const bf16* q, int64_t q_stride, bf16* out) { attend_all(*b, *c, q, q_stride, out); }
extern "C" int vector_width() { return W; }
