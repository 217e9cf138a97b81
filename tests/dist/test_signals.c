/* ranks: 1 2 */
/* Requests to save and stop: one rank learns of it, all agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "dist/signals.h"
#include "tests/base/scratch.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static Comm *comm;
static char dir[4096]; /* rank 0's scratch folder */

static void touch(const char *name) {
    if (comm_rank(comm) != 0) return;
    char *path = file_join(dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    free(path);
}

static bool there(const char *name) {
    char *path = file_join(dir, name);
    bool yes = file_exists(path);
    free(path);
    return yes;
}

static void test_files(void **state) {
    const char *why = NULL;
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_NONE);
    assert_string_equal(why, "");

    touch("SAVE");
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_SAVE_GO_ON);
    assert_string_equal(why, "file SAVE");
    if (comm_rank(comm) == 0) assert_false(there("SAVE"));
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_NONE);

    touch("STOP");
    touch("SAVE");
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_SAVE_AND_LEAVE);
    assert_string_equal(why, "file STOP");
    if (comm_rank(comm) == 0) assert_false(there("STOP") || there("SAVE"));
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_NONE);
    assert_int_equal(signals_poll(comm, NULL, 0, NULL), STOP_NONE);
}

static void test_deadline(void **state) {
    const char *why;
    assert_int_equal(signals_poll(comm, dir, 3600, &why), STOP_NONE);
    usleep(2000);
    assert_int_equal(signals_poll(comm, dir, 0.001, &why), STOP_SAVE_AND_LEAVE);
    assert_string_equal(why, "run.deadline");
}

/* Last: a signal is not forgotten. Only the last rank receives it. */
static void test_signals(void **state) {
    const char *why;
    int last = comm_size(comm) - 1;
    if (comm_rank(comm) == last) raise(SIGUSR1);
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_SAVE_AND_LEAVE);
    assert_string_equal(why, "SIGUSR1");
    if (comm_rank(comm) == last) raise(SIGHUP);
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_SAVE_AND_LEAVE);
    assert_string_equal(why, "SIGHUP");
    raise(SIGPIPE); /* ignored */
    if (comm_rank(comm) == last) raise(SIGTERM);
    assert_int_equal(signals_poll(comm, dir, 0, &why), STOP_SAVE_AND_LEAVE);
    assert_string_equal(why, "SIGTERM");
}

static void test_nohup(void **state) {
    struct sigaction ours, now;
    sigaction(SIGHUP, NULL, &ours);
    assert_true(ours.sa_handler != SIG_DFL && ours.sa_handler != SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signals_install();
    sigaction(SIGHUP, NULL, &now);
    assert_true(now.sa_handler == SIG_IGN);
    sigaction(SIGHUP, &ours, NULL);
}

static void test_second_interrupt_ends(void **state) {
    if (comm_size(comm) > 1) return; /* no fork under MPI */
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGINT);
        raise(SIGINT);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);

    pid = fork();
    if (pid == 0) {
        raise(SIGINT);
        _exit(7);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(int argc, char **argv) {
    if (comm_open(&comm, &argc, &argv) < 0) return 1;
    signals_install();
    if (comm_rank(comm) == 0) {
        if (scratch_make(NULL) < 0) return 1;
        snprintf(dir, sizeof dir, "%s", scratch_folder);
    }
    comm_bcast(comm, dir, sizeof dir, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_nohup),
        cmocka_unit_test(test_second_interrupt_ends),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_signals),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_rank(comm) == 0) scratch_remove(NULL);
    comm_close(&comm);
    return failed;
}
