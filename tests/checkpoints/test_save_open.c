/* What is saved is what is read; what is damaged is refused, by name, and the next older is
 * taken. */
#include "tests/checkpoints/sample.h"

#include <hdf5.h>
#include <math.h>

#include "checkpoints/manifest.h"

static Comm *comm;
static char dir[1024];

static char *file_of(int64_t step, const char *suffix) {
    return xasprintf("%s/step_%08lld%s", dir, (long long)step, suffix);
}

static void test_round_trip(void **state) {
    for (int variant = 0; variant < 2; variant++) {
        int64_t step = variant ? 123456789012 : 0;
        assert_int_equal(sample_save(dir, step, variant, comm), 0);
        char *file = file_of(step, ".h5");
        Ckpt *k;
        assert_int_equal(ckpt_open(&k, file, NULL), 0);
        assert_true(ckpt_step(k) == step);
        assert_int_equal(sample_check(k), variant);
        assert_string_equal(ckpt_path(k), file);

        /* doubles of meta, bit by bit */
        double x = json_real_value(json_object_get(ckpt_meta(k), "third")),
               want = 1.0 / 3 + (double)step;
        assert_memory_equal(&x, &want, 8);
        x = json_real_value(json_object_get(ckpt_meta(k), "zero"));
        assert_true(x == 0 && signbit(x));
        x = json_real_value(json_object_get(ckpt_meta(k), "tiny"));
        assert_true(x == 5e-324);

        /* the id is the hash of the bytes */
        uint64_t hash;
        char hex[17];
        assert_int_equal(file_hash(file, &hash), 0);
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
        assert_string_equal(ckpt_id(k), hex);
        ckpt_close(&k);
        assert_null(k);
        ckpt_close(&k);

        char *report;
        assert_int_equal(ckpt_verify(file, &report), 0);
        assert_non_null(strstr(report, "good: sft, step"));
        assert_non_null(strstr(report, hex));
        free(report);
        free(file);
    }
    assert_int_equal(count_files(dir, ""), 4); /* two files, two manifests, nothing else */
    empty_dir(dir);
}

static void test_no_tokenizer(void **state) {
    Sample *s = sample_make(1, 0);
    s->content.tokenizer = NULL;
    assert_int_equal(ckpt_save(dir, &s->content, comm), 0);
    sample_free(s);
    Ckpt *k;
    size_t len = 99;
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    assert_string_equal(ckpt_tokenizer(k, &len), "");
    assert_int_equal(len, 0);
    ckpt_close(&k);
    empty_dir(dir);
}

static int add_name(void *ctx, const char *name, H5Type type, int ndim, const int64_t *shape) {
    strcat(strcat(ctx, name), " ");
    return 0;
}

static int read_array(Ckpt *k, const char *name, H5Type type, int ndim, const int64_t *shape,
                      void *out) {
    CkptArray a = {.name = name, .type = type, .ndim = ndim, .data = out};
    memcpy(a.shape, shape, (size_t)ndim * sizeof *shape);
    return ckpt_load(k, &a, 1, NULL);
}

static void test_wrong_questions(void **state) {
    assert_int_equal(sample_save(dir, 7, 0, comm), 0);
    Ckpt *k;
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    static float out[ROWS * COLUMNS];
    int64_t shape[2] = {ROWS, COLUMNS + 1};
    const char *name = "params/h.0.weight";
    assert_int_equal(read_array(k, name, H5_F32, 2, shape, out), ERR_DATA);
    assert_non_null(strstr(error_message(), "[67, 129], expected [67, 130]"));
    assert_non_null(strstr(error_message(), name));
    assert_non_null(strstr(error_message(), "step_00000007.h5"));
    shape[0] = ROWS * COLUMNS;
    assert_int_equal(read_array(k, name, H5_F32, 1, shape, out), ERR_DATA);
    shape[0] = ROWS;
    shape[1] = COLUMNS;
    assert_int_equal(read_array(k, name, H5_I32, 2, shape, out), ERR_DATA);
    assert_int_equal(read_array(k, "params/h.1.weight", H5_F32, 2, shape, out), ERR_DATA);
    assert_non_null(strstr(error_message(), "params/h.1.weight"));
    assert_int_equal(read_array(k, name, H5_F32, 2, shape, out), 0); /* still usable */

    assert_true(ckpt_has(k, name));
    assert_false(ckpt_has(k, "ema/h.0.weight"));
    char names[512] = "";
    assert_int_equal(ckpt_each(k, "params", add_name, names), 0);
    assert_string_equal(names, "params/h.0.weight ");
    *names = '\0';
    assert_int_equal(ckpt_each(k, "", add_name, names), 0);
    assert_string_equal(names, "config counters/ids counters/none meta optimizer/m/h.0.weight "
                               "params/h.0.weight tokenizer ");
    ckpt_close(&k);
    empty_dir(dir);
}

/* --- damage ----------------------------------------------------------------------------------- */

