/* json.c: the few helpers we want around jansson: messages with a place and a remedy, and records
 * out of JSON lines or one array without the caller knowing which. */
#include "base/json.h"

#include "base/error.h"
#include "base/file.h"
#include "base/lines.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct JsonRecords {
    Lines *lines;
    json_t *array; /* NULL: JSON lines */
    char *path;
    size_t next;  /* array: index of the next record */
    int64_t line; /* of the last record */
    size_t flags; /* of jansson, for JSON lines */
};

/* A byte order mark is no JSON, but Windows editors write it. */
static size_t bom(const char *text, size_t len) {
    return len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

/* Numbers that no 64 bits hold, which other programs write into fields that we ignore (10^30 where
 * no limit is meant): a long integer becomes the nearest real, what is beyond those null. In place,
 * so that lines and columns stay. */
static void fit_numbers(char *s, const char *end) {
    while (s < end) {
        const char c = *s;
        if (c == '"') {
            for (s++; s < end && *s != '"'; s++) s += *s == '\\';
            s++;
            continue;
        }
        const size_t n = c == '-' || (c >= '0' && c <= '9') ? strspn(s, "+-.0123456789eE") : 0;
        char token[32];
        errno = 0;
        if (n > 4 && isinf(strtod(s, NULL)))
            memcpy(memset(s, ' ', n), "null", 4);
        else if (n > 18 && strcspn(s, ".eE") >= n && (strtoll(s, NULL, 10), errno == ERANGE))
            memcpy(memset(s, ' ', n), token,
                   (size_t)snprintf(token, sizeof token, "%.12e", strtod(s, NULL)));
        s += n > 0 ? n : 1;
    }
}

static int parse(json_t **out, const char *text, size_t len, size_t flags, const char *path,
                 int64_t line) {
    json_error_t e;
    flags |= JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    *out = json_loadb(text, len, flags, &e);
    if (!*out && json_error_code(&e) == json_error_numeric_overflow) {
        AUTOFREE char *copy = xmalloc(len + 1);
        memcpy(copy, text, len);
        copy[len] = '\0';
        fit_numbers(copy, copy + len);
        *out = json_loadb(copy, len, flags, &e);
    }
    if (*out) return 0;
    long long at = (long long)line + (e.line > 0 ? e.line - 1 : 0);
    const char *hint = "";
    switch (json_error_code(&e)) {
    case json_error_invalid_utf8:
        hint = "invalid UTF-8 (re-encode the file, e.g. with iconv): ";
        break;
    case json_error_premature_end_of_input: hint = "incomplete JSON (truncated file?): "; break;
    case json_error_duplicate_key: hint = "key given twice: "; break;
    case json_error_null_character: hint = "NUL characters are not supported; remove them: "; break;
    default: hint = "malformed JSON: "; break;
    }
    if (strstr(e.text, "near '\xEF\xBB\xBF"))
        return error_set(ERR_DATA,
                         "%s:%lld:%d: a byte order mark (U+FEFF) in the middle of the file, as two "
                         "files put together have it; remove it",
                         path, at, e.column > 0 ? e.column : 1);
    return error_set(ERR_DATA, "%s:%lld:%d: %s%s", path, at, e.column > 0 ? e.column : 1, hint,
                     e.text);
}

int json_parse(json_t **out, const char *text, size_t len, const char *path, int64_t line) {
    return parse(out, text, len, 0, path, line);
}

int json_read_file(json_t **out, const char *path) {
    AUTOFREE char *text = NULL;
    size_t len;
    *out = NULL;
    TRY(lines_slurp(path, &text, &len));
    size_t skip = bom(text, len);
    return json_parse(out, text + skip, len - skip, path, 1);
}

int json_write_file(const json_t *v, const char *path) {
    AUTOFREE char *text = json_dumps(v, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    CHECK(text, "%s: value cannot be written as JSON", path);
    AUTOFREE char *line = xasprintf("%s\n", text);
    return file_write_durable(path, line, strlen(line));
}

static int open_array(JsonRecords *r) {
    AUTOFREE char *text = NULL;
    size_t len;
    TRY(lines_rest(r->lines, &text, &len));
    size_t skip = bom(text, len);
    return json_parse(&r->array, text + skip, len - skip, r->path, 1);
}

int json_records_open(JsonRecords **out, const char *path) {
    *out = NULL;
    JsonRecords *r = xcalloc(1, sizeof *r);
    int rc, first;
    TRY_GOTO(fail, lines_open(&r->lines, path));
    r->path = xstrdup(lines_path(r->lines));
    TRY_GOTO(fail, lines_peek(r->lines, &first));
    if (first == '[') TRY_GOTO(fail, open_array(r));
    *out = r;
    return 0;
fail:
    json_records_close(&r);
    return rc;
}

/* A record that was printed over several lines ends too early in its first one. */
static int one_a_line(JsonRecords *r, const char *text, size_t len, int rc) {
    int next;
    while (len > 0 && strchr(" \t\r", text[len - 1])) len--;
    if (len == 0 || !strchr("{[,:", text[len - 1]) || lines_peek(r->lines, &next) < 0 || next < 0)
        return rc;
    return error_set(ERR_DATA,
                     "%s:%lld: the record goes on in the next line; expected one record a line "
                     "(jq -c . FILE writes them so), or a JSON array of records",
                     r->path, (long long)r->line);
}

int json_records_next(JsonRecords *r, json_t **out) {
    *out = NULL;
    if (r->array) {
        if (r->next >= json_array_size(r->array)) return 0;
        *out = json_incref(json_array_get(r->array, r->next));
        json_array_set_new(r->array, r->next++, json_null()); /* it can be freed with the record */
        r->line = (int64_t)r->next;
        return 1;
    }
    const char *text;
    size_t len;
    for (;;) {
        int rc = lines_next(r->lines, &text, &len);
        r->line = lines_number(r->lines);
        if (rc <= 0) return rc;
        if (r->line == 1) {
            size_t skip = bom(text, len);
            text += skip;
            len -= skip;
        }
        if (strspn(text, " \t\r") == len) continue; /* an empty line is no record */
        rc = parse(out, text, len, r->flags, r->path, r->line);
        return rc < 0 ? one_a_line(r, text, len, rc) : 1;
    }
}

int64_t json_records_line(const JsonRecords *r) { return r->line; }
int64_t json_records_consumed(const JsonRecords *r) { return lines_consumed(r->lines); }
const char *json_records_path(const JsonRecords *r) { return r->path; }

void json_records_allow_nul(JsonRecords *r) { r->flags |= JSON_ALLOW_NUL; }

bool json_records_is_array(const JsonRecords *r) { return r->array != NULL; }

void json_records_close(JsonRecords **rp) {
    JsonRecords *r = *rp;
    if (!r) return;
    lines_close(&r->lines);
    json_decref(r->array);
    free(r->path);
    free(r);
    *rp = NULL;
}

const char *json_kind(const json_t *v) {
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    default: return v ? "null" : "missing";
    }
}

/* The member, or an error that names what is there instead. */
static int member(const json_t *obj, const char *key, const json_t **out) {
    if (!json_is_object(obj))
        return error_set(ERR_DATA, "found %s, expected an object with \"%s\"",
                         obj ? json_kind(obj) : "nothing", key);
    *out = json_object_get(obj, key);
    return *out ? 0 : error_set(ERR_DATA, "missing \"%s\"", key);
}

static int wrong_kind(const char *key, const json_t *v, const char *expected) {
    return error_set(ERR_DATA, "\"%s\" is %s, expected %s", key, json_kind(v), expected);
}

int json_get_str(const json_t *obj, const char *key, const char **out) {
    const json_t *v = NULL;
    TRY(member(obj, key, &v));
    if (!json_is_string(v)) return wrong_kind(key, v, "a string");
    *out = json_string_value(v);
    return 0;
}

int json_get_i64(const json_t *obj, const char *key, int64_t *out) {
    const json_t *v = NULL;
    TRY(member(obj, key, &v));
    if (!json_is_integer(v)) return wrong_kind(key, v, "an integer");
    *out = (int64_t)json_integer_value(v);
    return 0;
}

int json_get_f64(const json_t *obj, const char *key, double *out) {
    const json_t *v = NULL;
    TRY(member(obj, key, &v));
    if (!json_is_number(v)) return wrong_kind(key, v, "a number");
    *out = json_number_value(v);
    return 0;
}
