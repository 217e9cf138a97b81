/* tokenizer_steps.c: the normalizer and the pre-tokenizer of a tokenizer.json, read and written:
 * what Hugging Face calls the steps of pretokenize.c and normalize.c. One that is not supported is
 * an error that names it. */
#include <string.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

/* --- pre-tokenizer ------------------------------------------------------------------------- */

static int read_byte_level(Pretokenizer *out, const json_t *p) {
    const bool regex = !json_is_false(json_object_get(p, "use_regex")); /* absent: true */
    return pretokenizer_add(
        out, &(SplitStep){.pattern = regex ? GPT2_PATTERN : NULL,
                          .byte_level = true,
                          .prefix_space = json_is_true(json_object_get(p, "add_prefix_space"))});
}

static int read_behavior(const json_t *p, Behavior *behavior) {
    const char *name = json_string_value(json_object_get(p, "behavior"));
    for (int i = 0; name && i < BEHAVIORS; i++) {
        if (strcmp(name, behavior_names[i]) != 0) continue;
        *behavior = (Behavior)i;
        return 0;
    }
    return error_set(ERR_DATA,
                     "%s has behavior \"%s\", expected Removed, Isolated, Contiguous, "
                     "MergedWithPrevious or MergedWithNext",
                     tokenizer_part_type(p), name ? name : "(none)");
}

static int read_split(Pretokenizer *out, const json_t *p) {
    SplitStep s = {.invert = json_is_true(json_object_get(p, "invert"))};
    TRY(read_behavior(p, &s.behavior));
    const json_t *pattern = json_object_get(p, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    if (!regex && !literal)
        return error_set(ERR_DATA, "Split lacks a \"pattern\" with \"Regex\" or \"String\"");
    char *quoted = regex ? xstrdup(regex) : regex_quote(literal);
    s.pattern = quoted;
    const int rc = pretokenizer_add(out, &s);
    free(quoted);
    return rc;
}

/* Hugging Face's Punctuation has the table of Unicode 7, and what is ASCII's and no P. */
static const char punctuation[] =
    "(?![\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}-\\x{1b7e}\\x{2e43}-\\x{2e4f}\\x{2e52}-"
    "\\x{2e5d}\\x{10ead}\\x{10f55}-\\x{10f89}\\x{1144b}-\\x{1145d}\\x{11660}-\\x{1166c}\\x{116b9}"
    "\\x{1183b}\\x{11944}-\\x{11946}\\x{119e2}-\\x{11aa2}\\x{11c41}-\\x{12ff2}\\x{16e97}-\\x{16fe2}"
    "\\x{1e95e}-\\x{1e95f}])[\\p{P}$+<=>^`|~\\x{166d}\\x{111c9}]";

static int read_step(Pretokenizer *out, const json_t *p, bool *byte_level) {
    const char *type = tokenizer_part_type(p);
    SplitStep s = {.behavior = BEHAVIOR_ISOLATED};
    if (strcmp(type, "Sequence") == 0) {
        const json_t *steps = json_object_get(p, "pretokenizers"), *step;
        size_t i;
        json_array_foreach(steps, i, step) TRY(read_step(out, step, byte_level));
        return 0;
    }
    if (strcmp(type, "Split") == 0) return read_split(out, p);
    if (strcmp(type, "Digits") == 0) {
        const bool each = json_is_true(json_object_get(p, "individual_digits"));
        s.pattern = each ? "\\p{N}" : "\\p{N}+";
        return pretokenizer_add(out, &s);
    }
    if (strcmp(type, "Punctuation") == 0) {
        if (json_object_get(p, "behavior")) TRY(read_behavior(p, &s.behavior));
        s.pattern = punctuation;
        return pretokenizer_add(out, &s);
    }
    if (strcmp(type, "WhitespaceSplit") == 0) {
        s = (SplitStep){.pattern = "\\s", .behavior = BEHAVIOR_REMOVED};
        return pretokenizer_add(out, &s);
    }
    if (!*byte_level && strcmp(type, "ByteLevel") == 0) {
        *byte_level = true;
        return read_byte_level(out, p);
    }
    return error_set(ERR_DATA,
                     "%s%s is not supported here: expected ByteLevel, or a Sequence of "
                     "Split, Digits, Punctuation, WhitespaceSplit and one ByteLevel",
                     *byte_level && strcmp(type, "ByteLevel") == 0 ? "a second " : "", type);
}

int tokenizer_read_pre_tokenizer(Pretokenizer *out, const json_t *p) {
    bool byte_level = false;
    TRY(read_step(out, p, &byte_level));
    if (byte_level) return 0;
    return error_set(ERR_DATA, "%s without ByteLevel: expected one that has it",
                     tokenizer_part_type(p));
}

static const char *const prepend_names[PREPENDS] = {"always", "first", "never"};

/* Old files say add_prefix_space, newer ones prepend_scheme. */
static int read_metaspace(Metaspace *m, const json_t *p) {
    const char *mark = json_string_value(json_object_get(p, "replacement"));
    const char *scheme = json_string_value(json_object_get(p, "prepend_scheme"));
    if (!mark || strcmp(mark, METASPACE) != 0)
        return error_set(ERR_DATA, "Metaspace has the replacement \"%s\", expected U+2581",
                         mark ? mark : "(none)");
    if (!scheme)
        scheme = json_is_false(json_object_get(p, "add_prefix_space")) ? "never" : "always";
    int k = 0;
    while (k < PREPENDS && strcmp(scheme, prepend_names[k]) != 0) k++;
    if (k == PREPENDS)
        return error_set(ERR_DATA,
                         "Metaspace has the prepend_scheme \"%s\", expected always, first "
                         "or never",
                         scheme);
    *m = (Metaspace){.used = true, .split = !json_is_false(json_object_get(p, "split"))};
    m->prepend = (typeof(m->prepend))k;
    return 0;
}

int tokenizer_read_char_steps(Tokenizer *t, const json_t *v) {
    bool byte_level = true; /* none may come */
    if (!v || json_is_null(v)) return 0;
    if (strcmp(tokenizer_part_type(v), "Metaspace") == 0) return read_metaspace(&t->metaspace, v);
    return read_step(t->pre, v, &byte_level);
}

json_t *tokenizer_write_metaspace(const Metaspace *m) {
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", METASPACE,
                     "prepend_scheme", prepend_names[m->prepend], "split", (int)m->split);
}

