/* gguf.c: reading and writing GGUF files. See gguf.h. */
#include "checkpoints/exchange/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

enum {
    ALIGNMENT = 32,      /* where general.alignment does not say */
    LONGEST_KEY = 65535, /* the specification's */
    LONGEST_TEXT = 1 << 26,
    MOST_VALUES =
        1 << 25, /* in all lists: twice the largest vocabulary's tokens, types and scores */
    MOST_TENSORS = 1 << 20,
    PIECE = 1 << 16 /* elements read or written at a time */
};

static const struct {
    const char *name;
    uint32_t number;
    int64_t elements, bytes; /* of a block */
} types[] = {
#define X(name, number, elements, bytes) {#name, number, elements, bytes},
    GGUF_TYPES(X)
#undef X
};

/* Types of metadata, by their numbers. */
typedef enum ValueType {
    VALUE_U8,
    VALUE_I8,
    VALUE_U16,
    VALUE_I16,
    VALUE_U32,
    VALUE_I32,
    VALUE_F32,
    VALUE_BOOL,
    VALUE_STRING,
    VALUE_ARRAY,
    VALUE_U64,
    VALUE_I64,
    VALUE_F64,
    VALUE_TYPES
} ValueType;
static const int value_bytes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8}; /* at least */

struct Gguf {
    int fd;
    char *path;
    int64_t size;
    json_t *meta;
    GgufTensor *v; /* sorted by name */
    int n;
};

const char *gguf_type_name(GgufType t) { return types[t].name; }

int64_t gguf_block(GgufType t, int64_t *bytes) {
    *bytes = types[t].bytes;
    return types[t].elements;
}

const char *gguf_path(const Gguf *g) { return g->path; }
const json_t *gguf_meta(const Gguf *g) { return g->meta; }
const GgufTensor *gguf_list(const Gguf *g, int *n) {
    *n = g->n;
    return g->v;
}

/* --- before the data -------------------------------------------------------------------------- */

typedef struct GgufReader {
    Gguf *g;
    FILE *f;
    int64_t at;     /* bytes read */
    int64_t values; /* of lists */
} GgufReader;

static int64_t left(const GgufReader *r) { return r->g->size - r->at; }

static int truncated(const GgufReader *r) {
    return error_set(ERR_DATA,
                     "%s: ends within its metadata, after %" PRId64 " bytes: truncated; copy it "
                     "again",
                     r->g->path, r->g->size);
}

static int get(GgufReader *r, void *out, size_t len) {
    if ((int64_t)len > left(r)) return truncated(r);
    r->at += (int64_t)len;
    return fread(out, 1, len, r->f) == len ? 0 : file_error(r->g->path, "read");
}

/* An unsigned number of that many bytes. */
static int get_number(GgufReader *r, int bytes, uint64_t *out) {
    unsigned char b[8];
    TRY(get(r, b, (size_t)bytes));
    *out = 0;
    for (int i = bytes; i-- > 0;) *out = *out << 8 | b[i];
    return 0;
}

static int get_u32(GgufReader *r, uint32_t *out) {
    uint64_t v;
    TRY(get_number(r, 4, &v));
    *out = (uint32_t)v;
    return 0;
}

/* malloc'd, NUL-terminated. */
static int get_string(GgufReader *r, uint64_t longest, char **out, size_t *len) {
    uint64_t n;
    TRY(get_number(r, 8, &n));
    if (n > longest)
        return error_set(ERR_DATA,
                         "%s: a text of %" PRIu64 " bytes, expected at most %" PRIu64
                         "; the file is damaged",
                         r->g->path, n, longest);
    if ((int64_t)n > left(r)) return truncated(r);
    *out = xmalloc(n + 1);
    int rc = get(r, *out, n);
    (*out)[n] = '\0';
    *len = n;
    if (rc < 0) free(*out);
    return rc;
}

/* A name: printable, as messages show it. */
static int get_name(GgufReader *r, char **out, const char *what) {
    size_t len;
    TRY(get_string(r, LONGEST_KEY, out, &len));
    bool text = len > 0;
    for (size_t i = 0; i < len; i++) text &= (unsigned char)(*out)[i] >= ' ';
    if (text) return 0;
    free(*out);
    return error_set(ERR_DATA, "%s: the name of %s is no text; the file is damaged", r->g->path,
                     what);
}

