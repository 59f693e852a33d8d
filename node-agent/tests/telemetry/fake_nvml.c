/* A fake of NVIDIA's management library, for tests of the agent alone. It drives no hardware: two invented GPUs, of which
 * each function says what the real library says in the state that the file MODE_FILE names when it is called:
 *
 *   whole      two GPUs, 37 % and 82 % busy
 *   mig        the first GPU is split into two slices: utilization is not supported, power and temperature of slices neither
 *   sliced     the first GPU as in mig, and no second one
 *   mismatch   the kernel's driver is of another version
 *   unloaded   no driver in the kernel
 *   denied     the pod may not ask
 *   lost       the second GPU fell off the bus: its handle cannot be had
 *   dying      the second GPU fell off the bus while handles to it are still given
 *   gone       the driver lists the first GPU alone
 *   empty      no device is shown
 *   failed     no question is answered
 *   hang       no call returns until the mode changes
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
  SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18, UNKNOWN = 999
};

struct fake_device { const char *uuid; const char *name; int gpu; int slice; unsigned busy; };
static struct fake_device gpus[2] = {
  {"GPU-fake0000-0000-0000-0000-000000000000", "Fake Accelerator 24", 0, 0, 37},
  {"GPU-fake0000-0000-0000-0000-000000000001", "Fake Accelerator 24", 1, 0, 82},
};
static struct fake_device slices[2] = {
  {"MIG-fake0000-0000-0000-0000-00000000000a", "Fake Accelerator 24 MIG 1g", 0, 1, 0},
  {"MIG-fake0000-0000-0000-0000-00000000000b", "Fake Accelerator 24 MIG 1g", 0, 1, 0},
};
static int initialized;

static int mode_is(const char *wanted) {
  char mode[32] = "";
  FILE *file = fopen(MODE_FILE, "r");
  if (file) {
    if (!fgets(mode, sizeof mode, file)) mode[0] = 0;
    fclose(file);
  }
  mode[strcspn(mode, "\n")] = 0;
  return strcmp(mode, wanted) == 0;
}

static int is_split(const struct fake_device *device) { return device->gpu == 0 && (mode_is("mig") || mode_is("sliced")); }

/* What every call answers before it looks at its arguments. */
static int state(void) {
  while (mode_is("hang")) usleep(10000);
  if (!initialized) return UNINITIALIZED;
  return mode_is("failed") ? UNKNOWN : SUCCESS;
}

static int of_device(const struct fake_device *device) {
  int answer = state();
  if (answer != SUCCESS) return answer;
  if (!device) return INVALID_ARGUMENT;
  if (device->gpu == 1 && mode_is("dying")) return GPU_IS_LOST;
  return SUCCESS;
}

static int text(char *into, unsigned length, const char *from) {
  if (!into) return INVALID_ARGUMENT;
  if (strlen(from) >= length) return INSUFFICIENT_SIZE;
  strcpy(into, from);
  return SUCCESS;
}

int nvmlInit_v2(void) {
  while (mode_is("hang")) usleep(10000);
  if (mode_is("mismatch")) return LIB_RM_VERSION_MISMATCH;
  if (mode_is("unloaded")) return DRIVER_NOT_LOADED;
  if (mode_is("denied")) return NO_PERMISSION;
  initialized++;
  return SUCCESS;
}

int nvmlShutdown(void) {
  if (!initialized) return UNINITIALIZED;
  initialized--;
  return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  int answer = state();
  return answer ? answer : text(version, length, "0.0-fake");
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  int answer = state();
  if (answer) return answer;
  *version = 13000;
  return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  int answer = state();
  if (answer) return answer;
  *count = mode_is("empty") ? 0 : mode_is("gone") || mode_is("sliced") ? 1 : 2;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct fake_device **device) {
  unsigned count = 0;
  int answer = nvmlDeviceGetCount_v2(&count);
  if (answer) return answer;
  if (index >= count) return INVALID_ARGUMENT;
  if (index == 1 && mode_is("lost")) return GPU_IS_LOST;
  *device = &gpus[index];
  return SUCCESS;
}

int nvmlDeviceGetUUID(struct fake_device *device, char *uuid, unsigned length) {
  int answer = state();
  /* The UUID is remembered by the library, so that a GPU that was lost still has one. */
  return answer ? answer : text(uuid, length, device->uuid);
}

int nvmlDeviceGetName(struct fake_device *device, char *name, unsigned length) {
  int answer = of_device(device);
  return answer ? answer : text(name, length, device->name);
}

int nvmlDeviceGetMigMode(struct fake_device *device, unsigned *current, unsigned *pending) {
  int answer = of_device(device);
  if (answer) return answer;
  if (device->slice) return INVALID_ARGUMENT;
  *current = *pending = is_split(device);
  return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(struct fake_device *device, unsigned *count) {
  int answer = of_device(device);
  if (answer) return answer;
  *count = 7;
  return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct fake_device *device, unsigned index, struct fake_device **slice) {
  int answer = of_device(device);
  if (answer) return answer;
  if (device->slice || index >= 7) return INVALID_ARGUMENT;
  if (!is_split(device)) return NOT_SUPPORTED;
  /* Slots are not filled from the first on. */
  if (index != 1 && index != 4) return NOT_FOUND;
  *slice = &slices[index == 4];
  return SUCCESS;
}

struct utilization { unsigned gpu, memory; };

int nvmlDeviceGetUtilizationRates(struct fake_device *device, struct utilization *rates) {
  int answer = of_device(device);
  if (answer) return answer;
  if (is_split(device)) return NOT_SUPPORTED;
  rates->gpu = device->busy;
  rates->memory = 10;
  return SUCCESS;
}

struct memory { unsigned version; unsigned long long total, reserved, free, used; };

int nvmlDeviceGetMemoryInfo_v2(struct fake_device *device, struct memory *memory) {
  int answer = of_device(device);
  if (answer) return answer;
  if (memory->version != (sizeof *memory | 2u << 24)) return INVALID_ARGUMENT;
  memory->total = (device->slice ? 3ull : 24ull) << 30;
  memory->reserved = 0;
  memory->used = 1ull << 30;
  memory->free = memory->total - memory->used;
  return SUCCESS;
}

static int of_whole_gpu(struct fake_device *device) {
  int answer = of_device(device);
  return answer ? answer : device->slice ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetPowerUsage(struct fake_device *device, unsigned *milliwatts) {
  int answer = of_whole_gpu(device);
  if (answer) return answer;
  *milliwatts = 65000;
  return SUCCESS;
}

int nvmlDeviceGetTemperature(struct fake_device *device, unsigned sensor, unsigned *celsius) {
  int answer = of_whole_gpu(device);
  if (answer) return answer;
  if (sensor != 0) return INVALID_ARGUMENT;
  *celsius = 41;
  return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(struct fake_device *device, unsigned kind, unsigned counter, unsigned long long *count) {
  (void)kind, (void)counter, (void)count;
  int answer = of_whole_gpu(device);
  return answer ? answer : NOT_SUPPORTED;
}

int nvmlDeviceGetCudaComputeCapability(struct fake_device *device, int *major, int *minor) {
  int answer = of_device(device);
  if (answer) return answer;
  *major = 8;
  *minor = 9;
  return SUCCESS;
}
