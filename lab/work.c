/* work.c: the steps of a lab are done. See lab.h.
 *
 * A step's folder holds .lab/done.json (with what it cost) once it is done, .lab/failed where it has
 * failed, .lab/log.txt with what it said. Whoever works on it holds the lock of .lab, which tells a
 * dead owner from a living one, and the file .lab/busy, locked by flock and inherited by all that
 * the step starts: what an owner who was killed has left running is waited for. A stage goes on
 * where it was; a command starts over. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "lab/lab.h"
#include "pipeline/progress.h"

static void doze(double seconds) {
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&t, NULL);
}

static char reason[128];
const char *work_reason(void) { return reason; }

/* What a stage says of why it left, or the signal that ended a command. */
static void remember_reason(const LabStep *s, int status) {
    const int signals[] = {SIGUSR1, SIGTERM, SIGINT};
    const char *names[] = {"SIGUSR1", "SIGTERM", "SIGINT"};
    for (int i = 0; i < 3; i++)
        if (status == 128 + signals[i]) snprintf(reason, sizeof reason, "%s", names[i]);
    if (!s->dir) return;
    AUTOFREE char *dir = file_join(s->folder, s->dir);
    const RecipeStep stage = {.dir = dir};
    StageStatus st;
    progress_status(&stage, &st);
    if (*st.reason) snprintf(reason, sizeof reason, "%s", st.reason);
}

/* --- one step --------------------------------------------------------------------------------- */
/* What the step reads, as links beside what it will make. */
static int link_inputs(const LabGraph *g, const LabStep *s) {
    for (int k = 0; k < s->input.n; k++) {
        AUTOFREE char *path = file_join(s->folder, s->input.v[k]),
                      *to = xasprintf("../%s/%s", file_basename(g->step[s->from[k]].folder),
                                      s->input.v[k]);
        if (symlink(to, path) != 0 && errno != EEXIST) return file_error(path, "symlink");
    }
    return 0;
}

static void set_environment(const LabStep *s, int64_t threads) {
    AUTOFREE char *number = xasprintf("%" PRId64, threads);
    for (int i = 0; i < s->env.n; i++) {
        AUTOFREE char *name = xasprintf("%.*s", (int)strcspn(s->env.v[i], "="), s->env.v[i]);
        setenv(name, strchr(s->env.v[i], '=') + 1, 1);
    }
    setenv("RUN", s->folder, 1);
    setenv("OMP_NUM_THREADS", number, 1);
}

static void clear_environment(const LabStep *s) {
    for (int i = 0; i < s->env.n; i++) {
        AUTOFREE char *name = xasprintf("%.*s", (int)strcspn(s->env.v[i], "="), s->env.v[i]);
        unsetenv(name);
    }
}

/* What was left running by an owner who was killed holds the file, too. */
static int wait_for_orphans(const LabStep *s, int *fd) {
    AUTOFREE char *path = steps_file(s, "busy");
    if ((*fd = open(path, O_RDWR | O_CREAT, 0666)) < 0) return file_error(path, "open");
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) break; /* no such locks on this file system */
        doze(0.05);
    }
    return 0;
}

