/* safetensors.c: reading and writing safetensors files. See safetensors.h. */
#include "checkpoints/exchange/safetensors.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LENGTH = 8,                /* bytes of the header's length */
    LONGEST_HEADER = 16 << 20, /* some 100,000 tensors; GPT-2's has 16 KB */
    PIECE = 1 << 16            /* elements read or written at a time */
};

static const struct {
    const char *name;
    int bytes;
    bool numbers;
} types[] = {
#define X(name, bytes, numbers) {#name, bytes, numbers},
    ST_TYPES(X)
#undef X
};

struct SafeTensors {
    int fd;
    char *path;
    StTensor *v; /* sorted by name */
    int n;
};

const char *safetensors_path(const SafeTensors *s) { return s->path; }
const StTensor *safetensors_list(const SafeTensors *s, int *n) {
    *n = s->n;
    return s->v;
}

/* --- the header ------------------------------------------------------------------------------- */

static int read_at(const SafeTensors *s, void *out, size_t len, int64_t at) {
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(s->fd, (char *)out + done, len - done, (off_t)at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_error(s->path, "read");
        if (n == 0) return error_set(ERR_DATA, "%s: ends while it is read", s->path);
        done += (size_t)n;
    }
    return 0;
}

static int read_type(StTensor *t, const json_t *j) {
    const char *name;
    TRY(json_get_str(j, "dtype", &name));
    for (int i = 0; i < ST_NTYPES; i++)
        if (strcmp(name, types[i].name) == 0) {
            t->type = (StType)i;
            return 0;
        }
    return error_set(ERR_DATA, "dtype \"%s\" is not known; expected F32, F16, BF16, ...", name);
}

static int read_shape(StTensor *t, const json_t *shape) {
    if (!json_is_array(shape)) return error_set(ERR_DATA, "\"shape\" is not a list");
    if (json_array_size(shape) > ST_MAX_DIM)
        return error_set(ERR_DATA, "%zu dimensions, expected at most %d", json_array_size(shape),
                         ST_MAX_DIM);
    t->n = 1;
    t->ndim = (int)json_array_size(shape);
    bool overflow = false;
    for (int i = 0; i < t->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return error_set(ERR_DATA, "dimension %d is not a count", i);
        t->shape[i] = json_integer_value(d);
        overflow |= __builtin_mul_overflow(t->n, t->shape[i], &t->n);
    }
    int64_t bytes;
    if (overflow || __builtin_mul_overflow(t->n, (int64_t)types[t->type].bytes, &bytes))
        return error_set(ERR_DATA, "its shape has more elements than any file");
    return 0;
}

/* The bytes must be within the data and as many as shape and type ask for. */
static int read_offsets(StTensor *t, const json_t *offsets, int64_t data, int64_t size) {
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return error_set(ERR_DATA, "\"data_offsets\" is not a pair of numbers");
    const int64_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || end > size - data)
        return error_set(ERR_DATA,
                         "data_offsets [%" PRId64 ", %" PRId64 "] are outside the %" PRId64
                         " bytes of data: truncated file?",
                         begin, end, size - data);
    if (end - begin != t->n * types[t->type].bytes)
        return error_set(ERR_DATA, "%" PRId64 " bytes, expected %" PRId64 " for its shape and %s",
                         end - begin, t->n * types[t->type].bytes, types[t->type].name);
    t->offset = data + begin;
    return 0;
}

static int read_tensor(StTensor *t, const json_t *j, int64_t data, int64_t size) {
    if (!json_is_object(j))
        return error_set(ERR_DATA, "not an object of dtype, shape, data_offsets");
    TRY(read_type(t, j));
    TRY(read_shape(t, json_object_get(j, "shape")));
    return read_offsets(t, json_object_get(j, "data_offsets"), data, size);
}

static int by_offset(const void *a, const void *b) {
    const StTensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->n > 0) - (y->n > 0); /* empty ones first: they end where the other begins */
}
static int by_name(const void *a, const void *b) {
    return strcmp(((const StTensor *)a)->name, ((const StTensor *)b)->name);
}

