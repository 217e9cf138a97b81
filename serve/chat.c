/* chat.c: a conversation in a terminal. See chat.h. */
#include "serve/chat.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/texts.h"
#include "eval/prompts.h"

/* --- one answer ------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal) { interrupted = 1; }

typedef struct Printer {
    AnswerStream *stream;
    FILE *out;
} Printer;

/* A model may also write what moves the cursor. */
static void print_piece(FILE *out, const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text >= ' ' || *text == '\n' || *text == '\t') fputc(*text, out);
    fflush(out);
}

static int print_token(void *ctx, int64_t prompt, int32_t token) {
    const Printer *p = ctx;
    print_piece(p->out, answer_stream_add(p->stream, token));
    return interrupted;
}

int chat_answer(const Loaded *m, const DecodeOptions *options, const int32_t *ids, int64_t n,
                bool raw, FILE *out, char **text, int64_t *tokens) {
    Printer p = {answer_stream(m->tmpl, m->tokenizer, raw), out};
    DecodeOptions o = *options;
    o.on_token = print_token;
    o.ctx = &p;
    DecodeResult r = {0};
    int rc = decode(&r, m->gpt, ids, (const int64_t[2]){0, n}, 1, NULL, &o);
    if (rc >= 0) rc = decode_finite(&r);
    print_piece(out, answer_stream_end(p.stream));
    if (rc >= 0 && text) rc = template_decode(m->tmpl, m->tokenizer, r.v[0].tokens, r.v[0].n, text);
    if (rc >= 0 && tokens) *tokens = r.v[0].n;
    fputc('\n', out);
    decode_free(&r);
    answer_stream_free(&p.stream);
    return rc;
}

/* --- the conversation ------------------------------------------------------------------------- */

typedef struct Chat {
    const Loaded *m;
    DecodeOptions o;
    FILE *in, *out;
    bool terminal;
    Message *turn; /* [n] without the system's; contents are ours */
    int n, cap;
    int first;   /* turns before it are forgotten */
    bool warned; /* that they are */
    char *system;
    char *line;
    size_t line_cap;
    bool leave;
} Chat;

__attribute__((format(printf, 2, 3))) static void say(const Chat *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    FILE *out = c->terminal ? c->out : stderr; /* a pipe holds answers only */
    const bool dim = c->terminal && log_has_colours(fileno(out));
    if (dim) fputs("\033[2m", out);
    vfprintf(out, fmt, ap);
    fputs(dim ? "\033[0m\n" : "\n", out);
    va_end(ap);
}

static void add_turn(Chat *c, const char *role, char *content) {
    if (c->n == c->cap)
        c->turn = xrealloc(c->turn, (size_t)(c->cap = 2 * c->cap + 8) * sizeof *c->turn);
    c->turn[c->n++] = (Message){role, content};
}

static void drop_last(Chat *c) { free((char *)(uintptr_t)c->turn[--c->n].content); }

static void forget_all(Chat *c) {
    while (c->n > 0) drop_last(c);
    c->first = 0;
    c->warned = false;
}

/* --- commands --------------------------------------------------------------------------------- */

static int do_help(Chat *c, const char *arg);

static int do_reset(Chat *c, const char *arg) {
    forget_all(c);
    say(c, "a new conversation%s", c->system ? "; the system message stays" : "");
    return 0;
}

static int do_system(Chat *c, const char *arg) {
    free(c->system);
    c->system = *arg ? xstrdup(arg) : NULL;
    forget_all(c);
    say(c, "%s; a new conversation", *arg ? "system message set" : "no system message");
    return 0;
}

/* Appended as a record that rhetor-sft reads. */
static int do_save(Chat *c, const char *arg) {
    if (!*arg) return error_set(ERR_USAGE, "/save FILE: which file?");
    if (c->n == 0) return error_set(ERR_USAGE, "there is nothing to save yet");
    json_t *list = json_array();
    for (int i = c->system ? -1 : 0; i < c->n; i++) {
        const char *role = i < 0 ? "system" : c->turn[i].role;
        const char *content = i < 0 ? c->system : c->turn[i].content;
        size_t len;
        AUTOFREE char *valid = utf8_repair(content, strlen(content), &len);
        json_array_append_new(list, json_pack("{s:s, s:s}", "role", role, "content", valid));
    }
    json_auto_t *record = json_pack("{s:o}", "messages", list);
    AUTOFREE char *text = json_dumps(record, JSON_COMPACT), *line = xasprintf("%s\n", text);
    int rc = file_append(arg, line, strlen(line));
    if (rc >= 0) say(c, "%d messages added to %s", c->n + (c->system ? 1 : 0), arg);
    return rc;
}

static int do_quit(Chat *c, const char *arg) {
    c->leave = true;
    return 0;
}

