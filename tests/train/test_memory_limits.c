/* What there is: /proc/meminfo, cgroups of both versions in a folder made up here, ulimit; and what
 * is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "train/memory.h"
#include "train/run_impl.h"

static const double kib = 1024, mib = 1024 * 1024;

/* A file below the scratch folder with the folders it needs. */
static void put(const char *path, const char *text) {
    char *full = scratch(path), *folder = xstrdup(full);
    folder[file_basename(folder) - folder] = '\0';
    OK(file_make_dirs(folder));
    scratch_text(full, text);
    free(full);
    free(folder);
}

static MemoryLimit limit[MEMORY_LIMITS];
static MemoryGroups groups;

static const MemoryLimit *least(int want) {
    const int n = memory_limits(scratch_folder, limit, &groups);
    assert_int_equal(n, want);
    return n ? &limit[memory_least(limit, n)] : NULL;
}

static int begin(void **state) {
    assert_int_equal(scratch_make(NULL), 0);
    return 0;
}
static int end(void **state) {
    char *command = xasprintf("rm -rf '%s'", scratch_folder);
    int rc = system(command);
    free(command);
    free(scratch_folder);
    return rc;
}

static void test_nothing_known(void **state) {
    least(0);
    assert_int_equal(memory_least(limit, 0), -1);
    put("proc/meminfo", "MemTotal: 100 kB\n"); /* an old kernel */
    put("proc/self/cgroup", "nonsense\n0::\n1:memory\n");
    put("proc/self/statm", "x");
    least(0);
}

static void test_node(void **state) {
    put("proc/meminfo", "MemTotal:  9000 kB\nMemFree:  1 kB\nMemAvailable:    4000 kB\n");
    const MemoryLimit *l = least(1);
    assert_true(l->kind == LIMIT_NODE && l->bytes == 4000 * kib);
    put("proc/meminfo", "MemAvailable: 4000 kB\nSwapTotal: 900 kB\nSwapFree:  500 kB\n");
    assert_true(least(1)->bytes == 4500 * kib); /* it would run */
}

/* The limit may be that of any folder above; the page cache of a cgroup is free. */
static void test_version_2(void **state) {
    put("proc/meminfo", "MemAvailable: 4000000 kB\n");
    put("proc/self/cgroup", "0::/slurm/job_7/step_0/task_1\n");
    put("sys/fs/cgroup/slurm/job_7/step_0/task_1/memory.max", "max\n");
    put("sys/fs/cgroup/slurm/job_7/step_0/task_1/memory.current", "1000\n");
    put("sys/fs/cgroup/slurm/job_7/memory.max", "1048576000\n"); /* 1000 MiB */
    put("sys/fs/cgroup/slurm/job_7/memory.current", "629145600\n");
    const MemoryLimit *l = least(2);
    assert_true(l->bytes == 400 * mib);
    assert_int_equal(l->kind, LIMIT_CGROUP);
    assert_string_equal(l->folder, "/slurm/job_7");
    assert_string_equal(l->what, "memory.max of /sys/fs/cgroup/slurm/job_7 (1000 MiB)");
    put("sys/fs/cgroup/slurm/job_7/memory.stat",
        "anon 5\nfile 900\ninactive_file 104857600\nactive_file 52428800\nshmem 7\n"
        "slab_reclaimable 52428800\nworkingset_refault_file 99999999\n");
    assert_true(least(2)->bytes == 600 * mib);
    /* Swap: as much as both the node and the cgroup have. */
    put("proc/meminfo", "MemAvailable: 4000000 kB\nSwapFree: 204800 kB\n");
    assert_true(least(2)->bytes == 800 * mib);
    put("sys/fs/cgroup/slurm/job_7/memory.swap.max", "52428800\n");
    put("sys/fs/cgroup/slurm/job_7/memory.swap.current", "20971520\n");
    assert_true(least(2)->bytes == 630 * mib);
    put("proc/meminfo", "MemAvailable: 100 kB\n"); /* the node may have less */
    assert_true(least(2)->kind == LIMIT_NODE);
    put("sys/fs/cgroup/slurm/job_7/memory.current", "1258291200\n"); /* over its limit */
    put("sys/fs/cgroup/slurm/job_7/memory.stat", "");
    assert_true(least(2)->bytes == 0);
    put("sys/fs/cgroup/slurm/job_7/memory.max", "max\n");
}

