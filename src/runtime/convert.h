/* SPDX-License-Identifier: MIT */
/* TFLite's NHWC bytes to the NPU's layout and back, as struct cermet_plan_io describes it. */
#ifndef CERMET_CONVERT_H
#define CERMET_CONVERT_H

#include "base.h"
#include "cermet_plan.h"

/* Both move cermet_io_num_bytes(io) bytes of `tensor`, exactly: no byte before or after it is read or written.
 * `bo` is the start of the BO; the io must have passed cermet_plan_open. The two memories do not overlap. */
void
cermet_convert_in(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo);

void
cermet_convert_out(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor);

#endif
