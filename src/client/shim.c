/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: makes /dev/accel/accel0 appear to a dynamically linked program. Only calls that name a path or that
 * cannot work on a socket are replaced: close, dup, fcntl, fork and fd passing do the right thing by themselves, since
 * a device fd is a connection whose last reference the driver sees go.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE /* its inline wrappers would collide with the definitions here */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cermet_client.h"
#include "devices.h"

#define EXPORT __attribute__((visibility("default")))
#define NODE_PATH "/dev/accel/accel0"
#define NODE_MODE (S_IFCHR | 0666)
#define NODE_INODE 261

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one set of functions serves both on 64-bit systems only");

/* The function that this one replaces; NULL where the C library has none of that name. */
#define REAL(name)                                                                                                     \
   ({                                                                                                                  \
      static __typeof__(&name) found;                                                                                  \
      if (!found)                                                                                                      \
         found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                           \
      found;                                                                                                           \
   })

/* Symbols of older C libraries, without a declaration in newer headers. */
EXPORT int __xstat(int version, const char *path, struct stat *status);
EXPORT int __lxstat(int version, const char *path, struct stat *status);
EXPORT int __fxstat(int version, int fd, struct stat *status);
EXPORT int __fxstatat(int version, int folder, const char *path, struct stat *status, int flags);
EXPORT int __xstat64(int version, const char *path, struct stat *status);
EXPORT int __lxstat64(int version, const char *path, struct stat *status);
EXPORT int __fxstat64(int version, int fd, struct stat *status);
EXPORT int __fxstatat64(int version, int folder, const char *path, struct stat *status, int flags);
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int folder, const char *path, int flags);
EXPORT int __openat64_2(int folder, const char *path, int flags);
EXPORT ssize_t __readlink_chk(const char *path, char *text, size_t bytes, size_t room);
EXPORT ssize_t __readlinkat_chk(int folder, const char *path, char *text, size_t bytes, size_t room);
EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room);

static int
fail(int error)
{
   errno = error;
   return -1;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static int
open_node(int flags)
{
   char message[512] = "";

   if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
      return fail(EEXIST);
   if (flags & O_DIRECTORY)
      return fail(ENOTDIR);

   const char *soc = getenv("CERMET_SOC");
   int fd = cermet_client_open(soc && soc[0] ? soc : NULL, flags, message, sizeof(message));
   int error = errno;
   if (fd < 0 && error != EBUSY)
      fprintf(stderr, "cermet: %s\n", message);
   errno = error;
   return fd;
}

/* What to open instead: 1: `real`, 0: *fd is the answer. */
static bool
redirected(int folder, const char **path, int flags, char *real, int *fd)
{
   switch (shim_classify(folder, *path, real, PATH_MAX)) {
   case SHIM_NODE:
      *fd = open_node(flags);
      return false;
   case SHIM_FILE:
      *path = real;
      return true;
   default:
      return true;
   }
}

#define DEFINE_OPEN(name)                                                                                              \
   EXPORT int name(const char *path, int flags, ...)                                                                   \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      int fd, mode = 0;                                                                                                \
      va_list rest;                                                                                                    \
      if (flags & (O_CREAT | __O_TMPFILE)) {                                                                           \
         va_start(rest, flags);                                                                                        \
         mode = va_arg(rest, int);                                                                                     \
         va_end(rest);                                                                                                 \
      }                                                                                                                \
      return redirected(AT_FDCWD, &path, flags, real, &fd) ? REAL(name)(path, flags, mode) : fd;                       \
   }

#define DEFINE_OPENAT(name)                                                                                            \
   EXPORT int name(int folder, const char *path, int flags, ...)                                                       \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      int fd, mode = 0;                                                                                                \
      va_list rest;                                                                                                    \
      if (flags & (O_CREAT | __O_TMPFILE)) {                                                                           \
         va_start(rest, flags);                                                                                        \
         mode = va_arg(rest, int);                                                                                     \
         va_end(rest);                                                                                                 \
      }                                                                                                                \
      return redirected(folder, &path, flags, real, &fd) ? REAL(name)(folder, path, flags, mode) : fd;                 \
   }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* What -D_FORTIFY_SOURCE makes of open() without a mode. */
#define DEFINE_OPEN_2(name)                                                                                            \
   EXPORT int name(const char *path, int flags)                                                                        \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      int fd;                                                                                                          \
      return redirected(AT_FDCWD, &path, flags, real, &fd) ? REAL(name)(path, flags) : fd;                             \
   }

#define DEFINE_OPENAT_2(name)                                                                                          \
   EXPORT int name(int folder, const char *path, int flags)                                                            \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      int fd;                                                                                                          \
      return redirected(folder, &path, flags, real, &fd) ? REAL(name)(folder, path, flags) : fd;                       \
   }

