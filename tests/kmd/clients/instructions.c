/* SPDX-License-Identifier: MIT */
/* A client that enters the kernel by instructions of its own, as some languages' libraries do. */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

int ioctl_by_instruction(int fd, unsigned long request, ...);
void *mmap_by_instruction(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);

#define ioctl ioctl_by_instruction
#define mmap mmap_by_instruction

static long
enter(long number, long a, long b, long c, long d, long e, long f)
{
   register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
   long result;

   __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                    : "rcx", "r11", "memory");
   return result;
}

#include "uapi.h"
#undef ioctl
#undef mmap

static long
checked(long result)
{
   if (result < 0 && result > -4096) {
      errno = (int)-result;
      return -1;
   }
   return result;
}

int
ioctl_by_instruction(int fd, unsigned long request, ...)
{
   va_list rest;

   va_start(rest, request);
   long argument = va_arg(rest, long);
   va_end(rest);
   return (int)checked(enter(SYS_ioctl, fd, (long)request, argument, 0, 0, 0));
}

void *
mmap_by_instruction(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
   return (void *)checked(enter(SYS_mmap, (long)address, (long)bytes, protection, flags, fd, offset));
}

static int
open_by_instruction(void)
{
   return (int)checked(enter(SYS_openat, AT_FDCWD, (long)NODE, O_RDWR | O_CLOEXEC, 0, 0, 0));
}

static void *
live(void *argument)
{
   for (int i = 0; i < 20; i++) {
      int fd = open_by_instruction();
      CHECK(fd >= 0);
      use_device(fd);
      use_device(*(int *)argument);
      CHECK(enter(SYS_close, fd, 0, 0, 0, 0, 0) == 0);
   }
   return NULL;
}

int
main(void)
{
   int fd = open_by_instruction(), status;
   struct stat about;
   pthread_t threads[4];

   CHECK(fd >= 0);
   use_device(fd);
   CHECK(enter(SYS_fstat, fd, (long)&about, 0, 0, 0, 0) == 0 && about.st_rdev == makedev(261, 0));
   CHECK(enter(SYS_openat, AT_FDCWD, 0x123456789000, 0, 0, 0, 0) == -EFAULT);
   CHECK(enter(SYS_getpid, 0, 0, 0, 0, 0, 0) == getpid() && enter(9999, 0, 0, 0, 0, 0, 0) == -ENOSYS);
   for (int i = 0; i < 4; i++)
      CHECK(pthread_create(&threads[i], NULL, live, &fd) == 0);
   for (int i = 0; i < 4; i++)
      CHECK(pthread_join(threads[i], NULL) == 0);
   pid_t child = fork();
   if (child == 0) {
      use_device(fd);
      _exit(0);
   }
   CHECK(waitpid(child, &status, 0) == child && status == 0);
   CHECK(system("true") == 0);
   return 0;
}
