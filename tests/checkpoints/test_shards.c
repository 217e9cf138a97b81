/* ranks: 1 2 3 4 */
/* Arrays of which each rank holds a part: what is saved is the whole, and parts are read back,
 * whatever the cuts. */
#include "tests/checkpoints/sample.h"

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
        assert_int_equal(ckpt_read_part(k, a->name, a->type, 2, a->shape, begin, end, part), 0);
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
}

int main(int argc, char **argv) {
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    if (comm_rank(comm) == 0) temp_dir(dir);
    comm_bcast(comm, dir, sizeof dir, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_wrong_parts),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_agree(comm, 0);
    if (comm_rank(comm) == 0) remove_dir(dir);
    comm_close(&comm);
    return failed;
}
