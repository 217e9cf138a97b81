/* status.c: how far the steps of a recipe are, from what lies in the folders of the run: the marks,
 * status.json, the last line of metrics.jsonl, the estimate in log.txt, the jobs. */
#include "pipeline/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "pipeline/jobs.h"
#include "pipeline/progress.h"

typedef struct Line {
    const char *state;
    int64_t step, steps;
    char result[64]; /* "loss 3.21" */
    const char *metric;
    double value, seconds;
    char eta[32];
    const char *job;  /* its id; "": none */
    int64_t restarts; /* -1: not a job, or not yet */
} Line;

/* The last line of metrics.jsonl: "loss 3.21", "" if there is none; its step, 0. */
static void last_result(const RecipeStep *s, Line *l) {
    static const char *const metrics[][2] = {
        {"objective/scores", "score"}, {"accuracy", "accuracy"}, {"loss", "loss"}};
    AUTOFREE char *path = file_join(s->dir, "metrics.jsonl"), *text = NULL;
    size_t len;
    json_auto_t *j = NULL;
    if (file_exists(path) && file_read(path, &text, &len) >= 0) {
        while (len > 0 && text[len - 1] == '\n') text[--len] = '\0';
        const char *line = memrchr(text, '\n', len);
        line = line ? line + 1 : text;
        if (*line && json_parse(&j, line, strlen(line), path, 0) < 0) j = NULL;
    }
    if (j) l->step = json_integer_value(json_object_get(j, "step"));
    for (int i = 0; i < 3 && !l->metric; i++) {
        const json_t *v = json_object_get(j, metrics[i][0]);
        if (!json_is_number(v)) continue;
        l->metric = metrics[i][1];
        l->value = json_number_value(v);
        snprintf(l->result, sizeof l->result, "%s %.4f", l->metric, l->value);
    }
}

/* What the last progress line of log.txt expects: "1:02:30". */
static void last_eta(const RecipeStep *s, Line *l) {
    AUTOFREE char *path = file_join(s->dir, "log.txt"), *text = NULL;
    size_t len;
    if (file_exists(path) && file_read(path, &text, &len) >= 0)
        for (const char *at = text; (at = strstr(at, "  eta ")); at += 6)
            sscanf(at + 6, "%31[0-9:]", l->eta);
}

static void last_job(const Recipe *r, const Jobs *jobs, int i, Line *l) {
    l->job = "";
    l->restarts = -1;
    for (int k = 0; k < jobs->n; k++) {
        const Job *job = &jobs->job[k];
        const int first = recipe_find(r, job->first), last = recipe_find(r, job->last);
        if (i < first || i > last || first < 0) continue;
        Lives lives;
        jobs_read_lives(getenv("RUN"), job->name, &lives);
        l->job = job->id;
        if (lives.starts > 0) l->restarts = lives.starts - 1;
    }
}

/* before: all steps before it are done. */
static Line line_of(const Recipe *r, const Jobs *jobs, int i, StepState state, bool before) {
    const RecipeStep *s = &r->step[i];
    StageStatus st = {0};
    StepMark m = {0};
    Line l = {.state = "waiting"};
    if (s->stage) {
        progress_status(s, &st);
        l.steps = st.steps;
        last_result(s, &l);
    }
    progress_mark_read(r, i, &m);
    l.seconds = m.seconds;
    if (s->stage ? lock_held(s->dir, NULL) : state == STEP_STARTED && lock_held(r->marks, NULL))
        l.state = "running";
    else if (state == STEP_CHANGED || (!before && state == STEP_DONE))
        l.state = "outdated";
    else if (state == STEP_DONE)
        l.state = "done";
    else if (strcmp(st.state, "failed") == 0)
        l.state = "failed";
    else if (state == STEP_STARTED || st.state[0])
        l.state = "stopped";
    if (s->stage && strcmp(l.state, "running") == 0) last_eta(s, &l);
    last_job(r, jobs, i, &l);
    return l;
}

static void print_line(const RecipeStep *s, const Line *l, bool jobs) {
    char progress[48] = "", seconds[24] = "", restarts[24] = "";
    if (l->steps > 0)
        snprintf(progress, sizeof progress, "%" PRId64 "/%" PRId64, l->step, l->steps);
    if (l->seconds > 0) snprintf(seconds, sizeof seconds, "%.1f", l->seconds);
    if (l->restarts >= 0) snprintf(restarts, sizeof restarts, "%" PRId64, l->restarts);
    printf("%-14s %-9s %11s  %-18s %9s %8s", s->name, l->state, progress, l->result, seconds,
           l->eta);
    if (jobs) printf(" %10s %8s", l->job, restarts);
    printf("\n");
}

static json_t *json_of(const RecipeStep *s, const Line *l) {
    json_t *o = json_pack("{s:s, s:s}", "name", s->name, "state", l->state);
    if (s->stage) {
        json_object_set_new(o, "step", json_integer(l->step));
        json_object_set_new(o, "steps", json_integer(l->steps));
    }
    if (l->metric) json_object_set_new(o, l->metric, json_real(l->value));
    if (l->eta[0]) json_object_set_new(o, "eta", json_string(l->eta));
    json_object_set_new(o, "seconds", json_real(l->seconds));
    if (*l->job) json_object_set_new(o, "job", json_string(l->job));
    if (l->restarts >= 0) json_object_set_new(o, "restarts", json_integer(l->restarts));
    return o;
}

void status_print(const Pipeline *p) {
    const Recipe *r = &p->recipe;
    Jobs jobs;
    if (jobs_read(&jobs, getenv("RUN")) < 0) jobs = (Jobs){0};
    uint64_t key = 0;
    bool before = true;
    json_auto_t *steps = json_array();
    const Request *q = &p->args->request;
    if (!p->args->json) {
        printf("%s in %s", r->folder, getenv("RUN"));
        if (strcmp(getenv("SEED"), "1") != 0) printf(", seed %s", getenv("SEED"));
        for (int i = 0; i < q->set.n; i++) printf("%s%s", i ? " " : ", with ", q->set.v[i]);
        printf("\n%-14s %-9s %11s  %-18s %9s %8s%s\n", "step", "state", "progress", "last",
               "seconds", "eta", jobs.n ? "        job restarts" : "");
    }
    for (int i = 0; i < r->n; i++) {
        key = progress_key(r, i, key);
        StepState state = progress_state(r, i, key);
        Line l = line_of(r, &jobs, i, state, before);
        before = before && state == STEP_DONE;
        if (p->args->json)
            json_array_append_new(steps, json_of(&r->step[i], &l));
        else
            print_line(&r->step[i], &l, jobs.n > 0);
    }
    if (p->args->json) {
        json_t *set = json_array();
        for (int i = 0; i < q->set.n; i++) json_array_append_new(set, json_string(q->set.v[i]));
        json_t *all =
            json_pack("{s:s, s:s, s:s, s:o, s:O}", "recipe", r->folder, "run", getenv("RUN"),
                      "seed", getenv("SEED"), "settings", set, "steps", steps);
        AUTOFREE char *text = json_dumps(all, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
        printf("%s\n", text);
        json_decref(all);
    }
    jobs_free(&jobs);
}
