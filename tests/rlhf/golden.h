/* golden.h (tests): numbers of tests/golden/rl_golden.json. Included after cmocka.h and
 * scratch.h. */
#ifndef TESTS_RLHF_GOLDEN_H
#define TESTS_RLHF_GOLDEN_H

#include <jansson.h>
#include <math.h>

#include "base/json.h"

#ifndef GOLDEN
#define GOLDEN "tests/golden/rl_golden.json"
#endif

/* A member of the file; the program ends with it. */
static json_t *golden_file;

__attribute__((unused)) static const json_t *golden(const char *name) {
    if (!golden_file) OK(json_read_file(&golden_file, GOLDEN));
    const json_t *v = json_object_get(golden_file, name);
    assert_non_null(v);
    return v;
}

__attribute__((unused)) static int golden_close(void **unused) {
    json_decref(golden_file);
    golden_file = NULL;
    return 0;
}

__attribute__((unused)) static double num(const json_t *object, const char *name) {
    const json_t *v = json_object_get(object, name);
    if (!json_is_number(v)) fail_msg("the golden file has no number \"%s\"", name);
    return json_number_value(v);
}

__attribute__((unused)) static double at(const json_t *object, const char *name, int64_t i) {
    const json_t *v = json_array_get(json_object_get(object, name), (size_t)i);
    if (!json_is_number(v)) fail_msg("the golden file has no \"%s\"[%lld]", name, (long long)i);
    return json_number_value(v);
}

__attribute__((unused)) static int64_t length(const json_t *object, const char *name) {
    return (int64_t)json_array_size(json_object_get(object, name));
}

__attribute__((unused)) static void floats(const json_t *object, const char *name, float *out) {
    for (int64_t i = 0; i < length(object, name); i++) out[i] = (float)at(object, name, i);
}

/* |have - want| <= tolerance * max(1, |want|); false for NaN. */
__attribute__((unused)) static void close_to(double have, double want, double tolerance,
                                             const char *what, int64_t i) {
    if (!(fabs(have - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%s[%lld] is %.9g, expected %.9g", what, (long long)i, have, want);
}

#endif
