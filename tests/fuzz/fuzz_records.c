/* fuzz_records.c: files of records, JSON lines and arrays. */
#include "tests/fuzz/fuzz.h"

#include "base/json.h"

static void one(const uint8_t *data, size_t len) {
    JsonRecords *r;
    json_t *v;
    if (json_records_open(&r, fuzz_file("records", data, len)) < 0) return;
    for (int rc; (rc = json_records_next(r, &v)) != 0;) {
        if (rc > 0) json_decref(v);
        if (rc < 0 && rc != ERR_DATA) break;
    }
    json_records_close(&r);
}

FUZZ_MAIN(one, "\"prompt\"", "null", "\\u0000", "[", "{", "\"", "\xEF\xBB\xBF")
