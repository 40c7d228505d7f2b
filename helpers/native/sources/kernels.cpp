// The functions that Python calls.
#include "step.h"

// Eight rows of weights at once feed one token's registers, four rows feed several tokens'.
template <class T, class Number>
static void pass_of(const Model& m, const Batch& b, const Cache& c, const Pass& p) {
  p.tokens == 1 ? pass<T, Number, 8>(m, b, c, p) : pass<T, Number, 4>(m, b, c, p);
}
template <class T>
static void product_of(const Matrix& m, const float* x, int tokens, float* y, int threads) {
#pragma omp parallel num_threads(threads)
  product<4, T>(m, x, tokens, [&](int t, int row, const float* sums, int count) { std::copy(sums, sums + count, y + (size_t)t * m.rows + row); });
}

extern "C" {
void attend_f32(const Batch* b, const Cache* c, const float* q, int64_t q_stride, float* out) { attend_all(*b, *c, q, q_stride, out); }
void attend_bf16(const Batch* b, const Cache* c, const bf16* q, int64_t q_stride, bf16* out) { attend_all(*b, *c, q, q_stride, out); }
void pass_f32(const Model* m, const Batch* b, const Cache* c, const Pass* p) { pass_of<F32, float>(*m, *b, *c, *p); }
void pass_bf16(const Model* m, const Batch* b, const Cache* c, const Pass* p) { pass_of<BF16, bf16>(*m, *b, *c, *p); }
void product_f32(const Matrix* m, const float* x, int tokens, float* y, int threads) { product_of<F32>(*m, x, tokens, y, threads); }
void product_bf16(const Matrix* m, const float* x, int tokens, float* y, int threads) { product_of<BF16>(*m, x, tokens, y, threads); }
int vector_width() { return W; }
}
