/* yaml.c: the settings in a YAML text, one by one; the only file that uses libyaml.
 *
 * A recursive walk over libyaml's events, because events have exact marks and show keys that are
 * given twice. Aliases and lists of lists have no use in a recipe and are refused. */
#include "base/yaml.h"

#include "base/error.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct Walk {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; of no type after an error of the parser */
    const char *path;
    YamlVisit *visit;
    void *ctx;
    int line, column; /* of the current event, from 1 */
    bool all;         /* empty sections, too */
} Walk;

/* Lines and columns from 1; the reader, which looks for characters that YAML does not have, knows
 * only where in the text it is. */
static int syntax_error(const Walk *w, const char *text) {
    const yaml_parser_t *p = &w->parser;
    size_t line = p->problem_mark.line + 1, column = p->problem_mark.column + 1;
    if (p->error == YAML_READER_ERROR) {
        line = column = 1;
        for (size_t i = 0; i < p->problem_offset; i++, column++)
            if (text[i] == '\n') line++, column = 0;
    }
    return error_set(ERR_CONFIG, "%s:%zu:%zu: malformed YAML: %s%s%s; check indentation and quotes",
                     w->path, line, column, p->context ? p->context : "", p->context ? ": " : "",
                     p->problem ? p->problem : "?");
}

static int advance(Walk *w) {
    yaml_event_delete(&w->event);
    if (!yaml_parser_parse(&w->parser, &w->event))
        return syntax_error(w, (const char *)w->parser.input.string.start);
    w->line = (int)w->event.start_mark.line + 1;
    w->column = (int)w->event.start_mark.column + 1;
    return 0;
}

static int refuse(const Walk *w, const char *what) {
    return error_set(ERR_CONFIG,
                     "%s:%d:%d: %s; expected `key: value`, a section, or a list of "
                     "values",
                     w->path, w->line, w->column, what);
}

/* The text of a scalar event, malloc'd. */
static char *scalar(const Walk *w) { return xstrdup((const char *)w->event.data.scalar.value); }

static bool is_null(const Walk *w, const char *text) {
    if (w->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    return !*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static void add(YamlValue *v, char *item) {
    v->items = xrealloc(v->items, sizeof *v->items * (size_t)(v->n + 1));
    v->items[v->n++] = item;
}

/* `none`: NULL, or what an empty section is. */
static int walk_section(Walk *w, const char *prefix, const YamlValue *none);

/* Scalars become items of v; sections become settings of "key.0", "key.1", ... */
static int walk_list(Walk *w, YamlValue *v, int *sections) {
    v->list = true;
    for (;;) {
        TRY(advance(w));
        if (w->event.type == YAML_SEQUENCE_END_EVENT) return 0;
        if (w->event.type == YAML_SCALAR_EVENT && *sections == 0)
            add(v, scalar(w));
        else if (w->event.type == YAML_MAPPING_START_EVENT && v->n == 0) {
            AUTOFREE char *prefix = xasprintf("%s.%d.", v->key, (*sections)++);
            int rc = walk_section(w, prefix, NULL);
            if (rc < 0) return rc;
        } else
            return refuse(w, "a list inside a list, or one of values and sections");
    }
}

/* The value of `key`: a section, a list or a scalar. */
static int walk_value(Walk *w, const char *key) {
    TRY(advance(w));
    if (w->event.type == YAML_MAPPING_START_EVENT) {
        AUTOFREE char *prefix = xasprintf("%s.", key);
        const YamlValue none = {.key = key, .null = true, .line = w->line, .column = w->column};
        return walk_section(w, prefix, w->all ? &none : NULL);
    }
    YamlValue v = {.key = key, .line = w->line, .column = w->column};
    int rc = 0, sections = 0;
    if (w->event.type == YAML_SCALAR_EVENT) {
        add(&v, scalar(w));
        v.null = is_null(w, v.items[0]);
    } else if (w->event.type == YAML_SEQUENCE_START_EVENT)
        rc = walk_list(w, &v, &sections);
    else
        rc = refuse(w, "an alias");
    if (rc == 0 && sections == 0) rc = w->visit(w->ctx, &v);
    for (int i = 0; i < v.n; i++) free(v.items[i]);
    free(v.items);
    return rc;
}

static int walk_section(Walk *w, const char *prefix, const YamlValue *none) {
    for (;; none = NULL) {
        TRY(advance(w));
        if (w->event.type == YAML_MAPPING_END_EVENT) return none ? w->visit(w->ctx, none) : 0;
        if (w->event.type != YAML_SCALAR_EVENT) return refuse(w, "a key that is no word");
        AUTOFREE char *name = scalar(w), *key = xasprintf("%s%s", prefix, name);
        int rc = walk_value(w, key);
        if (rc < 0) return rc;
    }
}

static int walk_documents(Walk *w) {
    for (int documents = 0;;) {
        TRY(advance(w));
        switch (w->event.type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT: break;
        case YAML_STREAM_END_EVENT: return 0;
        case YAML_DOCUMENT_START_EVENT:
            if (documents++) return refuse(w, "a second document");
            break;
        case YAML_MAPPING_START_EVENT: TRY(walk_section(w, "", NULL)); break;
        case YAML_SCALAR_EVENT: { /* an empty document is one without settings */
            char *s = scalar(w);
            bool nothing = is_null(w, s);
            free(s);
            if (nothing) break;
            return refuse(w, "a bare word");
        }
        default: return refuse(w, "a bare list");
        }
    }
}

static int settings(const char *text, size_t len, const char *path, YamlVisit *visit, void *ctx,
                    bool all) {
    const size_t valid = utf8_valid(text, len);
    if (valid < len) {
        int line = 1;
        for (size_t i = 0; i < valid; i++) line += text[i] == '\n';
        return error_set(ERR_CONFIG, "%s:%d: not valid UTF-8; re-encode the file, e.g. with iconv",
                         path, line);
    }
    Walk w = {.path = path, .visit = visit, .ctx = ctx, .line = 1, .column = 1, .all = all};
    CHECK(yaml_parser_initialize(&w.parser), "libyaml");
    yaml_parser_set_encoding(&w.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&w.parser, (const unsigned char *)text, len);
    const int rc = walk_documents(&w);
    yaml_event_delete(&w.event);
    yaml_parser_delete(&w.parser);
    return rc;
}

int yaml_settings(const char *text, size_t len, const char *path, YamlVisit *visit, void *ctx) {
    return settings(text, len, path, visit, ctx, false);
}

int yaml_settings_all(const char *text, size_t len, const char *path, YamlVisit *visit, void *ctx) {
    return settings(text, len, path, visit, ctx, true);
}
