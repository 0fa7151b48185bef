/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD, before the simulated device's library: counts what the delegate's own code asks for between
 * counting_start() and counting_stop(). Calls of everybody else, TFLite and its host among them, are let through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "drm_core.h"
#include "rocket_accel.h"
#include "rocket_queues.h"

#define CALLER __builtin_return_address(0)

/* test_per_invoke.py has the same names in the same order. */
struct counts {
	uint64_t allocations, mappings, copied_bytes, messages, submits, waits, sync_waits, finishes, other_calls;
};

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static struct counts counts;
static uintptr_t first, last;
static bool is_on;

static int
find_delegate(struct dl_phdr_info *info, size_t bytes, void *unused)
{
	(void)bytes, (void)unused;
	if (!info->dlpi_name || !strstr(info->dlpi_name, "libcermet_delegate.so"))
		return 0;
	first = UINTPTR_MAX;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, end = start + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		first = start < first ? start : first;
		last = end > last ? end : last;
	}
	return 1;
}

/* Whether the delegate was found. */
bool
counting_start(void)
{
	counts = (struct counts){0};
	is_on = dl_iterate_phdr(find_delegate, NULL) == 1;
	return is_on;
}

void
counting_stop(struct counts *result)
{
	is_on = false;
	*result = counts;
}

static bool
counts_for(const void *caller)
{
	return is_on && (uintptr_t)caller >= first && (uintptr_t)caller < last;
}

void *
malloc(size_t bytes)
{
	counts.allocations += counts_for(CALLER);
	return __libc_malloc(bytes);
}

void *
calloc(size_t count, size_t bytes)
{
	counts.allocations += counts_for(CALLER);
	return __libc_calloc(count, bytes);
}

void *
realloc(void *old, size_t bytes)
{
	counts.allocations += counts_for(CALLER);
	return __libc_realloc(old, bytes);
}

void *
aligned_alloc(size_t alignment, size_t bytes)
{
	counts.allocations += counts_for(CALLER);
	return __libc_memalign(alignment, bytes);
}

static void
copy(char *to, const char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = from[i];
}

void *
memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	counts.copied_bytes += counts_for(CALLER) ? bytes : 0;
	copy(to, from, bytes);
	return to;
}

void *
memmove(void *to, const void *from, size_t bytes)
{
	counts.copied_bytes += counts_for(CALLER) ? bytes : 0;
	if ((uintptr_t)to - (uintptr_t)from >= bytes)
		copy(to, from, bytes);
	else
		for (size_t i = bytes; i-- > 0;)
			((char *)to)[i] = ((const char *)from)[i];
	return to;
}

void *
mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
	void *(*next)(void *, size_t, int, int, int, off64_t) = dlsym(RTLD_NEXT, "mmap64");

	counts.mappings += counts_for(CALLER);
	return next(address, bytes, protection, flags, fd, offset);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*next)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");

	counts.messages += counts_for(CALLER);
	return next(fd, message, flags);
}

static uint64_t *
counter_of(unsigned long request)
{
	switch (request) {
	case DRM_IOCTL_ROCKET_SUBMIT:
	case DRM_IOCTL_ROCKET_QUEUE_SUBMIT:
		return &counts.submits;
	case DRM_IOCTL_ROCKET_PREP_BO:
		return &counts.waits;
	case DRM_IOCTL_SYNCOBJ_WAIT:
		return &counts.sync_waits;
	case DRM_IOCTL_ROCKET_FINI_BO:
		return &counts.finishes;
	default:
		return &counts.other_calls;
	}
}

int
ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	va_list arguments;

	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	if (counts_for(CALLER))
		++*counter_of(request);
	return next(fd, request, argument);
}
