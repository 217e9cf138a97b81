/* rhetor-pipeline: all steps of a recipe in their order. What is done is skipped, what was stopped
 * goes on, what was changed and all after it is made again (pipeline/recipe.h says how that is
 * found). The run folder of a stage that is made again is kept beside the new one, as NAME.old-1.
 * base/process.h says how a running step is asked to save and leave. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"
#include "base/process.h"
#include "base/text.h"
#include "pipeline/jobs.h"
#include "pipeline/pipeline.h"
#include "pipeline/progress.h"

static const Option options[] = {
    {"from", 0, "STEP", "begin with this step", OPT_TEXT(from)},
    {"until", 0, "STEP", "end after this step", OPT_TEXT(until)},
    {"only", 0, "STEP", "only this step", OPT_TEXT(only)},
    {"force", 0, NULL, "make the steps again even where they are done", OPT_FLAG(force)},
    {"ranks", 0, "N", "run the stages on N ranks, by mpirun", OPT_WHOLE(ranks, 1, 1 << 20)},
    {"launch", 0, "WORDS", "run the stages by this: \"srun --mpi=pmix\"", OPT_TEXT(launch)},
    {"job", 0, "NAME", "we are a job of rhetor-submit: what was saved is put back", OPT_TEXT(job)},
    {"status", 0, NULL, "print how far every step is", OPT_FLAG(status)},
    {"json", 0, NULL, "with --status: as JSON", OPT_FLAG(json)},
    {"dry-run", 0, NULL, "print what would be done", OPT_FLAG(dry)},
    REQUEST_OPTIONS(request),
    REQUEST_ARGUMENTS(request, "RECIPE [key=value...] [STEP:key=value...]", request_argument),
    {0}};

static int check_options(const Args *a) {
    if (a->only && (a->from || a->until)) return error_set(ERR_USAGE, "--only stands alone");
    if (a->launch && a->ranks) return error_set(ERR_USAGE, "--ranks or --launch, not both");
    return request_check(&a->request);
}

/* --- a step ----------------------------------------------------------------------------------- */
static void say(const Pipeline *p, int i, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(const Pipeline *p, int i, const char *fmt, ...) {
    const bool bold = log_has_colours(STDOUT_FILENO);
    printf("%s== %d/%d %s: ", bold ? "\033[1m" : "", i + 1, p->recipe.n, p->recipe.step[i].name);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("%s\n", bold ? "\033[0m" : "");
    fflush(stdout);
}

/* The words of the command; those of a stage are found beside this program. */
static char **command_of(const Pipeline *p, int i) {
    const RecipeStep *s = &p->recipe.step[i];
    char **v = xcalloc((size_t)s->nset + 16, sizeof *v);
    int n = 0;
    if (s->run) {
        const char *const shell[] = {"/bin/sh", "-e", "-c", s->run};
        for (int k = 0; k < 4; k++) v[n++] = xstrdup(shell[k]);
        return v;
    }
    if (p->args->ranks > 0) {
        v[n++] = xstrdup("mpirun");
        v[n++] = xstrdup("-n");
        v[n++] = xasprintf("%" PRId64, p->args->ranks);
        v[n++] = xstrdup("--bind-to");
        v[n++] = xstrdup("none");
        if (p->args->ranks > sysconf(_SC_NPROCESSORS_ONLN)) v[n++] = xstrdup("--oversubscribe");
    }
    char *words = p->args->launch ? xstrdup(p->args->launch) : NULL, *rest = words, *word;
    while ((word = strsep(&rest, " \t\n"))) {
        if (!*word) continue;
        v = xrealloc(v, (size_t)(s->nset + n + 16) * sizeof *v);
        v[n++] = xstrdup(word);
    }
    free(words);
    v[n++] = xasprintf("%s/rhetor-%s", getenv("BIN"), config_stage_name(s->stage));
    v[n++] = xstrdup(s->config);
    for (int k = 0; k < s->nset; k++) v[n++] = xstrdup(s->set[k]);
    v[n] = NULL;
    return v;
}

static void free_command(char **v) {
    for (int i = 0; v[i]; i++) free(v[i]);
    free(v);
}

/* As a person would type it. */
static char *command_text(const Pipeline *p, int i) {
    const RecipeStep *s = &p->recipe.step[i];
    if (s->run) {
        char *text = recipe_expand(s->run);
        size_t n = strlen(text);
        while (n > 0 && text[n - 1] == '\n') text[--n] = '\0';
        return text;
    }
    Text text = {0};
    char **v = command_of(p, i);
    for (int k = 0; v[k]; k++) {
        const char *slash = strrchr(v[k], '/');
        const char *word = slash && strncmp(slash, "/rhetor-", 8) == 0 ? slash + 1 : v[k];
        text_put(&text, "%s%s", k ? " " : "", word);
    }
    free_command(v);
    return text_take(&text);
}

/* Moves a run folder aside, so that the stage starts over and nothing is lost. */
static int set_aside(const char *dir) {
    if (!file_exists(dir)) return 0;
    FileLock *l;
    TRY(lock_take(&l, dir)); /* refused while a run lives there */
    lock_drop(&l);
    char *aside = NULL;
    for (int n = 1; n == 1 || file_exists(aside); n++) {
        free(aside);
        aside = xasprintf("%s.old-%d", dir, n);
    }
    int rc = rename(dir, aside) == 0 ? 0 : file_error(dir, "rename");
    if (rc == 0) printf("   the earlier %s is kept as %s\n", dir, aside);
    free(aside);
    return rc;
}

/* The time of a stage's status.json; 0: there is none. */
static struct timespec status_time(const RecipeStep *s) {
    struct stat st = {0};
    AUTOFREE char *path = s->stage ? file_join(s->dir, "status.json") : NULL;
    if (path && stat(path, &st) != 0) st.st_mtim = (struct timespec){0};
    return st.st_mtim;
}

/* Has the stage left a word in status.json since the one of the time `before`? */
static bool has_spoken(const RecipeStep *s, struct timespec before) {
    const struct timespec now = status_time(s);
    return now.tv_sec != before.tv_sec || now.tv_nsec != before.tv_nsec;
}

/* A stage, and the time of the status.json that was there when it began. */
typedef struct StageRun {
    const RecipeStep *s;
    struct timespec before;
} StageRun;

/* Has it left its last word? */
static bool is_over(const void *ctx) {
    const StageRun *r = ctx;
    StageStatus st;
    if (!has_spoken(r->s, r->before)) return false;
    progress_status(r->s, &st);
    return strcmp(st.state, "stopped") == 0 || strcmp(st.state, "failed") == 0 ||
           strcmp(st.state, "done") == 0;
}

/* What the launcher said, unless the stage left its own word in status.json: `before` is the time
 * of the one that was there when the stage began. */
static int true_status(const RecipeStep *s, int status, struct timespec before) {
    if (status == 0 || !s->stage || !has_spoken(s, before)) return status;
    StageStatus st;
    progress_status(s, &st);
    if (strcmp(st.state, "done") == 0 && status > 128) return 0; /* the launcher was ended */
    bool left = strcmp(st.state, "stopped") == 0 || strcmp(st.state, "failed") == 0;
    return left && st.code > 0 ? st.code : status;
}

/* Exit codes that are Rhetor's own, so that it was started. */
static bool is_ours(int status) {
#define X(name, code, exit) || status == exit
    return status == 0 ERROR_LIST(X);
#undef X
}

/* The last word on a step that did not succeed. */
static int give_up(const Pipeline *p, int i, int status, const char *log) {
    const RecipeStep *s = &p->recipe.step[i];
    const int requeue = error_exit_code(ERR_REQUEUE);
    if (status == requeue) {
        say(p, i, "stopped and saved; run the same command to go on");
        return requeue;
    }
    if (status == 128 + SIGINT || status == 128 + SIGTERM || status == 128 + SIGUSR1 ||
        status == 128 + SIGHUP) {
        say(p, i, "was interrupted; run the same command to go on");
        return requeue;
    }
    AUTOFREE char *command = command_text(p, i);
    fprintf(stderr,
            "rhetor-pipeline: step %s (%s) ended with %d: RUN=%s SEED=%s %s\n   its log: %s\n",
            s->name, s->place, status, getenv("RUN"), getenv("SEED"), command, log);
    return status > 128 ? error_exit_code(ERR_INTERNAL) : status;
}

static int run_step(Pipeline *p, int i, uint64_t key, StepState state, int *status) {
    const RecipeStep *s = &p->recipe.step[i];
    StepMark m;
    AUTOFREE char *text = command_text(p, i);
    const int line = (int)strcspn(text, "\n"); /* of a long command only the first */
    say(p, i, "%s%.*s%s", state == STEP_STARTED && s->stage ? "going on: " : "", line, text,
        text[line] ? " ..." : "");
    if (s->stage && (state == STEP_CHANGED || p->args->force)) TRY(set_aside(s->dir));
    if (!progress_mark_read(&p->recipe, i, &m) || state != STEP_STARTED) m.seconds = 0;
    m.key = key;
    m.done = false;
    TRY(progress_mark_write(&p->recipe, i, &m));

    AUTOFREE char *path =
        s->stage ? file_join(s->dir, "log.txt") : xasprintf("%s/%s.log", p->recipe.marks, s->name);
    FILE *log = NULL;
    int rc = 0;
    if (!s->stage && !(log = fopen(path, "w"))) rc = file_error(path, "open");
    const double began = clock_seconds();
    const struct timespec before = status_time(s);
    const StageRun stage = {s, before};
    const bool launcher = s->stage && (p->args->ranks > 0 || p->args->launch);
    char **argv = command_of(p, i);
    if (rc == 0) rc = process_run(argv, log, launcher, launcher ? is_over : NULL, &stage, status);
    if (rc == 0 && *status > 128) *status = true_status(s, *status, before);
    free_command(argv);
    if (log) fclose(log);
    if (rc == 0) {
        m.seconds += clock_seconds() - began;
        m.done = *status == 0;
        rc = progress_mark_write(&p->recipe, i, &m);
    }
    p->not_begun = s->stage && p->args->launch && before.tv_sec > 0 && !has_spoken(s, before) &&
                   !is_ours(*status);
    if (rc == 0 && *status == 0)
        say(p, i, "done in %.1f s", clock_seconds() - began);
    else if (rc == 0)
        *status = give_up(p, i, true_status(s, *status, before), path);
    return rc;
}

static void say_skipped(const Pipeline *p, int i) {
    StageStatus st;
    StepMark m;
    progress_mark_read(&p->recipe, i, &m);
    if (p->recipe.step[i].stage) {
        progress_status(&p->recipe.step[i], &st);
        say(p, i, "done already, %" PRId64 " steps in %.1f s", st.steps, m.seconds);
    } else
        say(p, i, "done already, in %.1f s", m.seconds);
}

static int run_all(Pipeline *p, int *status) {
    const Recipe *r = &p->recipe;
    const double began = clock_seconds();
    uint64_t key = 0;
    int made = 0;
    for (int i = 0; i <= p->last && *status == 0; i++) {
        key = progress_key(r, i, key);
        StepState state = progress_state(r, i, key);
        if (i < p->first) {
            if (state != STEP_DONE) say(p, i, "left out, but it is not done");
            continue;
        }
        if (state == STEP_DONE && !p->args->force) {
            say_skipped(p, i);
            continue;
        }
        TRY(run_step(p, i, key, state, status));
        made++;
    }
    if (*status == 0)
        printf("%s: %d step%s done, %d of them now, in %.1f s: %s\n", r->folder,
               p->last - p->first + 1, TEXT_S(p->last - p->first + 1), made,
               clock_seconds() - began, getenv("RUN"));
    if (*status == 0 && p->last == r->n - 1 && r->end) {
        AUTOFREE char *text = recipe_expand(r->end);
        printf("%s\n", text);
    }
    return 0;
}

/* --- --dry-run -------------------------------------------------------------------------------- */
static void print_plan(const Pipeline *p) {
    const Recipe *r = &p->recipe;
    uint64_t key = 0;
    bool before = true; /* all steps before this one are done */
    for (int i = 0; i < r->n; i++) {
        key = progress_key(r, i, key);
        StepState state = progress_state(r, i, key);
        bool chosen = i >= p->first && i <= p->last;
        bool done = before && state == STEP_DONE && !(p->args->force && chosen);
        AUTOFREE char *text = command_text(p, i);
        say(p, i, "%s: %s",
            !chosen                           ? "left out"
            : done                            ? "is done"
            : before && state == STEP_STARTED ? "goes on"
            : state != STEP_WAITING           ? "is made again"
                                              : "runs",
            text);
        before = done;
    }
}

/* --- main ------------------------------------------------------------------------------------- */
static int choose_steps(Pipeline *p) {
    const Args *a = p->args;
    const char *from = a->only ? a->only : a->from, *until = a->only ? a->only : a->until;
    p->first = 0;
    p->last = p->recipe.n - 1;
    if (from) TRY(p->first = recipe_find(&p->recipe, from));
    if (until) TRY(p->last = recipe_find(&p->recipe, until));
    if (p->first > p->last)
        return error_set(ERR_USAGE, "--from %s comes after --until %s", from, until);
    return 0;
}

/* A job of a cluster counts its lives; one that saved and left goes back into the queue. Commands
 * cannot go on where they were: such a job fails, and the next rhetor-submit starts it over. A
 * launcher that fails where it has worked before (a bad node, an earlier life that still leaves) is
 * tried again, too, as often as there may be lives without progress. */
static int begin_life(const Pipeline *p) {
    const char *id;
    const Queue *q = queue_of_job(&id);
    Lives l;
    if (!q) {
        AUTOFREE char *titles = queue_list(QUEUE_TITLES, " or "),
                      *ids = queue_list(QUEUE_VARIABLES, ", ");
        error_set(ERR_USAGE, "--job: no job of %s (none of %s is set)", titles, ids);
        return ERR_USAGE;
    }
    jobs_read_lives(getenv("RUN"), p->args->job, &l);
    l.starts++;
    char life[24];
    snprintf(life, sizeof life, "%" PRId64, l.starts);
    setenv("RHETOR_LIFE", life, 1); /* for the locks: base/lock.c */
    printf("%s: job %s of %s, start %" PRId64 "\n", p->args->job, id, q->name, l.starts);
    return jobs_write_lives(getenv("RUN"), p->args->job, &l);
}

static int end_life(const Pipeline *p, int *status) {
    const RecipeStep *s = &p->recipe.step[p->last];
    StageStatus st;
    const bool saved = s->stage && *status == error_exit_code(ERR_REQUEUE);
    if (!saved && !p->not_begun) return 0;
    progress_status(s, &st);
    return jobs_requeue(getenv("RUN"), p->args->job, st.step, saved ? st.reason : JOB_NOT_LAUNCHED,
                        status);
}

static int run(Pipeline *p, int *status) {
    const Args *a = p->args;
    TRY(file_make_dirs(p->recipe.marks));
    if (a->job) TRY(begin_life(p));
    TRY(lock_take(&p->lock, p->recipe.marks));
    int rc = a->job ? 0 : request_remember(&a->request); /* of a job: rhetor-submit did */
    if (rc >= 0) rc = run_all(p, status);
    lock_drop(&p->lock); /* before the next life begins, perhaps on another host */
    return rc >= 0 && a->job ? end_life(p, status) : rc;
}

static int pipeline(Args *a, int *status) {
    Pipeline p = {.args = a};
    Request *r = &a->request;
    int rc = request_environment(r, !a->status && !a->dry);
    if (rc >= 0 && a->status && request_recall(r)) rc = request_environment(r, false);
    if (rc >= 0 && !a->status) rc = recipe_make(getenv("RECIPE"), a->dry);
    if (rc == 2) return 0; /* it has said what it would do */
    if (rc > 0) rc = request_check_made(r);
    if (rc >= 0) rc = recipe_load(&p.recipe, getenv("RECIPE"), r->set.v, r->set.n);
    if (rc >= 0) rc = choose_steps(&p);
    if (rc >= 0 && !a->status) rc = recipe_check_commands(&p.recipe);
    if (rc >= 0 && a->status)
        status_print(&p);
    else if (rc >= 0 && a->dry)
        print_plan(&p);
    else if (rc >= 0)
        rc = run(&p, status);
    recipe_free(&p.recipe);
    return rc;
}

int main(int argc, char **argv) {
    Args a = {.request = REQUEST_NONE};
    int status = 0;
    option_parse(options, NULL,
                 "Runs all steps of a recipe, resuming where it stopped.\v"
                 "rhetor-pipeline configs/demo --seed 2\n"
                 "rhetor-pipeline configs/demo ppo.beta=0.1 --from ppo --ranks 4\n"
                 "rhetor-pipeline configs/own --data DIR --minutes 60\n"
                 "rhetor-submit has a cluster do the same.\n",
                 argc, argv, &a);
    process_signals();
    a.status = a.status || a.json;
    int rc = check_options(&a);
    if (rc >= 0) rc = pipeline(&a, &status);
    request_free(&a.request);
    return option_end(rc < 0 ? rc : status);
}
