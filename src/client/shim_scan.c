/* SPDX-License-Identifier: MIT */
/* scandir and glob on the listings of shim_list.c: the C library's own would not call the functions there. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

typedef int filter_function(const struct dirent *);
typedef int compare_function(const struct dirent **, const struct dirent **);

static struct dirent *
copy_entry(const struct dirent *entry)
{
   size_t bytes = offsetof(struct dirent, d_name) + strlen(entry->d_name) + 1;
   struct dirent *copy = malloc(bytes);

   return copy ? memcpy(copy, entry, bytes) : NULL;
}

/* Number of names, or -1 with errno; closes the stream. */
static int
collect(DIR *stream, struct dirent ***names, filter_function *filter, compare_function *compare)
{
   struct dirent **found = NULL, *entry;
   size_t count = 0, room = 0;

   if (!stream)
      return -1;
   for (errno = 0; (entry = readdir(stream)) != NULL; errno = 0) {
      if (filter && !filter(entry))
         continue;
      if (count == room) {
         struct dirent **larger = realloc(found, (room = 2 * room + 16) * sizeof(*found));
         if (!larger)
            break;
         found = larger;
      }
      if (!(found[count] = copy_entry(entry)))
         break;
      count++;
   }
   int error = errno;
   closedir(stream);
   if (error) {
      while (count > 0)
         free(found[--count]);
      free(found);
      return shim_fail(error);
   }
   if (compare && count > 1)
      qsort(found, count, sizeof(*found), (int (*)(const void *, const void *))compare);
   *names = found;
   return (int)count;
}

static DIR *
open_folder_at(int folder, const char *path)
{
   char real[PATH_MAX];

   if (shim_target(folder, &path, real) == SHIM_NODE) {
      errno = ENOTDIR;
      return NULL;
   }
   int fd = (int)syscall(SYS_openat, folder, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
   DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
   if (fd >= 0 && !stream)
      close(fd);
   return stream;
}

EXPORT int
scandir(const char *path, struct dirent ***names, filter_function *filter, compare_function *compare)
{
   return collect(open_folder_at(AT_FDCWD, path), names, filter, compare);
}

EXPORT int
scandirat(int folder, const char *path, struct dirent ***names, filter_function *filter, compare_function *compare)
{
   return collect(open_folder_at(folder, path), names, filter, compare);
}

EXPORT int
scandir64(const char *path, struct dirent64 ***names, int (*filter)(const struct dirent64 *),
          int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
   return scandir(path, (struct dirent ***)names, (filter_function *)filter, (compare_function *)compare);
}

EXPORT int
scandirat64(int folder, const char *path, struct dirent64 ***names, int (*filter)(const struct dirent64 *),
            int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
   return scandirat(folder, path, (struct dirent ***)names, (filter_function *)filter, (compare_function *)compare);
}

/* --- glob --------------------------------------------------------------------------------------------------------- */

static void *
open_for_glob(const char *path)
{
   return opendir(path);
}

static struct dirent *
read_for_glob(void *stream)
{
   return readdir(stream);
}

static void
close_for_glob(void *stream)
{
   closedir(stream);
}

static void
use_our_functions(glob_t *request)
{
   request->gl_opendir = open_for_glob;
   request->gl_readdir = read_for_glob;
   request->gl_closedir = close_for_glob;
   request->gl_stat = stat;
   request->gl_lstat = lstat;
}

#define DEFINE_GLOB(name, type)                                                                                        \
   EXPORT int name(const char *restrict pattern, int flags, int (*on_error)(const char *, int), type *restrict paths)  \
   {                                                                                                                   \
      if (!(flags & GLOB_ALTDIRFUNC))                                                                                  \
         use_our_functions((glob_t *)paths);                                                                           \
      return REAL(name)(pattern, flags | GLOB_ALTDIRFUNC, on_error, paths);                                            \
   }

DEFINE_GLOB(glob, glob_t)
DEFINE_GLOB(glob64, glob64_t)
