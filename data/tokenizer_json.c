/* tokenizer_json.c: Hugging Face's tokenizer.json with a byte-level BPE in it: model, added tokens,
 * pre-tokenizer. What would change the ids and is not supported (other normalizers and models) is
 * an error that names the part. The post-processor (bos and the like) is not read: Rhetor's
 * templates say which special tokens stand where.
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

static const struct {
    const char *name;
    int flag;
} added_flags[] = {{"single_word", TOKEN_SINGLE_WORD},
                   {"lstrip", TOKEN_LSTRIP},
                   {"rstrip", TOKEN_RSTRIP},
                   {"normalized", TOKEN_NORMALIZED},
                   {"special", TOKEN_SPECIAL}};
enum { ADDED_FLAGS = sizeof added_flags / sizeof *added_flags };

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
        int flags = TOKEN_ADDED | (known ? TOKEN_IN_VOCAB : 0);
        for (int k = 0; k < ADDED_FLAGS; k++) {
            const json_t *flag = json_object_get(a, added_flags[k].name);
            if (json_is_true(flag))
                flags |= added_flags[k].flag;
            else if (flag && !json_is_false(flag))
                return error_set(ERR_DATA, "%s \"%s\": \"%s\" is %s, expected true or false", where,
                                 content, added_flags[k].name, kind(flag));
        }
        TRY(add_token(t, content, json_integer_value(id), flags));
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

int tokenizer_read_vocab(Tokenizer *t, json_t *vocab, const json_t *added) {
    json_t *seen = json_object();
    int rc = read_added(t, added, vocab, seen);
    if (rc == 0) rc = read_vocab(t, vocab, seen);
    json_decref(seen);
    return rc;
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
int tokenizer_read_merge(Tokenizer *t, const json_t *vocab, const char *line, size_t len) {
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
            rc = tokenizer_read_merge(t, vocab, json_string_value(m), json_string_length(m));
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

/* The token for bytes that are none. */
static int read_unknown(Tokenizer *t, const json_t *model, const json_t *vocab) {
    const json_t *name = json_object_get(model, "unk_token");
    if (absent(name)) return 0;
    TRY(expect(name, JSON_STRING, "\"model\".\"unk_token\"", "a token or null"));
    const json_t *id = json_object_get(vocab, json_string_value(name));
    if (!id)
        return error_set(ERR_DATA, "\"model\".\"unk_token\" \"%s\" is not in the vocabulary",
                         json_string_value(name));
    t->unknown = (int32_t)json_integer_value(id);
    t->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
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
    TRY(tokenizer_read_vocab(t, vocab, added));
    TRY(read_unknown(t, model, vocab));
    return read_merges(t, vocab, merges);
}

static int read_byte_level(Tokenizer *t, const json_t *p) {
    const json_t *regex = json_object_get(p, "use_regex");
    t->byte_level_regex = !json_is_false(regex); /* absent: true */
    t->prefix_space = json_is_true(json_object_get(p, "add_prefix_space"));
    if (!t->byte_level_regex) return 0;
    return pretokenizer_add(t->pre, GPT2_PATTERN, BEHAVIOR_ISOLATED, false);
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

static int read_behavior(const json_t *p, Behavior *behavior, bool *invert) {
    const char *name = json_string_value(json_object_get(p, "behavior"));
    *invert = json_is_true(json_object_get(p, "invert"));
    if (name && strcmp(name, "Removed") == 0 && *invert) {
        /* What does not match is dropped. The usual patterns match everything; we keep it. */
        *behavior = BEHAVIOR_ISOLATED;
        *invert = false;
        return 0;
    }
    for (int i = 0; name && i < BEHAVIORS; i++) {
        if (strcmp(name, behavior_names[i]) != 0) continue;
        *behavior = (Behavior)i;
        return 0;
    }
    return error_set(ERR_DATA,
                     "%s has behavior \"%s\", expected Isolated, Contiguous, MergedWithPrevious, "
                     "MergedWithNext, or Removed with invert: true (bytes are never dropped)",
                     type_of(p), name ? name : "(none)");
}

static int read_split(Tokenizer *t, const json_t *p) {
    Behavior behavior;
    bool invert;
    TRY(read_behavior(p, &behavior, &invert));
    const json_t *pattern = json_object_get(p, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    if (regex) return pretokenizer_add(t->pre, regex, behavior, invert);
    if (!literal)
        return error_set(ERR_DATA, "Split lacks a \"pattern\" with \"Regex\" or \"String\"");
    char *quoted = quote(literal);
    const int rc = pretokenizer_add(t->pre, quoted, behavior, invert);
    free(quoted);
    return rc;
}

/* All before ByteLevel: afterwards Hugging Face's patterns see the byte alphabet, ours the text. */
static int read_step(Tokenizer *t, const json_t *p, bool *byte_level) {
    const char *type = type_of(p);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *steps = json_object_get(p, "pretokenizers"), *step;
        size_t i;
        json_array_foreach(steps, i, step) TRY(read_step(t, step, byte_level));
        return 0;
    }
    if (!*byte_level && strcmp(type, "Split") == 0) return read_split(t, p);
    if (!*byte_level && strcmp(type, "Digits") == 0) {
        const bool each = json_is_true(json_object_get(p, "individual_digits"));
        return pretokenizer_add(t->pre, each ? "\\p{N}" : "\\p{N}+", BEHAVIOR_ISOLATED, false);
    }
    if (!*byte_level && strcmp(type, "Punctuation") == 0) {
        Behavior behavior = BEHAVIOR_ISOLATED;
        bool invert = false;
        if (json_object_get(p, "behavior")) TRY(read_behavior(p, &behavior, &invert));
        return pretokenizer_add(t->pre, "[\\p{P}$+<=>^`|~]", behavior, invert);
    }
    if (!*byte_level && strcmp(type, "ByteLevel") == 0) {
        *byte_level = true;
        return read_byte_level(t, p);
    }
    return error_set(ERR_DATA,
                     "%s is not supported here: expected ByteLevel, or a Sequence of "
                     "Split, Digits and Punctuation that ends with ByteLevel",
                     type);
}

static int read_pre_tokenizer(Tokenizer *t, const json_t *p) {
    TRY(expect(p, JSON_OBJECT, "\"pre_tokenizer\"", "a byte-level one"));
    bool byte_level = false;
    TRY(read_step(t, p, &byte_level));
    if (!byte_level)
        return error_set(ERR_DATA, "%s without ByteLevel: expected one that ends with it",
                         type_of(p));
    if (t->prefix_space && pretokenizer_count(t->pre) > t->byte_level_regex)
        return error_set(ERR_DATA, "add_prefix_space after other steps is not supported");
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

/* NFC, or a Sequence of it. Only here, so once the added tokens are known. */
static int read_normalizer(Tokenizer *t, const json_t *v) {
    if (absent(v)) return 0;
    if (strcmp(type_of(v), "Sequence") == 0) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(v, "normalizers"), i, e) TRY(read_normalizer(t, e));
        return 0;
    }
    if (strcmp(type_of(v), "NFC") != 0)
        return error_set(ERR_DATA, "%s is not supported: expected none, NFC or a Sequence of it",
                         type_of(v));
    t->nfc = true;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        size_t len;
        if (!k->bytes || !(k->flags & TOKEN_NORMALIZED)) continue;
        char *form = nfc(k->bytes, (size_t)k->len, &len);
        free(form);
        if (form)
            return error_set(
                ERR_DATA, "NFC changes the added token \"%s\", which is \"normalized\"", k->bytes);
    }
    return 0;
}

