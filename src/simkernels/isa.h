/* SPDX-License-Identifier: MIT */
/* Names of the per-instruction-set copies: ISA_NAME(conv) is cermet_sim_conv_avx2 when CERMET_SIM_ISA is avx2. */
#ifndef CERMET_SIM_ISA_H
#define CERMET_SIM_ISA_H

#include "cermet_sim.h"

#ifndef CERMET_SIM_ISA
#define CERMET_SIM_ISA generic
#endif
#define ISA_PASTE(name, isa) cermet_sim_##name##_##isa
#define ISA_EXPAND(name, isa) ISA_PASTE(name, isa)
#define ISA_NAME(name) ISA_EXPAND(name, CERMET_SIM_ISA)

/* Channels of an atom, kernels of a group of weights, channels of a group of depthwise weights. */
enum { ATOM = 16, GROUP = 32, DEPTHWISE_GROUP = 64 };

#define ISA_DECLARE(isa) \
   void cermet_sim_prepare_##isa(const struct cermet_sim_fill *, const struct cermet_sim_weights *, int16_t *, \
                                 int32_t *); \
   void cermet_sim_conv_##isa(const struct cermet_sim_conv *, const struct cermet_sim_post *, int64_t, int64_t, \
                              int32_t, int32_t); \
   void cermet_sim_flying_rows_##isa(const struct cermet_sim_surfaces *, const struct cermet_sim_post *, int32_t, \
                                     int32_t, int32_t, int32_t, int32_t); \
   void cermet_sim_pool_rows_##isa(const int16_t *, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, \
                                   int32_t, int32_t, int8_t *, int64_t);

ISA_DECLARE(generic)
ISA_DECLARE(avx2)
ISA_DECLARE(avx512)

#endif
