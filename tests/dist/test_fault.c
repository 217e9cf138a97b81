/* RHETOR_FAULT: each case in its own process, because the variable is read once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "dist/fault.h"

#include <float.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Visits the point "a.b" four times as rank 1. Exit status: bits of the visits that failed;
 * 128 + signal when it was killed; 200 when it has not ended after `ms`. */
static int outcome(const char *variable, int ms) {
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        setenv("RHETOR_FAULT", variable, 1);
        log_rank(1);
        int bits = 0;
        for (int i = 0; i < 4; i++) {
            if (fault_point("a.other") < 0) _exit(99);
            if (fault_point("a.b") == ERR_IO && strstr(error_message(), "a.b")) bits |= 1 << i;
            float v[3] = {1, 1, 1};
            fault_values("a.v", v, 3);
            if (v[0] != 1 || v[2] != 1) _exit(98);
            if (isnan(v[1])) bits |= 1 << i;
            if (v[1] == 1 + FLT_EPSILON) bits |= 16 << i;
        }
        _exit(bits);
    }
    int status;
    for (; ms > 0; ms--) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        usleep(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return 200;
}

static void test_fault(void **state) {
    static const struct {
        const char *variable;
        int outcome;
    } cases[] = {
        {"", 0},
        {"a.b:enospc", 1},
        {"a.c:enospc", 0},
        {"a.b:1:enospc", 1},
        {"a.b:0:enospc", 0},
        {"a.b:*:3:enospc", 4},
        {"a.b:1:2+:enospc", 2 + 4 + 8},
        {"a.b:*:5:enospc", 0},
        {"a.b:*:4:kill", 128 + SIGKILL},
        {"a.b:0:kill", 0},
        {"a.b:hang", 200},
        {"a.b:exit", 70},
        {"a.b:term", 128 + SIGTERM},
        {"a.v:*:2:usr1", 128 + SIGUSR1},
        {"a.b:*:2:eio", 2},
        {"a.v:1:3:nan", 4},
        {"a.v:0:3:nan", 0},
        {"a.v:1:2:flip", 32},
        {"a.v:1:3+:flip", 64 + 128},
        {"a.v:*:4:kill", 128 + SIGKILL},
        {"a.v:enospc", 64},
        {"a.b:nan", 64},
        {"a.b", 64},
        {"a.b:explode", 64},
        {"a.b:x:kill", 64},
        {"a.b:1:2x:kill", 64},
        {":kill", 64},
        {"a.b:1:2:3:kill", 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* who is to end may be slow; who is to hang has not ended after that time in any case */
        int got = outcome(cases[i].variable, cases[i].outcome == 200 ? 300 : 60000);
        if (got != cases[i].outcome)
            fail_msg("RHETOR_FAULT=%s: outcome %d, expected %d", cases[i].variable, got,
                     cases[i].outcome);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fault)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
