/* coprocess.c: pipes to a program and back. See coprocess.h. Both are polled, so that neither side
 * waits for the other to read first. */
#include "base/coprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

enum { TRIES = 3 };

struct Coprocess {
    char *command;
    double seconds;
    pid_t pid; /* 0: not running */
    int to, from;
    int64_t starts;
};

Coprocess *coprocess_new(const char *command, double seconds) {
    Coprocess *c = xcalloc(1, sizeof *c);
    c->command = xstrdup(command);
    c->seconds = seconds;
    signal(SIGPIPE, SIG_IGN); /* its end is an error of writing */
    return c;
}

static void end(Coprocess *c) {
    if (c->pid == 0) return;
    close(c->to);
    close(c->from);
    kill(-c->pid, SIGKILL);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    c->pid = 0;
}

void coprocess_close(Coprocess **c) {
    if (!*c) return;
    end(*c);
    free((*c)->command);
    free(*c);
    *c = NULL;
}

int64_t coprocess_restarts(const Coprocess *c) { return c->starts > 0 ? c->starts - 1 : 0; }

static int start(Coprocess *c) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0) return file_error(c->command, "pipe");
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]);
        close(in[1]);
        return file_error(c->command, "pipe");
    }
    c->pid = fork();
    if (c->pid == 0) {
        setpgid(0, 0); /* signals of the run are not its business */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        signal(SIGPIPE, SIG_DFL);
        execl("/bin/sh", "sh", "-c", c->command, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    c->to = in[1];
    c->from = out[0];
    if (c->pid < 0) {
        close(c->to);
        close(c->from);
        c->pid = 0;
        return file_error(c->command, "fork");
    }
    setpgid(c->pid, c->pid);
    fcntl(c->to, F_SETFL, O_NONBLOCK);
    fcntl(c->from, F_SETFL, O_NONBLOCK);
    c->starts++;
    return 0;
}

static int64_t lines_in(const char *s, size_t n) {
    int64_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += s[i] == '\n';
    return lines;
}

/* Sends everything and collects n lines; *why: what was missing, NULL if nothing. */
static void converse(Coprocess *c, const char *text, size_t len, int64_t n, Text *answer,
                     const char **why) {
    const double until = clock_seconds() + c->seconds;
    size_t sent = 0;
    int64_t lines = 0;
    *why = NULL;
    while (lines < n || sent < len) {
        const double left = until - clock_seconds();
        struct pollfd p[2] = {{.fd = c->from, .events = POLLIN},
                              {.fd = sent < len ? c->to : -1, .events = POLLOUT}};
        if (left <= 0) {
            *why = "did not answer in time";
            return;
        }
        if (poll(p, 2, (int)fmin(ceil(left * 1000), 1e6)) < 0) continue; /* a signal */
        if (p[1].revents) {
            const ssize_t k = write(c->to, text + sent, len - sent);
            if (k < 0 && errno != EAGAIN && errno != EINTR) *why = "ended";
            if (k > 0) sent += (size_t)k;
        }
        if (p[0].revents) {
            const ssize_t k = read(c->from, text_room(answer, 4096), 4096);
            if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR)) *why = "ended";
            if (k > 0) lines += lines_in(answer->s + answer->n, (size_t)k);
            if (k > 0) answer->n += (size_t)k;
        }
        if (*why) return;
    }
    if (lines > n) *why = "wrote more lines than it was asked for";
}

/* One number a line. */
static int numbers(const Coprocess *c, char *s, int64_t n, double *v) {
    for (int64_t i = 0; i < n; i++) {
        char *line = strsep(&s, "\n"), *rest;
        v[i] = strtod(line, &rest);
        while (*rest == ' ' || *rest == '\r') rest++;
        if (rest == line || *rest || !isfinite(v[i]))
            return error_set(ERR_DATA, "%s: line %" PRId64 " is \"%.60s\", expected a number",
                             c->command, i + 1, line);
    }
    return 0;
}

int coprocess_ask(Coprocess *c, const char *text, size_t len, int64_t n, double *v) {
    const char *why = "";
    for (int i = 0; i < TRIES; i++) {
        Text answer = {0};
        if (c->pid == 0) TRY(start(c));
        converse(c, text, len, n, &answer, &why);
        if (!why) {
            AUTOFREE char *all = text_take(&answer);
            return numbers(c, all, n, v);
        }
        free(answer.s);
        end(c);
        log_warn("%s: %s; it is started again", c->command, why);
    }
    return error_set(ERR_IO, "%s: %s, %d times in a row; does it answer each line with a number?",
                     c->command, why, TRIES);
}
