// The functions that Python calls.
#include "step.h"

extern "C" {
void attend_f32(const Batch* b, const Cache* c, const float* q, int64_t q_stride, float* out) { attend_all(*b, *c, q, q_stride, out); }
void attend_bf16(const Batch* b, const Cache* c, const bf16* q, int64_t q_stride, bf16* out) { attend_all(*b, *c, q, q_stride, out); }
void pass_f32(const Model* m, const Batch* b, const Cache* c, const Pass* p) { pass<float>(*m, *b, *c, *p); }
void pass_bf16(const Model* m, const Batch* b, const Cache* c, const Pass* p) { pass<bf16>(*m, *b, *c, *p); }
void product_of(const Matrix* m, const float* x, int tokens, float* y, int threads) {
#pragma omp parallel num_threads(threads)
  product(*m, x, tokens, [&](int t, int row, const float* sums, int count) { std::copy(sums, sums + count, y + (size_t)t * m->rows + row); });
}
void numbers_of(const Matrix* m, int first, int count, float* out, int threads) {  // rows, in whole tiles
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> wide((size_t)m->columns * TILE);
#pragma omp for schedule(static)
    for (int tile = first / TILE; tile < (first + count) / TILE; tile++) {
      write_tile(*m, tile, wide.data());
      for (int r = 0; r < TILE; r++) for (int k = 0; k < m->columns; k++)
        out[(size_t)(tile * TILE + r - first) * m->columns + k] = wide[(size_t)k * TILE + r];
    }
  }
}
int vector_width() { return W; }
}
