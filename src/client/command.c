/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "command.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether snprintf's result went into `size` bytes, whole. */
static bool
fitted(int length, size_t size)
{
   return length >= 0 && (size_t)length < size;
}

static bool
is_program(const char *path)
{
   struct stat status;

   return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* Nobody else could have put it there: a library in /tmp must not start somebody's /tmp/bin/cermet. */
static bool
is_trusted(const char *path, uid_t library_owner)
{
   struct stat status;

   return stat(path, &status) == 0 && (status.st_uid == 0 || status.st_uid == library_owner) &&
          (status.st_mode & S_IWOTH) == 0;
}

/* bin/cermet in one of the folders above `library`. */
static bool
find_above(const char *library, char *path, size_t path_bytes)
{
   char folder[PATH_MAX];
   struct stat status;
   char *slash;

   if (stat(library, &status) != 0 || !fitted(snprintf(folder, sizeof(folder), "%s", library), sizeof(folder)))
      return false;
   while ((slash = strrchr(folder, '/')) != NULL) {
      *slash = '\0';
      if (fitted(snprintf(path, path_bytes, "%s/bin/cermet", folder), path_bytes) && is_program(path) &&
          is_trusted(path, status.st_uid))
         return true;
   }
   return false;
}

/* Beside this library, as the loader names it, and as it is without symbolic links. */
static bool
find_beside_library(char *path, size_t path_bytes)
{
   char real[PATH_MAX];
   Dl_info info;

   if (!dladdr((void *)(uintptr_t)&cermet_command_find, &info) || !info.dli_fname || !realpath(info.dli_fname, real))
      return false;
   if (info.dli_fname[0] == '/' && find_above(info.dli_fname, path, path_bytes))
      return true;
   return find_above(real, path, path_bytes);
}

static bool
find_in_search_path(const char *name, char *path, size_t path_bytes)
{
   const char *folder = getenv("PATH");

   while (folder && *folder) {
      size_t length = strcspn(folder, ":");

      if (folder[0] == '/' &&
          fitted(snprintf(path, path_bytes, "%.*s/%s", (int)length, folder, name), path_bytes) && is_program(path))
         return true;
      folder += length + (folder[length] == ':');
   }
   return false;
}

static bool
find_wish(const char *wish, char *path, size_t path_bytes)
{
   if (!strchr(wish, '/'))
      return find_in_search_path(wish, path, path_bytes);
   return fitted(snprintf(path, path_bytes, "%s", wish), path_bytes) && is_program(path);
}

bool
cermet_command_find(const char *wish, const char *source, char *path, size_t path_bytes, char *message,
                    size_t message_bytes)
{
   if (!wish || !wish[0]) {
      wish = getenv("CERMET_COMMAND");
      source = "CERMET_COMMAND";
   }
   if (wish && wish[0]) {
      if (find_wish(wish, path, path_bytes))
         return true;
      snprintf(message, message_bytes, "%s: '%.200s' must be a program that can be executed, a path or a name in PATH, "
               "without arguments", source, wish);
      return false;
   }
   if (find_beside_library(path, path_bytes) || find_in_search_path("cermet", path, path_bytes))
      return true;
   snprintf(message, message_bytes, "no cermet command beside this library or in PATH");
   return false;
}
