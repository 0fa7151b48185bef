/* SPDX-License-Identifier: MIT */
/* Whole files: read into memory, written from it; a folder for them. */
#ifndef CERMET_FILES_H
#define CERMET_FILES_H

#include "base.h"

/* A file's contents in memory of their own. */
struct cermet_bytes {
	uint8_t *data;
	size_t size;
};

/* A file that lies in memory in pieces, one behind the other. */
struct cermet_piece {
	const void *data;
	size_t size;
};

struct cermet_pieces {
	const struct cermet_piece *pieces;
	size_t count;
};

/* Read a regular file, whole; free it with cermet_file_free. Missing: false with error->text empty. */
bool
cermet_read_file(const char *path, struct cermet_bytes *bytes, struct cermet_error *error);

/* Harmless on zeroed bytes. */
void
cermet_file_free(struct cermet_bytes *bytes);

/* Write a new file that only this user can read. */
bool
cermet_write_file(const char *path, const struct cermet_pieces *contents, struct cermet_error *error);

/* Make a temporary folder that only this user can enter, in TMPDIR where that is absolute. */
bool
cermet_make_folder(char *folder, size_t size, struct cermet_error *error);

#endif