static int get_scalar(GgufReader *r, ValueType type, json_t **out) {
    uint64_t v;
    char *text;
    size_t len;
    double d;
    if (type == VALUE_STRING) {
        TRY(get_string(r, LONGEST_TEXT, &text, &len));
        *out = json_stringn(text, len);
        free(text);
        return *out ? 0 : error_set(ERR_DATA, "it is no UTF-8");
    }
    TRY(get_number(r, value_bytes[type], &v));
    const int unused = 64 - 8 * value_bytes[type];
    const int64_t sign = (int64_t)(v << unused) >> unused;
    const uint32_t bits = (uint32_t)v;
    float f;
    switch (type) {
    case VALUE_BOOL: *out = v <= 1 ? json_boolean(v) : NULL; break;
    case VALUE_F32:
        memcpy(&f, &bits, sizeof f);
        *out = json_real((double)f);
        break;
    case VALUE_F64:
        memcpy(&d, &v, sizeof d);
        *out = json_real(d);
        break;
    case VALUE_I8:
    case VALUE_I16:
    case VALUE_I32:
    case VALUE_I64: *out = json_integer(sign); break;
    default: *out = v <= INT64_MAX ? json_integer((json_int_t)v) : NULL;
    }
    return *out ? 0 : error_set(ERR_DATA, "its value is no number that Rhetor can take");
}

static int get_list(GgufReader *r, json_t **out) {
    uint32_t type;
    uint64_t n;
    TRY(get_u32(r, &type));
    TRY(get_number(r, 8, &n));
    if (type >= VALUE_TYPES || type == VALUE_ARRAY)
        return error_set(ERR_DATA, "a list of type %" PRIu32 " is not read", type);
    if (n > (uint64_t)(MOST_VALUES - r->values))
        return error_set(ERR_DATA,
                         "its list of %" PRIu64 " values is longer than any vocabulary's; "
                         "the file is damaged",
                         n);
    if ((int64_t)n * value_bytes[type] > left(r)) return truncated(r);
    r->values += (int64_t)n;
    *out = json_array();
    for (uint64_t i = 0; i < n; i++) {
        json_t *v = NULL;
        int rc = get_scalar(r, (ValueType)type, &v);
        if (rc < 0) return error_wrap(rc, "value %" PRIu64, i);
        json_array_append_new(*out, v);
    }
    return 0;
}

static int get_pair(GgufReader *r) {
    char *key;
    uint32_t type = 0;
    json_t *v = NULL;
    TRY(get_name(r, &key, "a pair of the metadata"));
    int rc = get_u32(r, &type);
    if (rc == 0 && type >= VALUE_TYPES)
        rc = error_set(ERR_DATA, "type %" PRIu32 ", expected 0 to %d", type, VALUE_TYPES - 1);
    if (rc == 0) rc = type == VALUE_ARRAY ? get_list(r, &v) : get_scalar(r, (ValueType)type, &v);
    if (rc == 0 && json_object_get(r->g->meta, key)) rc = error_set(ERR_DATA, "it is there twice");
    if (rc == 0 && json_object_set(r->g->meta, key, v) < 0)
        rc = error_set(ERR_DATA, "its name is no UTF-8");
    if (rc < 0) rc = error_wrap(rc, "%s: metadata %.200s", r->g->path, key);
    json_decref(v);
    free(key);
    return rc;
}

static int find_type(uint32_t number, GgufType *out) {
    Text known = {0};
    for (int i = 0; i < GGUF_NTYPES; i++) {
        if (types[i].number == number) {
            free(known.s);
            *out = (GgufType)i;
            return 0;
        }
        text_put(&known, "%s%s", i ? ", " : "", types[i].name);
    }
    AUTOFREE char *names = text_take(&known);
    return error_set(ERR_DATA,
                     "it is of ggml's type %" PRIu32 ", which is not read; expected one of "
                     "%s: convert the file with llama-quantize --allow-requantize",
                     number, names);
}

static int64_t bytes_of(const GgufTensor *t) {
    return t->n / types[t->type].elements * types[t->type].bytes;
}

