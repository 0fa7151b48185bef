/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rocket_accel.h"
#include "writer.h"

#define MAX_JOBS_BYTES (TRACE_MAX_FRAME_BYTES / 2)

static bool has_no_safe_read; /* a sandbox forbids it: then pointers are followed as they are */

bool
call_read_memory(uint64_t address, void *to, size_t bytes)
{
   struct iovec local = {.iov_base = to, .iov_len = bytes};
   struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = bytes};

   if (!bytes)
      return true;
   if (!address)
      return false;
   if (!has_no_safe_read) {
      ssize_t got = (ssize_t)syscall(SYS_process_vm_readv, getpid(), &local, 1UL, &remote, 1UL, 0UL);
      if (got == (ssize_t)bytes)
         return true;
      if (got >= 0 || errno == EFAULT)
         return false;
      has_no_safe_read = true;
   }
   memcpy(to, (void *)(uintptr_t)address, bytes);
   return true;
}

/* Room for `bytes` more behind what the call's jobs take; NULL: too much. */
static uint8_t *
more_jobs_bytes(struct call *call, size_t bytes)
{
   if (bytes > MAX_JOBS_BYTES || call->jobs_bytes + bytes > MAX_JOBS_BYTES)
      return NULL;
   uint8_t *larger = realloc(call->jobs, call->jobs_bytes + bytes);
   if (!larger)
      return NULL;
   call->jobs = larger;
   call->jobs_bytes += bytes;
   return larger + call->jobs_bytes - bytes;
}

static bool
copy_handles(struct call *call, uint64_t address, uint32_t count)
{
   const size_t bytes = (size_t)count * sizeof(uint32_t);
   uint8_t *to = more_jobs_bytes(call, bytes);

   return to && call_read_memory(address, to, bytes);
}

static bool
copy_tasks(struct call *call, const struct drm_rocket_job *job)
{
   const size_t bytes = (size_t)job->task_count * sizeof(struct drm_rocket_task);
   uint8_t *to = more_jobs_bytes(call, bytes);

   if (!to || (job->task_count && job->task_struct_size < sizeof(struct drm_rocket_task)))
      return false;
   if (job->task_struct_size == sizeof(struct drm_rocket_task))
      return call_read_memory(job->tasks, to, bytes);
   for (uint64_t i = 0; i < job->task_count; i++)
      if (!call_read_memory(job->tasks + i * job->task_struct_size, to + i * sizeof(struct drm_rocket_task),
                            sizeof(struct drm_rocket_task)))
         return false;
   return true;
}

static void
copy_job(struct call *call, uint64_t address)
{
   const size_t start = call->jobs_bytes;
   struct trace_job record = {0};
   struct drm_rocket_job job;

   if (!more_jobs_bytes(call, sizeof(record)))
      return;
   if (call_read_memory(address, &job, sizeof(job)) && copy_tasks(call, &job) &&
       copy_handles(call, job.in_bo_handles, job.in_bo_handle_count) &&
       copy_handles(call, job.out_bo_handles, job.out_bo_handle_count)) {
      record = (struct trace_job){job.task_count, job.in_bo_handle_count, job.out_bo_handle_count, 0};
   } else {
      call->jobs_bytes = start + sizeof(record);
      call->record.flags |= TRACE_CALL_UNREADABLE;
      record.is_unreadable = 1;
   }
   memcpy(call->jobs + start, &record, sizeof(record));
   call->record.num_jobs++;
}

static void
copy_jobs(struct call *call)
{
   struct drm_rocket_submit submit;

   if (call->record.argument_bytes < sizeof(submit) || !call->before)
      return;
   memcpy(&submit, call->before, sizeof(submit));
   if (submit.job_struct_size < sizeof(struct drm_rocket_job) || submit.reserved)
      return; /* the kernel will refuse it */
   for (uint64_t i = 0; i < submit.job_count && call->jobs_bytes < MAX_JOBS_BYTES - sizeof(struct trace_job); i++)
      copy_job(call, submit.jobs + i * submit.job_struct_size);
}

static uint8_t *
copy_argument(struct call *call)
{
   uint8_t *copy = malloc(call->record.argument_bytes + 1);

   if (copy && !call_read_memory((uintptr_t)call->argument, copy, call->record.argument_bytes)) {
      free(copy);
      copy = NULL;
   }
   if (!copy)
      call->record.flags |= TRACE_CALL_UNREADABLE;
   return copy;
}

void
call_begin(struct call *call, struct file *file, int fd, unsigned long request, void *argument)
{
   *call = (struct call){.file = file, .fd = fd, .request = request, .argument = argument};
   call->record = (struct trace_call){.file = file->number, .fd = fd, .request = (uint32_t)request,
                                      .argument_bytes = _IOC_SIZE((uint32_t)request),
                                      .thread = (uint32_t)syscall(SYS_gettid)};
   call->before = copy_argument(call);
   if ((uint32_t)request == (uint32_t)DRM_IOCTL_ROCKET_SUBMIT)
      copy_jobs(call);
}

int
call_run(struct call *call)
{
   call->record.start_ns = trace_now_ns();
   int result = device_ioctl(call->fd, call->request, call->argument);
   int error = result < 0 ? errno : 0;
   call->record.end_ns = trace_now_ns();
   call->record.result = result;
   call->record.error = error;
   return result;
}

void
call_end(struct call *call)
{
   uint8_t *after = call->before ? copy_argument(call) : NULL;

   if (!call->before || !after)
      call->record.argument_bytes = 0;
   trace_write(TRACE_CALL, (struct piece[]){{&call->record, sizeof(call->record)},
                                            {call->before, call->record.argument_bytes},
                                            {after, call->record.argument_bytes},
                                            {call->jobs, call->jobs_bytes}}, 4);
   free(call->before);
   free(after);
   free(call->jobs);
}

int
call_prep(struct file *file, int fd, uint32_t handle, int64_t timeout_ns)
{
   struct drm_rocket_prep_bo prep = {.handle = handle, .timeout_ns = timeout_ns};
   struct call call;

   call_begin(&call, file, fd, DRM_IOCTL_ROCKET_PREP_BO, &prep);
   call.record.flags |= TRACE_CALL_BY_RECORDER;
   while (call_run(&call) != 0 && call.record.error == EINTR)
      ;
   call_end(&call);
   return call.record.error;
}
