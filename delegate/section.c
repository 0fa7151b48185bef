/* SPDX-License-Identifier: MIT */
#include "section.h"

#include <stdlib.h>
#include <string.h>

void *
cermet_section_extend(struct cermet_section *section, size_t size)
{
	size_t capacity = section->capacity;
	uint8_t *data;

	if (size == 0)
		return NULL;
	while (capacity < section->size + size)
		capacity = capacity ? capacity * 2 : 4096;
	if (capacity != section->capacity) {
		data = realloc(section->data, capacity);
		if (!data) {
			section->is_short = true;
			return NULL;
		}
		section->data = data;
		section->capacity = capacity;
	}
	data = section->data + section->size;
	memset(data, 0, size);
	section->size += size;
	return data;
}

void
cermet_section_append(struct cermet_section *section, const void *data, size_t size)
{
	void *place = cermet_section_extend(section, size);

	if (place)
		memcpy(place, data, size);
}