/* As in a container: the folder is that of the host, what is seen is the container's own. */
static void test_version_1(void **state) {
    put("proc/meminfo", "MemAvailable: 4000000 kB\n");
    put("proc/self/cgroup", "9:name=systemd:/docker/c0ffee\n4:cpu,memory:/docker/c0ffee\n0::/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "524288000\n");
    put("sys/fs/cgroup/memory/memory.stat",
        "inactive_file 3\ntotal_inactive_file 104857600\ntotal_active_file 0\n");
    const MemoryLimit *l = least(2);
    assert_true(l->kind == LIMIT_CGROUP && l->bytes == 600 * mib);
    assert_string_equal(l->folder, "");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    least(1);
}

/* Who shares: everybody below the folder, and only they. */
static void test_shared(void **state) {
    MemoryLimit l = {.kind = LIMIT_CGROUP, .version = 2, .folder = "/job_7"};
    MemoryGroups g = {.folder = {[2] = "/job_7/step_0", [1] = "/job_7"}};
    assert_true(memory_shared(&l, &g));
    strcpy(g.folder[2], "/job_7");
    assert_true(memory_shared(&l, &g));
    strcpy(g.folder[2], "/job_70");
    assert_false(memory_shared(&l, &g));
    strcpy(l.folder, "");
    assert_true(memory_shared(&l, &g));
    l.kind = LIMIT_NODE;
    assert_true(memory_shared(&l, &g));
    l.kind = LIMIT_PROCESS;
    assert_false(memory_shared(&l, &g));
}

/* A gibibyte more than there is now, for this process. */
static void test_own_limits(void **state) {
    static const int which[] = {RLIMIT_AS, RLIMIT_DATA};
    for (int i = 0; i < 2; i++) {
        struct rlimit was, now;
        long long column[6];
        FILE *f = fopen("/proc/self/statm", "r");
        assert_non_null(f);
        for (int k = 0; k < 6; k++) assert_int_equal(fscanf(f, "%lld", &column[k]), 1);
        fclose(f);
        assert_int_equal(getrlimit(which[i], &was), 0);
        now = was;
        now.rlim_cur = (rlim_t)column[i ? 5 : 0] * (rlim_t)sysconf(_SC_PAGESIZE) + (1 << 30);
        assert_int_equal(setrlimit(which[i], &now), 0);
        const int n = memory_limits("", limit, &groups);
        assert_int_equal(setrlimit(which[i], &was), 0);
        double found = -1;
        for (int k = 0; k < n; k++)
            if (limit[k].kind == LIMIT_PROCESS && strstr(limit[k].what, i ? "-d" : "-v"))
                found = limit[k].bytes;
        if (fabs(found - (1 << 30)) > 64 * mib) fail_msg("%g of %d", found, 1 << 30);
    }
}

/* A run on this machine: never refused what is surely there, always what no machine has. */
static void test_check(void **state) {
    RunPriv priv = {0};
    Run run = {.main_rank = true, .priv = &priv};
    OK(comm_open_alone(&run.comm));
    GptConfig g = {
        .vocab = 512, .context = 64, .layers = 2, .heads = 4, .width = 64, .norm_eps = 1e-5};
    PlanWork w = {.stage = STAGE_PRETRAIN,
                  .items = 16,
                  .sequences = 1,
                  .length = 64,
                  .micro_tokens = 8192,
                  .virtual_ranks = 4};
    plan_net(&w, &g, step_lm, NULL);
    OK(memory_check(&run, &w));
    w.net[0].cfg.width = 1 << 20;
    w.net[0].cfg.layers = 4096;
    const int n = memory_limits("", limit, &groups); /* a container may have less than the node */
    FAILS(memory_check(&run, &w), ERR_CONFIG, "memory does not suffice: 1 rank on",
          limit[memory_least(limit, n)].what);
    w.net[0].cfg.heads = 3;
    FAILS(memory_check(&run, &w), ERR_CONFIG, "model.width", "multiple of model.heads");
    comm_close(&run.comm);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_known), TEST(test_node),       TEST(test_version_2), TEST(test_version_1),
        TEST(test_shared),        TEST(test_own_limits), TEST(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
