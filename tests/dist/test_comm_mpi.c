/* ranks: 1 2 3 4 6 */
/* Collectives against the same arithmetic done by one rank. Every rank makes the inputs of all
 * ranks from a formula, so every rank knows the expected bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "dist/comm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static Comm *comm;

/* Values of very different sizes, so that another order gives other bits. */
static double value(int rank, int64_t i) {
    uint64_t x = (uint64_t)i * 0x9E3779B97F4A7C15u + (uint64_t)rank * 0xBF58476D1CE4E5B9u + 1;
    x ^= x >> 29;
    x *= 0x94D049BB133111EBu;
    x ^= x >> 32;
    double mantissa = (double)(x >> 12) * 0x1p-51 - 1.0;
    return ldexp(mantissa, (int)(x & 31) - 16);
}

static const int64_t lengths[] = {0, 1, 2, 5, 4095, 4096, 4097, 5003, 100003, 1 << 20};
enum { NLENGTHS = sizeof lengths / sizeof lengths[0] };

/* The sum over ranks [begin, end) as comm.h defines it: recursively, halves cut at the largest
 * power of two below their number. */
static float tree_f32(int begin, int end, int64_t i) {
    if (end - begin == 1) return (float)value(begin, i);
    int half = 1;
    while (2 * half < end - begin) half *= 2;
    return tree_f32(begin, begin + half, i) + tree_f32(begin + half, end, i);
}
static double tree_f64(int begin, int end, int64_t i) {
    if (end - begin == 1) return value(begin, i) / 3;
    int half = 1;
    while (2 * half < end - begin) half *= 2;
    return tree_f64(begin, begin + half, i) + tree_f64(begin + half, end, i);
}

static void test_sum_f32(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm), order_matters = 0;
    for (int k = 0; k < NLENGTHS; k++) {
        int64_t n = lengths[k];
        float *x = xmalloc((size_t)(n + 1) * sizeof *x);
        for (int64_t i = 0; i < n; i++) x[i] = (float)value(rank, i);
        x[n] = 77; /* must not be touched */
        comm_sum_f32(comm, x, n);
        for (int64_t i = 0; i < n; i++) {
            float want = tree_f32(0, size, i), other = (float)value(size - 1, i);
            for (int r = size - 2; r >= 0; r--) other += (float)value(r, i);
            order_matters += want != other;
            if (memcmp(&want, &x[i], sizeof want) != 0)
                fail_msg("rank %d of %d: n %lld, element %lld: %a, expected %a", rank, size,
                         (long long)n, (long long)i, (double)x[i], (double)want);
        }
        assert_true(x[n] == 77);
        free(x);
    }
    if (size >= 3) assert_true(order_matters > 1000); /* or this test shows nothing */
}

static void test_sum_f64(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    for (int k = 0; k < NLENGTHS; k++) {
        int64_t n = lengths[k];
        double *x = xmalloc((size_t)n * sizeof *x);
        for (int64_t i = 0; i < n; i++) x[i] = value(rank, i) / 3;
        comm_sum_f64(comm, x, n);
        for (int64_t i = 0; i < n; i++) {
            double want = tree_f64(0, size, i);
            if (memcmp(&want, &x[i], sizeof want) != 0)
                fail_msg("rank %d of %d: n %lld, element %lld: %a, expected %a", rank, size,
                         (long long)n, (long long)i, x[i], want);
        }
        free(x);
    }
}

/* More than one round of 64 MiB, with a last round that does not divide. */
static void test_sum_rounds(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    if (size == 1 || size > 3) return;
    int64_t n = ((int64_t)16 << 20) + 12345;
    float *x = xmalloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(i % 1000 + rank);
    comm_sum_f32(comm, x, n);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++)
        wrong += x[i] != (float)(size * (i % 1000) + size * (size - 1) / 2);
    free(x);
    assert_int_equal(wrong, 0);
}

static void test_max(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    double m[3] = {-1.0 - rank, rank, rank == size - 1 ? (double)NAN : 1e300};
    comm_max_f64(comm, m, 3);
    assert_true(m[0] == -1.0);
    assert_true(m[1] == size - 1);
    assert_true(isnan(m[2]));
}

