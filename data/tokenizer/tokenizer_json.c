/* tokenizer_json.c: Hugging Face's tokenizer.json with a byte-level BPE in it, or SentencePiece's by
 * characters ("byte_fallback"): model, added tokens, normalizer, pre-tokenizer. What would change the ids and is not supported is an error that names
 * the part. The post-processor (bos and the like) is not read: Rhetor's templates say which special
 * tokens stand where.
 *
 * In such files bytes are written as characters, so that every token is printable text: GPT-2's
 * byte alphabet. Printable Latin-1 stands for itself, the other 68 bytes are U+0100 onwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/tokenizer/tokenizer_impl.h"

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

int64_t alphabet_decode(const char *key, size_t len, char *out) {
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

size_t alphabet_encode(const char *bytes, size_t n, char *out) {
    char *o = out;
    for (size_t i = 0; i < n; i++) {
        const uint32_t c = alphabet_char((uint8_t)bytes[i]);
        if (c >= 0x80) *o++ = (char)(0xc0 | c >> 6);
        *o++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    return (size_t)(o - out);
}

/* --- spaces ---------------------------------------------------------------------------------- */

static char *replace(const char *text, size_t len, const char *from, const char *to, size_t *n) {
    const size_t width = strlen(from);
    Text out = {0};
    for (const char *at; (at = memmem(text, len, from, width));) {
        text_bytes(&out, text, (size_t)(at - text));
        text_bytes(&out, to, strlen(to));
        len -= (size_t)(at - text) + width;
        text = at + width;
    }
    text_bytes(&out, text, len);
    *n = out.n;
    return text_take(&out);
}

char *tokenizer_metaspaces(const char *text, size_t len, size_t *n) {
    return replace(text, len, " ", METASPACE, n);
}
char *tokenizer_spaces(const char *text, size_t len, size_t *n) {
    return replace(text, len, METASPACE, " ", n);
}

char *tokenizer_key(const Tokenizer *t, int64_t id) {
    const Token *k = &t->token[id];
    size_t n;
    if (k->flags & TOKEN_BYTE) return xasprintf("<0x%02X>", (uint8_t)*k->bytes);
    if (k->form && t->by_chars && !(k->flags & TOKEN_NORMALIZED)) return xstrdup(k->form);
    if (k->flags & TOKEN_RAW || (t->by_chars && k->flags & TOKEN_ADDED)) return xstrdup(k->bytes);
    if (t->by_chars) return tokenizer_metaspaces(k->bytes, (size_t)k->len, &n);
    char *key = xmalloc(2 * (size_t)k->len + 1);
    key[alphabet_encode(k->bytes, (size_t)k->len, key)] = 0;
    return key;
}

/* --- reading ------------------------------------------------------------------------------- */

static int expect(const json_t *v, json_type type, const char *what, const char *expected) {
    if (v && json_typeof(v) == type) return 0;
    return error_set(ERR_DATA, "%s is %s, expected %s", what, json_kind(v), expected);
}

static bool absent(const json_t *v) { return !v || json_is_null(v); }

const char *tokenizer_part_type(const json_t *obj) {
    const char *type = json_string_value(json_object_get(obj, "type"));
    return type ? type : "(none)";
}

/* The byte that "<0x0A>" stands for; -1: it is no such token. */
static int byte_of(const char *content) {
    static const char digits[] = "0123456789ABCDEF";
    if (strlen(content) != 6 || strncmp(content, "<0x", 3) != 0 || content[5] != '>') return -1;
    const char *high = strchr(digits, content[3]), *low = strchr(digits, content[4]);
    return high && low ? (int)((high - digits) << 4 | (low - digits)) : -1;
}

/* The same by characters. An added token is looked for as it is written, and decodes with spaces. */
static int add_char_token(Tokenizer *t, const char *content, int64_t id, int flags) {
    size_t n;
    const int byte = flags & TOKEN_ADDED ? -1 : byte_of(content);
    if (byte >= 0) return tokenizer_set_token(t, id, &(char){(char)byte}, 1, flags | TOKEN_BYTE);
    if (!(flags & TOKEN_ADDED) && strchr(content, ' '))
        return error_set(ERR_DATA, "it holds a space, where SentencePiece has U+2581");
    AUTOFREE char *spaces = tokenizer_spaces(content, strlen(content), &n);
    TRY(tokenizer_set_token(t, id, spaces, n, flags));
    if (strcmp(spaces, content) == 0 || !(flags & TOKEN_ADDED)) return 0;
    if (flags & TOKEN_NORMALIZED)
        return error_set(ERR_DATA, "an added token with U+2581 in it that is \"normalized\" is not "
                                   "supported");
    t->token[id].form = xstrdup(content);
    t->token[id].form_len = (int32_t)strlen(content);
    return 0;
}