static int read_root(Tokenizer *t, const json_t *root) {
    TRY(expect(root, JSON_OBJECT, "the file", "an object"));
    TRY(read_model(t, json_object_get(root, "model"), json_object_get(root, "added_tokens")));
    const int rc_normalizer = read_normalizer(t, json_object_get(root, "normalizer"));
    if (rc_normalizer < 0) return error_wrap(rc_normalizer, "\"normalizer\"");
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
        Behavior behavior;
        bool invert;
        const char *pattern = pretokenizer_pattern(t->pre, i, &behavior, &invert);
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                               "pattern", "Regex", pattern, "behavior",
                                               behavior_names[behavior], "invert", (int)invert));
    }
    json_array_append_new(steps, last);
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* Hugging Face's library takes an added token's id from the vocabulary, and numbers those that are
 * not in it anew, from the end of the vocabulary on. Would any get another id so? */
static bool would_be_numbered_otherwise(const Tokenizer *t) {
    int64_t vocab = 0, last = -1;
    for (int64_t i = 0; i < t->vocab; i++) {
        vocab += t->token[i].bytes && t->token[i].flags & TOKEN_IN_VOCAB;
    }
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes || !(k->flags & TOKEN_ADDED)) continue;
        if (!(k->flags & TOKEN_IN_VOCAB) && i != (last >= vocab ? last + 1 : vocab)) return true;
        last = i;
    }
    return false;
}

char *tokenizer_json(const Tokenizer *t) {
    const int in_vocab = TOKEN_IN_VOCAB | (would_be_numbered_otherwise(t) ? TOKEN_ADDED : 0);
    json_t *added = json_array(), *vocab = json_object(), *merges = json_array();
    char **key = xcalloc((size_t)t->vocab + 1, sizeof *key);
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes) continue;
        key[i] = token_key(k);
        if (k->flags & in_vocab && !json_object_get(vocab, key[i]))
            json_object_set_new(vocab, key[i], json_integer(i));
        if (k->flags & TOKEN_ADDED) {
            json_t *a = json_pack("{s:I, s:s}", "id", (json_int_t)i, "content", k->bytes);
            for (int f = 0; f < ADDED_FLAGS; f++) {
                const bool set = k->flags & added_flags[f].flag;
                json_object_set_new(a, added_flags[f].name, json_boolean(set));
            }
            json_array_append_new(added, a);
        }
    }
    for (int64_t i = 0; i < t->nmerge; i++) {
        char *text = xasprintf("%s %s", key[t->merge[i].a], key[t->merge[i].b]);
        json_array_append_new(merges, json_string(text));
        free(text);
    }
    json_t *root = json_pack(
        "{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, "
        "s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        t->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(), "pre_tokenizer",
        write_pre_tokenizer(t), "post_processor", byte_level(true, false, true), "decoder",
        byte_level(true, true, true), "model", "type", "BPE", "dropout", "unk_token",
        t->unknown >= 0 ? key[t->unknown] : NULL, "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", (int)t->fuse_unknown, "byte_fallback", 0, "ignore_merges", t->ignore_merges,
        "vocab", vocab, "merges", merges);
    CHECK(root, "a token of the tokenizer is not UTF-8");
    char *text = json_dumps(root, JSON_INDENT(2));
    CHECK(text, "out of memory writing a tokenizer");
    json_decref(root);
    for (int64_t i = 0; i < t->vocab; i++) free(key[i]);
    free(key);
    return text;
}
