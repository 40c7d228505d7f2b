/* NPU graphs: while a stream is captured its launches are listed, not run; a replay runs the list. */
#include "cann.h"

enum { RUN_NOW = 0, KEPT = 1 }; /* answers to Python about a launched operator */

static int (*python_operator)(uint64_t key, int request);
void emu_set_operator_callback(void *f) { python_operator = f; }
int python_operator_of(uint64_t key, int request) { return python_operator(key, request); }

int record(struct stream *s, struct step x) {
  struct graph *g = capturing(s);
  if (!g) return 0;
  g->steps = realloc(g->steps, (g->count + 1) * sizeof x);
  g->steps[g->count++] = x;
  return 1;
}

/* Puts a launch in the place of the next operator of the task group that is being updated. */
static aclError replace(struct stream *s, uint64_t key) {
  struct task_group *group = s->group;
  if (!group->graph) return fail("the updated task group belongs to a graph that is gone");
  while (s->next < group->end && group->graph->steps[s->next].kind != STEP_OPERATOR) s->next++;
  if (s->next >= group->end) return fail("more operators in a task update than its group has");
  struct step *old = &group->graph->steps[s->next++];
  python_operator(old->call, FORGET);
  old->call = key;
  return OK;
}

/* What becomes of an operator's launch: RUN_NOW, KEPT (in a graph or a queue) or an error code. */
int emu_launch(struct stream *s, uint64_t key) {
  struct step operator = {.kind = STEP_OPERATOR, .call = key};
  if (accepts_work(s)) return ERR_EMULATOR;
  if (s && s->updating) return replace(s, key) ? ERR_EMULATOR : KEPT;
  if (record(s, operator)) return KEPT;
  if (!holds_work(s)) return RUN_NOW;
  append(s, operator);
  return KEPT;
}

aclError aclmdlRICaptureBegin(struct stream *s, int mode) {
  if (!s || capturing(s)) return fail("this stream cannot be captured");
  if (accepts_work(s)) return ERR_EMULATOR;
  s->captured = calloc(1, sizeof *s->captured);
  s->captured->active = 1;
  return OK;
}
aclError aclmdlRICaptureGetInfo(struct stream *s, int *status, struct graph **g) {
  *g = capturing(s);
  *status = *g != NULL;
  return OK;
}
aclError aclmdlRICaptureEnd(struct stream *s, struct graph **out) {
  struct graph *g = *out = capturing(s);
  if (!g) return fail("the end of a capture that was not begun");
  g->active = 0;
  for (struct stream *x = emu_streams; x; x = x->older)
    if (x->captured == g) x->captured = NULL;
  return OK;
}
SUCCEEDS(aclmdlRICaptureThreadExchangeMode)

static int run_from(struct graph *g, int64_t *at, struct stream *s);

int run_step(struct step *x, struct stream *s) {
  switch (x->kind) {
    case STEP_COPY:
      memmove(x->target, x->source, x->count);
      return OK;
    case STEP_SET:
      memset(x->target, x->value, x->count);
      return OK;
    case STEP_OPERATOR:
      return python_operator(x->call, RUN);
    case STEP_WAIT:
      return *(int64_t *)x->target == x->value ? OK : WORD;
    case STEP_WRITE:
      *(int64_t *)x->target = x->value;
      return OK;
    case STEP_EXCHANGE:
      return run_exchange(x->exchange);
    case STEP_RECORD:
      clock_gettime(CLOCK_MONOTONIC, &x->event->time);
      if (x->event->done < x->value) x->event->done = x->value;
      return OK;
    case STEP_EVENT:
      return x->event->done < x->value ? HELD : OK;
    case STEP_REPLAY:
      return run_from(x->graph, &x->value, s);
  }
  return ERR_EMULATOR;
}

/* Runs a graph's steps from `*at` on, which it moves. HELD: one of them waits for other processes. */
static int run_from(struct graph *g, int64_t *at, struct stream *s) {
  for (; *at < g->count; ++*at) {
    int code = run_step(&g->steps[*at], s);
    if (code == WORD && s) { /* the rest runs when the word is written */
      s->waiting = g;
      s->at = *at;
      return OK;
    }
    if (code) return code == WORD ? fail("a graph on the default stream waits for a word") : code;
  }
  return OK;
}

