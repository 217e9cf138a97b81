/* run_main.c: main() of the stages: command line, configuration, ranks, run directory, the end.
 *
 * `rhetor-STAGE CONFIG.yaml [key=value...]`. --help, --print-config and --dry-run start no MPI and
 * write nothing. Whoever ends a job leaves status.json (code, reason) in the run directory, since
 * launchers do not hand exit codes on faithfully. */
#include <argp.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config_table.h"
#include "base/error.h"
#include "base/log.h"
#include "base/openmp.h"
#include "base/option.h"
#include "base/text.h"
#include "base/utf8.h"
#include "core/blas.h"
#include "core/kernel.h"
#include "dist/fault.h"
#include "dist/signals.h"
#include "dist/watchdog.h"
#include "train/run_impl.h"

typedef struct Args {
    int stage;
    const char *config;
    const char **override;
    int noverride, ranks;
    bool help, version, print_config, dry, selftest;
} Args;

enum { OPT_PRINT = 1000, OPT_DRY, OPT_RANKS, OPT_OVERFIT, OPT_SELFTEST };

static const struct argp_option options[] = {
    {"print-config", OPT_PRINT, 0, 0, "print the resolved configuration", 0},
    {"dry-run", OPT_DRY, 0, 0, "print parameters, memory and a decoded batch; write nothing", 0},
    {"ranks", OPT_RANKS, "N", 0, "with --dry-run: the plan of a run on N ranks", 0},
    {"overfit", OPT_OVERFIT, "N", 0, "train on the first N batches only", 0},
    {"selftest", OPT_SELFTEST, 0, 0, "run the algorithm's ten checks on this machine", 0},
    {"help", 'h', 0, 0, "print this", 0},
    {"usage", 0, 0, OPTION_ALIAS, 0, 0}, /* argp's error messages name it */
    {"version", 'V', 0, 0, "print the version", 0},
    {0}};

