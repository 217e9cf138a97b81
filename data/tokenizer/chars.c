/* chars.c: a character-level tokenizer: the byte-level tokenizer without merges, from whose
 * vocabulary the bytes that do not occur are struck out. */
#include "data/tokenizer/chars.h"

#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int no_text(void *ctx, const char **text, size_t *len) { return 0; }

/* The vocabulary's symbols in the order of their ids, without those of bytes that do not occur. */
static json_t *used_vocab(const Tokenizer *all, const json_t *vocab, const bool *used) {
    int64_t n = tokenizer_vocab(all);
    const char **symbol = xcalloc((size_t)n, sizeof *symbol);
    const char *name;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, name, id) symbol[json_integer_value(id)] = name;
    json_t *out = json_object();
    for (int64_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = tokenizer_token_bytes(all, (int32_t)i, &len);
        if (symbol[i] && (len != 1 || used[(unsigned char)bytes[0]]))
            json_object_set_new(out, symbol[i], json_integer((json_int_t)json_object_size(out)));
    }
    free(symbol);
    return out;
}

int chars_tokenizer(Tokenizer **out, TextSource *next, void *ctx, const char *const *special,
                    int nspecial) {
    bool used[256] = {false};
    const char *text;
    size_t len;
    int rc;
    while ((rc = next(ctx, &text, &len)) > 0)
        for (size_t i = 0; i < len; i++) used[(unsigned char)text[i]] = true;
    TRY(rc);

    Tokenizer *all = NULL;
    json_t *root = NULL;
    TRY(tokenizer_train(&all, no_text, NULL, 256 + nspecial, 1, special, nspecial));
    char *json = tokenizer_json(all);
    rc = json_parse(&root, json, strlen(json), "tokenizer", 1);
    free(json);
    if (rc >= 0) {
        json_t *model = json_object_get(root, "model");
        json_object_set_new(model, "vocab", used_vocab(all, json_object_get(model, "vocab"), used));
        json = json_dumps(root, JSON_COMPACT);
        rc = tokenizer_parse(out, json, strlen(json), "character-level tokenizer");
        free(json);
        json_decref(root);
    }
    tokenizer_close(&all);
    return rc;
}
