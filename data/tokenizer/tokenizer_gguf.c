/* tokenizer_gguf.c: the tokenizer in the metadata of a GGUF file, read as the tokenizer.json that it
 * was made of, and written.
 *
 * "tokenizer.ggml.model" is "gpt2" for byte-level BPE: tokens, types, merges, and in ".pre" the name
 * of what cuts the text; or "llama" for SentencePiece's BPE: tokens, types, and scores, of which the
 * merges follow (transformers' generate_merges). */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "data/tokenizer/tokenizer_impl.h"

#define KEY(name) "tokenizer.ggml." name

/* llama.h's llama_token_type */
typedef enum GgufTokenType {
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN,
    TYPE_CONTROL,
    TYPE_USER,
    TYPE_UNUSED,
    TYPE_BYTE
} GgufTokenType;

/* --- what cuts the text ----------------------------------------------------------------------- */

#define WORDS       "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"
#define REST        "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(p)    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" p "\"},\"behavior\":\"Isolated\"}"
#define BYTES(re)   "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":" re "}"
#define STEPS(a, b) "{\"type\":\"Sequence\",\"pretokenizers\":[" a "," b "]}"
#define DIGITS      "{\"type\":\"Digits\",\"individual_digits\":true}"
#define NFC         "{\"type\":\"NFC\"}"

/* Names in ".pre", the first of them the one that is written; normalizer and pre-tokenizer as a
 * tokenizer.json has them; ignore_merges. llama.cpp's src/llama-vocab.cpp, the models' files. */
static const struct Pre {
    const char *names, *normalizer, *steps;
    bool whole;
} pres[] = {
    {"gpt-2 phi-2 mpt jina-es jina-de jina-v1-en jina-v2-es jina-v2-de roberta-bpe gigachat",
     "null", BYTES("true"), false},
    {"olmo modern-bert", NFC, BYTES("true"), false},
    {"smollm starcoder refact codeshell exaone", "null", STEPS(DIGITS, BYTES("true")), false},
    {"command-r", NFC, STEPS(DIGITS, BYTES("true")), false},
    {"llama-bpe llama3 llama-v3 falcon3 pixtral", "null",
     STEPS(SPLIT(WORDS "\\\\p{N}{1,3}" REST), BYTES("false")), true},
    {"dbrx smaug-bpe", "null", STEPS(SPLIT(WORDS "\\\\p{N}{1,3}" REST), BYTES("false")), false},
    {"qwen2 deepseek-r1-qwen megrez", NFC, STEPS(SPLIT(WORDS "\\\\p{N}" REST), BYTES("false")),
     false},
    {"stablelm2 hunyuan", "null", STEPS(SPLIT(WORDS "\\\\p{N}" REST), BYTES("false")), false},
};
enum { PRES = sizeof pres / sizeof *pres };

/* Is the word one of those with spaces between? */
static bool among(const char *words, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = words; n > 0 && (at = strstr(at, word)); at++)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) return true;
    return false;
}

static int find_pre(const char *name, const struct Pre **out) {
    for (int i = 0; i < PRES; i++)
        if (among(pres[i].names, name)) {
            *out = &pres[i];
            return 0;
        }
    return error_set(ERR_DATA,
                     KEY("pre") " is \"%s\", which is not known; expected gpt-2, olmo, smollm, "
                                "command-r, llama-bpe, dbrx, qwen2, stablelm2 or another name of "
                                "theirs: give the model's tokenizer.json with --tokenizer",
                     name);
}

static json_t *json_of(const char *text) {
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    CHECK(v, "%s", text);
    return v;
}

/* --- reading ---------------------------------------------------------------------------------- */

typedef struct Lists {
    const json_t *tokens, *types, *scores, *merges; /* NULL: there is none */
    size_t n;
    json_t *vocab; /* token -> id, of those that are no added tokens alone */
} Lists;

static int get_list(const json_t *meta, const char *key, size_t n, const json_t **out) {
    *out = json_object_get(meta, key);
    if (!*out || (json_is_array(*out) && (n == 0 || json_array_size(*out) == n))) return 0;
    return error_set(ERR_DATA, "%s is %s, expected a list of one value for each token", key,
                     json_kind(*out));
}

