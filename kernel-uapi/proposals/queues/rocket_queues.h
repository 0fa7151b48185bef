/* SPDX-License-Identifier: MIT */
/*
 * Proposal: queues and shared address spaces for accel/rocket. Not in any kernel; README.md beside it says why.
 * Numbers follow those of rocket_accel.h, where mainline answers EINVAL; DRM_IOCTL_ROCKET_GET_PARAM tells what is there.
 * Synchronisation is by the DRM core's sync objects (drm_core.h): the driver sets DRIVER_SYNCOBJ.
 */
#ifndef CERMET_ROCKET_QUEUES_H
#define CERMET_ROCKET_QUEUES_H

#include "rocket_accel.h"

#if defined(__cplusplus)
extern "C" {
#endif

#define DRM_ROCKET_GET_PARAM 0x04
#define DRM_ROCKET_VM_CREATE 0x05
#define DRM_ROCKET_VM_DESTROY 0x06
#define DRM_ROCKET_VM_BIND 0x07
#define DRM_ROCKET_QUEUE_CREATE 0x08
#define DRM_ROCKET_QUEUE_DESTROY 0x09
#define DRM_ROCKET_QUEUE_SUBMIT 0x0a
#define DRM_ROCKET_JOB_STATUS 0x0b

#define DRM_IOCTL_ROCKET_GET_PARAM DRM_IOWR(DRM_COMMAND_BASE + DRM_ROCKET_GET_PARAM, struct drm_rocket_get_param)
#define DRM_IOCTL_ROCKET_VM_CREATE DRM_IOWR(DRM_COMMAND_BASE + DRM_ROCKET_VM_CREATE, struct drm_rocket_vm_create)
#define DRM_IOCTL_ROCKET_VM_DESTROY DRM_IOW(DRM_COMMAND_BASE + DRM_ROCKET_VM_DESTROY, struct drm_rocket_vm_destroy)
#define DRM_IOCTL_ROCKET_VM_BIND DRM_IOW(DRM_COMMAND_BASE + DRM_ROCKET_VM_BIND, struct drm_rocket_vm_bind)
#define DRM_IOCTL_ROCKET_QUEUE_CREATE DRM_IOWR(DRM_COMMAND_BASE + DRM_ROCKET_QUEUE_CREATE, struct drm_rocket_queue_create)
#define DRM_IOCTL_ROCKET_QUEUE_DESTROY DRM_IOW(DRM_COMMAND_BASE + DRM_ROCKET_QUEUE_DESTROY, struct drm_rocket_queue_destroy)
#define DRM_IOCTL_ROCKET_QUEUE_SUBMIT DRM_IOWR(DRM_COMMAND_BASE + DRM_ROCKET_QUEUE_SUBMIT, struct drm_rocket_queue_submit)
#define DRM_IOCTL_ROCKET_JOB_STATUS DRM_IOWR(DRM_COMMAND_BASE + DRM_ROCKET_JOB_STATUS, struct drm_rocket_job_status)

/* The parts of this proposal that the driver has: DRM_ROCKET_FEATURE_* */
#define DRM_ROCKET_PARAM_FEATURES 0
/* Cores that a queue may name in its core_mask */
#define DRM_ROCKET_PARAM_NUM_CORES 1
/* Largest num_programs of one task: what the NPU's task counter holds */
#define DRM_ROCKET_PARAM_MAX_PROGRAMS 2
/* What timeout_ns 0 stands for, and the largest that is allowed */
#define DRM_ROCKET_PARAM_DEFAULT_TIMEOUT_NS 3
#define DRM_ROCKET_PARAM_MAX_TIMEOUT_NS 4
/* How many jobs of a queue, counted from the newest, JOB_STATUS knows at least */
#define DRM_ROCKET_PARAM_STATUS_DEPTH 5

/* The ioctls of this header, sync objects among them */
#define DRM_ROCKET_FEATURE_QUEUES 0x1
/* num_programs of a task may be more than 1 */
#define DRM_ROCKET_FEATURE_CHAINS 0x2
/* DRM_ROCKET_TASK_ENDS_IN_PPU */
#define DRM_ROCKET_FEATURE_PPU_DONE 0x4

/* Ask for a number. EINVAL: pad is not 0, or there is no such parameter; also from a kernel without this ioctl. */
struct drm_rocket_get_param {
	/* in: DRM_ROCKET_PARAM_* */
	__u32 param;
	/* in: must be 0 */
	__u32 pad;
	/* out */
	__u64 value;
};

/* Make an address space. It lives until it is destroyed and its last queue is gone. */
struct drm_rocket_vm_create {
	/* in: must be 0 */
	__u32 flags;
	/* out: its number in this open file, never 0 */
	__u32 vm;
};

/* Give the number up. Queues that use the address space, and what is bound in it, stay. ENOENT: unknown. */
struct drm_rocket_vm_destroy {
	/* in */
	__u32 vm;
	/* in: must be 0 */
	__u32 pad;
};

#define DRM_ROCKET_VM_OP_MAP 0
#define DRM_ROCKET_VM_OP_UNMAP 1

/*
 * Bind a whole buffer at an address, or end that. The binding holds the buffer: its handle may be closed. Jobs that run
 * see the change at once. EINVAL: op, pad, an address that is no multiple of the page or leaves 32 bits, a handle with
 * UNMAP. ENOENT: no such vm or handle, nothing bound at the address. EEXIST: something is bound there already.
 */
struct drm_rocket_vm_bind {
	/* in */
	__u32 vm;
	/* in: DRM_ROCKET_VM_OP_* */
	__u32 op;
	/* in: with UNMAP 0 */
	__u32 handle;
	/* in: must be 0 */
	__u32 pad;
	/* in: of the first byte; with UNMAP where a binding begins */
	__u64 address;
};

/* Make a queue: jobs that run one after another, on one of some cores, in an address space. */
struct drm_rocket_queue_create {
	/* in */
	__u32 vm;
	/* in: bit n allows core n; not 0, no bit of a core that is not there */
	__u32 core_mask;
	/* in: must be 0 */
	__u32 flags;
	/* out: its number in this open file, never 0 */
	__u32 queue;
	/* in: how long a job may run; 0: DRM_ROCKET_PARAM_DEFAULT_TIMEOUT_NS */
	__u64 timeout_ns;
};

/* Give the number up. Jobs that are queued still run. ENOENT: unknown. */
struct drm_rocket_queue_destroy {
	/* in */
	__u32 queue;
	/* in: must be 0 */
	__u32 pad;
};

/* The last program ends in an interrupt of the PPU, not of the DPU */
#define DRM_ROCKET_TASK_ENDS_IN_PPU 0x1

/* Register programs that the NPU runs without the kernel's help, then an interrupt. */
struct drm_rocket_queue_task {
	/* in: NPU address of the first program, a multiple of 16 */
	__u32 regcmd;
	/* in: number of its 64-bit words, the four trailing ones included; at most 131072, what the NPU's register holds */
	__u32 regcmd_count;
	/* in: how many programs; each but the last says in its trailer where the next one is. At least 1. */
	__u32 num_programs;
	/* in: DRM_ROCKET_TASK_* */
	__u32 flags;
};

/* Without: the job waits for the fence that the sync object has now. With: the object gets the job's fence. */
#define DRM_ROCKET_SYNC_SIGNAL 0x1

/* A sync object that a job waits for or signals. */
struct drm_rocket_sync {
	/* in: sync object. ENOENT: unknown. EINVAL: to be waited for but without a fence. */
	__u32 handle;
	/* in: DRM_ROCKET_SYNC_* */
	__u32 flags;
	/* in: must be 0; kept for timelines */
	__u64 point;
};

/*
 * Tasks that run one after another. A job does not run when one that it depends on has failed: the job before it in the
 * same queue and the same call, and those whose fences it waits for through sync objects. It fails with ECANCELED then.
 */
struct drm_rocket_queue_job {
	/* in: address of task_count structs drm_rocket_queue_task, task_struct_size bytes apart */
	__u64 tasks;
	/* in: address of sync_count structs drm_rocket_sync, sync_struct_size bytes apart */
	__u64 syncs;
	/* in: address of the handles (__u32 each) of buffers whose implicit fences matter, as in struct drm_rocket_job */
	__u64 in_bo_handles;
	/* in: likewise; PREP_BO waits for the job with these */
	__u64 out_bo_handles;
	/* in */
	__u32 task_count;
	/* in: size of one task as the caller knows it */
	__u32 task_struct_size;
	/* in */
	__u32 sync_count;
	/* in: size of one sync as the caller knows it; not looked at when there is none */
	__u32 sync_struct_size;
	/* in: may be 0 */
	__u32 in_bo_handle_count;
	/* in: may be 0 */
	__u32 out_bo_handle_count;
	/* in */
	__u32 queue;
	/* in: must be 0 */
	__u32 flags;
	/* out: number of the job in its queue, from 1 */
	__u64 seqno;
};

/* Queue jobs, all or none; returns before they run. */
struct drm_rocket_queue_submit {
	/* in: address of job_count structs drm_rocket_queue_job, job_struct_size bytes apart */
	__u64 jobs;
	/* in */
	__u32 job_count;
	/* in: size of one job as the caller knows it */
	__u32 job_struct_size;
	/* in: must be 0 */
	__u32 flags;
	/* out: after an error the number, from 0, of the job that was wrong; job_count when it was none of them */
	__u32 failed_job;
};

#define DRM_ROCKET_JOB_QUEUED 0
#define DRM_ROCKET_JOB_RUNNING 1
#define DRM_ROCKET_JOB_DONE 2

/* What became of a job. EINVAL: pad, a job not submitted yet. ENOENT: no such queue, a job that is too long ago. */
struct drm_rocket_job_status {
	/* in */
	__u32 queue;
	/* in: must be 0 */
	__u32 pad;
	/* in: 0 is the newest one */
	__u64 seqno;
	/* out: DRM_ROCKET_JOB_* */
	__u32 state;
	/* out: of one that is done: 0, ETIMEDOUT, EFAULT (IOMMU), ECANCELED (did not run), EIO */
	__u32 error;
	/* out: CLOCK_MONOTONIC, when the NPU began and ended; 0 when it has not, or never did */
	__u64 start_ns;
	__u64 end_ns;
	/* out: where it ran; 0xffffffff when it did not */
	__u32 core;
	/* out: how many tasks ended; with an error: the number, from 0, of the one that did not */
	__u32 tasks_done;
};

#if defined(__cplusplus)
}
#endif

#endif
