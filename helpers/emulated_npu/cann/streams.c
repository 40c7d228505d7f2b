/* Streams and events. Everything has finished by the time its launch returns, except a graph that waits for a word, and
 * what stands in a queue (queues.c). */
#include "cann.h"

struct stream *emu_streams;
static int stream_count;

aclError aclrtCreateStream(struct stream **out) { /* never freed: there are few, and their ids stay unique */
  struct stream *s = calloc(1, sizeof *s);
  pthread_mutex_lock(&emu_lock);
  s->id = stream_count++;
  s->older = emu_streams;
  emu_streams = s;
  pthread_mutex_unlock(&emu_lock);
  *out = s;
  return OK;
}
aclError aclrtCreateStreamWithConfig(struct stream **out, uint32_t priority, uint32_t flag) {
  return aclrtCreateStream(out);
}
SUCCEEDS(aclrtDestroyStream)
SUCCEEDS(aclrtDestroyStreamForce)
SUCCEEDS(aclrtSetStreamAttribute)
SUCCEEDS(aclrtSetStreamFailureMode)
SUCCEEDS(aclrtSetStreamOverflowSwitch)

aclError aclrtStreamGetId(struct stream *s, int *id) {
  *id = s ? s->id : -1;
  return OK;
}
aclError aclrtStreamQuery(struct stream *s, int *status) {
  *status = s && (s->waiting || holds_work(s)) ? 1 : 0; /* ACL_STREAM_STATUS_NOT_READY, _COMPLETE */
  return OK;
}

struct graph *capturing(struct stream *s) { return s ? s->captured : NULL; }

aclError accepts_work(struct stream *s) {
  if (!s || !s->waiting) return OK;
  return fail(
      "a replayed graph on this stream waits for an event that is not recorded: update the graph first "
      "(a real device would wait for ever)");
}

aclError aclrtSynchronizeStream(struct stream *s) {
  if (capturing(s)) return fail("a stream was synchronized while it was being captured into a graph");
  return accepts_work(s) ? ERR_EMULATOR : finish(s);
}
aclError aclrtSynchronizeStreamWithTimeout(struct stream *s, int ms) { return aclrtSynchronizeStream(s); }

aclError aclrtSynchronizeDevice(void) {
  for (struct stream *s = emu_streams; s; s = s->older)
    if (accepts_work(s)) return ERR_EMULATOR;
  return finish(NULL);
}
aclError aclrtSynchronizeDeviceWithTimeout(int ms) { return aclrtSynchronizeDevice(); }

aclError aclrtCreateEventExWithFlag(struct event **out, uint32_t flag) {
  *out = calloc(1, sizeof **out);
  return OK;
}
aclError aclrtCreateEventWithFlag(struct event **out, uint32_t flag) { return aclrtCreateEventExWithFlag(out, flag); }
aclError aclrtDestroyEvent(struct event *e) {
  e->destroyed = 1;
  e->held++;
  release_event(e);
  return OK;
}
SUCCEEDS(aclrtResetEvent)

aclError aclrtRecordEvent(struct event *e, struct stream *s) {
  if (accepts_work(s)) return ERR_EMULATOR;
  e->graph = capturing(s);
  struct step recording = {.kind = STEP_RECORD, .event = e, .value = ++e->asked};
  return holds_work(s) ? enqueue(s, recording) : run_step(&recording, s);
}

/* A stream that waits for a captured one joins in. With ASCEND_LAUNCH_BLOCKING the host waits, too: the call that needs
 * a collective raises its error. */
aclError aclrtStreamWaitEvent(struct stream *s, struct event *e) {
  if (s && e->graph && e->graph->active) s->captured = e->graph;
  if (!pending(e)) return OK;
  if (!s || capturing(s) || emu_blocking) return finish_event(e);
  return enqueue(s, (struct step){.kind = STEP_EVENT, .event = e, .value = e->asked});
}

aclError aclrtSynchronizeEvent(struct event *e) { return finish_event(e); }
aclError aclrtQueryEventStatus(struct event *e, int *status) {
  *status = !pending(e); /* ACL_EVENT_RECORDED_STATUS_COMPLETE is 1 */
  return OK;
}
aclError aclrtQueryEventWaitStatus(struct event *e, int *status) {
  *status = pending(e); /* ACL_EVENT_WAIT_STATUS_COMPLETE is 0 */
  return OK;
}
aclError aclrtEventElapsedTime(float *ms, struct event *from, struct event *to) {
  *ms = (to->time.tv_sec - from->time.tv_sec) * 1e3f + (to->time.tv_nsec - from->time.tv_nsec) / 1e6f;
  return OK;
}
