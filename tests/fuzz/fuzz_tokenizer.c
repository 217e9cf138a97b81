/* fuzz_tokenizer.c: tokenizer.json, vocab.json + merges.txt, tiktoken's ranks. The first byte of
 * the input says which (J, V, T), a line "====" divides the vocabulary from the merges. What loads
 * must write and read itself, and give back any bytes. */
#include "tests/fuzz/fuzz.h"

#include "data/tokenizer/tokenizer.h"

static const char text[] = "The  miller's 12345 loaves,\xe6\xb0\xb4\xff\n\n<|endoftext|><mask> "
                           "x\xc2\xa0y 'LL// e\xcc\x81\xcc\xa3\xcc\n";

static void use(Tokenizer *t) {
    IdList ids = {0};
    char *back;
    size_t len;
    const size_t cut = tokenizer_cut(t, text, sizeof text - 1);
    CHECK(cut < sizeof text, "cut");
    for (int specials = 0; specials < 2; specials++) {
        ids.n = 0;
        if (tokenizer_encode(t, text, sizeof text - 1, specials, &ids) < 0) continue;
        CHECK(tokenizer_decode(t, ids.v, ids.n, false, &back, &len) == 0, "%s", error_message());
        free(back);
    }
    ids_free(&ids);
    char *json = tokenizer_json(t);
    Tokenizer *again;
    if (tokenizer_parse(&again, json, strlen(json), "again") < 0) {
        fprintf(stderr, "%s\n%s\n", json, error_message());
        abort();
    }
    CHECK(tokenizer_hash(again) == tokenizer_hash(t), "what was written is another tokenizer");
    free(json);
    tokenizer_close(&again);
}

static int load_pair(Tokenizer **t, const char *data, size_t len) {
    const char *line = memmem(data, len, "\n====\n", 6);
    const size_t vocab = line ? (size_t)(line - data) : len;
    fuzz_file("merges.txt", line ? line + 6 : "", line ? len - vocab - 6 : 0);
    return tokenizer_load(t, fuzz_file("vocab.json", data, vocab));
}

static void one(const uint8_t *data, size_t len) {
    if (len == 0) return;
    const char *rest = (const char *)data + 1;
    Tokenizer *t;
    int rc = data[0] == 'V'   ? load_pair(&t, rest, len - 1)
             : data[0] == 'T' ? tokenizer_parse_tiktoken(&t, rest, len - 1, "gpt2", "x")
                              : tokenizer_parse(&t, rest, len - 1, "x");
    if (rc < 0) return;
    use(t);
    tokenizer_close(&t);
}

FUZZ_MAIN(one, "\"id\":", "\"content\":", "\"lstrip\":true", "\"single_word\":true",
          "\"ignore_merges\":true", "\"unk_token\":\"a\"", "\"fuse_unk\":true",
          "\"behavior\":\"Contiguous\"", "\"type\":\"Split\"", "\"invert\":true",
          "\"normalizer\":{\"type\":\"NFC\"}", "\"type\":\"Lowercase\"", "\"type\":\"NFKD\"",
          "\"type\":\"StripAccents\"", "\"type\":\"ByteLevel\"", "\"type\":\"Digits\"",
          "\"behavior\":\"Removed\"", "\"Regex\":", "&&", "[^", "[:alpha:]", "\\\\w", "\\\\b",
          "(?i)", "{,2}", "\\\\s", "\\\\S", "[", "{1,3}+", "\\u0120", "null", "====", "YQ== 1\n",
          "a b\n")