/* Step 9 was damaged: it is refused with its name and `reason`, and step 5 is taken. */
static void expect_refused(const char *reason) {
    char *file = file_of(9, ".h5");
    Ckpt *k;
    assert_int_equal(ckpt_open(&k, file, NULL), ERR_DATA);
    assert_null(k);
    if (!strstr(error_message(), "step_00000009") || !strstr(error_message(), reason))
        fail_msg("message \"%s\" does not tell the file or \"%s\"", error_message(), reason);
    char *report;
    assert_int_equal(ckpt_verify(file, &report), ERR_DATA);
    assert_string_equal(report, error_message());
    free(report);
    free(file);
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    assert_non_null(k);
    assert_int_equal(ckpt_step(k), 5);
    sample_check(k);
    ckpt_close(&k);
}

static void test_flipped_bits(void **state) {
    assert_int_equal(sample_save(dir, 5, 0, comm), 0);
    assert_int_equal(sample_save(dir, 9, 1, comm), 0);
    char *file = file_of(9, ".h5"), *bytes;
    size_t size;
    assert_int_equal(file_read(file, &bytes, &size), 0);
    for (int i = 0; i < 64; i++) {
        uint64_t x = sample_bits(i, 99, 0);
        size_t at = i == 0 ? 0 : i == 1 ? size - 1 : x % size;
        char flipped = (char)(bytes[at] ^ (1 << (x >> 60) % 8));
        write_at(file, (int64_t)at, &flipped, 1);
        if (i < 6) { /* the whole walk for a few, the opening for all */
            expect_refused("hash");
        } else {
            Ckpt *k;
            if (ckpt_open(&k, file, NULL) != ERR_DATA)
                fail_msg("a flip in byte %zu was not seen", at);
        }
        write_at(file, (int64_t)at, &bytes[at], 1);
    }
    Ckpt *k;
    assert_int_equal(ckpt_open(&k, file, NULL), 0); /* all flips undone */
    ckpt_close(&k);
    free(bytes);
    free(file);
    empty_dir(dir);
}

static void test_truncated(void **state) {
    assert_int_equal(sample_save(dir, 5, 0, comm), 0);
    assert_int_equal(sample_save(dir, 9, 1, comm), 0);
    char *file = file_of(9, ".h5");
    int64_t size = file_size(file);
    const int64_t lengths[] = {size - 1, size / 2, 8, 0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(truncate(file, lengths[i]), 0);
        expect_refused("truncated");
    }
    /* longer is as wrong */
    assert_int_equal(truncate(file, size + 1), 0);
    expect_refused("manifest says");
    free(file);
    empty_dir(dir);
}

static void test_manifest(void **state) {
    assert_int_equal(sample_save(dir, 5, 0, comm), 0);
    assert_int_equal(sample_save(dir, 9, 1, comm), 0);
    char *manifest = file_of(9, ".json"), *older = file_of(5, ".json"), *good, *text;
    size_t size, len;
    assert_int_equal(file_read(manifest, &good, &size), 0);

    assert_int_equal(truncate(manifest, (off_t)size / 2), 0);
    expect_refused("JSON");
    assert_int_equal(file_read(older, &text, &len), 0); /* that of another checkpoint */
    assert_int_equal(file_write_durable(manifest, text, len), 0);
    free(text);
    expect_refused("manifest says");
    assert_int_equal(file_write_durable(manifest, "{}", 2), 0);
    expect_refused("format");
    assert_int_equal(file_write_durable(manifest, "{\"format\": 999}", 15), 0);
    expect_refused("another version");
    /* none: never committed */
    assert_int_equal(file_remove(manifest), 0);
    expect_refused("no manifest");
    free(good);
    free(manifest);

    /* the file is gone, the manifest is there */
    assert_int_equal(sample_save(dir, 9, 1, comm), 0);
    char *file = file_of(9, ".h5");
    assert_int_equal(file_remove(file), 0);
    Ckpt *k;
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    assert_int_equal(ckpt_step(k), 5);
    ckpt_close(&k);

    /* nothing good is left: not the same as nothing at all */
    assert_int_equal(truncate(older, 3), 0);
    assert_int_equal(ckpt_open_newest(&k, dir, comm), ERR_DATA);
    assert_non_null(strstr(error_message(), "none of its 2 checkpoints is good"));
    assert_non_null(strstr(error_message(), "step_00000009"));
    free(file);
    free(older);
    empty_dir(dir);
    assert_int_equal(ckpt_open_newest(&k, dir, comm), 0);
    assert_null(k);
}

