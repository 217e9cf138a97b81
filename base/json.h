/* json.h: the few helpers we want around jansson. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses one JSON value; duplicates and trailing garbage are ERR_DATA "path:line: ...". Of numbers
 * beyond 64 bits an integer becomes a real, and what is no double either becomes null. */
int json_parse(json_t **out, const char *text, size_t len, const char *path, int64_t line);
int json_read_file(json_t **out, const char *path);
int json_write_file(const json_t *v, const char *path); /* durable, indented, sorted keys */

/* Records of a file: JSON lines, or one JSON array of records (both plain or compressed).
 * Returns 1 with a new reference in *out, 0 at the end, or an error. After ERR_DATA in a JSON
 * lines file one may go on with the next line. */
typedef struct JsonRecords JsonRecords;
int json_records_open(JsonRecords **out, const char *path);
int json_records_next(JsonRecords *r, json_t **out);
int64_t
json_records_line(const JsonRecords *r); /* line of the last record (array: its index, from 1) */
int64_t json_records_consumed(const JsonRecords *r); /* bytes of the file, see base/lines.h */
const char *json_records_path(const JsonRecords *r);
/* From now on strings of JSON lines may hold NUL characters (json_string_length counts them), which
 * is ERR_DATA otherwise. */
void json_records_allow_nul(JsonRecords *r);
bool json_records_is_array(const JsonRecords *r); /* one array, not JSON lines */
void json_records_close(JsonRecords **r);

/* What a message calls the value: "an object", "an integer", ...; NULL: "missing". */
const char *json_kind(const json_t *v);

/* Members with a type check: ERR_DATA "missing \"x\"" / "\"x\" is a number, expected a string". */
int json_get_str(const json_t *obj, const char *key, const char **out);
int json_get_i64(const json_t *obj, const char *key, int64_t *out);
int json_get_f64(const json_t *obj, const char *key, double *out); /* integers accepted */

#endif
