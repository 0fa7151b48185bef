/* SPDX-License-Identifier: MIT */
/* Which paths are the device's, in whatever way they are written. */
#define _GNU_SOURCE
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Folders whose whole contents are ours. */
static const char *const prefixes[] = {
   NODE_FOLDER, "/sys/class/accel", "/sys/dev/char/261:0", "/sys/devices/platform/rknn", "/sys/bus/platform/devices/rknn"};

/* Copy an absolute path without empty, "." and ".." parts; false when it is too long. */
static bool
tidy(const char *path, char *clean, size_t bytes)
{
   size_t used = 0;

   clean[0] = '\0';
   for (; *path; path += strspn(path, "/")) {
      size_t length = strcspn(path, "/");
      if (length == 2 && path[0] == '.' && path[1] == '.' && !tree_goes_through_link(clean)) {
         while (used > 0 && clean[--used] != '/')
            ;
      } else if (length > 0 && !(length == 1 && path[0] == '.')) {
         if (used + length + 2 > bytes)
            return false;
         clean[used++] = '/';
         memcpy(clean + used, path, length);
         used += length;
      }
      clean[used] = '\0';
      path += length;
   }
   return used > 0;
}

/* Only paths that can mean something of ours cost a closer look. */
static bool
may_be_ours(const char *path)
{
   return strstr(path, "accel") || strstr(path, "261:0") || strstr(path, "rknn");
}

static bool
path_of_link(const char *link, char *path, size_t bytes, bool *ours)
{
   ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, bytes - 1);

   if (length <= 0)
      return false;
   path[length] = '\0';
   *ours = tree_hide(path);
   return true;
}

bool
shim_path_of_fd(int fd, char *path, size_t bytes, bool *ours)
{
   char link[40];

   snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
   return path_of_link(link, path, bytes, ours);
}

/* Where a relative path starts; false when that cannot be told. */
static bool
start_of(int folder_fd, char *base, size_t bytes)
{
   bool ours;

   return folder_fd == AT_FDCWD ? path_of_link("/proc/self/cwd", base, bytes, &ours)
                                : shim_path_of_fd(folder_fd, base, bytes, &ours);
}

/* The absolute path, tidied; false when it is certainly not ours. */
static bool
absolute_path(int folder_fd, const char *path, char *whole, size_t bytes)
{
   char base[PATH_MAX], joined[PATH_MAX];

   if ((uintptr_t)path < 4096 || !may_be_ours(path)) /* bad addresses are for the system to refuse */
      return false;
   if (strncmp(path, "/proc/self/root/", 16) == 0)
      path += 15;
   if (path[0] == '/')
      return tidy(path, whole, bytes);
   return start_of(folder_fd, base, sizeof(base)) &&
          snprintf(joined, sizeof(joined), "%s/%s", base, path) < (int)sizeof(joined) && tidy(joined, whole, bytes);
}

/* Where a path of ours really is; false when the tree could not be made or the name is too long. */
static bool
place_in_tree(const char *whole, const char *end, char *real, size_t real_bytes)
{
   const char *root = tree_root();

   return root[0] && snprintf(real, real_bytes, "%s%s%s", root, whole, end) < (int)real_bytes;
}

enum shim_path
shim_classify(int folder_fd, const char *path, char *real, size_t real_bytes)
{
   char whole[PATH_MAX];
   int kept = errno;
   bool candidate = absolute_path(folder_fd, path, whole, sizeof(whole));

   errno = kept;
   if (!candidate)
      return SHIM_OTHER;

   bool ends_in_slash = path[strlen(path) - 1] == '/';
   if (strcmp(whole, NODE_PATH) == 0 && !ends_in_slash)
      return SHIM_NODE;
   for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
      if (path_is_below(whole, prefixes[i]))
         return place_in_tree(whole, ends_in_slash ? "/" : "", real, real_bytes) ? SHIM_FILE : SHIM_OTHER;
   }
   return SHIM_OTHER;
}


/* --- listings of the system's folders ------------------------------------------------------------------------------ */

static const char *
last_part(const char *path)
{
   return strrchr(path, '/') + 1;
}

static bool
is_in_folder(const char *path, const char *folder)
{
   size_t length = strlen(folder);

   return strncmp(path, folder, length) == 0 && last_part(path) == path + length + 1;
}

bool
shim_lacks_names(const char *folder)
{
   for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
      if (is_in_folder(prefixes[i], folder))
         return true;
   }
   return false;
}

const char *
shim_added_name(const char *folder, size_t index)
{
   for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
      if (!is_in_folder(prefixes[i], folder) || syscall(SYS_faccessat, AT_FDCWD, prefixes[i], F_OK) == 0)
         continue; /* what the system has too is in its listing already */
      if (index-- == 0)
         return last_part(prefixes[i]);
   }
   return NULL;
}
