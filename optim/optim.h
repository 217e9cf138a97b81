/* optim.h: from gradients to new parameters. All work on flat buffers (core/param.h). */
#ifndef OPTIM_OPTIM_H
#define OPTIM_OPTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/param.h"
#include "dist/comm.h"

/* AdamW (Loshchilov & Hutter 2019) in PyTorch's form: w -= lr * (mhat / (sqrt(vhat) + eps) +
 * decay * w), decay on parameters whose flag says so (matrices only). */
typedef struct AdamW {
    double beta1, beta2, eps, decay;
    int64_t step; /* updates done; the bias correction's t is step+1 in the next one */
    int64_t size; /* elements of m and v: the ParamSet's flat size */
    real *m, *v;  /* owned */
} AdamW;

void adamw_init(AdamW *a, const ParamSet *ps, double beta1, double beta2, double eps, double decay);
void adamw_free(AdamW *a);

/* One update with the gradients scaled by grad_scale (what clipping asks for), in one sweep.
 * Not collective: ranks hold equal gradients and make equal updates. */
void adamw_update(AdamW *a, ParamSet *ps, double lr, double grad_scale);

/* sqrt of the sum of squares over the flat gradient, in double, over fixed blocks added in order.
 * A NaN or Inf anywhere makes the result NaN or Inf. */
double grad_norm(const ParamSet *ps);
/* Scale for adamw_update: min(1, clip / norm); 1 when clip is 0. NaN when the norm is not finite:
 * such a step is skipped, and adamw_update refuses it (CHECK). */
double clip_scale(double norm, double clip);

/* Gradients of all ranks, summed in the fixed tree of dist/comm.h. Collective. */
void grad_reduce(ParamSet *ps, Comm *c);

/* Learning rate for `step` (from 0) of `steps`: linear warm-up from warmup_from*peak over `warmup`
 * steps (step s has the share warmup_from + (1-warmup_from) (s+1)/warmup: never lr 0), then from
 * the peak constant, linear or cosine down to end*peak at the last step. `kind`: SCHEDULE_* of
 * base/config.h. Not collective. */
typedef struct Schedule {
    int kind;
    double peak, end, warmup_from;
    int64_t warmup, steps;
} Schedule;
double schedule_lr(const Schedule *s, int64_t step);

/* Exponential moving average of the flat parameters: e = decay*e + (1-decay)*w. */
typedef struct Ema {
    double decay;
    int64_t size;
    real *w; /* owned */
} Ema;
void ema_init(Ema *e, const ParamSet *ps, double decay); /* starts at the parameters */
void ema_update(Ema *e, const ParamSet *ps);
void ema_swap(Ema *e, ParamSet *ps); /* exchanges contents; twice restores */
void ema_free(Ema *e);

#endif
