/* SPDX-License-Identifier: MIT */
/* Memory that grows while a file is put together in it. */
#ifndef CERMET_SECTION_H
#define CERMET_SECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts as zeros; data belongs to the caller, who frees it. is_short says that memory ran out, once and for all. */
struct cermet_section {
	uint8_t *data;
	size_t size, capacity;
	bool is_short;
};

/* Room for `size` more bytes, zeroed; NULL when memory is short or nothing is asked for. */
void *
cermet_section_extend(struct cermet_section *section, size_t size);

void
cermet_section_append(struct cermet_section *section, const void *data, size_t size);

#endif
