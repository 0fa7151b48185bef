/* SPDX-License-Identifier: MIT */
/* Where the driver process listens, and the private folder for that. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cermet_build.h"
#include "cermet_client.h"
#include "client_internal.h"

void
client_say(char *message, size_t message_bytes, const char *format, ...)
{
   int kept = errno;
   va_list arguments;

   if (!message || message_bytes == 0)
      return;
   va_start(arguments, format);
   vsnprintf(message, message_bytes, format, arguments);
   va_end(arguments);
   errno = kept;
}

/* 0 when path is a folder that only this user can enter; makes it when missing. */
static int
private_folder(const char *path, char *message, size_t message_bytes)
{
   struct stat status;

   if (mkdir(path, 0700) != 0 && errno != EEXIST) {
      client_say(message, message_bytes, "%s: cannot be made: %s", path, strerror(errno));
      return -1;
   }
   int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
   if (fd < 0 || fstat(fd, &status) != 0) {
      client_say(message, message_bytes, "%s: is not a folder (symbolic links are refused): %s", path, strerror(errno));
      if (fd >= 0)
         close(fd);
      return -1;
   }
   close(fd);
   if (status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
      client_say(message, message_bytes, "%s: owner %u, mode %03o: must be this user's own, mode 700", path,
                 (unsigned)status.st_uid, (unsigned)(status.st_mode & 0777));
      errno = EACCES;
      return -1;
   }
   return 0;
}

int
client_runtime_folder(char *path, size_t path_bytes, char *message, size_t message_bytes)
{
   const char *base = getenv("XDG_RUNTIME_DIR");
   int length = base && base[0] == '/' ? snprintf(path, path_bytes, "%s/cermet", base)
                                       : snprintf(path, path_bytes, "/tmp/cermet-%u", (unsigned)geteuid());

   if (length < 0 || (size_t)length >= path_bytes) {
      client_say(message, message_bytes, "XDG_RUNTIME_DIR: %d bytes with /cermet, must be less than %zu", length,
                 path_bytes);
      errno = ENAMETOOLONG;
      return -1;
   }
   return private_folder(path, message, message_bytes);
}

static bool
is_soc_name(const char *soc)
{
   size_t length = strspn(soc, "abcdefghijklmnopqrstuvwxyz0123456789-_");

   return length > 0 && length <= 16 && soc[length] == '\0';
}

int
cermet_client_socket_path(const char *soc, char *path, size_t path_bytes, char *message, size_t message_bytes)
{
   const char *given = getenv("CERMET_SIM_SOCKET");
   char folder[CLIENT_PATH_BYTES];
   struct stat status;
   int length;

   if (!is_soc_name(soc)) {
      client_say(message, message_bytes, "soc: '%s' must be 1 to 16 of a-z, 0-9, - and _", soc);
      errno = EINVAL;
      return -1;
   }
   if (given && given[0]) {
      length = snprintf(path, path_bytes, "%s", given);
   } else {
      if (client_runtime_folder(folder, sizeof(folder), message, message_bytes) != 0)
         return -1;
      length = snprintf(path, path_bytes, "%s/%s-%s", folder, soc, CERMET_BUILD_ID);
   }
   if (length >= 0 && (size_t)length < path_bytes && lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
      client_say(message, message_bytes, "%s: must be a socket or not be there (CERMET_SIM_SOCKET)", path);
      errno = EEXIST;
      return -1;
   }
   if (length < 0 || (size_t)length >= path_bytes) {
      client_say(message, message_bytes, "socket path: %d bytes, must be less than %zu", length, path_bytes);
      errno = ENAMETOOLONG;
      return -1;
   }
   return 0;
}
