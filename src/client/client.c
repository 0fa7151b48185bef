/* SPDX-License-Identifier: MIT */
/*
 * One call is one message to the driver process and one reply on a socket pair made for that call. Nothing is kept
 * between calls, so threads, forks, signal handlers and fds passed between processes need no care here.
 */
#define _GNU_SOURCE
#include "cermet_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client_internal.h"

#define OPEN_DEADLINE_MS 15000 /* to start a driver, and then for its first answer */
#define NO_DEADLINE INT64_C(-1)
#define NUM_CHANNEL_SLOTS 1024

/* Fds of calls in progress, plus 1; a child made by fork() in the meantime closes its copies. */
static atomic_int channels[NUM_CHANNEL_SLOTS];

static void
close_inherited_channels(void)
{
   for (size_t i = 0; i < NUM_CHANNEL_SLOTS; i++) {
      int fd = atomic_exchange(&channels[i], 0) - 1;

      if (fd >= 0)
         syscall(SYS_close, fd);
   }
}

__attribute__((constructor)) static void
watch_forks(void)
{
   pthread_atfork(NULL, NULL, close_inherited_channels);
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

/* 0 or an errno. Signals do not interrupt this part: the driver has not seen the call. */
static int
send_request(int device, const struct client_request *request, int reply_end)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(int))];
   } control = {0};
   struct iovec data = {.iov_base = (void *)request, .iov_len = sizeof(*request)};
   struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
   struct cmsghdr *header = CMSG_FIRSTHDR(&message);

   header->cmsg_level = SOL_SOCKET;
   header->cmsg_type = SCM_RIGHTS;
   header->cmsg_len = CMSG_LEN(sizeof(int));
   memcpy(CMSG_DATA(header), &reply_end, sizeof(int));

   for (;;) {
      if (sendmsg(device, &message, MSG_NOSIGNAL) >= 0)
         return 0;
      if (errno == ETOOMANYREFS) { /* too many fds on their way at once: the driver is taking them out */
         usleep(1000);
      } else if (errno == EAGAIN) { /* the application made the fd non-blocking, which means nothing to ioctl */
         struct pollfd wait = {.fd = device, .events = POLLOUT};
         poll(&wait, 1, 1000);
      } else if (errno != EINTR) {
         return device_error(errno);
      }
   }
}

/* One message: bytes received or -1 with errno; *fd is what came along or -1. */
static ssize_t
receive_reply(int reply_end, struct client_reply *reply, int *fd)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(int))];
   } control;
   struct iovec data = {.iov_base = reply, .iov_len = sizeof(*reply)};
   struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
   ssize_t received = recvmsg(reply_end, &message, MSG_CMSG_CLOEXEC);
   struct cmsghdr *header = received > 0 ? CMSG_FIRSTHDR(&message) : NULL;

   *fd = -1;
   if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
      memcpy(fd, CMSG_DATA(header), sizeof(int));
   return received;
}

