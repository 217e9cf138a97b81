/* tokenizer_files.c: finding a tokenizer by its path, and its formats beside tokenizer.json:
 * GPT-2's vocabulary with a list of merges, and tiktoken's tokens with their ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer/tokenizer_impl.h"

/* The next line of [*at, end), without its line break; false at the end. */
static bool next_line(const char **at, const char *end, const char **line, size_t *len) {
    if (*at >= end) return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    if (!stop) stop = end;
    *line = *at;
    *len = (size_t)(stop - *at) - (stop > *at && stop[-1] == '\r');
    *at = stop + 1;
    return true;
}

/* --- what stands beside a tokenizer ----------------------------------------------------------- */

/* Is the token one of those that v names: a string, {"content": string}, or a list of such? */
static bool is_named(const json_t *v, const char *token) {
    for (size_t i = 0; i < json_array_size(v); i++)
        if (is_named(json_array_get(v, i), token)) return true;
    const json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
    return json_is_string(text) && strcmp(json_string_value(text), token) == 0;
}

/* The files beside a tokenizer's: {} where one is not there. */
typedef struct Settings {
    json_t *config, *map, *added; /* tokenizer_config, special_tokens_map, added_tokens.json */
} Settings;

static int read_beside(json_t **out, const char *file, const char *name) {
    AUTOFREE char *at = xasprintf("%.*s%s", (int)(file_basename(file) - file), file, name);
    TRY(file_exists(at) ? json_read_file(out, at) : 0);
    if (!*out) *out = json_object();
    return json_is_object(*out) ? 0 : error_set(ERR_DATA, "%s: not a JSON object", at);
}

static int settings_read(Settings *s, const char *file) {
    *s = (Settings){0};
    TRY(read_beside(&s->config, file, "tokenizer_config.json"));
    TRY(read_beside(&s->map, file, "special_tokens_map.json"));
    return read_beside(&s->added, file, "added_tokens.json");
}

static void settings_free(Settings *s) {
    json_decref(s->config);
    json_decref(s->map);
    json_decref(s->added);
}

static bool is_special(const Settings *s, const char *token) {
    const char *key;
    json_t *v;
    bool found = false;
    json_object_foreach(s->config, key, v) found |= strstr(key, "_token") && is_named(v, token);
    json_object_foreach(s->map, key, v) found |= strstr(key, "_token") && is_named(v, token);
    return found;
}

/* Appends to the list what added_tokens.json, {"token": id}, has more. transformers before 4.33
 * wrote it, beside either form. Returns how many. */
static int add_legacy(const Settings *s, json_t *list) {
    const char *token;
    json_t *id;
    int n = 0;
    json_object_foreach(s->added, token, id) {
        bool there = false;
        for (size_t i = 0; i < json_array_size(list); i++)
            there |= is_named(json_array_get(list, i), token);
        if (there || !json_is_number(id)) continue;
        const int special = is_special(s, token);
        json_array_append_new(list, json_pack("{s:s, s:I, s:b, s:b}", "content", token, "id",
                                              (json_int_t)json_number_value(id), "special", special,
                                              "normalized", !special));
        n++;
    }
    return n;
}

/* The end of a text that the tokenizer's settings name. */
static void set_stop(Tokenizer *t, const Settings *s) {
    const json_t *eos = json_object_get(s->config, "eos_token");
    if (!eos || json_is_null(eos)) eos = json_object_get(s->map, "eos_token");
    if (json_is_object(eos)) eos = json_object_get(eos, "content");
    const int32_t id = json_is_string(eos) ? tokenizer_id(t, json_string_value(eos)) : -1;
    if (id >= 0) tokenizer_set_stops(t, &id, 1);
}

/* --- vocab.json + merges.txt ------------------------------------------------------------------ */

/* The added tokens of the settings, {"id": {"content", ...}} in tokenizer_config.json; without any
 * GPT-2's one special token, known by name. A new reference, a list as "added_tokens". */
static int find_added(json_t **out, const Settings *s, const json_t *vocab, const char *path) {
    json_t *a;
    const char *id;
    *out = json_array();
    json_object_foreach(json_object_get(s->config, "added_tokens_decoder"), id, a) {
        char *end;
        const long long n = strtoll(id, &end, 10);
        if (*end || end == id || !json_is_object(a))
            return error_set(
                ERR_DATA,
                "%.*stokenizer_config.json: \"added_tokens_decoder\": \"%s\": expected "
                "an id and an object",
                (int)(file_basename(path) - path), path, id);
        json_object_set_new(a, "id", json_integer(n));
        json_array_append(*out, a);
    }
    add_legacy(s, *out);
    const json_t *eos = json_object_get(vocab, "<|endoftext|>");
    if (json_array_size(*out) == 0 && json_is_integer(eos))
        json_array_append_new(*out, json_pack("{s:s, s:I, s:b}", "content", "<|endoftext|>", "id",
                                              json_integer_value(eos), "special", 1));
    return 0;
}

