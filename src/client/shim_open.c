/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: makes /dev/accel/accel0 appear to a dynamically linked program. Only calls that name a path or that
 * cannot work on a socket are replaced: close, dup, fcntl, fork and fd passing do the right thing by themselves, since
 * a device fd is a connection whose last reference the driver sees go. Here: what opens a file.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE /* its inline wrappers would collide with the definitions here */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cermet_client.h"
#include "shim.h"

/* As linux/openat2.h, which older systems lack. */
struct open_wish {
   uint64_t flags, mode, resolve;
};

/* Not in any header that this is compiled with. */
EXPORT int __open(const char *path, int flags, ...);
EXPORT int __open64(const char *path, int flags, ...);
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int folder, const char *path, int flags);
EXPORT int __openat64_2(int folder, const char *path, int flags);
EXPORT int openat2(int folder, const char *path, const void *how, size_t bytes);

int
shim_fail(int error)
{
   errno = error;
   return -1;
}

int
shim_open_node(int flags)
{
   char message[512] = "";

   if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
      return shim_fail(EEXIST);
   if (flags & O_DIRECTORY)
      return shim_fail(ENOTDIR);

   const char *soc = getenv("CERMET_SOC");
   int fd = cermet_client_open(soc && soc[0] ? soc : NULL, flags, message, sizeof(message));
   int error = errno;
   if (fd < 0 && message[0] && error != EBUSY && error != EMFILE && error != ENFILE)
      fprintf(stderr, "cermet: %s\n", message);
   errno = error;
   return fd;
}

int
shim_fd_of_link(const char *path)
{
   int pid, fd, length = 0;

   if (strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/dev/fd/", 8) != 0)
      return -1;
   if ((sscanf(path, "/dev/fd/%d%n", &fd, &length) != 1 || path[length]) &&
       (sscanf(path, "/proc/self/fd/%d%n", &fd, &length) != 1 || path[length]) &&
       (sscanf(path, "/proc/thread-self/fd/%d%n", &fd, &length) != 1 || path[length]) &&
       (sscanf(path, "/proc/%d/fd/%d%n", &pid, &fd, &length) != 2 || path[length] || pid != getpid()))
      return -1;
   return cermet_client_owns(fd) ? fd : -1;
}

enum shim_path
shim_target(int folder, const char **path, char *real)
{
   enum shim_path kind = shim_classify(folder, *path, real, PATH_MAX);

   if (kind == SHIM_FILE)
      *path = real;
   else if (kind == SHIM_OTHER && (uintptr_t)*path >= 4096 && (*path)[0] == '/' && shim_fd_of_link(*path) >= 0)
      return SHIM_NODE;
   return kind;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

#define MODE_OF_CALL(mode, last)                                                                                       \
   do {                                                                                                                \
      if (flags & (O_CREAT | __O_TMPFILE)) {                                                                           \
         va_list rest;                                                                                                 \
         va_start(rest, last);                                                                                         \
         mode = va_arg(rest, int);                                                                                     \
         va_end(rest);                                                                                                 \
      }                                                                                                                \
   } while (0)

#define DEFINE_OPEN(name)                                                                                              \
   EXPORT int name(const char *path, int flags, ...)                                                                   \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      int mode = 0;                                                                                                    \
      MODE_OF_CALL(mode, flags);                                                                                       \
      if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)                                                             \
         return shim_open_node(flags);                                                                                 \
      return REAL(name)(path, flags, mode);                                                                            \
   }

#define DEFINE_OPENAT(name)                                                                                            \
   EXPORT int name(int folder, const char *path, int flags, ...)                                                       \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      int mode = 0;                                                                                                    \
      MODE_OF_CALL(mode, flags);                                                                                       \
      if (shim_target(folder, &path, real) == SHIM_NODE)                                                               \
         return shim_open_node(flags);                                                                                 \
      return REAL(name)(folder, path, flags, mode);                                                                    \
   }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPEN(__open)
