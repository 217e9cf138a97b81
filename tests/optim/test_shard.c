/* Sums of gradients over the ranks and sharding, against one process that adds and updates
 * everything: the same bits. Every rank makes the gradients of all ranks from a formula. */
/* ranks: 1 2 3 4 6 8 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/error.h"
#include "core/kernel.h"
#include "optim/optim.h"

#include <math.h>
#include <string.h>

static Comm *comm;

/* Parts smaller than a block, of several blocks that do not divide, and of one block; buffers of
 * parts 1 and 3 are shared and differ in size. */
static void make_params(ParamSet *ps, bool throughout) {
    *ps = (ParamSet){0};
    paramset_part(ps, throughout);
    paramset_add(ps, "a", 1, (int64_t[]){3}, false);
    paramset_add(ps, "b", 2, (int64_t[]){251, 301}, true);
    paramset_part(ps, false);
    paramset_add(ps, "c", 1, (int64_t[]){140001}, true);
    paramset_part(ps, false);
    paramset_add(ps, "d", 1, (int64_t[]){20001}, true);
    paramset_add(ps, "e", 1, (int64_t[]){17}, false);
    paramset_part(ps, false);
    paramset_add(ps, "f", 1, (int64_t[]){33000}, false);
    paramset_add(ps, "g", 1, (int64_t[]){9}, false);
    paramset_part(ps, false);
    paramset_add(ps, "h", 1, (int64_t[]){65}, false);
    paramset_alloc(ps, true);
    for (int k = 0; k < ps->n; k++)
        for (int64_t i = 0; i < tensor_size(&ps->v[k].tensor); i++)
            ps->v[k].tensor.data[i] = (real)sin((double)(i + 7 * k));
}

/* The gradient that pass `pass` of step `step` on `rank` adds to element i: values of very
 * different sizes, so that another order gives other bits. */
static real value(int rank, int step, int pass, int64_t i) {
    uint64_t x = (uint64_t)i * 0x9E3779B97F4A7C15u + (uint64_t)rank * 0xBF58476D1CE4E5B9u +
                 (uint64_t)(100 * step + pass + 1) * 0x94D049BB133111EBu;
    x ^= x >> 29;
    x *= 0x94D049BB133111EBu;
    x ^= x >> 32;
    return (real)ldexp((double)(x >> 12) * 0x1p-51 - 1.0, (int)(x & 15) - 12);
}

/* The ranks make different numbers of passes, some none. */
static int passes(int rank, int step) {
    static const int n[3][4] = {{1, 1, 1, 1}, {3, 1, 0, 2}, {0, 2, 2, 5}};
    return n[step][rank % 4];
}

static void add_values(ParamSet *ps, int part, int step, int pass) {
    for (int k = ps->part[part].first; k < ps->n && ps->v[k].offset < paramset_part_end(ps, part);
         k++) {
        Param *p = &ps->v[k];
        real *grad = tensor_grad(&p->tensor);
        for (int64_t i = 0; i < tensor_size(&p->tensor); i++)
            grad[i] += value(comm_rank(comm), step, pass, p->offset + i);
    }
}

/* As a model's: what is written to throughout is written to first, its end is reached last. */
static void backward(Grads *g, ParamSet *ps, int step, int pass) {
    const bool throughout = ps->part[0].throughout;
    if (throughout) add_values(ps, 0, step, pass);
    for (int k = ps->nparts - 1; k >= 0; k--) {
        if (k > 0 || !throughout) add_values(ps, k, step, pass);
        grads_part_done(g, k);
        exchange_progress_all(comm);
    }
}

/* Of the ranks [begin, end), in the order of comm.h; pass -1: the sum of a rank's passes. */
static real tree(int begin, int end, int step, int pass, int64_t i) {
    if (end - begin == 1) {
        if (pass >= 0) return pass < passes(begin, step) ? value(begin, step, pass, i) : 0;
        real sum = 0;
        for (int k = 0; k < passes(begin, step); k++) sum += value(begin, step, k, i);
        return sum;
    }
    int half = 1;
    while (2 * half < end - begin) half *= 2;
    return tree(begin, begin + half, step, pass, i) + tree(begin + half, end, step, pass, i);
}

static void expected_sums(ParamSet *ps, int kind, int step) {
    const int size = comm_size(comm);
    for (int k = 0; k < ps->n; k++) {
        Param *p = &ps->v[k];
        const bool by_pass = kind == SHARD_GRADIENTS && size > 1 &&
                             !(ps->part[0].throughout && p->offset < ps->part[1].offset);
        for (int64_t i = 0; i < tensor_size(&p->tensor); i++) {
            real *sum = &p->tensor.grad[i];
            const int64_t at = p->offset + i;
            *sum = 0;
            for (int pass = 0; by_pass && pass < 5; pass++) *sum += tree(0, size, step, pass, at);
            if (!by_pass) *sum = tree(0, size, step, -1, at);
        }
    }
}

static void same(const real *a, const real *b, int64_t n, const char *what, int kind, int step) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("dist.shard %d, step %d: %s[%lld] is %a, expected %a", kind, step, what,
                     (long long)i, (double)a[i], (double)b[i]);
}