/* Shape, type, offset; the offset still counts from the data. */
static int get_layout(GgufReader *r, GgufTensor *t) {
    uint32_t ndim, type;
    uint64_t d, offset;
    TRY(get_u32(r, &ndim));
    if (ndim < 1 || ndim > GGUF_MAX_DIM)
        return error_set(ERR_DATA, "%" PRIu32 " dimensions, expected 1 to %d", ndim, GGUF_MAX_DIM);
    t->ndim = (int)ndim;
    t->n = 1;
    for (int i = t->ndim; i-- > 0;) {
        TRY(get_number(r, 8, &d));
        if (d < 1 || d > INT64_MAX || __builtin_mul_overflow(t->n, (int64_t)d, &t->n))
            return error_set(ERR_DATA, "its shape has no elements, or more than any file");
        t->shape[i] = (int64_t)d;
    }
    TRY(get_u32(r, &type));
    TRY(find_type(type, &t->type));
    if (t->shape[t->ndim - 1] % types[t->type].elements)
        return error_set(ERR_DATA,
                         "rows of %" PRId64 " elements, expected a multiple of %" PRId64 " for %s",
                         t->shape[t->ndim - 1], types[t->type].elements, types[t->type].name);
    int64_t bytes;
    if (__builtin_mul_overflow(t->n / types[t->type].elements, types[t->type].bytes, &bytes))
        return error_set(ERR_DATA, "its shape has more elements than any file");
    TRY(get_number(r, 8, &offset));
    if (offset > (uint64_t)r->g->size)
        return error_set(ERR_DATA,
                         "its data begin at byte %" PRIu64 " of a file of %" PRId64 ": truncated?",
                         offset, r->g->size);
    t->offset = (int64_t)offset;
    return 0;
}

static int get_tensor(GgufReader *r) {
    Gguf *g = r->g;
    GgufTensor *t = &g->v[g->n];
    char *name;
    TRY(get_name(r, &name, "a tensor"));
    *t = (GgufTensor){.name = name};
    g->n++;
    int rc = get_layout(r, t);
    return rc < 0 ? error_wrap(rc, "%s: tensor %.200s", g->path, t->name) : 0;
}

static int by_offset(const void *a, const void *b) {
    const GgufTensor *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}
static int by_name(const void *a, const void *b) {
    return strcmp(((const GgufTensor *)a)->name, ((const GgufTensor *)b)->name);
}

/* Where the data of the tensors lie: aligned, within the file, one after the other. */
static int place_tensors(Gguf *g, int64_t begin, int64_t alignment) {
    int64_t end = 0;
    qsort(g->v, (size_t)g->n, sizeof *g->v, by_offset);
    for (int i = 0; i < g->n; i++) {
        GgufTensor *t = &g->v[i];
        const int64_t bytes = bytes_of(t);
        if (t->offset % alignment)
            return error_set(ERR_DATA,
                             "%s: tensor %.200s begins at byte %" PRId64
                             " of the data, expected a multiple of %" PRId64,
                             g->path, t->name, t->offset, alignment);
        if (t->offset < end)
            return error_set(ERR_DATA, "%s: tensor %.200s overlaps %.200s", g->path, t->name,
                             g->v[i - 1].name);
        if (bytes > g->size - begin - t->offset)
            return error_set(ERR_DATA,
                             "%s: the %" PRId64 " bytes of tensor %.200s go beyond the end of the "
                             "file: truncated; copy it again",
                             g->path, bytes, t->name);
        end = t->offset + bytes;
        t->offset += begin;
    }
    qsort(g->v, (size_t)g->n, sizeof *g->v, by_name);
    for (int i = 1; i < g->n; i++)
        if (strcmp(g->v[i - 1].name, g->v[i].name) == 0)
            return error_set(ERR_DATA, "%s: tensor %.200s is there twice", g->path, g->v[i].name);
    return 0;
}

/* The version, the counts. */
static int get_counts(GgufReader *r, uint64_t *tensors, uint64_t *pairs) {
    char magic[4];
    uint32_t version;
    Gguf *g = r->g;
    if (g->size < 24)
        return error_set(ERR_DATA,
                         "%s: %" PRId64 " bytes: not a GGUF file, or truncated; expected one, or a "
                         "folder as Hugging Face has it (config.json, *.safetensors)",
                         g->path, g->size);
    TRY(get(r, magic, 4));
    TRY(get_u32(r, &version));
    if (memcmp(magic, "GGUF", 4) != 0)
        return error_set(
            ERR_DATA,
            "%s: not a GGUF file, which begins with \"GGUF\"; expected one, or a folder as "
            "Hugging Face has it (config.json, *.safetensors)",
            g->path);
    if (version != 2 && version != 3)
        return error_set(ERR_DATA, "%s: GGUF of version %" PRIu32 "%s, expected 2 or 3", g->path,
                         version, version > 0xffff ? " (big-endian?)" : "");
    TRY(get_number(r, 8, tensors));
    TRY(get_number(r, 8, pairs));
    if (*tensors > MOST_TENSORS || *tensors * 24 + *pairs > (uint64_t)g->size ||
        *pairs > (uint64_t)g->size / 13)
        return error_set(ERR_DATA,
                         "%s: announces %" PRIu64 " tensors and %" PRIu64 " pairs of metadata in "
                         "%" PRId64 " bytes; the file is damaged",
                         g->path, *tensors, *pairs, g->size);
    return 0;
}

