/* aclTensor, aclScalar and their relatives: one contiguous record each, which records.py reads with struct.unpack. */
#include "cann.h"

#define MAGIC 0x454d554e50554f42ull
enum kind { TENSOR = 1, SCALAR, INTS, BOOLS, TENSORS, SCALARS, FLOATS };

struct object {
  uint64_t magic;
  int32_t kind, dtype;
  int64_t count, offset, format, storage_count;
  void *data;
  uint64_t size; /* of the whole record, in bytes */
  int64_t words[]; /* sizes and strides, or values, or pointers to elements */
};

/* The set of live objects, so that a wrong operator signature is an error and not a wild read. */
#define BUCKETS 4096
static struct live {
  struct object *object;
  struct live *next;
} *live[BUCKETS];

static struct live **bucket(void *p) { return &live[((uintptr_t)p >> 4) % BUCKETS]; }

static struct object *make(enum kind kind, int64_t count, size_t words) {
  struct object *o = calloc(1, sizeof *o + 8 * (words ? words : 1));
  struct live *entry = malloc(sizeof *entry);
  o->magic = MAGIC;
  o->kind = kind;
  o->count = count;
  o->size = sizeof *o + 8 * words;
  entry->object = o;
  pthread_mutex_lock(&emu_lock);
  entry->next = *bucket(o);
  *bucket(o) = entry;
  pthread_mutex_unlock(&emu_lock);
  return o;
}

static aclError destroy(struct object *o) {
  if (!o) return OK;
  pthread_mutex_lock(&emu_lock);
  for (struct live **at = bucket(o); *at; at = &(*at)->next)
    if ((*at)->object == o) {
      struct live *entry = *at;
      *at = entry->next;
      free(entry);
      free(o);
      break;
    }
  pthread_mutex_unlock(&emu_lock);
  return OK;
}

/* The size of a live object's record, 0 for any other address. */
size_t emu_record_size(void *p) {
  size_t size = 0;
  pthread_mutex_lock(&emu_lock);
  for (struct live *entry = *bucket(p); entry; entry = entry->next)
    if (entry->object == p) size = entry->object->size;
  pthread_mutex_unlock(&emu_lock);
  return size;
}

void *aclCreateTensor(const int64_t *sizes, uint64_t rank, int dtype, const int64_t *strides, int64_t offset,
                      int format, const int64_t *storage_sizes, uint64_t storage_rank, void *data) {
  struct object *o = make(TENSOR, rank, 2 * rank);
  o->dtype = dtype;
  o->offset = offset;
  o->format = format;
  o->data = data;
  o->storage_count = 1;
  for (uint64_t i = 0; i < storage_rank; i++) o->storage_count *= storage_sizes[i];
  memcpy(o->words, sizes, 8 * rank);
  memcpy(o->words + rank, strides, 8 * rank);
  return o;
}

void *aclCreateScalar(void *value, int dtype) { /* torch_npu passes int64, double, bool (12) or complex128 (17) */
  struct object *o = make(SCALAR, 1, 2);
  o->dtype = dtype;
  memcpy(o->words, value, dtype == 12 ? 1 : dtype == 17 ? 16 : 8);
  return o;
}

static void *make_words(enum kind kind, const void *values, uint64_t n) {
  struct object *o = make(kind, n, n);
  memcpy(o->words, values, 8 * n);
  return o;
}
void *aclCreateIntArray(const int64_t *v, uint64_t n) { return make_words(INTS, v, n); }
void *aclCreateTensorList(void *const *v, uint64_t n) { return make_words(TENSORS, v, n); }
void *aclCreateScalarList(void *const *v, uint64_t n) { return make_words(SCALARS, v, n); }
void *aclCreateBoolArray(const uint8_t *v, uint64_t n) {
  struct object *o = make(BOOLS, n, n);
  for (uint64_t i = 0; i < n; i++) o->words[i] = v[i];
  return o;
}
void *aclCreateFloatArray(const float *v, uint64_t n) {
  struct object *o = make(FLOATS, n, n);
  for (uint64_t i = 0; i < n; i++) ((double *)o->words)[i] = v[i];
  return o;
}

/* An executor is the key of a call; it dies with its second phase. */
SUCCEEDS(aclDestroyAclOpExecutor)

aclError aclDestroyTensor(struct object *o) { return destroy(o); }
aclError aclDestroyScalar(struct object *o) { return destroy(o); }
aclError aclDestroyIntArray(struct object *o) { return destroy(o); }
aclError aclDestroyBoolArray(struct object *o) { return destroy(o); }
aclError aclDestroyFloatArray(struct object *o) { return destroy(o); }
static aclError destroy_list(struct object *o) { /* a list owns its elements */
  for (int64_t i = 0; o && i < o->count; i++) destroy((struct object *)o->words[i]);
  return destroy(o);
}
aclError aclDestroyTensorList(struct object *o) { return destroy_list(o); }
aclError aclDestroyScalarList(struct object *o) { return destroy_list(o); }

/* torch_npu reads the real shape of a data-dependent result here, and frees the array. */
aclError aclGetViewShape(struct object *t, int64_t **sizes, uint64_t *rank) {
  *rank = t->count;
  *sizes = malloc(8 * (t->count ? t->count : 1));
  memcpy(*sizes, t->words, 8 * t->count);
  return OK;
}
void emu_set_view_shape(struct object *t, const int64_t *sizes, int64_t rank) {
  t->count = rank;
  memcpy(t->words, sizes, 8 * rank);
}
