/* SPDX-License-Identifier: MIT */
/* Which file system a file of ours claims to be on: libudev takes no device from a /sys that is not sysfs. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statfs.h>

#include "cermet_client.h"
#include "shim.h"

_Static_assert(sizeof(struct statfs) == sizeof(struct statfs64), "one function serves both");

static long
type_of(const char *path)
{
   return strncmp(path, "/sys/", 5) == 0 ? SYSFS_MAGIC : TMPFS_MAGIC;
}

EXPORT int
statfs(const char *path, struct statfs *status)
{
   char real[PATH_MAX];
   const char *target = path;
   enum shim_path kind = shim_target(AT_FDCWD, &target, real);
   int result = REAL(statfs)(kind == SHIM_NODE ? "/dev" : target, status);

   if (result == 0 && kind == SHIM_FILE) {
      tree_hide(real);
      status->f_type = type_of(real);
   }
   return result;
}

EXPORT int
fstatfs(int fd, struct statfs *status)
{
   char path[PATH_MAX];
   bool ours;

   if (cermet_client_owns(fd))
      return REAL(statfs)("/dev", status);
   int result = REAL(fstatfs)(fd, status);
   if (result == 0 && shim_path_of_fd(fd, path, sizeof(path), &ours) && ours)
      status->f_type = type_of(path);
   return result;
}

EXPORT int
statfs64(const char *path, struct statfs64 *status)
{
   return statfs(path, (struct statfs *)status);
}

EXPORT int
fstatfs64(int fd, struct statfs64 *status)
{
   return fstatfs(fd, (struct statfs *)status);
}
