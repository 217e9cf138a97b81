/* tape.c: an array of nodes, walked backwards, and the memory of their tensors, which is lent and
 * given back. The arrays are kept over resets, so a steady state allocates nothing. */
#include "core/tape.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

typedef struct Node {
    BackwardFn *backward;
    void *ctx;
    int tensors; /* of this and all earlier nodes */
} Node;

typedef struct Buffer {
    void *p;
    size_t bytes;
} Buffer;

struct Tape {
    Arena *arena;
    bool record, backward;
    Node *node;
    Tensor **tensor; /* in the order they were made */
    Buffer *buffer;  /* given back */
    int n, cap, ntensor, tensor_cap, nbuffer, buffer_cap;
    int64_t rows, room_rows; /* tape_narrow */
    void (*between)(void *ctx);
    void *between_ctx;
};

Tape *tape_open(Arena *arena, bool record) {
    Tape *t = xcalloc(1, sizeof *t);
    t->arena = arena;
    t->record = record;
    t->rows = -1;
    return t;
}

void tape_close(Tape **tape) {
    if (!*tape) return;
    free((*tape)->node);
    free((*tape)->tensor);
    free((*tape)->buffer);
    free(*tape);
    *tape = NULL;
}

bool tape_records(const Tape *tape) { return tape->record; }

Arena *tape_arena(Tape *tape) { return tape->arena; }

/* Room for one more in an array. */
static void *grow(void *v, int n, int *cap, size_t each) {
    if (n < *cap) return v;
    *cap = *cap ? 2 * *cap : 256;
    return xrealloc(v, (size_t)*cap * each);
}

/* The smallest that is large enough, but not more than twice as large; in a forward pass that keeps
 * what it takes not even a third larger: a layer's 4 C would serve the next one as 3 C. */
void *tape_take(Tape *tape, size_t bytes) {
    CHECK(tape->arena->marks == 0, "memory is taken from the tape between a mark and its release");
    size_t slack = tape->record && !tape->backward ? bytes / 4 : bytes;
    int best = -1;
    for (int i = 0; i < tape->nbuffer; i++) {
        size_t b = tape->buffer[i].bytes;
        if (b >= bytes && b - bytes <= slack && (best < 0 || b < tape->buffer[best].bytes))
            best = i;
    }
    if (best < 0) return arena_alloc(tape->arena, bytes);
    void *p = tape->buffer[best].p;
    tape->buffer[best] = tape->buffer[--tape->nbuffer];
    return p;
}

void tape_narrow(Tape *tape, int64_t m, int64_t n) {
    tape->rows = m;
    tape->room_rows = n;
}

void tape_give(Tape *tape, void *buffer, size_t bytes) {
    tape->buffer = grow(tape->buffer, tape->nbuffer, &tape->buffer_cap, sizeof *tape->buffer);
    tape->buffer[tape->nbuffer++] = (Buffer){buffer, bytes};
}

Tensor *tape_tensor(Tape *tape, int ndim, const int64_t *shape) {
    CHECK(ndim >= 1 && ndim <= TENSOR_MAX_DIM, "a tensor of %d dimensions", ndim);
    Tensor *t = arena_zalloc(tape->arena, sizeof *t);
    t->ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        CHECK(shape[d] >= 0, "dimension %d of a tensor is %lld", d, (long long)shape[d]);
        t->shape[d] = shape[d];
    }
    t->tape = tape;
    t->room = (size_t)tensor_size(t) * sizeof(real);
    if (shape[0] > 0 && shape[0] == tape->rows)
        t->room = t->room / (size_t)shape[0] * (size_t)tape->room_rows;
    t->data = tape_take(tape, t->room);
    t->grad_unset = tape->record;
    tape->tensor = grow(tape->tensor, tape->ntensor, &tape->tensor_cap, sizeof *tape->tensor);
    tape->tensor[tape->ntensor++] = t;
    return t;
}

static void give_data(Tape *tape, Tensor *x) {
    if (x->data) tape_give(tape, x->data, x->room);
    x->data = NULL;
}

void tape_done(Tape *tape, Tensor *x) {
    if (x->tape == tape && (!x->kept || x->rebuild)) give_data(tape, x);
}

void *tape_alloc(Tape *tape, size_t bytes) { return arena_alloc(tape->arena, bytes); }

void tape_push(Tape *tape, BackwardFn *backward, void *ctx) {
    if (!tape->record) return;
    tape->node = grow(tape->node, tape->n, &tape->cap, sizeof *tape->node);
    tape->node[tape->n++] = (Node){backward, ctx, tape->ntensor};
}

void tape_between(Tape *tape, void (*fn)(void *ctx), void *ctx) {
    tape->between = fn;
    tape->between_ctx = ctx;
}

int tape_mark(const Tape *tape) { return tape->n; }

bool tape_record(Tape *tape, bool record) {
    bool before = tape->record;
    tape->record = record;
    return before;
}

void tape_backward(Tape *tape) { tape_backward_to(tape, 0); }

void tape_backward_to(Tape *tape, int mark) {
    CHECK(tape->record, "tape_backward on a tape that does not record");
    bool nested = tape->backward; /* recompute */
    tape->backward = true;
    while (tape->n > mark) {
        Node node = tape->node[--tape->n];
        node.backward(node.ctx);
        int before = tape->n ? tape->node[tape->n - 1].tensors : 0;
        for (int i = before; i < node.tensors; i++) {
            Tensor *x = tape->tensor[i];
            give_data(tape, x);
            if (x->lent_grad) tape_give(tape, x->grad, x->room);
            x->grad = NULL;
            x->lent_grad = false;
        }
        tape->ntensor = before;
        if (tape->between) tape->between(tape->between_ctx);
    }
    tape->backward = nested;
}

void tape_reset(Tape *tape) {
    tape->n = tape->ntensor = tape->nbuffer = 0;
    tape->rows = -1;
    arena_reset(tape->arena);
}
