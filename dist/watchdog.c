/* watchdog.c: see watchdog.h.
 *
 * A timer sends SIGALRM to the watched thread TICKS times in a limit; the handler counts, a sign of
 * life sets the count to 0. Counting instead of looking at a clock, a job that was suspended
 * (SIGSTOP, a sleeping machine) has not aged: missed expirations arrive as one signal. The timer
 * names the thread (SIGEV_THREAD_ID), so threads of OpenMP, MPI and our own need no signal masks.
 *
 * What runs in the handler may have interrupted anything, malloc and MPI included: it formats
 * integers, writes, prints the backtrace, and calls MPI_Abort, which was seen to work inside
 * MPI_Allgather. Should any of that block, a second alarm leaves after 2 s; then the launcher ends
 * the others. */
#include "dist/watchdog.h"

#include "base/error.h"
#include "base/log.h"
#include "dist/backtrace.h"
#include "dist/fault.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { TICKS = 10, LAST_RESORT_S = 2 };

static const struct {
    const char *word;
    int limit;
} phases[] = {
#define X(name, word, limit) {word, limit},
    PHASES(X)
#undef X
};

const char *volatile watchdog_mpi;

static volatile sig_atomic_t phase, ticks;
static bool watching;
static timer_t timer;
static double seconds;
static void (*on_hang)(const char *reason);

static void put(const char *text) {
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n; /* the job ends in any case */
}

static void leave_now(int sig) { _exit(70); }

static void last_resort(void) {
    timer_settime(timer, 0, &(struct itimerspec){0}, NULL);
    struct sigaction a = {.sa_handler = leave_now};
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    sigaction(SIGALRM, &a, NULL);
    alarm(LAST_RESORT_S);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
}

static void hang(int limit) {
    last_resort();
    char reason[256], line[320];
    const char *mpi = watchdog_mpi, *word = phases[phase].word;
    const int after = (int)(seconds * limit + 0.5);
    if (mpi)
        snprintf(reason, sizeof reason,
                 "rank %d is waiting for others in phase %s, %.*s, for %d s: a rank that has no "
                 "message of its own above, or the network, hangs",
                 log_my_rank(), word, (int)strcspn(mpi, "("), mpi, after);
    else
        snprintf(reason, sizeof reason,
                 "rank %d hangs in phase %s: no sign of life for %d s (limit: dist.hang_seconds)",
                 log_my_rank(), word, after);
    snprintf(line, sizeof line, "%s: %s\n", program_invocation_short_name, reason);
    put(line);
    if (on_hang) on_hang(reason);
    backtrace_print(STDERR_FILENO);
    comm_abort(70);
}

static void on_tick(int sig) {
    const int saved = errno;
    const int limit = watchdog_mpi ? WATCHDOG_WAITING : phases[phase].limit;
    ticks = ticks + 1;
    if (ticks >= limit * TICKS) hang(limit);
    errno = saved;
}

static int start_timer(void) {
    struct sigaction a = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGALRM, &a, NULL);
    struct sigevent to = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    to.sigev_notify_thread_id = gettid();
    const double tick = fmax(seconds / TICKS, 1e-3);
    struct timespec every = {.tv_sec = (time_t)tick, .tv_nsec = (long)(fmod(tick, 1) * 1e9)};
    if (timer_create(CLOCK_MONOTONIC, &to, &timer) != 0)
        return error_set(ERR_INTERNAL,
                         "the watchdog gets no timer: %s; dist.hang_seconds=0 does without it",
                         strerror(errno));
    timer_settime(timer, 0, &(struct itimerspec){every, every}, NULL);
    watching = true;
    return 0;
}

int watchdog_open(double limit, void (*hung)(const char *reason)) {
    seconds = limit;
    on_hang = hung;
    phase = PHASE_START;
    ticks = 0;
    backtrace_load();
    if (limit > 0) TRY(start_timer());
    watchdog_enter(PHASE_START);
    return 0;
}

void watchdog_close(void) {
    if (watching) timer_delete(timer);
    watching = false;
}

void watchdog_beat(void) { ticks = 0; }

void watchdog_enter(Phase now) {
    phase = (sig_atomic_t)now;
    ticks = 0;
    if (fault_point(phases[now].word) < 0) { /* a phase has no error to return */
        log_warn("%s", error_message());
        error_end(error_exit_code(ERR_IO));
    }
}
