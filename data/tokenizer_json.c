/* tokenizer_json.c: tokenizers as files.
 *
 * Hugging Face's tokenizer.json with a byte-level BPE in it: model, added tokens, pre-tokenizer.
 * What would change the ids and is not supported (normalizers, other models, tokens that swallow
 * spaces) is an error that names the part. The post-processor (bos and the like) is not read:
 * Rhetor's templates say which special tokens stand where.
 *
 * In such files bytes are written as characters, so that every token is printable text: GPT-2's
 * byte alphabet. Printable Latin-1 stands for itself, the other 68 bytes are U+0100 onwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer_impl.h"

/* --- the byte alphabet --------------------------------------------------------------------- */

uint32_t alphabet_char(uint8_t b) {
    if (b <= 32) return 256u + b;
    if (b >= 127 && b <= 160) return 256u + 33 + (b - 127u);
    return b == 173 ? 323 : b;
}

int alphabet_byte(uint32_t c) {
    if (c < 256) return alphabet_char((uint8_t)c) == c ? (int)c : -1;
    if (c <= 256 + 32) return (int)c - 256;
    if (c <= 322) return (int)c - 289 + 127;
    return c == 323 ? 173 : -1;
}

/* Writes key as bytes to out (room for strlen(key)); -1 if a character is not in the alphabet. */
static int64_t alphabet_decode(const char *key, size_t len, char *out) {
    int64_t n = 0;
    for (size_t i = 0; i < len;) {
        const uint8_t c = (uint8_t)key[i];
        const size_t width = utf8_char(key + i, len - i);
        if (width != 1 && width != 2) return -1; /* the alphabet ends at U+0143 */
        const uint32_t code = width == 1 ? c : (c & 0x1fu) << 6 | ((uint8_t)key[i + 1] & 0x3fu);
        const int byte = alphabet_byte(code);
        if (byte < 0) return -1;
        out[n++] = (char)byte;
        i += width;
    }
    return n;
}

/* A token as the file writes it; malloc'd. */
static char *token_key(const Token *k) {
    if (k->flags & TOKEN_RAW) return xstrdup(k->bytes);
    char *key = xmalloc(2 * (size_t)k->len + 1), *o = key;
    for (int32_t i = 0; i < k->len; i++) {
        const uint32_t c = alphabet_char((uint8_t)k->bytes[i]);
        if (c >= 0x80) *o++ = (char)(0xc0 | c >> 6);
        *o++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    *o = 0;
    return key;
}

/* --- reading ------------------------------------------------------------------------------- */

static const char *kind(const json_t *v) {
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_NULL: return v ? "null" : "missing";
    default: return "true or false";
    }
}

static int expect(const json_t *v, json_type type, const char *what, const char *expected) {
    if (v && json_typeof(v) == type) return 0;
    return error_set(ERR_DATA, "%s is %s, expected %s", what, kind(v), expected);
}

static bool absent(const json_t *v) {
    return !v || json_is_null(v);
}

static const char *type_of(const json_t *obj) {
    const char *type = json_string_value(json_object_get(obj, "type"));
    return type ? type : "(none)";
}

/* Adds a token of the vocabulary: `content` as it stands in the file. */
static int add_token(Tokenizer *t, const char *content, int64_t id, int flags) {
    const size_t len = strlen(content);
    char *bytes = xmalloc(len + 1);
    const int64_t n = alphabet_decode(content, len, bytes);
    bool raw = n < 0;
    if (flags & TOKEN_ADDED) raw = raw || (size_t)n != len || memcmp(bytes, content, len) != 0;
    const int rc = raw ? tokenizer_set_token(t, id, content, len, flags | TOKEN_RAW)
                       : tokenizer_set_token(t, id, bytes, (size_t)n, flags);
    free(bytes);
    return rc < 0 ? error_wrap(rc, "token \"%s\"", content) : 0;
}

