/* SPDX-License-Identifier: MIT */
/* A client that calls the system by number, and one with bad manners: any address, any number, any path. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "uapi.h"

#define WILD ((char *)0x123456789000)

static long
ioctl_by_number(int fd, unsigned long request, void *argument)
{
   return syscall(SYS_ioctl, fd, request, argument);
}

static void
check_calls_by_number(void)
{
   struct open_how how = {.flags = O_RDWR | O_CLOEXEC};
   struct drm_rocket_create_bo create = {.size = PAGE};
   char name[16] = "", text[PATH_MAX];
   struct drm_version version = {.name = name, .name_len = 15};
   struct stat status;
   struct statx extended;
   int fd = (int)syscall(SYS_openat, AT_FDCWD, NODE, O_RDWR | O_CLOEXEC, 0);
   int second = (int)syscall(SYS_openat2, AT_FDCWD, NODE, &how, sizeof(how));

   CHECK(fd >= 0);
   CHECK(second >= 0 || errno == ENOSYS); /* qemu-user before 9 */
   CHECK(ioctl_by_number(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "rocket") == 0);
   CHECK(ioctl_by_number(fd, DRM_IOCTL_ROCKET_CREATE_BO, &create) == 0);
   uint8_t *memory = (uint8_t *)syscall(SYS_mmap, 0L, (long)PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, create.offset);
   CHECK(memory != MAP_FAILED);
   memory[0] = 1;
   CHECK(syscall(SYS_fstat, fd, &status) == 0 && status.st_rdev == makedev(261, 0));
   CHECK(syscall(SYS_newfstatat, AT_FDCWD, NODE, &status, 0) == 0 && S_ISCHR(status.st_mode));
   CHECK(syscall(SYS_statx, AT_FDCWD, NODE, 0, STATX_BASIC_STATS, &extended) == 0 && extended.stx_rdev_major == 261);
   CHECK(syscall(SYS_faccessat, AT_FDCWD, NODE, R_OK) == 0);
   CHECK(syscall(SYS_readlinkat, AT_FDCWD, "/sys/class/accel/accel0", text, sizeof(text)) == 40);
   CHECK(ioctl_by_number(fd, FIOCLEX, NULL) == 0);
#ifdef SYS_open
   int third = (int)syscall(SYS_open, NODE, O_RDWR, 0);
   CHECK(third >= 0 && syscall(SYS_stat, NODE, &status) == 0 && syscall(SYS_access, NODE, R_OK) == 0);
   close(third);
#endif
   use_device(fd);
   CHECK(second < 0 || syscall(SYS_close, second) == 0);
   CHECK(syscall(SYS_getpid) == getpid() && syscall(SYS_gettid) > 0);
   CHECK_ERRNO(syscall(1 << 20), ENOSYS);
   close(fd);
}

static void
check_bad_addresses(int fd)
{
   struct stat status;
   char text[PATH_MAX];
   char *const addresses[] = {NULL, (char *)1, (char *)4095};

   for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
      char *volatile bad = addresses[i];
      CHECK_ERRNO(open(bad, O_RDWR), EFAULT);
      CHECK_ERRNO(stat(bad, &status), EFAULT);
      CHECK_ERRNO(stat(NODE, (struct stat *)bad), EFAULT);
      CHECK_ERRNO(access(bad, R_OK), EFAULT);
      CHECK_ERRNO(readlink(bad, text, sizeof(text)), EFAULT);
      CHECK_ERRNO(readlink("/sys/class/accel/accel0", bad, 20), EFAULT);
      CHECK_ERRNO(ioctl(fd, DRM_IOCTL_ROCKET_CREATE_BO, bad), EFAULT);
   }
   CHECK_ERRNO(syscall(SYS_openat, AT_FDCWD, WILD, O_RDWR, 0), EFAULT);
   CHECK(syscall(SYS_openat2, AT_FDCWD, NODE, WILD, sizeof(struct open_how)) == -1 && (errno == EFAULT || errno == ENOSYS));
   CHECK_ERRNO(syscall(SYS_readlinkat, AT_FDCWD, WILD, text, sizeof(text)), EFAULT);
   CHECK_ERRNO(ioctl(fd, DRM_IOCTL_ROCKET_CREATE_BO, WILD), EFAULT);
   CHECK_ERRNO(ioctl(fd, DRM_IOCTL_VERSION, (void *)-1L), EFAULT);
   CHECK(ioctl(-1, DRM_IOCTL_VERSION, NULL) == -1 && ioctl(INT_MAX, DRM_IOCTL_VERSION, NULL) == -1);
   CHECK_ERRNO(ioctl(fd, 0, NULL), ENOTTY);
   CHECK_ERRNO(ioctl(fd, ~0UL, NULL), ENOTTY);
   CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, -1, 0) == MAP_FAILED && errno == EBADF);
}

static void
check_odd_paths(void)
{
   static char long_path[3 * PATH_MAX];
   char text[4];
   struct stat status;

   for (size_t i = 0; i + 8 < sizeof(long_path); i += 6)
      memcpy(long_path + i, "/accel", 7);
   CHECK_ERRNO(open(long_path, O_RDWR), ENAMETOOLONG);
   CHECK_ERRNO(stat(long_path + PATH_MAX, &status), ENAMETOOLONG);
   memset(long_path, '/', sizeof(long_path) - 1);
   memcpy(long_path, "/dev/accel", 10);
   strcpy(long_path + 200, "accel0");
   int fd = open(long_path, O_RDWR); /* slashes do not count */
   CHECK(fd >= 0);
   close(fd);
   CHECK_ERRNO(open("", O_RDWR), ENOENT);
   CHECK_ERRNO(open("accel/accel0", O_RDWR), ENOENT);
   CHECK_ERRNO(openat(9999, "accel/accel0", O_RDWR), EBADF);
   CHECK_ERRNO(open("/dev/accel/accel0/accel0", O_RDWR), ENOTDIR);
   CHECK_ERRNO(open("/../../dev/accel/../accel/../../accel0", O_RDWR), ENOENT);
   CHECK_ERRNO(open("/dev/\xff\xfe" "accel/accel0", O_RDWR), ENOENT);
   CHECK_ERRNO(readlink("/proc/self/fd/999999999999999999999", text, sizeof(text)), ENOENT);
   CHECK_ERRNO(readlink("/proc/self/fd/-1", text, sizeof(text)), ENOENT);
   CHECK_ERRNO(unlink(NODE), ENOENT);
   CHECK_ERRNO(mkdir("/dev/accel/accel0/folder", 0700), ENOENT);
}

/* What is written to a device file that takes no writes goes nowhere and harms nobody. */
static void
check_garbage(void)
{
   int fd = open(NODE, O_RDWR);
   char garbage[300];

   memset(garbage, 0x42, sizeof(garbage));
   CHECK(fd >= 0);
   for (int i = 0; i < 5; i++) {
      if (write(fd, garbage, sizeof(garbage)) < 0)
         break;
   }
   use_device(fd);
   close(fd);
}

int
main(void)
{
   int fd = open(NODE, O_RDWR);

   CHECK(fd >= 0);
   check_calls_by_number();
   check_bad_addresses(fd);
   check_odd_paths();
   check_garbage();
   use_device(fd);
   return 0;
}
