/* test_error.c: messages, exit codes, how a job ends, and what the log prints on which rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "tests/base/scratch.h"

#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <sys/wait.h>

static void test_messages(void **unused) {
    assert_int_equal(error_set(ERR_DATA, "%s:%d: bad", "a.txt", 3), ERR_DATA);
    assert_string_equal(error_message(), "a.txt:3: bad");
    /* the old message may be an argument of the new one */
    assert_int_equal(error_set(ERR_IO, "saving: %s", error_message()), ERR_IO);
    assert_string_equal(error_message(), "saving: a.txt:3: bad");
    assert_int_equal(error_wrap(ERR_CONFIG, "step %d", 7), ERR_CONFIG);
    assert_string_equal(error_message(), "step 7: saving: a.txt:3: bad");
    char *longest = xmalloc(100001);
    memset(longest, 'x', 100000);
    longest[100000] = '\0';
    error_set(ERR_DATA, "%s", longest);
    assert_in_range(strlen(error_message()), 1000, 100000);
    error_wrap(ERR_DATA, "%s", longest);
    error_wrap(ERR_DATA, "context");
    assert_memory_equal(error_message(), "context: xxx", 12);
    free(longest);
}

static void *other_thread(void *seen) {
    *(bool *)seen = error_message()[0] == '\0';
    error_set(ERR_DATA, "of the other thread");
    return NULL;
}

static void test_threads(void **unused) {
    pthread_t t;
    bool empty = false;
    error_set(ERR_DATA, "of this thread");
    assert_int_equal(pthread_create(&t, NULL, other_thread, &empty), 0);
    pthread_join(t, NULL);
    assert_true(empty);
    assert_string_equal(error_message(), "of this thread");
}

