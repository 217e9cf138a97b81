/* Muon against NumPy's values in double (tests/golden/muon.json, made by muon_golden.py); the same
 * bits for any threads, any ranks and dist.shard. */
/* ranks: 1 2 3 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/error.h"
#include "base/json.h"
#include "core/kernel.h"
#include "optim/optim.h"

#include <math.h>
#include <omp.h>
#include <string.h>

static Comm *comm;
static const AdamW muon = {
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = 0.1, .muon = true, .momentum = 0.95};

static void add(ParamSet *ps, const char *name, int64_t rows, int64_t cols, int matrices) {
    const int p = paramset_add(ps, name, cols ? 2 : 1, (int64_t[]){rows, cols}, cols > 0);
    ps->v[p].matrices = matrices;
}

/* --- the golden values ------------------------------------------------------------------------ */

static double at(const json_t *object, const char *key, int64_t i) {
    return json_number_value(json_array_get(json_object_get(object, key), (size_t)i));
}

static void load(const json_t *object, const Param *p, real *out) {
    for (int64_t i = 0; i < tensor_size(&p->tensor); i++) out[i] = (real)at(object, p->name, i);
}

/* |got - want| / |want|, of the whole parameter, is at most 1e-6. */
static void compare(const char *what, const json_t *object, const Param *p, const real *got) {
    double gap = 0, norm = 0;
    assert_int_equal(json_array_size(json_object_get(object, p->name)), tensor_size(&p->tensor));
    for (int64_t i = 0; i < tensor_size(&p->tensor); i++) {
        const double want = at(object, p->name, i);
        gap += pow((double)got[i] - want, 2);
        norm += want * want;
    }
    if (!(sqrt(gap / norm) <= (sizeof(real) == 8 ? 1e-13 : 1e-6)))
        fail_msg("%s of %s: a relative error of %g", what, p->name, sqrt(gap / norm));
}

static void test_golden(void **state) {
    json_t *golden;
    assert_int_equal(json_read_file(&golden, "tests/golden/muon.json"), 0);
    ParamSet ps = {0};
    const char *name;
    json_t *shape;
    json_object_foreach(json_object_get(golden, "shapes"), name, shape)
        add(&ps, name, json_integer_value(json_array_get(shape, 0)),
            json_integer_value(json_array_get(shape, 1)),
            (int)json_integer_value(json_object_get(json_object_get(golden, "pieces"), name)));
    paramset_alloc(&ps, true);
    AdamW a, o = muon;
    Arena arena = {0};
    assert_int_equal(json_get_f64(golden, "momentum", &o.momentum), 0);
    assert_int_equal(json_get_f64(golden, "decay", &o.decay), 0);
    adamw_start(&a, &ps, NULL, &o);
    for (int k = 0; k < ps.n; k++)
        load(json_object_get(golden, "start"), &ps.v[k], ps.v[k].tensor.data);
    const json_t *steps = json_object_get(golden, "steps");
    assert_true(json_array_size(steps) >= 4);
    for (size_t t = 0; t < json_array_size(steps); t++) {
        const json_t *s = json_array_get(steps, t);
        double lr = 0, scale = 0;
        assert_int_equal(json_get_f64(s, "lr", &lr), 0);
        assert_int_equal(json_get_f64(s, "scale", &scale), 0);
        for (int k = 0; k < ps.n; k++)
            load(json_object_get(s, "grad"), &ps.v[k], ps.v[k].tensor.grad);
        adamw_begin(&a);
        muon_part(&a, &ps, NULL, &arena, 0, lr, scale);
        adamw_part(&a, &ps, 0, lr, scale); /* has nothing to do */
        for (int k = 0; k < ps.n; k++) {
            compare("w", json_object_get(s, "w"), &ps.v[k], ps.v[k].tensor.data);
            compare("momentum", json_object_get(s, "m"), &ps.v[k], a.m + ps.v[k].offset);
        }
    }
    json_decref(golden);
    arena_free(&arena);
    adamw_free(&a);
    paramset_free(&ps);
}

/* --- Newton-Schulz ---------------------------------------------------------------------------- */

static void random_matrix(real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = (real)sin((double)(i * i % 10007) + 0.5 * (double)i);
}

/* The rows, or columns, of the smaller side come out about orthogonal and of length about one, and
 * as the same bits for any threads. */
static void test_orthogonal(void **state) {
    static const int64_t shape[][2] = {{96, 200}, {300, 130}, {64, 64}, {1, 700}, {700, 1}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        const int64_t rows = shape[s][0], cols = shape[s][1], n = rows * cols;
        real *x[4];
        for (int threads = 1; threads <= 4; threads++) {
            Arena arena = {0};
            omp_set_num_threads(threads);
            real *y = x[threads - 1] = xmalloc((size_t)n * sizeof(real));
            random_matrix(y, n);
            muon_orthogonalize(&arena, rows, cols, y);
            assert_memory_equal(y, x[0], (size_t)n * sizeof(real));
            arena_free(&arena);
        }
        double trace = 0, square = 0; /* of the Gram matrix: sums of s^2 and s^4 */
        const bool tall = rows > cols;
        const int64_t m = tall ? cols : rows, k = tall ? rows : cols;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < m; j++) {
                double dot = 0;
                for (int64_t l = 0; l < k; l++)
                    dot += tall ? (double)x[0][l * cols + i] * (double)x[0][l * cols + j]
                                : (double)x[0][i * cols + l] * (double)x[0][j * cols + l];
                square += dot * dot;
                if (i == j) trace += dot;
            }
        const double mean = trace / (double)m;
        assert_true(mean > 0.4 && mean < 1.5); /* singular values from 0.7 to 1.2, most of them */
        assert_true(square / (double)m - mean * mean < 0.15);
        for (int t = 0; t < 4; t++) free(x[t]);
    }
    omp_set_num_threads(2);
}

