/* The watchdog, each case in its own process: who is found, after how long, what is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dist/watchdog.h"

#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int hook_pipe;
static void hook(const char *reason) {
    ssize_t n = write(hook_pipe, reason, strlen(reason) + 1);
    (void)n;
}

typedef struct Outcome {
    int status; /* exit status; 128 + signal */
    char reason[512], said[8192];
} Outcome;

static void drain(int fd, char *text, size_t size) {
    size_t n = 0;
    for (ssize_t got; n + 1 < size && (got = read(fd, text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(fd);
}

static Outcome run(void (*child)(void)) {
    Outcome o = {0};
    int reason[2], err[2], status;
    assert_int_equal(pipe(reason), 0);
    assert_int_equal(pipe(err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        hook_pipe = reason[1];
        dup2(err[1], STDERR_FILENO);
        log_rank(3);
        child();
        _exit(0);
    }
    close(reason[1]);
    close(err[1]);
    drain(reason[0], o.reason, sizeof o.reason);
    drain(err[0], o.said, sizeof o.said);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    o.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return o;
}

__attribute__((noinline)) static void hangs(void) {
    if (watchdog_open(0.3, hook) < 0) _exit(1);
    watchdog_enter(PHASE_UPDATE);
    for (;;) pause();
}

/* Busy in all threads: the signal still comes to the first. */
static void hangs_in_a_loop(void) {
    if (watchdog_open(0.3, hook) < 0) _exit(1);
    watchdog_enter(PHASE_EXCHANGE);
#pragma omp parallel num_threads(3)
    for (volatile int i = 0;; i = i + 1) {
    }
}

static void waits(void) {
    if (watchdog_open(0.1, hook) < 0) _exit(1);
    watchdog_enter(PHASE_EXCHANGE);
    watchdog_mpi = "MPI_Allgather(a, b)";
    for (;;) pause();
}

static void hangs_at_once(void) {
    setenv("RHETOR_FAULT", "start:hang", 1);
    watchdog_open(0.1, hook);
}

static void test_found(void **state) {
    Outcome o = run(hangs);
    assert_int_equal(o.status, 70);
    assert_string_equal(o.reason, "rank 3 hangs in phase update: no sign of life for 0 s (limit: "
                                  "dist.hang_seconds)");
    assert_non_null(strstr(o.said, o.reason));
    assert_non_null(strstr(o.said, "\nhangs [0x")); /* the backtrace: static functions, too */
    assert_non_null(strstr(o.said, "\nmain [0x"));
    assert_non_null(strstr(o.said, "/libc.so.6(")); /* and the libraries' */
    o = run(hangs_at_once);
    assert_int_equal(o.status, 70);
    assert_non_null(strstr(o.reason, "rank 3 hangs in phase start"));
    o = run(hangs_in_a_loop);
    assert_int_equal(o.status, 70);
    assert_non_null(strstr(o.reason, "rank 3 hangs in phase exchange"));
    o = run(waits);
    assert_int_equal(o.status, 70);
    assert_non_null(strstr(o.reason, "rank 3 is waiting for others in phase exchange, "
                                     "MPI_Allgather, for"));
}

/* Alive for many limits; then in a phase with a longer limit; then unwatched. */
static void lives(void) {
    const double limit = 0.2;
    if (watchdog_open(limit, hook) < 0) _exit(1);
    for (double end = clock_seconds() + 4 * limit; clock_seconds() < end;) watchdog_beat();
    for (double end = clock_seconds() + 4 * limit; clock_seconds() < end;)
        watchdog_enter(PHASE_STEP);
    watchdog_close();
    for (double end = clock_seconds() + 3 * limit; clock_seconds() < end;) usleep(1000);
}

static void nobody_watches(void) {
    if (watchdog_open(0, hook) < 0) _exit(1);
    for (double end = clock_seconds() + 0.5; clock_seconds() < end;) usleep(1000);
}

static void test_alive(void **state) {
    assert_int_equal(run(lives).status, 0);
    assert_int_equal(run(nobody_watches).status, 0);
}

/* The limit of a phase counts: in the same time one is found, the other is not. Ticks are counted,
 * so a slow machine changes neither. */
static void long_phase(void) {
    if (watchdog_open(0.2, hook) < 0) _exit(1);
    watchdog_enter(PHASE_SAVE);
    for (;;) pause();
}
static void test_limits(void **state) {
    double began = clock_seconds();
    assert_int_equal(run(long_phase).status, 70);
    assert_true(clock_seconds() - began >= 0.2 * 3 - 0.05);
    began = clock_seconds();
    assert_int_equal(run(waits).status, 70);
    assert_true(clock_seconds() - began >= 0.1 * WATCHDOG_WAITING - 0.05);
}

/* What blocks in the hook (a dead file system) does not keep the job alive. */
static void blocked(const char *reason) {
    for (;;) pause();
}
static void hangs_with_blocked_hook(void) {
    if (watchdog_open(0.1, blocked) < 0) _exit(1);
    for (;;) pause();
}
static void test_last_resort(void **state) {
    assert_int_equal(run(hangs_with_blocked_hook).status, 70);
}

/* A phase is a fault point; one that has no error to return ends the job with it. */
static void full_disk(void) {
    setenv("RHETOR_FAULT", "data:3:2:enospc", 1);
    watchdog_enter(PHASE_DATA);
    watchdog_enter(PHASE_STEP);
    hook("first");
    watchdog_enter(PHASE_DATA);
    hook("never");
}
static void test_phase_is_a_point(void **state) {
    Outcome o = run(full_disk);
    assert_int_equal(o.status, 74);
    assert_string_equal(o.reason, "first");
    assert_non_null(strstr(o.said, "data: no space left on device"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_alive),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_last_resort),
        cmocka_unit_test(test_phase_is_a_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
