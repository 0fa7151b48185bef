/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES 0xffffffffu /* offsets in a plan have 32 bits */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Large files have whole huge pages, if the system gives any: a fault for each small page takes longer than reading. */
static size_t
mapped_bytes(const struct cermet_bytes *bytes)
{
	if (bytes->size < HUGE_PAGE_BYTES)
		return bytes->size ? bytes->size : 1;
	return (bytes->size + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

static uint8_t *
map(size_t size, int flags)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Aligned to huge pages; size is a multiple of theirs. */
static uint8_t *
map_huge(size_t size)
{
	uint8_t *memory = map(size + HUGE_PAGE_BYTES, 0);
	size_t excess = -(uintptr_t)memory % HUGE_PAGE_BYTES;

	if (!memory)
		return NULL;
	if (excess > 0)
		munmap(memory, excess);
	munmap(memory + excess + size, HUGE_PAGE_BYTES - excess);
	madvise(memory + excess, size, MADV_HUGEPAGE);
	return memory + excess;
}

bool
cermet_read_file(const char *path, struct cermet_bytes *bytes, struct cermet_error *error)
{
	struct stat status;
	size_t done = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	*bytes = (struct cermet_bytes){0};
	error->text[0] = '\0';
	if (fd < 0)
		return errno == ENOENT ? false : cermet_fail(error, "%s: %s", path, strerror(errno));
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size > MAX_FILE_BYTES) {
		close(fd);
		return cermet_fail(error, "%s: must be a regular file of at most 4 GiB", path);
	}
	bytes->size = (size_t)status.st_size;
	bytes->data = bytes->size < HUGE_PAGE_BYTES ? map(mapped_bytes(bytes), MAP_POPULATE) : map_huge(mapped_bytes(bytes));
	while (bytes->data && done < bytes->size) {
		ssize_t count = read(fd, bytes->data + done, bytes->size - done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		done += (size_t)count;
	}
	close(fd);
	if (bytes->data && done == bytes->size)
		return true;
	cermet_fail(error, "%s: %s", path, bytes->data ? "cannot be read" : "out of memory");
	cermet_file_free(bytes);
	return false;
}

void
cermet_file_free(struct cermet_bytes *bytes)
{
	if (bytes->data)
		munmap(bytes->data, mapped_bytes(bytes));
	*bytes = (struct cermet_bytes){0};
}

static bool
write_piece(int fd, const struct cermet_piece *piece)
{
	const uint8_t *at = piece->data;
	size_t size = piece->size;

	while (size > 0) {
		ssize_t count = write(fd, at, size);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return false;
		at += count;
		size -= (size_t)count;
	}
	return true;
}

bool
cermet_write_file(const char *path, const struct cermet_pieces *contents, struct cermet_error *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool is_written = fd >= 0;

	for (size_t i = 0; is_written && i < contents->count; i++)
		is_written = write_piece(fd, &contents->pieces[i]);
	if (!is_written)
		cermet_fail(error, "%s: %s", path, strerror(errno));
	if (fd >= 0 && close(fd) != 0 && is_written)
		is_written = cermet_fail(error, "%s: %s", path, strerror(errno));
	return is_written;
}

bool
cermet_make_folder(char *folder, size_t size, struct cermet_error *error)
{
	const char *parent = getenv("TMPDIR");
	int length = snprintf(folder, size, "%s/cermet-XXXXXX", parent && parent[0] == '/' ? parent : "/tmp");

	if (length < 0 || (size_t)length >= size)
		return cermet_fail(error, "temporary folder: TMPDIR is too long, must be below %zu bytes", size);
	return mkdtemp(folder) || cermet_fail(error, "temporary folder %s: %s", folder, strerror(errno));
}
