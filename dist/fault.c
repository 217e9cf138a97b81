/* fault.c: reads RHETOR_FAULT once, then compares names. The rank is the log's (base/log.h), which
 * comm_open sets. */
#include "dist/fault.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum FaultAction {
    ACTION_NONE,
    ACTION_KILL,
    ACTION_EXIT,
    ACTION_HANG,
    ACTION_TERM,
    ACTION_USR1,
    ACTION_ENOSPC,
    ACTION_EIO,
    ACTION_NAN,
    ACTION_FLIP
} FaultAction;

static const struct {
    const char *name;
    FaultAction action;
} actions[] = {{"kill", ACTION_KILL},     {"exit", ACTION_EXIT}, {"hang", ACTION_HANG},
               {"enospc", ACTION_ENOSPC}, {"eio", ACTION_EIO},   {"nan", ACTION_NAN},
               {"flip", ACTION_FLIP},     {"term", ACTION_TERM}, {"usr1", ACTION_USR1}};

static struct {
    bool read;
    FaultAction action;
    char point[64];
    int64_t rank;    /* -1: all */
    int64_t count;   /* the visit at which it happens */
    bool ever_after; /* and at each later one */
    int64_t visits;
} fault;

static void malformed(const char *text, const char *what) {
    log_warn(
        "RHETOR_FAULT=%s: %s; expected point[:rank[:count]]:action with the actions kill, exit, "
        "hang, term, usr1, enospc, eio, and nan and flip where there are values",
        text, what);
    error_end(64);
}

static int64_t number(const char *text, const char *field, bool *plus) {
    char *end;
    errno = 0;
    long long v = strtoll(field, &end, 10);
    if (plus && end > field && *end == '+') {
        *plus = true;
        end++;
    }
    if (errno || end == field || *end || v < 0) malformed(text, "rank and count are numbers");
    return v;
}

static void read_variable(void) {
    fault.read = true;
    const char *text = getenv("RHETOR_FAULT");
    if (!text || !*text) return;

    char *copy = xstrdup(text), *rest = copy, *field[4];
    int n = 0;
    for (char *f; n < 4 && (f = strsep(&rest, ":"));) field[n++] = f;
    if (rest || n < 2) malformed(text, "has too few or too many fields");
    if (!*field[0] || strlen(field[0]) >= sizeof fault.point) malformed(text, "has no good point");
    strcpy(fault.point, field[0]);
    fault.rank = -1;
    fault.count = 1;
    if (n > 2 && strcmp(field[1], "*") != 0) fault.rank = number(text, field[1], NULL);
    if (n > 3) fault.count = number(text, field[2], &fault.ever_after);
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(field[n - 1], actions[i].name) == 0) fault.action = actions[i].action;
    if (fault.action == ACTION_NONE) malformed(text, "has an unknown action");
    free(copy);
}

/* What shall happen at this visit; what needs nothing of the caller happens here. */
static FaultAction visit(const char *point) {
    if (!fault.read) read_variable();
    if (fault.action == ACTION_NONE || strcmp(point, fault.point) != 0) return ACTION_NONE;
    if (fault.rank >= 0 && fault.rank != log_my_rank()) return ACTION_NONE;
    fault.visits++;
    if (fault.ever_after ? fault.visits < fault.count : fault.visits != fault.count)
        return ACTION_NONE;
    if (fault.action == ACTION_KILL) kill(getpid(), SIGKILL);
    if (fault.action == ACTION_EXIT) _exit(70);
    while (fault.action == ACTION_HANG) pause();
    if (fault.action != ACTION_TERM && fault.action != ACTION_USR1) return fault.action;
    raise(fault.action == ACTION_TERM ? SIGTERM : SIGUSR1);
    return ACTION_NONE;
}

int fault_point(const char *point) {
    switch (visit(point)) {
    case ACTION_NONE: return 0;
    case ACTION_ENOSPC:
        return error_set(ERR_IO, "%s: no space left on device (RHETOR_FAULT asked for it)", point);
    case ACTION_EIO:
        return error_set(ERR_IO, "%s: input/output error (RHETOR_FAULT asked for it)", point);
    default: malformed(getenv("RHETOR_FAULT"), "there are no values at this point");
    }
    return 0;
}

void fault_values(const char *point, float *v, int64_t n) {
    const FaultAction a = visit(point);
    if (a == ACTION_NONE) return;
    if (a == ACTION_NAN) {
        v[n / 2] = (float)NAN;
    } else if (a == ACTION_FLIP) {
        uint32_t bits;
        memcpy(&bits, &v[n / 2], sizeof bits);
        bits ^= 1;
        memcpy(&v[n / 2], &bits, sizeof bits);
    } else {
        malformed(getenv("RHETOR_FAULT"), "nothing is written at this point");
    }
}
