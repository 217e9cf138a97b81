/* yaml.c: the settings in a YAML text, one by one; the only file that uses libfyaml.
 *
 * A recursive walk over libfyaml's events, because events have exact marks and show keys that are
 * given twice. Anchors, aliases and lists of lists have no use in a recipe and are refused. */
#include "base/yaml.h"

#include "base/error.h"
#include "base/utf8.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

typedef struct Walk {
    struct fy_parser *parser;
    struct fy_event *event; /* the current one; NULL after an error of the parser */
    struct fy_diag *diag;
    const char *path;
    YamlVisit *visit;
    void *ctx;
    int line, column; /* of the current event, from 1 */
} Walk;

static int syntax_error(Walk *w) {
    void *state = NULL;
    struct fy_diag_error *e = fy_diag_errors_iterate(w->diag, &state);
    if (!e) return error_set(ERR_CONFIG, "%s:%d: malformed YAML", w->path, w->line);
    return error_set(ERR_CONFIG, "%s:%d:%d: malformed YAML: %s; check indentation and quotes",
                     w->path, e->line, e->column, e->msg);
}

static int advance(Walk *w) {
    if (w->event) fy_parser_event_free(w->parser, w->event);
    w->event = fy_parser_parse(w->parser);
    if (!w->event) return syntax_error(w);
    const struct fy_mark *m = fy_event_start_mark(w->event);
    if (m) {
        w->line = m->line + 1;
        w->column = m->column + 1;
    }
    return 0;
}

static int refuse(const Walk *w, const char *what) {
    return error_set(ERR_CONFIG,
                     "%s:%d:%d: %s; expected `key: value`, a section, or a list of "
                     "values",
                     w->path, w->line, w->column, what);
}

/* The text of a scalar event, malloc'd. */
static char *scalar(const Walk *w) {
    size_t n = 0;
    const char *s = w->event->scalar.value ? fy_token_get_text(w->event->scalar.value, &n) : "";
    char *copy = xmalloc(n + 1);
    if (n) memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

static bool is_null(const Walk *w, const char *text) {
    struct fy_token *t = w->event->scalar.value;
    if (t && fy_token_scalar_style(t) != FYSS_PLAIN) return false;
    return !*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static void add(YamlValue *v, char *item) {
    v->items = xrealloc(v->items, sizeof *v->items * (size_t)(v->n + 1));
    v->items[v->n++] = item;
}

static int walk_section(Walk *w, const char *prefix);

/* Scalars become items of v; sections become settings of "key.0", "key.1", ... */
static int walk_list(Walk *w, YamlValue *v, int *sections) {
    v->list = true;
    for (;;) {
        TRY(advance(w));
        if (w->event->type == FYET_SEQUENCE_END) return 0;
        if (w->event->type == FYET_SCALAR && *sections == 0)
            add(v, scalar(w));
        else if (w->event->type == FYET_MAPPING_START && v->n == 0) {
            char *prefix = xasprintf("%s.%d.", v->key, (*sections)++);
            int rc = walk_section(w, prefix);
            free(prefix);
            if (rc < 0) return rc;
        } else
            return refuse(w, "a list inside a list, or one of values and sections");
    }
}

/* The value of `key`: a section, a list or a scalar. */
static int walk_value(Walk *w, const char *key) {
    TRY(advance(w));
    if (w->event->type == FYET_MAPPING_START) {
        char *prefix = xasprintf("%s.", key);
        int rc = walk_section(w, prefix);
        free(prefix);
        return rc;
    }
    YamlValue v = {.key = key, .line = w->line, .column = w->column};
    int rc = 0, sections = 0;
    if (w->event->type == FYET_SCALAR) {
        add(&v, scalar(w));
        v.null = is_null(w, v.items[0]);
    } else if (w->event->type == FYET_SEQUENCE_START)
        rc = walk_list(w, &v, &sections);
    else
        rc = refuse(w, "an alias");
    if (rc == 0 && sections == 0) rc = w->visit(w->ctx, &v);
    for (int i = 0; i < v.n; i++) free(v.items[i]);
    free(v.items);
    return rc;
}

static int walk_section(Walk *w, const char *prefix) {
    for (;;) {
        TRY(advance(w));
        if (w->event->type == FYET_MAPPING_END) return 0;
        if (w->event->type != FYET_SCALAR) return refuse(w, "a key that is no word");
        char *name = scalar(w), *key = xasprintf("%s%s", prefix, name);
        int rc = walk_value(w, key);
        free(name);
        free(key);
        if (rc < 0) return rc;
    }
}

static int walk_documents(Walk *w) {
    for (int documents = 0;;) {
        TRY(advance(w));
        switch (w->event->type) {
        case FYET_STREAM_START:
        case FYET_DOCUMENT_END: break;
        case FYET_STREAM_END: return 0;
        case FYET_DOCUMENT_START:
            if (documents++) return refuse(w, "a second document");
            break;
        case FYET_MAPPING_START: TRY(walk_section(w, "")); break;
        case FYET_SCALAR: { /* an empty document is one without settings */
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

int yaml_settings(const char *text, size_t len, const char *path, YamlVisit *visit, void *ctx) {
    /* libfyaml silently drops what is no UTF-8. */
    const size_t valid = utf8_valid(text, len);
    if (valid < len) {
        int line = 1;
        for (size_t i = 0; i < valid; i++) line += text[i] == '\n';
        return error_set(ERR_CONFIG, "%s:%d: not valid UTF-8; re-encode the file, e.g. with iconv",
                         path, line);
    }
    Walk w = {.path = path, .visit = visit, .ctx = ctx, .line = 1, .column = 1};
    w.diag = fy_diag_create(NULL);
    CHECK(w.diag, "libfyaml diagnostics");
    fy_diag_set_collect_errors(w.diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = w.diag};
    w.parser = fy_parser_create(&cfg);
    CHECK(w.parser && fy_parser_set_string(w.parser, text, len) == 0, "libfyaml parser");
    int rc = walk_documents(&w);
    if (w.event) fy_parser_event_free(w.parser, w.event);
    fy_parser_destroy(w.parser);
    fy_diag_destroy(w.diag);
    return rc;
}