/* Whether there is a reply, or the end of the file, before the deadline; NO_DEADLINE leaves the waiting to recvmsg. */
static bool
has_reply(int reply_end, int64_t deadline_ms)
{
   struct pollfd wait = {.fd = reply_end, .events = POLLIN};

   while (deadline_ms != NO_DEADLINE) {
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
wait_for_reply(int reply_end, int64_t deadline_ms, struct client_reply *reply, int *fd)
{
   bool waiting = false, interrupted = false;

   while (!(waiting && interrupted)) {
      if (!has_reply(reply_end, deadline_ms))
         return ETIMEDOUT;

      ssize_t received = receive_reply(reply_end, reply, fd);

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

   *fd = -1;
   if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
      return errno;
   remember_channel(ends[0]);
   remember_channel(ends[1]);

   int error = send_request(device, request, ends[1]);
   close_channel(ends[1]); /* the driver holds the only one now: when it dies, the wait ends */
   if (!error)
      error = wait_for_reply(ends[0], deadline_ms, reply, fd);
   close_channel(ends[0]);
   if (error && *fd >= 0) {
      syscall(SYS_close, *fd);
      *fd = -1;
   }
   return error;
}

/* call_driver for a call that is no cancellation point. */
static int
call_uncancelled(int device, const struct client_request *request, int64_t deadline_ms, struct client_reply *reply,
                 int *fd)
{
   int state;

   pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
   grant_memory_access(device);
   int error = call_driver(device, request, deadline_ms, reply, fd);
   pthread_setcancelstate(state, NULL);
   return error;
}

bool
cermet_client_owns(int fd)
{
   struct sockaddr_un name;
   socklen_t bytes = sizeof(name);
   int error = errno;
   size_t header = offsetof(struct sockaddr_un, sun_path), mark = 1 + strlen(CLIENT_MARK);
   bool known = fd >= 0 && getsockname(fd, (struct sockaddr *)&name, &bytes) == 0 && name.sun_family == AF_UNIX &&
                bytes >= header + mark && memcmp(name.sun_path, "\0" CLIENT_MARK, mark) == 0;

   errno = error;
   return known;
}

/* Store the number of a received fd where the driver says, as copy_to_user would: a bad address is EFAULT. */
static int
store_fd(uint64_t address, int fd)
{
   int32_t number = fd;
   struct iovec from = {.iov_base = &number, .iov_len = sizeof(number)};
   struct iovec to = {.iov_base = (void *)(uintptr_t)address, .iov_len = sizeof(number)};

   if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) == sizeof(number))
      return 0;
   if (errno == EFAULT)
      return EFAULT;
   memcpy((void *)(uintptr_t)address, &number, sizeof(number)); /* a sandbox forbids the call; the driver could write here */
   return 0;
}

/* Give the caller the fd that an ioctl made. 0 or an errno. */
static int
install_fd(const struct client_reply *reply, int fd)
{
   if (fd < 0)
      return reply->num_fds ? EMFILE : 0; /* the fd did not fit into this process' table */
   if (!reply->fd_address) {
      syscall(SYS_close, fd);
      return 0;
   }
   if (!(reply->fd_flags & O_CLOEXEC))
      fcntl(fd, F_SETFD, 0);
   int error = store_fd(reply->fd_address, fd);
   if (error)
      syscall(SYS_close, fd);
   return error;
}

/* Calls that a kernel answers for any file before its driver is asked. */
static bool
is_for_any_file(unsigned int request)
{
   return request == FIOCLEX || request == FIONCLEX || request == FIONBIO || request == FIOASYNC;
}

int
cermet_client_ioctl(int fd, unsigned long request, void *argument)
{
   struct client_request message = {
      .magic = CLIENT_MAGIC, .version = CLIENT_VERSION, .kind = CLIENT_IOCTL,
      .request = (unsigned int)request, .argument = (uintptr_t)argument};
   struct client_reply reply;
   int kept = errno, received;

   if (is_for_any_file(request))
      return (int)syscall(SYS_ioctl, fd, request, argument);

   int error = call_uncancelled(fd, &message, NO_DEADLINE, &reply, &received);
   if (!error)
      error = install_fd(&reply, received);
   errno = error ? error : kept;
   return error ? -1 : reply.value;
}

/* The system's mmap, also when a preloaded library has replaced it. */
static void *
system_mmap(void *address, size_t bytes, int protection, int flags, int fd)
{
   return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, 0L);
}

void *
cermet_client_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
   struct client_request message = {
      .magic = CLIENT_MAGIC, .version = CLIENT_VERSION, .kind = CLIENT_MMAP, .flags = (uint32_t)flags,
      .request = bytes, .argument = (uint64_t)offset, .protection = (uint32_t)protection};
   struct client_reply reply;
   int kept = errno, memory;
   int error = call_uncancelled(fd, &message, NO_DEADLINE, &reply, &memory);

   if (!error && memory < 0)
      error = ENOMEM;
   if (error) {
      errno = error;
      return MAP_FAILED;
   }
   errno = kept;
   void *mapping = system_mmap(address, bytes, protection, flags, memory);
   kept = errno;
   syscall(SYS_close, memory);
   errno = kept;
   return mapping;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

