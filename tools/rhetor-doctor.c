/* rhetor-doctor: will this node, this allocation, this file system do? One screen, a line each: ok,
 * warns or FAILS with what to do. Nothing is changed but for a small folder that is removed again.
 *
 *     rhetor-doctor                                   this node, this folder
 *     mpirun -n N rhetor-doctor --dir runs            the ranks of an allocation, where runs will lie
 *     rhetor-doctor configs/demo --dir runs           and is there room for that recipe's checkpoints?
 *     rhetor-submit configs/demo --doctor             as a job, before the recipe's */
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/openmp.h"
#include "base/option.h"
#include "base/process.h"
#include "base/text.h"
#include "core/kernel.h"
#include "dist/exchange.h"
#include "pipeline/request.h"
#include "plan/forecast.h"
#include "train/memory.h"

static const double gib = 1024.0 * 1024 * 1024;

typedef struct Args {
    const char *dir, *recipe;
} Args;

static int take_recipe(void *args, const Option *o, char *arg) {
    Args *a = args;
    if (a->recipe) return error_set(ERR_USAGE, "%s: one recipe is enough", arg);
    a->recipe = arg;
    return 0;
}

static const Option options[] = {
    {"dir", 0, "DIR", "folder in which runs will lie (.)", OPT_TEXT(dir)},
    {NULL, 0, "[RECIPE]", NULL, OPT_CALL(take_recipe)},
    {0}};

/* What a rank tells rank 0. */
typedef struct RankFacts {
    char host[64], version[32], limit[96]; /* limit: what bounds the memory */
    int level, cores, threads, online, numa, runtimes;
    double memory, clock;
} RankFacts;

/* --- the screen ------------------------------------------------------------------------------- */

enum { OK, WARNS, FAILS };
static int worst;

