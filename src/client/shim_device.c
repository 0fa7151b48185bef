/* SPDX-License-Identifier: MIT */
/* What is done with a device fd, by the C library's functions or by its syscall(). */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cermet_client.h"
#include "shim.h"

EXPORT int openat2(int folder, const char *path, const void *how, size_t bytes);

EXPORT int
ioctl(int fd, unsigned long request, ...)
{
   va_list rest;

   va_start(rest, request);
   void *argument = va_arg(rest, void *);
   va_end(rest);
   if (cermet_client_owns(fd))
      return cermet_client_ioctl(fd, request, argument);
   int result = REAL(ioctl)(fd, request, argument);
   bool unknown = result < 0 && (errno == ENOTTY || errno == ENOSYS); /* the latter says qemu-user */
   return unknown ? shim_dmabuf_ioctl(fd, request, argument) : result;
}

/* A device file of DRM has a position, which nothing moves: Python's open() asks for one. */
static off_t
seek_device(off_t result, int fd)
{
   int kept = errno;

   if (result < 0 && errno == ESPIPE && cermet_client_owns(fd))
      return 0;
   errno = kept;
   return result;
}

EXPORT off_t
lseek(int fd, off_t offset, int whence)
{
   return seek_device(REAL(lseek)(fd, offset, whence), fd);
}

EXPORT off64_t
lseek64(int fd, off64_t offset, int whence)
{
   return seek_device(REAL(lseek64)(fd, offset, whence), fd);
}

static bool
maps_device(int flags, int fd)
{
   return !(flags & MAP_ANONYMOUS) && cermet_client_owns(fd);
}

EXPORT void *
mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
   return maps_device(flags, fd) ? cermet_client_mmap(address, bytes, protection, flags, fd, offset)
                                 : REAL(mmap)(address, bytes, protection, flags, fd, offset);
}

EXPORT void *
mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
   return maps_device(flags, fd) ? cermet_client_mmap(address, bytes, protection, flags, fd, (off_t)offset)
                                 : REAL(mmap64)(address, bytes, protection, flags, fd, offset);
}

/* --- syscall() ---------------------------------------------------------------------------------------------------- */

/* meson.build gives the shim's and the client's own system calls this name: they must not come back here. */
#undef syscall
EXPORT long syscall(long number, ...);
long client_system_call(long number, ...);

#define READ_ARGUMENTS(list, words)                                                                                    \
   do {                                                                                                                \
      va_start(list, number);                                                                                          \
      for (int i = 0; i < 6; i++)                                                                                      \
         words[i] = va_arg(list, long);                                                                                \
      va_end(list);                                                                                                    \
   } while (0)

static long
system_call(long number, const long *words)
{
   return REAL(syscall)(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

long
client_system_call(long number, ...)
{
   long words[6];
   va_list list;

   READ_ARGUMENTS(list, words);
   return system_call(number, words);
}

/* What these call numbers have in common: a folder fd and a path, or a path alone. */
static bool
names_path(long number, const long *words, int *folder, const char **path)
{
   switch (number) {
#ifdef SYS_open
   case SYS_open:
   case SYS_stat:
   case SYS_lstat:
   case SYS_access:
   case SYS_readlink:
      *folder = AT_FDCWD;
      *path = (const char *)words[0];
      return true;
#endif
   case SYS_openat:
   case SYS_openat2:
   case SYS_newfstatat:
   case SYS_statx:
   case SYS_faccessat:
   case SYS_faccessat2:
   case SYS_readlinkat:
      *folder = (int)words[0];
      *path = (const char *)words[1];
      return true;
   default:
      return false;
   }
}

/* Who calls by number may pass any address: ask the system, which does not crash, before it is read here. */
static bool
is_readable(int folder, const char *path)
{
   int kept = errno;
   bool readable = client_system_call(SYS_faccessat, (long)folder, path, (long)F_OK) == 0 || errno != EFAULT;

   errno = kept;
   return readable;
}

/* A call that may be about the device, by the function of that name. */
static long
dispatch(long number, const long *w)
{
   switch (number) {
   case SYS_ioctl:
      return ioctl((int)w[0], (unsigned long)w[1], (void *)w[2]);
   case SYS_mmap:
      return (long)mmap((void *)w[0], (size_t)w[1], (int)w[2], (int)w[3], (int)w[4], w[5]);
   case SYS_lseek:
      return lseek((int)w[0], w[1], (int)w[2]);
   case SYS_fstat:
      return fstat((int)w[0], (struct stat *)w[1]);
#ifdef SYS_open
   case SYS_open:
      return open((const char *)w[0], (int)w[1], (mode_t)w[2]);
   case SYS_stat:
      return stat((const char *)w[0], (struct stat *)w[1]);
   case SYS_lstat:
      return lstat((const char *)w[0], (struct stat *)w[1]);
   case SYS_access:
      return access((const char *)w[0], (int)w[1]);
   case SYS_readlink:
      return readlink((const char *)w[0], (char *)w[1], (size_t)w[2]);
#endif
   case SYS_openat:
      return openat((int)w[0], (const char *)w[1], (int)w[2], (mode_t)w[3]);
   case SYS_openat2:
      return openat2((int)w[0], (const char *)w[1], (const void *)w[2], (size_t)w[3]);
   case SYS_newfstatat:
      return fstatat((int)w[0], (const char *)w[1], (struct stat *)w[2], (int)w[3]);
   case SYS_statx:
      return statx((int)w[0], (const char *)w[1], (int)w[2], (unsigned)w[3], (struct statx *)w[4]);
   case SYS_faccessat:
      return faccessat((int)w[0], (const char *)w[1], (int)w[2], 0);
   case SYS_faccessat2:
      return faccessat((int)w[0], (const char *)w[1], (int)w[2], (int)w[3]);
   case SYS_readlinkat:
      return readlinkat((int)w[0], (const char *)w[1], (char *)w[2], (size_t)w[3]);
   default:
      return system_call(number, w);
   }
}

EXPORT long
syscall(long number, ...)
{
   const char *path;
   long words[6];
   va_list list;
   int folder;

   READ_ARGUMENTS(list, words);
   if (names_path(number, words, &folder, &path) && !is_readable(folder, path))
      return system_call(number, words);
   return dispatch(number, words);
}