static void test_agree(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    assert_int_equal(comm_agree(comm, rank), 0);

    int last = size - 1;
    int rc = rank == last ? error_set(ERR_DATA, "corpus.h5: chunk 3 is damaged") : 0;
    assert_int_equal(comm_agree(comm, rc), ERR_DATA);
    char want[128];
    snprintf(want, sizeof want, "rank %d: corpus.h5: chunk 3 is damaged", last);
    if (last == 0) strcpy(want, "corpus.h5: chunk 3 is damaged");
    assert_string_equal(error_message(), want);

    /* all fail, each in its own way: the lowest rank's words count */
    rc = error_set(rank == 0 ? ERR_IO : ERR_CONFIG, "message of %d", rank);
    assert_int_equal(comm_agree(comm, rc), ERR_IO);
    assert_string_equal(error_message(), "message of 0");
}

static void test_bcast(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    size_t n = ((size_t)64 << 20) + 3;
    unsigned char *x = xmalloc(n);
    for (int root = 0; root<size; root += size> 1 ? size - 1 : 1) {
        memset(x, rank == root ? 200 + root : 0, n);
        if (rank == root) x[n - 1] = 9;
        comm_bcast(comm, x, n, root);
        size_t wrong = x[n - 1] != 9;
        for (size_t i = 0; i + 1 < n; i++) wrong += x[i] != 200 + root;
        assert_int_equal(wrong, 0);
    }
    free(x);
}

static void test_allgather_bytes(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    /* rank 1 has nothing */
    size_t mine = rank == 1 ? 0 : (size_t)(rank * 1000 + 3);
    char *bytes = xmalloc(mine), *all;
    memset(bytes, 'a' + rank, mine);
    size_t offsets[65] = {99};
    comm_allgather_bytes(comm, bytes, mine, &all, offsets);
    free(bytes);
    size_t at = 0, wrong = 0;
    for (int r = 0; r < size; r++) {
        assert_int_equal(offsets[r], at);
        size_t n = r == 1 ? 0 : (size_t)(r * 1000 + 3);
        for (size_t i = 0; i < n; i++) wrong += all[at + i] != 'a' + r;
        at += n;
    }
    assert_int_equal(offsets[size], at);
    assert_int_equal(wrong, 0);
    free(all);
}

/* Rank a has 100 a + 7 b bytes for rank b, but none for its left neighbour. */
static size_t pair_bytes(int a, int b) {
    return (b + 1) % comm_size(comm) == a ? 0 : (size_t)(100 * a + 7 * b);
}

static void test_exchange_bytes(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    size_t send_n[64], recv_n[64], out = 0, in = 0;
    for (int r = 0; r < size; r++) {
        out += send_n[r] = pair_bytes(rank, r);
        in += recv_n[r] = pair_bytes(r, rank);
    }
    unsigned char *send = xmalloc(out + 1), *recv = xmalloc(in + 1), *p = send;
    for (int r = 0; r < size; r++)
        for (size_t i = 0; i < send_n[r]; i++) *p++ = (unsigned char)(31 * rank + 5 * r + (int)i);
    recv[in] = 77; /* must not be touched */
    comm_exchange_bytes(comm, send, send_n, recv, recv_n);
    p = recv;
    size_t wrong = 0;
    for (int r = 0; r < size; r++)
        for (size_t i = 0; i < recv_n[r]; i++)
            wrong += *p++ != (unsigned char)(31 * r + 5 * rank + (int)i);
    assert_int_equal(wrong, 0);
    assert_int_equal(*p, 77);
    free(send);
    free(recv);
}

static void test_equal(void **state) {
    int rank = comm_rank(comm), size = comm_size(comm);
    assert_true(comm_equal_u64(comm, 0xFFFFFFFF00000001u));
    bool same = comm_equal_u64(comm, ((uint64_t)1 << 63) + (uint64_t)(rank == size - 1));
    assert_int_equal(same, size == 1);
}

int main(int argc, char **argv) {
    if (comm_open(&comm, &argc, &argv) < 0) {
        log_warn("%s", error_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_f32),         cmocka_unit_test(test_sum_f64),
        cmocka_unit_test(test_sum_rounds),      cmocka_unit_test(test_max),
        cmocka_unit_test(test_agree),           cmocka_unit_test(test_bcast),
        cmocka_unit_test(test_allgather_bytes), cmocka_unit_test(test_equal),
        cmocka_unit_test(test_exchange_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
