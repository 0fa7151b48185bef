/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: records what a program asks of rocket nodes, real ones and simulated ones, into the file that
 * CERMET_TRACE_FILE names. The application sees its calls' results, unchanged.
 *
 * One lock orders everything but the waiting inside PREP_BO, so frames lie in the file in the order of what they tell.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "cermet_build.h"
#include "cermet_client.h"
#include "rocket_accel.h"
#include "writer.h"

#define EXPORT __attribute__((visibility("default")))
#define LAST_WAIT_NS INT64_C(1000000000) /* for jobs that nobody waited for, when a file is closed */
#define JOB_WAIT_NS INT64_C(10000000000) /* for each job when jobs are recorded one by one */

/* The function that this one replaces. */
#define REAL(name)                                                                                                     \
   ({                                                                                                                  \
      static __typeof__(&name) found;                                                                                  \
      if (!found)                                                                                                      \
         found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                           \
      found;                                                                                                           \
   })

/* Also how the runtime knows that its calls on a simulated device should go through ioctl(), see device.c. */
EXPORT void cermet_trace_note(uint32_t level, const char *text);
EXPORT int fcntl64(int fd, int command, ...);

EXPORT long syscall(long number, ...);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread bool is_inside; /* a signal handler's calls, while its thread records, are only passed on */
static pid_t announced;         /* the process that has a PROCESS frame */
static pid_t parent;            /* of it, when it was forked after being announced */

int
device_ioctl(int fd, unsigned long request, void *argument)
{
   return cermet_client_owns(fd) ? cermet_client_ioctl(fd, request, argument) : REAL(ioctl)(fd, request, argument);
}

/* --- the process -------------------------------------------------------------------------------------------------- */

static void
read_text(const char *path, char *text, size_t room)
{
   int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
   ssize_t bytes = fd < 0 ? 0 : read(fd, text, room - 1);

   if (fd >= 0)
      syscall(SYS_close, fd);
   bytes = bytes < 0 ? 0 : bytes;
   for (ssize_t i = 0; i < bytes; i++)
      if ((unsigned char)text[i] < ' ')
         text[i] = ' ';
   while (bytes > 0 && text[bytes - 1] == ' ')
      bytes--;
   text[bytes] = '\0';
}

static void
announce(void)
{
   struct trace_process record = {.parent = (uint32_t)parent};
   char path[4096], model[96], compatible[96];
   struct timespec now;
   struct utsname system;

   if (announced == getpid())
      return;
   announced = getpid();
   clock_gettime(CLOCK_REALTIME, &now);
   record.realtime_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
   ssize_t bytes = (ssize_t)syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof(path) - 1);
   path[bytes < 0 ? 0 : bytes] = '\0';
   snprintf(record.program, sizeof(record.program), "%.60s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
   if (uname(&system) == 0)
      snprintf(record.system, sizeof(record.system), "%.20s %.70s %.30s", system.sysname, system.release,
               system.machine);
   read_text("/proc/device-tree/model", model, sizeof(model));
   read_text("/proc/device-tree/compatible", compatible, sizeof(compatible));
   snprintf(record.board, sizeof(record.board), "%.90s%s%.90s", model, model[0] && compatible[0] ? " / " : "",
            compatible);
   snprintf(record.recorder, sizeof(record.recorder), "%s", CERMET_BUILD_ID);
   trace_write(TRACE_PROCESS, &(struct piece){&record, sizeof(record)}, 1);
}

static void
enter(void)
{
   is_inside = true;
   pthread_mutex_lock(&lock);
   announce();
}

static void
leave(void)
{
   pthread_mutex_unlock(&lock);
   is_inside = false;
}

static void
before_fork(void)
{
   pthread_mutex_lock(&lock);
}

static void
after_fork_in_parent(void)
{
   pthread_mutex_unlock(&lock);
}

