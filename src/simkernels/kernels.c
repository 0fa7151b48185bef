// SPDX-License-Identifier: MIT
/* Compiled once per instruction set; CERMET_SIM_ISA names the copy and dispatch.c chooses one. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "cermet_sim.h"
#include "isa.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { ATOM = 16, GROUP = 32, DEPTHWISE_GROUP = 64, INPUT_BLOCK = 32 };

#if defined(__AVX512BW__)
enum { TILE = 8 };
#elif defined(__AVX2__)
enum { TILE = 3 };
#else
enum { TILE = 4 };
#endif

#define INT32_LOW (-2147483648.0)
#define INT32_HIGH 2147483647.0

/* --- features and weights --------------------------------------------------------------------------------------- */

static void
fill_lanes(int16_t *pixel, const int8_t *lanes, int32_t channels)
{
   for (int32_t c = 0; c < channels; c++)
      pixel[c] = lanes[c];
}

static void
fill_window(const struct cermet_sim_fill *f, int16_t *window)
{
   size_t pixel_elements = (size_t)f->channels;
   size_t row_elements = pixel_elements * (size_t)f->columns;
   int32_t surfaces = f->channels / ATOM;

   for (int32_t row = 0; row < f->rows; row++) {
      int16_t *line = window + (size_t)row * row_elements;
      int32_t y = row - f->pad_top;
      int real_row = y >= 0 && y % f->spread_y == 0 && y / f->spread_y < f->height;
      const int8_t *from_row = real_row ? f->source + y / f->spread_y * f->row_step : NULL;

      for (int32_t column = 0; column < f->columns; column++) {
         int16_t *pixel = line + (size_t)column * pixel_elements;
         int32_t x = column - f->pad_left;
         if (!real_row || x < 0 || x % f->spread_x || x / f->spread_x >= f->width) {
            fill_lanes(pixel, f->lanes, f->channels);
            continue;
         }
         const int8_t *from = from_row + x / f->spread_x * f->column_step;
         for (int32_t s = 0; s < surfaces; s++)
            for (int i = 0; i < ATOM; i++)
               pixel[s * ATOM + i] = from[s * f->surface_step + i];
      }
   }
}

static void
sum_channels(const int16_t *window, int64_t pixels, int32_t channels, int32_t *sums)
{
   for (int64_t p = 0; p < pixels; p++) {
      int32_t sum = 0;
      for (int32_t c = 0; c < channels; c++)
         sum += window[p * channels + c];
      sums[p] = sum;
   }
}

static void
pack_depthwise(const struct cermet_sim_weights *w)
{
   const int8_t *from = w->stored;

   for (int32_t first = 0; first < w->channels; first += DEPTHWISE_GROUP) {
      int32_t width = w->channels - first < DEPTHWISE_GROUP ? w->channels - first : DEPTHWISE_GROUP;
      for (int32_t tap = 0; tap < w->taps; tap++, from += width)
         for (int32_t c = 0; c < width; c++)
            w->packed[(size_t)tap * (size_t)w->channels + (size_t)(first + c)] = from[c];
   }
}

/* One tap of a block: rows kernels of width channels (even) each, which the kernels of a group share pair by pair. */
static void
pack_block(const int8_t *from, int32_t rows, int32_t width, int16_t *to)
{
   for (int32_t pair = 0; pair < width / 2; pair++, to += 2 * GROUP)
      for (int32_t row = 0; row < rows; row++) {
         to[2 * row] = from[row * width + 2 * pair];
         to[2 * row + 1] = from[row * width + 2 * pair + 1];
      }
}

