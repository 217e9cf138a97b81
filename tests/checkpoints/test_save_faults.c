/* A save that is killed or that cannot write. Each save runs in a process of its own (RHETOR_FAULT
 * is read once, and a kill must not end the test). The parent never saves and never starts
 * threads. */
#include "tests/checkpoints/sample.h"

#include <omp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

static Comm *comm;
static char dir[1024];

static const char *const points[] = {
    "ckpt_save.begin",   "ckpt_save.array:*:1", "ckpt_save.array:*:4", "ckpt_save.array:*:7",
    "ckpt_save.window",  "ckpt_save.written",   "ckpt_save.verify",    "ckpt_save.verified",
    "ckpt_save.renamed", "ckpt_save.committed"};
enum { NPOINTS = sizeof points / sizeof points[0] };

/* Saves in a child; its wait status. Exit status 0, or 100 - code. */
static int save_in_child(int64_t step, int variant, const char *fault, rlim_t limit) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(STDERR_FILENO);
        if (fault) setenv("RHETOR_FAULT", fault, 1);
        if (limit) {
            signal(SIGXFSZ, SIG_IGN); /* as signals_install() does */
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
        }
        int rc = sample_save(dir, step, variant, comm);
        if (rc == 0) _exit(0);
        _exit(error_message()[0] ? 100 - rc : 99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void save_well(int64_t step, int variant) {
    int status = save_in_child(step, variant, NULL, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Step of the newest good one, whose content is right; -1: none. */
static int64_t newest(int *variant) {
    Ckpt *k;
    if (ckpt_open_newest(&k, dir, comm) < 0) fail_msg("%s", error_message());
    if (!k) return -1;
    int64_t step = ckpt_step(k);
    int v = sample_check(k);
    if (variant) *variant = v;
    ckpt_close(&k);
    return step;
}

static void test_kill_at_each_point(void **state) {
    for (int i = 0; i < NPOINTS; i++) {
        char fault[64];
        snprintf(fault, sizeof fault, "%s:kill", points[i]);
        bool committed = strstr(points[i], "committed") != NULL;
        save_well(1, 0);
        int status = save_in_child(2, 1, fault, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(newest(NULL), committed ? 2 : 1);
        assert_int_equal(count_files(dir, ".tmp."), 0); /* opening removed it */
        /* and the run goes on from there */
        save_well(2, 1);
        save_well(3, 0);
        assert_int_equal(newest(NULL), 3);
        empty_dir(dir);

        /* the first save of a run: all or nothing */
        status = save_in_child(1, 0, fault, 0);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(newest(NULL), committed ? 1 : -1);
        empty_dir(dir);
    }
}

/* The only checkpoint is step 4; it is saved again with other content. It must never be lost. */
static void test_kill_while_saving_a_step_again(void **state) {
    for (int i = 0; i < NPOINTS; i++) {
        char fault[64];
        snprintf(fault, sizeof fault, "%s:kill", points[i]);
        int variant;
        save_well(4, 0);
        int status = save_in_child(4, 1, fault, 0);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(newest(&variant), 4);
        assert_int_equal(variant, strstr(points[i], "committed") != NULL);
        /* killed once more on the way, at the worst place */
        status = save_in_child(4, 2, "ckpt_save.renamed:kill", 0);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(newest(&variant), 4);
        assert_int_equal(variant, strstr(points[i], "committed") != NULL);
        save_well(4, 3);
        assert_int_equal(newest(&variant), 4);
        assert_int_equal(variant, 3);
        assert_int_equal(ckpt_rotate(dir, -1, 1, NULL, 0, comm), 0);
        assert_int_equal(count_files(dir, ""), 2);
        empty_dir(dir);
    }
}

/* A child saves step after step; the parent kills it at a random moment. What the child reported as
 * saved is there. */
static void test_kill_at_random(void **state) {
    int64_t first = 1;
    for (int round = 0; round < 25; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(STDERR_FILENO);
            close(pipes[0]);
            for (int64_t step = first;; step++) {
                if (sample_save(dir, step, (int)(step % 2), comm) < 0) _exit(1);
                if (write(pipes[1], &step, sizeof step) != sizeof step) _exit(2);
                if (step % 3 == 0) ckpt_rotate(dir, -1, 2, NULL, 0, comm);
            }
        }
        close(pipes[1]);
        int64_t saved = -1, step;
        uint64_t x = sample_bits(round, 7, 0);
        if (round > 0 || x % 2)
            assert_int_equal(read(pipes[0], &saved, sizeof saved), sizeof saved);
        usleep((unsigned)(x % 9000));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        while (read(pipes[0], &step, sizeof step) == sizeof step) saved = step;
        close(pipes[0]);
        int64_t found = newest(NULL);
        if (found != saved && found != saved + 1)
            fail_msg("round %d: saved %lld, found %lld", round, (long long)saved, (long long)found);
        if (found > 0) first = found + 1;
    }
    assert_true(first > 10);
    empty_dir(dir);
}

/* The disk is full at any point: an error, the last one intact, nothing left behind, and the next
 * save succeeds. */
static void test_disk_full_at_each_point(void **state) {
    for (int i = 0; i < NPOINTS; i++) {
        if (strstr(points[i], "committed")) continue;
        for (int again = 0; again < 2; again++) {
            char fault[64];
            snprintf(fault, sizeof fault, "%s:enospc", points[i]);
            save_well(1, 0);
            int64_t step = again ? 1 : 2;
            int variant, status = save_in_child(step, 1, fault, 0);
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 100 - ERR_IO);
            assert_int_equal(count_files(dir, ""), 2);
            assert_int_equal(newest(&variant), 1);
            assert_int_equal(variant, 0);
            save_well(step, 1);
            assert_int_equal(newest(&variant), step);
            assert_int_equal(variant, 1);
            empty_dir(dir);
        }
    }
}

/* Real failing writes: the process may not write files longer than the limit, and the sample is
 * longer than all of these. */
static void test_file_size_limit(void **state) {
    for (int compress = 0; compress < 2; compress++)
        for (rlim_t limit = 100; limit < 100000; limit = limit * 2 + 1000) {
            save_well(1, 0);
            int status = save_in_child(2, compress ? 2 : 1, NULL, limit);
            if (!WIFEXITED(status)) fail_msg("limit %lld: crashed", (long long)limit);
            assert_int_equal(WEXITSTATUS(status), 100 - ERR_IO);
            assert_int_equal(count_files(dir, ""), 2);
            assert_int_equal(newest(NULL), 1);
            empty_dir(dir);
        }
}

/* Refused before anything is written, with both numbers; the array is never touched. */
static void test_free_space(void **state) {
    char text[512];
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        Sample *s = sample_make(1, 0);
        s->arrays[0].shape[0] = (int64_t)1 << 48;
        int rc = ckpt_save(dir, &s->content, comm);
        const char *m = error_message();
        if (rc != ERR_IO || write(pipes[1], m, strlen(m) + 1) < 0) _exit(1);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(read(pipes[0], text, sizeof text) > 0);
    close(pipes[0]);
    close(pipes[1]);
    assert_non_null(strstr(text, "MB free, a checkpoint needs up to"));
    assert_int_equal(count_files(dir, ""), 0);
}

int main(void) {
    omp_set_num_threads(1); /* threads do not survive a fork */
    comm_open_alone(&comm);
    temp_dir(dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_at_each_point),
        cmocka_unit_test(test_kill_while_saving_a_step_again),
        cmocka_unit_test(test_kill_at_random),
        cmocka_unit_test(test_disk_full_at_each_point),
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_free_space),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_dir(dir);
    comm_close(&comm);
    return failed;
}
