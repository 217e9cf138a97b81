/* memory.c: what there is against what will be needed. See memory.h. */
#include "train/memory.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "dist/virtual.h"
#include "train/run_impl.h"

static const double mib = 1024.0 * 1024.0;

/* --- what there is ---------------------------------------------------------------------------- */

/* Text of a small file below root; NULL if it cannot be read. */
static char *text_of(const char *root, const char *path) {
    char *full = xasprintf("%s%s", root, path), *text = NULL;
    size_t len;
    if (file_read(full, &text, &len) < 0) text = NULL;
    free(full);
    return text;
}

/* The number behind `name`, which begins a line ("" the file's first); negative: none ("max"). */
static double number_in(const char *text, const char *name) {
    const size_t n = strlen(name);
    for (const char *line = text; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, name, n) == 0) {
            char *end;
            const double v = strtod(line + n, &end);
            return end > line + n ? v : -1;
        }
    return -1;
}
static double number_of(const char *root, const char *folder, const char *file) {
    char *path = xasprintf("%s/%s", folder, file), *text = text_of(root, path);
    const double v = number_in(text, "");
    free(text);
    free(path);
    return v;
}
static double above_0(double v) { return v > 0 ? v : 0; }

static MemoryLimit *add(MemoryLimit *v, int *n) {
    v[*n] = (MemoryLimit){0};
    return &v[(*n)++]; /* the callers leave room */
}

static void node_limit(const char *root, MemoryLimit *v, int *n, double *swap) {
    char *text = text_of(root, "/proc/meminfo");
    const double free_kib = number_in(text, "MemAvailable:");
    *swap = 1024 * above_0(number_in(text, "SwapFree:"));
    free(text);
    if (free_kib < 0) return;
    MemoryLimit *l = add(v, n);
    l->bytes = 1024 * free_kib + *swap;
    snprintf(l->what, sizeof l->what, "MemAvailable of /proc/meminfo");
}

static const struct {
    const char *mount, *limit, *used, *stat[3], *swap_limit, *swap_used;
} group_files[3] = {[1] = {"/sys/fs/cgroup/memory",
                           "memory.limit_in_bytes",
                           "memory.usage_in_bytes",
                           {"total_inactive_file ", "total_active_file ", "-"},
                           "",
                           ""},
                    [2] = {"/sys/fs/cgroup",
                           "memory.max",
                           "memory.current",
                           {"inactive_file ", "active_file ", "slab_reclaimable "},
                           "memory.swap.max",
                           "memory.swap.current"}};

static void group_limit(const char *root, int version, const char *folder, double swap,
                        MemoryLimit *v, int *n) {
    const char *mount = group_files[version].mount;
    AUTOFREE char *path = xasprintf("%s%s", mount, folder);
    const double limit = number_of(root, path, group_files[version].limit),
                 used = number_of(root, path, group_files[version].used);
    if (limit >= 0 && used >= 0 && limit < 0x1p60) { /* version 1 says "none" by a huge number */
        char *file = xasprintf("%s/memory.stat", path), *stat = text_of(root, file);
        double bytes = limit - used;
        for (int i = 0; i < 3; i++) bytes += above_0(number_in(stat, group_files[version].stat[i]));
        free(stat);
        free(file);
        const double most = number_of(root, path, group_files[version].swap_limit),
                     swapped = number_of(root, path, group_files[version].swap_used);
        bytes += most >= 0 && swapped >= 0 ? fmin(above_0(most - swapped), swap) : swap;
        MemoryLimit *l = add(v, n);
        l->bytes = fmin(above_0(bytes), limit + swap);
        l->kind = LIMIT_CGROUP;
        l->version = version;
        snprintf(l->folder, sizeof l->folder, "%s", folder);
        snprintf(l->what, sizeof l->what, "%s of %.560s (%.0f MiB)", group_files[version].limit,
                 path, limit / mib);
    }
}

/* /proc/self/cgroup: "0::/a/b" is version 2's, "4:cpu,memory:/a/b" version 1's. The folders may be
 * those outside of a container, whose own limit then is that of the outermost that it sees. */
static void group_limits(const char *root, double swap, MemoryLimit *v, int *n, MemoryGroups *g) {
    char *text = text_of(root, "/proc/self/cgroup"), *save;
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        char *kinds = strchr(line, ':'), *folder = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!folder || folder[1] != '/') continue;
        *folder++ = '\0';
        const int version = kinds[1] == '\0' ? 2 : strstr(kinds, "memory") ? 1 : 0;
        if (!version || strlen(folder) >= sizeof g->folder[0]) continue;
        if (strcmp(folder, "/") == 0) *folder = '\0';
        snprintf(g->folder[version], sizeof g->folder[version], "%s", folder);
        for (;;) {
            if (*n < MEMORY_LIMITS - 3) group_limit(root, version, folder, swap, v, n);
            char *slash = strrchr(folder, '/');
            if (!slash) break;
            *slash = '\0';
        }
    }
    free(text);
}

