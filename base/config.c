/* config.c: from a recipe and the command line to a Config, or to one line that says what is wrong
 * where and how to mend it.
 *
 * config_keys.h becomes a table with offsets into Config. Each setting (from the YAML file, then
 * from the overrides) is looked up, its ${NAME} replaced, parsed by kind, checked against range or
 * choices and stored, with the place it came from kept for later messages. */
#include "base/config.h"

#include "base/config_table.h"
#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/utf8.h"
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_I64(d)   .number = (double)(d)
#define DEFAULT_F64(d)   .number = (double)(d)
#define DEFAULT_Bool(d)  .number = (double)(d)
#define DEFAULT_Str(d)   .text = (d)
#define DEFAULT_List(d)  .text = (d)
#define DEFAULT_Path(d)  .text = (d)
#define DEFAULT_Paths(d) .text = (d)
#define DEFAULT_Enum(d)  .text = (d)

enum { SAME, RESULT };
const ConfigKey config_keys[] = {
#define KEY(field, key, Kind, def, low, high, words, effect, meaning) \
    {.name = key,                                                     \
     .kind = KIND_##Kind,                                             \
     .offset = offsetof(Config, field),                               \
     DEFAULT_##Kind(def),                                             \
     .lo = low,                                                       \
     .hi = high,                                                      \
     .choices = words,                                                \
     .result = effect,                                                \
     .help = meaning},
#define WORD(constant, word) word "|"
#include "base/config_keys.h"
};
enum { NKEYS = sizeof config_keys / sizeof config_keys[0] };
const int config_nkeys = NKEYS;

/* Where each value was set; NULL: default. */
typedef struct Places {
    char *origin;
    char *set[NKEYS];
} Places;

/* --- stages ----------------------------------------------------------------------------------- */

const StageInfo config_stage[] = {{"", "", "", ""},
#define STAGE(NAME, name, what, headline, settings) {name, what, headline, settings},
#include "base/stages.h"
                                  {"submit", "a recipe as cluster jobs", "", "cluster."}};

const char *config_stage_name(int stage) {
    CHECK(stage > STAGE_NONE && stage <= STAGE_SUBMIT, "stage %d", stage);
    return config_stage[stage].name;
}

int config_stage_named(const char *name) {
    for (int s = STAGE_NONE + 1; s < STAGES; s++)
        if (strcmp(config_stage[s].name, name) == 0) return s;
    return STAGE_NONE;
}

/* The words of the stage's settings that name the key or its section: the last one counts.
 * *value: behind its last "=", NULL where there is none. */
static bool listed(int stage, const char *key, const char **value) {
    bool found = false;
    *value = NULL;
    for (const char *w = config_stage[stage].settings; *w; w += strcspn(w, " "), w += *w == ' ') {
        const bool without = *w == '-';
        const char *name = w + without;
        const size_t n = strcspn(name, "= ");
        if (strncmp(key, name, n) != 0 || (name[n - 1] != '.' && key[n])) continue;
        found = !without;
        if (name[n] == '=') *value = name + n + 1;
    }
    return found;
}

bool config_knows(int stage, const ConfigKey *k) {
    const char *value;
    return listed(stage, k->name, &value);
}

char *config_stage_default(int stage, const ConfigKey *k) {
    const char *value;
    listed(stage, k->name, &value);
    return value ? xasprintf("%.*s", (int)strcspn(value, " "), value) : NULL;
}