/* A run directory, its checkpoints directory, a file. */
static void test_open_at(void **state) {
    char *run = xasprintf("%s/run", dir), *sub = xasprintf("%s/run/checkpoints", dir);
    Ckpt *k;
    assert_int_equal(ckpt_open_newest(&k, sub, comm), 0); /* does not exist: none */
    assert_null(k);
    assert_int_equal(ckpt_open(&k, run, NULL), ERR_IO);
    assert_int_equal(file_make_dirs(sub), 0);
    assert_int_equal(ckpt_open(&k, run, NULL), ERR_DATA);
    assert_non_null(strstr(error_message(), "holds no checkpoint"));
    for (int64_t step = 10; step <= 30; step += 10)
        assert_int_equal(sample_save(sub, step, 0, comm), 0);
    assert_int_equal(ckpt_best_step(sub, NULL), -1);
    assert_int_equal(ckpt_mark_best(sub, 20, 0.1 + 0.2, comm), 0);
    double value = 0;
    assert_int_equal(ckpt_best_step(sub, &value), 20);
    assert_true(value == 0.1 + 0.2);

    const struct {
        const char *path;
        Comm *comm;
        int64_t step;
    } cases[] = {{run, NULL, 20}, {run, comm, 20}, {sub, NULL, 20}, {sub, comm, 20}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ckpt_open(&k, cases[i].path, cases[i].comm), 0);
        assert_int_equal(ckpt_step(k), cases[i].step);
        ckpt_close(&k);
    }
    char *file = xasprintf("%s/step_00000020.h5", sub), *json = xasprintf("%s/best.json", sub);
    assert_int_equal(ckpt_open(&k, file, NULL), 0);
    assert_int_equal(ckpt_step(k), 20);
    ckpt_close(&k);
    assert_int_equal(truncate(file, 100), 0); /* the best is damaged: the newest */
    assert_int_equal(ckpt_open(&k, run, NULL), 0);
    assert_int_equal(ckpt_step(k), 30);
    ckpt_close(&k);
    assert_int_equal(ckpt_open(&k, file, NULL), ERR_DATA);
    assert_int_equal(file_write_durable(json, "[", 1), 0);
    assert_int_equal(ckpt_best_step(sub, NULL), -1);
    free(file);
    free(json);
    remove_dir(sub);
    rmdir(run);
    free(run);
    free(sub);
}

/* What earlier formats wrote, tests/golden/checkpoint/checkpoint_golden.c; the checksums of v1_none
 * are HDF5's own. */
static void test_older_formats(void **state) {
    static const char *const files[] = {"v1_none.h5", "v1_zstd.h5", "v2_none.h5", "v2_zstd.h5"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char *file = xasprintf("tests/golden/checkpoint/%s", files[f]), *report;
        if (ckpt_verify(file, &report) < 0) fail_msg("%s", report);
        assert_non_null(strstr(report, "good: sft, step 7, 6 datasets"));
        free(report);
        Ckpt *k;
        assert_int_equal(ckpt_open(&k, file, NULL), 0);
        float w[1200];
        int64_t ids[7];
        assert_int_equal(read_array(k, "params/h.0.weight", H5_F32, 2, (int64_t[]){40, 30}, w), 0);
        assert_int_equal(read_array(k, "counters/ids", H5_I64, 1, (int64_t[]){7}, ids), 0);
        for (int i = 0; i < 1200; i++) assert_true(w[i] == (float)(i % 37) / 8 - 2);
        for (int i = 0; i < 7; i++) assert_int_equal(ids[i], (int64_t)i * i - 3);
        assert_string_equal(ckpt_config(k), "run: {seed: 1}\n");
        assert_string_equal(ckpt_tokenizer(k, NULL), "{}");
        ckpt_close(&k);
        free(file);
    }
}

/* --- a stranger's ----------------------------------------------------------------------------- */

/* A file whose bytes are what its manifest says, and which shows the bytes of another file. */
static void test_borrowed_bytes(void **state) {
    assert_int_equal(sample_save(dir, 7, 0, comm), 0);
    char *file = file_of(7, ".h5"), *secret = file_join(dir, "secret"), *report;
    assert_int_equal(file_write_durable(secret, "run: {seed: 7}", 15), 0);
    const hsize_t dims[] = {15};
    const hid_t h = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT),
                create = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, dims, NULL);
    assert_true(H5Ldelete(h, "config", H5P_DEFAULT) >= 0);
    assert_true(H5Pset_external(create, secret, 0, 15) >= 0);
    const hid_t data =
        H5Dcreate2(h, "config", H5T_STD_U8LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(data >= 0 && H5Dclose(data) >= 0);
    H5Sclose(space);
    H5Pclose(create);
    assert_true(H5Fclose(h) >= 0);
    Manifest m = {.step = 7, .bytes = file_size(file), .stage = "sft"};
    assert_int_equal(file_hash(file, &m.hash), 0);
    assert_int_equal(manifest_write(&m, file), 0);
    assert_int_equal(ckpt_verify(file, &report), ERR_DATA);
    assert_non_null(strstr(report, "/config is a dataset in external storage"));
    free(report);
    free(secret);
    free(file);
    empty_dir(dir);
}

int main(void) {
    comm_open_alone(&comm);
    temp_dir(dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_no_tokenizer),
        cmocka_unit_test(test_wrong_questions), cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_truncated),       cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_open_at),         cmocka_unit_test(test_older_formats),
        cmocka_unit_test(test_borrowed_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_dir(dir);
    comm_close(&comm);
    return failed;
}
