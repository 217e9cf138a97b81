/* test_hostile.c: files of a stranger. What a file says lies elsewhere is not followed,
 * what it claims to hold is not believed; what it does hold is read, whoever wrote it. The files
 * are made with HDF5's own functions, as a stranger would make them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>

#include "base/error.h"
#include "base/file.h"
#include "base/h5/h5.h"
#include "tests/base/scratch.h"

static char *path, *secret;
static const hsize_t twelve[] = {12};

static hid_t create_file(void) {
    unlink(path);
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

/* A dataset of bytes with these properties. */
static void make_bytes(hid_t file, const char *name, const hsize_t *dims, hid_t create) {
    const hid_t space = H5Screate_simple(1, dims, NULL);
    const hid_t data =
        H5Dcreate2(file, name, H5T_STD_U8LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(data >= 0);
    H5Dclose(data);
    H5Sclose(space);
}

/* --- what lies elsewhere ---------------------------------------------------------------------- */
static void external_storage(hid_t file) {
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_external(create, secret, 0, 12) >= 0);
    make_bytes(file, "object", twelve, create);
    H5Pclose(create);
}

static void virtual_dataset(hid_t file) {
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, twelve, NULL);
    assert_true(H5Pset_virtual(create, space, secret, "/x", space) >= 0);
    make_bytes(file, "object", twelve, create);
    H5Sclose(space);
    H5Pclose(create);
}