/* Is the option one of this stage's? */
static bool has_option(int stage, int key) {
    if (key == OPT_SELFTEST) return stage == STAGE_PPO;
    return key != OPT_OVERFIT || config_knows(stage, config_key("train.overfit"));
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    if (!has_option(a->stage, key))
        argp_error(state, "--%s is no option of rhetor-%s",
                   key == OPT_SELFTEST ? "selftest" : "overfit", config_stage_name(a->stage));
    switch (key) {
    case 'h': a->help = true; break;
    case 'V': a->version = true; break;
    case OPT_PRINT: a->print_config = true; break;
    case OPT_DRY: a->dry = true; break;
    case OPT_RANKS: a->ranks = (int)option_whole_to(state, "ranks", arg, 1, 1 << 20); break;
    case OPT_OVERFIT:
        option_add(&a->override, &a->noverride, xasprintf("train.overfit=%s", arg));
        break;
    case OPT_SELFTEST: a->selftest = true; break;
    case ARGP_KEY_ARG:
        if (strchr(arg, '='))
            option_add(&a->override, &a->noverride, arg);
        else if (!a->config)
            a->config = arg;
        else
            argp_error(state, "two config files, %s and %s; settings are written key=value",
                       a->config, arg);
        break;
    case ARGP_KEY_END:
        if (a->ranks && !a->dry)
            argp_error(state,
                       "--ranks belongs to --dry-run; ranks are started by mpirun -n %d --bind-to "
                       "none rhetor-%s ...",
                       a->ranks, config_stage_name(a->stage));
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print_help(int stage) {
    const char *name = config_stage_name(stage);
    char *keys = config_help(stage);
    printf("Usage: rhetor-%s [CONFIG.yaml] [section.key=value...] [options]\n\n"
           "Trains %s.\n\nOptions:\n",
           name, config_stage[stage].what);
    for (const struct argp_option *o = options; o->name; o++)
        if (o->doc && has_option(stage, o->key))
            printf("  --%-12s %s %s\n", o->name, o->arg ? o->arg : " ", o->doc);
    printf("\nSeveral ranks:     mpirun -n N --bind-to none rhetor-%s ...\n"
           "A run that was stopped goes on with the same command.\n\nSettings:\n%s",
           name, keys);
    free(keys);
}

/* --- the end of a run ------------------------------------------------------------------------- */

static Run *current; /* for the hook that ends a job from anywhere below */

/* Takes no memory: the watchdog's last act, too. */
static bool write_status(const Run *run, const char *state, int code, const char *reason) {
    char path[PATH_MAX], temporary[PATH_MAX], why[1024], text[2048];
    const RunPriv *p = run->priv;
    size_t n = 0;
    for (size_t len; *reason && n + 4 < sizeof why; reason += len ? len : 1) {
        const bool special = *reason == '"' || *reason == '\\';
        len = utf8_char(reason, strlen(reason));
        if (special) why[n++] = '\\';
        if (len == 0 || (unsigned char)*reason < ' ')
            why[n++] = *reason == '\n' ? ' ' : '?';
        else
            memcpy(why + n, reason, len), n += len;
    }
    why[n] = '\0';
    n = (size_t)snprintf(
        text, sizeof text,
        "{\"stage\": \"%s\", \"state\": \"%s\", \"code\": %d, \"reason\": "
        "\"%s\", \"step\": %" PRId64 ", \"steps\": %" PRId64 ", \"saved\": %" PRId64,
        config_stage_name(run->cfg.stage), state, code, why, run->step, run->steps, p->saved_step);
    if (isfinite(p->result))
        n += (size_t)snprintf(text + n, sizeof text - n, ", \"%s\": %.10g",
                              config_stage[run->cfg.stage].headline, p->result);
    n += (size_t)snprintf(text + n, sizeof text - n, "}\n");
    snprintf(path, sizeof path, "%.4000s/status.json", run->cfg.run_dir);
    snprintf(temporary, sizeof temporary, "%.4000s/status.json.tmp.%ld", run->cfg.run_dir,
             (long)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool good = fd >= 0 && write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    if (fd >= 0) good = close(fd) == 0 && good;
    good = good && rename(temporary, path) == 0;
    if (fd >= 0 && !good) unlink(temporary);
    return good;
}

void run_write_status(Run *run, const char *state, int code, const char *reason) {
    RunPriv *p = run->priv;
    if (!p || !p->ours || !file_is_dir(run->cfg.run_dir)) return;
    if (!write_status(run, state, code, reason))
        log_warn("%s: not written: %m", run_path(run, "status.json"));
    p->last_status = clock_seconds();
}

static void (*next_end_hook)(int status);
static void end_with_status(int status) {
    Run *run = current;
    current = NULL;
    if (run)
        run_write_status(run, "failed", status, error_message()[0] ? error_message() : "ended");
    if (next_end_hook) next_end_hook(status);
    exit(status);
}

static void hung(const char *reason) {
    if (current && current->priv->ours) write_status(current, "failed", 70, reason);
}

static void interrupted(const char *lost) {
    if (current && current->main_rank && current->priv->ours)
        write_status(current, "failed", 130, lost);
}

/* Prints the failure once. Ranks that fail together carry the same message: the others give rank 0
 * a moment to print and to end the job; a failure that only they have is then theirs to print. */
static int fail(Run *run, int stage, int rc) {
    watchdog_close();
    int status = error_exit_code(rc);
    bool alone = !run->comm || comm_size(run->comm) == 1;
    const bool first = run->comm ? run->main_rank : comm_launch_rank() == 0;
    if (!first && rc != ERR_REQUEUE && sleep(2) != 0)
        _exit(status); /* a signal: rank 0 has ended the job */
    if (rc == ERR_REQUEUE)
        log_info("%s", error_message());
    else
        fprintf(stderr, "rhetor-%s: %s\n", config_stage_name(stage), error_message());
    run_write_status(run, rc == ERR_REQUEUE ? "stopped" : "failed", status, error_message());
    if (run->priv && run->priv->lock) lock_drop(&run->priv->lock);
    current = NULL;
    if (!alone && rc != ERR_REQUEUE) error_end(status);
    return status;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* run.threads, else OMP_NUM_THREADS, else this rank's share of the cores it may run on. */
static void set_threads(const Run *run) {
    int threads = (int)run->cfg.run_threads;
    if (threads == 0 && !getenv("OMP_NUM_THREADS")) {
        int cores = comm_cores();
        const char *local = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
        bool unbound = cores == sysconf(_SC_NPROCESSORS_ONLN);
        threads = unbound && local && atoi(local) > 0 ? cores / atoi(local) : cores;
        if (threads < 1) threads = 1;
    }
    if (threads > 0) omp_set_num_threads(threads);
}

static int open_run_dir(Run *run) {
    RunPriv *p = run->priv;
    int rc = 0;
    if (run->main_rank) {
        rc = file_make_dirs(p->ckpt_dir);
        if (rc == 0) rc = lock_take(&p->lock, run->cfg.run_dir);
        if (rc == 0) rc = log_file(run_path(run, "log.txt"));
        /* A folder with a config.yaml is ours when run_resume has accepted what lies there. */
        p->ours = rc == 0 && !file_exists(run_path(run, "config.yaml"));
    }
    TRY(comm_agree(run->comm, rc));
    comm_bcast(run->comm, &p->ours, sizeof p->ours, 0);
    return 0;
}

static double peak_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* A rank's program and processor. */
typedef struct RankProgram {
    char host[64], version[48], blas[64];
    int level; /* KernelLevel */
    uint64_t file;
} RankProgram;

/* Ranks hold the same weights only if all compute alike: one version, and the kernels of the weakest
 * processor. */
static int agree_on_program(Run *run) {
    RankProgram me = {.level = (int)kernel_level};
    snprintf(me.version, sizeof me.version, "%s", RHETOR_VERSION);
    if (fault_point("run.version") < 0) me.version[0] ^= 1; /* as if another was installed */
    if (kernel_level == KERNEL_BLAS) snprintf(me.blas, sizeof me.blas, "%s", blas_name());
    gethostname(me.host, sizeof me.host - 1);
    if (file_hash("/proc/self/exe", &me.file) < 0) me.file = 0;
    AUTOFREE char *bytes = NULL;
    const int ranks = comm_size(run->comm);
    AUTOFREE size_t *at = xcalloc((size_t)ranks + 1, sizeof *at);
    if (comm_alone(run->comm)) return 0;
    comm_allgather_bytes(run->comm, &me, sizeof me, &bytes, at);
    const RankProgram *p = (const RankProgram *)(void *)bytes, *weak = p, *strong = p, *file = p;
    for (int r = 1; r < ranks; r++) {
        if (strcmp(p[r].version, p->version) != 0)
            return error_set(
                ERR_CONFIG,
                "rank %d on %s is rhetor %s, rank 0 on %s is %s; install one version on "
                "all nodes",
                r, p[r].host, p[r].version, p->host, p->version);
        if (p[r].level < weak->level) weak = &p[r];
        if (p[r].level > strong->level) strong = &p[r];
        if (p[r].file != p->file) file = &p[r];
        if (strcmp(p[r].blas, p->blas) != 0)
            return error_set(
                ERR_CONFIG,
                "%s multiplies by %s, %s by %s, and their products differ; set "
                "RHETOR_KERNEL=plain on all nodes (mpirun -x), or use nodes of one kind",
                p->host, *p->blas ? p->blas : kernel_name((KernelLevel)p->level), p[r].host,
                *p[r].blas ? p[r].blas : kernel_name((KernelLevel)p[r].level));
    }
    if (weak->level != strong->level && run->main_rank)
        log_warn("%s has %s kernels, %s only %s: all ranks use these", strong->host,
                 kernel_name((KernelLevel)strong->level), weak->host,
                 kernel_name((KernelLevel)weak->level));
    if (file != p && run->main_rank)
        log_warn("the program's file on %s is not that on %s, though both are version %s; install "
                 "one build on all nodes, or ranks may drift apart",
                 file->host, p->host, p->version);
    kernel_level = (KernelLevel)weak->level;
    return 0;
}

static int run_stage(Run *run, StageFn *fn) {
    RunPriv *p = run->priv;
    set_threads(run);
    core_init();
    TRY(comm_agree(run->comm, agree_on_program(run)));
    if (run->cfg.dist_shard == SHARD_GRADIENTS && run->cfg.dist_reproducible)
        return config_bad(&run->cfg, "dist.shard",
                          "their sums depend on the layout; set dist.reproducible=false, "
                          "too, or choose optimizer");
    if (!run->dry && !run->selftest) {
        signals_on_leave(interrupted);
        signals_install();
        TRY(watchdog_open(run->cfg.dist_hang_seconds, hung));
        TRY(open_run_dir(run));
        comm_check_binding(run->comm, omp_get_max_threads());
        if (run->main_rank) {
            const int ranks = comm_size(run->comm);
            log_info("rhetor-%s %s: %s%s, %d rank%s, %s", config_stage_name(run->cfg.stage),
                     RHETOR_VERSION, run->cfg.run_dir,
                     p->default_dir ? " (run.dir is not set)" : "", ranks, TEXT_S(ranks),
                     kernel_text());
            if (kernel_level == KERNEL_BLAS && run->cfg.dist_reproducible)
                log_info("products are made by a BLAS: unlike those of Rhetor's own kernels, their "
                         "last bits depend on the layout (ranks, train.micro_tokens)");
            run_write_status(run, "running", 0, "");
        }
    }
    p->began = p->last_log = clock_seconds();
    TRY(fn(run));
    double peak = peak_mib();
    comm_max_f64(run->comm, &peak, 1);
    if (!run->dry && !run->selftest && run->main_rank) {
        char result[64] = "";
        if (isfinite(p->result))
            snprintf(result, sizeof result, ", %s %.4f", config_stage[run->cfg.stage].headline,
                     p->result);
        run_write_status(run, "done", 0, "");
        log_info("done: %s%s, %.1f s, at most %.0f MiB a rank", run->cfg.run_dir, result,
                 clock_seconds() - p->began, peak);
    }
    return 0;
}

RunPriv *run_priv_new(const Config *c) {
    RunPriv *p = xcalloc(1, sizeof *p);
    p->config_text = config_yaml(c);
    p->meta = json_object();
    p->ckpt_dir = file_join(c->run_dir, "checkpoints");
    p->best = p->saved_best = (double)INFINITY;
    p->result = (double)NAN;
    p->saved_step = -1;
    return p;
}

void run_priv_free(RunPriv *p) {
    if (p->metrics_file) fclose(p->metrics_file);
    events_close(&p->events);
    free(p->texts.s);
    for (int i = 0; i < p->narray; i++) free((char *)(uintptr_t)p->array[i].name);
    for (int i = 0; i < p->ncounter; i++) free(p->counter[i].name);
    free(p->array);
    free(p->ckpt_dir);
    free(p->config_text);
    free(p->tokenizer);
    free(p->path);
    json_decref(p->meta);
    lock_drop(&p->lock);
    free(p);
}

/* Memory that comes and goes (arenas of sampling, scoring, evaluations, saves) goes back to the
 * system. Else glibc raises the size from which it does that with every block that is freed, up to
 * 32 MiB, and keeps what is below: peaks would follow each other on top of it. */
static void give_memory_back(void) {
    mallopt(M_ARENA_MAX, 1); /* or every thread keeps its own */
    mallopt(M_MMAP_THRESHOLD, 1 << 17);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

int run_main(int argc, char **argv, int stage, StageFn *fn) {
    file_check_output();
    openmp_wait_briefly(argv);
    give_memory_back();
    Args a = {.stage = stage};
    struct argp argp = {options, parse_option, "[CONFIG.yaml] [key=value...]", NULL, NULL,
                        NULL,    NULL};
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    argp_program_version = NULL;
    /* What comes before MPI is said by one rank. */
    const bool speaks = comm_launch_rank() == 0;
    const unsigned quiet = speaks ? 0 : ARGP_NO_ERRS;
    if (argp_parse(&argp, argc, argv, ARGP_NO_HELP | ARGP_IN_ORDER | quiet, NULL, &a) != 0) {
        sleep(2); /* the one that speaks ends the job */
        return error_exit_code(ERR_USAGE);
    }
    if (a.help || a.version) {
        if (speaks && a.help) print_help(stage);
        if (speaks && a.version) printf("rhetor-%s %s\n", config_stage_name(stage), RHETOR_VERSION);
        return 0;
    }
    Run run = {.dry = a.dry, .selftest = a.selftest, .main_rank = true};
    int rc = 0, status = 0;
    if (!a.config && !a.noverride && !a.selftest && !a.print_config)
        rc = error_set(ERR_USAGE,
                       "on which data? rhetor-%s [CONFIG.yaml] [key=value...], for example "
                       "data.train=FILE; see configs/ for recipes and --help for all settings",
                       config_stage_name(stage));
    if (rc == 0) rc = config_load(&run.cfg, stage, a.config, a.override, a.noverride);
    free(a.override);
    if (rc < 0) return fail(&run, stage, rc);
    const bool default_dir = !run.cfg.run_dir[0];
    if (default_dir) {
        free((char *)(uintptr_t)run.cfg.run_dir);
        run.cfg.run_dir = xasprintf("runs/%s", config_stage_name(stage));
    }
    if (a.print_config || (a.dry && !speaks)) {
        char *text = config_yaml(&run.cfg);
        if (speaks) fputs(text, stdout);
        free(text);
        config_free(&run.cfg);
        return 0;
    }
    if (a.ranks == 0) a.ranks = comm_launch_size();
    rc = a.dry ? comm_open_planned(&run.comm, a.ranks) : comm_open(&run.comm, &argc, &argv);
    if (rc < 0) return fail(&run, stage, rc);
    run.main_rank = a.dry || comm_rank(run.comm) == 0;
    run.priv = run_priv_new(&run.cfg);
    run.priv->default_dir = default_dir;
    next_end_hook = error_end_hook;
    error_end_hook = end_with_status;
    current = &run;

    rc = run_stage(&run, fn);
    if (rc < 0) status = fail(&run, stage, rc);
    watchdog_close();
    current = NULL;
    comm_close(&run.comm);
    log_close();
    run_priv_free(run.priv);
    config_free(&run.cfg);
    return status;
}

/* "12 s", "3.4 min", "2.1 h" */
static const char *rough_time(double s, char out[24]) {
    if (s < 120)
        snprintf(out, 24, "%.2g s", s);
    else
        snprintf(out, 24, "%.2g %s", s < 7200 ? s / 60 : s / 3600, s < 7200 ? "min" : "h");
    return out;
}

void run_plan(const Run *run, double step_seconds, int64_t parameters, double tokens_per_step,
              double flops_per_step, size_t state_bytes, size_t arena_bytes) {
    /* The step was done, so what the process needs beside the two has been seen: programs and
     * libraries, buffers, the data at hand. What takes several ranks to exist has not. */
    const double mib = 1024.0 * 1024.0, each_mpi = 10;
    const int ranks = comm_size(run->comm);
    double mpi = ranks > 1 ? each_mpi : 0, exchange = (double)run->exchange_bytes / mib;
    double known = (double)(state_bytes + arena_bytes) / mib;
    double seen = peak_mib() + exchange;
    double other = (seen > known ? seen - known : 0) + mpi;
    double saved = 0;
    for (int i = 0; i < run->priv->narray; i++) {
        const CkptArray *a = &run->priv->array[i];
        saved += (double)ckpt_elements(a) * (double)h5_type_size(a->type);
    }
    double save = (double)ckpt_save_memory(saved, ranks, run->cfg.save_compression == COMPRESS_ZSTD,
                                           omp_get_max_threads()) /
                  mib;
    char all[24], one[24];
    printf("%s\n"
           "  parameters        %" PRId64 "\n"
           "  steps             %" PRId64 "\n"
           "  tokens a step     %.0f\n"
           "  FLOPs             %.3g a step, %.3g in all\n"
           "  time              about %s on one rank here: a step took %s, the first and slowest\n"
           "  ranks             %d\n"
           "  memory a rank     %.1f MiB: weights, gradients, moments %.1f, activations %.1f, "
           "program and buffers %.1f, a save %.1f\n"
           "  memory available  %.1f MiB here%s%s\n",
           config_stage[run->cfg.stage].what, parameters, run->steps, tokens_per_step,
           flops_per_step, flops_per_step * (double)run->steps,
           rough_time(step_seconds * (double)run->steps, all), rough_time(step_seconds, one), ranks,
           known + other + save, (double)state_bytes / mib, (double)arena_bytes / mib, other, save,
           run->priv->available / mib, run->priv->available_of[0] ? ": " : "",
           run->priv->available_of);
}