static int read_added(Tokenizer *t, const json_t *list, const json_t *vocab, json_t *seen) {
    if (absent(list)) return 0;
    TRY(expect(list, JSON_ARRAY, "\"added_tokens\"", "an array"));
    size_t i;
    json_t *a;
    json_array_foreach(list, i, a) {
        char where[64];
        snprintf(where, sizeof where, "\"added_tokens\"[%zu]", i);
        TRY(expect(a, JSON_OBJECT, where, "an object with id and content"));
        const char *content = json_string_value(json_object_get(a, "content"));
        const json_t *id = json_object_get(a, "id");
        if (!content || !*content || !json_is_integer(id)) {
            return error_set(ERR_DATA, "%s lacks an integer \"id\" or a text \"content\"", where);
        }
        static const char *const unsupported[] = {"single_word", "lstrip", "rstrip"};
        for (int k = 0; k < 3; k++) {
            if (json_is_true(json_object_get(a, unsupported[k]))) {
                return error_set(ERR_DATA,
                                 "%s \"%s\" has %s = true, which is not supported: it would lose "
                                 "spaces of the text; set it to false",
                                 where, content, unsupported[k]);
            }
        }
        const json_t *known = json_object_get(vocab, content);
        if (known && json_integer_value(known) != json_integer_value(id)) {
            return error_set(ERR_DATA, "%s \"%s\" has id %lld, but %lld in \"model\".\"vocab\"",
                             where, content, (long long)json_integer_value(id),
                             (long long)json_integer_value(known));
        }
        if (json_object_get(seen, content)) {
            return error_set(ERR_DATA, "%s \"%s\" is there twice", where, content);
        }
        json_object_set(seen, content, a);
        const bool special = json_is_true(json_object_get(a, "special"));
        TRY(add_token(t, content, json_integer_value(id),
                      TOKEN_ADDED | (special ? TOKEN_SPECIAL : 0) | (known ? TOKEN_IN_VOCAB : 0)));
    }
    return 0;
}

/* `seen`: the added tokens by content, which are tokens of t already. */
static int read_vocab(Tokenizer *t, json_t *vocab, const json_t *seen) {
    const char *key;
    json_t *id;
    json_object_foreach(vocab, key, id) {
        if (!json_is_integer(id)) {
            return error_set(ERR_DATA, "the id of token \"%s\" is %s, expected an integer", key,
                             kind(id));
        }
        if (json_object_get(seen, key)) continue;
        TRY(add_token(t, key, json_integer_value(id), TOKEN_IN_VOCAB));
    }
    return 0;
}

/* Both parts and what they make must be tokens. */
static int read_merge(Tokenizer *t, const json_t *vocab, const char *a, size_t alen, const char *b,
                      size_t blen) {
    char small[256];
    char *joined = alen + blen < sizeof small ? small : xmalloc(alen + blen + 1);
    memcpy(mempcpy(joined, a, alen), b, blen);
    joined[alen + blen] = 0;
    const struct {
        const char *s;
        size_t len;
    } part[3] = {{a, alen}, {b, blen}, {joined, alen + blen}};
    int32_t id[3];
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        const json_t *found = json_object_getn(vocab, part[i].s, part[i].len);
        id[i] = (int32_t)json_integer_value(found);
        if (!found || part[i].len == 0) {
            rc = error_set(ERR_DATA,
                           "merge of \"%.*s\" and \"%.*s\": \"%.*s\" is not in the "
                           "vocabulary",
                           (int)alen, a, (int)blen, b, (int)part[i].len, part[i].s);
        } else if (t->token[id[i]].flags & TOKEN_RAW) {
            rc = error_set(ERR_DATA,
                           "merge of \"%.*s\" and \"%.*s\": \"%.*s\" is not written in "
                           "GPT-2's byte alphabet",
                           (int)alen, a, (int)blen, b, (int)part[i].len, part[i].s);
        }
    }
    if (rc == 0) tokenizer_add_merge(t, id[0], id[1], id[2]);
    if (joined != small) free(joined);
    return rc;
}

/* "a b" */
static int read_merge_text(Tokenizer *t, const json_t *vocab, const char *line, size_t len) {
    const char *space = memchr(line, ' ', len);
    const size_t a = space ? (size_t)(space - line) : 0;
    if (!space || memchr(space + 1, ' ', len - a - 1)) {
        return error_set(ERR_DATA, "merge \"%.*s\": expected two tokens with one space between",
                         (int)len, line);
    }
    return read_merge(t, vocab, line, a, space + 1, len - a - 1);
}