static void
pack_direct(const struct cermet_sim_weights *w)
{
   size_t group_elements = GROUP * (size_t)w->taps * (size_t)w->channels;
   const int8_t *from = w->stored;
   int16_t *packed = w->packed;

   for (int32_t first = 0; first < w->kernels; first += GROUP, packed += group_elements) {
      int32_t rows = w->kernels - first < GROUP ? w->kernels - first : GROUP;
      if (rows < GROUP)
         memset(packed, 0, sizeof(*packed) * group_elements);
      for (int32_t block = 0; block < w->channels; block += INPUT_BLOCK) {
         int32_t width = w->channels - block < INPUT_BLOCK ? w->channels - block : INPUT_BLOCK;
         for (int32_t tap = 0; tap < w->taps; tap++, from += rows * width)
            pack_block(from, rows, width, packed + ((size_t)tap * (size_t)w->channels + (size_t)block) * GROUP);
      }
   }
}

void
ISA_NAME(prepare)(const struct cermet_sim_fill *fill, const struct cermet_sim_weights *weights, int16_t *window,
                  int32_t *sums)
{
   fill_window(fill, window);
   if (weights->depthwise)
      pack_depthwise(weights);
   else
      pack_direct(weights);
   if (sums)
      sum_channels(window, (int64_t)fill->rows * fill->columns, fill->channels, sums);
}

/* --- multiply and accumulate: TILE pixels times 32 kernels ------------------------------------------------------ */

struct tile {
   const int16_t *pixels[TILE]; /* first tap of each */
   const ptrdiff_t *taps;
   int32_t num_taps, channels;
   const int16_t *weights;
};

#if defined(__AVX512BW__)

static inline __attribute__((always_inline)) void
multiply(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   __m512i low[TILE], high[TILE];
   const int16_t *w = t->weights;

   for (int p = 0; p < count; p++)
      low[p] = high[p] = _mm512_setzero_si512();
   for (int32_t tap = 0; tap < t->num_taps; tap++) {
      ptrdiff_t at = t->taps[tap];
      for (int32_t c = 0; c < t->channels; c += 2, w += 2 * GROUP) {
         __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + GROUP);
         for (int p = 0; p < count; p++) {
            int32_t pair;
            memcpy(&pair, t->pixels[p] + at + c, sizeof(pair));
            __m512i x = _mm512_set1_epi32(pair);
            low[p] = _mm512_add_epi32(low[p], _mm512_madd_epi16(x, w0));
            high[p] = _mm512_add_epi32(high[p], _mm512_madd_epi16(x, w1));
         }
      }
   }
   for (int p = 0; p < count; p++) {
      _mm512_storeu_si512(acc[p], low[p]);
      _mm512_storeu_si512(acc[p] + 16, high[p]);
   }
}

#elif defined(__AVX2__)

static inline __attribute__((always_inline)) void
multiply(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   __m256i sum[TILE][4];
   const int16_t *w = t->weights;

   for (int p = 0; p < count; p++)
      for (int i = 0; i < 4; i++)
         sum[p][i] = _mm256_setzero_si256();
   for (int32_t tap = 0; tap < t->num_taps; tap++) {
      ptrdiff_t at = t->taps[tap];
      for (int32_t c = 0; c < t->channels; c += 2, w += 2 * GROUP) {
         __m256i x[TILE];
         for (int p = 0; p < count; p++) {
            int32_t pair;
            memcpy(&pair, t->pixels[p] + at + c, sizeof(pair));
            x[p] = _mm256_set1_epi32(pair);
         }
         for (int i = 0; i < 4; i++) {
            __m256i wi = _mm256_loadu_si256((const __m256i *)(const void *)(w + i * 16));
            for (int p = 0; p < count; p++)
               sum[p][i] = _mm256_add_epi32(sum[p][i], _mm256_madd_epi16(x[p], wi));
         }
      }
   }
   for (int p = 0; p < count; p++)
      for (int i = 0; i < 4; i++)
         _mm256_storeu_si256((__m256i *)(void *)(acc[p] + i * 8), sum[p][i]);
}

#else

static inline __attribute__((always_inline)) void
multiply(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   const int16_t *w = t->weights;

   for (int p = 0; p < count; p++)
      memset(acc[p], 0, sizeof(acc[p]));
   for (int32_t tap = 0; tap < t->num_taps; tap++) {
      ptrdiff_t at = t->taps[tap];
      for (int32_t c = 0; c < t->channels; c += 2, w += 2 * GROUP)
         for (int p = 0; p < count; p++) {
            int32_t x0 = t->pixels[p][at + c], x1 = t->pixels[p][at + c + 1];
            for (int k = 0; k < GROUP; k++)
               acc[p][k] += x0 * w[2 * k] + x1 * w[2 * k + 1];
         }
   }
}

