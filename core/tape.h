/* tape.h: automatic differentiation. An op computes at once and, when the tape records, adds a
 * node that knows how to push the gradient of its output back to its inputs. Nodes lie in creation
 * order, which is a topological order, so backward is one reversed walk. */
#ifndef CORE_TAPE_H
#define CORE_TAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/tensor.h"

/* Makes a tape whose tensors and nodes live in `arena` (the caller's; not freed by the tape).
 * record = false: inference: no nodes, no gradients. */
Tape *tape_open(Arena *arena, bool record);
void tape_close(Tape **tape); /* accepts NULL, nulls the pointer */
bool tape_records(const Tape *tape);

/* A new tensor of the tape; data is not cleared; it has no gradient unless the tape records, and
 * then an unset one (tensor.h): a caller who adds a loss's gradient to an op's output takes it from
 * tensor_grad(). Data and gradient are lent until tape_reset or until the backward pass of the node
 * that is pushed next is over, whichever comes first; gradients from the first write on. */
Tensor *tape_tensor(Tape *tape, int ndim, const int64_t *shape);
Arena *tape_arena(Tape *tape);
void *tape_alloc(Tape *tape, size_t bytes); /* scratch that lives until tape_reset */

/* The forward pass needs x no more: its data is given back, unless a backward pass needs it
 * (tensor_keep) and cannot rebuild it. */
void tape_done(Tape *tape, Tensor *x);

/* Memory that others have given back, or new: the same few buffers serve all layers. Lives until
 * tape_reset at most. Not between arena_mark and arena_release. */
void *tape_take(Tape *tape, size_t bytes);
void tape_give(Tape *tape, void *buffer, size_t bytes);

/* From now on until tape_reset m of the n rows go on (op_rows), another number than n. Tensors of m
 * rows take the room of n: what those of n rows have given back serves them, and later the other
 * way round. */
void tape_narrow(Tape *tape, int64_t m, int64_t n);

/* Adds a node. `ctx` is arena memory. No-op when the tape does not record. */
typedef void BackwardFn(void *ctx);
void tape_push(Tape *tape, BackwardFn *backward, void *ctx);

/* Runs all nodes from the last to the first. The caller has put the gradient of the loss into the
 * last tensors through tensor_grad() (terminal ops, see op_token_loss, have done so themselves).
 * Afterwards the gradients of parameters are complete; those of the tape's tensors are used up. */
void tape_backward(Tape *tape);

/* In backward passes fn(ctx) is called after every node: for work that must be moved on now and
 * then (messages between ranks). NULL: nothing. */
void tape_between(Tape *tape, void (*fn)(void *ctx), void *ctx);

/* For ops that are made of others and compute them again in the backward pass: tape_record says
 * whether nodes are added from now on, and returns what was; tape_backward_to goes back to a mark.
 */
bool tape_record(Tape *tape, bool record);
int tape_mark(const Tape *tape);
void tape_backward_to(Tape *tape, int mark);

void tape_reset(Tape *tape); /* forgets nodes and resets the arena */

#endif
