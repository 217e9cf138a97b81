/* test_file.c: durable files and the lock of a run directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "tests/base/scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void expect(const char *path, const char *content) {
    char *text = NULL;
    size_t n = 0;
    OK(file_read(path, &text, &n));
    assert_int_equal(n, strlen(content));
    assert_string_equal(text, content);
    free(text);
}

static int count_files(void) {
    char **names = NULL;
    int n = 0;
    OK(file_list(scratch_folder, &names, &n));
    file_free_list(&names, n);
    assert_null(names);
    return n;
}

static void test_write_read(void **unused) {
    char *path = scratch("a"), *other = scratch("b"), *text = NULL;
    size_t n;
    OK(file_write_durable(path, "one", 3));
    expect(path, "one");
    OK(file_write_durable(path, "", 0));
    expect(path, "");
    OK(file_write_durable(path, "two\n", 4));
    assert_int_equal(file_size(path), 4);
    OK(file_append(path, "three\n", 6));
    expect(path, "two\nthree\n");
    OK(file_append(other, "new", 3));
    expect(other, "new");
    OK(file_rename_durable(path, other));
    expect(other, "two\nthree\n");
    assert_false(file_exists(path));
    assert_int_equal(file_size(path), -1);
    assert_int_equal(count_files(), 1);          /* no temporaries */
    OK(file_read("/proc/self/stat", &text, &n)); /* a file that says its size is 0 */
    assert_true(n > 20);
    free(text);
    OK(file_sync(other));
    OK(file_sync(scratch_folder));
    OK(file_remove(other));
    OK(file_remove(other));
    free(path);
    free(other);
}

static void test_errors(void **unused) {
    char *gone = scratch("gone"), *inside = scratch("gone/x"), *text = NULL;
    uint64_t hash;
    size_t n;
    char **names = NULL;
    int count;
    FAILS(file_read(gone, &text, &n), ERR_IO, gone, "No such file or directory; check the path");
    FAILS(file_read(scratch_folder, &text, &n), ERR_IO, scratch_folder,
          "Is a directory; name a file in it");
    FAILS(file_write_durable(inside, "x", 1), ERR_IO, inside, "No such file");
    FAILS(file_append(inside, "x", 1), ERR_IO, inside, "No such file");
    FAILS(file_rename_durable(gone, inside), ERR_IO, gone, "No such file");
    FAILS(file_hash(gone, &hash), ERR_IO, gone, "No such file");
    FAILS(file_sync(gone), ERR_IO, gone, "No such file");
    FAILS(file_list(gone, &names, &count), ERR_IO, gone, "No such file");
    FAILS(file_remove(scratch_folder), ERR_IO, scratch_folder, "remove");
    free(gone);
    free(inside);
}

/* A disk that fills up: the error says so, the old content stays, no half record is appended. */
static void test_full_disk(void **unused) {
    char *path = scratch("full");
    OK(file_write_durable(path, "old\n", 4));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        static char big[100000];
        struct rlimit small = {50000, RLIM_INFINITY};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &small);
        if (file_write_durable(path, big, sizeof big) != ERR_IO) _exit(1);
        if (!strstr(error_message(), "free space there (df, df -i)")) _exit(2);
        if (!strstr(error_message(), path)) _exit(3);
        if (file_append(path, big, sizeof big) != ERR_IO) _exit(4);
        if (!strstr(error_message(), "free space there")) _exit(5);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    expect(path, "old\n");
    assert_int_equal(count_files(), 1);
    OK(file_remove(path));
    free(path);
}

static void test_folders(void **unused) {
    char *deep = scratch("x/y/z"), *slash = scratch("x/y/z//w/"), *file = scratch("file");
    char *below = scratch("file/below"), **names = NULL;
    int n = 0;
    OK(file_make_dirs(deep));
    OK(file_make_dirs(deep));
    OK(file_make_dirs(slash));
    assert_true(file_is_dir(deep));
    assert_true(file_is_dir(slash));
    OK(file_write_durable(file, "", 0));
    assert_false(file_is_dir(file));
    FAILS(file_make_dirs(file), ERR_IO, file, "Not a directory");
    FAILS(file_make_dirs(below), ERR_IO, file, "Not a directory");
    /* neither root may: the reason is mkdir's, not that there is no such folder then */
    FAILS(file_make_dirs("/sys/rhetor/x"), ERR_IO, "/sys/rhetor: ", "check the permissions");
    char *b = file_join(deep, "b"), *a = file_join(deep, "a");
    OK(file_write_durable(b, "", 0));
    OK(file_write_durable(a, "", 0));
    OK(file_list(deep, &names, &n));
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "w");
    file_free_list(&names, n);
    int64_t free_here = 0, free_later = 0;
    OK(file_free_space(scratch_folder, &free_here));
    OK(file_free_space(below, &free_later)); /* not there yet */
    assert_true(free_here > 0 && free_later > 0);
    unlink(a);
    unlink(b);
    rmdir(slash);
    rmdir(deep);
    deep[strlen(deep) - 2] = '\0';
    rmdir(deep);
    char *all[] = {deep, slash, file, below, a, b};
    for (int i = 0; i < 6; i++) free(all[i]);
}

