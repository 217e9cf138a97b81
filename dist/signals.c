/* signals.c: a handler only notes what came; the ranks compare notes at the next step boundary, so
 * that all of them save the same step. A rank that got SIGTERM alone would otherwise leave the
 * others waiting in a collective.
 *
 * mpirun forwards SIGUSR1 to the ranks. SIGINT or SIGTERM to mpirun itself becomes SIGTERM for the
 * ranks and, a moment later, SIGKILL: job scripts should send SIGUSR1 (sbatch
 * --signal=USR1@120). */
#include "dist/signals.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Ordered: where several reasons meet, the last one is reported. */
typedef enum Reason {
    REASON_NONE,
    REASON_SAVE_FILE,
    REASON_DEADLINE,
    REASON_STOP_FILE,
    REASON_USR1,
    REASON_HUP,
    REASON_INT,
    REASON_TERM
} Reason;

static const char *const reason_text[] = {"",        "file SAVE", "run.deadline", "file STOP",
                                          "SIGUSR1", "SIGHUP",    "SIGINT",       "SIGTERM"};

static const int signal_of[] = {
    [REASON_USR1] = SIGUSR1, [REASON_HUP] = SIGHUP, [REASON_INT] = SIGINT, [REASON_TERM] = SIGTERM};

static volatile sig_atomic_t got[REASON_TERM + 1];
static double start = -1;

/* What the second interrupt takes with it. Two texts in turn: the handler may come at any time. */
static char lost_text[2][128] = {"nothing was saved yet"};
static const char *volatile lost = lost_text[0];

void signals_saved(int64_t step) {
    char *text = lost_text[lost == lost_text[0]];
    snprintf(text, sizeof lost_text[0], "what came after step %" PRId64 " is lost", step);
    lost = text;
}

static void (*on_leave)(const char *lost);
void signals_on_leave(void (*fn)(const char *lost)) { on_leave = fn; }

/* Within a handler, and on a terminal behind its "^C". */
static void say(const char *a, const char *b) {
    if (log_my_rank() != 0) return;
    const char *const part[] = {"\n", a, b, "\n"};
    for (int i = 0; i < 4; i++)
        if (write(STDERR_FILENO, part[i], strlen(part[i])) < 0) return;
}

static void on_signal(int sig) {
    const bool again = sig == SIGINT && got[REASON_INT];
    for (int r = REASON_USR1; r <= REASON_TERM; r++)
        if (signal_of[r] == sig) got[r] = 1;
    if (again) { /* no more patience */
        say("interrupted again: leaving at once; ", lost);
        if (on_leave) on_leave(lost);
        signal(SIGINT, SIG_DFL);
        raise(SIGINT); /* delivered when the handler returns */
    } else if (sig == SIGINT)
        say("interrupted: this step is finished and saved, then the run leaves; once more: it "
            "leaves at "
            "once, and ",
            lost);
}

void signals_install(void) {
    if (start < 0) start = clock_seconds();
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    sigemptyset(&a.sa_mask);
    for (int r = REASON_USR1; r <= REASON_TERM; r++) {
        const bool ignored = sigaction(signal_of[r], NULL, &old) == 0 && old.sa_handler == SIG_IGN;
        if (r == REASON_HUP && ignored) continue; /* nohup */
        sigaction(signal_of[r], &a, NULL);
    }
    /* A reader of the log that goes away (`2>&1 | head`) does not end the run. */
    signal(SIGPIPE, SIG_IGN);
    /* Writing past ulimit -f then fails with EFBIG instead of killing the run. */
    signal(SIGXFSZ, SIG_IGN);
}

static Reason look(double deadline, const bool file_there[2]) {
    Reason r = REASON_NONE;
    if (file_there[0]) r = REASON_SAVE_FILE;
    if (deadline > 0 && clock_seconds() - start >= deadline) r = REASON_DEADLINE;
    if (file_there[1]) r = REASON_STOP_FILE;
    for (int k = REASON_USR1; k <= REASON_TERM; k++)
        if (got[k]) r = (Reason)k;
    return r;
}

int signals_poll(Comm *c, const char *run_dir, double deadline, const char **why) {
    static const char *const file[2] = {"SAVE", "STOP"};
    static bool ignore[2]; /* could not be removed: honouring it every time helps nobody */
    bool there[2] = {false, false};
    char path[2][PATH_MAX];
    if (start < 0) start = clock_seconds();
    if (run_dir && comm_rank(c) == 0)
        for (int i = 0; i < 2; i++) {
            const int n = snprintf(path[i], PATH_MAX, "%s/%s", run_dir, file[i]);
            there[i] = n < PATH_MAX && !ignore[i] && access(path[i], F_OK) == 0;
        }

    double agreed = look(deadline, there);
    comm_max_f64(c, &agreed, 1);

    for (int i = 0; i < 2; i++) {
        if (there[i] && file_remove(path[i]) < 0) {
            log_warn("%s; the file %s is not looked at any more in this run", error_message(),
                     file[i]);
            ignore[i] = true;
        }
    }
    Reason reason = (Reason)agreed;
    if (why) *why = reason_text[reason];
    return reason == REASON_NONE        ? STOP_NONE
           : reason == REASON_SAVE_FILE ? STOP_SAVE_GO_ON
                                        : STOP_SAVE_AND_LEAVE;
}
