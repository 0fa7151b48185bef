/* SPDX-License-Identifier: MIT */
/* What a program hears of the node and of a device fd: stat in all its forms, access, extended attributes. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cermet_client.h"
#include "shim.h"

#define NODE_MODE (S_IFCHR | 0666)

/* Symbols of older C libraries, without a declaration in newer headers. */
EXPORT int __xstat(int version, const char *path, struct stat *status);
EXPORT int __lxstat(int version, const char *path, struct stat *status);
EXPORT int __fxstat(int version, int fd, struct stat *status);
EXPORT int __fxstatat(int version, int folder, const char *path, struct stat *status, int flags);
EXPORT int __xstat64(int version, const char *path, struct stat *status);
EXPORT int __lxstat64(int version, const char *path, struct stat *status);
EXPORT int __fxstat64(int version, int fd, struct stat *status);
EXPORT int __fxstatat64(int version, int folder, const char *path, struct stat *status, int flags);

static int
fill_node(struct stat *status)
{
   if ((uintptr_t)status < 4096)
      return shim_fail(EFAULT);
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
   if ((uintptr_t)status < 4096)
      return shim_fail(EFAULT);
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
   return (flags & AT_EMPTY_PATH) && ((uintptr_t)path < 4096 || !path[0]);
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

/* A link is what it is for lstat, also one to a device fd. */
static enum shim_path
target_of_stat(int folder, const char **path, char *real, bool follow)
{
   if (follow)
      return shim_target(folder, path, real);

   enum shim_path kind = shim_classify(folder, *path, real, PATH_MAX);
   if (kind == SHIM_FILE)
      *path = real;
   return kind;
}

/* `call` is the C library's function, `path` what it is called with. */
#define STAT_OF_PATH(folder, path, status, follow, call)                                                               \
   char real[PATH_MAX];                                                                                                \
   if (target_of_stat(folder, &path, real, follow) == SHIM_NODE)                                                       \
      return fill_node(status);                                                                                        \
   return call

EXPORT int
stat(const char *path, struct stat *status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, true,
                REAL(stat) ? REAL(stat)(path, status) : system_fstatat(AT_FDCWD, path, status, 0));
}

EXPORT int
lstat(const char *path, struct stat *status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, false,
                REAL(lstat) ? REAL(lstat)(path, status)
                            : system_fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW));
}

EXPORT int
fstat(int fd, struct stat *status)
{
   return corrected(REAL(fstat) ? REAL(fstat)(fd, status) : system_fstat(fd, status), fd, status);
}

EXPORT int
fstatat(int folder, const char *path, struct stat *status, int flags)
{
   if (means_the_fd(path, flags))
      return corrected(system_fstatat(folder, path, status, flags), folder, status);
   STAT_OF_PATH(folder, path, status, !(flags & AT_SYMLINK_NOFOLLOW),
                REAL(fstatat) ? REAL(fstatat)(folder, path, status, flags)
                              : system_fstatat(folder, path, status, flags));
}

EXPORT int
stat64(const char *path, struct stat64 *status)
{
   return stat(path, (struct stat *)status);
}

EXPORT int
lstat64(const char *path, struct stat64 *status)
{
   return lstat(path, (struct stat *)status);
}

EXPORT int
fstat64(int fd, struct stat64 *status)
{
   return fstat(fd, (struct stat *)status);
}

EXPORT int
fstatat64(int folder, const char *path, struct stat64 *status, int flags)
{
   return fstatat(folder, path, (struct stat *)status, flags);
}

EXPORT int
__xstat(int version, const char *path, struct stat *status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, true, REAL(__xstat)(version, path, status));
}

EXPORT int
__lxstat(int version, const char *path, struct stat *status)
{
   STAT_OF_PATH(AT_FDCWD, path, status, false, REAL(__lxstat)(version, path, status));
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
   STAT_OF_PATH(folder, path, status, !(flags & AT_SYMLINK_NOFOLLOW),
                REAL(__fxstatat)(version, folder, path, status, flags));
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
statx(int folder, const char *path, int flags, unsigned mask, struct statx *status)
{
   char real[PATH_MAX];

   if (means_the_fd(path, flags)) {
      int result = REAL(statx)(folder, path, flags, mask, status);
      if (result == 0 && S_ISSOCK(status->stx_mode) && cermet_client_owns(folder))
         return fill_node_statx(status);
      return result;
   }
   if (target_of_stat(folder, &path, real, !(flags & AT_SYMLINK_NOFOLLOW)) == SHIM_NODE)
      return fill_node_statx(status);
   return REAL(statx)(folder, path, flags, mask, status);
}

/* --- access ------------------------------------------------------------------------------------------------------- */

static int
node_access(int mode)
{
   if (mode & ~(R_OK | W_OK | X_OK))
      return shim_fail(EINVAL);
   return mode & X_OK ? shim_fail(EACCES) : 0;
}

#define DEFINE_ACCESS(name)                                                                                            \
   EXPORT int name(const char *path, int mode)                                                                         \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE)                                                             \
         return node_access(mode);                                                                                     \
      return REAL(name)(path, mode);                                                                                   \
   }

DEFINE_ACCESS(access)
DEFINE_ACCESS(eaccess)
DEFINE_ACCESS(euidaccess)

EXPORT int
faccessat(int folder, const char *path, int mode, int flags)
{
   char real[PATH_MAX];

   if (shim_target(folder, &path, real) == SHIM_NODE)
      return node_access(mode);
   return REAL(faccessat)(folder, path, mode, flags);
}

/* --- extended attributes: ls -l asks for access lists -------------------------------------------------------------- */

#define DEFINE_GETXATTR(name)                                                                                          \
   EXPORT ssize_t name(const char *path, const char *attribute, void *value, size_t bytes)                             \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_classify(AT_FDCWD, path, real, PATH_MAX) != SHIM_OTHER)                                                 \
         return shim_fail(ENOTSUP);                                                                                    \
      return REAL(name)(path, attribute, value, bytes);                                                                \
   }

DEFINE_GETXATTR(getxattr)
DEFINE_GETXATTR(lgetxattr)

#define DEFINE_LISTXATTR(name)                                                                                         \
   EXPORT ssize_t name(const char *path, char *list, size_t bytes)                                                     \
   {                                                                                                                   \
      char real[PATH_MAX];                                                                                             \
      if (shim_classify(AT_FDCWD, path, real, PATH_MAX) != SHIM_OTHER)                                                 \
         return shim_fail(ENOTSUP);                                                                                    \
      return REAL(name)(path, list, bytes);                                                                            \
   }

DEFINE_LISTXATTR(listxattr)
DEFINE_LISTXATTR(llistxattr)
