/* queue.c: the table of queues, and the calls of their programs. See queue.h; docs/CLUSTER.md tells
 * what each directive is for. */
#include "base/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "base/text.h"

/* clang-format off */
const Queue queues[] = {
    {   .name = "slurm", .title = "Slurm",
        .id_variable = "SLURM_JOB_ID", .life_variable = "SLURM_RESTART_COUNT",
        .submit = {"sbatch", "--parsable"},
        .after = {"--dependency=afterok:%s"},
        .id_end = "; \t", /* "12;cluster" */
        .cancel = "scancel",
        .state = {"squeue", "--noheader", "--format=%T", "--jobs"},
        .over = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL",
                 "PREEMPTED", "TIMEOUT", "OUT_OF_MEMORY", "REVOKED"},
        .own = {"scontrol", "show", "job"}, .own_begin = "JobState=",
        .put_back = {"scontrol", "requeue"}, /* dependants wait for the final success */
        .sizes = {"sinfo", "--noheader", "--format=%D %c"}, .partition = "--partition=",
        .directive = "#SBATCH",
        .header = "--job-name={name}\n"
                  "--nodes={nodes}\n"
                  "--ntasks-per-node={ranks}\n"
                  "--cpus-per-task={threads}\n"
                  "--time={time}\n"
                  "--partition={partition}\n"
                  "--account={account}\n"
                  "--signal={to_script}USR1@{lead}\n"
                  "--requeue\n"
                  "--open-mode=append\n"
                  "--kill-on-invalid-dep=yes\n"
                  "--output={output}\n",
        .percent = "%%",
        .warns = true,
        /* since 22.05 srun does not take the cores of a rank from the job */
        .launch = "export SRUN_CPUS_PER_TASK={threads}\n"
                  "launch='srun --mpi={pmi} --cpu-bind=cores --kill-on-bad-exit=1 --wait=60'\n",
        .hosts = "",
        .goes_back = "Slurm's SIGUSR1 comes cluster.lead before the end (and before a preemption, where the\n"
                     "# site sends it): the stage saves and leaves with 75, and rhetor-pipeline has Slurm put this job\n"
                     "# back (scontrol requeue)."},
    {   .name = "pbs", .title = "PBS",
        .id_variable = "PBS_JOBID",
        .submit = {"qsub"},
        .after = {"-W", "depend=afterok:%s"},
        .id_end = " \t", /* "12.server" */
        .cancel = "qdel",
        .state = {"qstat"}, .state_word = 4, /* id, name, user, time, state, queue */
        .over = {"F", "C", "X"},
        .put_back = {"qrerun"}, /* where the site lets users do so */
        .change = {"qalter"},
        .directive = "#PBS",
        .header = "-N {name}\n"
                  "-l select={nodes}:ncpus={cores}:mpiprocs={ranks}:ompthreads={threads}\n"
                  "-l place=scatter\n"
                  "-l walltime={time}\n"
                  "-q {partition}\n"
                  "-A {account}\n"
                  "-r y\n"
                  "-V\n"
                  "-j oe\n"
                  "-o {output}\n",
        .percent = "%",
        .name_most = 15, /* of older servers */
        .hosts = " --hostfile $PBS_NODEFILE",
        .goes_back = "run.deadline is cluster.lead before the end: the stage saves and leaves with 75, and\n"
                     "# rhetor-pipeline has PBS put this job back (qrerun; where that is not for users, this script is\n"
                     "# submitted again and the next job made to wait for it)."},
    {   .name = "lsf", .title = "LSF",
        .id_variable = "LSB_JOBID",
        .submit = {"bsub"}, .reads_script = true,
        .after = {"-w", "done(%s)"},
        .id_begin = "Job <", .id_end = ">", /* "Job <12> is submitted to ..." */
        .cancel = "bkill",
        .state = {"bjobs", "-noheader", "-o", "stat"},
        .over = {"DONE", "EXIT", "ZOMBI"},
        .directive = "#BSUB", /* -Q 75 puts back what leaves with 75 */
        .header = "-J {name}\n"
                  "-n {tasks}\n"
                  "-R \"span[ptile={ranks}]\"\n"
                  "-R \"affinity[core({threads})]\"\n"
                  "-W {minutes}\n"
                  "-wt {lead_minutes}\n"
                  "-wa USR1{if_lead_minutes}\n"
                  "-q {partition}\n"
                  "-P {account}\n"
                  "-Q 75{if_stage}\n"
                  "-r\n"
                  "-ti\n"
                  "-o {output}\n",
        .warns = true,
        .hosts = " --hostfile $LSB_DJOB_HOSTFILE --mca plm_rsh_agent blaunch",
        .goes_back = "LSF's SIGUSR1 comes cluster.lead before the end: the stage saves and leaves with 75, with\n"
                     "# which LSF puts this job back (-Q 75)."},
    {0}};
