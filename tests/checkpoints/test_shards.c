/* ranks: 1 2 3 4 */
/* Arrays of which each rank holds a part: what is saved is the whole, and parts are read back,
 * whatever the cuts. */
#include "tests/checkpoints/sample.h"

#include <omp.h>

static Comm *comm;
static char dir[1024];

/* The sample, of whose weight and moment this rank holds the elements from cut[rank] to
 * cut[rank + 1]. */
static Sample *sharded(int64_t step, const int64_t *cut) {
    Sample *s = sample_make(step, 0);
    int r = comm_rank(comm);
    ckpt_set_part(&s->arrays[0], cut[r], cut[r + 1]);
    s->arrays[0].data = s->weight + cut[r];
    ckpt_set_part(&s->arrays[1], cut[r], cut[r + 1]);
    s->arrays[1].data = s->moment + cut[r];
    return s;
}

/* Where `size` ranks cut n elements, in one of several ways. */
static void choose_cuts(int way, int64_t n, int64_t *cut) {
    int size = comm_size(comm);
    for (int r = 0; r <= size; r++) switch (way) {
        case 0: /* equal */ cut[r] = n * r / size; break;
        case 1: /* the first has nothing but one */ cut[r] = r == 0 ? 0 : r == size ? n : 1; break;
        default: /* the last has nothing */ cut[r] = r + 1 >= size ? n : n * r / size; break;
        }
    cut[0] = 0;
}

static void check_all(int64_t step) {
    Ckpt *k;
    if (ckpt_open_newest(&k, dir, comm) < 0) fail_msg("%s", error_message());
    assert_non_null(k);
    assert_true(ckpt_step(k) == step);
    sample_check(k);
    Sample *s = sample_make(step, 0);
    double *part = xmalloc(sizeof s->moment);
    int64_t n = ROWS * COLUMNS;
    for (int i = 0; i < 40; i++) {
        int64_t begin = (int64_t)(sample_bits(i, 3, 0) % (uint64_t)n),
                end = begin + (int64_t)(sample_bits(i, 4, 0) % (uint64_t)(n - begin + 1));
        const CkptArray *a = &s->arrays[1];
        CkptArray some = *a;
        ckpt_set_part(&some, begin, end);
        some.data = part;
        assert_int_equal(ckpt_load(k, &some, 1, NULL), 0);
        assert_memory_equal(part, s->moment + begin, (size_t)(end - begin) * sizeof *part);
    }
    free(part);
    sample_free(s);
    ckpt_close(&k);
}

static void test_parts(void **state) {
    int64_t cut[9];
    for (int way = 0; way < 3; way++) {
        choose_cuts(way, ROWS * COLUMNS, cut);
        Sample *s = sharded(way + 1, cut);
        if (ckpt_save(dir, &s->content, comm) < 0) fail_msg("%s", error_message());
        sample_free(s);
        check_all(way + 1);
    }
}

static void test_wrong_parts(void **state) {
    if (comm_size(comm) == 1) skip();
    int64_t cut[9];
    choose_cuts(0, ROWS * COLUMNS, cut);
    Sample *s = sharded(9, cut);
    if (comm_rank(comm) == 1) s->arrays[1].begin++; /* a gap */
    assert_int_equal(ckpt_save(dir, &s->content, comm), ERR_INTERNAL);
    assert_non_null(strstr(error_message(), "optimizer/m/h.0.weight"));
    sample_free(s);
    check_all(3);
    s = sharded(9, cut);
    if (comm_rank(comm) == 1) s->arrays[0].begin = s->arrays[0].end = 0; /* the whole, on one */
    assert_int_equal(ckpt_save(dir, &s->content, comm), ERR_INTERNAL);
    assert_non_null(strstr(error_message(), "hold the whole of it"));
    if (comm_rank(comm) == 1) s->arrays[2].name = "counters/other";
    assert_int_equal(ckpt_save(dir, &s->content, comm), ERR_INTERNAL);
    sample_free(s);
    check_all(3);
    comm_agree(comm, 0);
    if (comm_rank(comm) == 0) {
        assert_int_equal(count_files(dir, ".tmp."), 0);
        empty_dir(dir);
    }
    comm_agree(comm, 0);
}

/* --- several chunks and windows --------------------------------------------------------------- */
enum { BIG = 4 };
static const int64_t big_n[BIG] = {1000 * 2500, 1000 * 2500, 3 * 1000 * 1000, 700001};

static CkptArray big_array(int i, void *data) {
    static const char *const name[BIG] = {"params/w", "optimizer/m/w", "optimizer/v/w", "other/x"};
    CkptArray a = {.name = name[i], .type = i == 3 ? H5_F64 : H5_F32, .ndim = 1, .data = data};
    a.shape[0] = big_n[i];
    if (i < 2) a.ndim = 2, a.shape[0] = 1000, a.shape[1] = 2500;
    if (i == 2) a.ndim = 3, a.shape[0] = 3, a.shape[1] = a.shape[2] = 1000;
    return a;
}

