/* SPDX-License-Identifier: MIT */
/* Symbolic links and names: sysfs links, the link of a device fd in /proc, resolved paths, the working directory. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cermet_client.h"
#include "shim.h"

#define NOT_OURS (-2)

EXPORT ssize_t __readlink_chk(const char *path, char *text, size_t bytes, size_t room);
EXPORT ssize_t __readlinkat_chk(int folder, const char *path, char *text, size_t bytes, size_t room);
EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room);
EXPORT char *__getcwd_chk(char *text, size_t bytes, size_t room);

/* Whether the path has anything in it that can be read at all: the rest is the system's to refuse. */
static bool
is_text(const char *path)
{
   return (uintptr_t)path >= 4096 && path[0];
}

static ssize_t
copy_link(const char *link, char *text, size_t bytes)
{
   size_t length = strlen(link) < bytes ? strlen(link) : bytes;

   if ((uintptr_t)text < 4096)
      return shim_fail(EFAULT);
   memcpy(text, link, length);
   return (ssize_t)length;
}

/* A folder fd's own link in /proc says where our files are; the program must not see that. */
static ssize_t
hide_in_link(const char *path, char *text, ssize_t length)
{
   char link[PATH_MAX];

   if (length <= 0 || length >= (ssize_t)sizeof(link) || strncmp(path, "/proc/", 6) != 0)
      return length;
   memcpy(link, text, (size_t)length);
   link[length] = '\0';
   tree_hide(link);
   return copy_link(link, text, (size_t)length);
}

/* readlink for the paths that are ours, else NOT_OURS. */
static ssize_t
read_our_link(int folder, const char *path, char *text, size_t bytes)
{
   char real[PATH_MAX];

   switch (shim_classify(folder, path, real, PATH_MAX)) {
   case SHIM_NODE:
      return shim_fail(EINVAL);
   case SHIM_FILE:
      return syscall(SYS_readlinkat, AT_FDCWD, real, text, bytes);
   default:
      break;
   }
   if (bytes == 0 || !is_text(path) || shim_fd_of_link(path) < 0)
      return NOT_OURS;
   return copy_link(NODE_PATH, text, bytes);
}

EXPORT ssize_t
readlink(const char *restrict path, char *restrict text, size_t bytes)
{
   ssize_t length = read_our_link(AT_FDCWD, path, text, bytes);

   return length != NOT_OURS ? length : hide_in_link(path, text, REAL(readlink)(path, text, bytes));
}

EXPORT ssize_t
readlinkat(int folder, const char *restrict path, char *restrict text, size_t bytes)
{
   ssize_t length = read_our_link(folder, path, text, bytes);

   return length != NOT_OURS ? length : hide_in_link(path, text, REAL(readlinkat)(folder, path, text, bytes));
}

/* bytes > room: the C library's own function ends the program, as it should. */
EXPORT ssize_t
__readlink_chk(const char *path, char *text, size_t bytes, size_t room)
{
   return bytes <= room ? readlink(path, text, bytes) : REAL(__readlink_chk)(path, text, bytes, room);
}

EXPORT ssize_t
__readlinkat_chk(int folder, const char *path, char *text, size_t bytes, size_t room)
{
   return bytes <= room ? readlinkat(folder, path, text, bytes) : REAL(__readlinkat_chk)(folder, path, text, bytes, room);
}

/* --- resolved paths ----------------------------------------------------------------------------------------------- */

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
      tree_hide(answer);
   return answer;
}

EXPORT char *
realpath(const char *restrict path, char *restrict resolved)
{
   char real[PATH_MAX];
   const char *target = path;
   enum shim_path kind = shim_target(AT_FDCWD, &target, real);

   if (kind != SHIM_OTHER)
      return resolve_ours(kind, real, resolved);

   char *answer = REAL(realpath)(path, resolved);
   if (answer)
      tree_hide(answer);
   return answer;
}

EXPORT char *
__realpath_chk(const char *path, char *resolved, size_t room)
{
   return room >= PATH_MAX ? realpath(path, resolved) : REAL(__realpath_chk)(path, resolved, room);
}

EXPORT char *
canonicalize_file_name(const char *path)
{
   return realpath(path, NULL);
}

/* --- the working directory ---------------------------------------------------------------------------------------- */

static char *
hidden(char *path)
{
   if (path)
      tree_hide(path);
   return path;
}

EXPORT char *
getcwd(char *text, size_t bytes)
{
   return hidden(REAL(getcwd)(text, bytes));
}

EXPORT char *
get_current_dir_name(void)
{
   return hidden(REAL(get_current_dir_name)());
}

EXPORT char *
__getcwd_chk(char *text, size_t bytes, size_t room)
{
   return hidden(REAL(__getcwd_chk)(text, bytes, room));
}