static void test_hashes(void **unused) {
    char *path = scratch("hash"), *big = xmalloc(3000000);
    for (int i = 0; i < 3000000; i++) big[i] = (char)(i * 31 >> 3);
    uint64_t h = 0;
    OK(file_write_durable(path, big, 3000000));
    OK(file_hash(path, &h));
    assert_true(h == hash_bytes(big, 3000000));
    big[1234567] ^= 1;
    assert_true(h != hash_bytes(big, 3000000));
    assert_true(hash_bytes("", 0) == 0x2D06800538D394C2ull); /* XXH3's published value */
    assert_true(hash_combine(1, 2) != hash_combine(2, 1));
    free(big);
    free(path);
}

static void test_names(void **unused) {
    assert_string_equal(file_basename("a/b/c.txt"), "c.txt");
    assert_string_equal(file_basename("c.txt"), "c.txt");
    static const char *cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (int i = 0; i < 4; i++) {
        char *p = file_join(cases[i][0], cases[i][1]);
        assert_string_equal(p, cases[i][2]);
        free(p);
    }
}

/* --- the lock --------------------------------------------------------------------------------- */
static void write_lock(const char *host, const char *job, long pid, unsigned long long started,
                       int age) {
    char *path = scratch("lock");
    char *text = xasprintf("host: %s\njob: %s\npid: %ld\nstarted: %llu\n", host, job, pid, started);
    OK(file_write_durable(path, text, strlen(text)));
    struct timespec t[2];
    clock_gettime(CLOCK_REALTIME, &t[0]);
    t[0].tv_sec -= age;
    t[1] = t[0];
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
    free(text);
    free(path);
}

static bool says(const char *path, const char *text) {
    char *all = NULL;
    size_t n;
    OK(file_read(path, &all, &n));
    const bool yes = strstr(all, text) != NULL;
    free(all);
    return yes;
}

/* This machine's boot and our pid namespace, as the lock has them. */
static char *place(void) {
    char *boot, space[128] = "";
    size_t len;
    OK(file_read("/proc/sys/kernel/random/boot_id", &boot, &len));
    assert_true(readlink("/proc/self/ns/pid", space, sizeof space - 1) > 0);
    char *line = xasprintf("boot %.36s, %s", boot, space);
    free(boot);
    return line;
}

static unsigned long long start_of(long pid) {
    char path[64], *text;
    size_t len;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    OK(file_read(path, &text, &len));
    char *p = strrchr(text, ')');
    for (int i = 0; i < 20; i++) p = strchr(p + 1, ' '); /* the 22nd field */
    const unsigned long long start = strtoull(p, NULL, 10);
    free(text);
    return start;
}

/* A process of the same number on a host of the same name, in another container or on another
 * machine: dead or alive here says nothing about it. */
static void test_lock_of_another_container(void **unused) {
    char host[200] = "", *here = place(), *path = scratch("lock");
    gethostname(host, sizeof host - 1);
    unsetenv("SLURM_JOB_ID");
    const char *const elsewhere[] = {"boot 11111111-2222-3333-4444-555555555555, pid:[1]",
                                     "boot unknown, "};
    for (int i = 0; i < 3; i++) {
        FileLock *l = NULL;
        const char *where = i == 2 ? here : elsewhere[i];
        char *with = xasprintf("none\npid: 99999999\nstarted: 5\nplace: %s\nx: ", where);
        write_lock(host, with, 1, 1, 60); /* that process does not exist here */
        if (i < 2) FAILS(lock_take(&l, scratch_folder), ERR_CONFIG, "process 99999999", "60 s");
        if (i == 2) OK(lock_take(&l, scratch_folder));
        lock_drop(&l);
        write_lock(host, with, 1, 1, 301);
        OK(lock_take(&l, scratch_folder));
        assert_true(says(path, here));
        lock_drop(&l);
        free(with);
    }
    free(path);
    free(here);
}