static GgufTokenType type_of(const Lists *l, size_t i) {
    return l->types ? (GgufTokenType)json_integer_value(json_array_get(l->types, i)) : TYPE_NORMAL;
}

static const char *token_of(const Lists *l, size_t i) {
    return json_string_value(json_array_get(l->tokens, i));
}

static int get_lists(const json_t *meta, Lists *l) {
    TRY(get_list(meta, KEY("tokens"), 0, &l->tokens));
    l->n = json_array_size(l->tokens);
    if (l->n == 0) return error_set(ERR_DATA, "there is no " KEY("tokens"));
    TRY(get_list(meta, KEY("token_type"), l->n, &l->types));
    TRY(get_list(meta, KEY("scores"), l->n, &l->scores));
    TRY(get_list(meta, KEY("merges"), 0, &l->merges));
    l->vocab = json_object();
    for (size_t i = 0; i < l->n; i++) {
        const char *token = token_of(l, i);
        const GgufTokenType type = type_of(l, i);
        if (!token || type < TYPE_NORMAL || type > TYPE_BYTE)
            return error_set(ERR_DATA, KEY("tokens") ": token %zu is no text, or its type is none",
                             i);
        if (type == TYPE_UNUSED) continue; /* a row that no token has */
        if (!*token) return error_set(ERR_DATA, KEY("tokens") ": token %zu is empty", i);
        if (json_object_get(l->vocab, token))
            return error_set(ERR_DATA, KEY("tokens") ": tokens %lld and %zu are the same, \"%s\"",
                             (long long)json_integer_value(json_object_get(l->vocab, token)), i,
                             token);
        json_object_set_new(l->vocab, token, json_integer((json_int_t)i));
    }
    return 0;
}

static json_t *added_tokens(const Lists *l) {
    json_t *list = json_array();
    for (size_t i = 0; i < l->n; i++) {
        const GgufTokenType type = type_of(l, i);
        if (type != TYPE_UNKNOWN && type != TYPE_CONTROL && type != TYPE_USER) continue;
        json_array_append_new(list, json_pack("{s:I, s:s, s:b, s:b}", "id", (json_int_t)i,
                                              "content", token_of(l, i), "special",
                                              type != TYPE_USER, "normalized", 0));
    }
    return list;
}

/* What two tokens make a third. */
typedef struct TokenPair {
    double score;
    int32_t a, b;       /* ids */
    int32_t alen, blen; /* characters */
    int32_t order;      /* as they were found */
} TokenPair;

static int by_score(const void *x, const void *y) {
    const TokenPair *p = x, *q = y;
    if (p->score != q->score) return p->score > q->score ? -1 : 1;
    if (p->alen != q->alen) return p->alen > q->alen ? -1 : 1;
    if (p->blen != q->blen) return p->blen > q->blen ? -1 : 1;
    return p->order - q->order;
}

/* Of one token, in the order of its parts' ids. */
static int by_ids(const void *x, const void *y) {
    const TokenPair *p = x, *q = y;
    return p->a != q->a ? (p->a < q->a ? -1 : 1) : (p->b > q->b) - (p->b < q->b);
}

/* A token that text is made of: no name, no byte. */
static int32_t text_token(const Lists *l, const char *s, size_t len) {
    const json_t *id = json_object_getn(l->vocab, s, len);
    if (!id) return -1;
    const int64_t i = json_integer_value(id);
    return type_of(l, (size_t)i) == TYPE_NORMAL ? (int32_t)i : -1;
}

