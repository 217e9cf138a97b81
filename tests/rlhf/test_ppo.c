/* What the PPO stage says about the gap between sampler and training forward. */
#define main ppo_main
#include "rlhf/ppo.c" /* for its static functions */
#undef main

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/base/scratch.h"

static int warnings(Stage *s, const Run *run, double gap) {
    char *path = scratch("stderr"), *text;
    size_t len;
    const int keep = dup(STDERR_FILENO);
    assert_non_null(freopen(path, "w", stderr));
    watch_decode_gap(s, run, gap);
    fflush(stderr);
    dup2(keep, STDERR_FILENO);
    close(keep);
    OK(file_read(path, &text, &len));
    const int n = strstr(text, "warning: iteration 3: ") && strstr(text, "2.0e-04") ? 1 : 0;
    assert_int_equal(n, len > 0);
    free(text);
    free(path);
    return n;
}

static void test_decode_gap(void **state) {
    Stage s = {0}, other = {0};
    const Run run = {.main_rank = true, .step = 2}, second = {.main_rank = false, .step = 2};
    assert_int_equal(warnings(&s, &run, 0.9e-4), 0);
    assert_int_equal(warnings(&s, &run, 2e-4), 1);
    assert_int_equal(warnings(&s, &run, 2e-4), 0); /* once */
    assert_int_equal(warnings(&other, &second, 2e-4), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode_gap)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