/* The owner is ending: who comes at once waits for it. */
static void test_lock_waits(void **unused) {
    const pid_t child = fork();
    if (child == 0) {
        usleep(300000);
        _exit(0);
    }
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    write_lock(host, "none", (long)child, start_of(child), 1);
    FileLock *l = NULL;
    FAILS(lock_take(&l, scratch_folder), ERR_CONFIG, "belongs to process", "stop that run");
    lock_wait_ms = 60000;
    OK(lock_take(&l, scratch_folder));
    lock_wait_ms = 0;
    lock_drop(&l);
    waitpid(child, NULL, 0);
}

/* The lock is taken away, the folder moved, another put in its place. */
static void test_lock_lost(void **unused) {
    char *dir = scratch("mine"), *moved = scratch("moved"), *path = file_join(dir, "lock");
    FileLock *l = NULL;
    lock_beat_ms = 5;
    OK(lock_check(NULL));
    OK(file_make_dirs(dir));
    OK(lock_take(&l, dir));
    OK(lock_check(l));
    assert_false(lock_lost(l));
    assert_int_equal(rename(dir, moved), 0);
    FAILS(lock_check(l), ERR_IO, dir, "deleted, moved or replaced");
    OK(file_make_dirs(dir));
    FAILS(lock_check(l), ERR_IO, dir, "deleted, moved or replaced");
    for (int i = 0; i < 12000 && !lock_lost(l); i++) usleep(5000);
    assert_true(lock_lost(l));
    rmdir(dir);
    assert_int_equal(rename(moved, dir), 0);
    OK(lock_check(l));
    OK(file_remove(path));
    FAILS(lock_check(l), ERR_CONFIG, path, "removed or taken by another run");
    lock_drop(&l);
    lock_beat_ms = 10000;
    free(path);
    free(moved);
    free(dir);
}

static void test_lock_lives(void **unused) {
    FileLock *l = NULL, *second = NULL;
    OK(lock_take(&l, scratch_folder));
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    FAILS(lock_take(&second, scratch_folder), ERR_CONFIG, pid, "choose another run.dir");
    assert_null(second);
    lock_drop(&l);
    lock_drop(&l);
    assert_null(l);
    OK(lock_take(&l, scratch_folder)); /* free again */
    lock_drop(&l);
    char *path = scratch("lock");
    assert_false(file_exists(path));
    free(path);
}

/* The owner does nothing, and the lock stays young; it does not touch another run's. */
static void test_lock_beats(void **unused) {
    FileLock *l = NULL;
    struct stat st;
    char *path = scratch("lock"), *log = scratch("log");
    const struct timespec old[2] = {{1000, 0}, {1000, 0}};
    lock_beat_ms = 5;
    OK(log_file(log));
    OK(lock_take(&l, scratch_folder));
    for (int beat = 0; beat < 2; beat++) {
        assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
        for (int i = 0; i < 12000 && (stat(path, &st), st.st_mtim.tv_sec == 1000); i++)
            usleep(5000);
        assert_true(st.st_mtim.tv_sec > 1000);
    }
    write_lock("elsewhere", "none", 77, 1, 1000);
    for (int i = 0; i < 12000 && !says(log, "taken by another run"); i++) usleep(5000);
    assert_true(says(log, "taken by another run"));
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    usleep(50000);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 1000);
    lock_drop(&l);
    assert_true(file_exists(path));
    lock_beat_ms = 10000;
    log_close();
    OK(file_remove(path));
    OK(file_remove(log));
    free(path);
    free(log);
}

