/* Streams and events. Everything has finished by the time its launch returns, except a graph that waits. */
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
  *status = s && s->waiting ? 1 : 0; /* ACL_STREAM_STATUS_NOT_READY, _COMPLETE */
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
  return accepts_work(s) ? ERR_EMULATOR : still_alive();
}
aclError aclrtSynchronizeStreamWithTimeout(struct stream *s, int ms) { return aclrtSynchronizeStream(s); }

aclError aclrtSynchronizeDevice(void) {
  for (struct stream *s = emu_streams; s; s = s->older)
    if (accepts_work(s)) return ERR_EMULATOR;
  return still_alive();
}
aclError aclrtSynchronizeDeviceWithTimeout(int ms) { return aclrtSynchronizeDevice(); }

aclError aclrtCreateEventExWithFlag(struct event **out, uint32_t flag) {
  *out = calloc(1, sizeof **out);
  return OK;
}
aclError aclrtCreateEventWithFlag(struct event **out, uint32_t flag) { return aclrtCreateEventExWithFlag(out, flag); }
aclError aclrtDestroyEvent(struct event *e) {
  free(e);
  return OK;
}
SUCCEEDS(aclrtResetEvent)

aclError aclrtRecordEvent(struct event *e, struct stream *s) {
  if (accepts_work(s)) return ERR_EMULATOR;
  clock_gettime(CLOCK_MONOTONIC, &e->time);
  e->graph = capturing(s);
  return OK;
}

aclError aclrtStreamWaitEvent(struct stream *s, struct event *e) {
  if (s && e->graph && e->graph->active) s->captured = e->graph; /* a stream that waits for a captured one joins in */
  return OK;
}

aclError aclrtSynchronizeEvent(struct event *e) { return still_alive(); }
aclError aclrtQueryEventStatus(struct event *e, int *status) {
  *status = 1; /* ACL_EVENT_RECORDED_STATUS_COMPLETE */
  return OK;
}
aclError aclrtQueryEventWaitStatus(struct event *e, int *status) {
  *status = 0; /* ACL_EVENT_WAIT_STATUS_COMPLETE */
  return OK;
}
aclError aclrtEventElapsedTime(float *ms, struct event *from, struct event *to) {
  *ms = (to->time.tv_sec - from->time.tv_sec) * 1e3f + (to->time.tv_nsec - from->time.tv_nsec) / 1e6f;
  return OK;
}
