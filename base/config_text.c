/* config_text.c: settings as text: the resolved YAML, --help, docs/CONFIG.md, differences. All of
 * it comes from the one table of keys, so it cannot drift from what is parsed. */
#include "base/config.h"

#include "base/config_table.h"
#include "base/error.h"
#include "base/text.h"
#include "base/yaml.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMNS = 96, HELP_INDENT = 8 };

/* As a person writes it: 10, 0.1, 1e-5, 1e9. */
char *config_number(double x) {
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x) break;
    }
    char *e = strchr(s, 'e');
    if (!e) return xstrdup(s);
    int exponent = atoi(e + 1);
    if (exponent > 0 && exponent < 6) return xasprintf("%.0f", x); /* %g makes 1e+01 of 10 */
    return xasprintf("%.*se%d", (int)(e - s), s, exponent);
}

char *config_range(const ConfigKey *k) {
    Text t = {0};
    text_put(&t, "%s", "");
    if (k->kind == KIND_Enum) {
        char *word;
        for (int i = 0; (word = config_choice(k->choices, i)); i++) {
            text_put(&t, "%s%s", i ? ", " : "", word);
            free(word);
        }
    } else if (k->kind == KIND_I64 || k->kind == KIND_F64) {
        AUTOFREE char *lo = config_number(k->lo), *hi = config_number(k->hi);
        text_put(&t, "from %s to %s", lo, hi);
    }
    return t.s;
}

/* In double quotes with JSON's escapes, which YAML shares; ${ is doubled so that it is read back as
 * it is. Some characters are allowed in JSON, but not in YAML or as ends of lines there: DEL, U+80
 * to U+9F, U+2028, U+2029, U+FEFF, U+FFFE, U+FFFF. */