static double cpu_of_children(void) {
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int run_program(const LabStep *s, int *status) {
    char **v = xcalloc((size_t)s->set.n + 8, sizeof *v);
    int n = 0;
    if (s->run) {
        const char *const shell[] = {"/bin/sh", "-e", "-c", s->run};
        for (int k = 0; k < 4; k++) v[n++] = xstrdup(shell[k]);
    } else {
        v[n++] = xasprintf("%s/rhetor-%s", getenv("BIN"), config_stage_name(s->stage));
        v[n++] = xstrdup(s->config);
        for (int k = 0; k < s->set.n; k++) v[n++] = xstrdup(s->set.v[k]);
    }
    const int rc = process_run(v, NULL, false, NULL, NULL, status);
    for (int i = 0; i < n; i++) free(v[i]);
    free(v);
    return rc;
}

/* What earlier lives of a stage took is in the file `spent`. */
static int end_step(const LabStep *s, int status, double seconds, double cpu) {
    AUTOFREE char *done = steps_file(s, "done.json"), *failed = steps_file(s, "failed"),
                  *spent = steps_file(s, "spent.json");
    json_auto_t *was = NULL;
    double before = 0, cpu_before = 0;
    if (file_exists(spent) && json_read_file(&was, spent) >= 0) {
        json_get_f64(was, "seconds", &before);
        json_get_f64(was, "cpu", &cpu_before);
    }
    json_auto_t *j = json_pack("{s:f, s:f, s:i}", "seconds", seconds + before, "cpu",
                               cpu + cpu_before, "status", status);
    const bool asked = status == error_exit_code(ERR_REQUEUE) ||
                       (status > 128 && status != 128 + SIGSEGV && status != 128 + SIGABRT &&
                        status != 128 + SIGBUS && status != 128 + SIGFPE);
    TRY(json_write_file(j, status == 0 ? done : asked ? spent : failed));
    if (status == 0) return 0;
    if (asked) remember_reason(s, status);
    return error_set(asked ? ERR_REQUEUE : ERR_INTERNAL,
                     "step %s ended with %d; its log: %s/.lab/log.txt", s->name, status, s->folder);
}

/* The lock is ours. Returns 0, ERR_REQUEUE, ERR_INTERNAL (it has failed), or what made it
 * impossible. */
static int do_step(const LabGraph *g, const LabStep *s, int64_t threads) {
    AUTOFREE char *path = steps_file(s, "log.txt");
    int busy = -1, status = 0, rc = link_inputs(g, s);
    if (rc >= 0) rc = wait_for_orphans(s, &busy);
    const int log = rc < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (rc >= 0 && log < 0) rc = file_error(path, "open");
    if (rc >= 0) {
        fflush(stdout);
        const int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
        fcntl(out, F_SETFD, FD_CLOEXEC);
        fcntl(err, F_SETFD, FD_CLOEXEC);
        dup2(log, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        const double began = clock_seconds(), cpu = cpu_of_children();
        set_environment(s, threads);
        rc = run_program(s, &status);
        clear_environment(s);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        close(out);
        close(err);
        if (rc >= 0) rc = end_step(s, status, clock_seconds() - began, cpu_of_children() - cpu);
    }
    if (log >= 0) close(log);
    if (busy >= 0) close(busy);
    return rc;
}

/* Takes the lock and does the step, unless somebody else has. *did: was there anything to do? */
static int try_step(LabGraph *g, int i, int64_t threads, bool *did) {
    LabStep *s = &g->step[i];
    AUTOFREE char *folder = steps_file(s, "");
    FileLock *lock = NULL;
    TRY(file_make_dirs(folder));
    lock_wait_ms = 0; /* its owner may take hours; there is other work */
    *did = lock_take(&lock, folder) >= 0;
    lock_wait_ms = 10000;
    if (!*did) return 0;
    steps_look(g);
    AUTOFREE char *done = steps_file(s, "done.json"), *failed = steps_file(s, "failed");
    *did = !file_exists(done) && !file_exists(failed);
    const int rc = *did ? do_step(g, s, threads) : 0;
    lock_drop(&lock);
    return rc;
}

int work_loop(LabGraph *g, int64_t threads, int parent) {
    int bad = 0;
    for (;;) {
        bool left = false, did = false;
        if (parent && getppid() != parent) return error_set(ERR_REQUEUE, "rhetor-lab was killed");
        steps_look(g);
        for (int i = 0; i < g->n && !did; i++) {
            const LabState state = g->step[i].state;
            left = left || (state != LAB_DONE && state != LAB_FAILED);
            if (state != LAB_READY) continue;
            const int rc = try_step(g, i, threads, &did);
            if (rc == ERR_INTERNAL && did)
                bad = rc;
            else
                TRY(rc);
        }
        if (!left) break;
        sigset_t waiting;
        sigpending(&waiting);
        const bool warned = sigismember(&waiting, SIGUSR1);
        if (warned || sigismember(&waiting, SIGTERM) || sigismember(&waiting, SIGINT)) {
            snprintf(reason, sizeof reason, "%s", warned ? "SIGUSR1" : "SIGTERM");
            return error_set(ERR_REQUEUE, "asked to leave");
        }
        if (!did) doze(parent ? 0.1 : 2);
    }
    for (int i = 0; i < g->n; i++)
        if (g->step[i].state == LAB_FAILED) bad = ERR_INTERNAL;
    return bad;
}

/* --- progress --------------------------------------------------------------------------------- */
/* Mean cost of the done steps of this name; false: none is done. */
static bool known_cost(const LabGraph *g, const char *name, double *seconds) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        if (g->step[i].state != LAB_DONE || strcmp(g->step[i].name, name) != 0) continue;
        sum += g->step[i].seconds;
        n++;
    }
    for (int i = 0; i < g->n && n == 0; i++) {
        if (!(g->step[i].before > 0) || strcmp(g->step[i].name, name) != 0) continue;
        sum = g->step[i].before;
        n = 1;
    }
    *seconds = n ? sum / n : 0;
    return n > 0;
}

