/* SPDX-License-Identifier: MIT */
/*
 * /dev/accel and the sysfs files of the device, as a tree of real files in the private folder: listing, reading and
 * following links there needs no code. Contents as Linux 7.2 shows them for the node of accel/rocket.
 */
#define _GNU_SOURCE
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
#include "devices.h"

#define RKNN "/sys/devices/platform/rknn"

struct entry {
   const char *path;
   const char *text;   /* contents of a file */
   const char *target; /* of a symbolic link; a folder has neither */
};

static const struct entry tree[] = {
   {"/dev", NULL, NULL},
   {NODE_FOLDER, NULL, NULL},
   {NODE_PATH, "", NULL},
   {"/sys", NULL, NULL},
   {"/sys/bus", NULL, NULL},
   {"/sys/bus/platform", NULL, NULL},
   {"/sys/bus/platform/devices", NULL, NULL},
   {"/sys/bus/platform/devices/rknn", NULL, "../../../devices/platform/rknn"},
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
      return mkdir(path, 0755) == 0 || errno == EEXIST;

   int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
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
      snprintf(place, sizeof(place), "%s/devices-3", folder);
      if (faccessat(AT_FDCWD, place, F_OK, 0) == 0 || make_tree(place))
         snprintf(root, sizeof(root), "%s", place);
   }
   errno = kept;
}

bool
path_is_below(const char *path, const char *prefix)
{
   size_t length = strlen(prefix);

   return strncmp(path, prefix, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

const char *
tree_root(void)
{
   static pthread_once_t once = PTHREAD_ONCE_INIT;

   pthread_once(&once, find_root);
   return root;
}

bool
tree_hide(char *path)
{
   size_t length = strlen(root);
   bool ours = length > 0 && strncmp(path, root, length) == 0 && path[length] == '/';

   if (ours)
      memmove(path, path + length, strlen(path + length) + 1);
   return ours;
}

bool
tree_goes_through_link(const char *path)
{
   for (size_t i = 0; i < sizeof(tree) / sizeof(tree[0]); i++) {
      if (tree[i].target && path_is_below(path, tree[i].path))
         return true;
   }
   return false;
}
