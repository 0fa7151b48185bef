/* SPDX-License-Identifier: MIT */
/* What the device's ioctl and mmap are. */
#define _GNU_SOURCE
#include "cermet_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "client_internal.h"

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

   int error = client_call(fd, &message, CLIENT_NO_DEADLINE, &reply, &received);
   if (!error)
      error = install_fd(&reply, received);
   errno = error ? error : kept;
   return error ? -1 : reply.value;
}

int
cermet_client_busy(int fd, uint64_t *busy_ns)
{
   struct client_request message = {
      .magic = CLIENT_MAGIC, .version = CLIENT_VERSION, .kind = CLIENT_BUSY, .argument = (uintptr_t)busy_ns};
   struct client_reply reply;
   int kept = errno, received;
   int error = client_call(fd, &message, CLIENT_NO_DEADLINE, &reply, &received);

   errno = error ? error : kept;
   return error ? -1 : 0;
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
   int error = client_call(fd, &message, CLIENT_NO_DEADLINE, &reply, &memory);

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