/* RLIMIT_AS and RLIMIT_DATA against columns 1 and 6 of statm, in pages. */
static void process_limits(const char *root, MemoryLimit *v, int *n) {
    char *text = text_of(root, "/proc/self/statm");
    long long size, data;
    const bool known = text && sscanf(text, "%lld %*d %*d %*d %*d %lld", &size, &data) == 2;
    free(text);
    if (!known) return;
    const struct {
        int resource;
        const char *name;
        long long pages;
    } own[] = {{RLIMIT_AS, "RLIMIT_AS (ulimit -v)", size},
               {RLIMIT_DATA, "RLIMIT_DATA (ulimit -d)", data}};
    for (int i = 0; i < 2; i++) {
        struct rlimit r;
        if (getrlimit(own[i].resource, &r) != 0 || r.rlim_cur == RLIM_INFINITY) continue;
        MemoryLimit *l = add(v, n);
        l->kind = LIMIT_PROCESS;
        l->bytes =
            above_0((double)r.rlim_cur - (double)own[i].pages * (double)sysconf(_SC_PAGESIZE));
        snprintf(l->what, sizeof l->what, "%s of a rank, %.0f MiB", own[i].name,
                 (double)r.rlim_cur / mib);
    }
}

int memory_limits(const char *root, MemoryLimit v[MEMORY_LIMITS], MemoryGroups *groups) {
    int n = 0;
    double swap;
    *groups = (MemoryGroups){0};
    node_limit(root, v, &n, &swap);
    group_limits(root, swap, v, &n, groups);
    process_limits(root, v, &n);
    return n;
}

bool memory_shared(const MemoryLimit *l, const MemoryGroups *other) {
    if (l->kind != LIMIT_CGROUP) return l->kind == LIMIT_NODE;
    const char *folder = other->folder[l->version];
    const size_t n = strlen(l->folder);
    return strncmp(folder, l->folder, n) == 0 && (folder[n] == '/' || folder[n] == '\0');
}

int memory_least(const MemoryLimit *v, int n) {
    int least = n > 0 ? 0 : -1;
    for (int i = 1; i < n; i++)
        if (v[i].bytes < v[least].bytes) least = i;
    return least;
}

/* --- what is needed --------------------------------------------------------------------------- */

static PlanLayout layout_of(const Run *run, const PlanWork *w) {
    return (PlanLayout){.ranks = comm_size(run->comm),
                        .per_node = 1,
                        .threads = omp_get_max_threads(),
                        .shard = w->shard};
}

/* What this rank will surely allocate. The program is there already. */
static double least_need(const Run *run, const PlanWork *work, double *may) {
    PlanWork w = *work;
    PlanLayout l = layout_of(run, work);
    PlanMemory m;
    VirtualRanks v;
    virtual_open(&v, (int)w.virtual_ranks, run->comm);
    l.leaf = v.begin;
    l.leaves = v.end - v.begin;
    virtual_close(&v);
    plan_memory(&w, &l, &m);
    *may = m.total - m.program;
    if (config_has_episodes(w.stage)) { /* nobody knows how long responses will be */
        w.length -= w.response - 1;
        w.response = 1;
        w.longest = 1;
        plan_memory(&w, &l, &m);
    }
    /* Of a save rank 0 has most; a dry run makes none. */
    const double save = run->dry                    ? 0
                        : comm_rank(run->comm) == 0 ? m.save
                                                    : m.save / (double)l.ranks;
    const double models = m.weights + m.gradients + m.moments + m.frozen;
    if (run->dry) return models + m.activations;
    const double step = m.activations + fmax(fmax(m.decoding, m.evaluation), save);
    return models + fmax(step, m.first) + m.exchange;
}

static void print_plan(const Run *run, const PlanWork *w) {
    const PlanLayout l = layout_of(run, w);
    PlanMemory m;
    plan_memory(w, &l, &m);
    log_info("the plan: %" PRId64 " parameters; memory of a rank of %" PRId64
             " %.1f MiB: weights %.1f, gradients %.1f, moments %.1f, frozen models %.1f, "
             "activations %.1f, beside them (a save, an evaluation, decoding) %.1f, messages %.1f, "
             "program %.1f",
             plan_parameters(w), l.ranks, m.total / mib, m.weights / mib, m.gradients / mib,
             m.moments / mib, m.frozen / mib, m.activations / mib, m.beside / mib, m.exchange / mib,
             m.program / mib);
}

