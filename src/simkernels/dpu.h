// SPDX-License-Identifier: MIT
/* The DPU's stages, over the channels of one pixel. */
#ifndef CERMET_SIM_DPU_H
#define CERMET_SIM_DPU_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "isa.h"

#define INT32_LOW (-2147483648.0)
#define INT32_HIGH 2147483647.0

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

#endif
