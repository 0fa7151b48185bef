/* SPDX-License-Identifier: MIT */
/*
 * /dev/accel and the sysfs files of the device, as a tree of real files in the private folder: listing, reading and
 * following links there needs no code. Contents as Linux 7.2 shows them for the node of accel/rocket.
 */
#define _GNU_SOURCE
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client_internal.h"

#define NODE "/dev/accel/accel0"
#define RKNN "/sys/devices/platform/rknn"

struct entry {
   const char *path;
   const char *text;   /* contents of a file */
   const char *target; /* of a symbolic link; a folder has neither */
};

static const struct entry tree[] = {
   {"/dev", NULL, NULL},
   {"/dev/accel", NULL, NULL},
   {NODE, "", NULL},
   {"/sys", NULL, NULL},
   {"/sys/bus", NULL, NULL},
   {"/sys/bus/platform", NULL, NULL},
   {"/sys/class", NULL, NULL},
   {"/sys/class/accel", NULL, NULL},
   {"/sys/class/accel/accel0", NULL, "../../devices/platform/rknn/accel/accel0"},
   {"/sys/dev", NULL, NULL},
   {"/sys/dev/char", NULL, NULL},
   {"/sys/dev/char/261:0", NULL, "../../devices/platform/rknn/accel/accel0"},
   {"/sys/devices", NULL, NULL},
   {"/sys/devices/platform", NULL, NULL},
   {RKNN, NULL, NULL},
   {RKNN "/uevent", "MODALIAS=platform:rknn\n", NULL},
   {RKNN "/modalias", "platform:rknn\n", NULL},
   {RKNN "/subsystem", NULL, "../../../bus/platform"},
   {RKNN "/accel", NULL, NULL},
   {RKNN "/accel/accel0", NULL, NULL},
   {RKNN "/accel/accel0/dev", "261:0\n", NULL},
   {RKNN "/accel/accel0/uevent", "MAJOR=261\nMINOR=0\nDEVNAME=accel/accel0\nDEVTYPE=accel_minor\n", NULL},
   {RKNN "/accel/accel0/device", NULL, "../../../rknn"},
   {RKNN "/accel/accel0/subsystem", NULL, "../../../../../class/accel"},
};

/* Folders whose whole contents are ours. */
static const char *const prefixes[] = {"/dev/accel", "/sys/class/accel", "/sys/dev/char/261:0", RKNN};

static char root[PATH_MAX]; /* of the tree; empty: it could not be made */

static bool
make_entry(const char *base, const struct entry *entry)
{
   char path[PATH_MAX];

   if (snprintf(path, sizeof(path), "%s%s", base, entry->path) >= (int)sizeof(path))
      return false;
   if (entry->target)
      return symlink(entry->target, path) == 0 || errno == EEXIST;
   if (!entry->text)
      return mkdir(path, 0700) == 0 || errno == EEXIST;

   int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
   if (fd < 0)
      return errno == EEXIST;
   size_t length = strlen(entry->text);
   bool written = write(fd, entry->text, length) == (ssize_t)length;
   close(fd);
   return written;
}

/* Build the tree under a name of its own, then give it its place in one step: a half-made one is never seen. */
static bool
make_tree(const char *place)
{
   char fresh[PATH_MAX];

   if (snprintf(fresh, sizeof(fresh), "%s.XXXXXX", place) >= (int)sizeof(fresh) || !mkdtemp(fresh))
      return false;
   for (size_t i = 0; i < sizeof(tree) / sizeof(tree[0]); i++) {
      if (!make_entry(fresh, &tree[i]))
         return false;
   }
   if (rename(fresh, place) == 0)
      return true;
   /* Another process was first. Its tree is the same; this one is taken away again, last entry first. */
   for (size_t i = sizeof(tree) / sizeof(tree[0]); i-- > 0;) {
      char path[PATH_MAX];
      if (snprintf(path, sizeof(path), "%s%s", fresh, tree[i].path) < (int)sizeof(path))
         remove(path);
   }
   rmdir(fresh);
   return access(place, F_OK) == 0;
}

static void
find_root(void)
{
   char folder[CLIENT_PATH_BYTES], place[CLIENT_PATH_BYTES + 16];
   int kept = errno;

   if (client_runtime_folder(folder, sizeof(folder), NULL, 0) == 0) {
      snprintf(place, sizeof(place), "%s/devices-1", folder);
      if (faccessat(AT_FDCWD, place, F_OK, 0) == 0 || make_tree(place))
         snprintf(root, sizeof(root), "%s", place);
   }
   errno = kept;
}

static bool
is_below(const char *path, const char *prefix)
{
   size_t length = strlen(prefix);

   return strncmp(path, prefix, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* Copy a path without empty and "." parts; false when it is too long. */
static bool
tidy(const char *path, char *clean, size_t bytes)
{
   size_t used = 0;

   while (*path) {
      size_t length = strcspn(path, "/");
      if (length > 0 && !(length == 1 && path[0] == '.')) {
         if (used + length + 2 > bytes)
            return false;
         clean[used++] = '/';
         memcpy(clean + used, path, length);
         used += length;
      }
      path += length + (path[length] == '/');
   }
   clean[used] = '\0';
   return used > 0;
}

/* Only relative paths that can mean something of ours cost a look at where they start. */
static bool
may_be_ours(const char *path)
{
   return strstr(path, "accel") || strstr(path, "261:0") || strstr(path, "rknn");
}

/* The absolute path, tidied; false when it is certainly not ours. */
static bool
absolute_path(int folder_fd, const char *path, char *whole, size_t bytes)
{
   char link[40], base[PATH_MAX], joined[PATH_MAX];
   ssize_t length;

   if (!path || !may_be_ours(path))
      return false;
   if (path[0] == '/')
      return (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/sys/", 5) == 0 || path[1] == '/' || path[1] == '.') &&
             tidy(path, whole, bytes);

   if (folder_fd == AT_FDCWD)
      snprintf(link, sizeof(link), "/proc/self/cwd");
   else
      snprintf(link, sizeof(link), "/proc/self/fd/%d", folder_fd);
   length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof(base) - 1);
   if (length <= 0)
      return false;
   base[length] = '\0';
   shim_hide_tree(base);
   if (snprintf(joined, sizeof(joined), "%s/%s", base, path) >= (int)sizeof(joined))
      return false;
   return tidy(joined, whole, bytes);
}

enum shim_path
shim_classify(int folder_fd, const char *path, char *real, size_t real_bytes)
{
   static pthread_once_t once = PTHREAD_ONCE_INIT;
   char whole[PATH_MAX];
   int kept = errno;
   bool candidate = absolute_path(folder_fd, path, whole, sizeof(whole));

   errno = kept;
   if (!candidate)
      return SHIM_OTHER;
   if (strcmp(whole, NODE) == 0)
      return SHIM_NODE;
   for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
      if (!is_below(whole, prefixes[i]))
         continue;
      pthread_once(&once, find_root);
      if (!root[0] || snprintf(real, real_bytes, "%s%s", root, whole) >= (int)real_bytes)
         return SHIM_OTHER;
      return SHIM_FILE;
   }
   return SHIM_OTHER;
}

void
shim_hide_tree(char *path)
{
   size_t length = strlen(root);

   if (length > 0 && strncmp(path, root, length) == 0 && path[length] == '/')
      memmove(path, path + length, strlen(path + length) + 1);
}
