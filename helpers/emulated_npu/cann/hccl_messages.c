/* Messages between two ranks. A send ends when its receiver has taken all of it, as on a device: two ranks that first
 * send to each other, one after the other, wait for ever. What stands in one group goes on side by side. */
#include "hccl.h"

struct batch_item { /* HcclSendRecvItem */
  int receives;
  void *data;
  uint64_t count;
  int type;
  uint32_t peer;
};

static __thread struct {
  int depth, count;
  struct item *items;
  struct comm *comm;
  struct stream *stream;
} group;

/* Moves one piece, or sees that the last one was taken. 1 if something moved, 0 if not, or an error below 0. */
static int move(struct exchange *x, struct item *i) {
  struct comm *c = x->comm;
  uint32_t from = i->receives ? i->peer : c->rank, to = i->receives ? c->rank : i->peer;
  _Atomic uint64_t *sent = &c->s->box[from][to].sent, *taken = &c->s->box[from][to].taken;
  int full = atomic_load(sent) > atomic_load(taken);
  uint64_t at = i->pieces * BOX, left = i->size > at ? i->size - at : 0, n = left < BOX ? left : BOX;
  int all = i->pieces && !left;
  if (!i->receives && !full && all) return i->done = 1; /* the last piece was taken */
  if (full != i->receives) return 0;
  if (i->receives) {
    uint64_t size = c->s->box[from][to].size;
    int type = c->s->box[from][to].type;
    if (size != i->size || type != i->type)
      return -hccl_wrong(HCCL_E_PARA, "messages differ: rank %d sends %lu bytes of %s, rank %d receives %lu of %s",
                         c->s->world_rank[from], (unsigned long)size, hccl_type_name(type), c->s->world_rank[to],
                         (unsigned long)i->size, hccl_type_name(i->type));
    memcpy(i->data + at, hccl_box(c, from, to), n);
    atomic_fetch_add(taken, 1);
    i->done = left <= BOX;
  } else {
    c->s->box[from][to].size = i->size;
    c->s->box[from][to].type = i->type;
    memcpy(hccl_box(c, from, to), i->data + at, n);
    atomic_fetch_add(sent, 1);
  }
  i->pieces++;
  return 1;
}

static int behind(struct exchange *x, int k) { /* messages of one pair and direction keep their order */
  for (int j = 0; j < k; j++)
    if (!x->items[j].done && x->items[j].peer == x->items[k].peer && x->items[j].receives == x->items[k].receives)
      return 1;
  return 0;
}

/* Moves what can be moved; OK, HELD or an error. */
static int move_all(struct exchange *x) {
  for (int moved = 1; moved;) {
    moved = 0;
    for (int k = 0; k < x->count; k++) {
      if (x->items[k].done || behind(x, k)) continue;
      int answer = move(x, &x->items[k]);
      if (answer < 0) return -answer;
      moved |= answer;
    }
  }
  for (int k = 0; k < x->count; k++)
    if (!x->items[k].done) return HELD;
  return OK;
}

int run_messages(struct exchange *x) {
  int code = move_all(x);
  if (code == HELD) {
    uint32_t peers = 0;
    for (int k = x->count - 1; k >= 0; k--) {
      if (x->items[k].done) continue;
      peers |= 1u << x->items[k].peer;
      snprintf(x->said.name, sizeof x->said.name, x->items[k].receives ? "HcclRecv" : "HcclSend");
    }
    int waits = hccl_waits(x, peers);
    if (waits != HELD && (code = move_all(x)) == HELD) code = waits; /* a last look: it may have come before the end */
  }
  for (int k = 0; !code && k < x->count; k++) x->items[k].done = x->items[k].pieces = 0; /* for a graph's next replay */
  return code;
}

static int launch_group(void) {
  struct exchange x = {.comm = group.comm, .items = group.items, .count = group.count};
  group.items = NULL;
  group.comm = NULL;
  group.count = 0;
  return x.count ? hccl_launch(x, group.stream) : OK;
}

static int post(int receives, void *data, uint64_t count, int type, uint32_t peer, struct comm *c, struct stream *s) {
  if (peer >= c->ranks) return hccl_wrong(HCCL_E_PARA, "a message to or from rank %u of %u", peer, c->ranks);
  if (!hccl_size_of(type))
    return hccl_wrong(HCCL_E_NOT_SUPPORT, "messages of %s are not emulated", hccl_type_name(type));
  if (group.count && (group.comm != c || group.stream != s))
    return hccl_wrong(HCCL_E_NOT_SUPPORT, "one group of messages on two communicators or streams is not emulated");
  group.items = realloc(group.items, (group.count + 1) * sizeof *group.items);
  group.items[group.count++] =
      (struct item){.receives = receives, .type = type, .data = data, .size = count * hccl_size_of(type), .peer = peer};
  group.comm = c;
  group.stream = s;
  return group.depth ? OK : launch_group();
}
int HcclSend(void *data, uint64_t count, int type, uint32_t to, struct comm *c, struct stream *s) {
  return post(0, data, count, type, to, c, s);
}
int HcclRecv(void *data, uint64_t count, int type, uint32_t from, struct comm *c, struct stream *s) {
  return post(1, data, count, type, from, c, s);
}
int HcclGroupStart(void) { return group.depth++, OK; }
int HcclGroupEnd(void) {
  if (!group.depth) return hccl_wrong(HCCL_E_PARA, "the end of a group that was not begun");
  return --group.depth ? OK : launch_group();
}
int HcclBatchSendRecv(struct batch_item *items, uint32_t count, struct comm *c, struct stream *s) {
  HcclGroupStart();
  int code = OK;
  for (uint32_t i = 0; i < count && !code; i++)
    code = post(items[i].receives, items[i].data, items[i].count, items[i].type, items[i].peer, c, s);
  int end = HcclGroupEnd();
  return code ? code : end;
}
