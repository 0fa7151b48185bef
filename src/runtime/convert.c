/* SPDX-License-Identifier: MIT */
#include "convert.h"

#include "convert_folded.h"
#include "convert_rows.h"
#include "wide.h"

#ifndef __x86_64__
#define cermet_rows_in_avx2 cermet_rows_in
#define cermet_rows_out_avx2 cermet_rows_out
#define cermet_folded_in_avx2 cermet_folded_in
#endif

void
cermet_convert_in(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo)
{
	if (io->fold_y > 1 || io->fold_x > 1)
		(HAS_AVX2 ? cermet_folded_in_avx2 : cermet_folded_in)(io, tensor, bo);
	else
		(HAS_AVX2 ? cermet_rows_in_avx2 : cermet_rows_in)(io, tensor, bo);
}

void
cermet_convert_out(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor)
{
	(HAS_AVX2 ? cermet_rows_out_avx2 : cermet_rows_out)(io, bo, tensor);
}
