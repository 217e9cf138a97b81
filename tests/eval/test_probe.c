/* test_probe.c: what is asked, that a right reader scores 1 and guessing scores chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eval/probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/world/world.h"

enum { N = 240 };

/* Whose value is asked for: the name in the last sentence, before the value. */
static const char *last_name(const Probe *p) {
    const char *last = NULL, *at = NULL;
    for (int i = 0; i < NAMES; i++)
        for (const char *s = p->text; (s = strstr(s, world_names[i])); s++)
            if (s > at) at = s, last = world_names[i];
    return last;
}

/* The value of p that is told in one sentence with the name; -1: none. How many are told: *told. */
static int read_fact(const Probe *p, const char *name, int *told) {
    int found = -1;
    *told = 0;
    char text[sizeof p->text], *save = NULL;
    snprintf(text, sizeof text, "%s", p->text);
    for (char *s = strtok_r(text, ".?", &save); s; s = strtok_r(NULL, ".?", &save))
        for (int i = 0; i < p->n; i++) {
            char value[PROBE_VALUE];
            snprintf(value, sizeof value, "%.*s", (int)strlen(p->value[i]) - 1, p->value[i]);
            if (strstr(s, value)) {
                ++*told;
                if (strstr(s, name)) found = i;
            }
        }
    return found;
}

/* A reader of the text finds the right value, and no other person has one where none may. */
static void test_facts(void **unused) {
    for (ProbeKind kind = PROBE_LOOKUP; kind <= PROBE_COPY; kind++)
        for (uint64_t i = 0; i < N; i++) {
            Probe p;
            int told;
            world_probe(&p, 1, kind, i);
            if (read_fact(&p, last_name(&p), &told) != p.right ||
                told != (kind == PROBE_LOOKUP ? 1 : 2))
                fail_msg("%s: \"%s\" -> \"%s\"", world_probe_names[kind], p.text, p.value[p.right]);
            assert_true((strchr(p.text, '?') || strstr(p.text, "Tell me")) == (kind != PROBE_COPY));
            assert_true(p.text[strlen(p.text) - 1] != ' ' && p.value[p.right][0] == ' ');
        }
}

static void test_sums(void **unused) {
    for (ProbeKind kind = PROBE_PLUS; kind <= PROBE_MINUS; kind++)
        for (uint64_t k = 0; k < N; k++) {
            Probe p;
            int a, b, end = 0;
            world_probe(&p, 1, kind, k);
            const char *last = strrchr(p.text, '.') + 1;
            sscanf(last, kind == PROBE_PLUS ? " %d plus %d is%n" : " %d minus %d is%n", &a, &b,
                   &end);
            assert_int_equal(end, strlen(last));
            for (int i = 0; i < p.n; i++) /* 1 is no part of 14: each could be the likelier */
                for (int j = 0; j < p.n; j++)
                    assert_true(i == j || strncmp(p.value[i], p.value[j], strlen(p.value[i])));
            assert_int_equal(atoi(p.value[p.right]), kind == PROBE_PLUS ? a + b : a - b);
        }
}

/* Functions of (seed, kind, index); no text twice; the values in turn; stories of no training
 * document. */
static void test_draw(void **unused) {
    static Probe p[N], q;
    for (ProbeKind kind = 0; kind < PROBE_KINDS; kind++) {
        for (uint64_t i = 0; i < N; i++) {
            world_probe(&p[i], 5, kind, i);
            for (uint64_t j = 0; j < i; j++) assert_string_not_equal(p[i].text, p[j].text);
        }
        world_probe(&q, 5, kind, N - 1);
        assert_memory_equal(&q, &p[N - 1], sizeof q);
        world_probe(&q, 6, kind, N - 1);
        assert_string_not_equal(q.text, p[N - 1].text);
        if (kind == PROBE_COPY) /* ends with "Ana lives in" after the story */
            for (int i = 0; i < N; i++)
                assert_true(world_bucket(p[i].text, (size_t)(strrchr(p[i].text, '.') + 1 -
                                                             p[i].text)) >= DOCUMENT_BUCKETS);
    }
}

/* The best constant knows the topic: one of 8 places, 8 trades, 6 foods. A right reader has all,
 * a constant what probe_count says, random choices about 1 in as many values. */
static void test_count(void **unused) {
    static Probe p[N];
    int choice[N];
    double se;
    for (int i = 0; i < N; i++) {
        world_probe(&p[i], 3, PROBE_BINDING, (uint64_t)i);
        choice[i] = p[i].right;
    }
    ProbeScore s = probe_count(p, choice, N);
    assert_int_equal(s.n, N);
    assert_int_equal(s.right, N);
    assert_int_equal(s.constant, 10 + 10 + 14);
    assert_true(probe_accuracy(&s, &se) == 1 && se == 0);
    for (int i = 0; i < N; i++) choice[i] = 1;
    s = probe_count(p, choice, N);
    assert_int_equal(s.right, 34);
    s = (ProbeScore){.n = 100, .right = 80};
    assert_true(fabs(probe_accuracy(&s, &se) - 0.8) < 1e-12 && fabs(se - 0.04) < 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_facts), cmocka_unit_test(test_sums),
                                       cmocka_unit_test(test_draw), cmocka_unit_test(test_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
