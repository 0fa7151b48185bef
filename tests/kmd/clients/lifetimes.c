/* SPDX-License-Identifier: MIT */
/* What happens to fds and mappings of the device in a program's life: copies, children, threads, limits, signals. */
#define _GNU_SOURCE
#include <linux/dma-buf.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "uapi.h"

#define OP_SLEEP 3

extern char **environ;

static void
check_child(pid_t child)
{
   int status;

   CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void
check_copies(int fd)
{
   int one = dup(fd), two = dup2(fd, 200), three = dup3(fd, 201, O_CLOEXEC), four = fcntl(fd, F_DUPFD, 300);
   int five = fcntl(fd, F_DUPFD_CLOEXEC, 300);
   int copies[] = {one, two, three, four, five};

   for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++) {
      CHECK(copies[i] >= 0);
      use_device(copies[i]);
      CHECK(close(copies[i]) == 0);
   }
   CHECK(dup2(fd, 0) == 0); /* in place of standard input */
   use_device(0);
   int opened = open(NODE, O_RDWR | O_CLOEXEC);
   CHECK(fcntl(opened, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0);
   CHECK(fcntl(opened, F_SETFL, O_NONBLOCK) == 0 && fcntl(opened, F_GETFL) & O_NONBLOCK);
   use_device(opened);
   CHECK(ioctl(opened, FIONCLEX) == 0 && fcntl(opened, F_GETFD) == 0);
   if (close_range((unsigned)opened, (unsigned)opened, 0) != 0)
      CHECK(errno == ENOSYS && close(opened) == 0); /* qemu-user before 8 */
   CHECK_ERRNO(fcntl(opened, F_GETFD), EBADF);
}

/* qemu-user without binfmt_misc starts no program of its architecture. */
static bool
can_run(const char *program)
{
   pid_t child = fork();
   int status;

   if (child == 0) {
      execl(program, program, "nothing", NULL);
      _exit(errno == ENOEXEC ? 99 : 127);
   }
   CHECK(waitpid(child, &status, 0) == child);
   return status != 99 << 8;
}

static void
check_children(int fd, const char *program)
{
   char number[12];
   char *arguments[] = {(char *)program, number, NULL};
   struct buffer buffer = make_buffer(fd, PAGE);
   pid_t child = fork();

   snprintf(number, sizeof(number), "%d", fd);
   if (child == 0) {
      use_device(fd);
      buffer.memory[1] = 9;
      close(fd);
      _exit(0);
   }
   check_child(child);
   CHECK(buffer.memory[1] == 9);
   use_device(fd); /* the child's close was its own */
   drop_buffer(fd, &buffer, PAGE);
   if (!can_run(program))
      return;
   child = vfork();
   if (child == 0) {
      execv(program, arguments);
      _exit(127);
   }
   check_child(child);
   CHECK(posix_spawn(&child, program, NULL, NULL, arguments, environ) == 0);
   check_child(child);
}

static void
send_fd(int channel, int fd)
{
   char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
   struct iovec data = {.iov_base = &byte, .iov_len = 1};
   struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
   struct cmsghdr *header = CMSG_FIRSTHDR(&message);

   header->cmsg_level = SOL_SOCKET;
   header->cmsg_type = SCM_RIGHTS;
   header->cmsg_len = CMSG_LEN(sizeof(int));
   memcpy(CMSG_DATA(header), &fd, sizeof(int));
   CHECK(sendmsg(channel, &message, 0) == 1);
}

static int
receive_fd(int channel)
{
   char control[CMSG_SPACE(sizeof(int))], byte;
   struct iovec data = {.iov_base = &byte, .iov_len = 1};
   struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
   int fd;

   CHECK(recvmsg(channel, &message, 0) == 1);
   memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
   return fd;
}

static void
check_passing(void)
{
   int ends[2];

   CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
   pid_t child = fork();
   if (child == 0) {
      int fd = open(NODE, O_RDWR);
      CHECK(fd >= 0);
      send_fd(ends[1], fd);
      _exit(0);
   }
   int fd = receive_fd(ends[0]);
   check_child(child);
   use_device(fd); /* whoever opened it is gone */
   close(fd);
   close(ends[0]);
   close(ends[1]);
}

static void
check_waiting(int fd)
{
   struct pollfd wait = {.fd = fd, .events = POLLIN};
   struct timeval at_once = {0};
   struct epoll_event event = {.events = EPOLLIN}, seen;
   int epoll = epoll_create1(EPOLL_CLOEXEC);
   fd_set readable;

   CHECK(poll(&wait, 1, 0) == 0);
   FD_ZERO(&readable);
   FD_SET(fd, &readable);
   CHECK(select(fd + 1, &readable, NULL, NULL, &at_once) == 0);
   CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 && epoll_wait(epoll, &seen, 1, 0) == 0);
   use_device(fd);
   CHECK(epoll_wait(epoll, &seen, 1, 0) == 0);
   close(epoll);
}

static void
check_mappings(int fd)
{
   struct buffer buffer = make_buffer(fd, 4 * PAGE);

   buffer.memory[3 * PAGE] = 7;
   uint8_t *moved = mremap(buffer.memory, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
   CHECK(moved != MAP_FAILED && moved[3 * PAGE] == 7);
   CHECK(munmap(moved, PAGE) == 0 && moved[3 * PAGE] == 7); /* a part of it */
   uint8_t *second = mmap64(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, (off64_t)buffer.bo.offset);
   CHECK(second != MAP_FAILED && second[3 * PAGE] == 7);
   uint8_t *fixed = mmap(moved, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)buffer.bo.offset);
   CHECK(fixed == moved);
   CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, fd, 0) != MAP_FAILED);
   CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
   CHECK(munmap(second, 4 * PAGE) == 0 && munmap(moved, 4 * PAGE) == 0);
}