static void *big_data(int i) {
    float *x = xmalloc((size_t)big_n[i] * 8);
    double *y = (double *)(void *)x;
    for (int64_t j = 0; j < big_n[i]; j++) {
        const double v = (double)(sample_bits(j, i, j) >> 40);
        if (i == 3)
            y[j] = v;
        else
            x[j] = (float)v;
    }
    return x;
}

static uint64_t hash_of(int64_t step) {
    char *file = xasprintf("%s/step_%08lld.h5", dir, (long long)step);
    uint64_t hash = 0;
    if (file_hash(file, &hash) < 0) fail_msg("%s", error_message());
    free(file);
    return hash;
}

/* So far, by this process. */
static int64_t bytes_read(void) {
    char *text;
    size_t len;
    long long n = -1;
    assert_int_equal(file_read("/proc/self/io", &text, &len), 0);
    assert_int_equal(sscanf(text, "rchar: %lld", &n), 1);
    free(text);
    return n;
}

/* One process that holds everything, and all ranks with parts: the same bytes, which verify. */
static void test_equal_bytes(void **state) {
    CkptArray whole[BIG], part[BIG];
    for (int i = 0; i < BIG; i++) whole[i] = big_array(i, big_data(i));
    json_t *meta = json_pack("{s:s}", "kernel", "test");
    CkptContent content = {
        .stage = "sft", .step = 100, .narrays = BIG, .meta = meta, .config = "a"};
    const int size = comm_size(comm), rank = comm_rank(comm);
    for (int way = 0; way < 3; way++) {
        content.compress = way != 1;
        if (way < 2) {
            content.arrays = whole;
            char *file = xasprintf("%s/alone%d.h5", dir, way);
            omp_set_num_threads(1);
            int rc = rank == 0 ? ckpt_save_file(file, &content) : 0;
            if (comm_agree(comm, rc) < 0) fail_msg("%s", error_message());
            free(file);
        }
        for (int i = 0; i < BIG; i++) {
            part[i] = whole[i];
            if (i == 0) continue; /* held whole by all */
            int64_t cut[9];
            choose_cuts(way % 3, big_n[i], cut);
            const int r = (rank + i) % size; /* not in the order of the ranks either */
            ckpt_set_part(&part[i], cut[r], cut[r + 1]);
            part[i].data = (char *)whole[i].data + (size_t)cut[r] * h5_type_size(part[i].type);
        }
        content.arrays = part;
        omp_set_num_threads(1 + way);
        if (ckpt_save(dir, &content, comm) < 0) fail_msg("%s", error_message());
        if (rank == 0) {
            char *alone = xasprintf("%s/alone%d.h5", dir, way == 1), *report;
            uint64_t expected = 0;
            assert_int_equal(file_hash(alone, &expected), 0);
            if (hash_of(100) != expected)
                fail_msg("way %d: other bytes than one process writes", way);
            if (way < 2 && ckpt_verify(alone, &report) < 0) fail_msg("%s", report);
            if (way < 2) free(report);
            free(alone);
        }
        comm_agree(comm, 0);
    }
    Ckpt *k;
    const int64_t before = bytes_read();
    if (ckpt_open(&k, dir, comm) < 0) fail_msg("%s", error_message());
    const int64_t took = bytes_read() - before, size_of_file = file_size(ckpt_path(k));
    /* One rank verifies the bytes, once, for all. */
    if (rank == 0) assert_in_range(took, size_of_file, size_of_file + size_of_file / 8);
    if (rank != 0) assert_in_range(took, 0, size_of_file / 8);
    for (int i = 0; i < BIG; i++) { /* half of them in parts, cut otherwise */
        part[i] = whole[i];
        int64_t begin = 0, end = big_n[i];
        if (i % 2) {
            comm_share(big_n[i], size - 1 - rank, size, &begin, &end);
            ckpt_set_part(&part[i], begin, end);
        }
        part[i].data = xcalloc((size_t)(end - begin) + 1, h5_type_size(part[i].type));
    }
    if (ckpt_load(k, part, BIG, comm) < 0) fail_msg("%s", error_message());
    for (int i = 0; i < BIG; i++) {
        const size_t each = h5_type_size(whole[i].type);
        const int64_t n = i % 2 ? part[i].end - part[i].begin : big_n[i];
        const char *expected = (char *)whole[i].data + (size_t)part[i].begin * each;
        if (memcmp(part[i].data, expected, (size_t)n * each) != 0)
            fail_msg("%s is not what was saved", part[i].name);
        free(part[i].data);
        free(whole[i].data);
    }
    /* another shape: the same error on all, and nobody waits for ever */
    double x[2];
    CkptArray wrong = {.name = "other/x", .type = H5_F64, .ndim = 1, .shape = {2}, .data = x};
    assert_int_equal(ckpt_load(k, &wrong, 1, comm), ERR_DATA);
    ckpt_close(&k);
    json_decref(meta);
}

int main(int argc, char **argv) {
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    if (comm_rank(comm) == 0) temp_dir(dir);
    comm_bcast(comm, dir, sizeof dir, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_wrong_parts),
        cmocka_unit_test(test_equal_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_agree(comm, 0);
    if (comm_rank(comm) == 0) remove_dir(dir);
    comm_close(&comm);
    return failed;
}
