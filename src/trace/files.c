/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "cermet_client.h"
#include "drm_core.h"
#include "writer.h"

#define ACCEL_MAJOR 261
#define MAX_FDS 65536

static struct file *files;
static size_t num_files;
/* By fd: index of its file plus 1, 0: none of ours. Read without the lock by file_is_known(). */
static _Atomic int file_by_fd[MAX_FDS];
static int num_fds; /* behind the highest one ever used */

/* --- fds ---------------------------------------------------------------------------------------------------------- */

/* The name that a simulated device's socket bears: the same in all fds of one file. False: it is none. */
static bool
socket_name(int fd, char *text, size_t room)
{
   struct sockaddr_un name;
   socklen_t bytes = sizeof(name);

   if (!cermet_client_owns(fd) || getsockname(fd, (struct sockaddr *)&name, &bytes) != 0)
      return false;
   snprintf(text, room, "%.*s", (int)(bytes - offsetof(struct sockaddr_un, sun_path) - 1), name.sun_path + 1);
   return true;
}

static bool
is_accel_node(int fd)
{
   struct stat status;

   return syscall(SYS_fstat, fd, &status) == 0 && S_ISCHR(status.st_mode) && major(status.st_rdev) == ACCEL_MAJOR;
}

static bool
is_same_file(int one, int other)
{
   return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, (unsigned long)one, (unsigned long)other) == 0;
}

bool
file_is_known(int fd)
{
   return fd >= 0 && fd < MAX_FDS && file_by_fd[fd] > 0;
}

static struct file *
known_file(int fd)
{
   return file_is_known(fd) ? &files[file_by_fd[fd] - 1] : NULL;
}

static void
set_file(int fd, int index)
{
   file_by_fd[fd] = index;
   if (fd >= num_fds)
      num_fds = fd + 1;
}

static struct file *
free_slot(void)
{
   for (size_t i = 0; i < num_files; i++)
      if (!files[i].number)
         return &files[i];
   struct file *larger = realloc(files, (num_files + 1) * sizeof(*larger));
   if (!larger)
      return NULL;
   files = larger;
   files[num_files] = (struct file){0};
   return &files[num_files++];
}

/* Driver name and version; false when it is not ours. */
static bool
ask_version(int fd, struct trace_file *record)
{
   struct drm_version version = {.name_len = sizeof(record->driver) - 1, .name = record->driver};

   if (device_ioctl(fd, DRM_IOCTL_VERSION, &version) != 0 || strcmp(record->driver, "rocket") != 0)
      return false;
   record->version_major = version.version_major;
   record->version_minor = version.version_minor;
   record->version_patchlevel = version.version_patchlevel;
   return true;
}

static struct file *
record_new(int fd, bool is_simulated, const char *name)
{
   struct trace_file record = {.fd = fd, .is_simulated = is_simulated};
   char link[64], path[sizeof(record.path)] = "";

   if (!ask_version(fd, &record))
      return NULL;
   struct file *file = free_slot();
   if (!file)
      return NULL;
   snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
   if (is_simulated)
      snprintf(path, sizeof(path), "simulated");
   else if (syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path) - 1) < 0)
      path[0] = '\0';
   memcpy(record.path, path, sizeof(path));
   record.file = (uint64_t)getpid() << 48 | (trace_now_ns() & 0xFFFFFFFFFFFF); /* also unique across an exec() */
   *file = (struct file){.number = record.file, .is_simulated = is_simulated};
   snprintf(file->name, sizeof(file->name), "%s", name);
   trace_write(TRACE_FILE, &(struct piece){&record, sizeof(record)}, 1);
   return file;
}

/* A known file that this unknown fd is too. */
static struct file *
find_same(int fd, bool is_simulated, const char *name)
{
   for (int other = 0; other < num_fds; other++) {
      struct file *file = known_file(other);

      if (!file || other == fd || file->is_simulated != is_simulated)
         continue;
      if (is_simulated ? strcmp(file->name, name) == 0 : is_same_file(fd, other))
         return file;
   }
   return NULL;
}

struct file *
file_of_fd(int fd)
{
   char name[sizeof(files->name)] = "";
   bool is_simulated;

   if (fd < 0 || fd >= MAX_FDS)
      return NULL;
   struct file *file = known_file(fd);
   is_simulated = socket_name(fd, name, sizeof(name));
   if (file && (is_simulated ? strcmp(file->name, name) == 0 : !file->is_simulated && is_accel_node(fd)))
      return file;
   file_by_fd[fd] = 0; /* closed and used again behind our back */
   if (!is_simulated && !is_accel_node(fd))
      return NULL;
   file = find_same(fd, is_simulated, name);
   if (!file)
      file = record_new(fd, is_simulated, name);
   if (file)
      set_file(fd, (int)(file - files) + 1);
   return file;
}

void
file_was_duplicated(int fd, int copy)
{
   if (file_is_known(fd) && copy >= 0 && copy < MAX_FDS && fd != copy)
      set_file(copy, file_by_fd[fd]);
}

struct file *
file_last_of_fd(int fd)
{
   if (!file_is_known(fd))
      return NULL;
   int index = file_by_fd[fd];
   for (int other = 0; other < num_fds; other++)
      if (other != fd && file_by_fd[other] == index) {
         file_by_fd[fd] = 0;
         return NULL;
      }
   return &files[index - 1];
}

void
file_forget(struct file *file)
{
   const int index = (int)(file - files) + 1;
   const struct trace_close record = {.file = file->number};

   for (size_t i = 0; i < file->num_bos; i++)
      bo_forget(&file->bos[i]);
   free(file->bos);
   trace_write(TRACE_CLOSE, &(struct piece){&record, sizeof(record)}, 1);
   *file = (struct file){0};
   for (int fd = 0; fd < num_fds; fd++)
      if (file_by_fd[fd] == index)
         file_by_fd[fd] = 0;
}

void
file_visit_all(void (*visit)(struct file *file, int fd))
{
   for (size_t i = 0; i < num_files; i++) {
      int fd = 0;

      while (fd < num_fds && file_by_fd[fd] != (int)i + 1)
         fd++;
      if (files[i].number && fd < num_fds)
         visit(&files[i], fd);
   }
}

void
file_all_inherited(void)
{
   for (size_t i = 0; i < num_files; i++)
      for (size_t k = 0; k < files[i].num_bos; k++)
         files[i].bos[k].map = NULL;
}
