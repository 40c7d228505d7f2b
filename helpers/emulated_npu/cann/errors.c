/* Error text: what torch_npu puts at the end of every exception it raises. */
#include "cann.h"

pthread_mutex_t emu_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread char recent[16384];
static __thread int recent_is_set;
static char fatal[sizeof recent];

void emu_set_error(const char *text) {
  snprintf(recent, sizeof recent, "%s", text);
  recent_is_set = 1;
}

const char *aclGetRecentErrMsg(void) {
  if (!recent_is_set) return NULL;
  recent_is_set = 0;
  return recent;
}

/* With the asynchronous task queue torch_npu reports a failed kernel once and then drops all later work in silence.
 * So a failure there is kept, and every synchronization raises it again. */
void emu_die(const char *text) {
  if (!fatal[0]) snprintf(fatal, sizeof fatal, "%s", text);
}

aclError still_alive(void) {
  if (!fatal[0]) return OK;
  emu_set_error(fatal);
  return ERR_EMULATOR;
}

aclError fail(const char *text) {
  char line[512];
  snprintf(line, sizeof line, "emulated NPU: %s", text);
  emu_set_error(line);
  return ERR_EMULATOR;
}

aclError not_emulated(const char *name) {
  char line[256];
  snprintf(line, sizeof line, "the CANN function %s is not emulated", name);
  return fail(line);
}
