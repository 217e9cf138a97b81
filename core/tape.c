/* tape.c: an array of nodes, walked backwards. The array is kept over resets, so a steady state
 * allocates nothing. */
#include "core/tape.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

typedef struct Node {
    BackwardFn *backward;
    void *ctx;
} Node;

struct Tape {
    Arena *arena;
    bool record;
    Node *node;
    int n, cap;
};

Tape *tape_open(Arena *arena, bool record) {
    Tape *t = xcalloc(1, sizeof *t);
    t->arena = arena;
    t->record = record;
    return t;
}

void tape_close(Tape **tape) {
    if (!*tape) return;
    free((*tape)->node);
    free(*tape);
    *tape = NULL;
}

bool tape_records(const Tape *tape) {
    return tape->record;
}

Arena *tape_arena(Tape *tape) {
    return tape->arena;
}

Tensor *tape_tensor_unset(Tape *tape, int ndim, const int64_t *shape) {
    CHECK(ndim >= 1 && ndim <= TENSOR_MAX_DIM, "a tensor of %d dimensions", ndim);
    Tensor *t = arena_zalloc(tape->arena, sizeof *t);
    t->ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        CHECK(shape[d] >= 0, "dimension %d of a tensor is %lld", d, (long long)shape[d]);
        t->shape[d] = shape[d];
    }
    size_t bytes = (size_t)tensor_size(t) * sizeof(real);
    t->data = arena_alloc(tape->arena, bytes);
    if (tape->record) {
        t->grad = arena_alloc(tape->arena, bytes);
        t->grad_unset = true;
    }
    return t;
}

Tensor *tape_tensor(Tape *tape, int ndim, const int64_t *shape) {
    Tensor *t = tape_tensor_unset(tape, ndim, shape);
    tensor_grad(t);
    return t;
}

void *tape_alloc(Tape *tape, size_t bytes) {
    return arena_alloc(tape->arena, bytes);
}

void tape_push(Tape *tape, BackwardFn *backward, void *ctx) {
    if (!tape->record) return;
    if (tape->n == tape->cap) {
        tape->cap = tape->cap ? 2 * tape->cap : 256;
        tape->node = xrealloc(tape->node, (size_t)tape->cap * sizeof *tape->node);
    }
    tape->node[tape->n++] = (Node){backward, ctx};
}

void tape_backward(Tape *tape) {
    CHECK(tape->record, "tape_backward on a tape that does not record");
    while (tape->n > 0) {
        Node node = tape->node[--tape->n];
        node.backward(node.ctx);
    }
}

void tape_reset(Tape *tape) {
    tape->n = 0;
    arena_reset(tape->arena);
}