static void put_quoted(Text *t, const char *s) {
    json_auto_t *v = json_string(s);
    CHECK(v, "a setting that is no UTF-8");
    AUTOFREE char *quoted = json_dumps(v, JSON_ENCODE_ANY);
    for (const unsigned char *p = (const unsigned char *)quoted; *p; p++) {
        const unsigned three =
            p[0] < 0xE0 ? 0 : (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
        if (p[0] == '$' && p[1] == '{') text_put(t, "$");
        if (*p == 0x7F || (*p == 0xC2 && p[1] < 0xA0)) {
            p += *p == 0xC2;
            text_put(t, "\\x%02x", *p);
        } else if (p[0] < 0xF0 && (three == 0x2028 || three == 0x2029 || three == 0xFEFF ||
                                   three == 0xFFFE || three == 0xFFFF)) {
            text_put(t, "\\u%04x", three);
            p += 2;
        } else
            text_put(t, "%c", *p);
    }
}

char *config_value(const Config *c, const ConfigKey *k) {
    Text t = {0};
    char *s = NULL;
    switch (k->kind) {
    case KIND_I64: text_put(&t, "%lld", (long long)*CONFIG_IN(ConfigI64, c, k)); break;
    case KIND_F64: text_put(&t, "%s", s = config_number(*CONFIG_IN(ConfigF64, c, k))); break;
    case KIND_Bool: text_put(&t, "%s", *CONFIG_IN(ConfigBool, c, k) ? "true" : "false"); break;
    case KIND_Enum:
        s = config_choice(k->choices, *CONFIG_IN(ConfigEnum, c, k));
        CHECK(s, "%s has no choice %d", k->name, *CONFIG_IN(ConfigEnum, c, k));
        text_put(&t, "%s", s);
        break;
    case KIND_Str:
    case KIND_Path: put_quoted(&t, *CONFIG_IN(ConfigStr, c, k)); break;
    case KIND_List:
    case KIND_Paths: {
        const StrList *l = CONFIG_IN(ConfigList, c, k);
        text_put(&t, "[");
        for (int i = 0; i < l->n; i++) {
            if (i) text_put(&t, ", ");
            put_quoted(&t, l->v[i]);
        }
        text_put(&t, "]");
    }
    }
    free(s);
    return t.s;
}

/* Does this key open a new section? `before` is the key before it or NULL. */
static bool opens_section(const ConfigKey *k, const ConfigKey *before) {
    size_t n = strcspn(k->name, ".");
    return !before || strncmp(k->name, before->name, n + 1) != 0;
}

char *config_yaml(const Config *c) {
    Text t = {0};
    const ConfigKey *before = NULL;
    text_put(&t, "# the settings of a rhetor-%s run\n", config_stage_name(c->stage));
    for (const ConfigKey *k = config_keys; k < config_keys + config_nkeys; k++) {
        if (!config_knows(c->stage, k)) continue;
        const char *leaf = strchr(k->name, '.') + 1;
        if (opens_section(k, before)) text_put(&t, "%.*s:\n", (int)(leaf - 1 - k->name), k->name);
        AUTOFREE char *value = config_value(c, k);
        text_put(&t, "  %s: %s\n", leaf, value);
        before = k;
    }
    return t.s;
}

/* The default as people write it; without a stage also those that differ: "1e-8; ppo: 1e-5". */
static char *default_text(const ConfigKey *k, int stage) {
    Text t = {0};
    char *own = stage ? config_stage_default(stage, k) : NULL, *number = NULL;
    if (k->kind == KIND_I64 || k->kind == KIND_F64) number = config_number(k->number);
    text_put(&t, "%s",
             own                    ? own
             : number               ? number
             : k->kind == KIND_Bool ? (k->number != 0 ? "true" : "false")
             : k->text && *k->text  ? k->text
                                    : "not set");
    free(own);
    free(number);
    for (int s = STAGE_NONE + 1; s < STAGES && !stage; s++)
        if ((own = config_stage_default(s, k))) {
            text_put(&t, "; %s: %s", config_stage_name(s), own);
            free(own);
        }
    return t.s;
}

char *config_stages(const ConfigKey *k) {
    Text t = {0};
    int n = 0;
    for (int s = STAGE_NONE + 1; s <= STAGE_SUBMIT; s++)
        if (k ? config_knows(s, k) : s < STAGES)
            text_put(&t, "%s%s", n++ ? ", " : "", config_stage_name(s));
    return t.s;
}

static const char *const kind_words[] = {
    [KIND_I64] = "integer", [KIND_F64] = "number", [KIND_Bool] = "true or false",
    [KIND_Str] = "text",    [KIND_List] = "list",  [KIND_Path] = "path",
    [KIND_Paths] = "paths", [KIND_Enum] = "word"};

/* Words of `s`, indented, no line longer than HELP_COLUMNS. */
static void put_wrapped(Text *t, const char *s) {
    int column = 0;
    while (*s) {
        int n = (int)strcspn(s, " ");
        if (column > 0 && column + 1 + n > HELP_COLUMNS) {
            text_put(t, "\n");
            column = 0;
        }
        text_put(t, "%*s%.*s", column ? 1 : HELP_INDENT, "", n, s);
        column += n + (column ? 1 : HELP_INDENT);
        s += n;
        while (*s == ' ') s++;
    }
    text_put(t, "\n");
}

char *config_help(int stage) {
    Text t = {0};
    const ConfigKey *before = NULL;
    for (const ConfigKey *k = config_keys; k < config_keys + config_nkeys; k++) {
        if (!config_knows(stage, k)) continue;
        if (opens_section(k, before))
            text_put(&t, "%s%.*s\n", before ? "\n" : "", (int)strcspn(k->name, "."), k->name);
        AUTOFREE char *def = default_text(k, stage), *range = config_range(k);
        bool unset = strcmp(def, "not set") == 0;
        text_put(&t, "    %s=%s\n", k->name, unset ? "" : def);
        const char *kind = k->kind == KIND_Enum ? "one of" : kind_words[k->kind];
        AUTOFREE char *text = xasprintf("%s (%s%s%s)", k->help, kind, *range ? " " : "", range);
        put_wrapped(&t, text);
        before = k;
    }
    return t.s;
}

/* In a table a | ends the cell. */
static void put_cell(Text *t, const char *s) {
    for (; *s; s++) text_put(t, *s == '|' ? "\\|" : "%c", *s);
}

char *config_markdown(void) {
    Text t = {0};
    const ConfigKey *before = NULL;
    AUTOFREE char *all = config_stages(NULL);
    text_put(
        &t, "# Settings\n\n"
            "Generated from base/config_keys.h; do not edit.\n\n"
            "A stage reads a YAML file and then `section.key=value` from its command line. In "
            "values,\n`${NAME}` and `${NAME:-default}` are replaced from the environment; `$${` "
            "stands for `${`.\nA list is a YAML list, or on the command line `a,b` or `[a, b]`.\n");
    for (const ConfigKey *k = config_keys; k < config_keys + config_nkeys; k++) {
        if (opens_section(k, before))
            text_put(
                &t,
                "\n## %.*s\n\n| name | type | default | range or choices | stages | meaning |\n"
                "|---|---|---|---|---|---|\n",
                (int)strcspn(k->name, "."), k->name);
        AUTOFREE char *def = default_text(k, STAGE_NONE), *range = config_range(k),
                      *in = config_stages(k);
        text_put(&t, "| `%s` | %s | %s | %s | %s | ", k->name, kind_words[k->kind], def, range,
                 strcmp(in, all) == 0 ? "all" : in);
        put_cell(&t, k->help);
        text_put(&t, " |\n");
        before = k;
    }
    return t.s;
}