/* clang-format on */

const Queue *queue_by_name(const char *name) {
    for (const Queue *q = queues; q->name; q++)
        if (strcmp(q->name, name) == 0) return q;
    return NULL;
}

const Queue *queue_of_job(const char **id) {
    for (const Queue *q = queues; q->name; q++) {
        *id = getenv(q->id_variable);
        if (*id && **id) return q;
    }
    *id = "";
    return NULL;
}

char *queue_list(QueueWord what, const char *last) {
    Text t = {0};
    for (const Queue *q = queues; q->name; q++) {
        const char *words[] = {q->title, q->submit[0], q->name, q->id_variable};
        text_put(&t, "%s%s", q == queues ? "" : q[1].name ? ", " : last, words[what]);
        if (what == QUEUE_PROGRAMS) text_put(&t, " (%s)", q->title);
    }
    return t.s;
}

/* --- calls ------------------------------------------------------------------------------------ */
#define WORD(text) ((char *)(uintptr_t)(text)) /* argv is not const */

typedef struct Call {
    char *argv[12], *own; /* own: a word made here */
    int n;
} Call;

static void call_add(Call *c, const char *const *words, int most) {
    for (int i = 0; i < most && words[i]; i++) c->argv[c->n++] = WORD(words[i]);
}
#define CALL_ADD(c, words) call_add(c, words, sizeof(words) / sizeof *(words))

static void call_add_after(Call *c, const Queue *q, const char *id) {
    for (const char *const *w = q->after; *w; w++) {
        const char *hole = strstr(*w, "%s");
        if (hole)
            c->argv[c->n++] = c->own = xasprintf("%.*s%s%s", (int)(hole - *w), *w, id, hole + 2);
        else
            c->argv[c->n++] = WORD(*w);
    }
}

/* The first line of what a program said, for a message. */
static int first_line(const char *text) { return (int)strcspn(text, "\n"); }