static void soft_link(hid_t file) {
    assert_true(H5Lcreate_soft("/other", file, "object", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void external_link(hid_t file) {
    assert_true(H5Lcreate_external(secret, "/x", file, "object", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void committed_type(hid_t file) {
    const hid_t type = H5Tcopy(H5T_STD_U8LE);
    assert_true(H5Tcommit2(file, "object", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Tclose(type);
}

static hid_t follow(const char *name, hid_t group, const void *data, size_t n, hid_t access,
                    hid_t transfer) {
    return H5I_INVALID_HID;
}

static void user_link(hid_t file) {
    const H5L_class_t class = {
        H5L_LINK_CLASS_T_VERS, (H5L_type_t)200, "ours", NULL, NULL, NULL, follow, NULL, NULL};
    assert_true(H5Lregister(&class) >= 0);
    assert_true(H5Lcreate_ud(file, "object", (H5L_type_t)200, "x", 1, H5P_DEFAULT, H5P_DEFAULT) >=
                0);
    H5Lunregister((H5L_type_t)200);
}

static void test_elsewhere(void **unused) {
    static const struct {
        void (*make)(hid_t);
        const char *what;
    } kinds[] = {{external_storage, "in external storage"},
                 {virtual_dataset, "a virtual dataset"},
                 {soft_link, "a soft link"},
                 {external_link, "an external link"},
                 {user_link, "a user-defined link"},
                 {committed_type, "a committed datatype"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int deep = 0; deep < 2; deep++) { /* in the root, and far down */
            hid_t file = create_file(), at = file;
            if (deep) {
                hid_t groups = H5Pcreate(H5P_LINK_CREATE);
                H5Pset_create_intermediate_group(groups, 1);
                at = H5Gcreate2(file, "a/b/c", groups, H5P_DEFAULT, H5P_DEFAULT);
                H5Pclose(groups);
            }
            make_bytes(file, "fine", twelve, H5P_DEFAULT);
            kinds[i].make(at);
            if (deep) H5Gclose(at);
            H5Fclose(file);
            H5 *h;
            FAILS(h5_open(&h, path), ERR_DATA, deep ? "/a/b/c/object is " : "/object is ",
                  kinds[i].what);
            assert_non_null(strstr(error_message(), path));
            assert_null(h);
        }
}

/* --- what no file can hold -------------------------------------------------------------------- */
static void test_claims(void **unused) {
    static const hsize_t large[] = {(hsize_t)1 << 50}, whole[] = {1 << 20}, most[] = {1ull << 62};
    static const hsize_t cube[] = {1ull << 40, 1ull << 40, 16};
    hid_t file = create_file(), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 1, whole);
    make_bytes(file, "large", large, create);
    make_bytes(file, "most", most, create);
    H5Pclose(create);
    create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 3, (const hsize_t[]){1, 1, 16});
    hid_t space = H5Screate_simple(3, cube, NULL);
    hid_t data = H5Dcreate2(file, "cube", H5T_STD_U8LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(data >= 0); /* 2^84 elements: a product of 64 bits would be 0 */
    H5Dclose(data);
    H5Sclose(space);
    H5Pclose(create);
    H5Fclose(file);
    H5 *h;
    OK(h5_open(&h, path));
    static const char *const names[] = {"large", "most", "cube"};
    for (int i = 0; i < 3; i++) {
        int ndim;
        int64_t shape[H5_MAX_DIM];
        H5Type type;
        char *text;
        size_t len;
        FAILS(h5_shape(h, names[i], &type, &ndim, shape), ERR_DATA, names[i],
              "claims more elements than a file of");
        FAILS(h5_read_text(h, names[i], &text, &len), ERR_DATA, path, "can hold");
    }
    OK(h5_close(&h));
}

/* --- what is fine ----------------------------------------------------------------------------- */

/* A text is a string to everybody, with our checksum below it. */
static void test_text_is_a_string(void **unused) {
    static const char *const text[] = {"{\"a\": \"é\"}\n", ""};
    H5 *h;
    unlink(path);
    OK(h5_create(&h, path));
    OK(h5_write_text(h, "/meta", text[0]));
    OK(h5_write_text(h, "/none", text[1]));
    OK(h5_close(&h));
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    for (int i = 0; i < 2; i++) {
        const hid_t data = H5Dopen2(file, i ? "none" : "meta", H5P_DEFAULT);
        const hid_t type = H5Dget_type(data), space = H5Dget_space(data);
        char got[64] = "x";
        assert_int_equal(H5Tget_class(type), H5T_STRING);
        assert_int_equal(H5Tget_cset(type), H5T_CSET_UTF8);
        assert_int_equal(H5Tis_variable_str(type), 0);
        assert_int_equal(H5Tget_size(type), strlen(text[i]) + 1);
        assert_int_equal(H5Sget_simple_extent_npoints(space), 1);
        const hid_t created = H5Dget_create_plist(data); /* h5dump has no zstd */
        assert_int_equal(H5Pget_nfilters(created), 1);
        assert_true(H5Pget_filter_by_id2(created, H5Z_FILTER_FLETCHER32, NULL, NULL, NULL, 0, NULL,
                                         NULL) >= 0);
        H5Pclose(created);
        assert_true(H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
        assert_string_equal(got, text[i]);
        H5Sclose(space);
        H5Tclose(type);
        H5Dclose(data);
    }
    H5Fclose(file);
}

/* Arrays and texts as another program lays them out. */
static void test_others_write_plainly(void **unused) {
    static const char text[16] = "{\"b\": 2}";
    uint8_t bytes[12] = "Hello, world", got[12];
    const hsize_t one[] = {1};
    hid_t file = create_file(), type = H5Tcopy(H5T_C_S1);
    make_bytes(file, "bytes", twelve, H5P_DEFAULT);
    hid_t data = H5Dopen2(file, "bytes", H5P_DEFAULT);
    H5Dwrite(data, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes);
    H5Dclose(data);
    H5Tset_size(type, sizeof text);
    hid_t space = H5Screate_simple(1, one, NULL);
    data = H5Dcreate2(file, "text", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text);
    H5Dclose(data);
    H5Sclose(space);
    H5Tclose(type);
    H5Lcreate_hard(file, "bytes", file, "again", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    H5 *h;
    char *s;
    size_t len;
    OK(h5_open(&h, path));
    OK(h5_read(h, "bytes", H5_U8, got, 12));
    assert_memory_equal(got, bytes, 12);
    OK(h5_read(h, "again", H5_U8, got, 12));
    OK(h5_read_text(h, "text", &s, &len));
    assert_string_equal(s, text);
    assert_int_equal(len, strlen(text));
    free(s);
    OK(h5_close(&h));
}

static int begin(void **state) {
    const int rc = scratch_make(state);
    path = scratch("file.h5");
    H5 *h; /* ours starts the library */
    OK(h5_create(&h, path));
    OK(h5_close(&h));
    secret = scratch("secret");
    scratch_text(secret, "do not show!");
    return rc;
}

static int end(void **state) {
    free(path);
    free(secret);
    return scratch_remove(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_text_is_a_string),
        cmocka_unit_test(test_others_write_plainly),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