/* Seconds of work that is left, of the steps whose like is done; *unknown: the others. */
static double work_left(const LabGraph *g, int *unknown) {
    double sum = 0, seconds;
    *unknown = 0;
    for (int i = 0; i < g->n; i++) {
        if (g->step[i].state == LAB_DONE || g->step[i].state == LAB_FAILED) continue;
        if (known_cost(g, g->step[i].name, &seconds))
            sum += seconds;
        else
            ++*unknown;
    }
    return sum;
}

static int count(const LabGraph *g, LabState state) {
    int n = 0;
    for (int i = 0; i < g->n; i++) n += g->step[i].state == state;
    return n;
}

static void show_progress(LabGraph *g, int64_t jobs, int *told, bool last) {
    steps_look(g);
    Text running = {0};
    for (int i = 0, n = 0; i < g->n && n < 4; i++)
        if (g->step[i].state == LAB_RUNS)
            text_put(&running, "%s%s", n++ ? ", " : "", g->step[i].name);
    int unknown;
    const double left = work_left(g, &unknown) / (double)jobs;
    const int done = count(g, LAB_DONE), failed = count(g, LAB_FAILED);
    AUTOFREE char *names = text_take(&running),
                  *bad = failed ? xasprintf("  %d failed", failed) : xstrdup(""),
                  *time = done == g->n ? xstrdup("")
                          : unknown    ? xasprintf("  %d:%02d and %d unknown left", (int)left / 60,
                                                   (int)left % 60, unknown)
                                    : xasprintf("  %d:%02d left", (int)left / 60, (int)left % 60);
    log_progress(done != *told || last, last, "%d/%d steps%s%s  %s", done, g->n, bad, time, names);
    *told = done;
}

void work_forget_failures(const LabGraph *g) {
    for (int i = 0; i < g->n; i++) {
        AUTOFREE char *failed = steps_file(&g->step[i], "failed");
        file_remove(failed);
    }
}

static void worker(LabGraph *g, int64_t threads, int parent) {
    setpgid(0, 0); /* what the terminal sends comes through the parent, once */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int rc = work_loop(g, threads, parent);
    if (rc < 0 && rc != ERR_REQUEUE && *error_message())
        fprintf(stderr, "rhetor-lab: %s\n", error_message());
    fflush(NULL);
    _exit(error_exit_code(rc));
}

int work_all(LabGraph *g, int64_t jobs, int64_t threads) {
    AUTOFREE pid_t *child = xcalloc((size_t)jobs, sizeof *child);
    int alive = 0, worst = 0, told = -1;
    const int me = getpid();
    sigset_t set;
    sigemptyset(&set);
    const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP, SIGCHLD};
    for (int i = 0; i < 5; i++) sigaddset(&set, signals[i]);
    work_forget_failures(g);
    fflush(NULL);
    for (int64_t i = 0; i < jobs; i++) {
        const pid_t pid = fork();
        if (pid < 0) return file_error("a worker", "fork");
        if (pid == 0) worker(g, threads, me);
        child[alive++] = pid;
    }
    for (const int workers = alive; alive > 0;) {
        const struct timespec half = {0, 500000000};
        const int sig = sigtimedwait(&set, NULL, &half);
        for (int i = 0; sig > 0 && sig != SIGCHLD && i < workers; i++)
            if (child[i]) kill(child[i], sig);
        for (int i = 0, status; i < workers; i++) {
            if (!child[i] || waitpid(child[i], &status, WNOHANG) != child[i]) continue;
            const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            worst = code > worst ? code : worst;
            child[i] = 0;
            alive--;
        }
        show_progress(g, workers, &told, alive == 0);
    }
    return worst == 0 ? 0
           : worst == error_exit_code(ERR_REQUEUE)
               ? error_set(ERR_REQUEUE, "stopped and saved; the same command goes on")
               : ERR_INTERNAL;
}