static const struct Command {
    const char *name, *args, *what;
    int (*run)(Chat *c, const char *arg);
} commands[] = {
    {"/help", "", "this list", do_help},
    {"/reset", "", "forget the conversation", do_reset},
    {"/system", " [TEXT]", "set the system message, without TEXT remove it; starts over",
     do_system},
    {"/save", " FILE", "add the conversation to FILE, as a line of JSON", do_save},
    {"/quit", "", "leave; so does Ctrl-D. Ctrl-C stops an answer", do_quit},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int do_help(Chat *c, const char *arg) {
    for (int i = 0; i < COMMANDS; i++) {
        AUTOFREE char *name = xasprintf("%s%s", commands[i].name, commands[i].args);
        say(c, "  %-16s %s", name, commands[i].what);
    }
    say(c, "  %-16s %s", "... \\", "at the end of a line: the message goes on in the next one");
    return 0;
}

static int run_command(Chat *c) {
    size_t len = strcspn(c->line, " ");
    const char *arg = c->line + len + strspn(c->line + len, " ");
    for (int i = 0; i < COMMANDS; i++)
        if (strlen(commands[i].name) == len && strncmp(c->line, commands[i].name, len) == 0)
            return commands[i].run(c, arg);
    return error_set(ERR_USAGE, "no command %.*s; /help lists them", (int)len, c->line);
}

/* --- a turn ----------------------------------------------------------------------------------- */

static int encode(const Chat *c, int first, IdList *ids) {
    int n = c->n - first + (c->system ? 1 : 0);
    AUTOFREE Message *m = xmalloc((size_t)n * sizeof *m);
    if (c->system) m[0] = (Message){"system", c->system};
    memcpy(m + (c->system ? 1 : 0), c->turn + first, (size_t)(c->n - first) * sizeof *m);
    ids->n = 0;
    return template_prompt(c->m->tmpl, c->m->tokenizer, m, n, ids);
}

/* The newest turns that leave room for an answer: a quarter of the context, less if answers are
 * to be shorter. */
static int fit(Chat *c, IdList *ids) {
    const int64_t context = c->m->gpt->cfg.context;
    const int64_t room = c->o.max_new < context / 4 ? c->o.max_new : context / 4;
    TRY(encode(c, c->first, ids));
    while (ids->n > context - room && c->first + 2 < c->n) {
        c->first += 2; /* a question and its answer */
        TRY(encode(c, c->first, ids));
    }
    if (ids->n >= context)
        return error_set(ERR_DATA,
                         "the message has %" PRId64 " tokens with what stands around it, the "
                         "model's context %" PRId64 "; shorten it",
                         ids->n, context);
    if (c->first > 0 && !c->warned)
        say(c, "(the conversation exceeds the model's context: its oldest turns are forgotten)");
    c->warned = c->warned || c->first > 0;
    return 0;
}

static int take_turn(Chat *c) {
    IdList ids = {0};
    char *text = NULL;
    int64_t n = 0;
    add_turn(c, "user", xstrdup(c->line));
    interrupted = 0;
    int rc = fit(c, &ids);
    if (rc >= 0) rc = chat_answer(c->m, &c->o, ids.v, ids.n, false, c->out, &text, &n);
    c->o.step++;
    if (rc >= 0) {
        add_turn(c, "assistant", text);
        if (interrupted)
            say(c, "(stopped)");
        else if (n >= c->o.max_new || ids.n + n >= c->m->gpt->cfg.context)
            say(c, "(cut: %s)", n >= c->o.max_new ? "--max-new" : "the context is full");
    } else
        drop_last(c);
    ids_free(&ids);
    return rc;
}

/* getline; -1 with `interrupted` after Ctrl-C. One that comes between the prompt and the read is
 * not lost: from the prompt on the signal is blocked, and let in only while we wait. */
static ssize_t read_line(Chat *c, const char *prompt, char **line, size_t *cap) {
    interrupted = 0;
    if (!c->terminal) return getline(line, cap, c->in);
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    fputs(prompt, c->out);
    fflush(c->out);
    struct pollfd in = {.fd = fileno(c->in), .events = POLLIN};
    ppoll(&in, 1, NULL, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return interrupted ? -1 : getline(line, cap, c->in);
}

/* A message, of several lines where they end with a backslash. false at the end of the input. */
static bool read_message(Chat *c) {
    char *message = NULL, *more = NULL;
    size_t cap = 0;
    for (;;) {
        ssize_t len = read_line(c, message ? "  " : "> ", &more, &cap);
        if (len < 0 && interrupted) { /* Ctrl-C: the message is given up */
            clearerr(c->in);
            fputc('\n', c->out);
            free(message);
            message = NULL;
            continue;
        }
        if (len < 0) break;
        if (len > 0 && more[len - 1] == '\n') more[--len] = '\0';
        bool goes_on = len > 0 && more[len - 1] == '\\';
        if (goes_on) more[len - 1] = '\0';
        char *all = xasprintf("%s%s%s", message ? message : "", message ? "\n" : "", more);
        free(message);
        message = all;
        if (!goes_on) break;
    }
    free(more);
    free(c->line);
    c->line = message;
    return message != NULL;
}

int chat_run(const Loaded *m, const DecodeOptions *o, FILE *in, FILE *out, bool terminal) {
    Chat c = {.m = m, .o = *o, .in = in, .out = out, .terminal = terminal};
    struct sigaction ours = {.sa_handler = on_interrupt}, before; /* no SA_RESTART: wakes getline */
    sigaction(SIGINT, &ours, &before);
    c.o.step = 0;
    if (terminal)
        say(&c, "%s, step %" PRId64 ", template %s, context %" PRId64 ". /help lists commands.",
            m->path, m->step, template_name(m->tmpl), m->gpt->cfg.context);
    int rc = 0;
    while (rc >= 0 && !c.leave && read_message(&c)) {
        if (!*c.line) continue;
        rc = *c.line == '/' ? run_command(&c) : take_turn(&c);
        if (rc < 0) say(&c, "%s", error_message());
        rc = 0;
        if (ferror(out))
            rc = error_set(ERR_IO, "the answers cannot be written: %s", strerror(errno));
    }
    if (terminal && !c.leave) fputc('\n', out);
    sigaction(SIGINT, &before, NULL);
    forget_all(&c);
    free(c.turn);
    free(c.system);
    free(c.line);
    return rc;
}
