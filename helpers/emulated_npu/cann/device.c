/* What the device says about itself, contexts and switches. */
#include "cann.h"

__thread int emu_device;
size_t emu_capacity = 64ull << 30;
int emu_devices = 1;
static char soc[64] = "Ascend910B3", version[64] = "9.1.0";
static int64_t cube_cores = 20, vector_cores = 40, l2_bytes = 192 << 20;

SUCCEEDS(aclInit)
SUCCEEDS(aclFinalize)
SUCCEEDS(aclrtResetDevice)
SUCCEEDS(aclrtSetCurrentContext)
SUCCEEDS(aclrtDeviceEnablePeerAccess)

aclError aclrtGetDeviceCount(uint32_t *n) {
  *n = emu_devices;
  return OK;
}
aclError aclrtGetDevice(int *d) {
  *d = emu_device;
  return OK;
}
aclError aclrtSetDevice(int d) {
  if (d < 0 || d >= emu_devices) return fail("no such device");
  emu_device = d;
  return OK;
}
aclError aclrtGetCurrentContext(void **c) {
  *c = &soc;
  return OK;
}
aclError aclrtGetPrimaryCtxState(int d, uint32_t *flags, int *active) {
  *active = d == emu_device;
  return OK;
}
aclError aclrtDeviceCanAccessPeer(int *can, int a, int b) {
  *can = 1;
  return OK;
}

const char *aclrtGetSocName(void) { return soc; }
aclError aclsysGetVersionStr(char *package, char *out) {
  strcpy(out, version);
  return OK;
}
aclError aclsysGetCANNVersion(int name, char *out) { /* the struct begins with char version[128] */
  strcpy(out, version);
  return OK;
}
aclError aclGetCannAttribute(int attribute, int *value) { /* INF_NAN, HF32, ...: supported */
  *value = 1;
  return OK;
}
aclError aclGetDeviceCapability(uint32_t device, int info, int64_t *value) {
  *value = info == 0 ? cube_cores : info == 1 ? vector_cores : l2_bytes;
  return OK;
}
aclError aclrtGetDeviceInfo(uint32_t device, int attribute, int64_t *value) {
  switch (attribute) {
    case 101: /* AICORE_CORE_NUM */
    case 102: /* CUBE_CORE_NUM */
      *value = cube_cores;
      return OK;
    case 201: /* VECTOR_CORE_NUM */
      *value = vector_cores;
      return OK;
    case 301: /* TOTAL_GLOBAL_MEM_SIZE */
      *value = emu_capacity;
      return OK;
    case 302: /* L2_CACHE_SIZE */
      *value = l2_bytes;
      return OK;
  }
  return not_emulated("aclrtGetDeviceInfo of this attribute");
}

/* How many cores a device's or a stream's work may use: all of them, as none are set aside here. */
static aclError limit_of(int type, uint32_t *cores) {
  if (type != 0 && type != 1) return not_emulated("a limit of resources of this type");
  *cores = type == 0 ? cube_cores : vector_cores; /* ACL_RT_DEV_RES_CUBE_CORE, ACL_RT_DEV_RES_VECTOR_CORE */
  return OK;
}
aclError aclrtGetDeviceResLimit(int device, int type, uint32_t *cores) { return limit_of(type, cores); }
aclError aclrtGetStreamResLimit(void *stream, int type, uint32_t *cores) { return limit_of(type, cores); }

#define OPTIONS 16
static int64_t options[OPTIONS]; /* determinism and the like: kept, because torch_npu reads them back */
aclError aclrtSetSysParamOpt(unsigned option, int64_t value) {
  if (option >= OPTIONS) return fail("unknown system parameter");
  options[option] = value;
  return OK;
}
aclError aclrtCtxSetSysParamOpt(unsigned option, int64_t value) { return aclrtSetSysParamOpt(option, value); }
aclError aclrtGetSysParamOpt(unsigned option, int64_t *value) {
  if (option >= OPTIONS) return fail("unknown system parameter");
  *value = options[option];
  return OK;
}
SUCCEEDS(aclrtSetDeviceSatMode)
SUCCEEDS(aclrtSetOpWaitTimeout)
SUCCEEDS(aclrtSetOpExecuteTimeOut)
SUCCEEDS(aclrtPeekAtLastError)
SUCCEEDS(aclrtGetLastError)
SUCCEEDS(HcclSetConfig) /* the determinism switch of the collective library, whose sums have one order here */