/* The format leaves no gaps: overlaps and bytes that belong to nobody are damage. */
static int check_order(SafeTensors *s, int64_t data, int64_t size) {
    int64_t at = data;
    qsort(s->v, (size_t)s->n, sizeof *s->v, by_offset);
    for (int i = 0; i < s->n; i++) {
        const StTensor *t = &s->v[i];
        if (t->offset != at)
            return error_set(ERR_DATA,
                             "%s: the data of %.200s begin at byte %" PRId64 ", %s %" PRId64,
                             s->path, t->name, t->offset - data,
                             t->offset < at ? "before another tensor's end at"
                                            : "but the tensors before it end at",
                             at - data);
        at += t->n * types[t->type].bytes;
    }
    if (at != size)
        return error_set(ERR_DATA,
                         "%s: %" PRId64 " bytes follow the last tensor; the file or its header is "
                         "damaged",
                         s->path, size - at);
    qsort(s->v, (size_t)s->n, sizeof *s->v, by_name);
    return 0;
}

static int read_tensors(SafeTensors *s, const json_t *header, int64_t data, int64_t size) {
    const char *name;
    json_t *j;
    if (!json_is_object(header))
        return error_set(ERR_DATA, "%s: its header is not a JSON object", s->path);
    s->v = xcalloc(json_object_size(header) + 1, sizeof *s->v);
    json_object_foreach((json_t *)(uintptr_t)header, name, j) {
        if (strcmp(name, "__metadata__") == 0) continue;
        StTensor *t = &s->v[s->n++];
        t->name = xstrdup(name);
        int rc = read_tensor(t, j, data, size);
        if (rc < 0) return error_wrap(rc, "%s: tensor %.200s", s->path, name);
    }
    return check_order(s, data, size);
}

static int read_header(SafeTensors *s) {
    const off_t size = lseek(s->fd, 0, SEEK_END);
    unsigned char length[LENGTH];
    if (size < 0) return file_error(s->path, "find the end");
    if (size < LENGTH)
        return error_set(ERR_DATA, "%s: %lld bytes: not a safetensors file, or truncated", s->path,
                         (long long)size);
    TRY(read_at(s, length, LENGTH, 0));
    uint64_t len = 0;
    for (int i = LENGTH; i-- > 0;) len = len << 8 | length[i];
    if (len > LONGEST_HEADER)
        return error_set(ERR_DATA,
                         "%s: its first bytes announce a header of %" PRIu64
                         " bytes, expected at most %d: not a safetensors file?",
                         s->path, len, LONGEST_HEADER);
    if ((int64_t)len > size - LENGTH)
        return error_set(ERR_DATA,
                         "%s: a header of %" PRIu64 " bytes in a file of %lld: truncated; copy it "
                         "again",
                         s->path, len, (long long)size);
    AUTOFREE char *text = xmalloc(len + 1);
    json_auto_t *header = NULL;
    int rc = read_at(s, text, len, LENGTH);
    if (rc == 0) rc = json_parse(&header, text, len, s->path, 1);
    if (rc == 0) rc = read_tensors(s, header, LENGTH + (int64_t)len, size);
    return rc;
}

int safetensors_open(SafeTensors **out, const char *path) {
    *out = NULL;
    SafeTensors *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(path);
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = s->fd < 0 ? file_error(path, "open") : read_header(s);
    if (rc < 0)
        safetensors_close(&s);
    else
        *out = s;
    return rc;
}

void safetensors_close(SafeTensors **sp) {
    SafeTensors *s = *sp;
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    for (int i = 0; i < s->n; i++) free(s->v[i].name);
    free(s->v);
    free(s->path);
    free(s);
    *sp = NULL;
}

const StTensor *safetensors_find(const SafeTensors *s, const char *name) {
    const StTensor key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, s->v, (size_t)s->n, sizeof *s->v, by_name);
}

/* --- values ----------------------------------------------------------------------------------- */

