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
bool tape_records(const Tape *tape);

/* A new tensor of the tape; data is not cleared; grad is allocated and cleared when the tape
 * records, else NULL. tape_tensor_unset leaves grad uncleared and marks it so (tensor.h); the
 * outputs of ops are such: a caller who adds a loss's gradient to one takes it from tensor_grad().
 */
Tensor *tape_tensor(Tape *tape, int ndim, const int64_t *shape);
Tensor *tape_tensor_unset(Tape *tape, int ndim, const int64_t *shape);
Arena *tape_arena(Tape *tape);
void *tape_alloc(Tape *tape, size_t bytes); /* scratch that lives until tape_reset */

/* Adds a node. `ctx` is arena memory. No-op when the tape does not record. */
typedef void BackwardFn(void *ctx);
void tape_push(Tape *tape, BackwardFn *backward, void *ctx);

/* Runs all nodes from the last to the first. The caller has put the gradient of the loss into the
 * last tensors through tensor_grad() (terminal ops, see op_token_loss, have done so themselves).
 * Afterwards the gradients of parameters are complete; those of the tape's tensors are used up. */
void tape_backward(Tape *tape);

void tape_reset(Tape *tape); /* forgets nodes and resets the arena */

#endif
