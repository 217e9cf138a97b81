/* A single process, and what a launcher sees from outside: this program starts itself under mpirun
 * and looks at the exit status and the messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "dist/comm.h"
#include "dist/exchange.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_one_rank(void **state) {
    Comm *c;
    assert_int_equal(comm_open(&c, NULL, NULL), 0);
    assert_int_equal(comm_rank(c), 0);
    assert_int_equal(comm_size(c), 1);

    float f[3] = {1.5f, -0.0f, 3e-42f};
    const float before[3] = {1.5f, -0.0f, 3e-42f};
    comm_sum_f32(c, f, 3);
    assert_memory_equal(f, before, sizeof f);
    double m = -2;
    comm_max_f64(c, &m, 1);
    assert_true(m == -2);

    assert_int_equal(comm_agree(c, 7), 0);
    assert_int_equal(comm_agree(c, error_set(ERR_IO, "mine")), ERR_IO);
    assert_string_equal(error_message(), "mine");
    assert_true(comm_equal_u64(c, 5));

    char *all;
    size_t offsets[2];
    comm_allgather_bytes(c, "abc", 3, &all, offsets);
    assert_int_equal(offsets[0], 0);
    assert_int_equal(offsets[1], 3);
    assert_memory_equal(all, "abc", 3);
    free(all);
    comm_close(&c);
    assert_null(c);
    comm_close(&c);
}

static void test_share(void **state) {
    for (int size = 1; size <= 7; size++)
        for (int64_t n = 0; n <= 23; n++) {
            int64_t at = 0, least = n, most = 0;
            for (int r = 0; r < size; r++) {
                int64_t b, e;
                comm_share(n, r, size, &b, &e);
                assert_int_equal(b, at);
                at = e;
                if (e - b < least) least = e - b;
                if (e - b > most) most = e - b;
            }
            assert_int_equal(at, n);
            assert_true(most - least <= 1);
        }
}

/* Without PMIx every task of srun would believe that it is alone. */
static void test_srun_without_pmix(void **state) {
    setenv("SLURM_STEP_NUM_TASKS", "4", 1);
    Comm *c;
    assert_int_equal(comm_open(&c, NULL, NULL), ERR_USAGE);
    assert_null(c);
    assert_non_null(strstr(error_message(), "--mpi=pmix"));
    assert_int_equal(comm_open_alone(&c), 0); /* does not look at the launcher */
    assert_int_equal(comm_size(c), 1);
    comm_close(&c);
    setenv("SLURM_STEP_NUM_TASKS", "1", 1);
    assert_int_equal(comm_open(&c, NULL, NULL), 0);
    comm_close(&c);
    unsetenv("SLURM_STEP_NUM_TASKS");
}

/* --- from outside ----------------------------------------------------------------------------- */