static void steps(int kind, bool throughout) {
    ParamSet ps, want;
    make_params(&ps, throughout);
    make_params(&want, throughout);
    Grads *g;
    AdamW a, b;
    grads_open(&g, &ps, comm, kind);
    const Shard *shard = grads_shard(g);
    adamw_init(&a, &ps, shard, 0.9, 0.95, 1e-8, 0.1);
    adamw_init(&b, &want, NULL, 0.9, 0.95, 1e-8, 0.1);
    for (int step = 0; step < 3; step++) {
        const int n = passes(comm_rank(comm), step);
        for (int pass = 0; pass < n; pass++) {
            if (pass == n - 1 && step < 2) grads_last_pass(g); /* else all is left to the end */
            backward(g, &ps, step, pass);
        }
        expected_sums(&want, kind, step);
        grads_finish(g);
        const double norm = grads_norm(g), scale = grad_clip_scale(grad_norm(&want), 1);
        assert_true(norm == grad_norm(&want));
        adamw_begin(&a);
        for (int k = 0; k < ps.nparts; k++) {
            adamw_part(&a, &ps, k, 0.01, scale);
            grads_updated(g, k);
        }
        adamw_update(&b, &want, 0.01, scale);
        grads_end(g);
        same(ps.data, want.data, ps.size, "w", kind, step);
        for (int k = 0; k < shard->n; k++) {
            const Share *s = &shard->v[k];
            const int64_t size = s->end - s->begin;
            same(a.m + s->at, b.m + s->begin, size, "m", kind, step);
            same(a.v + s->at, b.v + s->begin, size, "v", kind, step);
        }
    }
    adamw_free(&a);
    adamw_free(&b);
    grads_close(&g);
    paramset_free(&ps);
    paramset_free(&want);
}

static void test_steps(void **state) {
    for (int kind = SHARD_NONE; kind <= SHARD_GRADIENTS; kind++) {
        steps(kind, true);
        steps(kind, false);
    }
}

/* A gradient that is not finite anywhere is seen by every rank, and leaves nothing behind. */
static void test_not_finite(void **state) {
    for (int kind = SHARD_NONE; kind <= SHARD_GRADIENTS; kind++) {
        ParamSet ps;
        make_params(&ps, true);
        Grads *g;
        grads_open(&g, &ps, comm, kind);
        for (int step = 0; step < 2; step++) {
            tensor_grad(&ps.v[1].tensor)[5] = 3;
            for (int k = ps.nparts - 1; k >= 0; k--) {
                for (int p = 0; p < ps.n; p++)
                    if (step == 0 && k == 1 && p == 2 && comm_rank(comm) == comm_size(comm) - 1)
                        tensor_grad(&ps.v[p].tensor)[70000] = (real)NAN;
                grads_part_done(g, k);
            }
            grads_finish(g);
            const double norm = grads_norm(g);
            assert_true(step == 0 ? isnan(norm) : norm == 3 * comm_size(comm));
            grads_end(g);
        }
        grads_close(&g);
        paramset_free(&ps);
    }
}

/* Shards are a partition, of every parameter too, and even. */
static void test_shards(void **state) {
    ParamSet ps;
    make_params(&ps, true);
    for (int ranks = 1; ranks <= 9; ranks++) {
        int64_t next[16] = {0};
        size_t most = 0;
        for (int r = 0; r < ranks; r++) {
            Shard s;
            shard_open(&s, &ps, r, ranks);
            int64_t n = 0;
            for (int k = 0; k < s.n; k++) {
                assert_true(s.v[k].begin >= ps.part[k].offset);
                assert_true(s.v[k].end <= paramset_part_end(&ps, k));
                assert_int_equal(s.v[k].begin % 16, 0);
                assert_int_equal(s.v[k].at, n);
                n += s.v[k].end - s.v[k].begin;
            }
            assert_int_equal(s.size, n);
            for (int p = 0; p < ps.n; p++) {
                int64_t begin, end;
                shard_of_param(&s, &ps, p, &begin, &end);
                if (begin == end) continue;
                next[p] += end - begin; /* that they do not overlap: test_comm */
            }
            if ((size_t)n > most) most = (size_t)n;
            shard_close(&s);
        }
        for (int p = 0; p < ps.n; p++) assert_int_equal(next[p], tensor_size(&ps.v[p].tensor));
        const size_t exchange = exchange_bytes(ranks), size = (size_t)ps.size;
        const OptimBytes none = optim_bytes(&ps, SHARD_NONE, ranks, false),
                         shared = optim_bytes(&ps, SHARD_OPTIMIZER, ranks, false);
        assert_int_equal(none.weights + none.gradients + none.moments, 4 * size * sizeof(real));
        assert_int_equal(shared.weights + shared.gradients, 2 * size * sizeof(real));
        assert_int_equal(shared.moments, 2 * most * sizeof(real));
        assert_int_equal(none.exchange, exchange);
    }
    paramset_free(&ps);
}

int main(int argc, char **argv) {
    core_init();
    /* 4: one group of all; 6: three of two; 8: four of two, as if they were nodes */
    if (comm_launch_size() == 8) setenv("RHETOR_GROUP", "2", 1);
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_shards),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
