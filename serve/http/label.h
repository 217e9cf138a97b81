/* label.h: the labelling database: items, labellers, who gets what, answers. One SQLite file in WAL
 * mode; several processes may use it at once. What a function here acknowledged is on the disk. */
#ifndef SERVE_HTTP_LABEL_H
#define SERVE_HTTP_LABEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "serve/http/sql.h"

typedef struct Label {
    sqlite3 *db;
    json_t *form;         /* serve/http/label_form.h */
    int64_t seed;         /* of the blind orders */
    int64_t overlap;      /* labellers an item */
    int64_t gold_every;   /* every n-th task is one whose ranking is known; 0: none */
    int64_t repeat_every; /* every n-th task is one that the labeller did before; 0: none */
} Label;

/* The settings that a new database is made with, or that change; -1, NULL: as they are. */
typedef struct LabelSettings {
    const char *form; /* a YAML file */
    int64_t seed, overlap, gold_every, repeat_every;
} LabelSettings;

/* s NULL: an existing database, as it is; else it is made if it is not there. ERR_IO, ERR_DATA (of
 * another program or version), ERR_CONFIG. */
int label_open(Label **out, const char *path, const LabelSettings *s);
void label_close(Label **l);

/* A labeller, made if new, and a new token for them, which makes the old one void. */
int label_token(Label *l, const char *name, bool admin, char token[33]);
/* Whose token it is: 0 nobody's. Every token is compared in full. */
int64_t label_whose(Label *l, const char *token, bool *admin);
int64_t label_by_name(Label *l, const char *name); /* 0: none */

/* task "rank": k = 2..9 completions; "write": none. `prompt`: a text or messages; `record`: its
 * other fields; ranks (NULL: none) make it an item of quality control. 1: added, 0: it is there
 * already. All are borrowed. ERR_DATA, ERR_IO. */
int label_add(Label *l, const char *task, json_t *prompt, json_t *completions, json_t *record,
              json_t *ranks, double priority);

/* The labeller's task: the one that lies open, else a new one; *out is JSON null when there is
 * nothing left. Members: assignment, task, prompt, completions (in the blind order), draft (NULL or
 * what was autosaved), pass. */
int label_task(Label *l, int64_t labeller, json_t **out);
/* Saves the answer that the client calls `id`; the same id again changes nothing. `body` speaks of
 * the completions in the blind order. ERR_DATA: not complete, or not theirs. */
int label_answer(Label *l, int64_t labeller, int64_t assignment, const char *id, const json_t *body,
                 double seconds);
int label_draft(Label *l, int64_t labeller, int64_t assignment, const json_t *body);
int label_skip(Label *l, int64_t labeller, int64_t assignment, const char *reason);
/* Opens the labeller's newest answered or skipped task again, its answer as the draft. 0: none. */
int label_undo(Label *l, int64_t labeller);
/* Items, without quality control, that lack answers of labellers. */
int64_t label_unfinished(Label *l);
/* {"done", "skipped", "left"} of the labeller. */
int label_progress(Label *l, int64_t labeller, json_t **out);

/* A ranking from the chat page: an item and its answer at once. `record` as label_add has it; body has
 * "rank" of the completions in their order, and what else shall be kept. All are borrowed. */
int label_ranked(Label *l, int64_t labeller, json_t *prompt, json_t *completions, json_t *record,
                 const json_t *body);

/* order[shown] = completion, of k, for this labeller, item and pass. */
void label_order(const Label *l, int64_t labeller, int64_t item, int64_t pass, int k, int *order);

/* The newest answers, one at a time: 1, 0 at the end. The texts are borrowed until the next. */
typedef struct LabelAnswer {
    int64_t item, labeller, pass;
    const char *name, *task, *at;
    double seconds;
    json_t *prompt, *completions, *record, *gold, *body; /* body: in the completions' own order */
} LabelAnswer;
int label_answers(Label *l, sqlite3_stmt **cursor);
int label_answers_next(sqlite3_stmt *cursor, LabelAnswer *a);
void label_answers_drop(LabelAnswer *a); /* its JSON */

#endif
