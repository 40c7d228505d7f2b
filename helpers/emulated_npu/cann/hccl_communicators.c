/* Communicators: how processes find each other, and notice that one has gone. */
#include "hccl.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

struct root { /* HcclRootInfo, which torch_npu brings to the other ranks through its store */
  char kind[16];
  int process, file;
  char unused[4108 - 24];
};
struct config { /* the beginning of HcclCommConfig */
  char reserved[24];
  uint32_t buffer_size, deterministic;
  char name[128];
};

double hccl_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
char *hccl_slot(struct comm *c, uint32_t rank) { return (char *)(c->s + 1) + (size_t)rank * SLOT; }
char *hccl_box(struct comm *c, uint32_t from, uint32_t to) {
  return hccl_slot(c, c->ranks) + ((size_t)from * c->ranks + to) * BOX;
}

/* Each rank locks the byte of its number. The system unlocks it when the process ends, also where a parent has not yet
 * collected it; such a process still seems alive to kill(). */
static struct flock lock_of(uint32_t rank) {
  return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
}
int hccl_gone(struct comm *c, uint32_t rank) {
  struct flock lock = lock_of(rank);
  return rank != c->rank && atomic_load(&c->s->here[rank]) && !fcntl(c->file, F_GETLK, &lock) &&
         lock.l_type == F_UNLCK;
}

static double limit_of(const char *variable, double seconds) {
  const char *set = getenv(variable);
  return set ? atof(set) : seconds;
}

/* A barrier of processes, for beginnings: it blocks. */
static int meet(struct comm *c, const char *what) {
  double end = hccl_now() + limit_of("HCCL_CONNECT_TIMEOUT", 120);
  atomic_store(&c->s->met[c->rank], ++c->meetings);
  for (uint32_t r = 0; r < c->ranks; r++)
    while (atomic_load(&c->s->met[r]) < c->meetings) {
      usleep(200);
      int gone = hccl_gone(c, r);
      if (atomic_load(&c->s->met[r]) >= c->meetings) break;
      if (gone) return hccl_wrong(HCCL_E_REMOTE, "rank %u of a new communicator has ended in %s", r, what);
      if (hccl_now() > end)
        return hccl_wrong(HCCL_E_TIMEOUT, "rank %u of %u did not come to %s in HCCL_CONNECT_TIMEOUT", r, c->ranks,
                          what);
    }
  return OK;
}

static int open_of(int process, int file) {
  char path[64];
  if (process == getpid()) return file;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", process, file);
  return open(path, O_RDWR | O_CLOEXEC);
}

static int join(int process, int file, uint32_t ranks, uint32_t rank, const char *name, struct comm **out) {
  *out = NULL;
  if (ranks > MAX_RANKS || rank >= ranks)
    return hccl_wrong(HCCL_E_PARA, "rank %u of %u; a communicator has 1 to %d ranks", rank, ranks, MAX_RANKS);
  struct comm *c = calloc(1, sizeof *c);
  *c = (struct comm){.ranks = ranks, .rank = rank, .file = open_of(process, file)};
  snprintf(c->name, sizeof c->name, "%s", name);
  c->size = sizeof(struct shared) + (size_t)ranks * SLOT + (size_t)ranks * ranks * BOX;
  c->s = c->file < 0 || ftruncate(c->file, c->size)
             ? MAP_FAILED
             : mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED, c->file, 0);
  if (c->s == MAP_FAILED) {
    free(c);
    return hccl_wrong(HCCL_E_REMOTE, "the memory of a communicator cannot be shared; process %d made it", process);
  }
  struct flock lock = lock_of(rank);
  fcntl(c->file, F_SETLK, &lock);
  const char *world_rank = getenv("RANK");
  c->s->world_rank[rank] = world_rank ? atoi(world_rank) : (int)rank;
  atomic_store(&c->s->here[rank], getpid());
  *out = c;
  return meet(c, "HcclCommInit");
}

