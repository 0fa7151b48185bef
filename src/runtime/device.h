/* SPDX-License-Identifier: MIT */
/* The only file that calls the kernel's accel interface: one API for a real node and the simulated one. */
#ifndef CERMET_DEVICE_H
#define CERMET_DEVICE_H

#include "base.h"
#include "rocket_queues.h"

struct cermet_device {
	int fd;
	bool is_simulated;
	bool calls_client; /* ioctls go straight to the simulated device, not through ioctl() */
	char name[64]; /* "sim" or the node's path */
	/* The proposal "queues" (rocket_queues.h): DRM_ROCKET_FEATURE_*; 0 on mainline. */
	uint64_t features;
	uint32_t num_cores;
};

/* One buffer, mapped for the CPU. */
struct cermet_bo {
	uint32_t handle; /* 0: none */
	uint32_t size_bytes;
	uint64_t dma_address; /* 0 is a valid address */
	void *map;
};

/* Queues, and sync objects with them. */
static inline bool
cermet_has_queues(const struct cermet_device *device)
{
	return (device->features & DRM_ROCKET_FEATURE_QUEUES) != 0 && device->num_cores > 0;
}

/* name: "auto" (the first rocket node), "sim", or a path. soc: which NPU to simulate. */
bool
cermet_device_open(struct cermet_device *device, const char *name, const char *soc, struct cermet_error *error);

/* How long a simulated NPU has been executing tasks, since its driver process began; -1 on a real device. */
int64_t
cermet_device_busy_ns(const struct cermet_device *device, struct cermet_error *error);

void
cermet_device_close(struct cermet_device *device);

/* Created zeroed. On failure *bo is empty and needs no destroy. */
bool
cermet_bo_create(const struct cermet_device *device, uint32_t size_bytes, struct cermet_bo *bo,
                 struct cermet_error *error);

/* Harmless on an empty one. The device must be done with it. */
void
cermet_bo_destroy(const struct cermet_device *device, struct cermet_bo *bo);

/* The CPU has written: make it visible to the NPU. */
bool
cermet_bo_finish_cpu(const struct cermet_device *device, const struct cermet_bo *bo, struct cermet_error *error);

enum cermet_wait {
	CERMET_WAIT_DONE,
	CERMET_WAIT_TIMEOUT,
	CERMET_WAIT_FAILED,
};

/* Wait until no queued job writes the buffer, then let the CPU read it. Deadline: absolute CLOCK_MONOTONIC. */
enum cermet_wait
cermet_bo_wait(const struct cermet_device *device, const struct cermet_bo *bo, int64_t deadline_ns,
               struct cermet_error *error);

/* Any ioctl; as drmIoctl: calls that a signal interrupted are repeated. Deadlines are absolute, so nothing is lost. */
int
cermet_device_call(const struct cermet_device *device, unsigned long request, void *argument);

/* errno in words. */
const char *
cermet_device_reason(const struct cermet_device *device);

/* 0 where the kernel does not know the parameter, or has no GET_PARAM at all. */
uint64_t
cermet_get_param(const struct cermet_device *device, uint32_t param);

bool
cermet_device_submit(const struct cermet_device *device, const struct drm_rocket_job *jobs, uint32_t num_jobs,
                     struct cermet_error *error);

#endif
