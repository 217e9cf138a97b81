/* check.c: the plan against the programs: each stage runs a few steps in a scratch folder, and its
 * step time (log.txt) and peak memory (as the kernel counts it) are put beside the prediction. The
 * parents and data must be there: run the recipe first, however shortly. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "base/process.h"
#include "plan/forecast.h"

enum { MORE_WORDS = 20 };

/* The last line of a file, in place; "" if there is none. */
static const char *last_line(char *text, size_t len) {
    while (len > 0 && text[len - 1] == '\n') text[--len] = 0;
    const char *at = strrchr(text, '\n');
    return at ? at + 1 : text;
}

static int failed(const char *program, int status, const char *log) {
    char *text = NULL;
    size_t len = 0;
    if (file_read(log, &text, &len) < 0) text = xstrdup("");
    error_set(ERR_INTERNAL, "%s ended with %d: %s (all it said: %s)", program,
              WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
              last_line(text, len), log);
    free(text);
    return ERR_INTERNAL;
}

/* Runs argv with its output in `log`; *peak in bytes. */
static int run_stage(char **argv, const char *log, double *peak) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return error_set(ERR_IO, "cannot start %s: %m", argv[0]);
    if (pid == 0) {
        if (!freopen(log, "w", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) _exit(74);
        execvp(argv[0], argv);
        _exit(127);
    }
    int status;
    struct rusage usage;
    while (wait4(pid, &status, 0, &usage) < 0)
        if (errno != EINTR) return error_set(ERR_INTERNAL, "wait4: %m");
    *peak = (double)usage.ru_maxrss * 1024;
    return status == 0 ? 0 : failed(argv[0], status, log);
}

/* The shortest step but the first, from the lines "... 123 ms/step ..." of the log. */
static int step_seconds(const char *log, double *seconds) {
    char *text;
    size_t len;
    int n = 0;
    TRY(file_read(log, &text, &len));
    *seconds = HUGE_VAL;
    for (const char *at = text; (at = strstr(at, " ms/step")); at++) {
        const char *number = at;
        while (number > text && number[-1] != ' ') number--;
        if (n++ > 0) *seconds = fmin(*seconds, strtod(number, NULL) * 1e-3);
    }
    free(text);
    return n > 1 ? 0 : error_set(ERR_INTERNAL, "%s: has no second step", log);
}

/* Of the ranks of a job, of which rank 0 says at its end what the largest took. */
static int peak_of_ranks(const char *log, double *peak) {
    char *text;
    size_t len;
    double mib;
    TRY(file_read(log, &text, &len));
    const char *at = strstr(text, "at most ");
    const bool said = at && sscanf(at, "at most %lf MiB a rank", &mib) == 1;
    free(text);
    if (!said) return error_set(ERR_INTERNAL, "%s: does not say what a rank took", log);
    *peak = mib * 1024 * 1024;
    return 0;
}

static int check_stage(const PlanStage *s, const char *folder, const PlanLayout *l, int64_t steps,
                       double *seconds, double *peak) {
    char *bin = process_folder(), *dir = file_join(folder, s->name);
    char *out = xasprintf("%s.out", dir), *log = file_join(dir, "log.txt");
    char **argv = xcalloc((size_t)s->nset + MORE_WORDS, sizeof *argv);
    int n = 0;
    if (l->ranks > 1) {
        argv[n++] = xstrdup("mpirun");
        argv[n++] = xstrdup("-n");
        argv[n++] = xasprintf("%" PRId64, l->ranks);
        argv[n++] = xstrdup("--bind-to");
        argv[n++] = xstrdup("none");
    }
    argv[n++] = xasprintf("%s/rhetor-%s", bin, config_stage_name(s->kind));
    argv[n++] = xstrdup(s->config);
    for (int i = 0; i < s->nset; i++) argv[n++] = xstrdup(s->set[i]);
    argv[n++] = xasprintf("run.dir=%s", dir);
    argv[n++] = config_has_episodes(s->kind)
                    ? xasprintf("ppo.episodes=%.0f", (double)steps * s->work.items)
                    : xasprintf("train.steps=%" PRId64, steps);
    argv[n++] = xstrdup("run.log_every=1");
    argv[n++] = xasprintf("run.threads=%" PRId64, l->threads);
    /* Not in every step: it counts in a step's time. At the end alone it would miss arenas that the
     * last step has made afresh and not yet filled. */
    argv[n++] = xasprintf("eval.every=%" PRId64, steps - 1);
    if (s->kind == STAGE_SFT) argv[n++] = xstrdup("save.every_epoch=false");
    argv[n++] = xasprintf("save.every=%" PRId64, steps);
    int rc = run_stage(argv, out, peak);
    if (rc >= 0) rc = step_seconds(log, seconds);
    if (rc >= 0 && l->ranks > 1) rc = peak_of_ranks(log, peak);
    for (int i = 0; i < n; i++) free(argv[i]);
    free(argv);
    free(bin);
    free(dir);
    free(out);
    free(log);
    return rc;
}

static void remove_tree(const char *dir) {
    AUTOFREE char *command = xasprintf("rm -rf '%s'", dir);
    if (system(command) != 0) fprintf(stderr, "rhetor-plan: %s is left\n", dir);
}

int check_stages(const PlanStages *s, const PlanMachine *m, const PlanLayout *l,
                 const CheckOptions *o) {
    char folder[] = "/tmp/rhetor-plan.XXXXXX";
    if (!mkdtemp(folder)) return error_set(ERR_IO, "%s: %m", folder);
    int rc = 0, off = 0;
    const double mib = 1024.0 * 1024.0;
    printf("\n%-10s %12s %12s %7s %12s %12s %7s\n", "stage", "step, plan", "measured", "off",
           "MiB, plan", "peak", "off");
    for (int i = 0; rc >= 0 && i < s->n; i++) {
        double seconds = 0, peak = 0;
        PlanTime t;
        PlanMemory memory;
        plan_time(&s->v[i].work, l, machine_rates(m, l->threads), &m->net, &t);
        PlanWork work = s->v[i].work;
        work.steps = o->steps;
        plan_memory(&work, l, &memory);
        rc = check_stage(&s->v[i], folder, l, o->steps, &seconds, &peak);
        if (rc < 0) break;
        const double time_off = t.step / seconds - 1, memory_off = memory.total / peak - 1;
        printf("%-10s %10.1fms %10.1fms %+6.1f%% %12.1f %12.1f %+6.1f%%\n", s->v[i].name,
               t.step * 1e3, seconds * 1e3, 100 * time_off, memory.total / mib, peak / mib,
               100 * memory_off);
        fflush(stdout);
        off += fabs(time_off) > o->time || fabs(memory_off) > o->memory;
    }
    if (rc < 0) return rc; /* the folder is kept: its logs say why */
    remove_tree(folder);
    if (off == 0) return 0;
    return error_set(ERR_INTERNAL,
                     "%d of %d stages are off by more than %.0f %% in time or %.0f %% in "
                     "memory; is the machine quiet?",
                     off, s->n, 100 * o->time, 100 * o->memory);
}