static int read_merges(Tokenizer *t, const json_t *vocab, const char *path) {
    char *text;
    const char *at, *line;
    size_t len;
    int rc = 0;
    TRY(file_read(path, &text, &len));
    const char *end = text + len;
    at = text;
    for (int64_t n = 1; rc == 0 && next_line(&at, end, &line, &len); n++) {
        if (len == 0 || strncmp(line, "#version", 8) == 0) continue;
        rc = tokenizer_read_merge(t, vocab, line, len);
        if (rc < 0) error_wrap(rc, "%s:%lld", path, (long long)n);
    }
    free(text);
    return rc;
}

static int load_pair(Tokenizer **out, const char *vocab_path, const char *merges_path) {
    json_t *vocab = NULL, *added = NULL;
    Tokenizer *t = tokenizer_new();
    Settings s;
    int rc;
    TRY_GOTO(end, settings_read(&s, vocab_path));
    TRY_GOTO(end, json_read_file(&vocab, vocab_path));
    SplitStep gpt2 = {.pattern = GPT2_PATTERN,
                      .prefix_space = json_is_true(json_object_get(s.config, "add_prefix_space")),
                      .byte_level = true};
    TRY_GOTO(end, find_added(&added, &s, vocab, vocab_path));
    rc = json_is_object(vocab) ? tokenizer_read_vocab(t, vocab, added)
                               : error_set(ERR_DATA, "expected an object of tokens and ids");
    if (rc < 0) error_wrap(rc, "%s", vocab_path);
    if (rc == 0) rc = read_merges(t, vocab, merges_path);
    if (rc == 0) rc = pretokenizer_add(t->pre, &gpt2);
end:
    if (rc < 0)
        tokenizer_close(&t);
    else {
        tokenizer_finish(t);
        set_stop(t, &s);
    }
    settings_free(&s);
    json_decref(vocab);
    json_decref(added);
    *out = t;
    return rc;
}

/* --- .tiktoken -------------------------------------------------------------------------------- */

/* The encodings that tiktoken knows: how a file's name begins, how many ranks it has. */
typedef struct Encoding {
    const char *name;
    int64_t ranks;
    const char *pattern;
    struct {
        const char *token;
        int32_t id;
    } special[6];
} Encoding;

