/* Queues: what waits on a stream for other processes, and all launches behind it, in order.
 *
 * A collective's launch returns at once. What cannot run yet stands in its stream's queue. Every launch, wait and
 * synchronization moves all queues on; between those, a thread does it that runs no operators, as these need Python. */
#include "cann.h"
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

struct queued {
  struct step step;
  struct queued *next;
};

int emu_blocking = 1;
void emu_set_blocking(int on) { emu_blocking = on; }

static _Atomic int waiting_steps; /* on all streams, those included that run just now */
static pthread_cond_t some_wait = PTHREAD_COND_INITIALIZER;

int pending(struct event *e) { return e->done < e->asked; }

static void hold(struct step *x) {
  if (x->event) x->event->held++;
}
void release_event(struct event *e) {
  pthread_mutex_lock(&emu_lock);
  int last = !--e->held && e->destroyed;
  pthread_mutex_unlock(&emu_lock);
  if (last) free(e);
}
static void drop(struct queued *q) {
  struct step *x = &q->step;
  if (x->kind == STEP_OPERATOR) python_operator_of(x->call, FORGET);
  if (x->event) release_event(x->event);
  if (x->kind == STEP_EXCHANGE) free_exchange(x->exchange);
  free(q);
  waiting_steps--;
}

/* Takes what stands first, unless it runs already, or is an operator and must not run here. */
static struct queued *take(struct stream *s, int operators) {
  pthread_mutex_lock(&emu_lock);
  struct queued *q = s->busy || s->waiting ? NULL : s->first;
  if (q && !operators && (q->step.kind == STEP_OPERATOR || q->step.kind == STEP_REPLAY)) q = NULL;
  if (q) {
    s->busy = 1;
    if (!(s->first = q->next)) s->last = NULL;
  }
  pthread_mutex_unlock(&emu_lock);
  return q;
}
static void restore(struct stream *s, struct queued *q) { /* first again */
  q->next = s->first;
  s->first = q;
  if (!s->last) s->last = q;
}
static void clear(struct stream *s) {
  pthread_mutex_lock(&emu_lock);
  struct queued *q = s->first;
  s->first = s->last = NULL;
  pthread_mutex_unlock(&emu_lock);
  for (struct queued *next; q; q = next) {
    next = q->next;
    drop(q);
  }
}

static aclError advance(struct stream *s, int operators) {
  for (struct queued *q; (q = take(s, operators));) {
    int code = run_step(&q->step, s);
    if (code && code != HELD) { /* the stream is dead, as every later synchronization tells */
      const char *text = aclGetRecentErrMsg();
      emu_die(text ? text : "emulated NPU: a launch in a queue failed");
      clear(s);
    }
    pthread_mutex_lock(&emu_lock);
    if (code == HELD) restore(s, q);
    s->busy = 0;
    pthread_mutex_unlock(&emu_lock);
    if (code == HELD) return OK;
    drop(q);
    if (code) return code;
  }
  return OK;
}
static void advance_all(int operators) {
  for (struct stream *s = emu_streams; s && waiting_steps; s = s->older) advance(s, operators);
}

static void *background(void *unused) {
  for (;;) {
    pthread_mutex_lock(&emu_lock);
    while (!waiting_steps) pthread_cond_wait(&some_wait, &emu_lock);
    pthread_mutex_unlock(&emu_lock);
    advance_all(0);
    usleep(500);
  }
  return NULL;
}
static void start_background(void) {
  pthread_t thread;
  if (!pthread_create(&thread, NULL, background, NULL)) pthread_detach(thread);
}

static void insert(struct stream *s, struct step x, int first) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start_background);
  struct queued *q = calloc(1, sizeof *q);
  q->step = x;
  pthread_mutex_lock(&emu_lock);
  hold(&q->step);
  waiting_steps++;
  if (first) {
    restore(s, q);
  } else {
    if (s->last) s->last->next = q;
    else s->first = q;
    s->last = q;
  }
  pthread_cond_signal(&some_wait);
  pthread_mutex_unlock(&emu_lock);
}
void append(struct stream *s, struct step x) { insert(s, x, 0); }
void put_first(struct stream *s, struct step x) { insert(s, x, 1); }

aclError enqueue(struct stream *s, struct step x) {
  append(s, x);
  int code = advance(s, 1);
  if (code) still_alive(); /* the text once more, for this call */
  return code;
}

static int holds(struct stream *s) {
  pthread_mutex_lock(&emu_lock);
  int some = s->first || s->busy;
  pthread_mutex_unlock(&emu_lock);
  return some;
}
int holds_work(struct stream *s) {
  if (!s || !waiting_steps) return 0;
  advance_all(1);
  return holds(s);
}

/* A stream whose graph waits for a word goes no further by itself; an error where that holds up what is waited for. */
static aclError stuck(struct stream *wanted) {
  for (struct stream *s = emu_streams; s; s = s->older)
    if ((wanted ? s == wanted : s->first != NULL) && accepts_work(s)) return ERR_EMULATOR;
  return OK;
}

/* Moves all queues on and then rests, longer with each turn, until a stream, an event, or all streams are done. */
static aclError until(struct stream *s, struct event *e) {
  for (long turn = 0; waiting_steps && (!s || holds(s)) && (!e || pending(e)); turn++) {
    advance_all(1);
    if (still_alive()) return still_alive();
    if (stuck(s)) return ERR_EMULATOR;
    if (turn < 200) sched_yield();
    else usleep(turn < 2000 ? 20 : 200);
  }
  return still_alive();
}
aclError finish(struct stream *s) { return until(s, NULL); }
aclError finish_event(struct event *e) { return until(NULL, e); }
