/* fuzz_records.c: files of records and of texts. The first byte of the input says how the rest is
 * read: as which kind of records or as text, as it is or packed with gzip or zstd (then a byte of
 * the packed file may be changed, which the second byte says). */
#include "tests/fuzz/fuzz.h"

#include "base/config.h"
#include "base/utf8.h"
#include "data/dataset.h"
#include "data/records.h"
#include "data/texts.h"

#include <zlib.h>
#include <zstd.h>

enum { KINDS = 5, TEXT = 3, JSON_TEXT };

static Tokenizer *tokenizer;

static uint8_t *pack(int how, const uint8_t *data, size_t *len) {
    size_t room = *len + *len / 100 + 1024;
    uint8_t *packed = xmalloc(room);
    if (how == 1) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
                      .avail_in = (uInt)*len,
                      .next_out = packed,
                      .avail_out = (uInt)room};
        CHECK(deflateInit2(&z, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK, "deflate");
        CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END, "deflate");
        *len = z.total_out;
        deflateEnd(&z);
    } else {
        *len = ZSTD_compress(packed, room, data, *len, 1);
        CHECK(!ZSTD_isError(*len), "zstd");
    }
    return packed;
}

static void read_texts(const char *path) {
    const TextOptions o = {.split = "|"};
    Texts *t;
    const char *text;
    size_t len;
    if (texts_open(&t, path, &o) < 0) return;
    for (int rc; (rc = texts_next(t, &text, &len)) != 0;) {
        if (rc < 0 && rc != ERR_DATA) break;
        if (rc > 0) CHECK(utf8_valid(text, len) == len, "text that is no UTF-8");
    }
    texts_close(&t);
}

static void read_records(const char *path, DatasetKind kind, int how) {
    char *name = xstrdup(path);
    const DatasetOptions o = {.tokenizer = tokenizer,
                              .tmpl = (Template)(how % 4),
                              .context = 200,
                              .on_long = how / 4 % 3,
                              .on_bad = ON_BAD_SKIP,
                              .max_bad = 1000};
    Dataset d;
    if (dataset_load(&d, kind, &(StrList){&name, 1}, &o) >= 0) dataset_free(&d);
    free(name);
}

static void one(const uint8_t *data, size_t len) {
    static const char *const special[] = {"<|endoftext|>"};
    if (!tokenizer && tokenizer_train(&tokenizer, NULL, NULL,
                                      &(TrainOptions){257, 1, special, 1, TIE_BREAK_HF, false}) < 0)
        abort();
    if (len < 2) return;
    int kind = data[0] % KINDS, packing = data[0] / KINDS % 3, how = data[1];
    data += 2;
    len -= 2;
    uint8_t *packed = packing ? pack(packing, data, &len) : NULL;
    if (packed && how > 128) packed[(size_t)how * 7919 % len] ^= (uint8_t)how;
    const char *name = kind == TEXT ? "records.txt" : "records.json";
    const char *path = fuzz_file(name, packed ? packed : data, len);
    free(packed);
    if (kind >= TEXT)
        read_texts(path);
    else
        read_records(path, (DatasetKind)kind, how);
}

FUZZ_MAIN(one, "\"prompt\"", "\"completion\"", "\"messages\"", "\"role\"", "\"content\"",
          "\"chosen\"", "\"rejected\"", "\"ranks\"", "\"scores\"", "\"responses\"", "\"output\"",
          "\"history\"", "\"text\"", "\n\nHuman:", "\n\nAssistant:", "null", "1e999", "-0",
          "\\u0000", "\\ud800", "[", "{", "\"", "\xEF\xBB\xBF", "\n", "|", "[]", "{}", "true")
