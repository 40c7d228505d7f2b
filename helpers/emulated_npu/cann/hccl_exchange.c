/* A launch on its way: a state that moves on when others have done their part, and never blocks.
 *
 * A collective goes piece by piece. Each rank writes a piece of its input into its slot, and when all have, copies or
 * sums what it wants of each slot. It writes the next piece when all have read the last one. */
#include "hccl.h"

#define BROKEN ((struct exchange *)1)

int hccl_wrong(int code, const char *format, ...) {
  char text[400];
  va_list words;
  va_start(words, format);
  int n = snprintf(text, sizeof text, "HCCL: ");
  vsnprintf(text + n, sizeof text - n, format, words);
  va_end(words);
  fail(text);
  return code;
}

int hccl_launch(struct exchange x, struct stream *s) {
  if (accepts_work(s)) return HCCL_E_INTERNAL;
  struct exchange *kept = malloc(sizeof x);
  *kept = x;
  pthread_mutex_lock(&emu_lock);
  x.comm->held++;
  pthread_mutex_unlock(&emu_lock);
  struct step step = {.kind = STEP_EXCHANGE, .exchange = kept};
  if (record(s, step)) return OK;
  if (s) return enqueue(s, step);
  int code = HELD;
  while (code == HELD) code = run_exchange(kept);
  free_exchange(kept);
  return code;
}
void free_exchange(struct exchange *x) {
  struct exchange *mine = x; /* a communicator whose exchange was dropped half way is broken */
  atomic_compare_exchange_strong(&x->comm->current, &mine, BROKEN);
  hccl_release(x->comm);
  free(x->items);
  free(x);
}

int hccl_waits(struct exchange *x, uint32_t peers) {
  double now = hccl_now();
  if (now < x->looked + 0.02) return HELD;
  x->looked = now;
  struct comm *c = x->comm;
  const char *limit = getenv("HCCL_EXEC_TIMEOUT");
  int late = now > x->since + (limit ? atof(limit) : 1836), gone = 0;
  uint32_t r = 0;
  while (r < c->ranks && !(gone = peers >> r & 1 && hccl_gone(c, r))) r++;
  if (!gone && !late) return HELD;
  for (r = gone ? r : 0; !(peers >> r & 1);) r++;
  return hccl_wrong(gone ? HCCL_E_REMOTE : HCCL_E_TIMEOUT, "rank %d waits in %s for rank %d (process %d), %s",
                    c->s->world_rank[c->rank], x->said.name, c->s->world_rank[r], atomic_load(&c->s->here[r]),
                    gone ? "which has ended" : "longer than HCCL_EXEC_TIMEOUT allows: does it make the same calls?");
}

/* The ranks whose counters have not come to a number, as bits. */
static uint32_t missing(struct comm *c, _Atomic uint64_t *counters, uint64_t number) {
  uint32_t bits = 0;
  for (uint32_t r = 0; r < c->ranks; r++) bits |= (uint32_t)(atomic_load(&counters[r]) < number) << r;
  return bits;
}
static int reached(struct exchange *x, _Atomic uint64_t *counters, uint64_t number) {
  uint32_t bits = missing(x->comm, counters, number);
  int code = bits ? hccl_waits(x, bits) : OK;
  return code && bits != missing(x->comm, counters, number) ? HELD : code; /* one came just before it ended */
}

static void show(struct exchange *x) {
  struct comm *c = x->comm;
  uint64_t at = x->piece * SLOT, size = x->said.size;
  if (!x->piece) c->s->said[c->rank] = x->said;
  if (at < size) memcpy(hccl_slot(c, c->rank), x->in + at, size - at < SLOT ? size - at : SLOT);
  atomic_store(&c->s->written[c->rank], ++c->pieces);
  x->shown = 1;
}

static int calls_differ(struct exchange *x, uint32_t r) {
  const struct said *sides[] = {&x->said, &x->comm->s->said[r]};
  const int ranks[] = {x->comm->s->world_rank[x->comm->rank], x->comm->s->world_rank[r]};
  char words[2][100];
  for (int i = 0; i < 2; i++)
    snprintf(words[i], sizeof words[i], "rank %d calls %s(%lu of %s, op %d, root %u)", ranks[i], sides[i]->name,
             (unsigned long)sides[i]->count, hccl_type_name(sides[i]->type), sides[i]->op, sides[i]->root);
  return hccl_wrong(HCCL_E_PARA, "calls differ: %s, %s", words[0], words[1]);
}

/* All ranks must make the same call. Where senders know best, their word says which bytes are mine. */
static int agree(struct exchange *x) {
  struct comm *c = x->comm;
  for (uint32_t r = 0; r < c->ranks; r++) {
    struct said *mine = &x->said, *other = &c->s->said[r];
    if (strcmp(mine->name, other->name) || mine->type != other->type || mine->op != other->op ||
        mine->root != other->root || mine->count != other->count)
      return calls_differ(x, r);
    struct part *part = &x->parts[r];
    if (x->by_sender) part->from = other->from[c->rank];
    uint64_t offered = x->by_sender ? other->sizes[c->rank] : other->size;
    if (x->by_sender ? part->size != offered : part->size && part->from + part->size > offered)
      return hccl_wrong(HCCL_E_PARA, "sizes differ in %s: rank %d wants %lu bytes of rank %d, which has %lu",
                        mine->name, c->s->world_rank[c->rank], (unsigned long)part->size, c->s->world_rank[r],
                        (unsigned long)offered);
  }
  return OK;
}

/* Takes what I want of all slots, in the order of ranks, so that sums have the same bits everywhere. */
static void take(struct exchange *x) {
  uint64_t begin = x->piece * SLOT, end = begin + SLOT;
  for (uint32_t r = 0; r < x->comm->ranks; r++) {
    struct part *p = &x->parts[r];
    uint64_t from = p->from > begin ? p->from : begin, to = p->from + p->size < end ? p->from + p->size : end;
    if (from >= to) continue;
    char *out = x->out + p->to + (from - p->from), *slot = hccl_slot(x->comm, r) + (from - begin);
    if (x->sums && r) hccl_combine(out, slot, to - from, x->said.type, x->said.op);
    else memcpy(out, slot, to - from);
  }
}

static int last(struct exchange *x) {
  for (uint32_t r = 0; r < x->comm->ranks; r++)
    if (x->comm->s->said[r].size > (x->piece + 1) * SLOT) return 0;
  return 1;
}

static int run_collective(struct exchange *x) {
  struct comm *c = x->comm;
  for (int code, ends = 0; !ends;) {
    if (!x->shown) {
      if ((code = reached(x, c->s->read, c->pieces))) return code;
      show(x);
    }
    if ((code = reached(x, c->s->written, c->pieces))) return code;
    if (!x->piece && (code = agree(x))) return code;
    take(x);
    ends = last(x); /* before others may say something new */
    atomic_store(&c->s->read[c->rank], c->pieces);
    x->shown = 0;
    x->piece++;
  }
  return OK;
}

int run_exchange(struct exchange *x) {
  struct exchange *none = NULL;
  struct comm *c = x->comm;
  if (!x->since) x->since = x->looked = hccl_now();
  if (!x->items && !atomic_compare_exchange_strong(&c->current, &none, x) && none != x)
    return none == BROKEN ? hccl_wrong(HCCL_E_INTERNAL, "an earlier launch on this communicator failed")
                          : HELD; /* of two streams, one at a time */
  int code = x->items ? run_messages(x) : run_collective(x);
  if (code) return code;
  x->since = x->piece = 0; /* a graph runs it again */
  if (!x->items) atomic_store(&c->current, NULL);
  return OK;
}
