/* Shared by the parts of a CANN runtime for machines without an NPU: error codes, error text, streams, graphs.
 *
 * Device memory is host memory, and a launch runs at once, but for what stands on its stream behind a collective that
 * waits for other processes (queues.c). An event is a reading of the clock. aclnn operators are forwarded to Python
 * (calls.py). Whatever is not emulated fails with an error that names it, never silently. */
#ifndef EMULATED_CANN_H
#define EMULATED_CANN_H

#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int aclError;

enum {
  OK = 0,
  ERR_MEMORY = 207001,  /* ACL_ERROR_RT_MEMORY_ALLOCATION */
  ERR_EMULATOR = 561999 /* not 207000 (FEATURE_NOT_SUPPORT): torch_npu only warns about that one and goes on */
};
enum { WORD = -1, HELD = -2 }; /* not errors: a step waits for a word in memory, or for other processes */

/* errors.c */
aclError fail(const char *text);         /* keeps the text for torch_npu's exception, gives ERR_EMULATOR */
aclError not_emulated(const char *name); /* the same for a CANN function that is missing here */
aclError still_alive(void);              /* OK, or the error that an asynchronous kernel left behind */
void emu_die(const char *text);          /* makes every later synchronization fail */
const char *aclGetRecentErrMsg(void);
#define NOT_EMULATED(f) \
  aclError f(void) { return not_emulated(#f); }
#define SUCCEEDS(f) \
  aclError f(void) { return OK; }

/* One lock for all tables here: they are small and seldom contended. */
extern pthread_mutex_t emu_lock;

/* device.c */
extern __thread int emu_device;
extern size_t emu_capacity;
extern int emu_devices;

/* streams.c, graphs.c, queues.c */
struct event {
  struct timespec time;
  struct graph *graph;  /* the capture in which it was recorded */
  uint64_t asked, done; /* how often it was recorded, and which of these times has come */
  int held, destroyed;  /* steps in queues that name it; whether the last of them frees it */
};

enum step_kind {
  STEP_COPY,
  STEP_SET,
  STEP_OPERATOR,
  STEP_WAIT,
  STEP_WRITE,
  STEP_EXCHANGE, /* of data with other processes */
  STEP_RECORD,   /* of an event; this one and the next two stand in queues alone, not in graphs */
  STEP_EVENT,    /* a wait for an event */
  STEP_REPLAY    /* the rest of a graph */
};

struct step { /* one launch in a graph or in a queue */
  enum step_kind kind;
  void *target; /* for a wait or a write: a 64-bit word, with which torch_npu makes its ExternalEvent */
  const void *source;
  size_t count;
  int64_t value; /* to set, to wait for or to write; an event's recording; a replay's next step */
  uint64_t call; /* the key under which Python keeps an operator's call */
  struct event *event;
  struct graph *graph;
  struct exchange *exchange;
};

struct graph {
  struct step *steps;
  int count, active;
};

struct task_group { /* the launches of a graph that may be replaced between replays */
  struct graph *graph;
  int first, end;
};

struct stream {
  int id;
  struct graph *captured;   /* the graph into which launches on this stream go */
  struct graph *waiting;    /* a replay that stands at a wait for a word ... */
  int at;                   /* ... and at which of its steps */
  struct task_group *group; /* being captured, or being updated */
  int updating, next;       /* whether it is the latter, and the next step of it to replace */
  struct queued *first, *last; /* what waits on this stream */
  int busy;                    /* whether a thread runs what stood first */
  struct stream *older;
};

extern struct stream *emu_streams;
struct graph *capturing(struct stream *s);
aclError accepts_work(struct stream *s);     /* an error while a replay on this stream waits for a word */
int record(struct stream *s, struct step x); /* 1 if the stream is captured: the launch is kept, not run */

int run_step(struct step *x, struct stream *s); /* OK, HELD, WORD or an error */

/* queues.c */
extern int emu_blocking;                           /* whether the host waits where a stream does */
int holds_work(struct stream *s);                 /* whether a launch on this stream has to wait for its turn */
aclError enqueue(struct stream *s, struct step x); /* runs it when its turn comes, at once if it can */
void append(struct stream *s, struct step x);     /* the same, but nothing runs before the caller is ready */
void put_first(struct stream *s, struct step x);  /* the rest of what has begun */
aclError finish(struct stream *s);                /* waits until nothing waits on a stream (NULL: on any) */
aclError finish_event(struct event *e);
int pending(struct event *e);
void release_event(struct event *e);
int python_operator_of(uint64_t key, int request);
enum { RUN = 0, FORGET = 1 }; /* what Python is asked to do with a kept operator */

/* hccl_exchange.c */
int run_exchange(struct exchange *x);  /* OK, HELD or an error */
void free_exchange(struct exchange *x);

aclError aclrtMemcpy(void *target, size_t room, const void *source, size_t count, int kind);
aclError aclrtMemset(void *target, size_t room, int value, size_t count);

#endif
