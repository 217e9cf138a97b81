/* option.c: see option.h. argp (glibc) does the work; here the tables become its own. */
#include "base/option.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 1000 }; /* key of an option without a letter: KEYS + its row */

static const char *me = "rhetor"; /* the program, with its command */

typedef struct Parse {
    const Option *options;
    void *args;
    int given; /* arguments that are no options */
} Parse;

int64_t option_whole_to(struct argp_state *state, const char *name, const char *arg, int64_t lowest,
                        int64_t highest) {
    char *end;
    errno = 0;
    const long long v = strtoll(arg, &end, 10);
    if (end != arg && !*end && !errno && v >= lowest && v <= highest) return v;
    if (highest == INT64_MAX)
        argp_error(state, "--%s is \"%s\"; expected a whole number from %" PRId64 " up", name, arg,
                   lowest);
    else
        argp_error(state, "--%s is \"%s\"; expected a whole number from %" PRId64 " to %" PRId64,
                   name, arg, lowest, highest);
    return lowest;
}

double option_number(struct argp_state *state, const char *name, const char *arg, double lowest,
                     double highest) {
    char *end;
    const double v = strtod(arg, &end);
    const bool any = lowest == 0 && highest == 0;
    if (end != arg && !*end && (any || (v >= lowest && v <= highest))) return v;
    if (any)
        argp_error(state, "--%s is \"%s\"; expected a number", name, arg);
    else
        argp_error(state, "--%s is \"%s\"; expected a number from %g to %g", name, arg, lowest,
                   highest);
    return v;
}

void option_add(const char ***list, int *n, const char *text) {
    *list = xrealloc(*list, (size_t)(*n + 1) * sizeof **list);
    (*list)[(*n)++] = text;
}

void option_free(OptionList *l) {
    for (int i = 0; i < l->n; i++) free((char *)(uintptr_t)l->v[i]);
    free(l->v);
    *l = (OptionList){0};
}

/* The index of arg in "a|b|c". */
static int word(struct argp_state *state, const Option *o, const char *arg) {
    Text all = {0};
    int i = 0;
    for (const char *w = o->words; *w; i++) {
        const size_t n = strcspn(w, "|");
        if (strlen(arg) == n && strncmp(w, arg, n) == 0) {
            free(all.s);
            return i;
        }
        text_put(&all, "%s%.*s", i == 0 ? "" : w[n] ? ", " : " or ", (int)n, w);
        w += n + (w[n] == '|');
    }
    argp_error(state, "--%s is \"%s\"; expected %s", o->name, arg, all.s);
    free(all.s);
    return 0;
}

/* "--run=~/x" and "NAME=~/x", which the shell leaves as they are, and a ~/ that was quoted. What is
 * said to a model is no path. */
static char *at_home(const Option *o, char *arg) {
    static const char **kept; /* they live as long as the other arguments */
    static int nkept;
    char *path = arg ? strchr(arg, '~') : NULL;
    if (!path || (path != arg && path[-1] != '=') || (path[1] && path[1] != '/') ||
        o->kind == OPTION_FLAG || (o->value && strcmp(o->value, "[PROMPT]") == 0))
        return arg;
    path = file_home(xstrdup(path));
    char *full = xasprintf("%.*s%s", (int)(strchr(arg, '~') - arg), arg, path);
    free(path);
    option_add(&kept, &nkept, full);
    return full;
}

static void set(struct argp_state *state, const Option *o, char *arg) {
    const Parse *p = state->input;
    arg = at_home(o, arg);
    void *to = (char *)p->args + o->at;
    const int64_t low = (int64_t)o->low, high = o->high > 0 ? (int64_t)o->high : INT64_MAX;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)to = true; break;
    case OPTION_TEXT: *(const char **)to = arg; break;
    case OPTION_WHOLE: *(int64_t *)to = option_whole_to(state, o->name, arg, low, high); break;
    case OPTION_NUMBER: *(double *)to = option_number(state, o->name, arg, o->low, o->high); break;
    case OPTION_WORD: *(int *)to = word(state, o, arg); break;
    case OPTION_LIST: {
        OptionList *l = to;
        option_add(&l->v, &l->n, arg);
        break;
    }
    case OPTION_CALL:
        if (o->set(p->args, o, arg) < 0) argp_error(state, "%s", error_message());
    }
}