static const char *last_line(const char *text) {
    const char *line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

/* Runs the program and demands its success; *text as process_capture. */
static int call_demand(const Call *c, const char *input, char **text) {
    int status;
    TRY(process_capture(c->argv, input, text, &status));
    if (status == 0) return 0;
    for (char *t = *text; *t; t++)
        if (*t == '\n') *t = ' ';
    int rc = error_set(ERR_CONFIG, "%s left with %d and said: %s%s", c->argv[0], status, *text,
                       **text ? "" : "nothing; is it installed and the server up?");
    free(*text);
    *text = NULL;
    return rc;
}

/* The id within what the program printed; warnings may stand before it. NULL: none. */
static char *find_id(const Queue *q, const char *text) {
    const char *at = q->id_begin ? strstr(text, q->id_begin) : last_line(text);
    if (!at) return NULL;
    if (q->id_begin) at += strlen(q->id_begin);
    return *at >= '0' && *at <= '9' ? xasprintf("%.*s", (int)strcspn(at, q->id_end), at) : NULL;
}

int queue_submit(const Queue *q, const char *script, const char *after, char **id) {
    Call c = {0};
    AUTOFREE char *text = NULL;
    CALL_ADD(&c, q->submit);
    if (after) call_add_after(&c, q, after);
    if (!q->reads_script) c.argv[c.n++] = WORD(script);
    int rc = call_demand(&c, q->reads_script ? script : NULL, &text);
    if (rc >= 0 && !(*id = find_id(q, text)))
        rc = error_set(ERR_DATA, "%s printed no job id but: %s", c.argv[0], text);
    free(c.own);
    return rc < 0 ? rc : 0;
}

static void copy_word(const char *text, int word, char out[32]) {
    while (word-- > 0) {
        text += strspn(text, " \t");
        text += strcspn(text, " \t");
    }
    if (sscanf(text, "%31s", out) != 1) out[0] = '\0';
}

int queue_alive(const Queue *q, const char *id, bool *alive, char state[32]) {
    Call c = {0};
    AUTOFREE char *text = NULL;
    int status = 0, rc = 0;
    CALL_ADD(&c, q->state);
    c.argv[c.n++] = WORD(id);
    TRY(process_capture(c.argv, NULL, &text, &status));
    state[0] = '\0';
    if (status == 0) copy_word(last_line(text), q->state_word, state);
    *alive = state[0];
    for (const char *const *over = q->over; *over; over++)
        if (strcmp(*over, state) == 0) *alive = false;
    /* A job that is long over is not known any more: "Invalid job id", "Unknown Job Id", "Job has
     * finished", "Job <1> is not found". */
    if (status != 0 && !strcasestr(text, "job id") && !strcasestr(text, "has finished") &&
        !strcasestr(text, "not found"))
        rc = error_set(ERR_IO,
                       "%s said (%d): %.*s; without its answer nobody knows whether job %s is "
                       "alive",
                       c.argv[0], status, first_line(text), text, id);
    return rc;
}

void queue_own_state(const Queue *q, const char *id, char state[32]) {
    Call c = {0};
    AUTOFREE char *text = NULL;
    state[0] = '\0';
    if (!q->own[0]) return;
    CALL_ADD(&c, q->own);
    c.argv[c.n++] = WORD(id);
    const char *at = call_demand(&c, NULL, &text) >= 0 ? strstr(text, q->own_begin) : NULL;
    if (at) sscanf(at + strlen(q->own_begin), "%31[A-Z_]", state);
}

int queue_put_back(const Queue *q, const char *id) {
    Call c = {0};
    AUTOFREE char *text = NULL;
    if (!q->put_back[0]) return 0; /* our exit code does it */
    CALL_ADD(&c, q->put_back);
    c.argv[c.n++] = WORD(id);
    return call_demand(&c, NULL, &text);
}

int queue_change_after(const Queue *q, const char *waiter, const char *id) {
    Call c = {0};
    AUTOFREE char *text = NULL;
    CALL_ADD(&c, q->change);
    call_add_after(&c, q, id);
    c.argv[c.n++] = WORD(waiter);
    int rc = call_demand(&c, NULL, &text);
    free(c.own);
    return rc;
}

int64_t queue_nodes(const Queue *q, const char *partition, int64_t cores) {
    Call c = {0};
    AUTOFREE char *text = NULL;
    int64_t nodes = -1;
    int status;
    if (!q->sizes[0] || !process_exists(q->sizes[0])) return -1;
    CALL_ADD(&c, q->sizes);
    if (*partition) c.argv[c.n++] = c.own = xasprintf("%s%s", q->partition, partition);
    if (process_capture(c.argv, NULL, &text, &status) >= 0 && status == 0)
        for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
            long long n, have;
            if (sscanf(line, "%lld %lld", &n, &have) != 2) continue;
            if (nodes < 0) nodes = 0;
            if (have >= cores) nodes += n;
        }
    free(c.own);
    return nodes;
}