/* --- --status, --dry-run ---------------------------------------------------------------------- */
/* Is i the first step of its name? */
static bool first_of_name(const LabGraph *g, int i) {
    for (int k = 0; k < i; k++)
        if (strcmp(g->step[k].name, g->step[i].name) == 0) return false;
    return true;
}

static void print_failures(const LabGraph *g) {
    for (int i = 0; i < g->n; i++) {
        AUTOFREE char *failed = steps_file(&g->step[i], "failed");
        if (file_exists(failed))
            printf("failed: %s, its log: %s/.lab/log.txt\n", g->step[i].name, g->step[i].folder);
    }
}

void work_status(LabGraph *g) {
    steps_look(g);
    printf("%-16s %8s %8s %8s %8s %12s %12s\n", "step", "cells", "done", "runs", "failed",
           "seconds", "CPU seconds");
    double all = 0, all_cpu = 0;
    for (int i = 0; i < g->n; i++) {
        int n = 0, in[LAB_DONE + 1] = {0};
        double seconds = 0, cpu = 0;
        if (!first_of_name(g, i)) continue;
        for (int k = i; k < g->n; k++) {
            const LabStep *s = &g->step[k];
            if (strcmp(s->name, g->step[i].name) != 0) continue;
            n++;
            in[s->state]++;
            if (s->state == LAB_DONE) seconds += s->seconds, cpu += s->cpu;
        }
        printf("%-16s %8d %8d %8d %8d %12.1f %12.1f\n", g->step[i].name, n, in[LAB_DONE],
               in[LAB_RUNS], in[LAB_FAILED], seconds, cpu);
        all += seconds;
        all_cpu += cpu;
    }
    printf("%-16s %8d %8d %8d %8d %12.1f %12.1f\n", "all", g->n, count(g, LAB_DONE),
           count(g, LAB_RUNS), count(g, LAB_FAILED), all, all_cpu);
    print_failures(g);
}

void work_plan(LabGraph *g, int64_t jobs) {
    int cells = 0, unknown;
    steps_look(g);
    for (int l = 0; l < g->nlab; l++) {
        const LabFile *lab = &g->lab[l];
        printf("%s: %s%s\n  recipe %s; %d cells:", lab->name, lab->about ? lab->about : "",
               lab->about ? "" : "(no word about it)", lab->recipe, matrix_cells(lab));
        for (int f = 0; f < lab->nfactor; f++) {
            printf("%s %s", f ? " x" : "", lab->factor[f].name);
            for (int i = 0; i < lab->factor[f].n; i++)
                printf("%s%s", i ? "," : " ", lab->factor[f].level[i].name);
        }
        printf("\n");
        for (int i = 0; i < lab->npanel; i++)
            printf("  %s: %s\n", lab->panel[i].name, lab->panel[i].claim);
        cells += matrix_cells(lab);
    }
    printf("\n%-16s %8s %8s %8s %10s  %s\n", "step", "cells", "made", "done", "seconds",
           "the first of them");
    for (int i = 0; i < g->n; i++) {
        int n = 0, done = 0;
        double seconds;
        if (!first_of_name(g, i)) continue;
        for (int k = i; k < g->n; k++) {
            const bool same = strcmp(g->step[k].name, g->step[i].name) == 0;
            n += same;
            done += same && g->step[k].state == LAB_DONE;
        }
        AUTOFREE char *cost =
            known_cost(g, g->step[i].name, &seconds) ? xasprintf("%.1f", seconds) : xstrdup("-");
        printf("%-16s %8d %8d %8d %10s  %s\n", g->step[i].name, cells, n, done, cost,
               g->step[i].folder);
    }
    const double left = work_left(g, &unknown);
    printf("\n%d steps for %d cells, %d done; ", g->n, cells, count(g, LAB_DONE));
    if (unknown && left <= 0) {
        printf("what the others take is told once one of their name is done\n");
        return;
    }
    printf("%.0f s of work left, %.0f s on %" PRId64 " at a time", left, left / (double)jobs, jobs);
    printf(unknown ? ", and %d steps of which none like them is done\n" : "\n", unknown);
}
