/* sample.h: a small checkpoint whose every value follows from (step, variant), and a comparison. */
#ifndef TESTS_CHECKPOINTS_SAMPLE_H
#define TESTS_CHECKPOINTS_SAMPLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "checkpoints/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 67, COLUMNS = 129, IDS = 1000 };

typedef struct Sample {
    float weight[ROWS * COLUMNS];
    double moment[ROWS * COLUMNS];
    int64_t ids[IDS];
    CkptArray arrays[4];
    json_t *meta;
    CkptContent content;
} Sample;

static inline uint64_t sample_bits(int64_t step, int variant, int64_t i) {
    uint64_t x = ((uint64_t)step << 32) + (uint64_t)variant * 0x9E3779B97F4A7C15u + (uint64_t)i;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline CkptArray sample_array(const char *name, H5Type type, int64_t rows, int64_t columns,
                                     void *data) {
    return (CkptArray){.name = name,
                       .type = type,
                       .ndim = columns < 0 ? 1 : 2,
                       .shape = {rows, columns},
                       .data = data};
}

static inline Sample *sample_make(int64_t step, int variant) {
    Sample *s = xcalloc(1, sizeof *s);
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
        uint64_t x = sample_bits(step, variant, i);
        s->weight[i] = (float)(int32_t)x * 0x1p-31f;
        memcpy(&s->moment[i], &x, 8); /* any bits: NaN, Inf and denormals too */
    }
    for (int64_t i = 0; i < IDS; i++) s->ids[i] = (int64_t)sample_bits(step, variant, -i);
    s->arrays[0] = sample_array("params/h.0.weight", H5_F32, ROWS, COLUMNS, s->weight);
    s->arrays[1] = sample_array("optimizer/m/h.0.weight", H5_F64, ROWS, COLUMNS, s->moment);
    s->arrays[2] = sample_array("counters/ids", H5_I64, IDS, -1, s->ids);
    s->arrays[3] = sample_array("counters/none", H5_I32, 0, -1, s->ids);
    s->meta = json_pack("{s:i, s:f, s:f, s:f, s:f, s:I, s:s, s:{s:f}}", "variant", variant, "third",
                        1.0 / 3 + (double)step, "tiny", 5e-324, "zero", -0.0, "large",
                        1.7976931348623157e308, "counter", (json_int_t)INT64_MAX - step, "kernel",
                        "test", "kl", "beta", 0.1 + 0.2);
    s->content = (CkptContent){.stage = "sft",
                               .step = step,
                               .arrays = s->arrays,
                               .narrays = 4,
                               .meta = s->meta,
                               .config = "run: {seed: 1}\n",
                               .tokenizer = "{\"model\": \"\xc3\xa9\"}",
                               .compress = variant % 2 == 0};
    return s;
}

static inline void sample_free(Sample *s) {
    json_decref(s->meta);
    free(s);
}

static inline int sample_save(const char *dir, int64_t step, int variant, Comm *c) {
    Sample *s = sample_make(step, variant);
    int rc = ckpt_save(dir, &s->content, c);
    sample_free(s);
    return rc;
}

/* Fails unless k is bit for bit the sample of (its step, its variant); returns the variant. */
static inline int sample_check(Ckpt *k) {
    int variant = (int)json_integer_value(json_object_get(ckpt_meta(k), "variant"));
    Sample *s = sample_make(ckpt_step(k), variant);
    for (int a = 0; a < 4; a++) {
        const CkptArray *want = &s->arrays[a];
        size_t n = h5_type_size(want->type);
        for (int i = 0; i < want->ndim; i++) n *= (size_t)want->shape[i];
        unsigned char *got = xmalloc(n);
        memset(got, 0x55, n);
        CkptArray have = *want;
        have.data = got;
        int rc = ckpt_load(k, &have, 1, NULL);
        if (rc < 0) fail_msg("%s", error_message());
        if (memcmp(got, want->data, n) != 0) fail_msg("%s differs", want->name);
        free(got);
    }
    if (!json_equal(ckpt_meta(k), s->meta)) fail_msg("meta differs");
    assert_string_equal(ckpt_config(k), s->content.config);
    assert_string_equal(ckpt_tokenizer(k, NULL), s->content.tokenizer);
    assert_string_equal(ckpt_stage(k), "sft");
    sample_free(s);
    return variant;
}

/* --- directories ------------------------------------------------------------------------------ */
static inline void temp_dir(char dir[1024]) {
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, 1024, "%s/rhetor-ckpt-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
}

static inline void empty_dir(const char *dir) {
    char **names;
    int n;
    assert_int_equal(file_list(dir, &names, &n), 0);
    for (int i = 0; i < n; i++) {
        char *path = file_join(dir, names[i]);
        unlink(path);
        free(path);
    }
    file_free_list(&names, n);
}

static inline void remove_dir(const char *dir) {
    empty_dir(dir);
    rmdir(dir);
}

/* Files whose name contains `part`. */
static inline int count_files(const char *dir, const char *part) {
    char **names;
    int n, found = 0;
    assert_int_equal(file_list(dir, &names, &n), 0);
    for (int i = 0; i < n; i++) found += strstr(names[i], part) != NULL;
    file_free_list(&names, n);
    return found;
}

static inline void write_at(const char *path, int64_t at, const void *bytes, size_t n) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

#endif
