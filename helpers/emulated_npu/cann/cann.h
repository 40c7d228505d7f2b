/* Shared by the parts of a CANN runtime for machines without an NPU: error codes, error text, streams, graphs.
 *
 * Device memory is host memory, a launch runs at once, an event is a reading of the clock. aclnn operators are
 * forwarded to Python (calls.py). Whatever is not emulated fails with an error that names it, never silently. */
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

/* errors.c */
aclError fail(const char *text);         /* keeps the text for torch_npu's exception, gives ERR_EMULATOR */
aclError not_emulated(const char *name); /* the same for a CANN function that is missing here */
aclError still_alive(void);              /* OK, or the error that an asynchronous kernel left behind */
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

/* streams.c, graphs.c */
struct event {
  struct timespec time;
  struct graph *graph; /* the capture in which it was recorded */
};

enum step_kind { STEP_COPY, STEP_SET, STEP_OPERATOR, STEP_WAIT, STEP_WRITE };

struct step { /* one launch in a graph */
  enum step_kind kind;
  void *target; /* for a wait or a write: a 64-bit word, with which torch_npu makes its ExternalEvent */
  const void *source;
  size_t count;
  int64_t value; /* to set, to wait for or to write */
  uint64_t call; /* the key under which Python keeps an operator's call */
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
  struct stream *older;
};

extern struct stream *emu_streams;
struct graph *capturing(struct stream *s);
aclError accepts_work(struct stream *s);     /* an error while a replay on this stream waits for a word */
int record(struct stream *s, struct step x); /* 1 if the stream is captured: the launch is kept, not run */

aclError aclrtMemcpy(void *target, size_t room, const void *source, size_t count, int kind);
aclError aclrtMemset(void *target, size_t room, int value, size_t count);

#endif
