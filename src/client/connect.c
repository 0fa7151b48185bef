/* SPDX-License-Identifier: MIT */
/* Opening: a connection to the driver, which is started when there is none. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "cermet_client.h"
#include "client_internal.h"

#define OPEN_DEADLINE_MS 15000 /* to start a driver, and then for its first answer */

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
   int error = client_call(fd, &message, client_now_ms() + OPEN_DEADLINE_MS, &reply, &received);

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
   if (error == EPROTONOSUPPORT) {
      client_say(message, message_bytes, "%s: the simulated device that runs there is of another version", path);
      error = ENXIO;
   } else {
      client_say(message, message_bytes, "%s: the simulated device cannot be opened: %s", path, strerror(error));
   }
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

   /* A driver that ends just now is replaced by the next attempt; a line in `line` and ENXIO mean that none helps. */
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
