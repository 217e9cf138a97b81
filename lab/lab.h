/* lab.h: an experiment: a recipe, a matrix of settings and seeds, what is measured, and panels that
 * say what a paper found and by which criterion it holds here. docs/LAB.md tells how one is written.
 *
 * Each cell of the matrix is a run of the recipe. A step of it is addressed by the hash of all that
 * it depends on: its command or resolved settings, and the addresses of the steps that make the
 * files which it names. So equal steps of all cells, and of all labs, are made once, and what was
 * killed goes on. Nothing here is collective. */
#ifndef LAB_LAB_H
#define LAB_LAB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/option.h"
#include "base/yaml.h"

/* --- what is written (lab/matrix.c) ----------------------------------------------------------- */
/* A level of a factor: its settings "key=value"; a key in capitals is an environment variable. */
typedef struct LabLevel {
    char *name;
    OptionList set; /* malloc'd texts */
} LabLevel;

typedef struct LabFactor {
    char *name; /* "seed", "rm", "beta" */
    LabLevel *level;
    int n;
} LabFactor;

/* A file of numbers, and the command that makes it (NULL: a step of the recipe does). */
typedef struct LabMeasure {
    char *name, *run, *read, *rows;
    OptionList take; /* "field=member"; none: all */
} LabMeasure;

typedef struct LabPlot {
    char *of, *x, *lines, *fit, *where; /* where: filters, "model=ppo, kl<4" */
    OptionList y;
    bool bars, log_x;
} LabPlot;

typedef struct LabPanel {
    char *name, *claim, *source, *unit; /* unit of inference: "seed" */
    OptionList holds;
    LabPlot *plot;
    int nplot;
} LabPanel;

typedef struct LabFile {
    char *path, *name, *about, *recipe;
    OptionList set;
    LabFactor *factor;
    int nfactor;
    LabMeasure *measure;
    int nmeasure;
    LabPanel *panel;
    int npanel;
} LabFile;

/* ERR_CONFIG with file:line. */
int matrix_read(LabFile *out, const char *path);
void matrix_free(LabFile *lab);
int matrix_cells(const LabFile *lab);
/* Level of factor f in a cell; the last factor changes fastest. */
const LabLevel *matrix_level(const LabFile *lab, int cell, int f);
char *matrix_name(const LabFile *lab, int cell); /* "seed=1,rm=r350"; malloc'd */

/* --- what is to be done (lab/steps.c) --------------------------------------------------------- */
/* READY: all it needs is done; FAILED: it, or what it needs, has failed. */
typedef enum LabState { LAB_WAITS, LAB_READY, LAB_RUNS, LAB_FAILED, LAB_DONE } LabState;

typedef struct LabStep {
    char *name, *folder; /* folder: OUT/steps/NAME-ADDRESS, the step's RUN */
    uint64_t address;
    char *run;          /* a command; NULL: a stage */
    int stage;          /* STAGE_* */
    char *config, *dir; /* of a stage; dir: its run folder, below RUN */
    OptionList set;     /* of a stage, malloc'd */
    OptionList env;     /* "NAME=value", malloc'd */
    OptionList input;   /* names below RUN that other steps make, malloc'd ... */
    int *from;          /* ... and these steps */
    LabState state;
    double seconds, cpu; /* of a done one: by the clock, of all threads */
    double before;       /* seconds that steps of its name took in OUT so far; 0: none is done */
} LabStep;

/* Where a file of a cell lies. */
typedef struct LabProduct {
    char *name; /* first part of its path below RUN */
    int step;
} LabProduct;

typedef struct LabCell {
    int lab, index;
    int *measured; /* the step that makes the file of each measure */
    LabProduct *product;
    int nproduct;
} LabCell;

typedef struct LabGraph {
    char *out; /* steps lie in OUT/steps */
    LabFile *lab;
    int nlab;
    LabCell *cell;
    int ncell;
    LabStep *step; /* each after those that it needs */
    int n;
} LabGraph;

/* Reads the labs and makes the graph of all steps that their measures need. set: settings of all
 * labs besides their own. Sets environment variables. ERR_CONFIG. */
int steps_load(LabGraph *out, const OptionList *paths, const OptionList *set, const char *folder,
               const char *data);
void steps_free(LabGraph *g);
/* Looks into the folders and sets the state of all steps. */
void steps_look(LabGraph *g);
char *steps_file(const LabStep *s, const char *name); /* FOLDER/.lab/NAME; malloc'd */
/* The file of a measure in a cell; malloc'd. */
char *steps_measured(const LabGraph *g, const LabCell *c, int measure);

/* --- doing it (lab/work.c) -------------------------------------------------------------------- */
/* Does steps that are ready, one after the other, until nothing is left for this process: several
 * such processes, on one machine or on many that see the folder, share the work by locks. threads:
 * OMP_NUM_THREADS of the steps. parent: the process without which there is no use going on; 0:
 * none. Returns 0, ERR_REQUEUE when a step was asked to save and leave, ERR_INTERNAL when one has
 * failed. */
int work_loop(LabGraph *g, int64_t threads, int parent);
/* Why the loop was asked to leave: "SIGUSR1: ..."; "": it was not. */
const char *work_reason(void);
/* Forks so many of these, shows a line of progress, and hands on signals; process_signals must have
 * been called. Forgets earlier failures first. */
int work_all(LabGraph *g, int64_t jobs, int64_t threads);
void work_forget_failures(const LabGraph *g);
/* What is done and what runs, by name of the steps; cells that are complete. */
void work_status(LabGraph *g);
void work_plan(LabGraph *g, int64_t jobs); /* for --dry-run */

/* --- what came out (lab/results.c) ------------------------------------------------------------ */
/* Records of all cells of a lab that are measured: flat objects with "measure" and a member a
 * factor. *missing: measures of cells that are not there yet. A new reference. */
int results_collect(LabGraph *g, int lab, json_t **out, int *missing);
int results_write(const LabGraph *g, int lab, const json_t *records); /* OUT/NAME/results.jsonl */

/* --- on a cluster (lab/lab_submit.c) ---------------------------------------------------------- */
/* Submits `workers` jobs, each of which does `command`, a line of bash, and is put back when it is
 * preempted or warned of its end: work_loop. Settings of the jobs are cluster.* of `file` (NULL:
 * cluster.yaml beside the first lab) and `cluster`; dry: the scripts are printed. ERR_CONFIG. */
int lab_submit(const LabGraph *g, int64_t workers, const char *command, const char *file,
               const OptionList *cluster, bool dry);
/* At the end of such a job that was asked to leave: *status: with what it has to. */
int lab_submit_end(const LabGraph *g, const char *job, int *status);

#endif