static void test_codes(void **unused) {
    static const struct {
        int code, status;
    } all[] = {{ERR_USAGE, 64}, {ERR_DATA, 65},   {ERR_INTERNAL, 70}, {ERR_MEMORY, 70},
               {ERR_IO, 74},    {ERR_CONFIG, 78}, {ERR_REQUEUE, 75}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_int_equal(error_exit_code(all[i].code), all[i].status);
    assert_int_equal(error_exit_code(0), 0);
    assert_int_equal(error_exit_code(5), 0);
    assert_int_equal(error_exit_code(-999), 70);
}

/* Runs fn in a child; its exit status, and what it wrote to stderr. */
static int in_child(void (*fn)(void), char *text, size_t room) {
    int fds[2], status = 0;
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        fn();
        _exit(0);
    }
    close(fds[1]);
    size_t n = 0;
    ssize_t got;
    while (n + 1 < room && (got = read(fds[0], text + n, room - 1 - n)) > 0) n += (size_t)got;
    text[n] = '\0';
    close(fds[0]);
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int three = 3;
static void hook(int status) { _exit(status + 1); }
static void fail_check(void) {
    log_rank(5);
    CHECK(three == 4, "three is %d", three);
}
static void fail_with_hook(void) {
    error_end_hook = hook;
    CHECK(three == 4, "three is %d", three);
}
static void pass_check(void) { CHECK(three == 3, "three is %d", three); }
static void no_memory(void) {
    volatile size_t huge = (size_t)1 << 60;
    free(xmalloc(huge));
}
static void no_memory_twice(void) {
    volatile size_t n = (size_t)1 << 40; /* the product overflows */
    free(xcalloc(n, n));
}
static void no_memory_aligned(void) {
    volatile size_t huge = SIZE_MAX;
    free(xaligned(64, huge));
}

static void test_ends(void **unused) {
    char text[4096];
    assert_int_equal(in_child(fail_check, text, sizeof text), 70);
    assert_non_null(strstr(text, "rhetor: internal error: rank 5: "));
    assert_non_null(strstr(text, "test_error.c:"));
    assert_non_null(strstr(text, "three == 4: three is 3\n"));
    assert_non_null(strstr(text, "please report it"));
    assert_int_equal(in_child(fail_with_hook, text, sizeof text), 71);
    assert_int_equal(in_child(pass_check, text, sizeof text), 0);
    assert_string_equal(text, "");
#ifndef __SANITIZE_ADDRESS__ /* which ends the program itself */
    assert_int_equal(in_child(no_memory, text, sizeof text), 70);
    assert_non_null(strstr(text, "out of memory: rank 0 asked for 1099511627776.0 MiB"));
    assert_int_equal(in_child(no_memory_twice, text, sizeof text), 70);
    assert_non_null(strstr(text, "1099511627776 x 1099511627776 bytes"));
    assert_int_equal(in_child(no_memory_aligned, text, sizeof text), 70);
    assert_non_null(strstr(text, "out of memory: rank 0 asked for "));
#else
    (void)no_memory, (void)no_memory_twice, (void)no_memory_aligned;
#endif
}

static char *log_path;

static void talk(void) {
    if (log_file(log_path) < 0) _exit(9);
    log_info("loss %.1f", 2.5);
    log_warn("careful");
    for (int i = 0; i < 5; i++) log_progress(i == 0, false, "step %d", i);
    log_progress(true, true, "step 5");
    log_close();
    log_info("after");
}
static void talk_as_rank_2(void) {
    log_rank(2);
    talk();
}

static void test_log(void **unused) {
    char text[4096], *file = NULL;
    size_t n;
    log_path = scratch("log.txt");
    assert_int_equal(in_child(talk, text, sizeof text), 0);
    /* no terminal: the plain ones of the progress lines */
    assert_string_equal(text, "loss 2.5\nwarning: careful\nstep 0\nstep 5\nafter\n");
    OK(file_read(log_path, &file, &n));
    int lines = 0;
    for (char *line = strtok(file, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        static const char *want[] = {"loss 2.5", "warning: careful", "step 0", "step 5"};
        int y, mo, d, h, mi, s, at = 0;
        assert_int_equal(sscanf(line, "%d-%d-%d %d:%d:%d %n", &y, &mo, &d, &h, &mi, &s, &at), 6);
        assert_string_equal(line + at, want[lines]);
    }
    assert_int_equal(lines, 4);
    free(file);
    unlink(log_path);
    assert_int_equal(in_child(talk_as_rank_2, text, sizeof text), 0);
    assert_string_equal(text, "rank 2: warning: careful\n");
    assert_false(file_exists(log_path));
    free(log_path);
    FAILS(log_file("/nonexistent/log.txt"), ERR_IO, "/nonexistent/log.txt", "No such file");
}

/* What a terminal of the kind TERM and 20 columns gets. */
static void on_terminal(const char *term, char *text, size_t room) {
    int master, slave, status;
    struct winsize size = {.ws_row = 10, .ws_col = 20};
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(slave, STDERR_FILENO);
        setenv("TERM", term, 1);
        log_redraw_s = 3600;
        log_progress(false, false, "step 0");
        log_progress(false, false, "step 1"); /* too soon after the other */
        log_info("hello");
        log_redraw_s = 0;
        log_progress(true, false, "step 2 and much more than 20 columns");
        log_progress(false, false, "step 2  eta 1:00  loss 2.5");
        log_progress(false, false, "é 2  23456789 12345");
        log_progress(false, false, "é 2  23456789 123456");
        log_progress(true, true, "step 3");
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    close(slave);
    size_t n = 0;
    ssize_t got;
    while ((got = read(master, text + n, room - 1 - n)) > 0) n += (size_t)got;
    text[n] = '\0';
    close(master);
}

/* On a terminal the live line is drawn over itself, wiped for other lines, cut to the width at the
 * end of a field; a dumb one gets the plain lines. */
static void test_live_line(void **unused) {
    char text[1000];
    on_terminal("xterm", text, sizeof text);
    assert_string_equal(text, "step 0\r\033[Khello\r\nstep 2 and much mor\r\033[Kstep 2  eta 1:00"
                              "\r\033[Ké 2  23456789 12345\r\033[Ké 2\r\033[Kstep 3\r\n");
    on_terminal("dumb", text, sizeof text);
    assert_string_equal(text, "hello\r\nstep 2 and much more than 20 columns\r\nstep 3\r\n");
}

static int divide(int a, int b, int *out) {
    if (b == 0) return error_set(ERR_DATA, "division of %d by zero", a);
    *out = a / b;
    return 0;
}
static int try_it(int b) {
    int out;
    TRY(divide(6, b, &out));
    return out;
}
static int try_goto(int b, int *cleaned) {
    int rc, out = 0;
    TRY_GOTO(done, divide(6, b, &out));
    rc = out;
done:
    ++*cleaned;
    return rc;
}

static void test_try(void **unused) {
    int cleaned = 0;
    assert_int_equal(try_it(2), 3);
    assert_int_equal(try_it(0), ERR_DATA);
    assert_int_equal(try_goto(3, &cleaned), 2);
    assert_int_equal(try_goto(0, &cleaned), ERR_DATA);
    assert_int_equal(cleaned, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_codes),    cmocka_unit_test(test_ends),
        cmocka_unit_test(test_log),      cmocka_unit_test(test_live_line),
        cmocka_unit_test(test_try)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