/* Adds a token of the vocabulary: `content` as it stands in the file. */
static int add_token(Tokenizer *t, const char *content, int64_t id, int flags) {
    const size_t len = strlen(content);
    if (t->by_chars) {
        const int rc = add_char_token(t, content, id, flags);
        return rc < 0 ? error_wrap(rc, "token \"%s\"", content) : 0;
    }
    AUTOFREE char *bytes = xmalloc(len + 1);
    const int64_t n = alphabet_decode(content, len, bytes);
    bool raw = n < 0;
    if (flags & TOKEN_ADDED) raw = raw || (size_t)n != len || memcmp(bytes, content, len) != 0;
    const int rc = raw ? tokenizer_set_token(t, id, content, len, flags | TOKEN_RAW)
                       : tokenizer_set_token(t, id, bytes, (size_t)n, flags);
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
        if (!content || !*content || !json_is_integer(id))
            return error_set(ERR_DATA, "%s lacks an integer \"id\" or a text \"content\"", where);
        const json_t *known = json_object_get(vocab, content);
        if (known && json_integer_value(known) != json_integer_value(id)) {
            return error_set(ERR_DATA, "%s \"%s\" has id %lld, but %lld in \"model\".\"vocab\"",
                             where, content, (long long)json_integer_value(id),
                             (long long)json_integer_value(known));
        }
        if (json_object_get(seen, content))
            return error_set(ERR_DATA, "%s \"%s\" is there twice", where, content);
        json_object_set(seen, content, a);
        int flags = TOKEN_ADDED | (known ? TOKEN_IN_VOCAB : 0);
        for (int k = 0; k < ADDED_FLAGS; k++) {
            const json_t *flag = json_object_get(a, added_flags[k].name);
            if (json_is_true(flag))
                flags |= added_flags[k].flag;
            else if (flag && !json_is_false(flag))
                return error_set(ERR_DATA, "%s \"%s\": \"%s\" is %s, expected true or false", where,
                                 content, added_flags[k].name, json_kind(flag));
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
                             json_kind(id));
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
        const char *wrong = !found || part[i].len == 0          ? "in the vocabulary"
                            : t->token[id[i]].flags & TOKEN_RAW ? "written in GPT-2's byte alphabet"
                                                                : NULL;
        if (wrong)
            rc = error_set(ERR_DATA, "merge of \"%.*s\" and \"%.*s\": \"%.*s\" is not %s",
                           (int)alen, a, (int)blen, b, (int)part[i].len, part[i].s, wrong);
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
        const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
        const bool pair = json_array_size(m) == 2 && json_is_string(a) && json_is_string(b);
        const int rc =
            json_is_string(m)
                ? tokenizer_read_merge(t, vocab, json_string_value(m), json_string_length(m))
            : pair
                ? read_merge(t, vocab, json_string_value(a), json_string_length(a),
                             json_string_value(b), json_string_length(b))
                : error_set(ERR_DATA, "expected \"a b\" or [\"a\", \"b\"], found %s", json_kind(m));
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
    if (type && strcmp(tokenizer_part_type(model), "BPE") != 0) { /* old files have no type */
        return error_set(ERR_DATA, "\"model\".\"type\" is \"%s\", expected \"BPE\"",
                         tokenizer_part_type(model));
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(model, affixes[i]);
        if (!absent(v) && json_string_length(v) > 0) {
            return error_set(ERR_DATA, "\"model\".\"%s\" is set, which byte-level BPE has not",
                             affixes[i]);
        }
    }
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return error_set(ERR_DATA, "\"model\".\"dropout\" is not supported: set it to null");
    t->by_chars = json_is_true(json_object_get(model, "byte_fallback"));
    t->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    json_t *vocab = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    TRY(expect(vocab, JSON_OBJECT, "\"model\".\"vocab\"", "an object of tokens and ids"));
    TRY(expect(merges, JSON_ARRAY, "\"model\".\"merges\"", "an array"));
    TRY(tokenizer_read_vocab(t, vocab, added));
    TRY(read_unknown(t, model, vocab));
    return read_merges(t, vocab, merges);
}

