/* test_raters.c: raters are read from a file, have opinions and noise of their own, and agree as far
 * as those go. */
#include "base/error.h"
#include "base/file.h"
#include "data/world/rater.h"
#include "data/world/world.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/base/scratch.h"

static char *write_raters(const char *text) {
    char *path = scratch("raters.jsonl");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static int read_text(Raters *r, const char *text, const char *only) {
    char *path = write_raters(text);
    const int rc = raters_read(r, path, only);
    free(path);
    return rc;
}

static void test_read(void **unused) {
    Raters r;
    assert_int_equal(
        read_text(&r, "{\"name\":\"ann\"}\n{\"name\":\"bob\",\"words\":-0.5,\"noise\":2}\n", NULL),
        0);
    assert_int_equal(r.n, 2);
    assert_true(r.v[0].helpful == 3 && r.v[0].honest == 1.5 && r.v[0].noise == 0);
    assert_true(r.v[1].words == -0.5 && r.v[1].noise == 2);
    raters_free(&r);
    assert_int_equal(read_text(&r, "{\"name\":\"ann\"}\n{\"name\":\"bob\"}\n", "bob"), 0);
    assert_true(r.n == 1 && !strcmp(r.v[0].name, "bob"));
    raters_free(&r);
    static const char *const bad[][2] = {{"{\"name\":\"ann\",\"mood\":1}", "mood"},
                                         {"{\"helpful\":1}", "name"},
                                         {"{\"name\":\"ann\",\"noise\":-1}", "noise"},
                                         {"{\"name\":\"ann\",\"noise\":\"x\"}", "noise"},
                                         {"{\"name\":\"cleo\"}", "no rater \"ann\""},
                                         {"", "no rater"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_text(&r, bad[i][0], "ann"), ERR_DATA);
        assert_non_null(strstr(error_message(), bad[i][1]));
    }
}

/* Without noise a rater of the gold reward's weights scores as it does. */
static void test_score(void **unused) {
    Rater r = {.helpful = 3, .honest = 1.5, .harmless = 1, .concise = 1};
    for (uint64_t i = 0; i < 200; i++) {
        Dice d = dice_make(3, "raters", i, 0);
        WorldTask t;
        Prose text;
        GoldParts parts;
        task_make(&d, &t);
        task_demonstrate(&d, &t, (SynthQuality)dice_int(&d, QUALITY_COUNT), &text);
        const double total = gold_score(&t.gold, text.s, &parts);
        r.words = 0;
        assert_true(fabs(rater_score(&r, &parts, text.s) - total) < 1e-12);
        r.words = 1;
        const double words = rater_score(&r, &parts, text.s) - total;
        assert_true(words > 0.9 && fabs(words - round(words)) < 1e-9);
    }
    GoldParts none = {0};
    assert_true(rater_score(&r, &none, "two words") == 1);
}

/* Agreement of raters who differ by noise alone: of a pair at the distance d both are right, or both
 * wrong, p^2 + (1-p)^2, p = Phi(d / (sd sqrt 2)): here p = 0.760, 0.635. */
static void test_agreement(void **unused) {
    Rater v[2] = {{.name = "ann", .noise = 1}, {.name = "bob", .noise = 1}};
    const Raters r = {v, 2};
    const double score[] = {0, 1, 0, 1};
    const int same[] = {0, 1};
    Agreement a = {0}, again = {0}, exact = {0};
    int of[2] = {0};
    for (uint64_t i = 0; i < 4000; i++) {
        raters_agree(&r, score, same, 2, 5, i, &a);
        of[raters_of(&r, 5, i) - v]++;
    }
    for (uint64_t i = 0; i < 4000; i++) raters_agree(&r, score, same, 2, 5, i, &again);
    assert_true(a.pairs == 4000 && a.alike == again.alike);
    assert_true(a.alike / a.pairs > 0.61 && a.alike / a.pairs < 0.66);
    assert_true(of[0] > 1900 && of[1] > 1900); /* a half each */
    v[0].noise = v[1].noise = 0;
    raters_agree(&r, score, same, 2, 5, 1, &exact);
    assert_true(exact.pairs == 1 && exact.alike == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_score),
                                       cmocka_unit_test(test_agreement)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
