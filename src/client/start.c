/* SPDX-License-Identifier: MIT */
/* How the driver process is started. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cermet_client.h"
#include "client_internal.h"
#include "command.h"

#define READY_FD 3
#define POLL_INTERVAL_US 10000

extern char **environ;

/* --- the child ---------------------------------------------------------------------------------------------------- */

struct child {
   char **arguments;
   char **environment;
   int log_fd;
   int ready_fd;
};

static void
close_from(unsigned first)
{
#ifdef SYS_close_range
   if (syscall(SYS_close_range, first, ~0U, 0) == 0)
      return;
#endif
   for (unsigned fd = first; fd < 65536; fd++)
      syscall(SYS_close, fd);
}

/* Runs in the grandchild: only calls that are safe after a fork of a threaded program. */
_Noreturn static void
become_driver(const struct child *child)
{
   sigset_t none;
   /* Out of the way first: an application that closed its standard streams has these on low numbers. */
   int ready = fcntl(child->ready_fd, F_DUPFD, 10), log = fcntl(child->log_fd, F_DUPFD, 10);
   int null = fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 10);

   dup2(null, 0);
   dup2(log, 1);
   dup2(log, 2);
   dup2(ready, READY_FD);
   close_from(READY_FD + 1); /* an inherited device fd would keep its file open for ever */
   for (int number = 1; number < 32; number++)
      signal(number, SIG_DFL);
   sigemptyset(&none);
   sigprocmask(SIG_SETMASK, &none, NULL);
   execve(child->arguments[0], child->arguments, child->environment);

   const char *reason = strerror(errno);
   if (write(1, reason, strlen(reason)) < 0 || write(1, "\n", 1) < 0)
      _exit(126);
   _exit(127);
}

/*
 * The raw system call, without an exit signal: the application's SIGCHLD handler, its wait() and its fork handlers see
 * nothing of this. qemu-user knows no fork without that signal: there a handler may find nothing to wait for.
 */
static long
fork_unnoticed(void)
{
   long pid = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L);

   return pid < 0 && errno == EINVAL ? syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L) : pid;
}

/* Two processes down, in a session of its own. */
static int
start_detached(const struct child *child)
{
   sigset_t all, before;

   sigfillset(&all);
   pthread_sigmask(SIG_SETMASK, &all, &before); /* the children must not run the application's handlers */
   long pid = fork_unnoticed();
   if (pid == 0) {
      setsid();
      if (fork_unnoticed() == 0)
         become_driver(child);
      _exit(0);
   }
   int error = errno;
   pthread_sigmask(SIG_SETMASK, &before, NULL);
   errno = error;
   if (pid < 0)
      return -1;
   while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR)
      ;
   return 0;
}

/* Whether a variable is meant for this process alone: PYTHONHOME is the home of another Python than the driver's. */
static bool
is_private(const char *variable)
{
   return strncmp(variable, "LD_PRELOAD=", 11) == 0 || strncmp(variable, "PYTHONHOME=", 11) == 0;
}

/* This process' environment without what is private; one malloc, freed by the caller. */
static char **
driver_environment(void)
{
   size_t count = 0, kept = 0;

   while (environ && environ[count])
      count++;
   char **copy = malloc((count + 1) * sizeof(*copy));
   if (!copy)
      return NULL;
   for (size_t i = 0; i < count; i++) {
      if (!is_private(environ[i]))
         copy[kept++] = environ[i];
   }
   copy[kept] = NULL;
   return copy;
}

/* --- start and wait ----------------------------------------------------------------------------------------------- */

/* The log's last line that is not empty, or "". */
static void
last_line(const char *path, char *line, size_t bytes)
{
   char text[512];
   int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
   off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
   off_t start = end > (off_t)sizeof(text) - 1 ? end - ((off_t)sizeof(text) - 1) : 0;
   ssize_t length = fd >= 0 ? pread(fd, text, sizeof(text) - 1, start) : 0;

   if (fd >= 0)
      close(fd);
   while (length > 0 && text[length - 1] == '\n')
      length--;
   text[length > 0 ? length : 0] = '\0';
   const char *newline = strrchr(text, '\n');
   snprintf(line, bytes, "%.*s", (int)bytes - 1, newline ? newline + 1 : text);
}

