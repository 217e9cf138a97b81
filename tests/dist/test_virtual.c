/* Virtual ranks: who stands for which, sums that do not depend on it. */
/* ranks: 1 2 3 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "dist/virtual.h"

static Comm *comm;

/* All virtual ranks have one rank, in order; a rank has a whole subtree. */
static void test_ranges(void **state) {
    const int rank = comm_rank(comm), ranks = comm_size(comm);
    for (int want = 4; want <= 64; want *= 2) {
        VirtualRanks v;
        virtual_open(&v, want, comm);
        const int own = v.end - v.begin;
        assert_true(v.n == want && own > 0 && (own & (own - 1)) == 0 && v.begin % own == 0);
        const int most = ranks == 3 ? want / 2 : want / ranks;
        assert_true(own <= most && v.most == most);
        double ends[4] = {0};
        ends[rank] = v.end;
        comm_sum_f64(comm, ends, ranks);
        assert_true(v.begin == (rank ? ends[rank - 1] : 0));
        assert_true(ends[ranks - 1] == want);
        int64_t begin, end, from, to, at;
        virtual_share_all(&v, 1000, &begin, &end);
        at = begin;
        for (int k = v.begin; k < v.end; k++, at = to) {
            virtual_share(&v, 1000, k, &from, &to);
            assert_true(from == at && to - from >= 1000 / want && to - from <= 1000 / want + 1);
        }
        assert_int_equal(at, end);
        virtual_close(&v);
    }
}

/* Fewer than ranks, or none wanted: each rank is one. */
static void test_one_each(void **state) {
    const int ranks = comm_size(comm);
    for (int want = 0; want < ranks; want++) {
        VirtualRanks v;
        virtual_open(&v, want, comm);
        assert_true(v.n == ranks && v.begin == comm_rank(comm) && v.end == v.begin + 1 &&
                    v.most == 1);
        virtual_close(&v);
    }
}

static float leaf(int k) { return 1.0f / (float)(3 + k * k % 17) * (k % 3 ? 1 : -1000); }

static float tree(int begin, int end) {
    const int middle = (begin + end) / 2;
    return end - begin == 1 ? leaf(begin) : tree(begin, middle) + tree(middle, end);
}

/* A rank that adds up its own in a tree, and comm_sum_f32: the whole tree. Parts: a chain. */
static void test_sums(void **state) {
    for (int want = 4; want <= 64; want *= 2) {
        VirtualRanks v;
        virtual_open(&v, want, comm);
        float sum = tree(v.begin, v.end);
        const float whole = tree(0, want);
        comm_sum_f32(comm, &sum, 1);
        assert_memory_equal(&sum, &whole, sizeof sum);
        for (int64_t count = 3; count > 0; count--) { /* any number of parts, repeatedly */
            double *part = virtual_parts(&v, count), chain = 0, out[3];
            for (int64_t i = 0; i < v.n * count; i++) assert_true(part[i] == 0);
            for (int k = v.begin; k < v.end; k++)
                for (int64_t i = 0; i < count; i++)
                    part[k * count + i] = (double)leaf(k) * (double)(i + 1);
            virtual_sum(&v, comm, out);
            for (int64_t i = 0; i < count; i++, chain = 0) {
                for (int k = 0; k < v.n; k++) chain += (double)leaf(k) * (double)(i + 1);
                assert_true(out[i] == chain);
            }
        }
        virtual_close(&v);
    }
}

int main(int argc, char **argv) {
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_one_each),
        cmocka_unit_test(test_sums),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
