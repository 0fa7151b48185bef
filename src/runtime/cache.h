/* SPDX-License-Identifier: MIT */
/* From a blob to its plan: the key, the cache directory, the compiler on a miss. Rules: cermet_plan.h. */
#ifndef CERMET_CACHE_H
#define CERMET_CACHE_H

#include "blake2sp.h"
#include "compiler.h"
#include "plan.h"

#define CERMET_KEY_HEX_BYTES 65

enum cermet_cache_mode {
	CERMET_CACHE_ON,
	CERMET_CACHE_OFF,
	CERMET_CACHE_READONLY, /* hits count, misses are compiled but not kept */
	CERMET_CACHE_REQUIRED, /* a miss is an error: the compiler never runs */
};

struct cermet_cache {
	enum cermet_cache_mode mode;
	const char *directory; /* NULL: the default one */
	struct cermet_compiler compiler;
};

/* A plan in memory, checked against its key. */
struct cermet_plan_file {
	struct cermet_bytes bytes;
	struct cermet_plan_view view;
	bool is_from_cache;
};

/* BLAKE2sp-256 of what cermet_plan.h says. */
void
cermet_cache_key(const char *soc, const char *build_id, const struct cermet_compile_options *options,
                 const struct cermet_pieces *blob, uint8_t key[CERMET_HASH_BYTES]);

void
cermet_key_hex(const uint8_t key[CERMET_HASH_BYTES], char hex[CERMET_KEY_HEX_BYTES]);

/* The plan of a blob, from the cache or from the compiler. Free with cermet_plan_file_free. */
bool
cermet_find_plan(const struct cermet_cache *cache, const struct cermet_compile_options *options,
                 const struct cermet_pieces *blob, struct cermet_plan_file *plan, struct cermet_error *error);

/* Harmless on a zeroed one. */
void
cermet_plan_file_free(struct cermet_plan_file *plan);

#endif
