/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "compiler_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define POLL_MS 20

/* The end of what the child says on stderr; the last line is the reason of a failure. */
struct tail {
	char text[2048];
	size_t length;
};

static void
append(struct tail *tail, const char *data, size_t count)
{
	const size_t room = sizeof(tail->text) - 1;
	size_t excess;

	if (count > room) {
		data += count - room;
		count = room;
	}
	excess = tail->length + count > room ? tail->length + count - room : 0;
	memmove(tail->text, tail->text + excess, tail->length - excess);
	tail->length -= excess;
	memcpy(tail->text + tail->length, data, count);
	tail->length += count;
	tail->text[tail->length] = '\0';
}

/* Cut trailing blanks, return the last line without the command's own name in front. */
static const char *
last_line(struct tail *tail)
{
	static const char name[] = "cermet: ";
	char *line;

	while (tail->length > 0 && strchr(" \n\r\t", tail->text[tail->length - 1]))
		tail->text[--tail->length] = '\0';
	line = strrchr(tail->text, '\n');
	line = line ? line + 1 : tail->text;
	return strncmp(line, name, strlen(name)) == 0 ? line + strlen(name) : line;
}

static void
log_lines(enum cermet_log_level wanted, enum cermet_log_level level, char *text)
{
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		cermet_log(wanted, level, "%s", line);
}

/* The environment without LD_PRELOAD: what is preloaded into the application is none of the compiler's business.
 * Free the array, not the strings. */
static char **
child_environment(void)
{
	size_t count = 0, kept = 0;
	char **copy;

	while (environ && environ[count])
		count++;
	copy = calloc(count + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < count; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
			copy[kept++] = environ[i];
	return copy;
}

/* In the child, between fork and exec: only calls that are safe there. Does not return. */
static void
become_compiler(char *const *arguments, char *const *environment, int error_pipe, pid_t parent)
{
	int null_fd = open("/dev/null", O_RDWR);
	sigset_t none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127); /* the application ended meanwhile */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 || dup2(error_pipe, 2) < 0)
		_exit(127);
#ifdef SYS_close_range
	if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
#endif
		for (int fd = 3; fd < 4096; fd++)
			close(fd);
	execve(arguments[0], arguments, environment);
	dprintf(2, "%s: %s\n", arguments[0], strerror(errno));
	_exit(127);
}

/* Start the child; returns its id and the reading end of its stderr. -1 on failure. */
static pid_t
start(char *const *arguments, int *error_fd, struct cermet_error *error)
{
	char **environment = child_environment();
	int ends[2] = {-1, -1};
	pid_t parent = getpid(), child = -1;

	if (environment && pipe2(ends, O_CLOEXEC) == 0) {
		if (ends[1] <= 2) { /* the application closed its standard files: keep dup2 from closing the pipe */
			int moved = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);

			close(ends[1]);
			ends[1] = moved;
		}
		child = fork();
		if (child == 0)
			become_compiler(arguments, environment, ends[1], parent);
	}
	if (child < 0)
		cermet_fail(error, "compiler %s: cannot be started: %s", arguments[0], strerror(errno));
	if (ends[1] >= 0)
		close(ends[1]);
	if (child < 0 && ends[0] >= 0)
		close(ends[0]);
	free(environment);
	*error_fd = ends[0];
	return child;
}

/* Read what there is; false at the end of the pipe. */
static bool
read_some(int fd, struct tail *tail)
{
	char buffer[1024];
	ssize_t count = read(fd, buffer, sizeof(buffer));

	if (count > 0)
		append(tail, buffer, (size_t)count);
	return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN));
}

/* Whether the child has ended; *status is its wait status, or 0 when the application's own handler took it. */
static bool
has_ended(pid_t child, int *status)
{
	pid_t result = waitpid(child, status, WNOHANG);

	if (result < 0 && errno != EINTR)
		*status = 0; /* ECHILD: SIGCHLD is ignored or handled; the plan's checks will tell */
	return result == child || (result < 0 && errno != EINTR);
}

/* Follow the child to its end or to the deadline, when it is killed with all that it started. */
static bool
wait_for_end(pid_t child, int error_fd, int64_t deadline_ns, int *status, struct tail *tail)
{
	bool is_open = true;

	for (;;) {
		struct pollfd entry = {.fd = error_fd, .events = POLLIN};
		int ready = poll(&entry, is_open ? 1 : 0, is_open ? POLL_MS : 1);

		if (ready > 0)
			is_open = read_some(error_fd, tail);
		else if (has_ended(child, status))
			return true;
		if (!is_open && has_ended(child, status))
			return true;
		if (cermet_now_ns() > deadline_ns) {
			kill(-child, SIGKILL);
			kill(child, SIGKILL);
			waitpid(child, status, 0);
			return false;
		}
	}
}

bool
cermet_run_compiler(char *const *arguments, int64_t timeout_ns, enum cermet_log_level log_level,
                    struct cermet_error *error)
{
	struct tail tail = {.length = 0};
	const int64_t start_ns = cermet_now_ns();
	int status = 0, error_fd;
	pid_t child = start(arguments, &error_fd, error);
	bool is_in_time;

	if (child < 0)
		return false;
	is_in_time = wait_for_end(child, error_fd, start_ns + timeout_ns, &status, &tail);
	close(error_fd);
	if (!is_in_time)
		return cermet_fail(error, "compiler %s: not done after %lld s (CERMET_COMPILER_TIMEOUT), killed", arguments[0],
		                   (long long)(timeout_ns / 1000000000));
	if (WIFSIGNALED(status))
		return cermet_fail(error, "compiler %s: killed by signal %d", arguments[0], WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return cermet_fail(error, "compiler: %s", tail.length ? last_line(&tail) : "failed without a message");
	log_lines(log_level, CERMET_LOG_WARNING, tail.text);
	return true;
}
