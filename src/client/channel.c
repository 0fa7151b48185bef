/* SPDX-License-Identifier: MIT */
/*
 * One call is one message to the driver process and one reply on a socket pair made for that call. Nothing is kept
 * between calls, so threads, forks, signal handlers and fds passed between processes need no care here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "client_internal.h"

#define NUM_CHANNEL_SLOTS 1024

/* Fds of calls in progress, plus 1; a child made by fork() in the meantime closes its copies. */
static atomic_int channels[NUM_CHANNEL_SLOTS];

static void
close_inherited_channels(void)
{
   client_forget_limit();
   for (size_t i = 0; i < NUM_CHANNEL_SLOTS; i++) {
      int fd = atomic_exchange(&channels[i], 0) - 1;

      if (fd >= 0)
         syscall(SYS_close, fd);
   }
}

/*
 * What glibc makes of pthread_atfork(), which its shared library has not. The shim, built with glibc, may find itself
 * in a program with musl, where it is the other way round.
 */
typedef void fork_handler(void);
int __register_atfork(fork_handler *, fork_handler *, fork_handler *, void *) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

void
client_at_fork(void (*in_child)(void))
{
   if (__register_atfork) {
      __register_atfork(NULL, NULL, in_child, &__dso_handle);
      return;
   }
   int (*atfork)(fork_handler *, fork_handler *, fork_handler *) = dlsym(RTLD_DEFAULT, "pthread_atfork");
   if (atfork)
      atfork(NULL, NULL, in_child);
}

__attribute__((constructor)) static void
watch_forks(void)
{
   client_at_fork(close_inherited_channels);
}

/* fds are small numbers, so their own number is a good slot; a taken slot only means that a forked child keeps one. */
static void
remember_channel(int fd)
{
   int none = 0;

   atomic_compare_exchange_strong(&channels[fd % NUM_CHANNEL_SLOTS], &none, fd + 1);
}

static void
close_channel(int fd)
{
   int mine = fd + 1;

   atomic_compare_exchange_strong(&channels[fd % NUM_CHANNEL_SLOTS], &mine, 0);
   syscall(SYS_close, fd);
}

/* 0 or an errno; *beyond: the channel lies above the application's limit. */
static int
make_channel(int ends[2], bool *beyond)
{
   struct rlimit before;

   *beyond = false;
   if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0)
      return 0;
   if (errno != EMFILE || !client_raise_limit(&before))
      return errno;
   int error = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0 ? 0 : errno;
   *beyond = !error;
   client_restore_limit(&before);
   return error;
}

int64_t
client_now_ms(void)
{
   struct timespec now;

   clock_gettime(CLOCK_MONOTONIC, &now);
   return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Let the driver read and write this process' memory where Yama asks for permission; does nothing elsewhere. */
static void
grant_memory_access(int device)
{
   static _Atomic uint64_t granted;
   struct ucred driver = {0};
   socklen_t bytes = sizeof(driver);

   if (getsockopt(device, SOL_SOCKET, SO_PEERCRED, &driver, &bytes) != 0)
      return;

   uint64_t pair = (uint64_t)getpid() << 32 | (uint32_t)driver.pid;
   if (atomic_load(&granted) == pair)
      return;

   /* 0: the driver lives in another pid namespace and has no number here. */
   prctl(PR_SET_PTRACER, driver.pid > 0 ? (unsigned long)driver.pid : (unsigned long)PR_SET_PTRACER_ANY, 0, 0, 0);
   atomic_store(&granted, pair);
}

/* What a socket's error means for a device file. */
static int
device_error(int error)
{
   switch (error) {
   case EPIPE:
   case ECONNRESET:
   case ENOTCONN:
   case ECONNREFUSED:
      return ENODEV;
   case ENOBUFS:
      return ENOMEM;
   default:
      return error;
   }
}

/* How many bytes an ioctl's argument has, by its number, if they are read and may go along; otherwise 0. */
static size_t
inline_bytes(const struct client_request *request)
{
   if (request->kind != CLIENT_IOCTL || !(_IOC_DIR(request->request) & _IOC_WRITE))
      return 0;
   return _IOC_SIZE(request->request) <= CLIENT_MAX_INLINE ? _IOC_SIZE(request->request) : 0;
}

/* 0 or an errno. Signals do not interrupt this part: the driver has not seen the call. */
static int
send_request(int device, const struct client_request *request, int reply_end)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(int))];
   } control = {0};
   struct iovec parts[] = {{.iov_base = (void *)request, .iov_len = sizeof(*request)},
                           {.iov_base = (void *)(uintptr_t)request->argument, .iov_len = inline_bytes(request)}};
   /* One part if the other is empty: its address would count, and it need not be one. */
   struct msghdr message = {
      .msg_iov = parts, .msg_iovlen = parts[1].iov_len ? 2 : 1,
      .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
   struct cmsghdr *header = CMSG_FIRSTHDR(&message);

   header->cmsg_level = SOL_SOCKET;
   header->cmsg_type = SCM_RIGHTS;
   header->cmsg_len = CMSG_LEN(sizeof(int));
   memcpy(CMSG_DATA(header), &reply_end, sizeof(int));

   for (;;) {
      if (sendmsg(device, &message, MSG_NOSIGNAL) >= 0)
         return 0;
      if (errno == EFAULT && message.msg_iovlen > 1) { /* the driver finds out for itself whether that is an error */
         message.msg_iovlen = 1;
      } else if (errno == ETOOMANYREFS) { /* too many fds on their way at once: the driver is taking them out */
         usleep(1000);
      } else if (errno == EAGAIN) { /* the application made the fd non-blocking, which means nothing to ioctl */
         struct pollfd wait = {.fd = device, .events = POLLOUT};
         poll(&wait, 1, 1000);
      } else if (errno != EINTR) {
         return device_error(errno);
      }
   }
}