static int read_head(GgufReader *r) {
    Gguf *g = r->g;
    uint64_t tensors = 0, pairs = 0;
    TRY(get_counts(r, &tensors, &pairs));
    g->meta = json_object();
    for (uint64_t i = 0; i < pairs; i++) TRY(get_pair(r));
    const json_t *given = json_object_get(g->meta, "general.alignment");
    const int64_t alignment = given ? json_integer_value(given) : ALIGNMENT;
    if (alignment < 1 || alignment > 1 << 20 || alignment & (alignment - 1))
        return error_set(ERR_DATA, "%s: general.alignment is no power of two up to 1048576",
                         g->path);
    g->v = xcalloc(tensors + 1, sizeof *g->v);
    for (uint64_t i = 0; i < tensors; i++) TRY(get_tensor(r));
    return place_tensors(g, (r->at + alignment - 1) / alignment * alignment, alignment);
}

int gguf_open(Gguf **out, const char *path) {
    *out = NULL;
    Gguf *g = xcalloc(1, sizeof *g);
    g->path = xstrdup(path);
    g->fd = open(path, O_RDONLY | O_CLOEXEC);
    GgufReader r = {.g = g, .f = g->fd < 0 ? NULL : fopen(path, "rbe")};
    int rc = r.f ? 0 : file_error(path, "open");
    if (rc == 0 && (g->size = lseek(g->fd, 0, SEEK_END)) < 0) rc = file_error(path, "find the end");
    if (rc == 0) rc = read_head(&r);
    if (r.f) fclose(r.f);
    if (rc < 0)
        gguf_close(&g);
    else
        *out = g;
    return rc;
}

void gguf_close(Gguf **gp) {
    Gguf *g = *gp;
    if (!g) return;
    if (g->fd >= 0) close(g->fd);
    for (int i = 0; i < g->n; i++) free(g->v[i].name);
    free(g->v);
    json_decref(g->meta);
    free(g->path);
    free(g);
    *gp = NULL;
}

const GgufTensor *gguf_find(const Gguf *g, const char *name) {
    const GgufTensor key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, g->v, (size_t)g->n, sizeof *g->v, by_name);
}

/* --- values ----------------------------------------------------------------------------------- */

