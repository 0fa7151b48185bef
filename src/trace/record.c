/* SPDX-License-Identifier: MIT */
/* What is recorded around each call: inputs before a SUBMIT, results after a wait. */
#define _GNU_SOURCE
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "writer.h"

#define LAST_WAIT_NS INT64_C(1000000000) /* for jobs that nobody waited for, when a file is closed */
#define JOB_WAIT_NS INT64_C(10000000000) /* for each job when jobs are recorded one by one */

/* --- waiting for what nobody waited for --------------------------------------------------------------------------- */

static int64_t
deadline_in(int64_t duration_ns)
{
   return (int64_t)trace_now_ns() + duration_ns;
}

/* The device has finished a buffer: what lies in it now is its result. */
static void
record_result(struct file *file, int fd, struct bo *bo)
{
   const struct trace_check record = {.file = file->number, .handle = bo->handle};

   bo->is_pending = false;
   bo_record(file, fd, bo, TRACE_BY_DEVICE);
   if (!trace_is_full())
      trace_write(TRACE_CHECK, &(struct piece){&record, sizeof(record)}, 1);
}

static void
finish_bo(struct file *file, int fd, struct bo *bo, int64_t deadline_ns)
{
   if (bo->handle && bo->is_pending && call_prep(file, fd, bo->handle, deadline_ns) == 0)
      record_result(file, fd, bo);
}

void
record_rest(struct file *file, int fd)
{
   const int64_t deadline_ns = deadline_in(LAST_WAIT_NS);

   for (size_t i = 0; i < file->num_bos; i++)
      finish_bo(file, fd, &file->bos[i], deadline_ns);
}

/* --- single ioctls ------------------------------------------------------------------------------------------------ */

static void
after_create(struct call *call)
{
   struct drm_rocket_create_bo create;

   if (call_read_memory((uintptr_t)call->argument, &create, sizeof(create)))
      bo_add(call->file, call->fd, &create);
}

/* What the application wrote into buffers that no job is writing. */
static void
record_inputs(struct file *file, int fd)
{
   for (size_t i = 0; i < file->num_bos; i++)
      if (file->bos[i].handle && !file->bos[i].is_pending)
         bo_record(file, fd, &file->bos[i], TRACE_BY_CPU);
}

static void
mark_outputs(const struct call *call)
{
   const uint8_t *at = call->jobs;

   for (uint32_t i = 0; i < call->record.num_jobs; i++) {
      struct trace_job job;
      memcpy(&job, at, sizeof(job));
      at += sizeof(job) + job.num_tasks * sizeof(struct drm_rocket_task) + job.num_in * sizeof(uint32_t);
      for (uint32_t k = 0; k < job.num_out; k++, at += sizeof(uint32_t)) {
         uint32_t handle;
         memcpy(&handle, at, sizeof(handle));
         struct bo *bo = bo_find(call->file, handle);
         if (bo)
            bo->is_pending = true;
      }
   }
}

static int
plain_submit(struct file *file, int fd, unsigned long request, void *argument, uint32_t flags)
{
   struct call call;

   record_inputs(file, fd);
   call_begin(&call, file, fd, request, argument);
   call.record.flags |= flags;
   int result = call_run(&call);
   if (result == 0)
      mark_outputs(&call);
   call_end(&call);
   errno = call.record.error ? call.record.error : errno;
   return result;
}

/* Tasks first..first+count of a job as a SUBMIT of its own, and what they wrote. */
static int
submit_part(struct file *file, int fd, const struct drm_rocket_job *job, uint32_t first, uint32_t count)
{
   struct drm_rocket_job part = *job;
   struct drm_rocket_submit one = {.jobs = (uintptr_t)&part, .job_count = 1, .job_struct_size = sizeof(part)};

   part.tasks += (uint64_t)first * job->task_struct_size;
   part.task_count = count;
   if (plain_submit(file, fd, DRM_IOCTL_ROCKET_SUBMIT, &one, TRACE_CALL_SPLIT) != 0)
      return -1;
   for (size_t i = 0; i < file->num_bos; i++)
      finish_bo(file, fd, &file->bos[i], deadline_in(JOB_WAIT_NS));
   return 0;
}

/* Whether a program leaves registers as one before it in the job wrote them: it writes fewer than the first. */
static bool
has_shortened(const struct file *file, const struct drm_rocket_job *job)
{
   uint32_t first = 0;

   for (uint32_t i = 0; i < job->task_count; i++) {
      struct drm_rocket_task task;

      if (!call_read_memory(job->tasks + (uint64_t)i * job->task_struct_size, &task, sizeof(task)))
         return false;
      const uint32_t written = program_dpu_words(file, task.regcmd, task.regcmd_count);
      if (i == 0)
         first = written;
      if (written < first)
         return true;
   }
   return false;
}

