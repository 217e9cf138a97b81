/* Which losses and gradient norms are spikes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "optim/spike.h"

/* Some noise of mean 0; deterministic. */
static double noise(int i) { return sin(12.9898 * i) + cos(78.233 * i); }

static void fill(SpikeWindow *w, int n) {
    *w = (SpikeWindow){0};
    for (int i = 0; i < n; i++) spike_score(w, 3 + 0.1 * noise(i), 1 + 0.2 * noise(i + 999));
}

/* Mean and deviation of the last values, the long way. */
static double want(int seen, double level, double width, int shift, double x) {
    double mean = 0, var = 0;
    const int first = seen > SPIKE_WINDOW ? seen - SPIKE_WINDOW : 0, n = seen - first;
    for (int i = first; i < seen; i++) mean += level + width * noise(i + shift);
    mean /= n;
    for (int i = first; i < seen; i++) var += pow(level + width * noise(i + shift) - mean, 2);
    return (x - mean) / sqrt(var / n);
}

static void test_score(void **state) {
    static const int seen[] = {SPIKE_FEWEST, 100, SPIKE_WINDOW, SPIKE_WINDOW + 1, 400};
    for (int k = 0; k < 5; k++) {
        SpikeWindow w;
        fill(&w, seen[k]); /* the larger of the two counts */
        double z = spike_score(&w, 4, 1);
        assert_true(fabs(z - want(seen[k], 3, 0.1, 0, 4)) < 1e-9 * z);
        fill(&w, seen[k]);
        z = spike_score(&w, 3, 9);
        assert_true(fabs(z - want(seen[k], 1, 0.2, 999, 9)) < 1e-9 * z);
        fill(&w, seen[k]);
        assert_true(spike_score(&w, 2, 0) < 0); /* below is no spike */
    }
}

/* Too few, and values that are all the same: nothing can be said. */
static void test_nothing_to_say(void **state) {
    SpikeWindow w;
    fill(&w, SPIKE_FEWEST - 1);
    assert_true(spike_score(&w, 1e9, 1e9) == 0);
    w = (SpikeWindow){0};
    for (int i = 0; i < 200; i++) assert_true(spike_score(&w, 5, 0) == 0);
    assert_true(spike_score(&w, 6, 0) == 0);
}

/* llm.c's detector asks isfinite of the score and keeps what it saw: one NaN in its window, and
 * nothing is a spike for 128 steps. Here it is one itself and leaves the window as it was. */
static void test_nan_does_not_disable(void **state) {
    static const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int k = 0; k < 6; k++) {
        SpikeWindow w, same;
        fill(&w, 200);
        same = w;
        const double loss = k < 3 ? bad[k] : 3, norm = k < 3 ? 1 : bad[k - 3];
        assert_true(spike_score(&w, loss, norm) == (double)INFINITY);
        assert_memory_equal(&w, &same, sizeof w);
        assert_true(spike_score(&w, 30, 1) > 50);
    }
}

/* A lasting change of level is taken in: the run does not skip for ever. */
static void test_new_level(void **state) {
    SpikeWindow w;
    fill(&w, 200);
    int skips = 0;
    for (int i = 0; i < 200; i++) skips += spike_score(&w, 5 + 0.1 * noise(i), 1) > 6;
    assert_in_range(skips, 1, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_nothing_to_say),
        cmocka_unit_test(test_nan_does_not_disable),
        cmocka_unit_test(test_new_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
