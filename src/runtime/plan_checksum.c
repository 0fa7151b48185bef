/* SPDX-License-Identifier: MIT */
/* Two sums over the file, at the speed of memory. */
#include "plan.h"

#include <string.h>

struct words {
	struct cermet_plan_checksum checksum;
	uint64_t place;       /* of the word before, times CERMET_PLAN_STEP */
	uint64_t other_place; /* and times CERMET_PLAN_OTHER_STEP */
};

static void
add_word(struct words *words, uint64_t word)
{
	words->checksum.sum += word;
	words->place += CERMET_PLAN_STEP;
	words->other_place += CERMET_PLAN_OTHER_STEP;
	word += words->place ^ words->other_place;
	words->checksum.products += (word & UINT32_MAX) * (word >> 32);
}

/* The last word is filled up with zeros. */
static void
add_words(struct words *words, const uint8_t *bytes, size_t num_bytes)
{
	uint64_t word;

	for (; num_bytes >= sizeof(word); bytes += sizeof(word), num_bytes -= sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		add_word(words, word);
	}
	if (num_bytes == 0)
		return;
	word = 0;
	memcpy(&word, bytes, num_bytes);
	add_word(words, word);
}

struct cermet_plan_checksum
cermet_plan_checksum(const void *bytes, size_t num_bytes)
{
	struct cermet_plan_header header;
	struct words words = {{0, 0}, 0, 0};

	memcpy(&header, bytes, sizeof(header));
	header.checksum_sum = header.checksum_products = 0;
	add_words(&words, (const uint8_t *)&header, sizeof(header));
	add_words(&words, (const uint8_t *)bytes + sizeof(header), num_bytes - sizeof(header));
	return words.checksum;
}
