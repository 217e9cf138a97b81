/* h5_attribute.c: attributes: integers, and strings of fixed length. */
#include "base/error.h"
#include "base/h5/h5_impl.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_ATTRIBUTE = 60000 };

static int write_attribute(H5 *h, const char *object, const char *name, hid_t type,
                           const void *value) {
    CHECK(h->writing, "%s is open for reading", h->path);
    hid_t space = H5Screate(H5S_SCALAR), on = H5Oopen(h->file, object, H5P_DEFAULT);
    hid_t attribute = on < 0 ? on : H5Acreate2(on, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    int rc = ok ? 0 : h5_error(h, object, "write an attribute");
    if (attribute >= 0 && H5Aclose(attribute) < 0 && rc == 0)
        rc = h5_error(h, object, "close an attribute");
    if (space >= 0) H5Sclose(space);
    if (on >= 0 && H5Oclose(on) < 0 && rc == 0) rc = h5_error(h, object, "close");
    return rc;
}

int h5_set_str(H5 *h, const char *object, const char *name, const char *value) {
    IN_TURN;
    const size_t n = strlen(value);
    CHECK(n <= LONGEST_ATTRIBUTE, "%s: an attribute of %zu bytes; h5_write_text", name, n);
    hid_t type = h5_string_type(n + 1);
    int rc = write_attribute(h, object, name, type, value);
    H5Tclose(type);
    return rc;
}

int h5_set_i64(H5 *h, const char *object, const char *name, int64_t value) {
    IN_TURN;
    return write_attribute(h, object, name, H5T_STD_I64LE, &value);
}

static int open_attribute(H5 *h, const char *object, const char *name, hid_t *out) {
    if (!h5_exists(h, object)) return h5_missing(h, object);
    htri_t there = H5Aexists_by_name(h->file, object, name, H5P_DEFAULT);
    if (there < 0) return h5_error(h, object, "read the attributes");
    if (there == 0)
        return error_set(ERR_DATA,
                         "%s: %s has no attribute \"%s\"; the file is of another kind or "
                         "version",
                         h->path, object, name);
    *out = H5Aopen_by_name(h->file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    return *out < 0 ? h5_error(h, object, "open an attribute") : 0;
}

static int wrong_attribute(const H5 *h, const char *object, const char *name,
                           const char *expected) {
    return error_set(ERR_DATA,
                     "%s: attribute \"%s\" of %s is not %s; the file is of another kind or "
                     "version",
                     h->path, name, object, expected);
}

int h5_get_i64(H5 *h, const char *object, const char *name, int64_t *value) {
    IN_TURN;
    hid_t attribute = -1;
    TRY(open_attribute(h, object, name, &attribute));
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    int rc = 0;
    if (type < 0 || space < 0 || H5Tequal(type, H5T_STD_I64LE) <= 0 ||
        H5Sget_simple_extent_npoints(space) != 1)
        rc = wrong_attribute(h, object, name, "a 64-bit integer");
    else if (H5Aread(attribute, H5T_STD_I64LE, value) < 0)
        rc = h5_error(h, object, "read an attribute");
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return rc;
}

int h5_get_str(H5 *h, const char *object, const char *name, char **value) {
    IN_TURN;
    *value = NULL;
    hid_t attribute = -1;
    TRY(open_attribute(h, object, name, &attribute));
    hid_t type = H5Aget_type(attribute);
    size_t n = type < 0 ? 0 : H5Tget_size(type);
    int rc = 0;
    if (n == 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        n > LONGEST_ATTRIBUTE + 1)
        rc = wrong_attribute(h, object, name, "a string of fixed length");
    else {
        hid_t memory = h5_string_type(n + 1);
        char *text = xcalloc(n + 1, 1);
        if (H5Aread(attribute, memory, text) < 0) {
            rc = h5_error(h, object, "read an attribute");
            free(text);
        } else
            *value = text;
        H5Tclose(memory);
    }
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return rc;
}
