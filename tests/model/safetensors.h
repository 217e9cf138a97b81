/* safetensors.h (tests): reads a golden file whole. Eight bytes of header length, a JSON header
 * {name: {dtype, shape, data_offsets}}, then the data. Any failure ends the test: a golden file
 * that cannot be read must not look like a pass. */
#ifndef TESTS_SAFETENSORS_H
#define TESTS_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

typedef struct Safetensors {
    char *bytes;
    const char *data;
    json_t *header;
} Safetensors;

static inline void st_open(Safetensors *st, const char *path) {
    size_t len;
    uint64_t head;
    CHECK(file_read(path, &st->bytes, &len) == 0, "%s", error_message());
    CHECK(len > 8, "%s: %zu bytes", path, len);
    memcpy(&head, st->bytes, 8);
    CHECK(head < len, "%s: header of %llu bytes", path, (unsigned long long)head);
    CHECK(json_parse(&st->header, st->bytes + 8, head, path, 1) == 0, "%s", error_message());
    st->data = st->bytes + 8 + head;
}

static inline void st_close(Safetensors *st) {
    json_decref(st->header);
    free(st->bytes);
}

static inline bool st_has(const Safetensors *st, const char *name) {
    return json_object_get(st->header, name) != NULL;
}

/* The tensor's n numbers as doubles; malloc'd. rows, cols (or NULL): the shape of a matrix. */
static inline double *st_get(const Safetensors *st, const char *name, int64_t *n, int64_t *rows,
                             int64_t *cols) {
    json_t *t = json_object_get(st->header, name), *shape = json_object_get(t, "shape");
    CHECK(t && shape, "no tensor %s in the golden file", name);
    const char *dtype = json_string_value(json_object_get(t, "dtype"));
    const char *at =
        st->data + json_integer_value(json_array_get(json_object_get(t, "data_offsets"), 0));
    int64_t count = 1;
    for (size_t i = 0; i < json_array_size(shape); i++)
        count *= json_integer_value(json_array_get(shape, i));
    if (rows) *rows = json_integer_value(json_array_get(shape, 0));
    if (cols) *cols = count / json_integer_value(json_array_get(shape, 0));
    double *out = malloc(sizeof *out * (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        float f;
        int32_t k;
        if (strcmp(dtype, "F64") == 0) {
            memcpy(&out[i], at + 8 * i, 8);
        } else if (strcmp(dtype, "F32") == 0) {
            memcpy(&f, at + 4 * i, 4);
            out[i] = (double)f;
        } else {
            CHECK(strcmp(dtype, "I32") == 0, "dtype %s of %s", dtype, name);
            memcpy(&k, at + 4 * i, 4);
            out[i] = k;
        }
    }
    *n = count;
    return out;
}

#endif
