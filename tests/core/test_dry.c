/* A dry pass of every op takes, to the byte, what the same pass takes when it computes, and touches
 * no number: whoever does dies of it. */
#include <omp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "core/ops.h"

/* The high-water mark after two passes of case i; 0: there is none. */
static size_t high_of(const OpInfo *op, int i, bool record, bool dry) {
    Arena inputs = {.dry = dry}, arena = {.dry = dry};
    Tape *t = tape_open(&arena, record);
    GradCase c = {.arena = &inputs, .what = ""};
    const bool more = op->grad_case(&c, i);
    for (int pass = 0; more && pass < 2; pass++) {
        const double loss = c.run(t, &c);
        if (dry) assert_true(loss == 0);
        if (record) tape_backward(t);
        tape_reset(t);
    }
    const size_t high = arena.high;
    tape_close(&t);
    arena_free(&arena);
    arena_free(&inputs);
    return more ? high : 0;
}

static void every_op(void **state) {
    const int before = omp_get_max_threads();
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        for (int k = 0; k < core_nops; k++)
            for (int i = 0, cases = 1; cases; i++)
                for (int record = 0; record < 2; record++) {
                    const size_t want = high_of(&core_ops[k], i, record, false);
                    const size_t have = high_of(&core_ops[k], i, record, true);
                    if (have != want)
                        fail_msg("%s, case %d, %s, %d threads: %zu bytes dry, %zu otherwise",
                                 core_ops[k].name, i, record ? "forward and backward" : "forward",
                                 threads, have, want);
                    cases = want > 0;
                }
    }
    omp_set_num_threads(before);
}

/* The negative control: an op that forgets. */
static void a_touch_ends_it(void **state) {
    const pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        signal(SIGSEGV, SIG_DFL);
        Arena arena = {.dry = true};
        Tape *t = tape_open(&arena, true);
        tape_tensor(t, 1, (int64_t[]){3})->data[1] = 1;
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void every_op_on_blas(void **state) {
    const KernelLevel before = kernel_level;
    kernel_level = KERNEL_BLAS;
    every_op(state);
    kernel_level = before;
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op),
                                       cmocka_unit_test(every_op_on_blas),
                                       cmocka_unit_test(a_touch_ends_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
