/* optim.h: from gradients to new parameters. All work on flat buffers (core/param.h). */
#ifndef OPTIM_OPTIM_H
#define OPTIM_OPTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/param.h"
#include "dist/exchange.h"

/* What a rank updates: of every part of the parameters (core/param.h) a share in whole blocks
 * (exchange_share), or all of it. Its moments are kept for these elements only. */
typedef struct Share {
    int64_t begin, end; /* elements of the flat buffers */
    int64_t at;         /* where the first one lies in the buffers of the moments */
    int64_t first;      /* the place where the part's shares begin */
    const real *grad;   /* [end - begin] the gradient, when it has been summed */
} Share;
typedef struct Shard {
    Share *v; /* [n] one a part */
    int n;
    int64_t size; /* elements in all */
    bool whole;   /* of one rank */
} Shard;
/* Of a place (exchange_place) among `ranks`; of one rank: everything. Gradients are those of the flat buffer, if there is
 * one. Not collective. */
void shard_open(Shard *s, const ParamSet *ps, int place, int ranks);
void shard_close(Shard *s);
/* The elements [*begin, *end) of parameter p, flattened, that the shard has, maybe none; returns
 * where the first one lies in the buffers of the moments. */
int64_t shard_of_param(const Shard *s, const ParamSet *ps, int p, int64_t *begin, int64_t *end);

/* AdamW (Loshchilov & Hutter 2019) in PyTorch's form: w -= lr * (mhat / (sqrt(vhat) + eps) +
 * decay * w), decay on parameters whose flag says so (matrices only). With `muon` the hidden
 * matrices (Param.matrices) are left to muon_part: m holds their momentum, v nothing. */
typedef struct AdamW {
    double beta1, beta2, eps, decay;
    bool muon;
    double momentum; /* Muon's */
    int64_t step;    /* updates done; the bias correction's t is step+1 in the next one */
    Shard whole;     /* when none was given */
    const Shard *shard;
    real *m, *v;   /* [shard->size], of v what is not Muon's; owned */
    int64_t *v_at; /* [parameters] element i of the flat buffers has its v at v_at[p] + i */
} AdamW;

/* shard: what is updated (borrowed); NULL: everything, with the gradients of the flat buffer. */
void adamw_init(AdamW *a, const ParamSet *ps, const Shard *shard, double beta1, double beta2,
                double eps, double decay);
/* The same from the options of *o: beta1, beta2, eps, decay, muon, momentum. */
void adamw_start(AdamW *a, const ParamSet *ps, const Shard *shard, const AdamW *o);
void adamw_free(AdamW *a);

/* One update with the gradients scaled by grad_scale (what clipping asks for), in one sweep.
 * Not collective: ranks hold equal gradients and make equal updates. */
void adamw_update(AdamW *a, ParamSet *ps, double lr, double grad_scale);
/* The same in pieces: begin, then every part of the parameters once, in any order. */
void adamw_begin(AdamW *a);
void adamw_part(AdamW *a, ParamSet *ps, int part, double lr, double grad_scale);

/* sqrt of the sum of squares over the flat gradient, in double, over fixed blocks of each part
 * added in order. A NaN or Inf anywhere makes the result NaN or Inf. */
double grad_norm(const ParamSet *ps);
/* Scale for adamw_update: min(1, clip / norm); 1 when clip is 0. NaN when the norm is not finite:
 * such a step is skipped, and adamw_update refuses it (CHECK). */
double grad_clip_scale(double norm, double clip);

/* The gradients of one model on their way from the backward pass to the update: summed over the
 * ranks while the backward pass goes on, and spread over them as dist.shard says (base/config.h):
 *
 * SHARD_NONE       every rank gets all sums and updates everything
 * SHARD_OPTIMIZER  a rank gets the sums of its shard, updates it, and the parameters are gathered
 * SHARD_GRADIENTS  nor does it keep other gradients: a part's are written into memory that the
 * parts share, and added to the shard's sums before it is lent to another one. Parts that are
 * written to throughout keep theirs to the end of the step.
 *
 * A step is any number of backward passes (not the same on all ranks), grads_finish, then for each
 * part the update and grads_updated, grads_end. All three end with the same parameters bit by bit,
 * but for SHARD_GRADIENTS in steps of several passes, whose sums are added in another order. */
typedef struct Grads Grads;
void grads_open(Grads **out, ParamSet *ps, Comm *c, int shard);
void grads_close(Grads **g);
const Shard *grads_shard(const Grads *g);
/* The gradients of a part are complete, in this backward pass (Gpt.part_done). */
void grads_part_done(Grads *g, int part);
/* The backward pass that comes next is the last of this rank's in the step: gradients are exchanged
 * as they become complete. Without it they are in grads_finish. */
void grads_last_pass(Grads *g);
/* Waits for the sums: a rank that has made fewer passes takes part in the others'. Before any other
 * collective call of the step, and with SHARD_GRADIENTS before another model's passes: until then
 * ranks may be waiting for each other in theirs. Again in the same step: nothing happens.
 * Collective. */
void grads_finish(Grads *g);
/* As grad_norm, of the sums: the same bits whatever the sharding. Collective. */
double grads_norm(Grads *g);
/* This rank's share of the part's parameters has been updated: hands it to the others. */
void grads_updated(Grads *g, int part);
/* Puts together what the ranks have of buf [size of the part], each its share, and waits for it;
 * buf is whole already where every rank updates everything. Collective. */
void grads_gather(Grads *g, int part, real *buf);
/* Waits for the others' shares and clears the gradients. Collective. */
void grads_end(Grads *g);
double grads_waited(const Grads *g); /* seconds so far. Not collective. */

/* Bytes that a rank (the first: none has more) of `ranks` needs for a model that it trains, whose
 * parameters may be dry. */
typedef struct OptimBytes {
    size_t weights, gradients, moments, exchange;
} OptimBytes;
OptimBytes optim_bytes(const ParamSet *ps, int shard, int ranks, bool muon);

/* Muon (Jordan 2024): the update of a part's hidden matrices, momentum orthogonalised; see muon.c.
 * Between adamw_begin and adamw_part of the same part, which updates the rest of it. Scratch from
 * the arena is given back. Collective where the update is shared among the ranks. */
void muon_part(AdamW *a, ParamSet *ps, Grads *g, Arena *arena, int part, double lr,
               double grad_scale);
/* The scratch of all its calls. Not collective. */
size_t muon_bytes(const ParamSet *ps);
/* X [rows,cols] = about U V^T of its singular value decomposition U S V^T: five Newton-Schulz
 * iterations, which leave singular values between 0.7 and 1.2. Not collective. */
void muon_orthogonalize(Arena *arena, int64_t rows, int64_t cols, real *x);

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