static void say(int how, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(int how, const char *what, const char *fmt, ...) {
    static const char *const word[] = {"ok", "warns", "FAILS"};
    va_list ap;
    if (log_my_rank() != 0) return;
    if (how > worst) worst = how;
    printf("%-6s %-12s ", word[how], what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
}

/* --- a rank's facts --------------------------------------------------------------------------- */

static int count_numa(void) {
    int n = 0;
    char path[64];
    do snprintf(path, sizeof path, "/sys/devices/system/node/node%d", n);
    while (file_exists(path) && ++n);
    return n > 0 ? n : 1;
}

/* OpenMP runtimes in this process: two of them would each start their threads. */
static int count_runtimes(void) {
    static const char *const names[] = {"/libgomp", "/libomp.", "/libomp5", "/libiomp5"};
    AUTOFREE char *text = NULL;
    size_t len;
    int n = 0;
    if (file_read("/proc/self/maps", &text, &len) < 0) return 1;
    for (int i = 0; i < 4; i++) n += strstr(text, names[i]) != NULL;
    return n;
}

static RankFacts facts_of_me(void) {
    RankFacts f = {.level = (int)kernel_level,
                   .cores = comm_cores(),
                   .threads = omp_get_max_threads(),
                   .online = (int)sysconf(_SC_NPROCESSORS_ONLN),
                   .numa = count_numa(),
                   .runtimes = count_runtimes()};
    MemoryLimit limit[MEMORY_LIMITS];
    MemoryGroups groups;
    struct timespec now;
    gethostname(f.host, sizeof f.host - 1);
    snprintf(f.version, sizeof f.version, "%s", RHETOR_VERSION);
    const int n = memory_limits("", limit, &groups);
    if (n > 0) {
        const MemoryLimit *l = &limit[memory_least(limit, n)];
        f.memory = l->bytes;
        snprintf(f.limit, sizeof f.limit, "%.90s", l->what);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    f.clock = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return f;
}

/* --- the checks ------------------------------------------------------------------------------- */

static void check_programs(const RankFacts *f, int ranks) {
    const RankFacts *weak = f, *strong = f, *other = f, *twice = f;
    for (int r = 1; r < ranks; r++) {
        if (f[r].level < weak->level) weak = &f[r];
        if (f[r].level > strong->level) strong = &f[r];
        if (strcmp(f[r].version, f->version) != 0) other = &f[r];
        if (f[r].runtimes > twice->runtimes) twice = &f[r];
    }
    if (other != f)
        say(FAILS, "version", "%s on %s, %s on %s: install one version on all nodes", f->version,
            f->host, other->version, other->host);
    else
        say(OK, "version", "rhetor %s", f->version);
    if (weak->level != strong->level)
        say(WARNS, "kernels", "%s has %s, %s only %s: all ranks will use these", strong->host,
            kernel_name((KernelLevel)strong->level), weak->host,
            kernel_name((KernelLevel)weak->level));
    else if (weak->level == KERNEL_PLAIN)
        say(WARNS, "kernels", "plain C, a tenth of the speed; unset RHETOR_KERNEL");
    else
        say(OK, "kernels", "%s", kernel_text());
    if (twice->runtimes > 1)
        say(WARNS, "OpenMP",
            "%d runtimes in one process on %s: each starts threads of its own; "
            "link BLAS against the compiler's (docs/INSTALL.md)",
            twice->runtimes, twice->host);
    else
        say(OK, "OpenMP", "one runtime");
}

static void check_cores(Comm *c, const RankFacts *f) {
    const bool warned = comm_check_binding(c, f->threads); /* collective; it says what to do */
    say(warned ? WARNS : OK, "cores", "%d of the %d of %s for this rank's %d thread%s%s", f->cores,
        f->online, f->host, f->threads, TEXT_S(f->threads),
        warned ? ": see the warning above" : "");
    if (f->numa > 1 && f->cores > f->online / f->numa)
        say(WARNS, "NUMA",
            "%d domains, and a rank may run on several; one rank a domain is faster: "
            "mpirun --map-by numa:PE=%d, or srun --cpu-bind=cores",
            f->numa, f->online / f->numa);
    else
        say(OK, "NUMA", "%d domain%s", f->numa, TEXT_S(f->numa));
}

static int count_hosts(const RankFacts *f, int ranks) {
    int hosts = 0;
    for (int r = 0, q; r < ranks; r++) {
        for (q = 0; q < r && strcmp(f[q].host, f[r].host) != 0; q++) {
        }
        hosts += q == r;
    }
    return hosts;
}

/* Seconds of a sum of n elements, the shortest of five; of the slowest rank. */
static double sum_seconds(Comm *c, int64_t n) {
    AUTOFREE float *v = xcalloc((size_t)n, sizeof *v);
    Exchange *x;
    double best = HUGE_VAL;
    exchange_open(&x, c, sizeof *v);
    for (int i = 0; i < 6; i++) {
        double go = 0, t = clock_seconds();
        comm_max_f64(c, &go, 1);
        t = clock_seconds();
        exchange_wait(x, exchange_sum(x, v, n, 0, EXCHANGE_ALL, NULL));
        t = clock_seconds() - t;
        comm_max_f64(c, &t, 1);
        if (i > 0) best = fmin(best, t);
    }
    exchange_close(&x);
    return best;
}

static void check_messages(Comm *c, const RankFacts *f, int ranks) {
    const int hosts = count_hosts(f, ranks);
    if (ranks == 1) {
        say(OK, "ranks", "one (%s); mpirun -n N rhetor-doctor tests more", comm_library());
        return;
    }
    say(OK, "ranks", "%d on %d node%s by %s", ranks, hosts, TEXT_S(hosts), comm_library());
    if (hosts < ranks && comm_group(c) == 1)
        say(WARNS, "placement",
            "ranks of a node do not follow each other, or are odd in number, so "
            "none share memory: mpirun --map-by slot (srun -m block), powers of two");
    const int64_t n = 1 << 20;
    const double small = sum_seconds(c, 16), large = sum_seconds(c, n);
    const double rate = 2 * 4 * (double)n * (ranks - 1) / ranks / large;
    const bool slow = rate < 50e6 || small > 5e-3;
    say(slow ? WARNS : OK, "exchange", "%.0f us for a short sum, %.3g GB/s a rank for 4 MiB%s",
        small * 1e6, rate * 1e-9,
        !slow       ? ""
        : hosts > 1 ? ": slow; does MPI use the fast network? (ompi_info, UCX_NET_DEVICES, "
                      "--mca btl_tcp_if_include)"
                    : ": slow; are there more ranks than cores?");
}

static void check_memory(const RankFacts *f, int ranks) {
    const RankFacts *least = f;
    int there = 0;
    for (int r = 1; r < ranks; r++)
        if (f[r].memory < least->memory) least = &f[r];
    for (int r = 0; r < ranks; r++) there += strcmp(f[r].host, least->host) == 0;
    const double each = least->memory / there;
    say(each < gib / 4 ? WARNS : OK, "memory", "%.1f GiB for %d rank%s of %s (%s)%s",
        least->memory / gib, there, TEXT_S(there), least->host, least->limit,
        each < gib / 4 ? ": little; ask for more (--mem), or fewer ranks a node" : "");
}

static void check_limits(int ranks) {
    struct rlimit files = {0}, stack = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_STACK, &stack);
    const int64_t need = ranks + 128;
    const bool few = files.rlim_max < (rlim_t)need;
    say(few ? FAILS : OK, "open files", "%lld allowed, %" PRId64 " needed%s",
        files.rlim_max > INT32_MAX ? (long long)INT32_MAX : (long long)files.rlim_max, need,
        few ? "; raise ulimit -Hn (LimitNOFILE, limits.conf)" : "");
}

static void check_clocks(const RankFacts *f, int ranks) {
    double first = f->clock, last = f->clock;
    for (int r = 1; r < ranks; r++) {
        first = fmin(first, f[r].clock);
        last = fmax(last, f[r].clock);
    }
    const bool off = last - first > 30, past = first < 1.7e9;
    say(off || past ? WARNS : OK, "clock", "%.1f s apart%s", last - first,
        off    ? ": locks are judged by their age; run chrony or ntpd on all nodes"
        : past ? "; it is years behind: set it"
               : "");
}

/* Locks, fsync and what the other nodes see, in a folder of our own. */
static void check_folder(Comm *c, const char *dir) {
    AUTOFREE char *ours = xasprintf("%s/.rhetor-doctor", dir), *file = file_join(ours, "block");
    int rc = 0;
    double seconds = 0;
    if (comm_rank(c) == 0) {
        static char block[1 << 20];
        FileLock *lock = NULL;
        rc = file_make_dirs(ours);
        if (rc >= 0) rc = lock_take(&lock, ours);
        lock_drop(&lock);
        const double began = clock_seconds();
        for (int i = 0; i < 4 && rc >= 0; i++) rc = file_write_durable(file, block, sizeof block);
        seconds = (clock_seconds() - began) / 4;
    }
    AUTOFREE char *why = xstrdup(rc < 0 ? error_message() : "");
    rc = comm_agree(c, rc);
    double blind = 0;
    for (int i = 0; i < 20 && rc >= 0; i++) { /* a network's file system may take a while */
        blind = file_exists(file) ? 0 : 1;
        if (blind <= 0) break;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    comm_max_f64(c, &blind, 1);
    if (comm_rank(c) == 0) {
        AUTOFREE char *lock = file_join(ours, "lock");
        file_remove(file);
        file_remove(lock);
        rmdir(ours);
    }
    if (rc < 0)
        say(FAILS, "folder", "%s; choose another with --dir", why);
    else if (blind > 0)
        say(FAILS, "folder",
            "%s is not the same folder on all nodes: runs must lie on a file system "
            "that they share",
            dir);
    else
        say(seconds > 0.5 ? WARNS : OK, "folder", "locks and fsync in %s work, %.0f ms for a MiB%s",
            dir, seconds * 1e3, seconds > 0.5 ? ": saves will take long" : "");
}

/* Bytes that the checkpoints of a recipe's stages take, about: three of each with the moments. */
static int checkpoints_of(const char *recipe, double *bytes) {
    PlanStages s;
    const PlanGiven given = {.vocab = 32768}; /* where it is not known yet */
    AUTOFREE char *found = request_folder(recipe), *bin = process_folder();
    *bytes = 0;
    setenv("RUN", "runs/doctor", 0);
    setenv("DATA", ".", 0);
    setenv("SEED", "1", 0);
    setenv("RECIPE", found, 1);
    setenv("BIN", bin, 1);
    TRY(stages_load(&s, found, NULL, 0, &given));
    for (int i = 0; i < s.n; i++) *bytes += 3 * 12 * (double)plan_parameters(&s.v[i].work);
    stages_free(&s);
    return 0;
}

static void check_space(const char *dir, const char *recipe) {
    int64_t space = 0;
    double need = gib / 4;
    int rc = file_free_space(dir, &space);
    if (rc >= 0 && recipe) rc = checkpoints_of(recipe, &need);
    if (rc < 0)
        say(FAILS, "space", "%s", error_message());
    else
        say((double)space < need       ? FAILS
            : (double)space < 2 * need ? WARNS
                                       : OK,
            "space", "%.1f GiB free in %s%s%.*s%s", (double)space / gib, dir,
            recipe ? " for checkpoints of " : "", recipe ? 64 : 0, recipe ? recipe : "",
            (double)space < 2 * need ? "; make room, or save.keep_last=1, or another --dir" : "");
    if (recipe && rc >= 0) say(OK, "checkpoints", "%.2f GiB, three of each stage", need / gib);
}

static int examine(Comm *c, const Args *a) {
    const int ranks = comm_size(c);
    const RankFacts me = facts_of_me();
    AUTOFREE char *bytes = NULL;
    AUTOFREE size_t *at = xcalloc((size_t)ranks + 1, sizeof *at);
    comm_allgather_bytes(c, &me, sizeof me, &bytes, at);
    const RankFacts *f = (const RankFacts *)(void *)bytes;
    check_programs(f, ranks);
    check_cores(c, f);
    check_messages(c, f, ranks);
    check_memory(f, ranks);
    check_limits(ranks);
    check_clocks(f, ranks);
    check_folder(c, a->dir);
    check_space(a->dir, comm_rank(c) == 0 ? a->recipe : NULL);
    return worst;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {.dir = "."};
    log_rank(comm_launch_rank());
    option_parse(
        options, NULL,
        "Says whether this node, this allocation, this file system will do. Leaves with 78 "
        "where something fails.\v"
        "mpirun -n N --bind-to none rhetor-doctor --dir runs\n",
        argc, argv, &a);
    core_init();
    Comm *c = NULL;
    const int rc = comm_open(&c, &argc, &argv);
    if (rc < 0) {
        say(FAILS, "ranks", "%s", error_message());
        comm_open_alone(&c);
    }
    int found = examine(c, &a);
    double all = found;
    comm_max_f64(c, &all, 1);
    comm_close(&c);
    return all >= FAILS ? error_exit_code(ERR_CONFIG) : 0;
}
