/* Collectives: which bytes of each rank's input go where in this rank's output. */
#include "hccl.h"

static struct exchange call(struct comm *c, const char *name, int type, uint64_t count, const void *in, uint64_t size,
                            void *out) {
  struct exchange x = {.comm = c, .in = in, .out = out};
  snprintf(x.said.name, sizeof x.said.name, "%s", name);
  x.said.type = type;
  x.said.count = count;
  x.said.size = size;
  return x;
}
static int launch(struct exchange x, struct stream *s) {
  if (!hccl_size_of(x.said.type) || (x.sums && x.said.type > 11) || x.said.op < 0 || x.said.op > 3)
    return hccl_wrong(HCCL_E_NOT_SUPPORT, "%s of %s with op %d is not emulated", x.said.name,
                      hccl_type_name(x.said.type), x.said.op);
  if (x.said.root >= x.comm->ranks)
    return hccl_wrong(HCCL_E_PARA, "%s from rank %u of %u", x.said.name, x.said.root, x.comm->ranks);
  return hccl_launch(x, s);
}
#define EACH(c) for (uint32_t r = 0; r < (c)->ranks; r++)

int HcclAllReduce(void *in, void *out, uint64_t count, int type, int op, struct comm *c, struct stream *s) {
  uint64_t n = count * hccl_size_of(type);
  struct exchange x = call(c, "HcclAllReduce", type, count, in, n, out);
  x.sums = 1;
  x.said.op = op;
  EACH(c) x.parts[r] = (struct part){0, n, 0};
  return launch(x, s);
}
int HcclReduce(void *in, void *out, uint64_t count, int type, int op, uint32_t root, struct comm *c, struct stream *s) {
  uint64_t n = count * hccl_size_of(type);
  struct exchange x = call(c, "HcclReduce", type, count, in, n, out);
  x.sums = 1;
  x.said.op = op;
  x.said.root = root;
  EACH(c) x.parts[r] = (struct part){0, c->rank == root ? n : 0, 0};
  return launch(x, s);
}
int HcclBroadcast(void *data, uint64_t count, int type, uint32_t root, struct comm *c, struct stream *s) {
  uint64_t n = count * hccl_size_of(type);
  struct exchange x = call(c, "HcclBroadcast", type, count, data, c->rank == root ? n : 0, data);
  x.said.root = root;
  if (c->rank != root && root < c->ranks) x.parts[root] = (struct part){0, n, 0};
  return launch(x, s);
}
int HcclAllGather(void *in, void *out, uint64_t count, int type, struct comm *c, struct stream *s) {
  uint64_t n = count * hccl_size_of(type);
  struct exchange x = call(c, "HcclAllGather", type, count, in, n, out);
  EACH(c) x.parts[r] = (struct part){0, n, r * n};
  return launch(x, s);
}
int HcclAllGatherV(void *in, uint64_t count, void *out, const uint64_t *counts, const uint64_t *places, int type,
                   struct comm *c, struct stream *s) {
  uint64_t w = hccl_size_of(type);
  struct exchange x = call(c, "HcclAllGatherV", type, 0, in, count * w, out);
  x.by_sender = 1;
  EACH(c) {
    x.parts[r] = (struct part){0, counts[r] * w, places[r] * w};
    x.said.sizes[r] = count * w;
  }
  return launch(x, s);
}
int HcclReduceScatter(void *in, void *out, uint64_t count, int type, int op, struct comm *c, struct stream *s) {
  uint64_t n = count * hccl_size_of(type);
  struct exchange x = call(c, "HcclReduceScatter", type, count, in, n * c->ranks, out);
  x.sums = 1;
  x.said.op = op;
  EACH(c) x.parts[r] = (struct part){c->rank * n, n, 0};
  return launch(x, s);
}
int HcclReduceScatterV(void *in, const uint64_t *counts, const uint64_t *places, void *out, uint64_t count, int type,
                       int op, struct comm *c, struct stream *s) {
  uint64_t w = hccl_size_of(type), size = 0;
  EACH(c) size = (places[r] + counts[r]) * w > size ? (places[r] + counts[r]) * w : size;
  struct exchange x = call(c, "HcclReduceScatterV", type, 0, in, size, out);
  x.sums = x.by_sender = 1;
  x.said.op = op;
  EACH(c) {
    x.parts[r] = (struct part){0, count * w, 0};
    x.said.from[r] = places[r] * w;
    x.said.sizes[r] = counts[r] * w;
  }
  return launch(x, s);
}
int HcclScatter(void *in, void *out, uint64_t count, int type, uint32_t root, struct comm *c, struct stream *s) {
  uint64_t n = count * hccl_size_of(type);
  struct exchange x = call(c, "HcclScatter", type, count, in, c->rank == root ? n * c->ranks : 0, out);
  x.said.root = root;
  if (root < c->ranks) x.parts[root] = (struct part){c->rank * n, n, 0};
  return launch(x, s);
}