static int read_at(const Gguf *g, void *out, int64_t len, int64_t at) {
    for (int64_t done = 0; done < len;) {
        const ssize_t n = pread(g->fd, (char *)out + done, (size_t)(len - done), at + done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_error(g->path, "read");
        if (n == 0) return error_set(ERR_DATA, "%s: ends while it is read", g->path);
        done += n;
    }
    return 0;
}

int gguf_read(const Gguf *g, const GgufTensor *t, int64_t from, int64_t n, float *out) {
    const int64_t elements = types[t->type].elements, bytes = types[t->type].bytes;
    CHECK(from >= 0 && n >= 0 && from <= t->n - n && from % elements == 0 && n % elements == 0,
          "elements %" PRId64 "+%" PRId64 " of %s", from, n, t->name);
    AUTOFREE unsigned char *block = xmalloc((size_t)(PIECE / elements * bytes));
    for (int64_t done = 0; done < n; done += PIECE) {
        const int64_t m = (n - done < PIECE ? n - done : PIECE) / elements;
        TRY(read_at(g, block, m * bytes, t->offset + (from + done) / elements * bytes));
        for (int64_t i = 0; i < m; i++)
            gguf_unpack(t->type, block + i * bytes, out + done + i * elements);
    }
    return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct GgufWriter {
    FILE *f;
    char *path, *temporary;
    const GgufTensor *t; /* the tensor in hand, and how many are left with it */
    int n;
    int64_t done; /* elements of it that are written */
    unsigned char *block;
};

static void put_number(Text *t, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) text_bytes(t, &(char){(char)(v >> 8 * i)}, 1);
}

static void put_string(Text *t, const char *s, size_t n) {
    put_number(t, n, 8);
    text_bytes(t, s, n);
}

static ValueType type_of(const json_t *v, bool in_list) {
    return json_is_boolean(v)  ? VALUE_BOOL
           : json_is_string(v) ? VALUE_STRING
           : json_is_real(v)   ? VALUE_F32
           : json_is_array(v)  ? VALUE_ARRAY
           : in_list           ? VALUE_I32
                               : VALUE_U32;
}

static void put_value(Text *t, const json_t *v, ValueType type) {
    const float f = (float)json_number_value(v);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    switch (type) {
    case VALUE_BOOL: put_number(t, json_is_true(v), 1); break;
    case VALUE_STRING: put_string(t, json_string_value(v), json_string_length(v)); break;
    case VALUE_F32: put_number(t, bits, 4); break;
    case VALUE_ARRAY: {
        const ValueType of = type_of(json_array_get(v, 0), true);
        put_number(t, of, 4);
        put_number(t, json_array_size(v), 8);
        for (size_t i = 0; i < json_array_size(v); i++) put_value(t, json_array_get(v, i), of);
        break;
    }
    default: put_number(t, (uint64_t)json_integer_value(v), 4);
    }
}

static int64_t aligned(int64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static void put_zeros(Text *t, int64_t n) {
    static const char zeros[ALIGNMENT];
    text_bytes(t, zeros, (size_t)n);
}

static void put_head(Text *head, const json_t *meta, const GgufTensor *t, int n) {
    const char *key;
    json_t *v;
    int64_t offset = 0;
    text_bytes(head, "GGUF", 4);
    put_number(head, 3, 4);
    put_number(head, (uint64_t)n, 8);
    put_number(head, json_object_size(meta), 8);
    json_object_foreach((json_t *)(uintptr_t)meta, key, v) {
        put_string(head, key, strlen(key));
        put_number(head, type_of(v, false), 4);
        put_value(head, v, type_of(v, false));
    }
    for (int i = 0; i < n; i++) {
        put_string(head, t[i].name, strlen(t[i].name));
        put_number(head, (uint64_t)t[i].ndim, 4);
        for (int d = t[i].ndim; d-- > 0;) put_number(head, (uint64_t)t[i].shape[d], 8);
        put_number(head, types[t[i].type].number, 4);
        put_number(head, (uint64_t)offset, 8);
        offset += aligned(bytes_of(&t[i]));
    }
    put_zeros(head, aligned((int64_t)head->n) - (int64_t)head->n);
}

static int put_bytes(GgufWriter *w, const void *bytes, size_t n) {
    return fwrite(bytes, 1, n, w->f) == n ? 0 : file_error(w->path, "write");
}

int gguf_create(GgufWriter **out, const char *path, const json_t *meta, const GgufTensor *t,
                int n) {
    *out = NULL;
    GgufWriter *w = xcalloc(1, sizeof *w);
    w->path = xstrdup(path);
    w->temporary = xasprintf("%s.tmp.%ld", path, (long)getpid());
    w->t = t;
    w->n = n;
    w->block = xmalloc(PIECE * sizeof(float) * 2); /* no type has more bytes an element */
    w->f = fopen(w->temporary, "wbe");
    Text head = {0};
    put_head(&head, meta, t, n);
    int rc = w->f ? put_bytes(w, head.s, head.n) : file_error(path, "create");
    free(head.s);
    if (rc < 0)
        gguf_abandon(&w);
    else
        *out = w;
    return rc;
}

int gguf_write(GgufWriter *w, const float *x, int64_t n) {
    static const char zeros[ALIGNMENT];
    const GgufTensor *t = w->t;
    CHECK(w->n > 0 && n <= t->n - w->done, "%s: %" PRId64 " values too many", w->path, n);
    const int64_t elements = types[t->type].elements, bytes = types[t->type].bytes;
    CHECK(n % elements == 0, "%s: %" PRId64 " values are no whole blocks", t->name, n);
    for (int64_t from = 0; from < n; from += PIECE) {
        const int64_t m = (n - from < PIECE ? n - from : PIECE) / elements;
        for (int64_t i = 0; i < m; i++)
            gguf_pack(t->type, x + from + i * elements, w->block + i * bytes);
        TRY(put_bytes(w, w->block, (size_t)(m * bytes)));
    }
    if ((w->done += n) < t->n) return 0;
    w->done = 0;
    w->t++;
    w->n--;
    return put_bytes(w, zeros, (size_t)(aligned(bytes_of(t)) - bytes_of(t)));
}

int gguf_commit(GgufWriter **wp) {
    GgufWriter *w = *wp;
    CHECK(w->n == 0, "%s: %d tensors were not written", w->path, w->n);
    FILE *f = w->f;
    w->f = NULL;
    int rc = fclose(f) != 0 ? file_error(w->path, "close") : 0;
    if (rc == 0) rc = file_rename_durable(w->temporary, w->path);
    gguf_abandon(wp); /* after the rename there is nothing to remove */
    return rc;
}

void gguf_abandon(GgufWriter **wp) {
    GgufWriter *w = *wp;
    if (!w) return;
    if (w->f) fclose(w->f);
    unlink(w->temporary);
    free(w->path);
    free(w->temporary);
    free(w->block);
    free(w);
    *wp = NULL;
}