json_t *tokenizer_write_byte_level(bool prefix_space, bool trim_offsets, bool regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix_space,
                     "trim_offsets", trim_offsets, "use_regex", regex);
}

static json_t *write_step(const SplitStep *s) {
    if (s->byte_level) return tokenizer_write_byte_level(s->prefix_space, true, s->pattern);
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", s->pattern,
                     "behavior", behavior_names[s->behavior], "invert", (int)s->invert);
}

/* The only one of these steps, or a Sequence of them. Takes the list. */
static json_t *sequence(json_t *steps, const char *list) {
    if (json_array_size(steps) > 1) return json_pack("{s:s, s:o}", "type", "Sequence", list, steps);
    json_t *only = json_incref(json_array_get(steps, 0));
    json_decref(steps);
    return only ? only : json_null();
}

json_t *tokenizer_write_pre_tokenizer(const Pretokenizer *p) {
    json_t *steps = json_array();
    for (const SplitStep *s; (s = pretokenizer_step(p, (int)json_array_size(steps)));)
        json_array_append_new(steps, write_step(s));
    return sequence(steps, "pretokenizers");
}

/* --- normalizer ----------------------------------------------------------------------------- */

/* Hugging Face's names, as NormalKind has them. */
static const char *const normal_names[NORMAL_KINDS] = {[NORMAL_NFC] = "NFC",
                                                       [NORMAL_NFD] = "NFD",
                                                       [NORMAL_NFKC] = "NFKC",
                                                       [NORMAL_NFKD] = "NFKD",
                                                       [NORMAL_LOWERCASE] = "Lowercase",
                                                       [NORMAL_STRIP_ACCENTS] = "StripAccents",
                                                       [NORMAL_STRIP] = "Strip",
                                                       [NORMAL_REPLACE] = "Replace",
                                                       [NORMAL_PREPEND] = "Prepend"};

int tokenizer_read_normalizer(Normalizer *out, const json_t *v) {
    if (!v || json_is_null(v)) return 0;
    const char *type = tokenizer_part_type(v);
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(v, "normalizers"), i, e)
            TRY(tokenizer_read_normalizer(out, e));
        return 0;
    }
    int kind = 0;
    while (kind < NORMAL_KINDS && strcmp(type, normal_names[kind]) != 0) kind++;
    if (kind == NORMAL_KINDS)
        return error_set(ERR_DATA,
                         "%s is not supported: expected none, NFC, NFD, NFKC, NFKD, Lowercase, "
                         "StripAccents, Strip, Replace, Prepend or a Sequence of them",
                         type);
    const json_t *pattern = json_object_get(v, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const bool prepend = kind == NORMAL_PREPEND;
    const NormalStep s = {
        .kind = (NormalKind)kind,
        .left = json_is_true(json_object_get(v, "strip_left")),
        .right = json_is_true(json_object_get(v, "strip_right")),
        .pattern = regex ? regex : json_string_value(json_object_get(pattern, "String")),
        .is_regex = regex,
        .content = json_string_value(json_object_get(v, prepend ? "prepend" : "content"))};
    if (kind == NORMAL_REPLACE && (!s.pattern || !s.content))
        return error_set(ERR_DATA, "Replace lacks a \"content\" or a \"pattern\" with \"Regex\" or "
                                   "\"String\"");
    if (prepend && !s.content) return error_set(ERR_DATA, "Prepend lacks a text \"prepend\"");
    return normalizer_add(out, &s);
}

static json_t *write_normal_step(const NormalStep *s) {
    json_t *v = json_pack("{s:s}", "type", normal_names[s->kind]);
    if (s->kind == NORMAL_STRIP) {
        json_object_set_new(v, "strip_left", json_boolean(s->left));
        json_object_set_new(v, "strip_right", json_boolean(s->right));
    } else if (s->kind == NORMAL_REPLACE) {
        json_object_set_new(v, "pattern",
                            json_pack("{s:s}", s->is_regex ? "Regex" : "String", s->pattern));
        json_object_set_new(v, "content", json_string(s->content));
    } else if (s->kind == NORMAL_PREPEND) {
        json_object_set_new(v, "prepend", json_string(s->content));
    }
    return v;
}

json_t *tokenizer_write_normalizer(const Normalizer *m) {
    json_t *steps = json_array();
    for (const NormalStep *s; (s = normalizer_step(m, (int)json_array_size(steps)));)
        json_array_append_new(steps, write_normal_step(s));
    return sequence(steps, "normalizers");
}