#endif

static void
multiply_tile(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   if (count == TILE)
      multiply(t, TILE, acc);
   else
      multiply(t, count, acc);
}

/* --- the DPU's stages, over the channels of one pixel ------------------------------------------------------------ */

static inline double
clamp(double value, double low, double high)
{
   value = value < low ? low : value;
   return value > high ? high : value;
}

static inline double
power(int32_t shift)
{
   return ldexp(1.0, -shift);
}

/* Shift with ties to even, by the sign of the shifted value; saturated to 32 bits. */
static inline void
shift_even(double *v, int n, int32_t shift, int32_t shift_negative)
{
   double up = power(shift), down = power(shift_negative);

   if (shift == shift_negative) {
      for (int i = 0; i < n; i++)
         v[i] = clamp(rint(v[i] * up), INT32_LOW, INT32_HIGH);
      return;
   }
   for (int i = 0; i < n; i++)
      v[i] = clamp(rint(v[i] * (v[i] >= 0 ? up : down)), INT32_LOW, INT32_HIGH);
}

static void
linear(const struct cermet_sim_linear *s, double *restrict v, int n, int32_t channel)
{
   double product[DEPTHWISE_GROUP];

   if (s->alu && !s->multiply_first)
      for (int i = 0; i < n; i++)
         v[i] = clamp(v[i] + s->alu[channel + i], INT32_LOW, INT32_HIGH);
   if (s->mul) {
      int add = s->alu && s->multiply_first;
      for (int i = 0; i < n; i++)
         product[i] = v[i] * s->mul[channel + i];
      for (int i = 0; add && i < n; i++)
         product[i] += s->alu[channel + i];
      shift_even(product, n, s->shift, s->shift_negative);
      if (!s->prelu)
         memcpy(v, product, sizeof(*v) * (size_t)n);
      for (int i = 0; s->prelu && i < n; i++) {
         double kept = add ? clamp(v[i] + s->alu[channel + i], INT32_LOW, INT32_HIGH) : v[i];
         v[i] = v[i] < 0 ? product[i] : kept;
      }
   } else if (s->alu && s->multiply_first) {
      for (int i = 0; i < n; i++)
         v[i] = clamp(v[i] + s->alu[channel + i], INT32_LOW, INT32_HIGH);
   }
   for (int i = 0; s->relu && i < n; i++)
      v[i] = v[i] < 0 ? 0 : v[i];
   for (int i = 0; s->relux && i < n; i++)
      v[i] = v[i] > s->relux_limit ? s->relux_limit : v[i];
}

static void
ew_operand(const struct cermet_sim_post *p, double *restrict e, int n, int32_t channel, int32_t row, int32_t column)
{
   if (!p->ew_table) {
      for (int i = 0; i < n; i++)
         e[i] = p->ew_vector[channel + i];
      return;
   }
   for (int s = 0; s < n / ATOM; s++) {
      int32_t surface = channel / ATOM + s;
      int odd = surface & 1;
      const int8_t *from = p->ew_source.base[odd] + (surface >> 1) * p->ew_source.step[odd]
                           + row * p->ew_source.line[odd] + (int64_t)column * ATOM;
      for (int i = 0; i < ATOM; i++)
         e[s * ATOM + i] = p->ew_table[(uint8_t)from[i]];
   }
}