/* Output of `command` in text; returns its exit status. */
static int run(const char *command, char *text, size_t size) {
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(text, 1, size - 1, p);
    text[n] = '\0';
    int status = pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *self;

/* Leaks are looked for elsewhere: Open MPI has some. */
static int under_mpirun(int ranks, const char *mode, char *text, size_t size) {
    char command[1024];
    snprintf(command, sizeof command,
             "ASAN_OPTIONS=\"$ASAN_OPTIONS:detect_leaks=0\" OMPI_ALLOW_RUN_AS_ROOT=1 "
             "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 300 mpirun -n %d "
             "--oversubscribe --bind-to none '%s' %s 2>&1",
             ranks, self, mode);
    return run(command, text, size);
}

static void test_exit_status_arrives(void **state) {
    char text[8192];
    assert_int_equal(under_mpirun(2, "end", text, sizeof text), 74);
}

static void test_binding_warning(void **state) {
    const int cores = comm_cores(); /* that we may use, not that there are */
    if (cores < 2) skip();
    char text[8192];
    assert_int_equal(under_mpirun(2, "bound", text, sizeof text), 0);
    if (!strstr(text, "2 threads but is bound to 1 of") || !strstr(text, "slot:PE=2"))
        fail_msg("no warning in: %s", text);
    assert_int_equal(under_mpirun(2, "shared", text, sizeof text), 0);
    if (!strstr(text, "2 threads but are bound to the same 1 of"))
        fail_msg("no warning in: %s", text);
    assert_int_equal(under_mpirun(1, "shared", text, sizeof text), 0);
    if (!strstr(text, "the others are idle")) fail_msg("no warning in: %s", text);
    assert_int_equal(under_mpirun(1, "free", text, sizeof text), 0);
    assert_string_equal(text, "");
    char command[1024];
    snprintf(command, sizeof command, "'%s' free 2>&1", self);
    assert_int_equal(run(command, text, sizeof text), 0);
    assert_string_equal(text, "");
    snprintf(command, sizeof command, "'%s' many 2>&1", self);
    assert_int_equal(run(command, text, sizeof text), 0);
    if (!strstr(text, "run.threads=")) fail_msg("no warning in: %s", text);
    if (cores > 8) return; /* one rank too many, each with one thread: fewer threads do not help */
    assert_int_equal(under_mpirun(cores + 1, "one", text, sizeof text), 0);
    if (!strstr(text, "use at most") || strstr(text, "run.threads"))
        fail_msg("no or wrong warning in: %s", text);
}

/* What the started copies do. */
static int child(const char *mode, int *argc, char ***argv) {
    Comm *c;
    if (comm_open(&c, argc, argv) < 0) return 1;
    if (strcmp(mode, "end") == 0 && comm_rank(c) == 1) error_end(74);
    int cores = comm_cores();
    if (strcmp(mode, "bound") == 0 || strcmp(mode, "shared") == 0) {
        cpu_set_t have, one;
        sched_getaffinity(0, sizeof have, &have);
        CPU_ZERO(&one);
        for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
            if (CPU_ISSET(i, &have)) CPU_SET(i, &one);
        sched_setaffinity(0, sizeof one, &one);
    }
    comm_check_binding(c, strcmp(mode, "bound") == 0  ? 2
                          : strcmp(mode, "many") == 0 ? cores + 1
                          : strcmp(mode, "free") == 0 ? cores
                                                      : 1);
    comm_agree(c, 0);
    comm_close(&c);
    return 0;
}

/* Scratch of the gradients' sums: it does not grow with the ranks. */
static void test_exchange_scratch(void **state) {
    assert_true(exchange_bytes(1) == 0);
    for (int ranks = 2; ranks <= 4096; ranks++) assert_true(exchange_bytes(ranks) == 16 << 20);
}

/* Shares of vectors that follow each other: each is a partition, and no rank owns more than a block
 * more than another. */
static void test_exchange_shares(void **state) {
    static const int64_t n[] = {3, 3000000, 16384, 16385, 1234567, 40000};
    for (int size = 1; size <= 100; size++) {
        int64_t owned[100] = {0}, first = 0;
        for (size_t k = 0; k < sizeof n / sizeof *n; k++) {
            int64_t at = 0;
            for (int i = 0; i < size; i++) { /* in the order of the shares */
                int64_t begin, end;
                const int place = (int)((first + i) % size);
                exchange_share(n[k], first, place, size, &begin, &end);
                if (begin == end) continue;
                assert_int_equal(begin, at);
                at = end;
                owned[place] += (end - begin + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK;
            }
            assert_int_equal(at, n[k]);
            first += (n[k] + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK;
        }
        int64_t least = owned[0], most = owned[0];
        for (int p = 1; p < size; p++) {
            if (owned[p] < least) least = owned[p];
            if (owned[p] > most) most = owned[p];
        }
        assert_true(most - least <= 1);
    }
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc > 1) return child(argv[1], &argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank),          cmocka_unit_test(test_share),
        cmocka_unit_test(test_srun_without_pmix), cmocka_unit_test(test_exit_status_arrives),
        cmocka_unit_test(test_binding_warning),   cmocka_unit_test(test_exchange_scratch),
        cmocka_unit_test(test_exchange_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
