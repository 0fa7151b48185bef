/* SPDX-License-Identifier: MIT */
/* Hot loops of the simulated NPU. Python checks every size and address before calling; these trust their arguments.
 *
 * The arithmetic is that of src/cermet/sim/stages.py and core_mac.py, to the bit. Stages compute in double: every value
 * on the way is an integer below 2**53 or such an integer times a power of two, so nothing is ever rounded except
 * where the hardware rounds.
 */
#ifndef CERMET_SIM_H
#define CERMET_SIM_H

#include <stdint.h>

/* BS or BN. Per-channel arrays hold one number per programmed output channel. */
struct cermet_sim_linear {
   const int32_t *alu;      /* addend, NULL: no add; already negated for subtract */
   const int32_t *mul;      /* multiplier, NULL: no multiply */
   int32_t multiply_first;  /* BN */
   int32_t prelu;           /* only negative values are multiplied */
   int32_t shift, shift_negative;
   int32_t relu, relux;
   int32_t relux_limit;
};

enum { CERMET_SIM_EW_NONE, CERMET_SIM_EW_ADD, CERMET_SIM_EW_MAX, CERMET_SIM_EW_MIN, CERMET_SIM_EW_MUL };

/* Atoms of a second operand or of a flying task's input: surface s lies at base[s & 1] + (s >> 1) * step[s & 1]. */
struct cermet_sim_surfaces {
   const int8_t *base[2];
   int64_t step[2];
   int64_t line[2];
};

struct cermet_sim_post {
   const int32_t *weight_offset;  /* OW per channel, NULL: no term */
   int32_t truncate, truncate_up; /* CORE.CLIP_TRUNCATE */
   struct cermet_sim_linear bs, bn;
   int32_t ew;                    /* CERMET_SIM_EW_* */
   const int32_t *ew_table;       /* converted operand of each memory byte, [256], byte read as unsigned; or NULL */
   const int32_t *ew_vector;      /* converted operand per channel, when ew_table is NULL */
   struct cermet_sim_surfaces ew_source;
   int32_t ew_prelu, ew_shift, ew_shift_negative;
   int32_t ew_relu, ew_relux, ew_relux_limit;
   const int32_t *lut;            /* result for each index lut_low..lut_high, beyond it the end's; NULL: no LUT */
   int32_t lut_low, lut_high;
   int32_t out_scale, out_shift, out_offset, out_away, out_bytes;
   /* Where the outputs go: group g, surface j of it, row, column (16 bytes each). */
   int8_t *target;
   int64_t group_bytes, surface_bytes, line_bytes;
   int32_t surfaces_per_group;
};

/* Geometry of a convolution over a padded window of int16 [window rows][window_width][channels]. */
struct cermet_sim_conv {
   const int16_t *window;
   const int16_t *weights;        /* packed by cermet_sim_pack */
   const int32_t *input_sums;     /* per window pixel, NULL when no OW term; direct only */
   int32_t window_width, channels;
   int32_t out_width, out_channels;
   int32_t kernel_width, kernel_height;
   int32_t stride_x, stride_y, dilation_x, dilation_y;
   int32_t depthwise;
};

/* Features to window: [rows][columns][channels] int16, lanes[channels] outside the cube.
 * Source atom (row, column, surface) lies at source + row * row_step + column * column_step + surface * surface_step. */
struct cermet_sim_fill {
   const int8_t *source;
   int64_t row_step, column_step, surface_step;
   int32_t height, width, channels;
   int32_t rows, columns;
   int32_t pad_top, pad_left, spread_y, spread_x;
   const int8_t *lanes;
};

/* Weights as in memory (data layouts §7), and where they go: direct [group][tap][channel / 2][32][2], depthwise
 * [tap][channel]. */
struct cermet_sim_weights {
   const int8_t *stored;
   int16_t *packed;
   int32_t kernels, channels, taps, depthwise;
};

/* Raised with every change of a function's arguments or meaning. */
#define CERMET_SIM_VERSION 4

int32_t cermet_sim_abi(void);
/* What a convolution works on. sums: of the channels of each pixel of the window; NULL: not wanted. */
void cermet_sim_prepare(const struct cermet_sim_fill *fill, const struct cermet_sim_weights *weights, int16_t *window,
                        int32_t *sums);
/* Output pixels first..last in row order, channels first_channel..last_channel (whole groups). */
void cermet_sim_conv(const struct cermet_sim_conv *conv, const struct cermet_sim_post *post, int64_t first, int64_t last,
                     int32_t first_channel, int32_t last_channel);
void cermet_sim_flying_rows(const struct cermet_sim_surfaces *source, const struct cermet_sim_post *post,
                            int32_t width, int32_t first_row, int32_t last_row, int32_t first_surface,
                            int32_t last_surface);
/* Max, min or sum of windows; for averages times reciprocal >> 32 with ties to even, low 8 bits.
 * band: [rows][columns][16] int16 with borders filled. */
void cermet_sim_pool_rows(const int16_t *band, int32_t band_columns, int32_t method, int32_t kernel_width,
                          int32_t kernel_height, int32_t stride_x, int32_t stride_y, int64_t reciprocal,
                          int32_t out_width, int32_t rows, int8_t *target, int64_t line_bytes);

#endif