static void
elementwise(const struct cermet_sim_post *p, double *restrict v, int n, int32_t channel, int32_t row, int32_t column)
{
   double e[DEPTHWISE_GROUP];

   for (int i = 0; p->lut && i < n; i++)
      v[i] = p->lut[(int32_t)clamp(v[i], p->lut_low, p->lut_high) - p->lut_low];
   if (p->ew != CERMET_SIM_EW_NONE)
      ew_operand(p, e, n, channel, row, column);
   switch (p->ew) {
   case CERMET_SIM_EW_ADD:
      for (int i = 0; i < n; i++)
         v[i] = clamp(v[i] + e[i], INT32_LOW, INT32_HIGH);
      break;
   case CERMET_SIM_EW_MAX:
      for (int i = 0; i < n; i++)
         v[i] = v[i] > e[i] ? v[i] : e[i];
      break;
   case CERMET_SIM_EW_MIN:
      for (int i = 0; i < n; i++)
         v[i] = v[i] < e[i] ? v[i] : e[i];
      break;
   case CERMET_SIM_EW_MUL:
      for (int i = 0; i < n; i++)
         e[i] *= v[i];
      shift_even(e, n, p->ew_shift, p->ew_shift_negative);
      for (int i = 0; i < n; i++)
         v[i] = p->ew_prelu && v[i] >= 0 ? v[i] : e[i];
      break;
   default:
      break;
   }
   for (int i = 0; p->ew_relu && i < n; i++)
      v[i] = v[i] < 0 ? 0 : v[i];
   for (int i = 0; p->ew_relux && i < n; i++)
      v[i] = v[i] > p->ew_relux_limit ? p->ew_relux_limit : v[i];
}

static void
store(const struct cermet_sim_post *p, const double *v, int n, int32_t channel, int32_t row, int32_t column)
{
   int32_t first = channel * p->out_bytes / ATOM;
   int8_t bytes[DEPTHWISE_GROUP * 4];

   if (p->out_bytes == 4) {
      int32_t words[DEPTHWISE_GROUP];
      for (int i = 0; i < n; i++)
         words[i] = (int32_t)v[i];
      memcpy(bytes, words, sizeof(*words) * (size_t)n);
   } else {
      for (int i = 0; i < n; i++)
         bytes[i] = (int8_t)(int32_t)v[i];
   }
   for (int32_t s = 0; s < n * p->out_bytes / ATOM; s++) {
      int32_t group = (first + s) / p->surfaces_per_group, surface = (first + s) % p->surfaces_per_group;
      memcpy(p->target + group * p->group_bytes + surface * p->surface_bytes + row * p->line_bytes
                + (int64_t)column * ATOM, bytes + s * ATOM, ATOM);
   }
}

/* v holds what left CORE, or the flying input: n channels from channel on, of one pixel. */
static void
finish_pixel(const struct cermet_sim_post *p, double *restrict v, int n, int32_t channel, int32_t row, int32_t column)
{
   double low = p->out_bytes == 4 ? INT32_LOW : -128, high = p->out_bytes == 4 ? INT32_HIGH : 127;
   double scale = p->out_scale * power(p->out_shift);

   linear(&p->bs, v, n, channel);
   linear(&p->bn, v, n, channel);
   elementwise(p, v, n, channel, row, column);
   if (p->out_away)
      for (int i = 0; i < n; i++) {
         double x = v[i] * scale;
         v[i] = clamp(trunc(x + (x < 0 ? -0.5 : 0.5)) + p->out_offset, low, high);
      }
   else
      for (int i = 0; i < n; i++)
         v[i] = clamp(rint(v[i] * scale) + p->out_offset, low, high);
   store(p, v, n, channel, row, column);
}

static void
truncate_accumulator(const struct cermet_sim_post *p, double *v, int n)
{
   double scale = power(p->truncate);

   if (p->truncate && p->truncate_up)
      for (int i = 0; i < n; i++)
         v[i] = floor(v[i] * scale + 0.5);
   else if (p->truncate)
      for (int i = 0; i < n; i++)
         v[i] = rint(v[i] * scale);
   for (int i = 0; i < n; i++)
      v[i] = clamp(v[i], INT32_LOW, INT32_HIGH);
}

/* --- convolution ---------------------------------------------------------------------------------------------------- */

enum { MAX_TAPS = 31 * 31, MAX_SEGMENT = (1 << 17) - 1 };