static const Encoding encodings[] = {
    {"gpt2", 50256, GPT2_PATTERN, {{"<|endoftext|>", 50256}}},
    {"r50k", 50256, GPT2_PATTERN, {{"<|endoftext|>", 50256}}},
    {"p50k", 50280, GPT2_PATTERN, {{"<|endoftext|>", 50256}}},
    {"cl100k",
     100256,
     CL100K_PATTERN,
     {{"<|endoftext|>", 100257},
      {"<|fim_prefix|>", 100258},
      {"<|fim_middle|>", 100259},
      {"<|fim_suffix|>", 100260},
      {"<|endofprompt|>", 100276}}},
    {"o200k", 199998, O200K_PATTERN, {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
};
enum { ENCODINGS = sizeof encodings / sizeof *encodings };

static const Encoding *find_encoding(const char *name, const char *path, int64_t ranks) {
    for (int i = 0; i < ENCODINGS; i++) {
        const Encoding *e = &encodings[i];
        if (name ? strcmp(name, e->name) == 0
                 : strncmp(file_basename(path), e->name, strlen(e->name)) == 0)
            return e;
    }
    for (int i = 0; i < ENCODINGS && !name; i++)
        if (ranks == encodings[i].ranks) return &encodings[i];
    return NULL;
}

/* RFC 4648, as the lines have it; the number of bytes, -1: it is not. */
static int64_t base64(const char *s, size_t len, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int64_t n = 0;
    if (len == 0 || len % 4) return -1;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        int pad = 0;
        for (size_t k = 0; k < 4; k++) {
            const char c = s[i + k];
            const char *d = c ? strchr(digits, c) : NULL;
            if (c == '=' && i + 4 == len && k >= 2)
                pad++;
            else if (!d || pad)
                return -1;
            bits = bits << 6 | (d ? (uint32_t)(d - digits) : 0);
        }
        if (bits & ((1u << 8 * pad) - 1)) return -1; /* of bytes that are not there */
        for (int k = 2; k >= pad; k--) out[n++] = (char)(bits >> 8 * k);
    }
    return n;
}

/* "base64 rank" */
static int read_rank(Tokenizer *t, const char *line, size_t len, char *bytes) {
    const char *space = memchr(line, ' ', len), *const end = line + len;
    int64_t rank = space && space + 1 < end && end - space <= 10 ? 0 : -1;
    for (const char *d = space ? space + 1 : end; d < end && rank >= 0; d++)
        rank = *d >= '0' && *d <= '9' ? 10 * rank + (*d - '0') : -1;
    if (rank < 0) return error_set(ERR_DATA, "expected a token in base64, a space and its rank");
    const int64_t n = base64(line, (size_t)(space - line), bytes);
    if (n < 0) return error_set(ERR_DATA, "\"%.*s\" is not base64", (int)(space - line), line);
    return tokenizer_set_token(t, rank, bytes, (size_t)n, TOKEN_IN_VOCAB);
}

static int by_bytes(const void *x, const void *y) {
    const Token *a = *(const Token *const *)x, *b = *(const Token *const *)y;
    const int32_t n = a->len < b->len ? a->len : b->len;
    const int d = memcmp(a->bytes, b->bytes, (size_t)n);
    return d ? d : a->len - b->len;
}

static int check_ranks(const Tokenizer *t) {
    const Token **sorted = xmalloc((size_t)(t->vocab + 1) * sizeof *sorted);
    size_t n = 0;
    bool byte[256] = {false};
    int rc = 0;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes) continue;
        sorted[n++] = k;
        if (k->len == 1) byte[(uint8_t)k->bytes[0]] = true;
    }
    qsort(sorted, n, sizeof *sorted, by_bytes);
    for (size_t i = 1; i < n && rc == 0; i++) {
        if (by_bytes(&sorted[i - 1], &sorted[i]) == 0)
            rc =
                error_set(ERR_DATA, "ranks %lld and %lld are the same token",
                          (long long)(sorted[i - 1] - t->token), (long long)(sorted[i] - t->token));
    }
    for (int i = 0; i < 256 && rc == 0; i++)
        if (!byte[i]) rc = error_set(ERR_DATA, "no token for byte 0x%02x; is the file whole?", i);
    free(sorted);
    return rc;
}

static int read_ranks(Tokenizer *t, const char *text, size_t size, const char *path) {
    const char *at = text, *line;
    char *bytes = xmalloc(size + 1);
    size_t len;
    int rc = 0;
    for (int64_t n = 1; rc == 0 && next_line(&at, text + size, &line, &len); n++)
        if (len > 0 && (rc = read_rank(t, line, len, bytes)) < 0)
            error_wrap(rc, "%s:%lld", path, (long long)n);
    free(bytes);
    if (rc == 0 && (rc = check_ranks(t)) < 0) error_wrap(rc, "%s", path);
    return rc;
}

static int add_specials(Tokenizer *t, const Encoding *e) {
    for (int i = 0; i < 6 && e->special[i].token; i++) {
        const char *name = e->special[i].token;
        TRY(tokenizer_set_token(t, e->special[i].id, name, strlen(name),
                                TOKEN_ADDED | TOKEN_SPECIAL));
    }
    return 0;
}

int tokenizer_parse_tiktoken(Tokenizer **out, const char *text, size_t len, const char *encoding,
                             const char *origin) {
    Tokenizer *t = tokenizer_new();
    int rc;
    TRY_GOTO(end, read_ranks(t, text, len, origin));
    const Encoding *e = find_encoding(encoding, origin, t->vocab);
    if (!e) {
        rc =
            error_set(ERR_CONFIG,
                      "%s: %s%s%s; expected gpt2, r50k, p50k, cl100k or o200k: let the file's name "
                      "begin so, or say rhetor-data tokenizer --from FILE --encoding NAME",
                      origin,
                      encoding ? "no encoding \""
                               : "cannot tell its splitting pattern from "
                                 "name or size",
                      encoding ? encoding : "", encoding ? "\"" : "");
        goto end;
    }
    const bool gpt2 = strcmp(e->pattern, GPT2_PATTERN) == 0;
    TRY_GOTO(end, pretokenizer_add(t->pre, &(SplitStep){e->pattern, .byte_level = gpt2}));
    if (!gpt2) TRY_GOTO(end, pretokenizer_add(t->pre, &(SplitStep){.byte_level = true}));
    bpe_recover_merges(t);
    rc = add_specials(t, e);
    if (rc < 0) error_wrap(rc, "%s: as %s", origin, e->name);
end:
    if (rc < 0)
        tokenizer_close(&t);
    else
        tokenizer_finish(t);
    *out = t;
    return rc;
}

