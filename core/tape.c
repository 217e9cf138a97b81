/* tape.c: an array of nodes, walked backwards, and the memory of their tensors, which is lent and
 * given back: the same few buffers serve all layers. The arrays are kept over resets, so a steady
 * state allocates nothing. */
#include "core/tape.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

/* A tensor of a tape, which only the tape sees as what it is. */
typedef struct Lent {
    Tensor tensor; /* first, so that a pointer to it is one to this */
    size_t room;   /* bytes of data, and of its gradient */
    bool kept;     /* a backward pass reads data */
    bool own_grad; /* grad is the tape's */
    BackwardFn *rebuild;
    void *rebuild_ctx;
} Lent;

typedef struct TapeNode {
    BackwardFn *backward;
    void *ctx;
    const Tensor *y;
    int tensors; /* of this and all earlier nodes */
} TapeNode;

typedef struct TapeBuffer {
    void *p;
    size_t bytes;
} TapeBuffer;

struct Tape {
    Arena *arena;
    bool record, backward;
    TapeNode *node;
    Lent **tensor;      /* in the order they were made */
    TapeBuffer *buffer; /* given back */
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

bool tape_dry(const Tape *tape) { return tape->arena->dry; }

Arena *tape_arena(Tape *tape) { return tape->arena; }

void *tape_alloc(Tape *tape, size_t bytes) { return arena_alloc(tape->arena, bytes); }

void *tape_numbers(Tape *tape, size_t bytes) { return arena_numbers(tape->arena, bytes); }

void tape_reset(Tape *tape) {
    tape->n = tape->ntensor = tape->nbuffer = 0;
    tape->rows = -1;
    arena_reset(tape->arena);
}

/* Room for one more in an array. */
static void *grow(void *v, int n, int *cap, size_t each) {
    if (n < *cap) return v;
    *cap = *cap ? 2 * *cap : 256;
    return xrealloc(v, (size_t)*cap * each);
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* Of what has been given back the smallest that is large enough, but not more than twice as large;
 * in a forward pass that keeps what it takes not even a third larger: a layer's 4 C would serve the
 * next one as 3 C. */
static void *take(Tape *tape, size_t bytes) {
    CHECK(tape->arena->marks == 0, "memory is taken from the tape between a mark and its release");
    size_t slack = tape->record && !tape->backward ? bytes / 4 : bytes;
    int best = -1;
    for (int i = 0; i < tape->nbuffer; i++) {
        size_t b = tape->buffer[i].bytes;
        if (b >= bytes && b - bytes <= slack && (best < 0 || b < tape->buffer[best].bytes))
            best = i;
    }
    if (best < 0) return arena_numbers(tape->arena, bytes);
    void *p = tape->buffer[best].p;
    tape->buffer[best] = tape->buffer[--tape->nbuffer];
    return p;
}

static void give(Tape *tape, void *buffer, size_t bytes) {
    tape->buffer = grow(tape->buffer, tape->nbuffer, &tape->buffer_cap, sizeof *tape->buffer);
    tape->buffer[tape->nbuffer++] = (TapeBuffer){buffer, bytes};
}

static void give_data(Tape *tape, Lent *x) {
    if (x->tensor.data) give(tape, x->tensor.data, x->room);
    x->tensor.data = NULL;
}

static void give_grad(Tape *tape, Lent *x) {
    if (x->own_grad) give(tape, x->tensor.grad, x->room);
    x->tensor.grad = NULL;
    x->own_grad = false;
}

static Lent *lent(Tensor *x) { return x->lent ? (Lent *)x : NULL; }

Tensor *tape_tensor(Tape *tape, int ndim, const int64_t *shape) {
    CHECK(ndim >= 1 && ndim <= TENSOR_MAX_DIM, "a tensor of %d dimensions", ndim);
    Lent *l = arena_zalloc(tape->arena, sizeof *l);
    Tensor *t = &l->tensor;
    t->ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        CHECK(shape[d] >= 0, "dimension %d of a tensor is %lld", d, (long long)shape[d]);
        t->shape[d] = shape[d];
    }
    l->room = (size_t)tensor_size(t) * sizeof(real);
    if (shape[0] > 0 && shape[0] == tape->rows)
        l->room = l->room / (size_t)shape[0] * (size_t)tape->room_rows;
    t->data = take(tape, l->room);
    t->grad_unset = tape->record;
    t->lent = true;
    tape->tensor = grow(tape->tensor, tape->ntensor, &tape->tensor_cap, sizeof *tape->tensor);
    tape->tensor[tape->ntensor++] = l;
    return t;
}

void tape_narrow(Tape *tape, int64_t m, int64_t n) {
    tape->rows = m;
    tape->room_rows = n;
}

void tape_keep(Tape *tape, Tensor *x) {
    if (tape->record && x->lent) lent(x)->kept = true;
}

void tape_set_rebuild(Tape *tape, Tensor *x, BackwardFn *rebuild, void *ctx) {
    if (!tape->record) return;
    lent(x)->rebuild = rebuild;
    lent(x)->rebuild_ctx = ctx;
}

void tape_done(Tape *tape, Tensor *x) {
    Lent *l = lent(x);
    if (l && (!l->kept || l->rebuild)) give_data(tape, l);
}

const real *tape_data(Tape *tape, Tensor *x) {
    if (x->data) return x->data;
    Lent *l = lent(x);
    CHECK(l && l->rebuild, "a tensor's data is wanted that was given back and cannot be rebuilt");
    x->data = take(tape, l->room);
    l->rebuild(tape, l->rebuild_ctx);
    l->rebuild = NULL; /* it stays until the backward pass of the op that made it is over */
    return x->data;
}

static void lend_grad(Tape *tape, Tensor *x) {
    Lent *l = lent(x);
    if (x->grad || !l) return;
    x->grad = take(tape, l->room);
    l->own_grad = true;
}

GradOut tape_grad_out(Tape *tape, Tensor *x) {
    const bool add = !x->grad_unset;
    if (x->grad_unset) lend_grad(tape, x);
    x->grad_unset = false;
    return (GradOut){x->grad, add};
}

real *tape_grad(Tape *tape, Tensor *x) {
    if (x->grad_unset) lend_grad(tape, x);
    if (tape_dry(tape)) x->grad_unset = false;
    return tensor_grad(x);
}

/* --- nodes ------------------------------------------------------------------------------------ */

void tape_push(Tape *tape, BackwardFn *backward, void *ctx, const Tensor *y) {
    if (!tape->record) return;
    tape->node = grow(tape->node, tape->n, &tape->cap, sizeof *tape->node);
    tape->node[tape->n++] = (TapeNode){backward, ctx, y, tape->ntensor};
}

void tape_between(Tape *tape, void (*fn)(void *ctx), void *ctx) {
    tape->between = fn;
    tape->between_ctx = ctx;
}

/* Back to the first `mark` nodes. */
static void backward_to(Tape *tape, int mark) {
    bool nested = tape->backward; /* activation checkpointing */
    tape->backward = true;
    while (tape->n > mark) {
        TapeNode node = tape->node[--tape->n];
        CHECK(!node.y || !node.y->grad_unset, "the output %s of an op has no gradient",
              text_shape(node.y->ndim, node.y->shape));
        node.backward(tape, node.ctx);
        int before = tape->n ? tape->node[tape->n - 1].tensors : 0;
        for (int i = before; i < node.tensors; i++) {
            give_data(tape, tape->tensor[i]);
            give_grad(tape, tape->tensor[i]);
        }
        tape->ntensor = before;
        if (tape->between) tape->between(tape->between_ctx);
    }
    tape->backward = nested;
}

void tape_backward(Tape *tape) {
    CHECK(tape->record, "tape_backward on a tape that does not record");
    backward_to(tape, 0);
}

/* --- activation checkpointing ----------------------------------------------------------------- */

typedef struct Segment {
    CheckpointFn *forward;
    const void *ctx;
    int n;
    Tensor *in[TAPE_CHECKPOINT_MAX], *out[TAPE_CHECKPOINT_MAX];
} Segment;

static void move_grad(Lent *to, Lent *from) {
    if (to == from) return; /* a tensor that goes through unchanged */
    to->tensor.grad = from->tensor.grad;
    to->tensor.grad_unset = from->tensor.grad_unset;
    to->own_grad = from->own_grad;
    from->tensor.grad = NULL;
    from->own_grad = false;
}

static void segment_backward(Tape *tape, void *ctx) {
    const Segment *s = ctx;
    Tensor *x[TAPE_CHECKPOINT_MAX];
    const int mark = tape->n;
    memcpy(x, s->in, sizeof x);
    s->forward(tape, s->ctx, x);
    for (int i = 0; i < s->n; i++) move_grad(lent(x[i]), lent(s->out[i]));
    backward_to(tape, mark);
}

void tape_checkpoint(Tape *tape, CheckpointFn *forward, const void *ctx, Tensor **x, int n) {
    CHECK(n <= TAPE_CHECKPOINT_MAX, "a segment of %d tensors", n);
    const bool record = tape->record;
    Segment *s = tape_alloc(tape, sizeof *s);
    *s = (Segment){.forward = forward, .ctx = ctx, .n = n};
    for (int i = 0; i < n; i++) {
        s->in[i] = x[i];
        if (x[i]) tape_keep(tape, x[i]);
    }
    tape->record = false;
    forward(tape, ctx, x);
    tape->record = record;
    for (int i = 0; i < n; i++) {
        s->out[i] = x[i];
        x[i]->grad_unset = record;
    }
    tape_push(tape, segment_backward, s, NULL);
}