/* true for null, for the one type given, and for a Sequence of nothing else */
static bool only(const json_t *v, const char *type, const char *list) {
    if (absent(v)) return true;
    if (type && strcmp(tokenizer_part_type(v), type) == 0) return true;
    if (strcmp(tokenizer_part_type(v), "Sequence") != 0) return false;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(v, list), i, e) {
        if (!only(e, type, list)) return false;
    }
    return true;
}

/* Added tokens that are "normalized" are looked for in what the normalizer makes of them. */
static int normalize_added(Tokenizer *t) {
    json_t *seen = json_object();
    int rc = 0;
    for (int64_t i = 0; i < t->vocab && rc == 0; i++) {
        Token *k = &t->token[i];
        size_t n = 0;
        if (!(k->flags & TOKEN_ADDED) || !(k->flags & TOKEN_NORMALIZED)) continue;
        if (k->form) continue; /* by characters, with U+2581 in it */
        if ((rc = normalize(t->normal, false, k->bytes, (size_t)k->len, &k->form, &n)) < 0) break;
        k->form_len = (int32_t)n;
        const char *form = k->form ? k->form : k->bytes;
        n = k->form ? n : (size_t)k->len;
        const json_t *other = n ? json_object_getn(seen, form, n) : NULL;
        if (n == 0)
            rc = error_set(ERR_DATA, "it leaves nothing of the added token \"%s\"", k->bytes);
        else if (other)
            rc = error_set(ERR_DATA, "it makes the added tokens \"%s\" and \"%s\" one",
                           json_string_value(other), k->bytes);
        else
            json_object_setn_new(seen, form, n, json_string(k->bytes));
    }
    json_decref(seen);
    return rc;
}

/* SentencePiece's: without a token for each byte some text would have no ids. */
static int check_bytes(const Tokenizer *t) {
    bool there[256] = {false};
    for (int64_t i = 0; i < t->vocab; i++)
        if (t->token[i].bytes && t->token[i].flags & TOKEN_BYTE)
            there[(uint8_t)*t->token[i].bytes] = true;
    for (int i = 0; i < 256; i++)
        if (!there[i])
            return error_set(ERR_DATA, "\"byte_fallback\" is true, but there is no token <0x%02X>",
                             i);
    return 0;
}

/* Decoders of such: spaces for U+2581, bytes, and whether a space at the beginning is dropped. */
static int read_char_decoder(Tokenizer *t, const json_t *d) {
    const char *type = tokenizer_part_type(d);
    size_t i;
    json_t *e;
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(d, "decoders"), i, e) TRY(read_char_decoder(t, e));
        return 0;
    }
    const char *pattern =
        json_string_value(json_object_get(json_object_get(d, "pattern"), "String"));
    const char *content = json_string_value(json_object_get(d, "content"));
    const bool space = content && strcmp(content, " ") == 0;
    if (strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0) return 0;
    if (strcmp(type, "Replace") == 0 && space && pattern && strcmp(pattern, METASPACE) == 0)
        return 0;
    if (strcmp(type, "Strip") == 0 && space &&
        json_integer_value(json_object_get(d, "stop")) == 0 &&
        json_integer_value(json_object_get(d, "start")) <= 1) {
        t->drops_space = json_integer_value(json_object_get(d, "start")) == 1;
        return 0;
    }
    if (strcmp(type, "Metaspace") == 0) {
        const char *scheme = json_string_value(json_object_get(d, "prepend_scheme"));
        t->drops_space = scheme ? strcmp(scheme, "never") != 0
                                : !json_is_false(json_object_get(d, "add_prefix_space"));
        return 0;
    }
    return error_set(ERR_DATA,
                     "\"decoder\" has %s, expected Replace of U+2581 by a space, "
                     "ByteFallback, Fuse, Strip of one space, or Metaspace",
                     type);
}

static int read_chars(Tokenizer *t, const json_t *root) {
    TRY(check_bytes(t));
    TRY(read_char_decoder(t, json_object_get(root, "decoder")));
    const int rc = tokenizer_read_char_steps(t, json_object_get(root, "pre_tokenizer"));
    return rc < 0 ? error_wrap(rc, "\"pre_tokenizer\"") : 0;
}