DEFINE_OPEN_2(__open_2)
DEFINE_OPEN_2(__open64_2)
DEFINE_OPENAT_2(__openat_2)
DEFINE_OPENAT_2(__openat64_2)

/* Functions of a path and one more argument that have nothing to say about the node itself. */
#define DEFINE_PATH_FUNCTION(result_type, name, argument_type)                                                         \
   EXPORT result_type name(const char *path, argument_type argument)                                                   \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      return REAL(name)(shim_classify(AT_FDCWD, path, real, PATH_MAX) == SHIM_FILE ? real : path, argument);           \
   }

DEFINE_PATH_FUNCTION(FILE *, fopen, const char *)
DEFINE_PATH_FUNCTION(FILE *, fopen64, const char *)

EXPORT DIR *
opendir(const char *path)
{
   char real[PATH_MAX];

   return REAL(opendir)(shim_classify(AT_FDCWD, path, real, PATH_MAX) == SHIM_FILE ? real : path);
}

EXPORT int
scandir(const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
        int (*compare)(const struct dirent **, const struct dirent **))
{
   char real[PATH_MAX];

   return REAL(scandir)(shim_classify(AT_FDCWD, path, real, PATH_MAX) == SHIM_FILE ? real : path, names, filter, compare);
}

EXPORT int
scandir64(const char *path, struct dirent64 ***names, int (*filter)(const struct dirent64 *),
          int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
   char real[PATH_MAX];

   return REAL(scandir64)(shim_classify(AT_FDCWD, path, real, PATH_MAX) == SHIM_FILE ? real : path, names, filter,
                          compare);
}

/* --- stat --------------------------------------------------------------------------------------------------------- */

static int
fill_node(struct stat *status)
{
   memset(status, 0, sizeof(*status));
   status->st_mode = NODE_MODE;
   status->st_rdev = makedev(ACCEL_MAJOR, ACCEL_MINOR);
   status->st_ino = NODE_INODE;
   status->st_nlink = 1;
   status->st_blksize = 4096;
   return 0;
}

static int
fill_node_statx(struct statx *status)
{
   memset(status, 0, sizeof(*status));
   status->stx_mask = STATX_BASIC_STATS;
   status->stx_mode = NODE_MODE;
   status->stx_rdev_major = ACCEL_MAJOR;
   status->stx_rdev_minor = ACCEL_MINOR;
   status->stx_ino = NODE_INODE;
   status->stx_nlink = 1;
   status->stx_blksize = 4096;
   return 0;
}

/* A device fd says what the node says. */
static int
corrected(int result, int fd, struct stat *status)
{
   if (result == 0 && S_ISSOCK(status->st_mode) && cermet_client_owns(fd))
      return fill_node(status);
   return result;
}

static bool
means_the_fd(const char *path, int flags)
{
   return (flags & AT_EMPTY_PATH) && (!path || !path[0]);
}

static int
system_fstatat(int folder, const char *path, struct stat *status, int flags)
{
   return (int)syscall(SYS_newfstatat, folder, path, status, flags);
}

static int
system_fstat(int fd, struct stat *status)
{
   return (int)syscall(SYS_fstat, fd, status);
}

/* `call` is the C library's function, `path` what it is called with. */
#define STAT_OF_PATH(folder, path, status, call)                                                                       \
   char real[PATH_MAX];                                                                                                \
   enum shim_path kind = shim_classify(folder, path, real, PATH_MAX);                                                  \
   if (kind == SHIM_NODE)                                                                                              \
      return fill_node(status);                                                                                        \
   if (kind == SHIM_FILE)                                                                                              \
      path = real;                                                                                                     \
   return call

EXPORT int
stat(const char *restrict path, struct stat *restrict status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, REAL(stat) ? REAL(stat)(path, status) : system_fstatat(AT_FDCWD, path, status, 0));
}

EXPORT int
lstat(const char *restrict path, struct stat *restrict status)
{
   STAT_OF_PATH(AT_FDCWD, path, status,
                REAL(lstat) ? REAL(lstat)(path, status)
                            : system_fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW));
}

EXPORT int
fstat(int fd, struct stat *status)
{
   return corrected(REAL(fstat) ? REAL(fstat)(fd, status) : system_fstat(fd, status), fd, status);
}

EXPORT int
fstatat(int folder, const char *restrict path, struct stat *restrict status, int flags)
{
   if (means_the_fd(path, flags))
      return corrected(system_fstatat(folder, path, status, flags), folder, status);
   STAT_OF_PATH(folder, path, status,
                REAL(fstatat) ? REAL(fstatat)(folder, path, status, flags)
                              : system_fstatat(folder, path, status, flags));
}