/* The counts and places of both sides, in elements. */
static int all_to_all(const char *name, const void *in, const uint64_t *counts, const uint64_t *places, void *out,
                      const uint64_t *out_counts, const uint64_t *out_places, int type, struct comm *c,
                      struct stream *s) {
  uint64_t w = hccl_size_of(type), size = 0;
  EACH(c) size = (places[r] + counts[r]) * w > size ? (places[r] + counts[r]) * w : size;
  struct exchange x = call(c, name, type, 0, in, size, out);
  x.by_sender = 1;
  EACH(c) {
    x.parts[r] = (struct part){0, out_counts[r] * w, out_places[r] * w};
    x.said.from[r] = places[r] * w;
    x.said.sizes[r] = counts[r] * w;
  }
  return launch(x, s);
}
int HcclAlltoAllV(const void *in, const uint64_t *counts, const uint64_t *places, int type, void *out,
                  const uint64_t *out_counts, const uint64_t *out_places, int out_type, struct comm *c,
                  struct stream *s) {
  if (type != out_type) return hccl_wrong(HCCL_E_PARA, "HcclAlltoAllV of two types");
  return all_to_all("HcclAlltoAllV", in, counts, places, out, out_counts, out_places, type, c, s);
}
int HcclAlltoAll(const void *in, uint64_t count, int type, void *out, uint64_t out_count, int out_type, struct comm *c,
                 struct stream *s) {
  uint64_t counts[MAX_RANKS], places[MAX_RANKS];
  if (type != out_type || count != out_count) return hccl_wrong(HCCL_E_PARA, "HcclAlltoAll of two types or sizes");
  EACH(c) counts[r] = count, places[r] = r * count;
  return all_to_all("HcclAlltoAll", in, counts, places, out, counts, places, type, c, s);
}
/* `matrix[a * ranks + b]`: elements from a to b, side by side in memory. */
int HcclAlltoAllVC(const void *in, const uint64_t *matrix, int type, void *out, int out_type, struct comm *c,
                   struct stream *s) {
  uint64_t counts[MAX_RANKS], places[MAX_RANKS], out_counts[MAX_RANKS], out_places[MAX_RANKS], at = 0, out_at = 0;
  if (type != out_type) return hccl_wrong(HCCL_E_PARA, "HcclAlltoAllVC of two types");
  EACH(c) {
    counts[r] = matrix[c->rank * c->ranks + r], out_counts[r] = matrix[r * c->ranks + c->rank];
    places[r] = at, out_places[r] = out_at;
    at += counts[r], out_at += out_counts[r];
  }
  return all_to_all("HcclAlltoAllVC", in, counts, places, out, out_counts, out_places, type, c, s);
}
int HcclBarrier(struct comm *c, struct stream *s) { return launch(call(c, "HcclBarrier", 0, 0, NULL, 0, NULL), s); }