/* Give the socket the name by which cermet_client_owns() knows it, in any process. 0 or an errno. */
static int
mark_socket(int fd)
{
   for (int attempt = 0; attempt < 8; attempt++) {
      struct sockaddr_un name = {.sun_family = AF_UNIX};
      uint64_t number;
      char *text = name.sun_path + 1;
      size_t length = strlen(CLIENT_MARK);

      if (getrandom(&number, sizeof(number), 0) != sizeof(number))
         number = (uint64_t)client_now_ms() ^ (uint64_t)getpid() << 40 ^ (uint64_t)attempt << 32;
      memcpy(text, CLIENT_MARK, length);
      for (int digit = 0; digit < 16; digit++, number >>= 4)
         text[length++] = "0123456789abcdef"[number & 15];
      if (bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) == 0)
         return 0;
      if (errno != EADDRINUSE)
         break;
   }
   return errno;
}

int
client_connect(const char *path)
{
   struct sockaddr_un name = {.sun_family = AF_UNIX};
   int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

   if (fd < 0)
      return -1;
   memcpy(name.sun_path, path, strlen(path) + 1); /* cermet_client_socket_path keeps to the size */

   int error = mark_socket(fd);
   if (!error && connect(fd, (struct sockaddr *)&name, sizeof(name)) != 0)
      error = errno;
   if (!error)
      return fd;
   syscall(SYS_close, fd);
   errno = error;
   return -1;
}

static bool
nobody_listens(int error)
{
   return error == ENOENT || error == ECONNREFUSED;
}

/* Open the device on a fresh connection. 0 or an errno; ENODEV when the driver ended in between, ETIMEDOUT when it is
 * stopped or something else listens. */
static int
greet(int fd, int flags)
{
   struct client_request message = {
      .magic = CLIENT_MAGIC, .version = CLIENT_VERSION, .kind = CLIENT_OPEN, .flags = (uint32_t)flags};
   struct client_reply reply;
   int received;
   int error = call_uncancelled(fd, &message, client_now_ms() + OPEN_DEADLINE_MS, &reply, &received);

   if (received >= 0)
      syscall(SYS_close, received);
   return error;
}

static void
apply_flags(int fd, int flags)
{
   if (!(flags & O_CLOEXEC))
      fcntl(fd, F_SETFD, 0);
   if (flags & O_NONBLOCK)
      fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
}

/* An fd, or -1 with errno: ENODEV means that trying again may help. */
static int
open_once(const char *soc, const char *path, int flags, int64_t deadline_ms, char *message, size_t message_bytes)
{
   int fd = client_connect(path);

   if (fd < 0 && nobody_listens(errno)) {
      if (client_start_driver(soc, path, deadline_ms, message, message_bytes) != 0)
         return -1;
      fd = client_connect(path);
      if (fd < 0 && nobody_listens(errno))
         errno = ENODEV;
   }
   if (fd < 0) {
      client_say(message, message_bytes, "%s: cannot connect: %s", path, strerror(errno));
      return -1;
   }
   int error = greet(fd, flags);
   if (!error) {
      apply_flags(fd, flags);
      return fd;
   }
   client_say(message, message_bytes, "%s: the simulated device cannot be opened: %s", path, strerror(error));
   syscall(SYS_close, fd);
   errno = error;
   return -1;
}

int
cermet_client_open(const char *soc, int flags, char *message, size_t message_bytes)
{
   char path[CLIENT_PATH_BYTES];
   char line[512] = "";
   int64_t deadline_ms = client_now_ms() + OPEN_DEADLINE_MS;
   int fd;

   if (!soc)
      soc = "rk3588";
   if (cermet_client_socket_path(soc, path, sizeof(path), message, message_bytes) != 0)
      return -1;

   /* A driver that ends just now is replaced by the next attempt; a line in `line` and ENXIO mean that none starts. */
   while ((fd = open_once(soc, path, flags, deadline_ms, line, sizeof(line))) < 0 && errno == ENODEV &&
          client_now_ms() < deadline_ms)
      usleep(5000);
   if (fd < 0) {
      if (errno == ENXIO)
         errno = ENODEV;
      int error = errno;
      client_say(message, message_bytes, "%s", line);
      errno = error;
   }
   return fd;
}