static void
after_fork_in_child(void)
{
   parent = announced;
   file_all_inherited();
   if (parent)
      announce(); /* it holds the parent's files too */
   pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void
watch_forks(void)
{
   pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

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

static void
finish_file(struct file *file, int fd)
{
   const int64_t deadline_ns = deadline_in(LAST_WAIT_NS);

   for (size_t i = 0; i < file->num_bos; i++)
      finish_bo(file, fd, &file->bos[i], deadline_ns);
}

__attribute__((destructor)) static void
end_process(void)
{
   /* Whoever holds the lock now may never let go of it: other threads have been stopped or are being so. */
   if (announced != getpid() || is_inside || pthread_mutex_trylock(&lock) != 0)
      return;
   is_inside = true;
   file_visit_all(finish_file);
   trace_write(TRACE_END, NULL, 0);
   leave();
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
   for (uint32_t first = 0, count; first < job->task_count || first == 0; first += count) {
      count = by_task && job->task_struct_size >= sizeof(struct drm_rocket_task) ? together(file, job, first)
                                                                                 : job->task_count;
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
   leave();
   int result = call_run(&call);
   enter();
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

static int
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

/* --- what is replaced --------------------------------------------------------------------------------------------- */

EXPORT int
ioctl(int fd, unsigned long request, ...)
{
   va_list rest;
   int before = errno;

   va_start(rest, request);
   void *argument = va_arg(rest, void *);
   va_end(rest);
   if (_IOC_TYPE(request) != DRM_IOCTL_BASE)
      return REAL(ioctl)(fd, request, argument);
   if (is_inside || !trace_writer_is_on())
      return device_ioctl(fd, request, argument);
   enter();
   struct file *file = file_of_fd(fd);
   errno = before;
   int result = file ? record_call(file, fd, request, argument) : device_ioctl(fd, request, argument);
   int error = errno;
   leave();
   errno = result < 0 ? error : before;
   return result;
}

/* The fd is about to mean nothing, or something else. */
static void
forget_fd(int fd)
{
   if (!file_is_known(fd) || is_inside)
      return;
   enter();
   struct file *file = file_last_of_fd(fd);
   if (file) {
      finish_file(file, fd);
      file_forget(file);
   }
   leave();
}

static int
remember_copy(int fd, int copy)
{
   if (copy >= 0 && file_is_known(fd) && !is_inside) {
      enter();
      file_was_duplicated(fd, copy);
      leave();
   }
   return copy;
}

EXPORT int
close(int fd)
{
   int before = errno;

   forget_fd(fd);
   errno = before;
   return REAL(close)(fd);
}

EXPORT int
dup(int fd)
{
   return remember_copy(fd, REAL(dup)(fd));
}

EXPORT int
dup2(int fd, int copy)
{
   if (fd != copy)
      forget_fd(copy);
   return remember_copy(fd, REAL(dup2)(fd, copy));
}

EXPORT int
dup3(int fd, int copy, int flags)
{
   if (fd != copy)
      forget_fd(copy);
   return remember_copy(fd, REAL(dup3)(fd, copy, flags));
}

#define DEFINE_FCNTL(name)                                                                                             \
   EXPORT int name(int fd, int command, ...)                                                                           \
   {                                                                                                                   \
      va_list rest;                                                                                                    \
      va_start(rest, command);                                                                                         \
      void *argument = va_arg(rest, void *);                                                                           \
      va_end(rest);                                                                                                    \
      int result = REAL(name)(fd, command, argument);                                                                  \
      return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? remember_copy(fd, result) : result;                    \
   }

DEFINE_FCNTL(fcntl)
DEFINE_FCNTL(fcntl64)

/* Calls by number: those that are replaced above, as if by name. The recorder's own come here too and go on. */
EXPORT long
syscall(long number, ...)
{
   long w[6];
   va_list rest;

   va_start(rest, number);
   for (int i = 0; i < 6; i++)
      w[i] = va_arg(rest, long);
   va_end(rest);
   switch (number) {
   case SYS_ioctl:
      return ioctl((int)w[0], (unsigned long)w[1], (void *)w[2]);
   case SYS_close:
      return close((int)w[0]);
   case SYS_dup:
      return dup((int)w[0]);
   case SYS_dup3:
      return dup3((int)w[0], (int)w[1], (int)w[2]);
   default:
      return REAL(syscall)(number, w[0], w[1], w[2], w[3], w[4], w[5]);
   }
}

EXPORT void
cermet_trace_note(uint32_t level, const char *text)
{
   const struct trace_note note = {.level = level};

   if (!text || is_inside || !trace_writer_is_on())
      return;
   enter();
   trace_write(TRACE_NOTE, (struct piece[]){{&note, sizeof(note)}, {text, strlen(text)}}, 2);
   leave();
}
