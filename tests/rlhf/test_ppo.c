/* What the PPO stage says about the gap between sampler and training forward, and about settings. */
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
    const int keep = scratch_catch();
    iteration_watch(&s->ppo, run, &(PpoStats){.decode_gap = gap, .stopped = 1});
    char *text = scratch_caught(keep);
    const int n = strstr(text, "warning: iteration 3: ") && strstr(text, "2.0e-04") ? 1 : 0;
    assert_int_equal(n, text[0] != 0);
    free(text);
    return n;
}

static void test_settings(void **state) {
    static char *mix = (char *)"corpus.h5";
    static const struct {
        int mix;
        double coef;
        int64_t episodes;
        bool unread, uneven;
    } set[] = {{1, 0, 128, true, false}, {1, 2, 128, false, false}, {0, 0, 100, false, true}};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        Run run = {.main_rank = true, .steps = 2};
        run.cfg = (Config){.data_mix = {&mix, set[i].mix},
                           .ptx_coef = set[i].coef,
                           .ppo_episodes = set[i].episodes,
                           .ppo_batch = 64};
        const int keep = scratch_catch();
        watch_settings(&run);
        char *text = scratch_caught(keep);
        assert_int_equal(strstr(text, "data.mix is not read: ptx.coef is 0") != NULL,
                         set[i].unread);
        assert_int_equal(strstr(text, "no multiple of ppo.batch=64: 2 iterations make 128") != NULL,
                         set[i].uneven);
        assert_int_equal(text[0] != 0, set[i].unread || set[i].uneven);
        free(text);
    }
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode_gap),
                                       cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