static double from_half(uint16_t h) {
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double sign = h >> 15 ? -1 : 1;
    if (exponent == 31) return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static double from_bfloat(uint16_t b) {
    const uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static double number(StType type, const unsigned char *at) {
    double d;
    float f;
    int32_t i;
    uint16_t h;
    switch (type) {
    case ST_F64: memcpy(&d, at, sizeof d); return d;
    case ST_F32: memcpy(&f, at, sizeof f); return (double)f;
    case ST_I32: memcpy(&i, at, sizeof i); return i;
    case ST_F16: memcpy(&h, at, sizeof h); return from_half(h);
    default: memcpy(&h, at, sizeof h); return from_bfloat(h);
    }
}

int safetensors_read(const SafeTensors *s, const StTensor *t, int64_t from, int64_t n,
                     double *out) {
    CHECK(from >= 0 && n >= 0 && from <= t->n - n, "elements %" PRId64 "+%" PRId64 " of %s", from,
          n, t->name);
    if (!types[t->type].numbers)
        return error_set(ERR_DATA, "%s: %.200s has dtype %s, expected F32, F16, BF16 or F64",
                         s->path, t->name, types[t->type].name);
    const int64_t size = types[t->type].bytes;
    AUTOFREE unsigned char *bytes = xmalloc((size_t)((n < PIECE ? n : PIECE) * size) + 1);
    int rc = 0;
    for (int64_t done = 0; done < n && rc == 0; done += PIECE) {
        const int64_t m = n - done < PIECE ? n - done : PIECE;
        rc = read_at(s, bytes, (size_t)(m * size), t->offset + (from + done) * size);
        for (int64_t i = 0; i < m && rc == 0; i++)
            out[done + i] = number(t->type, bytes + i * size);
    }
    return rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct StWriter {
    FILE *f;
    char *path, *temporary;
    int64_t left; /* elements that are still to come */
};

/* Spaces at its end let the data begin at a multiple of 8. */
static char *make_header(const StTensor *t, int n, int64_t *total) {
    json_t *header = json_object(), *meta = json_pack("{s:s}", "format", "pt");
    json_object_set_new(header, "__metadata__", meta); /* transformers asks for it */
    *total = 0;
    for (int i = 0; i < n; i++) {
        json_t *shape = json_array();
        int64_t count = 1;
        for (int d = 0; d < t[i].ndim; d++) {
            json_array_append_new(shape, json_integer(t[i].shape[d]));
            count *= t[i].shape[d];
        }
        json_t *j =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                      (json_int_t)(*total * 4), (json_int_t)((*total + count) * 4));
        CHECK(j && !json_object_get(header, t[i].name), "tensor %s", t[i].name);
        json_object_set_new(header, t[i].name, j);
        *total += count;
    }
    AUTOFREE char *text = json_dumps(header, JSON_COMPACT);
    CHECK(text, "a header of %d tensors", n);
    json_decref(header);
    const int pad = (int)(-strlen(text) & 7);
    return xasprintf("%s%*s", text, pad, "");
}

int safetensors_create(StWriter **out, const char *path, const StTensor *t, int n) {
    *out = NULL;
    StWriter *w = xcalloc(1, sizeof *w);
    w->path = xstrdup(path);
    w->temporary = xasprintf("%s.tmp.%ld", path, (long)getpid());
    w->f = fopen(w->temporary, "we");
    if (!w->f) {
        int rc = file_error(path, "create");
        safetensors_abandon(&w);
        return rc;
    }
    AUTOFREE char *header = make_header(t, n, &w->left);
    unsigned char length[LENGTH];
    for (int i = 0; i < LENGTH; i++) length[i] = (unsigned char)(strlen(header) >> 8 * i);
    int rc = 0;
    if (fwrite(length, 1, LENGTH, w->f) != LENGTH || fputs(header, w->f) < 0)
        rc = file_error(path, "write");
    if (rc < 0)
        safetensors_abandon(&w);
    else
        *out = w;
    return rc;
}

int safetensors_write(StWriter *w, const float *x, int64_t n) {
    CHECK(n <= w->left, "%s: %" PRId64 " values too many", w->path, n - w->left);
    w->left -= n;
    return fwrite(x, sizeof *x, (size_t)n, w->f) == (size_t)n ? 0 : file_error(w->path, "write");
}

int safetensors_commit(StWriter **wp) {
    StWriter *w = *wp;
    CHECK(w->left == 0, "%s: %" PRId64 " values were not written", w->path, w->left);
    FILE *f = w->f;
    w->f = NULL;
    int rc = fclose(f) != 0 ? file_error(w->path, "close") : 0;
    if (rc == 0) rc = file_rename_durable(w->temporary, w->path);
    safetensors_abandon(wp); /* after the rename there is nothing to remove */
    return rc;
}

void safetensors_abandon(StWriter **wp) {
    StWriter *w = *wp;
    if (!w) return;
    if (w->f) fclose(w->f);
    unlink(w->temporary);
    free(w->path);
    free(w->temporary);
    free(w);
    *wp = NULL;
}