EXPORT int
stat64(const char *restrict path, struct stat64 *restrict status)
{
   return stat(path, (struct stat *)status);
}

EXPORT int
lstat64(const char *restrict path, struct stat64 *restrict status)
{
   return lstat(path, (struct stat *)status);
}

EXPORT int
fstat64(int fd, struct stat64 *status)
{
   return fstat(fd, (struct stat *)status);
}

EXPORT int
fstatat64(int folder, const char *restrict path, struct stat64 *restrict status, int flags)
{
   return fstatat(folder, path, (struct stat *)status, flags);
}

EXPORT int
__xstat(int version, const char *path, struct stat *status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, REAL(__xstat)(version, path, status));
}

EXPORT int
__lxstat(int version, const char *path, struct stat *status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, REAL(__lxstat)(version, path, status));
}

EXPORT int
__fxstat(int version, int fd, struct stat *status)
{
   return corrected(REAL(__fxstat)(version, fd, status), fd, status);
}

EXPORT int
__fxstatat(int version, int folder, const char *path, struct stat *status, int flags)
{
   if (means_the_fd(path, flags))
      return corrected(REAL(__fxstatat)(version, folder, path, status, flags), folder, status);
   STAT_OF_PATH(folder, path, status, REAL(__fxstatat)(version, folder, path, status, flags));
}

EXPORT int
__xstat64(int version, const char *path, struct stat *status)
{
   return __xstat(version, path, status);
}

EXPORT int
__lxstat64(int version, const char *path, struct stat *status)
{
   return __lxstat(version, path, status);
}

EXPORT int
__fxstat64(int version, int fd, struct stat *status)
{
   return __fxstat(version, fd, status);
}

EXPORT int
__fxstatat64(int version, int folder, const char *path, struct stat *status, int flags)
{
   return __fxstatat(version, folder, path, status, flags);
}

EXPORT int
statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict status)
{
   char real[PATH_MAX];

   if (means_the_fd(path, flags)) {
      int result = REAL(statx)(folder, path, flags, mask, status);
      if (result == 0 && S_ISSOCK(status->stx_mode) && cermet_client_owns(folder))
         return fill_node_statx(status);
      return result;
   }
   switch (shim_classify(folder, path, real, PATH_MAX)) {
   case SHIM_NODE:
      return fill_node_statx(status);
   case SHIM_FILE:
      return REAL(statx)(AT_FDCWD, real, flags, mask, status);
   default:
      return REAL(statx)(folder, path, flags, mask, status);
   }
}

/* --- extended attributes: ls -l asks for access lists -------------------------------------------------------------- */

#define DEFINE_GETXATTR(name)                                                                                          \
   EXPORT ssize_t name(const char *path, const char *attribute, void *value, size_t bytes)                             \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_classify(AT_FDCWD, path, real, PATH_MAX) != SHIM_OTHER)                                                 \
         return fail(ENOTSUP);                                                                                         \
      return REAL(name)(path, attribute, value, bytes);                                                                \
   }

DEFINE_GETXATTR(getxattr)
DEFINE_GETXATTR(lgetxattr)

#define DEFINE_LISTXATTR(name)                                                                                         \
   EXPORT ssize_t name(const char *path, char *list, size_t bytes)                                                     \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_classify(AT_FDCWD, path, real, PATH_MAX) != SHIM_OTHER)                                                 \
         return fail(ENOTSUP);                                                                                         \
      return REAL(name)(path, list, bytes);                                                                            \
   }

DEFINE_LISTXATTR(listxattr)
DEFINE_LISTXATTR(llistxattr)

/* --- access ------------------------------------------------------------------------------------------------------- */

static int
node_access(int mode)
{
   return mode & X_OK ? fail(EACCES) : 0;
}

#define DEFINE_ACCESS(name)                                                                                            \
   EXPORT int name(const char *path, int mode)                                                                         \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      enum shim_path kind = shim_classify(AT_FDCWD, path, real, PATH_MAX);                                             \
      if (kind == SHIM_NODE)                                                                                           \
         return node_access(mode);                                                                                     \
      return REAL(name)(kind == SHIM_FILE ? real : path, mode);                                                        \
   }

DEFINE_ACCESS(access)
DEFINE_ACCESS(eaccess)
DEFINE_ACCESS(euidaccess)

EXPORT int
faccessat(int folder, const char *path, int mode, int flags)
{
   char real[PATH_MAX];
   enum shim_path kind = shim_classify(folder, path, real, PATH_MAX);

   if (kind == SHIM_NODE)
      return node_access(mode);
   return REAL(faccessat)(folder, kind == SHIM_FILE ? real : path, mode, flags);
}

/* --- links -------------------------------------------------------------------------------------------------------- */

