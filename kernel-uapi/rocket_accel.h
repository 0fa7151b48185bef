/* SPDX-License-Identifier: MIT */
/*
 * The accel/rocket interface of mainline Linux (first in 6.18; facts from 7.2), as this project describes it.
 * Numbers, sizes and offsets are the kernel's; layout_check.c proves them at build time for 64 and 32 bit.
 * The Python side parses this very file: one struct per declaration, no conditional members.
 */
#ifndef CERMET_ROCKET_ACCEL_H
#define CERMET_ROCKET_ACCEL_H

#include "drm_core.h"

#if defined(__cplusplus)
extern "C" {
#endif

#define DRM_ROCKET_CREATE_BO 0x00
#define DRM_ROCKET_SUBMIT 0x01
#define DRM_ROCKET_PREP_BO 0x02
#define DRM_ROCKET_FINI_BO 0x03

#define DRM_IOCTL_ROCKET_CREATE_BO DRM_IOWR(DRM_COMMAND_BASE + DRM_ROCKET_CREATE_BO, struct drm_rocket_create_bo)
#define DRM_IOCTL_ROCKET_SUBMIT DRM_IOW(DRM_COMMAND_BASE + DRM_ROCKET_SUBMIT, struct drm_rocket_submit)
#define DRM_IOCTL_ROCKET_PREP_BO DRM_IOW(DRM_COMMAND_BASE + DRM_ROCKET_PREP_BO, struct drm_rocket_prep_bo)
#define DRM_IOCTL_ROCKET_FINI_BO DRM_IOW(DRM_COMMAND_BASE + DRM_ROCKET_FINI_BO, struct drm_rocket_fini_bo)

/* Make a buffer that the CPU can map and the NPU can address. */
struct drm_rocket_create_bo {
	/* in: bytes wanted; the kernel rounds up to whole pages */
	__u32 size;
	/* out: handle, valid in this open file only */
	__u32 handle;
	/* out: where the NPU sees the buffer, in this open file's address space; 0 is a valid address */
	__u64 dma_address;
	/* out: offset to pass to mmap() on the device */
	__u64 offset;
};

/* Begin CPU access: wait for the jobs that write the buffer, then make their writes visible to the CPU. */
struct drm_rocket_prep_bo {
	/* in */
	__u32 handle;
	/* in: must be 0 */
	__u32 reserved;
	/* in: deadline, absolute CLOCK_MONOTONIC nanoseconds; in the past means poll */
	__s64 timeout_ns;
};

/* End CPU access: make the CPU's writes visible to the NPU. */
struct drm_rocket_fini_bo {
	/* in */
	__u32 handle;
	/* in: must be 0 */
	__u32 reserved;
};

/* One register program. */
struct drm_rocket_task {
	/* in: NPU address of the program, 16-byte aligned */
	__u32 regcmd;
	/* in: number of 64-bit words, the four trailing ones included */
	__u32 regcmd_count;
};

/* Tasks that run one after another on one core. */
struct drm_rocket_job {
	/* in: address of task_count structs drm_rocket_task, task_struct_size bytes apart */
	__u64 tasks;
	/* in: address of the handles (__u32 each) of the buffers that the job reads */
	__u64 in_bo_handles;
	/* in: address of the handles (__u32 each) of the buffers that the job writes */
	__u64 out_bo_handles;
	/* in */
	__u32 task_count;
	/* in: size of one task as the caller knows it */
	__u32 task_struct_size;
	/* in */
	__u32 in_bo_handle_count;
	/* in */
	__u32 out_bo_handle_count;
};

/* Queue jobs; returns before they run. */
struct drm_rocket_submit {
	/* in: address of job_count structs drm_rocket_job, job_struct_size bytes apart */
	__u64 jobs;
	/* in */
	__u32 job_count;
	/* in: size of one job as the caller knows it */
	__u32 job_struct_size;
	/* in: must be 0 */
	__u64 reserved;
};

#if defined(__cplusplus)
}
#endif

#endif