static int read_merges(Tokenizer *t, const json_t *vocab, const json_t *merges) {
    size_t i;
    json_t *m;
    json_array_foreach(merges, i, m) {
        int rc;
        if (json_is_string(m)) {
            rc = read_merge_text(t, vocab, json_string_value(m), json_string_length(m));
        } else {
            const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
            if (json_array_size(m) == 2 && json_is_string(a) && json_is_string(b)) {
                rc = read_merge(t, vocab, json_string_value(a), json_string_length(a),
                                json_string_value(b), json_string_length(b));
            } else {
                rc = error_set(ERR_DATA, "expected \"a b\" or [\"a\", \"b\"], found %s", kind(m));
            }
        }
        if (rc < 0) return error_wrap(rc, "\"model\".\"merges\"[%zu]", i);
    }
    return 0;
}

static int read_model(Tokenizer *t, const json_t *model, const json_t *added) {
    TRY(expect(model, JSON_OBJECT, "\"model\"",
               "an object (is this a tokenizer.json? with a vocab.json give its folder)"));
    const json_t *type = json_object_get(model, "type");
    if (type && strcmp(type_of(model), "BPE") != 0) { /* old files have no type */
        return error_set(ERR_DATA, "\"model\".\"type\" is \"%s\", expected \"BPE\"",
                         type_of(model));
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(model, affixes[i]);
        if (!absent(v) && json_string_length(v) > 0) {
            return error_set(ERR_DATA, "\"model\".\"%s\" is set, which byte-level BPE has not",
                             affixes[i]);
        }
    }
    if (json_number_value(json_object_get(model, "dropout")) > 0) {
        return error_set(ERR_DATA, "\"model\".\"dropout\" is not supported: set it to null");
    }
    if (json_is_true(json_object_get(model, "byte_fallback"))) {
        return error_set(ERR_DATA, "\"model\".\"byte_fallback\" is true: not a byte-level BPE");
    }
    t->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    json_t *vocab = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    TRY(expect(vocab, JSON_OBJECT, "\"model\".\"vocab\"", "an object of tokens and ids"));
    TRY(expect(merges, JSON_ARRAY, "\"model\".\"merges\"", "an array"));
    json_t *seen = json_object();
    int rc = read_added(t, added, vocab, seen);
    if (rc == 0) rc = read_vocab(t, vocab, seen);
    if (rc == 0) rc = read_merges(t, vocab, merges);
    json_decref(seen);
    return rc;
}

static int read_byte_level(Tokenizer *t, const json_t *p) {
    const json_t *regex = json_object_get(p, "use_regex");
    t->byte_level_regex = !json_is_false(regex); /* absent: true */
    t->prefix_space = json_is_true(json_object_get(p, "add_prefix_space"));
    if (t->byte_level_regex) TRY(pretokenizer_add(t->pre, GPT2_PATTERN));
    return 0;
}

/* A literal string as a pattern; malloc'd. */
static char *quote(const char *s) {
    char *out = xmalloc(2 * strlen(s) + 1), *o = out;
    for (; *s; s++) {
        if (strchr("\\^$.[]|()?*+{}-#&~/", *s)) *o++ = '\\';
        *o++ = *s;
    }
    *o = 0;
    return out;
}