/* The device fd that /proc/self/fd/N or /proc/PID/fd/N of this process names, or -1. */
static int
device_fd_of_path(const char *path)
{
   int pid, fd, length = 0;

   if (!path || strncmp(path, "/proc/", 6) != 0)
      return -1;
   if (sscanf(path, "/proc/self/fd/%d%n", &fd, &length) != 1 || path[length]) {
      if (sscanf(path, "/proc/%d/fd/%d%n", &pid, &fd, &length) != 2 || path[length] || pid != getpid())
         return -1;
   }
   return cermet_client_owns(fd) ? fd : -1;
}

/* readlink for the paths that are ours; -2: they are the system's. */
static ssize_t
read_our_link(int folder, const char *path, char *text, size_t bytes)
{
   char real[PATH_MAX];

   switch (shim_classify(folder, path, real, PATH_MAX)) {
   case SHIM_NODE:
      return fail(EINVAL);
   case SHIM_FILE:
      return syscall(SYS_readlinkat, AT_FDCWD, real, text, bytes);
   default:
      break;
   }
   if (device_fd_of_path(path) < 0)
      return -2;
   size_t length = strlen(NODE_PATH) < bytes ? strlen(NODE_PATH) : bytes;
   memcpy(text, NODE_PATH, length);
   return (ssize_t)length;
}

EXPORT ssize_t
readlink(const char *restrict path, char *restrict text, size_t bytes)
{
   ssize_t length = read_our_link(AT_FDCWD, path, text, bytes);

   return length != -2 ? length : REAL(readlink)(path, text, bytes);
}

EXPORT ssize_t
readlinkat(int folder, const char *restrict path, char *restrict text, size_t bytes)
{
   ssize_t length = read_our_link(folder, path, text, bytes);

   return length != -2 ? length : REAL(readlinkat)(folder, path, text, bytes);
}

EXPORT ssize_t
__readlink_chk(const char *path, char *text, size_t bytes, size_t room)
{
   ssize_t length = read_our_link(AT_FDCWD, path, text, bytes < room ? bytes : room);

   return length != -2 ? length : REAL(__readlink_chk)(path, text, bytes, room);
}

EXPORT ssize_t
__readlinkat_chk(int folder, const char *path, char *text, size_t bytes, size_t room)
{
   ssize_t length = read_our_link(folder, path, text, bytes < room ? bytes : room);

   return length != -2 ? length : REAL(__readlinkat_chk)(folder, path, text, bytes, room);
}

/* A path of ours, resolved, as the program must see it; NULL with errno. */
static char *
resolve_ours(enum shim_path kind, const char *real, char *resolved)
{
   char *answer;

   if (kind == SHIM_NODE) {
      answer = resolved ? resolved : malloc(PATH_MAX);
      return answer ? strcpy(answer, NODE_PATH) : NULL;
   }
   answer = REAL(realpath)(real, resolved);
   if (answer)
      shim_hide_tree(answer);
   return answer;
}

EXPORT char *
realpath(const char *restrict path, char *restrict resolved)
{
   char real[PATH_MAX];
   enum shim_path kind = shim_classify(AT_FDCWD, path, real, PATH_MAX);

   return kind == SHIM_OTHER ? REAL(realpath)(path, resolved) : resolve_ours(kind, real, resolved);
}

EXPORT char *
__realpath_chk(const char *path, char *resolved, size_t room)
{
   char real[PATH_MAX];
   enum shim_path kind = shim_classify(AT_FDCWD, path, real, PATH_MAX);

   return kind == SHIM_OTHER || room < PATH_MAX ? REAL(__realpath_chk)(path, resolved, room)
                                                : resolve_ours(kind, real, resolved);
}

/* --- the device --------------------------------------------------------------------------------------------------- */

EXPORT int
ioctl(int fd, unsigned long request, ...)
{
   va_list rest;

   va_start(rest, request);
   void *argument = va_arg(rest, void *);
   va_end(rest);
   return cermet_client_owns(fd) ? cermet_client_ioctl(fd, request, argument) : REAL(ioctl)(fd, request, argument);
}

static bool
maps_device(int flags, int fd)
{
   return !(flags & MAP_ANONYMOUS) && cermet_client_owns(fd);
}

EXPORT void *
mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
   return maps_device(flags, fd) ? cermet_client_mmap(address, bytes, protection, flags, fd, offset)
                                 : REAL(mmap)(address, bytes, protection, flags, fd, offset);
}

EXPORT void *
mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
   return maps_device(flags, fd) ? cermet_client_mmap(address, bytes, protection, flags, fd, (off_t)offset)
                                 : REAL(mmap64)(address, bytes, protection, flags, fd, offset);
}