DEFINE_OPEN(__open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* What -D_FORTIFY_SOURCE makes of open() without a mode. */
#define DEFINE_OPEN_2(name)                                                                                            \
   EXPORT int name(const char *path, int flags)                                                                        \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)                                                             \
         return shim_open_node(flags);                                                                                 \
      return REAL(name)(path, flags);                                                                                  \
   }

#define DEFINE_OPENAT_2(name)                                                                                          \
   EXPORT int name(int folder, const char *path, int flags)                                                            \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_target(folder, &path, real) == SHIM_NODE)                                                               \
         return shim_open_node(flags);                                                                                 \
      return REAL(name)(folder, path, flags);                                                                          \
   }

DEFINE_OPEN_2(__open_2)
DEFINE_OPEN_2(__open64_2)
DEFINE_OPENAT_2(__openat_2)
DEFINE_OPENAT_2(__openat64_2)

#define DEFINE_CREAT(name)                                                                                             \
   EXPORT int name(const char *path, mode_t mode)                                                                      \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)                                                             \
         return shim_open_node(O_CREAT | O_WRONLY | O_TRUNC);                                                          \
      return REAL(name)(path, mode);                                                                                   \
   }

DEFINE_CREAT(creat)
DEFINE_CREAT(creat64)

/* In C libraries of 2026; also what syscall(SYS_openat2) comes to. */
EXPORT int
openat2(int folder, const char *path, const void *how, size_t bytes)
{
   const struct open_wish *wish = how;
   char real[PATH_MAX];
   enum shim_path kind = shim_target(folder, &path, real);

   if (kind != SHIM_NODE)
      return (int)syscall(SYS_openat2, folder, path, how, bytes);

   int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/dev/null", how, bytes); /* what is wrong with `how` the system knows */
   if (fd < 0)
      return fd;
   close(fd);
   return shim_open_node((int)wish->flags);
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

/* The open flags of a stream's mode; -1: no such mode. */
static int
flags_of_mode(const char *mode)
{
   int flags = strchr(mode, 'e') ? O_CLOEXEC : 0;

   if (mode[0] != 'r' && mode[0] != 'w' && mode[0] != 'a')
      return shim_fail(EINVAL);
   if (strchr(mode, '+'))
      return flags | O_RDWR;
   return flags | (mode[0] == 'r' ? O_RDONLY : O_WRONLY);
}

static FILE *
stream_of_node(const char *mode)
{
   int flags = flags_of_mode(mode);
   int fd = flags < 0 ? -1 : shim_open_node(flags);

   if (fd < 0)
      return NULL;
   FILE *stream = fdopen(fd, mode);
   int error = errno;
   if (!stream)
      close(fd);
   errno = error;
   return stream;
}

#define DEFINE_FOPEN(name)                                                                                             \
   EXPORT FILE *name(const char *path, const char *mode)                                                               \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)                                                             \
         return stream_of_node(mode);                                                                                  \
      return REAL(name)(path, mode);                                                                                   \
   }

/* freopen without a path changes the mode of what is open. The node in place of an open stream is nobody's wish. */
#define DEFINE_FREOPEN(name)                                                                                           \
   EXPORT FILE *name(const char *path, const char *mode, FILE *stream)                                                 \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (path)                                                                                                        \
         shim_target(AT_FDCWD, &path, real);                                                                           \
      return REAL(name)(path, mode, stream);                                                                           \
   }

DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)
DEFINE_FREOPEN(freopen)
DEFINE_FREOPEN(freopen64)

/* --- others that need only the path ------------------------------------------------------------------------------- */

EXPORT int
inotify_add_watch(int fd, const char *path, uint32_t mask)
{
   char real[PATH_MAX];

   if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)
      return shim_fail(ENOENT);
   return REAL(inotify_add_watch)(fd, path, mask);
}

EXPORT int
chdir(const char *path)
{
   char real[PATH_MAX];

   if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)
      return shim_fail(ENOTDIR);
   return REAL(chdir)(path);
}
