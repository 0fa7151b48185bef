/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: records what a program asks of rocket nodes, real ones and simulated ones, into the file that
 * CERMET_TRACE_FILE names. The application sees its calls' results, unchanged.
 *
 * One lock orders everything but the waiting inside PREP_BO, so frames lie in the file in the order of what they tell.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
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

#include "cermet_build.h"
#include "cermet_client.h"
#include "preload.h"
#include "record.h"
#include "writer.h"

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

void
recorder_enter(void)
{
   is_inside = true;
   pthread_mutex_lock(&lock);
   announce();
}

void
recorder_leave(void)
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

/* --- the end -------------------------------------------------------------------------------------------------------- */

__attribute__((destructor)) static void
end_process(void)
{
   /* Whoever holds the lock now may never let go of it: other threads have been stopped or are being so. */
   if (announced != getpid() || is_inside || pthread_mutex_trylock(&lock) != 0)
      return;
   is_inside = true;
   file_visit_all(record_rest);
   trace_write(TRACE_END, NULL, 0);
   recorder_leave();
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
   recorder_enter();
   struct file *file = file_of_fd(fd);
   errno = before;
   int result = file ? record_call(file, fd, request, argument) : device_ioctl(fd, request, argument);
   int error = errno;
   recorder_leave();
   errno = result < 0 ? error : before;
   return result;
}

/* Whether an fd is a recorded file's of this very process: a child made by vfork() has our memory, but its own fds. */
static bool
is_ours(int fd)
{
   return file_is_known(fd) && !is_inside && announced == getpid();
}

/* The fd is about to mean nothing, or something else. */
static void
forget_fd(int fd)
{
   if (!is_ours(fd))
      return;
   recorder_enter();
   struct file *file = file_last_of_fd(fd);
   if (file) {
      record_rest(file, fd);
      file_forget(file);
   }
   recorder_leave();
}

static int
remember_copy(int fd, int copy)
{
   if (copy >= 0 && is_ours(fd)) {
      recorder_enter();
      file_was_duplicated(fd, copy);
      recorder_leave();
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
   recorder_enter();
   trace_write(TRACE_NOTE, (struct piece[]){{&note, sizeof(note)}, {text, strlen(text)}}, 2);
   recorder_leave();
}
