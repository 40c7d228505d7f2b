/* The collective library between processes of one machine: data goes through memory that they share.
 *
 * A communicator is one piece of shared memory: for each rank a slot that all others read, for each ordered pair of
 * ranks a box for messages. It has no name in the file system: rank 0 makes it, and others open it through rank 0's
 * process. So nothing is left behind, however the processes end. */
#ifndef EMULATED_HCCL_H
#define EMULATED_HCCL_H
#include "cann.h"
#include <stdatomic.h>

enum { MAX_RANKS = 16, SLOT = 1 << 20, BOX = 1 << 16, CHILDREN = 64 };
enum { /* HcclResult */
  HCCL_E_PARA = 1,
  HCCL_E_INTERNAL = 4,
  HCCL_E_NOT_SUPPORT = 5,
  HCCL_E_TIMEOUT = 9,
  HCCL_E_REMOTE = 21
};

struct said { /* what a rank says about its part of a collective */
  char name[24];
  int type, op;
  uint32_t root;
  uint64_t count;                             /* of elements, where all ranks must name the same; else 0 */
  uint64_t size;                              /* bytes that this rank hands in */
  uint64_t from[MAX_RANKS], sizes[MAX_RANKS]; /* where in them the part for each rank begins, and its bytes */
};

struct child { /* a communicator that is made of this one */
  _Atomic uint64_t id;
  _Atomic int ready, left;
  int process, file;
};

struct shared {
  _Atomic int here[MAX_RANKS]; /* number of the process */
  int world_rank[MAX_RANKS];   /* its number among all ranks, from its variable RANK; else that in here */
  _Atomic uint64_t met[MAX_RANKS], written[MAX_RANKS], read[MAX_RANKS];
  struct said said[MAX_RANKS];
  struct {
    _Atomic uint64_t sent, taken;
    uint64_t size;
    int type;
  } box[MAX_RANKS][MAX_RANKS]; /* [from][to] */
  struct child children[CHILDREN];
};

struct comm {
  struct shared *s;
  uint32_t ranks, rank;
  uint64_t meetings, pieces; /* of this rank so far */
  struct exchange *_Atomic current;
  size_t size;
  int file, held, destroyed; /* held: exchanges that name it */
  char name[128];
};

struct part { /* bytes of a rank's input that go into this rank's output */
  uint64_t from, size, to;
};

struct item { /* one message */
  int receives, type, done;
  char *data;
  uint64_t size, pieces;
  uint32_t peer;
};

struct exchange { /* one launch: a collective, or messages that go on side by side */
  struct comm *comm;
  struct said said;
  const char *in;
  char *out;
  struct part parts[MAX_RANKS]; /* one for each rank's input */
  int sums, by_sender;          /* whether parts are summed; whether each sender says where its part begins */
  struct item *items;           /* messages, else NULL */
  int count;
  double since, looked; /* when it began to wait, and last looked whether the others live */
  uint64_t piece;       /* of a collective: pieces done */
  int shown;
};

/* hccl_communicators.c */
double hccl_now(void);
char *hccl_slot(struct comm *c, uint32_t rank);
char *hccl_box(struct comm *c, uint32_t from, uint32_t to);
int hccl_gone(struct comm *c, uint32_t rank); /* whether a rank's process has ended, or has left */
void hccl_release(struct comm *c);

/* hccl_types.c */
size_t hccl_size_of(int type); /* bytes of an element; 0 for a type that is not emulated */
const char *hccl_type_name(int type);
void hccl_combine(void *into, const void *from, size_t bytes, int type, int op);

/* hccl_exchange.c, hccl_messages.c */
int hccl_launch(struct exchange x, struct stream *s);
int hccl_waits(struct exchange *x, uint32_t peers); /* HELD, or an error: one of these ranks (bits) is gone, or late */
int run_messages(struct exchange *x);
int hccl_wrong(int code, const char *format, ...);

#endif