/* Every way to cut a token into two, the tokens of the highest score first. */
static json_t *merges_of_scores(const Lists *l) {
    TokenPair *v = NULL;
    int64_t n = 0, cap = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *token = token_of(l, i);
        const size_t len = strlen(token);
        const int64_t first = n;
        if (type_of(l, i) != TYPE_NORMAL) continue;
        int32_t chars = 0, all = 0;
        for (size_t at = 0; at < len; at++) all += (token[at] & 0xc0) != 0x80;
        for (size_t at = utf8_char(token, len); at > 0 && at < len;
             at += utf8_char(token + at, len - at)) {
            const int32_t a = text_token(l, token, at), b = text_token(l, token + at, len - at);
            chars++;
            if (a < 0 || b < 0) continue;
            XGROW(v, n, cap);
            v[n++] = (TokenPair){
                json_number_value(json_array_get(l->scores, i)), a, b, chars, all - chars, 0};
        }
        if (n > first) qsort(v + first, (size_t)(n - first), sizeof *v, by_ids);
        for (int64_t k = first; k < n; k++) v[k].order = (int32_t)k;
    }
    if (n > 0) qsort(v, (size_t)n, sizeof *v, by_score);
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(
            list, json_pack("[s, s]", token_of(l, (size_t)v[i].a), token_of(l, (size_t)v[i].b)));
    free(v);
    return list;
}

/* Parts of the tokenizer.json; l->vocab stays the caller's. */
static int byte_level(const json_t *meta, const Lists *l, json_t **out) {
    const char *name = json_string_value(json_object_get(meta, KEY("pre")));
    const struct Pre *pre = NULL;
    if (!name)
        return error_set(ERR_DATA, "there is no " KEY("pre") ", which says how text is cut (an old "
                                                             "file): give the model's "
                                                             "tokenizer.json with --tokenizer");
    TRY(find_pre(name, &pre));
    if (!l->merges) return error_set(ERR_DATA, "there is no " KEY("merges"));
    *out = json_pack("{s:o, s:o, s:o, s:{s:s}, s:{s:s, s:b, s:O, s:O}}", "added_tokens",
                     added_tokens(l), "normalizer", json_of(pre->normalizer), "pre_tokenizer",
                     json_of(pre->steps), "decoder", "type", "ByteLevel", "model", "type", "BPE",
                     "ignore_merges", pre->whole, "vocab", l->vocab, "merges", l->merges);
    return 0;
}

static int sentencepiece(const json_t *meta, const Lists *l, json_t **out) {
    const bool space = !json_is_false(json_object_get(meta, KEY("add_space_prefix")));
    static const char *const not_read[] = {
        KEY("precompiled_charsmap"),
        KEY("remove_extra_whitespaces")
    };
    for (int i = 0; i < 2; i++)
        if (json_object_get(meta, not_read[i]) &&
            !json_is_false(json_object_get(meta, not_read[i])))
            return error_set(ERR_DATA,
                             "%s is set, which is not supported: give the model's "
                             "tokenizer.json with --tokenizer",
                             not_read[i]);
    if (!l->scores) return error_set(ERR_DATA, "there is no " KEY("scores"));
    json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ",
                                "content", METASPACE),
           *normalizers = json_array(), *decoders = json_array();
    if (space)
        json_array_append_new(normalizers,
                              json_pack("{s:s, s:s}", "type", "Prepend", "prepend", METASPACE));
    json_array_append_new(normalizers, replace);
    json_array_append_new(decoders, json_pack("{s:s}", "type", "ByteFallback"));
    if (space)
        json_array_append_new(decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip",
                                                  "content", " ", "start", 1, "stop", 0));
    *out = json_pack("{s:o, s:{s:s, s:o}, s:{s:s, s:o}, s:{s:s, s:b, s:b, s:O, s:o}}",
                     "added_tokens", added_tokens(l), "normalizer", "type", "Sequence",
                     "normalizers", normalizers, "decoder", "type", "Sequence", "decoders",
                     decoders, "model", "type", "BPE", "byte_fallback", 1, "fuse_unk", 1, "vocab",
                     l->vocab, "merges", merges_of_scores(l));
    for (size_t i = 0; i < l->n; i++)
        if (type_of(l, i) == TYPE_UNKNOWN)
            json_object_set_new(json_object_get(*out, "model"), "unk_token",
                                json_string(token_of(l, i)));
    return 0;
}

/* The token that ends a text, as the file names it. */
static void set_stops(Tokenizer *t, const json_t *meta) {
    static const char *const keys[] = {
        KEY("eos_token_id"),
        KEY("eot_token_id"),
        KEY("eom_token_id")
    };
    IdList ids = {0};
    for (int i = 0; i < 3; i++) {
        const json_t *v = json_object_get(meta, keys[i]);
        const int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        bool there = id < 0 || id >= t->vocab || !t->token[id].bytes;
        for (int64_t k = 0; k < ids.n; k++) there |= ids.v[k] == id;
        if (!there) ids_push(&ids, (int32_t)id);
    }
    tokenizer_set_stops(t, ids.v, ids.n);
    ids_free(&ids);
}

