// SPDX-License-Identifier: MIT
/* The library's entry points: the best copy that this machine can run. CERMET_SIM_CPU=generic|avx2 holds back, for
 * tests. */
#include <stdlib.h>
#include <string.h>

#include "cermet_sim.h"
#include "isa.h"

enum isa { GENERIC, AVX2, AVX512 };

static enum isa
choose(void)
{
#ifdef CERMET_SIM_X86
   const char *held = getenv("CERMET_SIM_CPU");
   int best = 2;

   if (held && strcmp(held, "generic") == 0)
      best = 0;
   else if (held && strcmp(held, "avx2") == 0)
      best = 1;
   if (best >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      return AVX512;
   if (best >= 1 && __builtin_cpu_supports("avx2"))
      return AVX2;
#endif
   return GENERIC;
}

static enum isa chosen;

__attribute__((constructor)) static void
init(void)
{
   chosen = choose();
}

#ifdef CERMET_SIM_X86
#define CALL(name, ...) \
   do { \
      if (chosen == AVX512) \
         cermet_sim_##name##_avx512(__VA_ARGS__); \
      else if (chosen == AVX2) \
         cermet_sim_##name##_avx2(__VA_ARGS__); \
      else \
         cermet_sim_##name##_generic(__VA_ARGS__); \
   } while (0)
#else
#define CALL(name, ...) cermet_sim_##name##_generic(__VA_ARGS__)
#endif

/* Version and sizes of the structs, so that Python notices when its declarations do not match. */
int32_t
cermet_sim_abi(void)
{
   return (int32_t)(CERMET_SIM_VERSION << 28 | sizeof(struct cermet_sim_post) << 16 | sizeof(struct cermet_sim_conv) << 8
                    | sizeof(struct cermet_sim_fill));
}

void
cermet_sim_prepare(const struct cermet_sim_fill *fill, const struct cermet_sim_weights *weights, int16_t *window,
                   int32_t *sums)
{
   CALL(prepare, fill, weights, window, sums);
}

void
cermet_sim_conv(const struct cermet_sim_conv *conv, const struct cermet_sim_post *post, int64_t first, int64_t last,
                int32_t first_channel, int32_t last_channel)
{
   CALL(conv, conv, post, first, last, first_channel, last_channel);
}

void
cermet_sim_flying_rows(const struct cermet_sim_surfaces *source, const struct cermet_sim_post *post, int32_t width,
                       int32_t first_row, int32_t last_row, int32_t first_surface, int32_t last_surface)
{
   CALL(flying_rows, source, post, width, first_row, last_row, first_surface, last_surface);
}

void
cermet_sim_pool_rows(const int16_t *band, int32_t band_columns, int32_t method, int32_t kernel_width,
                     int32_t kernel_height, int32_t stride_x, int32_t stride_y, int64_t reciprocal, int32_t out_width,
                     int32_t rows, int8_t *target, int64_t line_bytes)
{
   CALL(pool_rows, band, band_columns, method, kernel_width, kernel_height, stride_x, stride_y, reciprocal, out_width,
        rows, target, line_bytes);
}
