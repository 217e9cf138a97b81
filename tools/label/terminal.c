/* terminal.c: rhetor-label terminal: the same tasks without a browser. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "serve/http/http.h"
#include "serve/http/label_form.h"
#include "tools/label/commands.h"

typedef struct Terminal {
    Label *l;
    int64_t labeller;
    char *line;
    size_t cap;
    bool leave;
} Terminal;

/* What a model wrote may also move the cursor, or reverse what follows: such characters are shown by
 * their names, as common.js does. */
static bool is_hidden(uint32_t c) {
    return (c < ' ' && c != '\t' && c != '\n') || (c >= 0x7f && c <= 0x9f) || c == 0x61c ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x2069) || c == 0xfeff;
}

static void print_safely(const char *indent, const char *text) { /* JSON's, so it is UTF-8 */
    const char *s = text ? text : "";
    size_t len;
    fputs(indent, stdout);
    for (size_t n = strlen(s); n; s += len, n -= len) {
        len = utf8_char(s, n);
        const uint32_t c = utf8_code(s, len);
        if (is_hidden(c))
            printf("<U+%04" PRIX32 ">", c);
        else
            fwrite(s, 1, len, stdout);
        if (c == '\n') fputs(indent, stdout);
    }
    putchar('\n');
}

/* The next line, without its end; NULL: the input ends. */
static char *ask(Terminal *t, const char *question) {
    fputs(question, stdout);
    fflush(stdout);
    const ssize_t n = getline(&t->line, &t->cap, stdin);
    if (n < 0) {
        t->leave = true;
        return NULL;
    }
    t->line[strcspn(t->line, "\r\n")] = '\0';
    return t->line + strspn(t->line, " ");
}

/* "2 1=3 4", best first: the rank of each. ERR_DATA. */
static int read_ranking(const char *s, int k, json_t *rank) {
    int64_t v[LABEL_COMPLETIONS] = {0}, now = 0;
    bool tie = false;
    for (; *s; s++) {
        if (*s == ' ' || *s == '>' || *s == ',') continue;
        if (*s == '=') {
            tie = true;
            continue;
        }
        const int i = *s - '1';
        if (i < 0 || i >= k) return error_set(ERR_DATA, "'%c' is not one of 1 to %d", *s, k);
        if (v[i]) return error_set(ERR_DATA, "%d stands there twice", i + 1);
        now += !tie || now == 0;
        v[i] = now;
        tie = false;
    }
    json_array_clear(rank);
    for (int i = 0; i < k; i++) {
        if (!v[i]) return error_set(ERR_DATA, "%d is missing", i + 1);
        json_array_append_new(rank, json_integer(v[i]));
    }
    return 0;
}

/* "5 hallucination opinion" */
static int read_quality(char *s, const json_t *form, json_t *quality, json_t *flags) {
    json_t *mine = json_array(), *flag;
    char *rest, *word;
    size_t i;
    const long v = strtol(s, &rest, 10);
    json_array_append_new(quality, rest == s ? json_null() : json_integer(v));
    json_array_append_new(flags, mine);
    for (word = strtok_r(rest, " ,", &rest); word; word = strtok_r(NULL, " ,", &rest)) {
        bool known = false;
        json_array_foreach(json_object_get(form, "flags"), i, flag) known |=
            strcmp(word, json_string_value(json_object_get(flag, "name"))) == 0;
        if (!known) return error_set(ERR_DATA, "there is no flag %s", word);
        json_array_append_new(mine, json_string(word));
    }
    return 0;
}

/* The ranking, then quality and flags of each. 1: done, 0: skipped or undone, ERR_DATA: once more. */
static int rank_task(Terminal *t, int64_t id, int k, json_t *body) {
    json_t *rank = json_array(), *quality = json_array(), *flags = json_array();
    json_object_set_new(body, "rank", rank);
    json_object_set_new(body, "quality", quality);
    json_object_set_new(body, "flags", flags);
    char *s = ask(t, "ranking, best first, = ties (s REASON skips, u undoes, q leaves): ");
    if (!s || *s == 'q') {
        t->leave = true;
        return 0;
    }
    if (*s == 's') return label_skip(t->l, t->labeller, id, s + 1);
    if (*s == 'u') return label_undo(t->l, t->labeller) < 0 ? ERR_IO : 0;
    TRY(read_ranking(s, k, rank));
    for (int i = 0; i < k; i++) {
        const json_t *scale = json_object_get(t->l->form, "quality");
        AUTOFREE char *question =
            xasprintf("%d: quality %" PRId64 " to %" PRId64 ", then flags: ", i + 1,
                      (int64_t)json_integer_value(json_object_get(scale, "low")),
                      (int64_t)json_integer_value(json_object_get(scale, "high")));
        if (!(s = ask(t, question))) return 0;
        TRY(read_quality(s, t->l->form, quality, flags));
    }
    return 1;
}