static int read_split(Tokenizer *t, const json_t *p) {
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    const bool invert = json_is_true(json_object_get(p, "invert"));
    /* "Removed" of what does not match keeps the matches; with the usual patterns, which match
     * everything, it is the same as "Isolated". */
    if (!behavior || strcmp(behavior, invert ? "Removed" : "Isolated") != 0) {
        return error_set(ERR_DATA,
                         "Split has behavior \"%s\" and invert %s, expected \"Isolated\" "
                         "and false, or \"Removed\" and true",
                         behavior ? behavior : "(none)", invert ? "true" : "false");
    }
    const json_t *pattern = json_object_get(p, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    if (regex) return pretokenizer_add(t->pre, regex);
    if (!literal)
        return error_set(ERR_DATA, "Split lacks a \"pattern\" with \"Regex\" or \"String\"");
    char *quoted = quote(literal);
    const int rc = pretokenizer_add(t->pre, quoted);
    free(quoted);
    return rc;
}

static int read_step(Tokenizer *t, const json_t *p, bool last) {
    const char *type = type_of(p);
    if (!last && strcmp(type, "Split") == 0) return read_split(t, p);
    if (!last && strcmp(type, "Digits") == 0) {
        const bool each = json_is_true(json_object_get(p, "individual_digits"));
        return pretokenizer_add(t->pre, each ? "\\p{N}" : "\\p{N}+");
    }
    if (last && strcmp(type, "ByteLevel") == 0) return read_byte_level(t, p);
    return error_set(ERR_DATA,
                     "%s is not supported here: expected ByteLevel, or a Sequence of "
                     "Split and Digits that ends with ByteLevel",
                     type);
}

static int read_pre_tokenizer(Tokenizer *t, const json_t *p) {
    TRY(expect(p, JSON_OBJECT, "\"pre_tokenizer\"", "a byte-level one"));
    if (strcmp(type_of(p), "Sequence") != 0) return read_step(t, p, true);
    const json_t *steps = json_object_get(p, "pretokenizers");
    const size_t n = json_array_size(steps);
    for (size_t i = 0; i < n; i++) TRY(read_step(t, json_array_get(steps, i), i + 1 == n));
    if (n == 0)
        return error_set(ERR_DATA, "an empty Sequence: expected one that ends with ByteLevel");
    if (n > 1 && t->prefix_space) {
        return error_set(ERR_DATA, "add_prefix_space within a Sequence is not supported");
    }
    return 0;
}

/* true for null, for the one type given, and for a Sequence of nothing else */
static bool only(const json_t *v, const char *type, const char *list) {
    if (absent(v)) return true;
    if (type && strcmp(type_of(v), type) == 0) return true;
    if (strcmp(type_of(v), "Sequence") != 0) return false;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(v, list), i, e) {
        if (!only(e, type, list)) return false;
    }
    return true;
}

static int read_root(Tokenizer *t, const json_t *root) {
    TRY(expect(root, JSON_OBJECT, "the file", "an object"));
    TRY(read_model(t, json_object_get(root, "model"), json_object_get(root, "added_tokens")));
    const json_t *normalizer = json_object_get(root, "normalizer");
    if (!only(normalizer, NULL, "normalizers")) {
        return error_set(ERR_DATA,
                         "\"normalizer\" is %s, expected none: bytes are kept as they are",
                         type_of(normalizer));
    }
    const json_t *decoder = json_object_get(root, "decoder");
    if (!only(decoder, "ByteLevel", "decoders")) {
        return error_set(ERR_DATA, "\"decoder\" is %s, expected ByteLevel", type_of(decoder));
    }
    const int rc = read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"));
    return rc < 0 ? error_wrap(rc, "\"pre_tokenizer\"") : 0;
}

int tokenizer_parse(Tokenizer **out, const char *json, size_t len, const char *origin) {
    json_t *root = NULL;
    *out = NULL;
    TRY(json_parse(&root, json, len, origin, 1));
    Tokenizer *t = tokenizer_new();
    int rc = read_root(t, root);
    json_decref(root);
    if (rc < 0) {
        tokenizer_close(&t);
        return error_wrap(rc, "%s", origin);
    }
    tokenizer_finish(t);
    *out = t;
    return 0;
}

/* GPT-2's first format. Its one special token is known by name. */
static int load_pair(Tokenizer **out, const char *vocab_path, const char *merges_path) {
    json_t *vocab = NULL, *seen = json_object();
    char *text = NULL;
    size_t len;
    Tokenizer *t = tokenizer_new();
    const char *where = vocab_path;
    int rc = json_read_file(&vocab, vocab_path);
    if (rc < 0) where = NULL; /* its message has the path */
    if (rc == 0) rc = expect(vocab, JSON_OBJECT, "the file", "an object of tokens and ids");
    if (rc == 0) {
        json_t *eos = json_object_get(vocab, "<|endoftext|>");
        if (json_is_integer(eos)) {
            json_object_set(seen, "<|endoftext|>", eos);
            rc = add_token(t, "<|endoftext|>", json_integer_value(eos),
                           TOKEN_IN_VOCAB | TOKEN_ADDED | TOKEN_SPECIAL);
        }
    }
    if (rc == 0) rc = read_vocab(t, vocab, seen);
    if (rc == 0) rc = pretokenizer_add(t->pre, GPT2_PATTERN);
    t->byte_level_regex = true;
    if (rc == 0 && (rc = file_read(merges_path, &text, &len)) < 0) where = NULL;
    int64_t line = 0;
    for (char *s = text, *end; rc == 0 && s && s < text + len; s = end + 1) {
        end = memchr(s, '\n', (size_t)(text + len - s));
        if (!end) end = text + len;
        line++;
        const size_t n = (size_t)(end - s) - (end > s && end[-1] == '\r');
        if (n == 0 || strncmp(s, "#version", 8) == 0) continue;
        rc = read_merge_text(t, vocab, s, n);
        if (rc < 0) {
            error_wrap(rc, "%s:%lld", merges_path, (long long)line);
            where = NULL;
        }
    }
    if (rc < 0) {
        if (where) error_wrap(rc, "%s", where);
        tokenizer_close(&t);
    } else {
        tokenizer_finish(t);
    }
    *out = t;
    free(text);
    json_decref(vocab);
    json_decref(seen);
    return rc;
}