/* --- together --------------------------------------------------------------------------------- */

typedef struct Rank {
    double least, may;
    char host[256]; /* and which boot: containers of a machine may have the same name */
    MemoryGroups groups;
} Rank;

static void name_host(char out[256]) {
    char *boot = text_of("", "/proc/sys/kernel/random/boot_id");
    char name[128] = "";
    gethostname(name, sizeof name - 1);
    snprintf(out, 256, "%s %.*s", name, boot ? (int)strcspn(boot, "\n") : 0, boot ? boot : "");
    free(boot);
}

/* Of the limits that hold for this rank. *may: whether they will perhaps not suffice. */
static int judge(const Rank *rank, int n, int me, const MemoryLimit *limit, int limits, bool *may) {
    int worst = -1, worst_sharers = 0;
    double worst_least = 0;
    *may = false;
    for (int i = 0; i < limits; i++) {
        double least = 0, most = 0;
        int sharers = 0;
        for (int r = 0; r < n; r++) {
            const bool same = r == me || (strcmp(rank[r].host, rank[me].host) == 0 &&
                                          memory_shared(&limit[i], &rank[r].groups));
            least += same * rank[r].least;
            most += same * rank[r].may;
            sharers += same;
        }
        *may |= most > limit[i].bytes;
        if (0.95 * least <= limit[i].bytes ||
            (worst >= 0 && worst_least * limit[i].bytes >= least * limit[worst].bytes))
            continue;
        worst = i;
        worst_least = least;
        worst_sharers = sharers;
    }
    if (worst < 0) return 0;
    return error_set(ERR_CONFIG,
                     "memory does not suffice: %d rank%s on %.*s will take at least %.0f MiB, and "
                     "there are %.0f (%s); smaller train.micro_tokens, train.recompute=true, %s, "
                     "or a smaller model",
                     worst_sharers, worst_sharers == 1 ? "" : "s", (int)strcspn(rank[me].host, " "),
                     rank[me].host, worst_least / mib, limit[worst].bytes / mib, limit[worst].what,
                     n > 1 ? "dist.shard=optimizer, fewer ranks a node"
                           : "more nodes with dist.shard=optimizer");
}

/* The limits are read by all ranks before any goes on to allocate. */
static int check_once(Run *run, Rank *mine, bool *may) {
    AUTOFREE MemoryLimit *limit = xcalloc(MEMORY_LIMITS, sizeof *limit);
    const int limits = memory_limits("", limit, &mine->groups);
    const int tightest = memory_least(limit, limits);
    int rc;
    if (tightest >= 0) {
        run->priv->available = limit[tightest].bytes;
        snprintf(run->priv->available_of, sizeof run->priv->available_of, "%s",
                 limit[tightest].what);
    }
    if (run->dry) {
        rc = judge(mine, 1, 0, limit, limits, may);
    } else {
        const int n = comm_size(run->comm);
        char *all;
        size_t *at = xcalloc((size_t)n + 1, sizeof *at);
        comm_allgather_bytes(run->comm, mine, sizeof *mine, &all, at);
        rc = judge((Rank *)all, n, comm_rank(run->comm), limit, limits, may);
        rc = comm_agree(run->comm, rc);
        free(all);
        free(at);
    }
    return rc;
}

int memory_check(Run *run, const PlanWork *w) {
    enum { TRIES = 3 };
    Rank mine = {0};
    bool may = false;
    for (int i = 0; i < w->nets; i++) TRY(arch_check(&w->net[i].cfg));
    mine.least = least_need(run, w, &mine.may);
    name_host(mine.host);
    int rc = check_once(run, &mine, &may);
    /* What a job before this one held may be on its way back. */
    for (int i = 1; rc < 0 && i < TRIES; i++) {
        sleep(1);
        rc = check_once(run, &mine, &may);
    }
    if (run->main_rank && (rc < 0 || (may && !run->dry))) print_plan(run, w);
    if (run->main_rank && rc == 0 && may && !run->dry)
        log_warn("memory may not suffice (rhetor-%s --dry-run says what there is)",
                 config_stage_name(run->cfg.stage));
    return rc;
}

int memory_dry_run(Run *run, const PlanWork *w, Step *s) {
    const double began = clock_seconds();
    const Gpt *base = s->trainer->gpt->base;
    TRY(step_passes(s));
    run_plan(run, clock_seconds() - began, plan_parameters(w), (double)s->tokens,
             plan_flops(w, NULL),
             trainer_bytes(s->trainer) + (base ? paramset_bytes(&base->params) : 0),
             trainer_scratch(s->trainer));
    return 0;
}