static void test_lock_of_the_dead(void **unused) {
    FileLock *l = NULL;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    unsetenv("SLURM_JOB_ID");
    /* killed with -9, not even waited for: a zombie owns nothing */
    pid_t child = fork();
    if (child == 0) {
        FileLock *mine = NULL;
        _exit(lock_take(&mine, scratch_folder) < 0);
    }
    siginfo_t info;
    waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
    assert_int_equal(info.si_status, 0);
    OK(lock_take(&l, scratch_folder));
    lock_drop(&l);
    waitpid(child, NULL, 0);
    write_lock(host, "none", (long)getpid(), 1, 0); /* our pid, but a process of another time */
    OK(lock_take(&l, scratch_folder));
    lock_drop(&l);
    write_lock("elsewhere", "none", 77, 1, 301);
    OK(lock_take(&l, scratch_folder));
    lock_drop(&l);
    write_lock("elsewhere", "slurm 12.0", 77, 1, 60);
    FAILS(lock_take(&l, scratch_folder), ERR_CONFIG,
          "process 77 on host elsewhere (job slurm 12.0)", "stop that run");
    setenv("SLURM_JOB_ID", "12", 1);
    FAILS(lock_take(&l, scratch_folder), ERR_CONFIG, "host elsewhere", "60 s");
    setenv("SLURM_RESTART_COUNT", "1", 1); /* the same job, requeued on another host */
    assert_false(lock_held(scratch_folder, NULL));
    OK(lock_take(&l, scratch_folder));
    lock_drop(&l);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
    char who[256]; /* others do not count the lives of a job; rhetor-pipeline --job does */
    write_lock("elsewhere", "pbs 12.server.3", 77, 1, 60);
    setenv("PBS_JOBID", "12.server", 1);
    assert_true(lock_held(scratch_folder, who));
    assert_string_equal(who, "process 77 on host elsewhere (job pbs 12.server.3)");
    setenv("RHETOR_LIFE", "4", 1);
    assert_false(lock_held(scratch_folder, NULL));
    OK(lock_take(&l, scratch_folder));
    assert_true(lock_held(scratch_folder, NULL));
    lock_drop(&l);
    assert_false(lock_held(scratch_folder, NULL));
    write_lock("elsewhere", "pbs 1.server.3", 77, 1, 60); /* another job */
    FAILS(lock_take(&l, scratch_folder), ERR_CONFIG, "job pbs 1.server.3", "stop that run");
    unsetenv("PBS_JOBID");
    unsetenv("RHETOR_LIFE");
    char *path = scratch("lock");
    OK(file_write_durable(path, "garbage", 7));
    FAILS(lock_take(&l, scratch_folder), ERR_CONFIG, path, "unreadable lock");
    OK(file_remove(path));
    free(path);
}

/* Many processes at once on a stale lock: exactly one gets it, ten times. The winner holds it until
 * all others have given up. */
static void test_lock_race(void **unused) {
    enum { N = 8 };
    for (int round = 0; round < 10; round++) {
        int go[2], stop[2], won = 0;
        assert_int_equal(pipe(go), 0);
        assert_int_equal(pipe(stop), 0);
        write_lock("elsewhere", "none", 77, 1, 1000);
        fflush(NULL);
        for (int i = 0; i < N; i++)
            if (fork() == 0) {
                char c;
                FileLock *l = NULL;
                if (!freopen("/dev/null", "w", stderr)) _exit(9);
                close(go[1]);
                close(stop[1]);
                alarm(60);
                if (read(go[0], &c, 1) != 0) _exit(9); /* the parent closes it */
                int rc = lock_take(&l, scratch_folder);
                if (rc == 0 && read(stop[0], &c, 1) != 0) _exit(9);
                _exit(rc == 0 ? 1 : rc == ERR_CONFIG ? 0 : 9);
            }
        close(go[0]);
        close(go[1]);
        close(stop[0]);
        for (int i = 0; i < N; i++) {
            int status = 0;
            if (i == N - 1) close(stop[1]); /* one is left: the owner */
            wait(&status);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
            won += WEXITSTATUS(status);
        }
        assert_int_equal(won, 1);
        char *path = scratch("lock");
        OK(file_remove(path));
        free(path);
    }
}

static void test_glob(void **state) {
    static const char *const made[] = {"g2.txt", "g1.txt", "g*.txt", "h.txt"};
    char *path[4], *both = scratch("g[12].txt"), *none = scratch("q*"), **found;
    for (int i = 0; i < 4; i++) scratch_text(path[i] = scratch(made[i]), "x");
    int n;
    const char *names[] = {both, path[3], path[2], "not/there"};
    OK(file_glob(names, 4, &found, &n)); /* a file whose name looks like a pattern is that file */
    assert_int_equal(n, 5);
    assert_string_equal(found[0], path[1]);
    assert_string_equal(found[1], path[0]);
    assert_string_equal(found[2], path[3]);
    assert_string_equal(found[3], path[2]);
    assert_string_equal(found[4], "not/there");
    file_free_list(&found, n);
    FAILS(file_glob((const char *const *)&none, 1, &found, &n), ERR_IO, none, "no file matches");
    for (int i = 0; i < 4; i++) unlink(path[i]), free(path[i]);
    free(both), free(none);
}

int main(void) {
    lock_wait_ms = 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_write_read),
                                       cmocka_unit_test(test_errors),
                                       cmocka_unit_test(test_full_disk),
                                       cmocka_unit_test(test_folders),
                                       cmocka_unit_test(test_hashes),
                                       cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_glob),
                                       cmocka_unit_test(test_lock_lives),
                                       cmocka_unit_test(test_lock_of_another_container),
                                       cmocka_unit_test(test_lock_waits),
                                       cmocka_unit_test(test_lock_lost),
                                       cmocka_unit_test(test_lock_beats),
                                       cmocka_unit_test(test_lock_of_the_dead),
                                       cmocka_unit_test(test_lock_race)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
