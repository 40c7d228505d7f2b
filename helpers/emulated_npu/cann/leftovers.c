/* What must exist for torch_npu to load: the old operator path (accepted up to its execution, which fails), logging
 * and profiling hooks, and functions that are not emulated. */
#include "cann.h"

static int aclop_allowed;
void emu_allow_aclop(int on) { aclop_allowed = on; }
aclError aclopCompileAndExecute(const char *name) {
  char line[128];
  if (aclop_allowed) return OK;
  snprintf(line, sizeof line, "%s (an old-style aclop operator)", name);
  return not_emulated(line);
}
aclError aclopCompileAndExecuteV2(const char *name) { return aclopCompileAndExecute(name); }

SUCCEEDS(aclSetCompileopt)
size_t aclGetCompileoptSize(int option) { return 16; }
aclError aclGetCompileopt(int option, char *value, size_t n) {
  memset(value, 0, n);
  strncpy(value, "disable", n - 1);
  return OK;
}
void *aclopCreateAttr(void) { return malloc(8); }
void aclopDestroyAttr(void *a) { free(a); }
void *aclCreateTensorDesc(void) { return calloc(1, 8); }
void aclDestroyTensorDesc(void *d) { free(d); }
void *aclCreateDataBuffer(void) { return calloc(1, 8); }
aclError aclDestroyDataBuffer(void *d) {
  free(d);
  return OK;
}
void aclSetTensorDescName(void *d, const char *name) {}
SUCCEEDS(aclopSetAttrBool)
SUCCEEDS(aclopSetAttrDataType)
SUCCEEDS(aclopSetAttrFloat)
SUCCEEDS(aclopSetAttrInt)
SUCCEEDS(aclopSetAttrListBool)
SUCCEEDS(aclopSetAttrListFloat)
SUCCEEDS(aclopSetAttrListInt)
SUCCEEDS(aclopSetAttrListListInt)
SUCCEEDS(aclopSetAttrString)
SUCCEEDS(aclSetTensorFormat)
SUCCEEDS(aclSetTensorPlaceMent)
SUCCEEDS(aclSetTensorShape)

void aclAppLog(int level, const char *function, const char *file, uint32_t line, const char *format, ...) {}
SUCCEEDS(MsprofRegisterCallback)
SUCCEEDS(MsprofReportAdditionalInfo)
SUCCEEDS(MsprofReportApi)
SUCCEEDS(MsprofReportCompactInfo)
uint64_t MsprofGetHashId(const char *s, size_t n) { return 0; }
uint64_t MsprofSysCycleTime(void) { return 0; }

NOT_EMULATED(aclGetTensorDescDimV2)
NOT_EMULATED(aclGetTensorDescFormat)
NOT_EMULATED(aclGetTensorDescNumDims)
NOT_EMULATED(aclGetTensorDescType)
NOT_EMULATED(aclmdlFinalizeDump)
NOT_EMULATED(aclmdlInitDump)
NOT_EMULATED(aclmdlSetDump)
NOT_EMULATED(aclrtBinaryGetFunction)
NOT_EMULATED(aclrtBinaryLoadFromData)
NOT_EMULATED(aclrtDeviceGetBareTgid)
NOT_EMULATED(aclrtFreePhysical)
NOT_EMULATED(aclrtGetFunctionAddr)
NOT_EMULATED(aclrtMallocPhysical)
NOT_EMULATED(aclrtMapMem)
NOT_EMULATED(aclrtMemExportToShareableHandle)
NOT_EMULATED(aclrtMemImportFromShareableHandle)
NOT_EMULATED(aclrtMemSetPidToShareableHandle)
NOT_EMULATED(aclrtProcessReport)
NOT_EMULATED(aclrtReleaseMemAddress)
NOT_EMULATED(aclrtReserveMemAddress)
NOT_EMULATED(aclrtUnmapMem)
NOT_EMULATED(rtDevBinaryRegister)
NOT_EMULATED(rtFunctionRegister)
NOT_EMULATED(rtGetC2cCtrlAddr)
NOT_EMULATED(rtKernelLaunch)