/* --- by path ---------------------------------------------------------------------------------- */

/* A tokenizer.json with what stands beside it. */
static int load_json(Tokenizer **out, const char *text, size_t len, const char *path) {
    Settings s;
    json_t *j = NULL;
    char *more = NULL;
    int rc = settings_read(&s, path);
    if (rc == 0 && json_object_size(s.added) > 0 && json_parse(&j, text, len, path, 1) == 0 &&
        add_legacy(&s, json_object_get(j, "added_tokens")) > 0)
        more = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (rc == 0) rc = tokenizer_parse(out, more ? more : text, more ? strlen(more) : len, path);
    if (rc == 0) set_stop(*out, &s);
    settings_free(&s);
    free(more);
    return rc;
}

static int load_file(Tokenizer **out, const char *path, const char *encoding) {
    char *text;
    size_t len;
    TRY(file_read(path, &text, &len));
    const size_t blank = strspn(text, " \t\r\n");
    const bool json = text[blank] == '{' || text[blank] == '[' || blank == len;
    const int rc = !json || encoding ? tokenizer_parse_tiktoken(out, text, len, encoding, path)
                   : strcmp(file_basename(path), "tokenizer.json") == 0
                       ? load_json(out, text, len, path)
                       : tokenizer_parse(out, text, len, path);
    free(text);
    return rc;
}

/* The pair of files if the first is there. Frees the names. */
static int try_pair(Tokenizer **out, char *vocab, char *merges) {
    const bool there = file_exists(vocab) && !file_is_dir(vocab);
    const int rc = there ? load_pair(out, vocab, merges) : 0;
    free(vocab);
    free(merges);
    return rc;
}

/* vocab.json and merges.txt, encoder.json and vocab.bpe: the first of them by its own name, both in
 * a folder or behind a prefix. *out stays NULL if they are not there. */
static int find_pair(Tokenizer **out, const char *path) {
    static const char *const names[][2] = {{"vocab.json", "merges.txt"},
                                           {"encoder.json", "vocab.bpe"}};
    static const char *const joints[] = {"", "/", "-", "_", ""};
    const size_t len = strlen(path);
    int rc = 0;
    for (int k = 0; k < 2; k++) {
        const size_t own = strlen(names[k][0]);
        const bool named = len >= own && strcmp(path + len - own, names[k][0]) == 0;
        for (int i = named ? 0 : 1; i < 5 && rc == 0 && !*out; i++) {
            const int stem = (int)(i == 0 ? len - own : len);
            rc = try_pair(out, xasprintf("%.*s%s%s", stem, path, joints[i], names[k][0]),
                          xasprintf("%.*s%s%s", stem, path, joints[i], names[k][1]));
        }
    }
    return rc;
}

/* "VOCAB,MERGES" */
static int find_named_pair(Tokenizer **out, const char *path) {
    int rc = 0;
    for (const char *comma = path; rc == 0 && !*out && (comma = strchr(comma, ',')); comma++)
        rc = try_pair(out, strndup(path, (size_t)(comma - path)), xstrdup(comma + 1));
    return rc;
}

int tokenizer_load_as(Tokenizer **out, const char *path, const char *encoding) {
    *out = NULL;
    const bool dir = file_is_dir(path);
    AUTOFREE char *json = file_join(path, "tokenizer.json");
    if (dir && file_exists(json)) return load_file(out, json, NULL);
    if (!encoding) TRY(find_pair(out, path));
    if (*out) return 0;
    if (!dir && file_exists(path)) return load_file(out, path, encoding);
    TRY(find_named_pair(out, path));
    if (*out) return 0;
    return error_set(ERR_IO,
                     "%s: no such %s; expected a tokenizer.json, a .tiktoken file, or a folder or "
                     "prefix with vocab.json and merges.txt (or VOCAB,MERGES)",
                     path, dir ? "tokenizer in this folder" : "file");
}

int tokenizer_load(Tokenizer **out, const char *path) { return tokenizer_load_as(out, path, NULL); }
