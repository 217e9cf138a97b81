/* tensor.h: a shape over memory that somebody else owns. Row-major, contiguous. */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/real.h"

enum { TENSOR_MAX_DIM = 4 };

typedef struct Tape Tape;

typedef struct Tensor {
    real *data; /* NULL after tape_done, when it is not kept, or rebuilt when somebody wants it */
    real *grad; /* same shape, accumulated with += */
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
    bool grad_unset; /* nobody has written grad yet: it counts as zero, its memory is garbage */
    /* Of a tape's tensors (tape.h). */
    Tape *tape;                 /* lends data and grad; NULL: they are somebody else's */
    size_t room;                /* bytes of each of them */
    bool kept, lent_grad;       /* a backward pass reads data; grad is the tape's */
    void (*rebuild)(void *ctx); /* makes data again, after it has been given back */
    void *rebuild_ctx;
} Tensor;

int64_t tensor_size(const Tensor *t); /* number of elements */

/* Ends the job with both shapes when t is not [d0, d1, ...]; used by every op on its inputs. */
void tensor_expect(const Tensor *t, const char *what, int ndim, const int64_t *shape);

/* Clearing a gradient only to add to it costs passes over memory, so the outputs of ops start with
 * grad_unset, and without memory for it. tensor_grad_beta gets the memory, says how to write it, 0:
 * store, 1: add, and marks it set: for an op that writes all of it. tensor_grad clears an unset
 * gradient and returns it (NULL: none is wanted): for an op that writes a part of it, and for a
 * caller who puts the gradient of a loss into the output of an op. Both may take memory from the
 * tape: not between arena_mark and arena_release. */
static inline bool tensor_wants_grad(const Tensor *t) { return t->grad || t->grad_unset; }
real tensor_grad_beta(Tensor *t);
real *tensor_grad(Tensor *t);

/* An op whose backward pass reads x's data says so in the forward pass, and there gets it by
 * tensor_data, which rebuilds what was given back meanwhile (it may take memory from the tape). */
void tensor_keep(Tensor *x);
const real *tensor_data(Tensor *x);

#endif