static int read_root(Tokenizer *t, const json_t *root) {
    TRY(expect(root, JSON_OBJECT, "the file", "an object"));
    TRY(read_model(t, json_object_get(root, "model"), json_object_get(root, "added_tokens")));
    int rc = tokenizer_read_normalizer(t->normal, json_object_get(root, "normalizer"));
    if (rc == 0) rc = normalize_added(t);
    if (rc < 0) return error_wrap(rc, "\"normalizer\"");
    if (t->by_chars) return read_chars(t, root);
    const json_t *decoder = json_object_get(root, "decoder");
    if (!only(decoder, "ByteLevel", "decoders")) {
        return error_set(ERR_DATA, "\"decoder\" is %s, expected ByteLevel",
                         tokenizer_part_type(decoder));
    }
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    TRY(expect(pre, JSON_OBJECT, "\"pre_tokenizer\"", "a byte-level one"));
    rc = tokenizer_read_pre_tokenizer(t->pre, pre);
    return rc < 0 ? error_wrap(rc, "\"pre_tokenizer\"") : 0;
}

int tokenizer_of(Tokenizer **out, const json_t *root, const char *origin) {
    *out = NULL;
    Tokenizer *t = tokenizer_new();
    int rc = read_root(t, root);
    if (rc < 0) {
        tokenizer_close(&t);
        return error_wrap(rc, "%s", origin);
    }
    tokenizer_finish(t);
    *out = t;
    return 0;
}

int tokenizer_parse(Tokenizer **out, const char *json, size_t len, const char *origin) {
    json_auto_t *root = NULL;
    *out = NULL;
    TRY(json_parse(&root, json, len, origin, 1));
    return tokenizer_of(out, root, origin);
}

/* --- writing ------------------------------------------------------------------------------- */

/* Hugging Face's library takes an added token's id from the vocabulary, and numbers those that are
 * not in it new ids, from the end of the vocabulary on. Would any get another id so? */
static bool would_be_numbered_otherwise(const Tokenizer *t) {
    int64_t vocab = 0, last = -1;
    for (int64_t i = 0; i < t->vocab; i++)
        vocab += t->token[i].bytes && t->token[i].flags & TOKEN_IN_VOCAB;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes || !(k->flags & TOKEN_ADDED)) continue;
        if (!(k->flags & TOKEN_IN_VOCAB) && i != (last >= vocab ? last + 1 : vocab)) return true;
        last = i;
    }
    return false;
}

static json_t *write_char_decoder(const Tokenizer *t) {
    json_t *v = json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]}", "type", "Sequence",
                          "decoders", "type", "Replace", "pattern", "String", METASPACE, "content",
                          " ", "type", "ByteFallback", "type", "Fuse");
    if (t->drops_space)
        json_array_append_new(json_object_get(v, "decoders"),
                              json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ",
                                        "start", 1, "stop", 0));
    return v;
}

char *tokenizer_json(const Tokenizer *t) {
    const int in_vocab = TOKEN_IN_VOCAB | (would_be_numbered_otherwise(t) ? TOKEN_ADDED : 0);
    json_t *added = json_array(), *vocab = json_object(), *merges = json_array();
    char **key = xcalloc((size_t)t->vocab + 1, sizeof *key);
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes) continue;
        key[i] = tokenizer_key(t, i);
        if (k->flags & in_vocab && !json_object_get(vocab, key[i]))
            json_object_set_new(vocab, key[i], json_integer(i));
        if (k->flags & TOKEN_ADDED) {
            const char *content = t->by_chars ? key[i] : k->bytes;
            json_t *a = json_pack("{s:I, s:s}", "id", (json_int_t)i, "content", content);
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
        tokenizer_write_normalizer(t->normal), "pre_tokenizer",
        t->metaspace.used ? tokenizer_write_metaspace(&t->metaspace)
                          : tokenizer_write_pre_tokenizer(t->pre),
        "post_processor", t->by_chars ? json_null() : tokenizer_write_byte_level(true, false, true),
        "decoder",
        t->by_chars ? write_char_decoder(t) : tokenizer_write_byte_level(true, true, true), "model",
        "type", "BPE", "dropout", "unk_token", t->unknown >= 0 ? key[t->unknown] : NULL,
        "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", (int)t->fuse_unknown,
        "byte_fallback", (int)t->by_chars, "ignore_merges", t->ignore_merges, "vocab", vocab,
        "merges", merges);
    CHECK(root, "a token of the tokenizer is not UTF-8");
    char *text = json_dumps(root, JSON_INDENT(2));
    CHECK(text, "out of memory writing a tokenizer");
    json_decref(root);
    for (int64_t i = 0; i < t->vocab; i++) free(key[i]);
    free(key);
    return text;
}