/* An application without a free fd gets its ioctls answered, and none that the call would need: that takes no fd. */
static void
check_no_fd_left(int fd)
{
   struct rlimit before, few;
   int taken[64], count = 0;

   CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
   few = before;
   few.rlim_cur = 32;
   CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
   while (count < 64 && (taken[count] = dup(1)) >= 0)
      count++;
   CHECK(errno == EMFILE);
   use_device(fd);
   CHECK_ERRNO(open(NODE, O_RDWR), EMFILE);
   CHECK_ERRNO(dup(1), EMFILE);
   CHECK(getrlimit(RLIMIT_NOFILE, &few) == 0 && few.rlim_cur == 32);
   while (count > 0)
      close(taken[--count]);
   CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
   use_device(fd);
}

/* A position and an exported BO behave as a device's and a dma-buf's. */
static void
check_manners(int fd)
{
   struct buffer buffer = make_buffer(fd, PAGE);
   struct drm_prime_handle prime = {.handle = buffer.bo.handle, .flags = DRM_CLOEXEC | DRM_RDWR};
   struct dma_buf_sync sync = {.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW}, nonsense = {.flags = 64};

   CHECK(lseek(fd, 0, SEEK_CUR) == 0 && lseek64(fd, 100, SEEK_SET) == 0);
   CHECK(ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) == 0);
   CHECK(lseek(prime.fd, 0, SEEK_END) == PAGE);
   CHECK(ioctl(prime.fd, DMA_BUF_IOCTL_SYNC, &sync) == 0);
   CHECK_ERRNO(ioctl(prime.fd, DMA_BUF_IOCTL_SYNC, &nonsense), EINVAL);
   CHECK_ERRNO(ioctl(prime.fd, DMA_BUF_IOCTL_SYNC, NULL), EFAULT);
   CHECK(ioctl(0, DMA_BUF_IOCTL_SYNC, &sync) == -1 && errno != EINVAL);
   close(prime.fd);
   drop_buffer(fd, &buffer, PAGE);
}

static void
ignore_signal(int number)
{
   (void)number;
}

static int64_t
prep_while_alarms_ring(int fd, int sa_flags, int *result)
{
   const uint64_t words[] = {OP_SLEEP, 400, 0, 0};
   struct buffer program = make_buffer(fd, PAGE), target = make_buffer(fd, PAGE);
   struct drm_rocket_fini_bo written = {.handle = program.bo.handle};
   struct drm_rocket_task task = {.regcmd = (uint32_t)program.bo.dma_address, .regcmd_count = 4};
   struct drm_rocket_job job = {
      .tasks = (uintptr_t)&task, .task_count = 1, .task_struct_size = sizeof(task),
      .out_bo_handles = (uintptr_t)&target.bo.handle, .out_bo_handle_count = 1};
   struct drm_rocket_submit submit = {.jobs = (uintptr_t)&job, .job_count = 1, .job_struct_size = sizeof(job)};
   struct drm_rocket_prep_bo prep = {.handle = target.bo.handle, .timeout_ns = after_ms(10000)};
   struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = sa_flags};
   int64_t start = after_ms(0);

   CHECK(sigaction(SIGALRM, &action, NULL) == 0);
   memcpy(program.memory, words, sizeof(words));
   CHECK(ioctl(fd, DRM_IOCTL_ROCKET_FINI_BO, &written) == 0 && ioctl(fd, DRM_IOCTL_ROCKET_SUBMIT, &submit) == 0);
   ualarm(100000, 0);
   *result = ioctl(fd, DRM_IOCTL_ROCKET_PREP_BO, &prep) == 0 ? 0 : errno;
   int64_t spent = after_ms(0) - start;
   if (*result)
      wait_for(fd, target.bo.handle);
   drop_buffer(fd, &program, PAGE);
   drop_buffer(fd, &target, PAGE);
   return spent;
}

static void
check_signals(int fd)
{
   int result;

   CHECK(prep_while_alarms_ring(fd, 0, &result) < 300000000 && result == EINTR);
   CHECK(prep_while_alarms_ring(fd, SA_RESTART, &result) > 300000000 && result == 0);
}

static void *
live(void *argument)
{
   for (int i = 0; i < 10; i++) {
      int fd = open(NODE, O_RDWR | O_CLOEXEC);
      CHECK(fd >= 0);
      use_device(fd);
      use_device(*(int *)argument);
      CHECK(close(fd) == 0);
   }
   return NULL;
}

static void
check_threads(int fd)
{
   pthread_t threads[6];

   for (int i = 0; i < 6; i++)
      CHECK(pthread_create(&threads[i], NULL, live, &fd) == 0);
   for (int i = 0; i < 4; i++) {
      pid_t child = fork(); /* in the midst of the others' calls */
      if (child == 0) {
         use_device(fd);
         _exit(0);
      }
      check_child(child);
   }
   for (int i = 0; i < 6; i++)
      CHECK(pthread_join(threads[i], NULL) == 0);
}

int
main(int count, char **arguments)
{
   if (count > 1 && strcmp(arguments[1], "nothing") == 0)
      return 0;
   if (count > 1) { /* started with an fd of the device */
      use_device(atoi(arguments[1]));
      return 0;
   }
   int fd = open(NODE, O_RDWR);
   CHECK(fd >= 0);
   check_copies(fd);
   check_children(fd, arguments[0]);
   check_passing();
   check_waiting(fd);
   check_mappings(fd);
   check_no_fd_left(fd);
   check_manners(fd);
   check_signals(fd);
   check_threads(fd);
   return 0;
}