/* A terminal may send what is no UTF-8. */
static json_t *typed(const char *s) {
    size_t n;
    AUTOFREE char *valid = utf8_repair(s, strlen(s), &n);
    return json_stringn(valid, n);
}

static int write_task(Terminal *t, int64_t id, bool own, json_t *body) {
    Text text = {0};
    char *s;
    printf("the answer; a line with only . ends it (.s skips, .u undoes, .q leaves)\n");
    if (own && (s = ask(t, "your prompt: "))) json_object_set_new(body, "prompt", typed(s));
    while ((s = ask(t, "| ")) && strcmp(s, ".") != 0) {
        if (strcmp(s, ".q") == 0) t->leave = true;
        if (s[0] == '.' && s[1] && !s[2] && strchr("suq", s[1])) {
            free(text.s);
            return s[1] == 's'   ? label_skip(t->l, t->labeller, id, "")
                   : s[1] == 'u' ? (label_undo(t->l, t->labeller) < 0 ? ERR_IO : 0)
                                 : 0;
        }
        text_put(&text, "%s%s", text.n ? "\n" : "", t->line); /* with what it begins with */
    }
    json_object_set_new(body, "completion", typed(text.s ? text.s : ""));
    free(text.s);
    return s ? 1 : 0;
}

static void show(const json_t *task) {
    const json_t *prompt = json_object_get(task, "prompt");
    json_t *one;
    size_t i;
    printf("\n--- prompt\n");
    if (json_is_string(prompt)) print_safely("    ", json_string_value(prompt));
    json_array_foreach(prompt, i, one) {
        print_safely("  ", json_string_value(json_object_get(one, "role")));
        print_safely("    ", json_string_value(json_object_get(one, "content")));
    }
    json_array_foreach(json_object_get(task, "completions"), i, one) {
        printf("--- %zu\n", i + 1);
        print_safely("    ", json_string_value(one));
    }
}

static int one_task(Terminal *t) {
    json_auto_t *task = NULL, *body = json_object();
    char id[33];
    TRY(label_task(t->l, t->labeller, &task));
    if (json_is_null(task)) {
        printf("nothing is left to do\n");
        t->leave = true;
        return 0;
    }
    const int64_t assignment = json_integer_value(json_object_get(task, "assignment"));
    const int k = (int)json_array_size(json_object_get(task, "completions"));
    const char *prompt = json_string_value(json_object_get(task, "prompt"));
    show(task);
    const double began = clock_seconds();
    int rc =
        k ? rank_task(t, assignment, k, body) : write_task(t, assignment, prompt && !*prompt, body);
    if (rc > 0) {
        TRY(http_token(id));
        rc = label_answer(t->l, t->labeller, assignment, id, body, clock_seconds() - began);
    }
    if (rc == ERR_DATA) { /* what was typed */
        printf("  %s; once more\n", error_message());
        rc = 0;
    }
    return rc;
}

int label_terminal(Args *a) {
    Terminal t = {0};
    size_t i;
    json_t *flag;
    if (a->file.n != 1) return error_set(ERR_USAGE, "who are you? rhetor-label terminal DB NAME");
    TRY(label_open(&t.l, a->db, NULL));
    t.labeller = label_by_name(t.l, a->file.v[0]);
    int rc = t.labeller
                 ? 0
                 : error_set(ERR_USAGE,
                             "no labeller is called %s; \"rhetor-label token %s %s\" makes one",
                             a->file.v[0], a->db, a->file.v[0]);
    if (rc >= 0) {
        printf("flags:");
        json_array_foreach(json_object_get(t.l->form, "flags"), i, flag)
            printf(" %s", json_string_value(json_object_get(flag, "name")));
        printf("\n");
    }
    while (rc >= 0 && !t.leave) rc = one_task(&t);
    free(t.line);
    label_close(&t.l);
    return rc;
}