const ConfigKey *config_key(const char *name) {
    for (int i = 0; i < NKEYS; i++)
        if (strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

char *config_choice(const char *choices, int i) {
    for (; i > 0 && choices; i--) {
        choices = strchr(choices, '|');
        if (choices) choices++;
    }
    if (!choices || !*choices) return NULL;
    return xasprintf("%.*s", (int)strcspn(choices, "|"), choices);
}

/* --- "did you mean" --------------------------------------------------------------------------- */
/* The key of the stage that was probably meant: nearly the same name, or the right name without or
 * with a wrong section. NULL if none. */
static const ConfigKey *nearest_key(int stage, const char *name) {
    const char *names[NKEYS];
    int n = 0;
    for (int i = 0; i < NKEYS; i++)
        if (config_knows(stage, &config_keys[i])) names[n++] = config_keys[i].name;
    const char *nearest = nearest_word(name, names, n);
    for (int i = 0; nearest && i < NKEYS; i++)
        if (config_keys[i].name == nearest) return &config_keys[i];
    const char *dot = strrchr(name, '.'), *leaf = dot ? dot + 1 : name;
    for (int i = 0; i < NKEYS; i++) {
        const ConfigKey *k = &config_keys[i];
        if (config_knows(stage, k) && strcmp(strrchr(k->name, '.') + 1, leaf) == 0) return k;
    }
    return NULL;
}

static bool is_section(const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < NKEYS; i++)
        if (strncmp(config_keys[i].name, name, n) == 0 && config_keys[i].name[n] == '.')
            return true;
    return false;
}

static int unknown_key(int stage, const char *place, const char *name) {
    const char *me = config_stage_name(stage);
    const ConfigKey *k = config_key(name);
    if (k) {
        AUTOFREE char *others = config_stages(k);
        return error_set(ERR_CONFIG, "%s: %s is a setting of %s, not of %s; remove it here%s",
                         place, name, others, me,
                         strncmp(name, "model.", 6) == 0 ? " (the model comes from from.model)"
                                                         : "");
    }
    if (is_section(name))
        return error_set(ERR_CONFIG,
                         "%s: %s is a section, not a setting; expected %s.something "
                         "(rhetor-%s --help lists them)",
                         place, name, name, me);
    if ((k = nearest_key(stage, name)))
        return error_set(ERR_CONFIG, "%s: unknown setting %s; did you mean %s?", place, name,
                         k->name);
    return error_set(ERR_CONFIG, "%s: unknown setting %s; rhetor-%s --help lists all of them",
                     place, name, me);
}

/* --- values ----------------------------------------------------------------------------------- */
static int wrong_value(const char *place, const ConfigKey *k, const char *found) {
    static const char *nouns[] = {[KIND_I64] = "an integer",        [KIND_F64] = "a number",
                                  [KIND_Bool] = "true or false",    [KIND_Str] = "one text",
                                  [KIND_List] = "a list of texts",  [KIND_Path] = "one path",
                                  [KIND_Paths] = "a list of paths", [KIND_Enum] = "one of"};
    AUTOFREE char *range = config_range(k);
    return error_set(ERR_CONFIG, "%s: %s is %s, expected %s%s%s", place, k->name,
                     *found ? found : "empty", nouns[k->kind], *range ? " " : "", range);
}

/* Decimal numbers only: strtod alone would take 0x10, inf and nan. */
static bool parse_number(const char *s, double *x) {
    if (!*s || s[strspn(s, "0123456789+-.eE")] != '\0') return false;
    char *end;
    *x = strtod(s, &end);
    return *end == '\0' && isfinite(*x);
}

static bool parse_integer(const char *s, int64_t *i) {
    char *end;
    double x;
    if (!parse_number(s, &x)) return false;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    if (*end == '\0' && errno == 0) {
        *i = n;
        return true;
    }
    if (x != floor(x) || fabs(x) > 9007199254740992.0) return false; /* 1e6 is fine, 1.5 is not */
    *i = (int64_t)x;
    return true;
}

static int set_enum(const char *place, const ConfigKey *k, const char *s, int *out) {
    enum { MOST = 16 };
    char *words[MOST];
    int n = 0, found = -1, rc = 0;
    while (n < MOST && (words[n] = config_choice(k->choices, n))) n++;
    for (int i = 0; i < n; i++)
        if (strcmp(words[i], s) == 0) *out = found = i;
    if (found < 0) {
        AUTOFREE char *hint = nearest_hint(s, (const char *const *)words, n);
        rc = wrong_value(place, k, s);
        error_set(rc, "%s%s", error_message(), hint);
    }
    for (int i = 0; i < n; i++) free(words[i]);
    return rc;
}

static bool is_list(const ConfigKey *k) { return k->kind == KIND_List || k->kind == KIND_Paths; }
static bool is_path(const ConfigKey *k) { return k->kind == KIND_Path || k->kind == KIND_Paths; }

static void free_value(Config *c, const ConfigKey *k) {
    if (k->kind == KIND_Str || k->kind == KIND_Path) {
        free((char *)*CONFIG_AT(ConfigStr, c, k));
        *CONFIG_AT(ConfigStr, c, k) = NULL;
    } else if (is_list(k)) {
        StrList *l = CONFIG_AT(ConfigList, c, k);
        for (int i = 0; i < l->n; i++) free(l->v[i]);
        free(l->v);
        *l = (StrList){0};
    }
}

static int set_scalar(Config *c, const ConfigKey *k, const char *place, const char *s) {
    double x = 0;
    int64_t i = 0;
    switch (k->kind) {
    case KIND_I64:
        if (!parse_integer(s, &i) || (double)i < k->lo || (double)i > k->hi)
            return wrong_value(place, k, s);
        *CONFIG_AT(ConfigI64, c, k) = i;
        return 0;
    case KIND_F64:
        if (!parse_number(s, &x) || x < k->lo || x > k->hi) return wrong_value(place, k, s);
        *CONFIG_AT(ConfigF64, c, k) = x;
        return 0;
    case KIND_Bool:
        if (strcmp(s, "true") != 0 && strcmp(s, "false") != 0) return wrong_value(place, k, s);
        *CONFIG_AT(ConfigBool, c, k) = *s == 't';
        return 0;
    case KIND_Enum: return set_enum(place, k, s, CONFIG_AT(ConfigEnum, c, k));
    default:
        free_value(c, k);
        *CONFIG_AT(ConfigStr, c, k) = xstrdup(s);
        return 0;
    }
}

static int set_value(Config *c, const ConfigKey *k, const char *place, const YamlValue *v) {
    if (v->list && !is_list(k)) return wrong_value(place, k, "a list");
    StrList values = {xcalloc((size_t)v->n + 1, sizeof(char *)), 0};
    int rc = 0;
    for (int i = 0; rc == 0 && i < v->n; i++) {
        const char *text = v->null ? "" : v->items[i];
        Text s = {0};
        if (text[utf8_valid(text, strlen(text))])
            rc = error_set(ERR_CONFIG, "%s: %s is not valid UTF-8; re-encode it", place, k->name);
        else if ((rc = text_expand(&s, text, false)) < 0)
            error_wrap(rc, "%s: %s", place, k->name);
        values.v[values.n++] = is_path(k) ? file_home(text_take(&s)) : text_take(&s);
    }
    if (rc == 0 && !is_list(k)) rc = set_scalar(c, k, place, values.v[0]);
    if (rc == 0 && is_list(k)) {
        free_value(c, k);
        bool none = !v->list && !*values.v[0]; /* "" is no list of one empty name */
        if (!none) {
            *CONFIG_AT(ConfigList, c, k) = values;
            values = (StrList){0};
        }
    }
    for (int i = 0; i < values.n; i++) free(values.v[i]);
    free(values.v);
    if (rc == 0) {
        Places *p = c->priv;
        free(p->set[k - config_keys]);
        p->set[k - config_keys] = xstrdup(place);
    }
    return rc;
}

/* --- where settings come from ----------------------------------------------------------------- */

typedef struct ConfigSource {
    Config *c;
    const char *file; /* NULL: the command line, which may set something twice */
} ConfigSource;

static int set(void *ctx, const YamlValue *v) {
    const ConfigSource *from = ctx;
    Config *c = from->c;
    Places *p = c->priv;
    const ConfigKey *k = config_key(v->key);
    if (!k && v->null && is_section(v->key)) return 0; /* `data:` with nothing below it is fine */
    AUTOFREE char *place = from->file ? xasprintf("%s:%d:%d", from->file, v->line, v->column)
                                      : xstrdup("command line");
    const char *before = k && from->file ? p->set[k - config_keys] : NULL;
    return !k || !config_knows(c->stage, k) ? unknown_key(c->stage, place, v->key)
           : before
               ? error_set(ERR_CONFIG, "%s: %s is set again, first at %s; remove one of the two",
                           place, v->key, before)
               : set_value(c, k, place, v);
}

static int load_file(Config *c, const char *path) {
    AUTOFREE char *text = NULL;
    size_t len;
    if (file_read(path, &text, &len) < 0)
        return error_set(ERR_CONFIG, "%s (the configuration file)", error_message());
    return yaml_settings(text, len, path, set, &(ConfigSource){c, path});
}

/* "section.key=value"; a list is a,b or [a, "b, c"]. */
static int set_from_command_line(Config *c, const char *override) {
    const char *equals = strchr(override, '=');
    if (!equals || equals == override)
        return error_set(
            ERR_CONFIG, "command line: \"%s\" is no setting; expected section.key=value", override);
    AUTOFREE char *name = xasprintf("%.*s", (int)(equals - override), override);
    char *text = xstrdup(equals + 1), *rest = text;
    const ConfigKey *k = config_key(name);
    const bool list = k && is_list(k);
    int rc;
    if (list && *text == '[') {
        AUTOFREE char *yaml = xasprintf("%s: %s\n", name, text);
        rc = yaml_settings(yaml, strlen(yaml), "command line", set, &(ConfigSource){c, NULL});
    } else {
        YamlValue v = {.key = name, .list = list && strchr(text, ',')};
        v.items = xmalloc(sizeof *v.items * (strlen(text) + 1));
        do v.items[v.n++] = v.list ? strsep(&rest, ",") : text;
        while (v.list && rest);
        rc = set(&(ConfigSource){c, NULL}, &v);
        free(v.items);
    }
    free(text);
    return rc;
}

static void set_defaults(Config *c) {
    for (const ConfigKey *k = config_keys; k < config_keys + NKEYS; k++) {
        AUTOFREE char *own = config_stage_default(c->stage, k), *number = NULL;
        const char *def = k->text;
        if (k->kind == KIND_Bool)
            def = k->number != 0 ? "true" : "false";
        else if (!def)
            def = number = config_number(k->number);
        CHECK(is_list(k) ? !*def && !own : set_scalar(c, k, "default", own ? own : def) == 0,
              "%s: %s", k->name, error_message());
    }
}

static void start(Config *c, int stage, const char *origin) {
    config_stage_name(stage); /* one of ours */
    *c = (Config){.stage = stage};
    Places *p = xcalloc(1, sizeof *p);
    c->priv = p;
    c->origin = p->origin = xstrdup(origin);
    set_defaults(c);
}

int config_load(Config *c, int stage, const char *path, const char *const *overrides, int n) {
    start(c, stage, path ? path : "");
    int rc = path ? load_file(c, path) : 0;
    for (int i = 0; rc == 0 && i < n; i++) rc = set_from_command_line(c, overrides[i]);
    if (rc < 0) config_free(c);
    return rc;
}

void config_free(Config *c) {
    Places *p = c->priv;
    if (!p) return;
    for (const ConfigKey *k = config_keys; k < config_keys + NKEYS; k++) free_value(c, k);
    for (int i = 0; i < NKEYS; i++) free(p->set[i]);
    free(p->origin);
    free(p);
    *c = (Config){0};
}

int config_bad(const Config *c, const char *key, const char *fmt, ...) {
    const ConfigKey *k = config_key(key);
    CHECK(k, "no key %s", key);
    const Places *p = c->priv;
    const char *set = p ? p->set[k - config_keys] : NULL;
    const char *place = set ? set : *c->origin ? c->origin : "command line";
    AUTOFREE char *value = config_value(c, k), *text = NULL;
    bool none = strcmp(value, "\"\"") == 0 || strcmp(value, "[]") == 0;
    va_list ap;
    va_start(ap, fmt);
    CHECK(vasprintf(&text, fmt, ap) >= 0, "format \"%s\"", fmt);
    va_end(ap);
    return error_set(ERR_CONFIG, "%s: %s is %.200s%s: %s", place, key, none ? "not set" : value,
                     set || none ? "" : " (default)", text);
}

/* Another version may have had other keys and words. */
static int set_known(void *ctx, const YamlValue *v) {
    Config *c = ctx;
    const ConfigKey *k = config_key(v->key);
    if (k && config_knows(c->stage, k)) set_value(c, k, "saved settings", v);
    return 0;
}

char *config_diff(int stage, const char *yaml_old, const char *yaml_new) {
    Config c[2];
    Text t = {0};
    if (stage == STAGE_NONE) return xstrdup(""); /* an imported model */
    for (int i = 0; i < 2; i++) {
        const char *yaml = i ? yaml_new : yaml_old;
        start(&c[i], stage, "");
        if (yaml_settings(yaml, strlen(yaml), "saved settings", set_known, &c[i]) < 0)
            text_put(&t, "%s", error_message());
    }
    for (const ConfigKey *k = config_keys; k < config_keys + NKEYS; k++) {
        if (!k->result || !config_knows(stage, k)) continue;
        AUTOFREE char *was = config_value(&c[0], k), *is = config_value(&c[1], k);
        if (strcmp(was, is) != 0) text_put(&t, "%s%s: %s -> %s", t.s ? "\n" : "", k->name, was, is);
    }
    for (int i = 0; i < 2; i++) config_free(&c[i]);
    return text_take(&t);
}