int tokenizer_load(Tokenizer **out, const char *path) {
    *out = NULL;
    const bool dir = file_is_dir(path);
    char *json = dir ? file_join(path, "tokenizer.json") : xstrdup(path);
    int rc;
    if (file_exists(json)) {
        char *text = NULL;
        size_t len;
        rc = file_read(json, &text, &len);
        if (rc == 0) rc = tokenizer_parse(out, text, len, json);
        free(text);
        free(json);
        return rc;
    }
    free(json);
    /* folder/vocab.json, prefix-vocab.json (as Hugging Face saves it) or prefixvocab.json */
    static const char *const joints[] = {"/", "-", ""};
    rc = error_set(ERR_IO,
                   "%s: no such file; expected a tokenizer.json, or a folder or prefix with "
                   "vocab.json and merges.txt",
                   path);
    for (int i = dir ? 0 : 1; i < (dir ? 1 : 3); i++) {
        char *vocab = xasprintf("%s%svocab.json", path, joints[i]);
        char *merges = xasprintf("%s%smerges.txt", path, joints[i]);
        const bool found = file_exists(vocab);
        if (found) rc = load_pair(out, vocab, merges);
        free(vocab);
        free(merges);
        if (found) break;
    }
    return rc;
}

/* --- writing ------------------------------------------------------------------------------- */

static json_t *byte_level(bool prefix_space, bool trim_offsets, bool regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix_space,
                     "trim_offsets", trim_offsets, "use_regex", regex);
}

static json_t *write_pre_tokenizer(const Tokenizer *t) {
    json_t *last = byte_level(t->prefix_space, true, t->byte_level_regex);
    const int splits = pretokenizer_count(t->pre) - t->byte_level_regex;
    if (splits == 0) return last;
    json_t *steps = json_array();
    for (int i = 0; i < splits; i++) {
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                               "pattern", "Regex", pretokenizer_pattern(t->pre, i),
                                               "behavior", "Isolated", "invert", 0));
    }
    json_array_append_new(steps, last);
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

char *tokenizer_json(const Tokenizer *t) {
    json_t *added = json_array(), *vocab = json_object(), *merges = json_array();
    char **key = xcalloc((size_t)t->vocab + 1, sizeof *key);
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes) continue;
        key[i] = token_key(k);
        if (k->flags & TOKEN_IN_VOCAB) json_object_set_new(vocab, key[i], json_integer(i));
        if (k->flags & TOKEN_ADDED) {
            const bool special = k->flags & TOKEN_SPECIAL;
            json_array_append_new(added, json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                                   (json_int_t)i, "content", k->bytes,
                                                   "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                   "normalized", !special, "special", special));
        }
    }
    for (int64_t i = 0; i < t->nmerge; i++) {
        char *text = xasprintf("%s %s", key[t->merge[i].a], key[t->merge[i].b]);
        json_array_append_new(merges, json_string(text));
        free(text);
    }
    json_t *root = json_pack(
        "{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, "
        "s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        "pre_tokenizer", write_pre_tokenizer(t), "post_processor", byte_level(true, false, true),
        "decoder", byte_level(true, true, true), "model", "type", "BPE", "dropout", "unk_token",
        "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
        "ignore_merges", t->ignore_merges, "vocab", vocab, "merges", merges);
    CHECK(root, "a token of the tokenizer is not UTF-8");
    char *text = json_dumps(root, JSON_INDENT(2));
    CHECK(text, "out of memory writing a tokenizer");
    json_decref(root);
    for (int64_t i = 0; i < t->vocab; i++) free(key[i]);
    free(key);
    return text;
}
