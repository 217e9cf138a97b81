/* ranks: 1 2 3 */
/* Which checkpoints stay; and that all ranks do the same. */
#include "tests/checkpoints/sample.h"

#include "base/log.h"

static Comm *comm;
static char dir[1024];

static void save(int64_t step) {
    if (sample_save(dir, step, 0, comm) < 0) fail_msg("%s", error_message());
}

static void rotate(int64_t keep_last, const int64_t *keep, int nkeep) {
    if (ckpt_rotate(dir, -1, keep_last, keep, nkeep, comm) < 0) fail_msg("%s", error_message());
}

/* The steps whose file and manifest are there, as text. Asked between barriers, which comm_agree is
 * too. */
static void expect(const char *steps) {
    char found[256] = "";
    comm_agree(comm, 0);
    for (int64_t s = 0; s < 100; s++) {
        char *file = xasprintf("%s/step_%08lld.h5", dir, (long long)s);
        char *manifest = xasprintf("%s/step_%08lld.json", dir, (long long)s);
        assert_int_equal(file_exists(file), file_exists(manifest));
        if (file_exists(file)) sprintf(found + strlen(found), "%lld ", (long long)s);
        free(file);
        free(manifest);
    }
    comm_agree(comm, 0);
    assert_string_equal(found, steps);
}

static void clean(void) {
    comm_agree(comm, 0);
    if (comm_rank(comm) == 0) empty_dir(dir);
    comm_agree(comm, 0);
}

/* Rank 0 damages, all see it. */
static void damage(int64_t step) {
    comm_agree(comm, 0);
    if (comm_rank(comm) == 0) {
        char *file = xasprintf("%s/step_%08lld.h5", dir, (long long)step);
        write_at(file, 1000, "damaged", 7);
        free(file);
    }
    comm_agree(comm, 0);
}

static void put(const char *name) {
    if (comm_rank(comm) == 0) {
        char *path = file_join(dir, name);
        assert_int_equal(file_write_durable(path, "x", 1), 0);
        free(path);
    }
    comm_agree(comm, 0);
}

static void test_keep(void **state) {
    for (int64_t s = 1; s <= 6; s++) save(s);
    rotate(3, NULL, 0);
    expect("4 5 6 ");
    save(7);
    rotate(2, (int64_t[]){4, 99}, 2);
    expect("4 6 7 ");
    rotate(2, (int64_t[]){4}, 1);
    expect("4 6 7 ");
    rotate(1, NULL, 0);
    expect("7 ");
    rotate(1, NULL, 0);
    expect("7 ");
    clean();
}

/* What was just written is not read again. */
static void test_saved(void **state) {
    for (int64_t s = 1; s <= 3; s++) save(s);
    damage(3);
    assert_int_equal(ckpt_rotate(dir, 3, 2, NULL, 0, comm), 0);
    expect("2 3 ");
    clean();
}

static void test_never_the_only_good_one(void **state) {
    for (int64_t s = 1; s <= 4; s++) save(s);
    damage(4);
    damage(3);
    rotate(1, NULL, 0); /* 2 is the last good one; the damaged ones are left for inspection */
    expect("2 3 4 ");
    damage(2);
    rotate(1, NULL, 0); /* none is good: nothing may go */
    expect("2 3 4 ");
    Ckpt *k;
    assert_int_equal(ckpt_open_newest(&k, dir, comm), ERR_DATA);
    assert_null(k);
    save(5);
    rotate(1, NULL, 0);
    expect("5 ");
    clean();
}

static void test_leftovers(void **state) {
    save(3);
    put("step_00000004.h5.tmp.999999999");
    put("step_00000004.json.tmp.999999999");
    put("step_00000002.h5");       /* never committed, and passed by */
    put("step_00000004.h5");       /* never committed, may be anything */
    put("step_00000005.h5.tmp.1"); /* a process with that number lives: it is another one */
    put("mine.h5");
    put("step_2.h5");
    rotate(2, NULL, 0);
    if (comm_rank(comm) == 0) {
        assert_int_equal(count_files(dir, ".tmp."), 0);
        assert_int_equal(count_files(dir, "step_00000002"), 0);
        assert_int_equal(count_files(dir, "step_00000004.h5"), 1);
        assert_int_equal(count_files(dir, "mine.h5"), 1);
        assert_int_equal(count_files(dir, "step_2.h5"), 1);
    }
    Ckpt *k;
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    assert_int_equal(ckpt_step(k), 3);
    ckpt_close(&k);
    clean();
}

static void test_all_ranks_open_the_same(void **state) {
    save(1);
    save(2);
    damage(2);
    Ckpt *k;
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    assert_non_null(k);
    assert_int_equal(ckpt_step(k), 1);
    sample_check(k);
    ckpt_close(&k);

    /* a save at different steps is refused on all */
    if (comm_size(comm) > 1) {
        assert_int_equal(sample_save(dir, 3 + comm_rank(comm), 0, comm), ERR_INTERNAL);
        assert_non_null(strstr(error_message(), "different steps"));
    }
    /* rank 0's failure is everybody's */
    char *under_a_file = xasprintf("%s/step_00000001.json/x", dir);
    assert_int_equal(sample_save(under_a_file, 3, 0, comm), ERR_IO);
    assert_non_null(strstr(error_message(), "cannot save step 3"));
    free(under_a_file);
    assert_int_equal(ckpt_mark_best(dir, 1, -2.5, comm), 0);
    double value;
    assert_int_equal(ckpt_best_step(dir, &value), 1);
    assert_true(value == -2.5);
    clean();
}

int main(int argc, char **argv) {
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    if (comm_rank(comm) == 0) temp_dir(dir);
    comm_bcast(comm, dir, sizeof dir, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_saved),
        cmocka_unit_test(test_never_the_only_good_one),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_all_ranks_open_the_same),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_rank(comm) == 0) remove_dir(dir);
    comm_close(&comm);
    return failed;
}
