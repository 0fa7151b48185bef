/* SPDX-License-Identifier: MIT */
/*
 * What a kernel developer's test looks like. It runs under the shim against a driver whose cores execute the
 * operations of tests/kmd/fake_core.py.
 */
#include <pthread.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "uapi.h"

static void
check_identity(int fd)
{
   char name[16] = "", description[16] = "";
   struct drm_version version = {.name = name, .name_len = 15, .desc = description, .desc_len = 15};
   struct stat by_path, by_fd;

   CHECK(ioctl(fd, DRM_IOCTL_VERSION, &version) == 0);
   CHECK(strcmp(name, "rocket") == 0 && strcmp(description, "rocket DRM") == 0 && version.version_major == 0);
   CHECK(stat(NODE, &by_path) == 0 && fstat(fd, &by_fd) == 0);
   CHECK(S_ISCHR(by_fd.st_mode) && by_path.st_rdev == makedev(261, 0) && by_fd.st_rdev == by_path.st_rdev);
   CHECK(access(NODE, R_OK | W_OK) == 0);
   CHECK_ERRNO(access(NODE, X_OK), EACCES);
   CHECK_ERRNO(open(NODE, O_RDWR | O_EXCL), EBUSY);
   CHECK_ERRNO(open(NODE, O_RDONLY | O_DIRECTORY), ENOTDIR);
   CHECK_ERRNO(open("/dev/accel/accel1", O_RDWR), ENOENT);
}

static void
check_buffers_and_jobs(int fd)
{
   struct buffer program = make_buffer(fd, 100), source = make_buffer(fd, PAGE + 1), target = make_buffer(fd, PAGE);

   CHECK(program.bo.dma_address == 0 && source.bo.dma_address == PAGE && target.bo.dma_address == 3 * PAGE);
   CHECK(program.bo.handle == 1 && source.bo.handle == 2 && target.bo.handle == 3);
   strcpy((char *)source.memory, "once around the NPU");
   copy_on_npu(fd, &program, &source, &target, 64);
   CHECK(memcmp(source.memory, target.memory, 64) == 0);
   drop_buffer(fd, &target, PAGE);
   drop_buffer(fd, &source, PAGE + 1);
   drop_buffer(fd, &program, 100);
}

static void
check_prime(int fd)
{
   struct buffer buffer = make_buffer(fd, PAGE);
   struct drm_prime_handle prime = {.handle = buffer.bo.handle, .flags = DRM_CLOEXEC | DRM_RDWR, .fd = -1};
   int other = open(NODE, O_RDWR | O_CLOEXEC);

   CHECK(other >= 0);
   CHECK(ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) == 0 && prime.fd >= 0);
   CHECK(fcntl(prime.fd, F_GETFD) == FD_CLOEXEC);
   prime.handle = 0;
   CHECK(ioctl(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) == 0 && prime.handle == buffer.bo.handle);
   CHECK(ioctl(other, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) == 0 && prime.handle == 1);
   uint8_t *exported = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, prime.fd, 0);
   CHECK(exported != MAP_FAILED);
   buffer.memory[5] = 77;
   CHECK(exported[5] == 77);
   munmap(exported, PAGE);
   close(prime.fd);
   close(other);
   drop_buffer(fd, &buffer, PAGE);
}

static void
check_sharing(int fd)
{
   struct buffer buffer = make_buffer(fd, PAGE);
   int copy = dup(fd), status;
   struct stat of_copy;
   pid_t child = fork();

   if (child == 0) {
      struct drm_gem_close close_it = {.handle = buffer.bo.handle};
      buffer.memory[0] = 42;
      _exit(ioctl(copy, DRM_IOCTL_GEM_CLOSE, &close_it) == 0 ? 0 : 1);
   }
   CHECK(waitpid(child, &status, 0) == child && status == 0);
   CHECK(buffer.memory[0] == 42);
   struct drm_gem_close again = {.handle = buffer.bo.handle};
   CHECK_ERRNO(ioctl(fd, DRM_IOCTL_GEM_CLOSE, &again), EINVAL);
   munmap(buffer.memory, PAGE);
   CHECK(fstat(copy, &of_copy) == 0 && S_ISCHR(of_copy.st_mode));
   int moved = fcntl(copy, F_DUPFD_CLOEXEC, 100);
   CHECK(moved >= 100);
   close(copy);
   struct drm_get_cap cap = {.capability = DRM_CAP_PRIME};
   CHECK(ioctl(moved, DRM_IOCTL_GET_CAP, &cap) == 0 && cap.value == 3);
   close(moved);
}

static void *
work(void *argument)
{
   int fd = *(int *)argument;

   for (int i = 0; i < 40; i++) {
      struct buffer program = make_buffer(fd, PAGE), source = make_buffer(fd, PAGE), target = make_buffer(fd, PAGE);
      memset(source.memory, i + 1, PAGE);
      copy_on_npu(fd, &program, &source, &target, PAGE);
      CHECK(memcmp(source.memory, target.memory, PAGE) == 0);
      drop_buffer(fd, &program, PAGE);
      drop_buffer(fd, &source, PAGE);
      drop_buffer(fd, &target, PAGE);
   }
   return NULL;
}

static void
check_threads(int shared)
{
   pthread_t threads[8];
   int own[8];

   for (int i = 0; i < 8; i++) {
      own[i] = i < 4 ? shared : open(NODE, O_RDWR);
      CHECK(own[i] >= 0 && pthread_create(&threads[i], NULL, work, &own[i]) == 0);
   }
   for (int i = 0; i < 8; i++)
      CHECK(pthread_join(threads[i], NULL) == 0);
   for (int i = 4; i < 8; i++)
      close(own[i]);
}

/* Median time of a call that does nothing, in microseconds, on standard output. */
static int
compare(const void *left, const void *right)
{
   int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
   return (a > b) - (a < b);
}

static void
print_latency(int fd)
{
   enum { CALLS = 2000 };
   static int64_t spent[CALLS];
   struct drm_get_cap cap = {.capability = DRM_CAP_PRIME};

   for (int i = 0; i < CALLS; i++) {
      int64_t start = after_ms(0);
      CHECK(ioctl(fd, DRM_IOCTL_GET_CAP, &cap) == 0);
      spent[i] = after_ms(0) - start;
   }
   qsort(spent, CALLS, sizeof(spent[0]), compare);
   printf("latency_us median %.1f p99 %.1f\n", (double)spent[CALLS / 2] / 1e3, (double)spent[CALLS * 99 / 100] / 1e3);
}

int
main(void)
{
   int fd = open(NODE, O_RDWR | O_CLOEXEC);

   CHECK(fd >= 0);
   check_identity(fd);
   check_buffers_and_jobs(fd);
   check_prime(fd);
   check_sharing(fd);
   check_threads(fd);
   print_latency(fd);
   CHECK(close(fd) == 0);
   return 0;
}
