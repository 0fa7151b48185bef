/* SPDX-License-Identifier: MIT */
#include "device.h"

#include "cermet_client.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODE_FORMAT "/dev/accel/accel%d"
#define NUM_MINORS 256 /* the accel class has minors 0..255 */

/* Whether `cermet trace` listens: its library replaces ioctl() and makes the call on a simulated device itself. */
static bool
is_recorded(void)
{
	return dlsym(RTLD_DEFAULT, "cermet_trace_note") != NULL;
}

int
cermet_device_call(const struct cermet_device *device, unsigned long request, void *argument)
{
	int result;

	do {
		result = device->calls_client ? cermet_client_ioctl(device->fd, request, argument)
		                              : ioctl(device->fd, request, argument);
	} while (result == -1 && (errno == EINTR || errno == EAGAIN));
	return result;
}

const char *
cermet_device_reason(const struct cermet_device *device)
{
	if (device->is_simulated && errno == ENODEV)
		return "the simulated device's process has ended, make a new interpreter";
	return strerror(errno);
}

static bool
open_simulated(struct cermet_device *device, const char *soc, struct cermet_error *error)
{
	char message[400] = "";

	device->fd = cermet_client_open(soc, O_RDWR | O_CLOEXEC, message, sizeof(message));
	if (device->fd < 0)
		return cermet_fail(error, "device sim: %s", message[0] ? message : strerror(errno));
	device->is_simulated = true;
	device->calls_client = !is_recorded();
	snprintf(device->name, sizeof(device->name), "sim");
	return true;
}

/* Whether the driver behind the node is rocket; its name is at most 31 characters. */
static bool
is_rocket(const struct cermet_device *device, char name[32])
{
	struct drm_version version = {.name_len = 31, .name = name};

	memset(name, 0, 32);
	return cermet_device_call(device, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "rocket") == 0;
}

static bool
open_node(struct cermet_device *device, const char *path, struct cermet_error *error)
{
	char driver[32];

	device->is_simulated = device->calls_client = false;
	device->fd = open(path, O_RDWR | O_CLOEXEC);
	if (device->fd < 0 && (errno == EACCES || errno == EPERM))
		return cermet_fail(error, "device %s: %s; is this user in the node's group (often render)?", path,
		                   strerror(errno));
	if (device->fd < 0)
		return cermet_fail(error, "device %s: %s", path, strerror(errno));
	if (!is_rocket(device, driver)) {
		close(device->fd);
		device->fd = -1;
		if (driver[0] == '\0')
			return cermet_fail(error, "device %s: is no accel node, must be one of the rocket driver's", path);
		return cermet_fail(error, "device %s: driver is '%s', must be rocket", path, driver);
	}
	snprintf(device->name, sizeof(device->name), "%s", path);
	return true;
}

static bool
open_first_rocket(struct cermet_device *device, struct cermet_error *error)
{
	struct cermet_error reason = {""};
	char path[32];

	for (int minor = 0; minor < NUM_MINORS; minor++) {
		snprintf(path, sizeof(path), NODE_FORMAT, minor);
		if (access(path, F_OK) != 0)
			continue;
		if (open_node(device, path, reason.text[0] ? error : &reason))
			return true;
	}
	if (reason.text[0])
		return cermet_fail(error, "%s; pass device=sim to use the simulated NPU", reason.text);
	return cermet_fail(error, "no NPU found: there is no /dev/accel/accel0 (Linux 6.18 or newer with the rocket driver "
	                   "makes it); pass device=sim to use the simulated NPU");
}

uint64_t
cermet_get_param(const struct cermet_device *device, uint32_t param)
{
	struct drm_rocket_get_param get = {.param = param};

	return cermet_device_call(device, DRM_IOCTL_ROCKET_GET_PARAM, &get) == 0 ? get.value : 0;
}

static bool
open_any(struct cermet_device *device, const char *name, const char *soc, struct cermet_error *error)
{
	if (strcmp(name, "sim") == 0)
		return open_simulated(device, soc, error);
	if (strcmp(name, "auto") == 0)
		return open_first_rocket(device, error);
	return open_node(device, name, error);
}

bool
cermet_device_open(struct cermet_device *device, const char *name, const char *soc, struct cermet_error *error)
{
	*device = (struct cermet_device){.fd = -1};
	if (!open_any(device, name, soc, error))
		return false;
	device->features = cermet_get_param(device, DRM_ROCKET_PARAM_FEATURES);
	if (device->features != 0)
		device->num_cores = (uint32_t)cermet_get_param(device, DRM_ROCKET_PARAM_NUM_CORES);
	return true;
}