static aclError replay(struct graph *g, int at, struct stream *s) {
  struct step rest = {.kind = STEP_REPLAY, .graph = g, .value = at};
  int code = run_from(g, &rest.value, s);
  while (code == HELD && !s) code = run_from(g, &rest.value, s);
  if (code == HELD) put_first(s, rest);
  return code == HELD ? OK : code;
}

aclError aclmdlRIExecuteAsync(struct graph *g, struct stream *s) {
  if (accepts_work(s)) return ERR_EMULATOR;
  if (holds_work(s)) return enqueue(s, (struct step){.kind = STEP_REPLAY, .graph = g});
  return replay(g, 0, s);
}

#define EQUAL 1 /* the comparison that torch_npu's ExternalEvent asks for */
aclError aclrtValueWait(int64_t *word, uint64_t value, uint32_t comparison, struct stream *s) {
  struct step wait = {.kind = STEP_WAIT, .target = word, .value = value};
  if (comparison != EQUAL) return not_emulated("aclrtValueWait with this comparison");
  if (record(s, wait) || *word == (int64_t)value) return OK;
  return fail("a wait, outside a graph, for an event that is not recorded");
}

aclError aclrtValueWrite(int64_t *word, uint64_t value, uint32_t flag, struct stream *s) {
  struct step write = {.kind = STEP_WRITE, .target = word, .value = value};
  if (record(s, write)) return OK;
  *word = value;
  for (struct stream *other = emu_streams; other; other = other->older) {
    struct graph *g = other->waiting;
    if (!g || g->steps[other->at].target != word) continue;
    other->waiting = NULL;
    int code = replay(g, other->at, other);
    if (code) return code;
  }
  return OK;
}

static struct task_group *
    *groups; /* kept for ever, so that a handle of a dead graph is an error and not a wild read */
static int group_count;

aclError aclmdlRIDestroy(struct graph *g) {
  finish(NULL); /* a queue may hold the rest of a replay */
  for (int i = 0; i < g->count; i++) {
    if (g->steps[i].kind == STEP_OPERATOR) python_operator(g->steps[i].call, FORGET);
    if (g->steps[i].kind == STEP_EXCHANGE) free_exchange(g->steps[i].exchange);
  }
  for (int i = 0; i < group_count; i++)
    if (groups[i]->graph == g) groups[i]->graph = NULL;
  for (struct stream *s = emu_streams; s; s = s->older)
    if (s->waiting == g) s->waiting = NULL;
  free(g->steps);
  free(g);
  return OK;
}
aclError aclmdlRIGetId(struct graph *g, uint32_t *id) {
  *id = (uint32_t)((uintptr_t)g >> 4);
  return OK;
}

aclError aclmdlRICaptureTaskGrpBegin(struct stream *s) {
  struct graph *g = capturing(s);
  if (!g || s->group) return fail("a task group begins only once, on a stream that is being captured");
  s->group = calloc(1, sizeof *s->group);
  *s->group = (struct task_group){g, g->count, g->count};
  return OK;
}
aclError aclmdlRICaptureTaskGrpEnd(struct stream *s, struct task_group **out) {
  if (!s || !s->group || s->updating) return fail("the end of a task group that was not begun");
  struct task_group *group = *out = s->group;
  group->end = group->graph->count;
  s->group = NULL;
  pthread_mutex_lock(&emu_lock);
  groups = realloc(groups, (group_count + 1) * sizeof *groups);
  groups[group_count++] = group;
  pthread_mutex_unlock(&emu_lock);
  return OK;
}
aclError aclmdlRICaptureTaskUpdateBegin(struct stream *s, struct task_group *group) {
  if (!s || s->group || capturing(s)) return fail("a task update begins only once, on a stream that is not captured");
  s->group = group;
  s->updating = 1;
  s->next = group->first;
  return OK;
}
aclError aclmdlRICaptureTaskUpdateEnd(struct stream *s) {
  if (!s || !s->updating) return fail("the end of a task update that was not begun");
  struct task_group *group = s->group;
  s->group = NULL;
  s->updating = 0;
  for (int i = s->next; group->graph && i < group->end; i++)
    if (group->graph->steps[i].kind == STEP_OPERATOR)
      return fail("fewer operators in a task update than its group has");
  return OK;
}