/* One message: bytes received or -1 with errno; *fd is what came along or -1. `beyond`: of make_channel(). */
static ssize_t
receive_reply(int reply_end, bool beyond, struct client_reply *reply, int *fd)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(int))];
   } control;
   struct iovec data = {.iov_base = reply, .iov_len = sizeof(*reply)};
   struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
   struct rlimit before;
   char first;

   *fd = -1;
   if (beyond && recv(reply_end, &first, sizeof(first), MSG_PEEK) < 0) /* all the waiting, the limit as it is */
      return -1;
   bool raised = beyond && client_raise_limit(&before);
   ssize_t received = recvmsg(reply_end, &message, MSG_CMSG_CLOEXEC);
   if (raised)
      client_restore_limit(&before);

   struct cmsghdr *header = received > 0 ? CMSG_FIRSTHDR(&message) : NULL;
   if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
      memcpy(fd, CMSG_DATA(header), sizeof(int));
   return received;
}

/* Whether there is a reply, or the end of the file, before the deadline; CLIENT_NO_DEADLINE leaves the waiting to recvmsg. */
static bool
has_reply(int reply_end, int64_t deadline_ms)
{
   struct pollfd wait = {.fd = reply_end, .events = POLLIN};

   while (deadline_ms != CLIENT_NO_DEADLINE) {
      int64_t left = deadline_ms - client_now_ms();
      int count = poll(&wait, 1, left > 0 ? (int)left : 0);

      if (count > 0)
         return true;
      if (count == 0 || errno != EINTR)
         return false;
   }
   return true;
}

/*
 * 0 or an errno. Only a call that the driver has declared to be waiting is interrupted by a signal, as on a kernel:
 * otherwise a BO made by an interrupted CREATE_BO would be lost. SA_RESTART restarts the recvmsg inside.
 */
static int
wait_for_reply(int reply_end, bool beyond, int64_t deadline_ms, struct client_reply *reply, int *fd)
{
   bool waiting = false, interrupted = false;

   while (!(waiting && interrupted)) {
      if (!has_reply(reply_end, deadline_ms))
         return ETIMEDOUT;

      ssize_t received = receive_reply(reply_end, beyond, reply, fd);

      if (received < 0 && errno == EINTR) {
         interrupted = true;
         continue;
      }
      if (received <= 0)
         return received < 0 ? device_error(errno) : ENODEV; /* end of file: the driver is gone */
      if (received != sizeof(*reply) || reply->magic != CLIENT_MAGIC)
         return EIO;
      if (reply->kind == CLIENT_REPLY_DONE)
         return reply->error;
      waiting = true;
   }
   return EINTR;
}

/* 0 or an errno. A fd that comes with the reply is the caller's to close. */
static int
call_driver(int device, const struct client_request *request, int64_t deadline_ms, struct client_reply *reply, int *fd)
{
   int ends[2];
   bool beyond;

   *fd = -1;
   int error = make_channel(ends, &beyond);
   if (error)
      return error;
   remember_channel(ends[0]);
   remember_channel(ends[1]);

   error = send_request(device, request, ends[1]);
   close_channel(ends[1]); /* the driver holds the only one now: when it dies, the wait ends */
   if (!error)
      error = wait_for_reply(ends[0], beyond, deadline_ms, reply, fd);
   close_channel(ends[0]);
   if (error && *fd >= 0) {
      syscall(SYS_close, *fd);
      *fd = -1;
   }
   return error;
}

int
client_call(int device, const struct client_request *request, int64_t deadline_ms, struct client_reply *reply, int *fd)
{
   int state;

   pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
   grant_memory_access(device);
   int error = call_driver(device, request, deadline_ms, reply, fd);
   pthread_setcancelstate(state, NULL);
   return error;
}
