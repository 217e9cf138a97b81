/* tape.h: automatic differentiation. An op computes at once and, when the tape records, adds a
 * node that knows how to push the gradient of its output back to its inputs. Nodes lie in creation
 * order, which is a topological order, so backward is one reversed walk. */
#ifndef CORE_TAPE_H
#define CORE_TAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/tensor.h"

typedef struct Tape Tape;

/* Makes a tape whose tensors and nodes live in `arena` (the caller's; not freed by the tape).
 * record = false: inference: no nodes, no gradients. */
Tape *tape_open(Arena *arena, bool record);
void tape_close(Tape **tape); /* accepts NULL, nulls the pointer */
void tape_reset(Tape *tape);  /* forgets nodes and resets the arena */
bool tape_records(const Tape *tape);

/* Its arena is dry: ops allocate, forward and backward, and compute nothing, so that arena.high
 * becomes what the same pass takes when it computes. Tensors lie at addresses that nobody may
 * touch, and losses are 0. */
bool tape_dry(const Tape *tape);

/* --- for ops ---------------------------------------------------------------------------------- */

/* A new tensor of the tape; data is not cleared. Its memory is the tape's until tape_reset or until
 * the backward pass of the node that is pushed next is over, whichever comes first; that of its
 * gradient from the first write on. */
Tensor *tape_tensor(Tape *tape, int ndim, const int64_t *shape);
Arena *tape_arena(Tape *tape);
void *tape_alloc(Tape *tape, size_t bytes);   /* what a node knows; lives until tape_reset */
void *tape_numbers(Tape *tape, size_t bytes); /* the same for arrays that a dry pass leaves alone */

/* Adds the node of an op whose output is y (NULL: none that needs a gradient). ctx is of
 * tape_alloc. Does nothing when the tape does not record. */
typedef void BackwardFn(Tape *tape, void *ctx);
void tape_push(Tape *tape, BackwardFn *backward, void *ctx, const Tensor *y);

/* The backward pass reads x's data, by tape_data (which may take memory from the tape). Else it is
 * given back when the forward pass needs it no more. */
void tape_keep(Tape *tape, Tensor *x);
const real *tape_data(Tape *tape, Tensor *x);
/* x's data may be given back even so: rebuild recomputes it. */
void tape_set_rebuild(Tape *tape, Tensor *x, BackwardFn *rebuild, void *ctx);

/* Clearing a gradient only to add to it costs passes over memory, so that of an op's output begins
 * unset, without memory. An op that writes all of its input's gradient asks tape_grad_out where it
 * goes, and whether it is added to what is there or stored; one that writes a part of it, or a
 * caller who puts the gradient of a loss into an op's output, gets it from tape_grad, cleared if it
 * was unset. NULL: none is wanted. Both may take memory from the tape. */
typedef struct GradOut {
    real *to;
    bool add;
} GradOut;
GradOut tape_grad_out(Tape *tape, Tensor *x);
real *tape_grad(Tape *tape, Tensor *x);
static inline bool tape_wants_grad(const Tensor *x) { return x->grad || x->grad_unset; }

/* From now on until tape_reset m of the n rows go on (op_rows), another number than n. Tensors of m
 * rows take the room of n: what those of n rows have given back serves them, and later the other
 * way round. */
void tape_narrow(Tape *tape, int64_t m, int64_t n);

/* --- for models ------------------------------------------------------------------------------- */

/* The forward pass needs x no more: its data is given back, unless a backward pass needs it and
 * cannot rebuild it. */
void tape_done(Tape *tape, Tensor *x);

/* Activation checkpointing (Chen et al. 2016): forward(ctx, x) replaces the n tensors in x, some of
 * which may be NULL, by what it makes of them. Of all its tensors only these are kept; the backward
 * pass runs it again. The same bits. ctx is of tape_alloc. */
enum { TAPE_CHECKPOINT_MAX = 2 };
typedef void CheckpointFn(Tape *tape, const void *ctx, Tensor **x);
void tape_checkpoint(Tape *tape, CheckpointFn *forward, const void *ctx, Tensor **x, int n);

/* Runs all nodes from the last to the first. The caller has put the gradient of the loss into the
 * last tensors through tape_grad() (terminal ops, see op_token_loss, have done so themselves).
 * Afterwards the gradients of parameters are complete; those of the tape's tensors are used up. */
void tape_backward(Tape *tape);

/* In backward passes fn(ctx) is called after every node: for work that must be moved on now and
 * then (messages between ranks). NULL: nothing. */
void tape_between(Tape *tape, void (*fn)(void *ctx), void *ctx);

#endif
