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
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client_internal.h"

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

/* Folders whose whole contents are ours. */
static const char *const prefixes[] = {
   NODE_FOLDER, "/sys/class/accel", "/sys/dev/char/261:0", RKNN, "/sys/bus/platform/devices/rknn"};

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
      snprintf(place, sizeof(place), "%s/devices-2", folder);
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

/* Whether one of our symbolic links is in it: then ".." behind it leads elsewhere than to the name before. */
static bool
goes_through_link(const char *path)
{
   for (size_t i = 0; i < sizeof(tree) / sizeof(tree[0]); i++) {
      if (tree[i].target && is_below(path, tree[i].path))
         return true;
   }
   return false;
}

/* Copy an absolute path without empty, "." and ".." parts; false when it is too long. */
static bool
tidy(const char *path, char *clean, size_t bytes)
{
   size_t used = 0;

   clean[0] = '\0';
   for (; *path; path += strspn(path, "/")) {
      size_t length = strcspn(path, "/");
      if (length == 2 && path[0] == '.' && path[1] == '.' && !goes_through_link(clean)) {
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

bool
shim_hide_tree(char *path)
{
   size_t length = strlen(root);
   bool ours = length > 0 && strncmp(path, root, length) == 0 && path[length] == '/';

   if (ours)
      memmove(path, path + length, strlen(path + length) + 1);
   return ours;
}

static bool
path_of_link(const char *link, char *path, size_t bytes, bool *ours)
{
   ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, bytes - 1);

   if (length <= 0)
      return false;
   path[length] = '\0';
   *ours = shim_hide_tree(path);
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
   static pthread_once_t once = PTHREAD_ONCE_INIT;

   pthread_once(&once, find_root);
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
      if (is_below(whole, prefixes[i]))
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