/* A gradient of zeros makes no update, and no NaN. */
static void test_zeros(void **state) {
    Arena arena = {0};
    real x[6] = {0};
    muon_orthogonalize(&arena, 2, 3, x);
    for (int i = 0; i < 6; i++) assert_true(x[i] == 0);
    arena_free(&arena);
}

/* --- ranks ------------------------------------------------------------------------------------ */

/* Matrices that the ranks' shares cut in all kinds of places. */
static void make_params(ParamSet *ps) {
    *ps = (ParamSet){0};
    paramset_part(ps, true);
    add(ps, "embedding", 130, 80, 0);
    for (int l = 0; l < 2; l++) {
        char name[2][16] = {"", ""};
        paramset_part(ps, false);
        snprintf(name[0], 16, "%d.a", l), snprintf(name[1], 16, "%d.b", l);
        add(ps, name[0], 80, 0, 0);
        add(ps, name[1], 3 * 80, 80, 3);
        name[0][2] = 'c', name[1][2] = 'd';
        add(ps, name[0], 17, 0, 0);
        add(ps, name[1], 321, 80, 1);
        name[0][2] = 'e', name[1][2] = 'f';
        add(ps, name[0], 80, 320, 1);
        add(ps, name[1], 33, 0, 0);
    }
    paramset_part(ps, false);
    add(ps, "head", 1, 80, 0);
    paramset_alloc(ps, true);
    random_matrix(ps->data, ps->size);
    for (int p = 0; p < ps->n; p++) { /* the padding stays 0 */
        const int64_t end = ps->v[p].offset + tensor_size(&ps->v[p].tensor);
        const int64_t next = p + 1 < ps->n ? ps->v[p + 1].offset : ps->size;
        memset(ps->data + end, 0, (size_t)(next - end) * sizeof(real));
    }
}

/* Of a rank: few bits, so that sums over ranks are exact in any order. */
static real gradient(int rank, int step, int64_t i) {
    return (real)((double)((i * 2654435761u + (int64_t)(rank * 77 + step * 1001)) % 2039 - 1019) /
                  1024);
}

static void fill(ParamSet *ps, int part, int step, bool all) {
    for (int k = ps->part[part].first; k < ps->n && ps->v[k].offset < paramset_part_end(ps, part);
         k++) {
        real *grad = tensor_grad(&ps->v[k].tensor);
        for (int64_t i = 0; i < tensor_size(&ps->v[k].tensor); i++)
            for (int r = 0; r < comm_size(comm); r++)
                if (all || r == comm_rank(comm)) grad[i] += gradient(r, step, ps->v[k].offset + i);
    }
}

static void test_ranks(void **state) {
    for (int kind = SHARD_NONE; kind <= SHARD_GRADIENTS; kind++) {
        ParamSet ps, want;
        AdamW a, b;
        Grads *g;
        Arena arena = {0};
        make_params(&ps);
        make_params(&want);
        grads_open(&g, &ps, comm, kind);
        const Shard *shard = grads_shard(g);
        adamw_start(&a, &ps, shard, &muon);
        adamw_start(&b, &want, NULL, &muon);
        for (int step = 0; step < 3; step++) {
            fill(&ps, 0, step, false);
            grads_last_pass(g);
            for (int k = ps.nparts - 1; k >= 0; k--) {
                if (k > 0) fill(&ps, k, step, false);
                grads_part_done(g, k);
            }
            grads_finish(g);
            adamw_begin(&a);
            adamw_begin(&b);
            for (int k = 0; k < ps.nparts; k++) {
                muon_part(&a, &ps, g, &arena, k, 0.01, 0.5);
                adamw_part(&a, &ps, k, 0.01, 0.5);
                grads_updated(g, k);
                fill(&want, k, step, true);
                muon_part(&b, &want, NULL, &arena, k, 0.01, 0.5);
                adamw_part(&b, &want, k, 0.01, 0.5);
            }
            grads_end(g);
            paramset_zero_grad(&want);
            assert_memory_equal(ps.data, want.data, (size_t)ps.size * sizeof(real));
            for (int p = 0; p < ps.n; p++) {
                int64_t begin, end;
                const int64_t at = shard_of_param(shard, &ps, p, &begin, &end),
                              from = ps.v[p].offset + begin;
                const size_t bytes = (size_t)(end - begin) * sizeof(real);
                if (!bytes) continue;
                assert_memory_equal(a.m + at, b.m + from, bytes);
                if (!ps.v[p].matrices)
                    assert_memory_equal(a.v + a.v_at[p] + from, b.v + b.v_at[p] + from, bytes);
            }
        }
        assert_int_equal(arena.high, muon_bytes(&ps));
        arena_free(&arena);
        adamw_free(&a);
        adamw_free(&b);
        grads_close(&g);
        paramset_free(&ps);
        paramset_free(&want);
    }
}

/* Hidden matrices have one moment, the others two. */
static void test_memory(void **state) {
    ParamSet ps;
    make_params(&ps);
    const size_t hidden = 2 * (240 * 80 + 321 * 80 + 80 * 320);
    for (int ranks = 1; ranks <= 4; ranks++)
        assert_int_equal(optim_bytes(&ps, SHARD_NONE, ranks, true).moments,
                         (2 * (size_t)ps.size - hidden) * sizeof(real));
    assert_true(optim_bytes(&ps, SHARD_OPTIMIZER, 2, true).moments <
                optim_bytes(&ps, SHARD_OPTIMIZER, 2, false).moments);
    paramset_free(&ps);
}

int main(int argc, char **argv) {
    core_init();
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_orthogonal),
        cmocka_unit_test(test_zeros),  cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