void
cermet_device_close(struct cermet_device *device)
{
	if (device->fd >= 0)
		close(device->fd);
	device->fd = -1;
}

int64_t
cermet_device_busy_ns(const struct cermet_device *device, struct cermet_error *error)
{
	uint64_t busy_ns = 0;

	if (device->is_simulated && cermet_client_busy(device->fd, &busy_ns) == 0)
		return (int64_t)busy_ns;
	cermet_fail(error, "device %s: how long it worked: %s", device->name,
	            device->is_simulated ? cermet_device_reason(device) : "only a simulated one says");
	return -1;
}

static void *
map_bo(const struct cermet_device *device, size_t num_bytes, uint64_t offset)
{
	const int protection = PROT_READ | PROT_WRITE;

	if (device->is_simulated)
		return cermet_client_mmap(NULL, num_bytes, protection, MAP_SHARED, device->fd, (off_t)offset);
	return mmap(NULL, num_bytes, protection, MAP_SHARED, device->fd, (off_t)offset);
}

bool
cermet_bo_create(const struct cermet_device *device, uint32_t size_bytes, struct cermet_bo *bo,
                 struct cermet_error *error)
{
	struct drm_rocket_create_bo create = {.size = size_bytes};

	*bo = (struct cermet_bo){0};
	if (cermet_device_call(device, DRM_IOCTL_ROCKET_CREATE_BO, &create) != 0)
		return cermet_fail(error, "device %s: no buffer of %u bytes: %s", device->name, size_bytes, cermet_device_reason(device));
	*bo = (struct cermet_bo){create.handle, size_bytes, create.dma_address, NULL};
	bo->map = map_bo(device, size_bytes, create.offset);
	if (bo->map == MAP_FAILED) {
		bo->map = NULL;
		cermet_fail(error, "device %s: cannot map a buffer of %u bytes: %s", device->name, size_bytes, cermet_device_reason(device));
		cermet_bo_destroy(device, bo);
		return false;
	}
	return true;
}

void
cermet_bo_destroy(const struct cermet_device *device, struct cermet_bo *bo)
{
	struct drm_gem_close close_bo = {.handle = bo->handle};

	if (bo->map)
		munmap(bo->map, bo->size_bytes);
	if (bo->handle)
		cermet_device_call(device, DRM_IOCTL_GEM_CLOSE, &close_bo);
	*bo = (struct cermet_bo){0};
}

bool
cermet_bo_finish_cpu(const struct cermet_device *device, const struct cermet_bo *bo, struct cermet_error *error)
{
	struct drm_rocket_fini_bo finish = {.handle = bo->handle};

	if (cermet_device_call(device, DRM_IOCTL_ROCKET_FINI_BO, &finish) != 0)
		return cermet_fail(error, "device %s: FINI_BO: %s", device->name, cermet_device_reason(device));
	return true;
}

enum cermet_wait
cermet_bo_wait(const struct cermet_device *device, const struct cermet_bo *bo, int64_t deadline_ns,
               struct cermet_error *error)
{
	struct drm_rocket_prep_bo prepare = {.handle = bo->handle, .timeout_ns = deadline_ns};

	if (cermet_device_call(device, DRM_IOCTL_ROCKET_PREP_BO, &prepare) == 0)
		return CERMET_WAIT_DONE;
	if (errno == ETIMEDOUT || errno == EBUSY)
		return CERMET_WAIT_TIMEOUT;
	cermet_fail(error, "device %s: PREP_BO: %s", device->name, cermet_device_reason(device));
	return CERMET_WAIT_FAILED;
}

bool
cermet_device_submit(const struct cermet_device *device, const struct drm_rocket_job *jobs, uint32_t num_jobs,
                     struct cermet_error *error)
{
	struct drm_rocket_submit submit = {
		.jobs = (uintptr_t)jobs,
		.job_count = num_jobs,
		.job_struct_size = sizeof(*jobs),
	};

	if (cermet_device_call(device, DRM_IOCTL_ROCKET_SUBMIT, &submit) != 0)
		return cermet_fail(error, "device %s: SUBMIT: %s", device->name, cermet_device_reason(device));
	return true;
}