int HcclGetRootInfo(struct root *root) {
  *root = (struct root){"emulated HCCL", getpid(), memfd_create("emulated HCCL", MFD_CLOEXEC)};
  return root->file < 0 ? hccl_wrong(HCCL_E_INTERNAL, "no shared memory") : OK;
}
int HcclCommInitRootInfoConfig(uint32_t ranks, const struct root *root, uint32_t rank, struct config *config,
                               struct comm **out) {
  char own[64];
  snprintf(own, sizeof own, "emulated_hccl_%d_%d", root->process, root->file);
  return join(root->process, root->file, ranks, rank, config && config->name[0] ? config->name : own, out);
}
int HcclCommInitRootInfo(uint32_t ranks, const struct root *root, uint32_t rank, struct comm **out) {
  return HcclCommInitRootInfoConfig(ranks, root, rank, NULL, out);
}

/* A communicator of some of a communicator's ranks: its rank 0 makes the memory and says so in its parent's. */
static int of_child(struct shared *s, uint64_t id, int makes, uint32_t others, int *process, int *file) {
  double end = hccl_now() + limit_of("HCCL_CONNECT_TIMEOUT", 120);
  for (; hccl_now() < end; usleep(100))
    for (struct child *child = s->children; child < s->children + CHILDREN; child++) {
      uint64_t unused = 0;
      if (makes && atomic_compare_exchange_strong(&child->id, &unused, id)) {
        *process = child->process = getpid();
        *file = child->file = memfd_create("emulated HCCL", MFD_CLOEXEC);
        atomic_store(&child->left, others);
        atomic_store(&child->ready, others > 0);
        if (!others) atomic_store(&child->id, 0);
        return OK;
      }
      if (makes || atomic_load(&child->id) != id || !atomic_load(&child->ready)) continue;
      *process = child->process, *file = child->file;
      if (atomic_fetch_sub(&child->left, 1) == 1) { /* all have seen it */
        atomic_store(&child->ready, 0);
        atomic_store(&child->id, 0);
      }
      return OK;
    }
  return hccl_wrong(HCCL_E_TIMEOUT, "rank 0 of a sub-communicator did not come in HCCL_CONNECT_TIMEOUT");
}
int HcclCreateSubCommConfig(struct comm **parent, uint32_t ranks, const uint32_t *ids, uint64_t id, uint32_t rank,
                            struct config *config, struct comm **out) {
  char own[128];
  int process = 0, file = -1;
  *out = NULL;
  if (!ids) return OK; /* this rank is none of them */
  snprintf(own, sizeof own, "%.100s_%lx", (*parent)->name, (unsigned long)id);
  int code = of_child((*parent)->s, id | 1ull << 63, rank == 0, ranks - 1, &process, &file);
  return code ? code : join(process, file, ranks, rank, config && config->name[0] ? config->name : own, out);
}

uint32_t HcclGetCommConfigCapability(void) { return 0; }
int HcclGetCommName(struct comm *c, char *name) { return strcpy(name, c->name), OK; }
int HcclGetRankSize(struct comm *c, uint32_t *ranks) { return *ranks = c->ranks, OK; }
int HcclGetRankId(struct comm *c, uint32_t *rank) { return *rank = c->rank, OK; }
int HcclGetCommAsyncError(struct comm *c, int *error) { return *error = OK; } /* a synchronization raises it */

void hccl_release(struct comm *c) {
  pthread_mutex_lock(&emu_lock);
  int last = !--c->held && c->destroyed;
  pthread_mutex_unlock(&emu_lock);
  if (!last) return;
  munmap(c->s, c->size);
  close(c->file); /* unlocks this rank's byte, too */
  free(c);
}
int HcclCommDestroy(struct comm *c) { /* graphs and queues may still name it */
  c->destroyed = 1;
  c->held++;
  hccl_release(c);
  return OK;
}
