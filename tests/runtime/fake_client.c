/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fake_client.h"

#include "cermet_client.h"
#include "rocket_accel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_BOS 512
#define PAGE_BYTES 4096u
#define MAP_OFFSET UINT64_C(0x100000000)

/* Handles are index + 1 here, for all files; addresses never overlap. */
struct fake_bo {
	int memory; /* memfd, or 0 */
	int file;
	uint32_t size;
	uint64_t address;
	uint8_t *map;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_bo bos[MAX_BOS];
static uint64_t next_address; /* the first buffer gets 0, as on a real device */
static int num_created, num_submits, num_interruptions, num_timeouts;

static int
is_mode(const char *mode)
{
	const char *wish = getenv(FAKE_VARIABLE);

	return wish && strcmp(wish, mode) == 0;
}

int
fake_num_bos(void)
{
	int count = 0;

	for (int i = 0; i < MAX_BOS; i++)
		count += bos[i].memory != 0;
	return count;
}

int
fake_num_submits(void)
{
	return num_submits;
}

int
cermet_client_open(const char *soc, int flags, char *message, size_t message_bytes)
{
	(void)soc;
	if (is_mode("no-open")) {
		snprintf(message, message_bytes, "the fake device is asked not to open");
		errno = ENODEV;
		return -1;
	}
	return open("/dev/null", O_RDWR | flags);
}

bool
cermet_client_owns(int fd)
{
	return fd >= 0;
}

static int
fail(int error)
{
	errno = error;
	return -1;
}

static struct fake_bo *
find_bo(int fd, uint32_t handle)
{
	return handle >= 1 && handle <= MAX_BOS && bos[handle - 1].memory && bos[handle - 1].file == fd ? &bos[handle - 1]
	                                                                                                : NULL;
}

static int
create_bo(int fd, struct drm_rocket_create_bo *create)
{
	uint32_t mapped = (create->size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	int i = 0;

	if (create->size == 0)
		return fail(ENOSPC);
	if (is_mode("no-bo") && num_created++ % 2 == 1)
		return fail(ENOMEM);
	while (i < MAX_BOS && bos[i].memory)
		i++;
	if (i == MAX_BOS)
		return fail(ENOMEM);
	bos[i] = (struct fake_bo){memfd_create("bo", MFD_CLOEXEC), fd, mapped, next_address, NULL};
	if (ftruncate(bos[i].memory, mapped) != 0)
		abort();
	bos[i].map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, bos[i].memory, 0);
	next_address = (next_address + mapped) % 0x80000000u; /* tests make far fewer buffers than that at a time */
	create->handle = (uint32_t)i + 1;
	create->dma_address = bos[i].address;
	create->offset = MAP_OFFSET * (uint64_t)(i + 1);
	return 0;
}

static int
close_bo(int fd, uint32_t handle)
{
	struct fake_bo *bo = find_bo(fd, handle);

	if (!bo)
		return fail(EINVAL);
	munmap(bo->map, bo->size);
	close(bo->memory);
	*bo = (struct fake_bo){0};
	return 0;
}

/* Where the device finds an address; NULL is an IOMMU fault. */
static uint8_t *
at_address(int fd, uint64_t address, uint64_t size)
{
	for (int i = 0; i < MAX_BOS; i++)
		if (bos[i].memory && bos[i].file == fd && address >= bos[i].address &&
		    address + size <= bos[i].address + bos[i].size)
			return bos[i].map + (address - bos[i].address);
	return NULL;
}

static void
run_task(int fd, const struct drm_rocket_task *task)
{
	const uint8_t *program = at_address(fd, task->regcmd, task->regcmd_count * UINT64_C(8));
	uint64_t words[FAKE_PROGRAM_WORDS], values[FAKE_PROGRAM_WORDS];
	const uint8_t *source;
	uint8_t *target;

	if (!program || task->regcmd_count < FAKE_PROGRAM_WORDS || task->regcmd % 16 != 0)
		return;
	memcpy(words, program, sizeof(words));
	for (int i = 0; i < FAKE_PROGRAM_WORDS; i++)
		values[i] = words[i] >> 16 & 0xffffffff;
	source = at_address(fd, values[0], values[2]);
	target = at_address(fd, values[1], values[2]);
	for (uint64_t i = 0; source && target && i < values[2]; i++)
		target[i] = (uint8_t)(source[i] + values[3]);
}

/* All handles known, none twice: else the job is dropped, which nobody is told. */
static int
handles_are_valid(int fd, const struct drm_rocket_job *job)
{
	const uint32_t *in = (const void *)(uintptr_t)job->in_bo_handles;
	const uint32_t *out = (const void *)(uintptr_t)job->out_bo_handles;
	char is_seen[MAX_BOS + 1] = {0};

	for (uint32_t i = 0; i < job->in_bo_handle_count + job->out_bo_handle_count; i++) {
		uint32_t handle = i < job->in_bo_handle_count ? in[i] : out[i - job->in_bo_handle_count];

		if (!find_bo(fd, handle) || is_seen[handle]++)
			return 0;
	}
	return 1;
}

static int
submit(int fd, const struct drm_rocket_submit *args)
{
	const struct drm_rocket_job *jobs = (const void *)(uintptr_t)args->jobs;

	num_submits++;
	if (args->job_struct_size != sizeof(*jobs) || args->reserved != 0)
		return fail(EINVAL);
	num_timeouts = is_mode("timeout");
	for (uint32_t i = 0; i < args->job_count && !is_mode("drop"); i++) {
		const struct drm_rocket_task *tasks = (const void *)(uintptr_t)jobs[i].tasks;

		if (i == 0 && is_mode("drop-first"))
			continue;
		for (uint32_t k = 0; handles_are_valid(fd, &jobs[i]) && k < jobs[i].task_count; k++)
			run_task(fd, &tasks[k]);
	}
	return 0;
}

static int
call(int fd, unsigned long request, void *argument)
{
	if (is_mode("eintr") && num_interruptions++ % 2 == 0)
		return fail(EINTR);
	switch (request) {
	case DRM_IOCTL_ROCKET_CREATE_BO:
		return create_bo(fd, argument);
	case DRM_IOCTL_GEM_CLOSE:
		return close_bo(fd, ((struct drm_gem_close *)argument)->handle);
	case DRM_IOCTL_ROCKET_SUBMIT:
		return submit(fd, argument);
	case DRM_IOCTL_ROCKET_PREP_BO:
		if (num_timeouts > 0) {
			num_timeouts--;
			return fail(ETIMEDOUT);
		}
		return find_bo(fd, ((struct drm_rocket_prep_bo *)argument)->handle) ? 0 : fail(ENOENT);
	case DRM_IOCTL_ROCKET_FINI_BO:
		return find_bo(fd, ((struct drm_rocket_fini_bo *)argument)->handle) ? 0 : fail(ENOENT);
	default:
		return fail(EINVAL);
	}
}

int
cermet_client_ioctl(int fd, unsigned long request, void *argument)
{
	int result;

	pthread_mutex_lock(&lock);
	result = call(fd, request, argument);
	pthread_mutex_unlock(&lock);
	return result;
}

int
cermet_client_busy(int fd, uint64_t *busy_ns)
{
	(void)fd;
	*busy_ns = 0;
	return 0;
}

void *
cermet_client_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	const struct fake_bo *bo = find_bo(fd, (uint32_t)((uint64_t)offset / MAP_OFFSET));

	if (!bo || bytes > bo->size) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	return mmap(address, bytes, protection, flags, bo->memory, 0);
}