/* The number of tasks from `first` on that must stay in one job. */
static uint32_t
together(const struct file *file, const struct drm_rocket_job *job, uint32_t first)
{
   uint32_t count = 1;

   while (first + count < job->task_count) {
      struct drm_rocket_task task;

      if (!call_read_memory(job->tasks + (uint64_t)(first + count) * job->task_struct_size, &task, sizeof(task)) ||
          !program_needs_previous(file, task.regcmd, task.regcmd_count))
         break;
      count++;
   }
   return count;
}

static int
submit_job(struct file *file, int fd, const struct drm_rocket_job *job, bool by_task)
{
   const bool in_parts =
      by_task && job->task_struct_size >= sizeof(struct drm_rocket_task) && !has_shortened(file, job);

   for (uint32_t first = 0, count; first < job->task_count || first == 0; first += count) {
      count = in_parts ? together(file, job, first) : job->task_count;
      if (submit_part(file, fd, job, first, count) != 0)
         return -1;
      if (count == 0)
         break;
   }
   return 0;
}

/* Whole as it is; or, when CERMET_TRACE_EACH says so, job by job or task by task, with what each wrote. */
static int
submit(struct file *file, int fd, unsigned long request, void *argument)
{
   const char *each = getenv("CERMET_TRACE_EACH");
   struct drm_rocket_submit whole;

   if (!each || !each[0] || !call_read_memory((uintptr_t)argument, &whole, sizeof(whole)) || whole.reserved ||
       whole.job_struct_size < sizeof(struct drm_rocket_job))
      return plain_submit(file, fd, request, argument, 0);
   record_inputs(file, fd); /* programs are looked at before the first part is submitted */
   for (uint32_t i = 0; i < whole.job_count; i++) {
      struct drm_rocket_job job;

      if (!call_read_memory(whole.jobs + (uint64_t)i * whole.job_struct_size, &job, sizeof(job))) {
         errno = EFAULT;
         return -1;
      }
      if (submit_job(file, fd, &job, strcmp(each, "task") == 0) != 0)
         return -1;
   }
   return 0;
}

/* The lock is free while the call waits. */
static int
prep(struct file *file, int fd, unsigned long request, void *argument)
{
   struct call call;

   call_begin(&call, file, fd, request, argument);
   recorder_leave();
   int result = call_run(&call);
   recorder_enter();
   struct drm_rocket_prep_bo prepared = {0};
   if (call.before)
      memcpy(&prepared, call.before, sizeof(prepared));
   call_end(&call);
   file = file_of_fd(fd); /* the table of files may have moved, or the file may be gone */
   const bool is_there = result == 0 && file && file->number == call.record.file;
   struct bo *bo = is_there ? bo_find(file, prepared.handle) : NULL;
   if (bo && bo->is_pending)
      record_result(file, fd, bo);
   errno = call.record.error;
   return result;
}

/* The application wrote without waiting for the job before: take what is there once the job is over. */
static void
after_fini(struct call *call)
{
   struct drm_rocket_fini_bo fini;
   struct bo *bo = NULL;

   if (call_read_memory((uintptr_t)call->argument, &fini, sizeof(fini)))
      bo = bo_find(call->file, fini.handle);
   if (!bo || !bo->is_pending || call_prep(call->file, call->fd, bo->handle, 0) != 0)
      return;
   bo->is_pending = false;
   bo_record(call->file, call->fd, bo, TRACE_BY_CPU);
}

static void
before_close(struct call *call)
{
   struct drm_gem_close closed;
   struct bo *bo = NULL;

   if (call_read_memory((uintptr_t)call->argument, &closed, sizeof(closed)))
      bo = bo_find(call->file, closed.handle);
   if (!bo)
      return;
   finish_bo(call->file, call->fd, bo, 0);
   bo_forget(bo);
}

int
record_call(struct file *file, int fd, unsigned long request, void *argument)
{
   struct call call;

   switch ((uint32_t)request) {
   case (uint32_t)DRM_IOCTL_ROCKET_SUBMIT:
      return submit(file, fd, request, argument);
   case (uint32_t)DRM_IOCTL_ROCKET_PREP_BO:
      return prep(file, fd, request, argument);
   }
   call_begin(&call, file, fd, request, argument);
   if ((uint32_t)request == (uint32_t)DRM_IOCTL_GEM_CLOSE)
      before_close(&call);
   int result = call_run(&call);
   if (result == 0 && (uint32_t)request == (uint32_t)DRM_IOCTL_ROCKET_CREATE_BO)
      after_create(&call);
   if (result == 0 && (uint32_t)request == (uint32_t)DRM_IOCTL_ROCKET_FINI_BO)
      after_fini(&call);
   call_end(&call);
   errno = call.record.error;
   return result;
}
