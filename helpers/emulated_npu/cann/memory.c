/* Device memory: a capped heap per device. A header before each block keeps its size, its device and a canary. */
#include "cann.h"

#define HEADER 512
#define CANARY 0x4e50552d454d5521ull
#define MOST_DEVICES 16

struct block {
  uint64_t canary, size;
  int device;
};

static size_t used[MOST_DEVICES];

void emu_set_capacity(size_t bytes) { emu_capacity = bytes; }
size_t emu_used(int device) { return used[device]; }

static size_t rounded(size_t n) { return (n + 511) / 512 * 512; }

static int reserve(size_t n) {
  pthread_mutex_lock(&emu_lock);
  int fits = used[emu_device] + n <= emu_capacity;
  if (fits) used[emu_device] += n;
  pthread_mutex_unlock(&emu_lock);
  return fits;
}

static void release(int device, size_t n) {
  pthread_mutex_lock(&emu_lock);
  used[device] -= n;
  pthread_mutex_unlock(&emu_lock);
}

/* A failure must give 207001 and a NULL pointer: on that code torch_npu frees its cache and tries again. */
aclError aclrtMalloc(void **p, size_t n, int policy) {
  *p = NULL;
  char *raw = NULL;
  if (!reserve(n)) {
    fail("device memory capacity exceeded");
    return ERR_MEMORY;
  }
  if (!(raw = aligned_alloc(512, rounded(n) + HEADER))) {
    release(emu_device, n);
    fail("the host has no memory left for the device's");
    return ERR_MEMORY;
  }
  *(struct block *)raw = (struct block){CANARY, n, emu_device};
  *p = raw + HEADER;
  memset(*p, 0xff, n); /* NaN in every float format and -1 in integers: reading unwritten memory shows */
  return OK;
}

aclError aclrtMallocAlign32(void **p, size_t n, int policy) { return aclrtMalloc(p, n, policy); }

aclError aclrtFree(void *p) {
  if (!p) return OK;
  struct block *b = (struct block *)((char *)p - HEADER);
  if (b->canary != CANARY) return fail("aclrtFree of a pointer that is not aclrtMalloc's");
  b->canary = 0;
  release(b->device, b->size);
  free(b);
  return OK;
}

aclError aclrtGetMemInfo(int attribute, size_t *unused, size_t *total) {
  *total = emu_capacity;
  *unused = used[emu_device] < emu_capacity ? emu_capacity - used[emu_device] : 0;
  return OK;
}

aclError aclrtMallocHost(void **p, size_t n) {
  *p = aligned_alloc(512, rounded(n));
  return *p ? OK : ERR_MEMORY;
}
aclError aclrtMallocHostWithCfg(void **p, uint64_t n, void *config) { return aclrtMallocHost(p, n); }
aclError aclrtFreeHost(void *p) {
  free(p);
  return OK;
}

aclError aclrtMemcpy(void *target, size_t room, const void *source, size_t count, int kind) {
  if (count > room) return fail("aclrtMemcpy of more bytes than its target has");
  memmove(target, source, count);
  return OK;
}

aclError aclrtMemset(void *target, size_t room, int value, size_t count) {
  if (count > room) return fail("aclrtMemset of more bytes than its target has");
  memset(target, value, count);
  return OK;
}

aclError aclrtMemcpyAsync(void *target, size_t room, const void *source, size_t count, int kind, void *stream) {
  if (accepts_work(stream)) return ERR_EMULATOR;
  struct step copy = {.kind = STEP_COPY, .target = target, .source = source, .count = count};
  if (record(stream, copy)) return OK;
  return holds_work(stream) ? enqueue(stream, copy) : aclrtMemcpy(target, room, source, count, kind);
}

aclError aclrtMemsetAsync(void *target, size_t room, int value, size_t count, void *stream) {
  if (accepts_work(stream)) return ERR_EMULATOR;
  struct step set = {.kind = STEP_SET, .target = target, .count = count, .value = value};
  if (record(stream, set)) return OK;
  return holds_work(stream) ? enqueue(stream, set) : aclrtMemset(target, room, value, count);
}