int tokenizer_from_gguf(Tokenizer **out, const json_t *meta, const char *origin) {
    const char *model = json_string_value(json_object_get(meta, KEY("model")));
    Lists l = {0};
    json_t *root = NULL;
    *out = NULL;
    int rc = model ? get_lists(meta, &l) : error_set(ERR_DATA, "there is no " KEY("model"));
    if (rc == 0)
        rc = strcmp(model, "gpt2") == 0    ? byte_level(meta, &l, &root)
             : strcmp(model, "llama") == 0 ? sentencepiece(meta, &l, &root)
                                           : error_set(ERR_DATA,
                                                       KEY("model") " is \"%s\", expected gpt2 "
                                                                    "(byte-level BPE) or llama "
                                                                    "(SentencePiece's)",
                                                       model);
    if (rc == 0) rc = tokenizer_of(out, root, "as a tokenizer.json");
    if (rc == 0) {
        set_stops(*out, meta);
        tokenizer_set_chat_template(
            *out, json_string_value(json_object_get(meta, "tokenizer.chat_template")));
    }
    json_decref(root);
    json_decref(l.vocab);
    return rc < 0 ? error_wrap(rc, "%s", origin) : 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The row whose steps are those of the tokenizer. */
static int pre_of(const Tokenizer *t, const char **name) {
    json_auto_t *steps = tokenizer_write_pre_tokenizer(t->pre),
                *normal = tokenizer_write_normalizer(t->normal);
    *name = NULL;
    for (int i = 0; i < PRES && !*name; i++) {
        Pretokenizer *p = pretokenizer_new();
        json_auto_t *given = json_of(pres[i].steps), *normalizer = json_of(pres[i].normalizer);
        CHECK(tokenizer_read_pre_tokenizer(p, given) == 0, "%s", error_message());
        json_auto_t *written = tokenizer_write_pre_tokenizer(p);
        const bool same = json_equal(written, steps) && json_equal(normalizer, normal);
        pretokenizer_free(p);
        if (same && pres[i].whole == t->ignore_merges) *name = pres[i].names;
    }
    return *name ? 0
                 : error_set(ERR_DATA, "GGUF has no word for this tokenizer's normalizer and "
                                       "pre-tokenizer; export as hf");
}

/* The reverse of reading's forms: nothing but a space for U+2581, maybe one before. */
static int spaces_of(const Tokenizer *t, bool *prefix) {
    const NormalStep *a = normalizer_step(t->normal, 0), *b = normalizer_step(t->normal, 1);
    *prefix = a && a->kind == NORMAL_PREPEND && strcmp(a->content, METASPACE) == 0;
    const NormalStep *replaces = *prefix ? b : a;
    const bool plain =
        replaces && replaces->kind == NORMAL_REPLACE && !replaces->is_regex &&
        strcmp(replaces->pattern, " ") == 0 && strcmp(replaces->content, METASPACE) == 0 &&
        !normalizer_step(t->normal, *prefix ? 2 : 1) && !pretokenizer_step(t->pre, 0);
    const Metaspace *m = &t->metaspace;
    if (m->used) *prefix = m->prepend != PREPEND_NEVER;
    if (plain || (m->used && !m->split && !a)) return 0;
    return error_set(ERR_DATA, "GGUF has no word for this tokenizer's normalizer; export as hf");
}

static GgufTokenType write_type(const Tokenizer *t, int64_t id) {
    const Token *k = id < t->vocab ? &t->token[id] : NULL;
    if (!k || !k->bytes) return TYPE_UNUSED;
    if (t->by_chars && id == t->unknown) return TYPE_UNKNOWN;
    if (k->flags & TOKEN_SPECIAL) return TYPE_CONTROL;
    if (k->flags & TOKEN_ADDED) return TYPE_USER;
    return k->flags & TOKEN_BYTE ? TYPE_BYTE : TYPE_NORMAL;
}

static void write_tokens(const Tokenizer *t, int64_t rows, json_t *meta) {
    json_t *tokens = json_array(), *types = json_array(), *merges = json_array();
    char **key = xcalloc((size_t)rows + 1, sizeof *key);
    for (int64_t i = 0; i < rows; i++) {
        const GgufTokenType type = write_type(t, i);
        key[i] = type == TYPE_UNUSED ? xasprintf("[PAD%lld]", (long long)i) : tokenizer_key(t, i);
        json_array_append_new(tokens, json_string(key[i]));
        json_array_append_new(types, json_integer(type));
    }
    for (int64_t i = 0; i < t->nmerge && !t->by_chars; i++) {
        AUTOFREE char *text = xasprintf("%s %s", key[t->merge[i].a], key[t->merge[i].b]);
        json_array_append_new(merges, json_string(text));
    }
    json_object_set_new(meta, KEY("tokens"), tokens);
    json_object_set_new(meta, KEY("token_type"), types);
    if (t->by_chars)
        json_decref(merges);
    else
        json_object_set_new(meta, KEY("merges"), merges);
    for (int64_t i = 0; i < rows; i++) free(key[i]);
    free(key);
}

/* What a merge makes scores by its rank; what none makes, less. */
static void write_scores(const Tokenizer *t, int64_t rows, json_t *meta) {
    AUTOFREE double *score = xmalloc((size_t)rows * sizeof *score);
    for (int64_t i = 0; i < rows; i++) score[i] = -(double)t->nmerge - 1;
    for (int64_t i = t->nmerge; i-- > 0;) score[t->merge[i].id] = -(double)i;
    json_t *scores = json_array();
    for (int64_t i = 0; i < rows; i++) json_array_append_new(scores, json_real(score[i]));
    json_object_set_new(meta, KEY("scores"), scores);
}

/* What was written must be this tokenizer again: a file by scores holds no merges of its own. */
static int check_written(const Tokenizer *t, const json_t *meta) {
    Tokenizer *again;
    TRY(tokenizer_from_gguf(&again, meta, "GGUF"));
    bool same = again->nmerge == t->nmerge && again->vocab == t->vocab;
    for (int64_t i = 0; same && i < t->nmerge; i++)
        same = memcmp(&t->merge[i], &again->merge[i], sizeof *t->merge) == 0;
    tokenizer_close(&again);
    return same ? 0
                : error_set(ERR_DATA, "the tokenizer's merges do not follow from scores, as GGUF's "
                                      "must; export as hf");
}

int tokenizer_to_gguf(const Tokenizer *t, int64_t rows, json_t *meta) {
    const char *name = NULL;
    bool prefix = false;
    TRY(t->by_chars ? spaces_of(t, &prefix) : pre_of(t, &name));
    json_object_set_new(meta, KEY("model"), json_string(t->by_chars ? "llama" : "gpt2"));
    if (name)
        json_object_set_new(meta, KEY("pre"), json_stringn(name, strcspn(name, " ")));
    else
        json_object_set_new(meta, KEY("pre"), json_string("default"));
    write_tokens(t, rows, meta);
    if (t->by_chars) {
        write_scores(t, rows, meta);
        json_object_set_new(meta, KEY("add_space_prefix"), json_boolean(prefix));
        if (t->unknown >= 0)
            json_object_set_new(meta, KEY("unknown_token_id"), json_integer(t->unknown));
    }
    json_object_set_new(meta, KEY("add_bos_token"), json_false());
    static const char *const keys[] = {
        KEY("eos_token_id"),
        KEY("eot_token_id"),
        KEY("eom_token_id")
    };
    if (t->stops.n == 0 && tokenizer_eos(t) >= 0)
        json_object_set_new(meta, keys[0], json_integer(tokenizer_eos(t)));
    for (int64_t i = 0; i < t->stops.n && i < 3; i++)
        json_object_set_new(meta, keys[i], json_integer(t->stops.v[i]));
    if (t->chat_template)
        json_object_set_new(meta, "tokenizer.chat_template", json_string(t->chat_template));
    return check_written(t, meta);
}
