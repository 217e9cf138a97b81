/* op_rope.c: rotary position embedding (Su et al. 2021), pairs as Hugging Face has them: column j
 * of a head with column j + m, m half the columns that are rotated.
 *
 *   forward   y_j = x_j cos a - x_{j+m} sin a,  y_{j+m} = x_{j+m} cos a + x_j sin a,
 *             a = p f_j,  p the position in the sequence,  f_j = theta^(-j/m), j < m
 *   backward  the rotation by -a
 *
 * Llama 3 stretches the frequencies (Dubey et al. 2024): with w = 2 pi / f, the wave length, and
 * L the context before, f is kept where w < L / high, divided by `factor` where w > L / low, and
 * in between the two are mixed by (L / w - low) / (high - low). */
#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK_ROWS = 16 };

static double frequency(const RopeConfig *c, int64_t j, int64_t m) {
    double f = pow(c->theta, -(double)j / (double)m);
    if (c->factor == 0) return f;
    double waves = (double)c->original * f / (2 * M_PI); /* in the context before */
    double keep = (waves - c->low) / (c->high - c->low);
    keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
    return keep * f + (1 - keep) * f / c->factor;
}

void rope_open(Rope *r, const RopeConfig *c, int64_t positions) {
    int64_t columns = c->columns ? c->columns : c->head, m = columns / 2;
    CHECK(columns > 0 && columns <= c->head && columns % 2 == 0,
          "rope: %lld of a head's %lld columns are rotated, expected an even number",
          (long long)columns, (long long)c->head);
    *r = (Rope){.head = c->head, .half = m, .positions = positions};
    r->cos = xmalloc((size_t)(2 * positions * m) * sizeof(real));
    r->sin = r->cos + positions * m;
    for (int64_t j = 0; j < m; j++) {
        double f = frequency(c, j, m);
        for (int64_t p = 0; p < positions; p++) {
            r->cos[p * m + j] = (real)cos((double)p * f);
            r->sin[p * m + j] = (real)sin((double)p * f);
        }
    }
}

void rope_free(Rope *r) {
    free(r->cos);
    *r = (Rope){0};
}

/* y = the heads of x rotated (sign 1) or rotated back (-1) and the `rest` columns after them as they
 * are, y += when `add`. y may be x. */
KERNEL(rotate,
       (int64_t heads, int64_t d, int64_t m, int64_t rest, real sign, const real *c, const real *s,
        const real *x, bool add, real *y),
       (heads, d, m, rest, sign, c, s, x, add, y)) {
    for (int64_t h = 0; h < heads; h++, x += d, y += d) {
#pragma omp simd
        for (int64_t j = 0; j < m; j++) {
            real a = x[j], b = x[j + m], si = sign * s[j];
            real u = a * c[j] - b * si, v = b * c[j] + a * si;
            y[j] = add ? y[j] + u : u;
            y[j + m] = add ? y[j + m] + v : v;
        }
#pragma omp simd
        for (int64_t j = 2 * m; j < d; j++) y[j] = add ? y[j] + x[j] : x[j];
    }
#pragma omp simd
    for (int64_t j = 0; j < rest; j++) y[j] = add ? y[j] + x[j] : x[j];
}

void rope_rotate(const Rope *r, int64_t position, int64_t heads, real *x) {
    CHECK(position < r->positions, "rope: position %lld of %lld", (long long)position,
          (long long)r->positions);
    const real *c = r->cos + position * r->half, *s = r->sin + position * r->half;
    rotate(heads, r->head, r->half, 0, 1, c, s, x, false, x);
}

typedef struct Rotation {
    Tensor *x, *y;
    const Rope *rope;
    int64_t heads;
    int64_t *position; /* [n] */
} Rotation;

static void all_rows(const Rotation *o, real sign, const real *x, bool add, real *y) {
    const Rope *r = o->rope;
    int64_t n = o->y->shape[0], W = o->y->shape[1], rest = W - o->heads * r->head, m = r->half;
#pragma omp parallel for schedule(static, BLOCK_ROWS) if (n * W > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = o->position[i] * m;
        rotate(o->heads, r->head, m, rest, sign, r->cos + at, r->sin + at, x + i * W, add,
               y + i * W);
    }
}

static void rope_backward(Tape *t, void *ctx) {
    const Rotation *o = ctx;
    const GradOut dx = tape_grad_out(t, o->x);
    if (!dx.to || tape_dry(t)) return;
    all_rows(o, -1, o->y->grad, dx.add, dx.to);
}

Tensor *op_rope(Tape *t, Tensor *x, const Batch *b, const Rope *rope, int heads) {
    CHECK(
        x->ndim == 2 && x->shape[0] == b->n && heads * rope->head <= x->shape[1],
        "op_rope: x has %d dimensions, the first %lld, the last %lld, expected 2, %lld tokens and "
        "at least %d heads of %lld",
        x->ndim, (long long)x->shape[0], (long long)x->shape[x->ndim - 1], (long long)b->n, heads,
        (long long)rope->head);
    Rotation *o = tape_alloc(t, sizeof *o);
    *o = (Rotation){x, tape_tensor(t, 2, x->shape), rope, heads,
                    tape_numbers(t, (size_t)b->n * sizeof(int64_t))};
    tape_push(t, rope_backward, o, o->y);
    for (int64_t s = 0; s < b->nseq; s++) {
        int64_t T = b->start[s + 1] - b->start[s];
        CHECK(T <= rope->positions, "op_rope: a sequence of %lld tokens, the table has %lld",
              (long long)T, (long long)rope->positions);
        for (int64_t i = 0; i < T && !tape_dry(t); i++) o->position[b->start[s] + i] = i;
    }
    if (tape_dry(t)) return o->y;
    all_rows(o, 1, x->data, false, o->y->data);
    return o->y;
}

/* The tables live to the end of the program. */
static double rope_run(Tape *t, const GradCase *c) {
    static const RopeConfig configs[] = {
        {.head = 6, .theta = 100},
        {.head = 12, .columns = 4, .theta = 1e4},
        {.head = 6, .theta = 100, .factor = 8, .low = 1, .high = 4, .original = 64},
    };
    static Rope ropes[3];
    Rope *rope = &ropes[c->variant];
    if (!rope->cos) rope_open(rope, &configs[c->variant], 140);
    double loss = gradcheck_project(t, op_rope(t, c->in[0], c->extra, rope, 3));
    return c->variant ? loss : loss + gradcheck_project(t, op_rope(t, c->in[0], c->extra, rope, 2));
}

bool op_rope_case(GradCase *c, int i) {
    static const int64_t start[] = {0, 3, 4, 4, 11}, long_start[] = {0, 5, 140, 205};
    static const Batch packs[] = {{.n = 11, .nseq = 4, .start = start},
                                  {.n = 205, .nseq = 3, .start = long_start}};
    static const char *const what[] = {"whole heads, used twice", "a third of a head",
                                       "stretched frequencies, long sequences"};
    if (i >= 3) return false;
    c->extra = &packs[i == 2];
    c->variant = i;
    c->what = what[i];
    gradcheck_input(c, 2, (int64_t[]){packs[i == 2].n, i == 1 ? 3 * 12 : 23});
    c->run = rope_run;
    return true;
}
