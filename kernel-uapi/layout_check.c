/* SPDX-License-Identifier: MIT */
/*
 * The ABI of accel/rocket, Linux 7.2, as numbers: this file compiles only when the headers agree with them. It is
 * built for 64 and 32 bit, as C and as C++98, so the checks are arrays of negative size rather than _Static_assert.
 */
#include "rocket_accel.h"
#include "rocket_queues.h"

#define CHECK(name, condition) typedef char check_##name[(condition) ? 1 : -1]
#define CHECK_MEMBER(structure, member, offset, size)                                                                  \
   CHECK(structure##_##member##_offset, offsetof(struct structure, member) == (offset));                               \
   CHECK(structure##_##member##_size, sizeof(((struct structure *)0)->member) == (size))
#define CHECK_SIZE(structure, size) CHECK(structure##_size, sizeof(struct structure) == (size))
#define CHECK_NUMBER(name, number) CHECK(name##_number, DRM_IOCTL_##name == (number))

/* --- accel/rocket: the same for every word size ------------------------------------------------------------------- */

CHECK_SIZE(drm_rocket_create_bo, 24);
CHECK_MEMBER(drm_rocket_create_bo, size, 0, 4);
CHECK_MEMBER(drm_rocket_create_bo, handle, 4, 4);
CHECK_MEMBER(drm_rocket_create_bo, dma_address, 8, 8);
CHECK_MEMBER(drm_rocket_create_bo, offset, 16, 8);
CHECK_NUMBER(ROCKET_CREATE_BO, 0xC0186440);

CHECK_SIZE(drm_rocket_prep_bo, 16);
CHECK_MEMBER(drm_rocket_prep_bo, handle, 0, 4);
CHECK_MEMBER(drm_rocket_prep_bo, reserved, 4, 4);
CHECK_MEMBER(drm_rocket_prep_bo, timeout_ns, 8, 8);
CHECK_NUMBER(ROCKET_PREP_BO, 0x40106442);

CHECK_SIZE(drm_rocket_fini_bo, 8);
CHECK_MEMBER(drm_rocket_fini_bo, handle, 0, 4);
CHECK_MEMBER(drm_rocket_fini_bo, reserved, 4, 4);
CHECK_NUMBER(ROCKET_FINI_BO, 0x40086443);

CHECK_SIZE(drm_rocket_task, 8);
CHECK_MEMBER(drm_rocket_task, regcmd, 0, 4);
CHECK_MEMBER(drm_rocket_task, regcmd_count, 4, 4);

CHECK_SIZE(drm_rocket_job, 40);
CHECK_MEMBER(drm_rocket_job, tasks, 0, 8);
CHECK_MEMBER(drm_rocket_job, in_bo_handles, 8, 8);
CHECK_MEMBER(drm_rocket_job, out_bo_handles, 16, 8);
CHECK_MEMBER(drm_rocket_job, task_count, 24, 4);
CHECK_MEMBER(drm_rocket_job, task_struct_size, 28, 4);
CHECK_MEMBER(drm_rocket_job, in_bo_handle_count, 32, 4);
CHECK_MEMBER(drm_rocket_job, out_bo_handle_count, 36, 4);

CHECK_SIZE(drm_rocket_submit, 24);
CHECK_MEMBER(drm_rocket_submit, jobs, 0, 8);
CHECK_MEMBER(drm_rocket_submit, job_count, 8, 4);
CHECK_MEMBER(drm_rocket_submit, job_struct_size, 12, 4);
CHECK_MEMBER(drm_rocket_submit, reserved, 16, 8);
CHECK_NUMBER(ROCKET_SUBMIT, 0x40186441);

/* --- the proposal: nobody has numbers to compare with, but they must not change with the word size --------------- */

CHECK_SIZE(drm_rocket_get_param, 16);
CHECK_MEMBER(drm_rocket_get_param, param, 0, 4);
CHECK_MEMBER(drm_rocket_get_param, pad, 4, 4);
CHECK_MEMBER(drm_rocket_get_param, value, 8, 8);
CHECK_NUMBER(ROCKET_GET_PARAM, 0xC0106444);
CHECK_SIZE(drm_rocket_vm_create, 8);
CHECK_MEMBER(drm_rocket_vm_create, flags, 0, 4);
CHECK_MEMBER(drm_rocket_vm_create, vm, 4, 4);
CHECK_NUMBER(ROCKET_VM_CREATE, 0xC0086445);
CHECK_SIZE(drm_rocket_vm_destroy, 8);
CHECK_MEMBER(drm_rocket_vm_destroy, vm, 0, 4);
CHECK_MEMBER(drm_rocket_vm_destroy, pad, 4, 4);
CHECK_NUMBER(ROCKET_VM_DESTROY, 0x40086446);
CHECK_SIZE(drm_rocket_vm_bind, 24);
CHECK_MEMBER(drm_rocket_vm_bind, vm, 0, 4);
CHECK_MEMBER(drm_rocket_vm_bind, op, 4, 4);
CHECK_MEMBER(drm_rocket_vm_bind, handle, 8, 4);
CHECK_MEMBER(drm_rocket_vm_bind, pad, 12, 4);
CHECK_MEMBER(drm_rocket_vm_bind, address, 16, 8);
CHECK_NUMBER(ROCKET_VM_BIND, 0x40186447);
CHECK_SIZE(drm_rocket_queue_create, 24);
CHECK_MEMBER(drm_rocket_queue_create, vm, 0, 4);
CHECK_MEMBER(drm_rocket_queue_create, core_mask, 4, 4);
CHECK_MEMBER(drm_rocket_queue_create, flags, 8, 4);
CHECK_MEMBER(drm_rocket_queue_create, queue, 12, 4);
CHECK_MEMBER(drm_rocket_queue_create, timeout_ns, 16, 8);
CHECK_NUMBER(ROCKET_QUEUE_CREATE, 0xC0186448);
CHECK_SIZE(drm_rocket_queue_destroy, 8);
CHECK_MEMBER(drm_rocket_queue_destroy, queue, 0, 4);
CHECK_MEMBER(drm_rocket_queue_destroy, pad, 4, 4);
CHECK_NUMBER(ROCKET_QUEUE_DESTROY, 0x40086449);
CHECK_SIZE(drm_rocket_queue_task, 16);
CHECK_MEMBER(drm_rocket_queue_task, regcmd, 0, 4);
CHECK_MEMBER(drm_rocket_queue_task, regcmd_count, 4, 4);
CHECK_MEMBER(drm_rocket_queue_task, num_programs, 8, 4);
CHECK_MEMBER(drm_rocket_queue_task, flags, 12, 4);
CHECK_SIZE(drm_rocket_sync, 16);
CHECK_MEMBER(drm_rocket_sync, handle, 0, 4);
CHECK_MEMBER(drm_rocket_sync, flags, 4, 4);
CHECK_MEMBER(drm_rocket_sync, point, 8, 8);
CHECK_SIZE(drm_rocket_queue_job, 72);
CHECK_MEMBER(drm_rocket_queue_job, tasks, 0, 8);
CHECK_MEMBER(drm_rocket_queue_job, syncs, 8, 8);
CHECK_MEMBER(drm_rocket_queue_job, in_bo_handles, 16, 8);
CHECK_MEMBER(drm_rocket_queue_job, out_bo_handles, 24, 8);
CHECK_MEMBER(drm_rocket_queue_job, task_count, 32, 4);
CHECK_MEMBER(drm_rocket_queue_job, task_struct_size, 36, 4);
CHECK_MEMBER(drm_rocket_queue_job, sync_count, 40, 4);
CHECK_MEMBER(drm_rocket_queue_job, sync_struct_size, 44, 4);
CHECK_MEMBER(drm_rocket_queue_job, in_bo_handle_count, 48, 4);
CHECK_MEMBER(drm_rocket_queue_job, out_bo_handle_count, 52, 4);
CHECK_MEMBER(drm_rocket_queue_job, queue, 56, 4);
CHECK_MEMBER(drm_rocket_queue_job, flags, 60, 4);
CHECK_MEMBER(drm_rocket_queue_job, seqno, 64, 8);
CHECK_SIZE(drm_rocket_queue_submit, 24);
CHECK_MEMBER(drm_rocket_queue_submit, jobs, 0, 8);
CHECK_MEMBER(drm_rocket_queue_submit, job_count, 8, 4);
CHECK_MEMBER(drm_rocket_queue_submit, job_struct_size, 12, 4);
CHECK_MEMBER(drm_rocket_queue_submit, flags, 16, 4);
CHECK_MEMBER(drm_rocket_queue_submit, failed_job, 20, 4);
CHECK_NUMBER(ROCKET_QUEUE_SUBMIT, 0xC018644A);
CHECK_SIZE(drm_rocket_job_status, 48);
CHECK_MEMBER(drm_rocket_job_status, queue, 0, 4);
CHECK_MEMBER(drm_rocket_job_status, pad, 4, 4);
CHECK_MEMBER(drm_rocket_job_status, seqno, 8, 8);
CHECK_MEMBER(drm_rocket_job_status, state, 16, 4);
CHECK_MEMBER(drm_rocket_job_status, error, 20, 4);
CHECK_MEMBER(drm_rocket_job_status, start_ns, 24, 8);
CHECK_MEMBER(drm_rocket_job_status, end_ns, 32, 8);
CHECK_MEMBER(drm_rocket_job_status, core, 40, 4);
CHECK_MEMBER(drm_rocket_job_status, tasks_done, 44, 4);
CHECK_NUMBER(ROCKET_JOB_STATUS, 0xC030644B);

/* --- DRM core: fixed-size structs --------------------------------------------------------------------------------- */

CHECK_SIZE(drm_gem_close, 8);
CHECK_MEMBER(drm_gem_close, handle, 0, 4);
CHECK_MEMBER(drm_gem_close, pad, 4, 4);
CHECK_NUMBER(GEM_CLOSE, 0x40086409);

CHECK_SIZE(drm_gem_flink, 8);
CHECK_MEMBER(drm_gem_flink, handle, 0, 4);
CHECK_MEMBER(drm_gem_flink, name, 4, 4);
CHECK_NUMBER(GEM_FLINK, 0xC008640A);

CHECK_SIZE(drm_gem_open, 16);
CHECK_MEMBER(drm_gem_open, name, 0, 4);
CHECK_MEMBER(drm_gem_open, handle, 4, 4);
CHECK_MEMBER(drm_gem_open, size, 8, 8);
CHECK_NUMBER(GEM_OPEN, 0xC010640B);

CHECK_SIZE(drm_get_cap, 16);
CHECK_MEMBER(drm_get_cap, capability, 0, 8);
CHECK_MEMBER(drm_get_cap, value, 8, 8);
CHECK_NUMBER(GET_CAP, 0xC010640C);

CHECK_SIZE(drm_prime_handle, 12);
CHECK_MEMBER(drm_prime_handle, handle, 0, 4);
CHECK_MEMBER(drm_prime_handle, flags, 4, 4);
CHECK_MEMBER(drm_prime_handle, fd, 8, 4);
CHECK_NUMBER(PRIME_HANDLE_TO_FD, 0xC00C642D);
CHECK_NUMBER(PRIME_FD_TO_HANDLE, 0xC00C642E);

CHECK_SIZE(drm_syncobj_create, 8);
CHECK_MEMBER(drm_syncobj_create, handle, 0, 4);
CHECK_MEMBER(drm_syncobj_create, flags, 4, 4);
CHECK_NUMBER(SYNCOBJ_CREATE, 0xC00864BF);
CHECK_SIZE(drm_syncobj_destroy, 8);
CHECK_MEMBER(drm_syncobj_destroy, handle, 0, 4);
CHECK_MEMBER(drm_syncobj_destroy, pad, 4, 4);
CHECK_NUMBER(SYNCOBJ_DESTROY, 0xC00864C0);
CHECK_SIZE(drm_syncobj_wait, 40);
CHECK_MEMBER(drm_syncobj_wait, handles, 0, 8);
CHECK_MEMBER(drm_syncobj_wait, timeout_nsec, 8, 8);
CHECK_MEMBER(drm_syncobj_wait, count_handles, 16, 4);
CHECK_MEMBER(drm_syncobj_wait, flags, 20, 4);
CHECK_MEMBER(drm_syncobj_wait, first_signaled, 24, 4);
CHECK_MEMBER(drm_syncobj_wait, pad, 28, 4);
CHECK_MEMBER(drm_syncobj_wait, deadline_nsec, 32, 8);
CHECK_NUMBER(SYNCOBJ_WAIT, 0xC02864C3);
CHECK_SIZE(drm_syncobj_array, 16);
CHECK_MEMBER(drm_syncobj_array, handles, 0, 8);
CHECK_MEMBER(drm_syncobj_array, count_handles, 8, 4);
CHECK_MEMBER(drm_syncobj_array, pad, 12, 4);
CHECK_NUMBER(SYNCOBJ_RESET, 0xC01064C4);
CHECK_NUMBER(SYNCOBJ_SIGNAL, 0xC01064C5);

CHECK_SIZE(drm_set_client_name, 16);
CHECK_MEMBER(drm_set_client_name, name_len, 0, 8);
CHECK_MEMBER(drm_set_client_name, name, 8, 8);
CHECK_NUMBER(SET_CLIENT_NAME, 0xC01064D1);

/* --- DRM core: structs with C's long and pointers ----------------------------------------------------------------- */

#if defined(__LP64__)
CHECK_SIZE(drm_version, 64);
CHECK_MEMBER(drm_version, version_major, 0, 4);
CHECK_MEMBER(drm_version, version_minor, 4, 4);
CHECK_MEMBER(drm_version, version_patchlevel, 8, 4);
CHECK_MEMBER(drm_version, name_len, 16, 8);
CHECK_MEMBER(drm_version, name, 24, 8);
CHECK_MEMBER(drm_version, date_len, 32, 8);
CHECK_MEMBER(drm_version, date, 40, 8);
CHECK_MEMBER(drm_version, desc_len, 48, 8);
CHECK_MEMBER(drm_version, desc, 56, 8);
CHECK_NUMBER(VERSION, 0xC0406400);
CHECK_SIZE(drm_unique, 16);
CHECK_MEMBER(drm_unique, unique_len, 0, 8);
CHECK_MEMBER(drm_unique, unique, 8, 8);
CHECK_NUMBER(GET_UNIQUE, 0xC0106401);
CHECK_SIZE(drm_client, 40);
CHECK_MEMBER(drm_client, idx, 0, 4);
CHECK_MEMBER(drm_client, auth, 4, 4);
CHECK_MEMBER(drm_client, pid, 8, 8);
CHECK_MEMBER(drm_client, uid, 16, 8);
CHECK_MEMBER(drm_client, magic, 24, 8);
CHECK_MEMBER(drm_client, iocs, 32, 8);
CHECK_NUMBER(GET_CLIENT, 0xC0286405);
#else
CHECK_SIZE(drm_version, 36);
CHECK_MEMBER(drm_version, version_major, 0, 4);
CHECK_MEMBER(drm_version, version_minor, 4, 4);
CHECK_MEMBER(drm_version, version_patchlevel, 8, 4);
CHECK_MEMBER(drm_version, name_len, 12, 4);
CHECK_MEMBER(drm_version, name, 16, 4);
CHECK_MEMBER(drm_version, date_len, 20, 4);
CHECK_MEMBER(drm_version, date, 24, 4);
CHECK_MEMBER(drm_version, desc_len, 28, 4);
CHECK_MEMBER(drm_version, desc, 32, 4);
CHECK_NUMBER(VERSION, 0xC0246400);
CHECK_SIZE(drm_unique, 8);
CHECK_MEMBER(drm_unique, unique_len, 0, 4);
CHECK_MEMBER(drm_unique, unique, 4, 4);
CHECK_NUMBER(GET_UNIQUE, 0xC0086401);
CHECK_SIZE(drm_client, 24);
CHECK_MEMBER(drm_client, idx, 0, 4);
CHECK_MEMBER(drm_client, auth, 4, 4);
CHECK_MEMBER(drm_client, pid, 8, 4);
CHECK_MEMBER(drm_client, uid, 12, 4);
CHECK_MEMBER(drm_client, magic, 16, 4);
CHECK_MEMBER(drm_client, iocs, 20, 4);
CHECK_NUMBER(GET_CLIENT, 0xC0186405);
#endif