/* An exclusive lock, so that of many processes one starts the driver. The fd, or -1 with errno. */
static int
take_lock(const char *path, int64_t deadline_ms)
{
   int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

   while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if ((errno != EWOULDBLOCK && errno != EINTR) || client_now_ms() > deadline_ms) {
         int error = errno == EWOULDBLOCK ? ETIMEDOUT : errno;
         close(fd);
         errno = error;
         return -1;
      }
      usleep(POLL_INTERVAL_US);
   }
   return fd;
}

/* Whether the driver says that it listens; false when it ended or took too long. */
static bool
is_ready(int fd, int64_t deadline_ms)
{
   struct pollfd wait = {.fd = fd, .events = POLLIN};
   char word;

   for (;;) {
      int64_t left = deadline_ms - client_now_ms();
      int count = poll(&wait, 1, left > 0 ? (int)left : 0);

      if (count > 0)
         return read(fd, &word, 1) == 1;
      if (count == 0 || errno != EINTR)
         return false;
   }
}

/* 0, or an errno. */
static int
run_driver(struct child *child, int64_t deadline_ms)
{
   int ready[2];

   if (pipe2(ready, O_CLOEXEC) != 0)
      return errno;
   child->ready_fd = ready[1];
   int error = start_detached(child) != 0 ? errno : 0;
   close(ready[1]);
   if (!error && !is_ready(ready[0], deadline_ms))
      error = ENXIO;
   close(ready[0]);
   return error;
}

/* Start the driver with the lock held. 0, or -1 with errno and a line. */
static int
start_locked(const char *soc, const char *path, int64_t deadline_ms, char *message, size_t message_bytes)
{
   char command[PATH_MAX], log_path[CLIENT_PATH_BYTES + 8], line[400];
   struct child child = {.environment = driver_environment()};
   const char *arguments[] = {command, "sim", "--soc", soc, "--socket", path, "--on-demand", "--ready-fd", "3", NULL};
   int error = 0;

   if (!cermet_command_find(NULL, "", command, sizeof(command), line, sizeof(line))) {
      client_say(message, message_bytes, "the simulated device cannot start: %s%s", line,
                 getenv("CERMET_COMMAND") ? "" : "; set CERMET_COMMAND");
      free(child.environment);
      errno = ENXIO;
      return -1;
   }
   child.arguments = (char **)arguments;

   snprintf(log_path, sizeof(log_path), "%s.log", path);
   child.log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
   if (child.log_fd < 0 || !child.environment)
      error = errno;
   else
      error = run_driver(&child, deadline_ms);
   if (child.log_fd >= 0)
      close(child.log_fd);
   free(child.environment);

   if (error) {
      last_line(log_path, line, sizeof(line));
      client_say(message, message_bytes, "%s sim: the simulated device did not start (%s): %s", command,
                 log_path, line[0] ? line : strerror(error));
      errno = ENXIO;
      return -1;
   }
   return 0;
}

int
client_start_driver(const char *soc, const char *path, int64_t deadline_ms, char *message, size_t message_bytes)
{
   char lock_path[CLIENT_PATH_BYTES + 8];

   snprintf(lock_path, sizeof(lock_path), "%s.start", path);
   int lock = take_lock(lock_path, deadline_ms);
   if (lock < 0) {
      client_say(message, message_bytes, "%s: cannot be locked: %s", lock_path, strerror(errno));
      errno = ENXIO;
      return -1;
   }
   /* Another process may have started it while this one waited for the lock. */
   int probe = client_connect(path), result = 0;
   if (probe >= 0)
      close(probe);
   else
      result = start_locked(soc, path, deadline_ms, message, message_bytes);
   int kept = errno;
   close(lock);
   errno = kept;
   return result;
}