static void
tap_offsets(const struct cermet_sim_conv *c, ptrdiff_t *offsets)
{
   for (int32_t y = 0; y < c->kernel_height; y++)
      for (int32_t x = 0; x < c->kernel_width; x++)
         *offsets++ = ((ptrdiff_t)y * c->dilation_y * c->window_width + (ptrdiff_t)x * c->dilation_x) * c->channels;
}

static ptrdiff_t
pixel_index(const struct cermet_sim_conv *c, int32_t row, int32_t column)
{
   return (ptrdiff_t)row * c->stride_y * c->window_width + (ptrdiff_t)column * c->stride_x;
}

static double
input_sum(const struct cermet_sim_conv *c, int32_t row, int32_t column)
{
   const int32_t *at = c->input_sums + pixel_index(c, row, column);
   int64_t sum = 0;

   for (int32_t y = 0; y < c->kernel_height; y++)
      for (int32_t x = 0; x < c->kernel_width; x++)
         sum += at[(ptrdiff_t)y * c->dilation_y * c->window_width + (ptrdiff_t)x * c->dilation_x];
   return (double)sum;
}

/* Sums of one tile over all taps. 32-bit accumulators hold MAX_SEGMENT products of -128 * -128. */
static void
accumulate(const struct cermet_sim_conv *c, const ptrdiff_t *taps, struct tile *t, const int16_t *weights, int count,
           double v[TILE][GROUP])
{
   int32_t acc[TILE][GROUP], num_taps = c->kernel_width * c->kernel_height, step = MAX_SEGMENT / c->channels;

   for (int32_t first = 0; first < num_taps; first += step) {
      t->taps = taps + first;
      t->num_taps = num_taps - first < step ? num_taps - first : step;
      t->weights = weights + (ptrdiff_t)first * c->channels * GROUP;
      multiply_tile(t, count, acc);
      for (int i = 0; i < count; i++)
         for (int k = 0; k < GROUP; k++)
            v[i][k] = first ? v[i][k] + acc[i][k] : acc[i][k];
   }
}

static void
direct_tile(const struct cermet_sim_conv *c, const struct cermet_sim_post *p, const ptrdiff_t *taps, int64_t first,
            int count, int32_t channel)
{
   const int16_t *weights = c->weights + (ptrdiff_t)channel * c->kernel_width * c->kernel_height * c->channels;
   struct tile t = {.channels = c->channels};
   double v[TILE][GROUP];

   for (int i = 0; i < count; i++)
      t.pixels[i] = c->window + pixel_index(c, (int32_t)((first + i) / c->out_width),
                                            (int32_t)((first + i) % c->out_width)) * c->channels;
   accumulate(c, taps, &t, weights, count, v);
   for (int i = 0; i < count; i++) {
      int32_t row = (int32_t)((first + i) / c->out_width), column = (int32_t)((first + i) % c->out_width);
      if (p->weight_offset) {
         double sum = input_sum(c, row, column);
         for (int k = 0; k < GROUP; k++)
            v[i][k] += p->weight_offset[channel + k] * sum;
      }
      truncate_accumulator(p, v[i], GROUP);
      finish_pixel(p, v[i], GROUP, channel, row, column);
   }
}

static void
depthwise_pixel(const struct cermet_sim_conv *c, const struct cermet_sim_post *p, const ptrdiff_t *taps,
                int32_t row, int32_t column, int32_t channel)
{
   int32_t num_taps = c->kernel_width * c->kernel_height;
   int32_t n = c->channels - channel < DEPTHWISE_GROUP ? c->channels - channel : DEPTHWISE_GROUP;
   const int16_t *pixel = c->window + pixel_index(c, row, column) * c->channels + channel;
   int32_t acc[DEPTHWISE_GROUP] = {0}, sum[DEPTHWISE_GROUP] = {0};
   double v[DEPTHWISE_GROUP];

   for (int32_t tap = 0; tap < num_taps; tap++) {
      const int16_t *x = pixel + taps[tap], *w = c->weights + (ptrdiff_t)tap * c->channels + channel;
      for (int i = 0; i < n; i++)
         acc[i] += x[i] * w[i];
      for (int i = 0; p->weight_offset && i < n; i++)
         sum[i] += x[i];
   }
   for (int i = 0; i < DEPTHWISE_GROUP; i++)
      v[i] = acc[i];
   for (int i = 0; p->weight_offset && i < DEPTHWISE_GROUP; i++)
      v[i] += (double)p->weight_offset[channel + i] * sum[i];
   truncate_accumulator(p, v, DEPTHWISE_GROUP);
   finish_pixel(p, v, DEPTHWISE_GROUP, channel, row, column);
}