/* The row of what is no option; NULL: there is none. */
static const Option *rest(const Option *o) {
    for (; o->name || o->value || o->help; o++)
        if (!o->name && o->value) return o;
    return NULL;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    Parse *p = state->input;
    const Option *o = rest(p->options);
    const int most = !o ? 0 : o->high > 0 ? (int)o->high : INT_MAX;
    if (key == ARGP_KEY_ARG && p->given++ < most) {
        set(state, o, arg);
    } else if (key == ARGP_KEY_END) {
        if (p->given > most || (o && p->given < (int)o->low))
            argp_error(state, "expected %s, got %d argument%s", o ? o->value : "options only",
                       p->given, TEXT_S(p->given));
    } else if (key != ARGP_KEY_ARG) {
        for (o = p->options; o->name || o->value || o->help; o++)
            if (o->name && key == (o->letter ? o->letter : KEYS + (int)(o - p->options))) {
                set(state, o, arg);
                return 0;
            }
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void option_parse(const Option *options, const char *usage, const char *what, int argc, char **argv,
                  void *args) {
    int n = 0, group = 0;
    while (options[n].name || options[n].value || options[n].help) n++;
    struct argp_option *rows = xcalloc((size_t)n + 1, sizeof *rows), *to = rows;
    for (const Option *o = options; o < options + n; o++) {
        if (!o->name && o->value) continue;
        if (!o->name) group++;
        const int key = !o->name ? 0 : o->letter ? o->letter : KEYS + (int)(o - options);
        *to++ = (struct argp_option){o->name, key, o->value, 0, o->help, group};
    }
    const Option *more = rest(options);
    const struct argp argp = {.options = rows,
                              .parser = parse,
                              .doc = what,
                              .args_doc = usage  ? usage
                                          : more ? more->value
                                                 : NULL};
    me = file_basename(argv[0]);
    char *version = xasprintf("%.*s " RHETOR_VERSION, (int)strcspn(me, " "), me);
    argp_program_version = version;
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    file_check_output();
    /* Of several ranks one speaks. */
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER | (log_my_rank() ? ARGP_NO_ERRS : 0), NULL,
                   &(Parse){options, args, 0}) != 0)
        exit(argp_err_exit_status);
    free(version);
    argp_program_version = NULL;
    free(rows);
}

static const OptionCommand *row(const OptionCommand *first, size_t stride, int i) {
    return (const OptionCommand *)(const void *)((const char *)first + (size_t)i * stride);
}

static void print_commands(FILE *out, const OptionCommand *first, int n, size_t stride) {
    fprintf(out, "Usage: %s COMMAND [OPTION...] ...\n\n", me);
    for (int i = 0; i < n; i++)
        fprintf(out, "  %-10s %s\n", row(first, stride, i)->name, row(first, stride, i)->what);
    fprintf(out, "\n%s COMMAND --help says more.\n", me);
}

int option_command(const OptionCommand *first, int n, size_t stride, int argc, char **argv,
                   void *args) {
    const int usage = error_exit_code(ERR_USAGE);
    const char *names[64], *given = argc < 2 ? NULL : argv[1];
    me = file_basename(argv[0]);
    file_check_output();
    if (!given) print_commands(stderr, first, n, stride), exit(usage);
    CHECK(n <= 64, "%d commands", n);
    for (int i = 0; i < n; i++) {
        const OptionCommand *c = row(first, stride, i);
        names[i] = c->name;
        if (strcmp(given, c->name) != 0) continue;
        static char name[128];
        snprintf(name, sizeof name, "%s %s", me, c->name);
        argv[1] = name;
        option_parse(c->options, c->usage, c->what, argc - 1, argv + 1, args);
        return i;
    }
    if (strcmp(given, "--help") == 0 || strcmp(given, "-?") == 0 || strcmp(given, "help") == 0)
        print_commands(stdout, first, n, stride), exit(0);
    if (strcmp(given, "--version") == 0 || strcmp(given, "-V") == 0)
        printf("%s " RHETOR_VERSION "\n", me), exit(0);
    const char *meant = nearest_word(given, names, n);
    fprintf(stderr, "%s: no command \"%s\"; ", me, given);
    if (meant)
        fprintf(stderr, "did you mean %s?\n", meant);
    else
        fprintf(stderr, "%s --help lists them\n", me);
    exit(usage);
}

int option_end(int rc) {
    if (rc < 0 && log_my_rank() == 0) fprintf(stderr, "%s: %s\n", me, error_message());
    return rc < 0 ? error_exit_code(rc) : rc;
}
