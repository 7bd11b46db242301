//go:build cgo && linux

package cuda

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

enum { most_gpus = 64, name_bytes = 128 };

struct found {
	int version, count;
	const char *failed; // The call that failed with status, or NULL.
	int status;
	struct { char name[name_bytes]; size_t memory; } gpus[most_gpus];
};

// find asks the driver. It returns 0 if there is none.
static int find(struct found *f) {
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (driver == NULL) return 0;
	int (*init)(unsigned) = dlsym(driver, "cuInit");
	int (*version)(int *) = dlsym(driver, "cuDriverGetVersion");
	int (*count)(int *) = dlsym(driver, "cuDeviceGetCount");
	int (*get)(int *, int) = dlsym(driver, "cuDeviceGet");
	int (*name)(char *, int, int) = dlsym(driver, "cuDeviceGetName");
	int (*memory)(size_t *, int) = dlsym(driver, "cuDeviceTotalMem_v2");
	f->failed = "dlsym";
	if (!init || !version || !count || !get || !name || !memory) return 1;
	f->failed = "cuDriverGetVersion";
	if ((f->status = version(&f->version))) return 1;
	f->failed = "cuInit";
	if ((f->status = init(0))) return 1;
	f->failed = "cuDeviceGetCount";
	if ((f->status = count(&f->count))) return 1;
	if (f->count > most_gpus) f->count = most_gpus;
	for (int i = 0; i < f->count; i++) {
		int gpu;
		f->failed = "cuDeviceGet";
		if ((f->status = get(&gpu, i))) return 1;
		f->failed = "cuDeviceGetName";
		if ((f->status = name(f->gpus[i].name, name_bytes, gpu))) return 1;
		f->failed = "cuDeviceTotalMem";
		if ((f->status = memory(&f->gpus[i].memory, gpu))) return 1;
	}
	f->failed = NULL;
	return 1;
}

static int loadable(const char *name) { return dlopen(name, RTLD_LAZY | RTLD_LOCAL) != NULL; }
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/f708428e/engine"
)

// noDevice is the driver's status where there is no GPU, or none that the process may see.
const noDevice = 100

func probe() (*Driver, error) {
	const op = "look for GPUs"
	found := (*C.struct_found)(C.calloc(1, C.sizeof_struct_found))
	if found == nil {
		return nil, engine.Errorf(engine.KindExhausted, op, "", "no memory")
	}
	defer C.free(unsafe.Pointer(found))
	if C.find(found) == 0 {
		return nil, engine.Errorf(engine.KindNotFound, op, "", "there is no libcuda.so.1: NVIDIA's driver is not installed, or the container was not given it")
	}
	// 13000 stands for 13.0.
	driver := &Driver{Version: fmt.Sprintf("%d.%d", found.version/1000, found.version%1000/10)}
	if found.failed != nil && found.status != noDevice {
		return nil, engine.Errorf(engine.KindUnavailable, op, "", "NVIDIA's driver: %s failed with status %d", C.GoString(found.failed), int(found.status)).
			WithHint("see whether nvidia-smi works")
	}
	if found.failed != nil {
		return driver, nil
	}
	for _, gpu := range found.gpus[:found.count] {
		driver.Devices = append(driver.Devices, Device{Name: C.GoString(&gpu.name[0]), MemoryBytes: int64(gpu.memory)})
	}
	return driver, nil
}

func loadable(name string) bool {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	return C.loadable(text) != 0
}