void
ISA_NAME(conv)(const struct cermet_sim_conv *c, const struct cermet_sim_post *p, int64_t first, int64_t last,
               int32_t first_channel, int32_t last_channel)
{
   ptrdiff_t taps[MAX_TAPS];

   tap_offsets(c, taps);
   if (c->depthwise) {
      for (int64_t at = first; at < last; at++)
         for (int32_t channel = first_channel; channel < last_channel; channel += DEPTHWISE_GROUP)
            depthwise_pixel(c, p, taps, (int32_t)(at / c->out_width), (int32_t)(at % c->out_width), channel);
      return;
   }
   for (int32_t channel = first_channel; channel < last_channel; channel += GROUP)
      for (int64_t at = first; at < last; at += TILE)
         direct_tile(c, p, taps, at, last - at < TILE ? (int)(last - at) : TILE, channel);
}

/* --- flying tasks and pooling ----------------------------------------------------------------------------------------- */

void
ISA_NAME(flying_rows)(const struct cermet_sim_surfaces *source, const struct cermet_sim_post *p, int32_t width,
                      int32_t first_row, int32_t last_row, int32_t first_surface, int32_t last_surface)
{
   for (int32_t surface = first_surface; surface < last_surface; surface++) {
      int odd = surface & 1;
      const int8_t *plane = source->base[odd] + (surface >> 1) * source->step[odd];
      for (int32_t row = first_row; row < last_row; row++)
         for (int32_t column = 0; column < width; column++) {
            const int8_t *from = plane + row * source->line[odd] + (int64_t)column * ATOM;
            double v[ATOM];
            for (int i = 0; i < ATOM; i++)
               v[i] = from[i];
            finish_pixel(p, v, ATOM, surface * ATOM, row, column);
         }
   }
}

void
ISA_NAME(pool_rows)(const int16_t *band, int32_t band_columns, int32_t method, int32_t kernel_width,
                    int32_t kernel_height, int32_t stride_x, int32_t stride_y, int64_t reciprocal,
                    int32_t out_width, int32_t rows, int8_t *target, int64_t line_bytes)
{
   double scale = (double)reciprocal * power(32);

   for (int32_t row = 0; row < rows; row++)
      for (int32_t column = 0; column < out_width; column++) {
         const int16_t *at = band + ((ptrdiff_t)row * stride_y * band_columns + (ptrdiff_t)column * stride_x) * ATOM;
         int8_t *to = target + row * line_bytes + (int64_t)column * ATOM;
         int32_t value[ATOM];
         for (int i = 0; i < ATOM; i++)
            value[i] = method == 0 ? 0 : at[i];
         for (int32_t y = 0; y < kernel_height; y++)
            for (int32_t x = 0; x < kernel_width; x++) {
               const int16_t *tap = at + ((ptrdiff_t)y * band_columns + x) * ATOM;
               for (int i = 0; i < ATOM; i++) {
                  int32_t other = tap[i];
                  if (method == 0)
                     value[i] += other;
                  else if (method == 1)
                     value[i] = value[i] > other ? value[i] : other;
                  else
                     value[i] = value[i] < other ? value[i] : other;
               }
            }
         for (int i = 0; i < ATOM; i++)
            to[i] = method == 0 ? (int8_t)(int64_t)rint(value[i] * scale) : (int8_t)value[i];
      }
}
