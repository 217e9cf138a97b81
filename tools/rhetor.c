/* rhetor: the front of all programs. `rhetor COMMAND ...` becomes rhetor-COMMAND, which is looked
 * for beside this program, then in PATH, so anybody can add a command by adding a program. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/process.h"

#define PREFIX "rhetor-"

static const struct {
    const char *name, *what;
} known[] = {
    {"data", "tokenizers, corpora, generated data, rankings, a look at records"},
#define STAGE(NAME, name, what, ...) {name, what},
#include "base/stages.h"
    {"pipeline", "all stages of a recipe, resuming where it stopped; --status"},
    {"generate", "text from a model: one prompt, a file of prompts, a chat"},
    {"eval", "loss, log-probabilities, rewards, win rates, tables of models"},
    {"ckpt", "checkpoints: show, verify, diff, import, export"},
    {"submit", "a recipe as cluster jobs"},
    {"plan", "memory, FLOPs and time of a run on N nodes"},
    {"size", "a recipe for one's own data (configs/own runs it)"},
    {"doctor", "will this node, this allocation, this file system do?"},
    {"bench", "the machine's limits and our share of them"},
};
enum { KNOWN = sizeof known / sizeof *known };

/* Commands that can be called here: programs beside this one. */
typedef struct Commands {
    char **name;
    int n;
} Commands;

static Commands find_commands(const char *folder) {
    Commands c = {0};
    char **names = NULL;
    int n = 0;
    if (file_list(folder, &names, &n) < 0) return c;
    for (int i = 0; i < n; i++) {
        AUTOFREE char *path = file_join(folder, names[i]);
        if (strncmp(names[i], PREFIX, strlen(PREFIX)) == 0 && access(path, X_OK) == 0) {
            c.name = xrealloc(c.name, (size_t)(c.n + 1) * sizeof *c.name);
            c.name[c.n++] = xstrdup(names[i] + strlen(PREFIX));
        }
    }
    file_free_list(&names, n);
    return c;
}

static bool is_known(const char *name) {
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(known[i].name, name) == 0) return true;
    return false;
}

static bool is_there(const Commands *c, const char *name) {
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->name[i], name) == 0) return true;
    return false;
}

static void print_help(FILE *f, const Commands *c) {
    fprintf(f, "Usage: rhetor COMMAND [arguments]\n\n"
               "Rhetor trains small GPT models end to end on CPUs: pretraining, supervised\n"
               "fine-tuning, reward model, PPO.\n\n");
    for (int i = 0; i < KNOWN; i++)
        if (is_there(c, known[i].name)) fprintf(f, "  %-10s %s\n", known[i].name, known[i].what);
    for (int i = 0; i < c->n; i++)
        if (!is_known(c->name[i])) fprintf(f, "  %s\n", c->name[i]);
    fprintf(f, "\nrhetor --settings prints all settings of the stages (docs/CONFIG.md).\n"
               "rhetor COMMAND --help says more about each; the whole pipeline on generated data:\n"
               "rhetor pipeline configs/demo\n");
}

/* Replaces this process by the command; returns when there is none. argv[0] is the command. */
static void run_command(const char *folder, char **argv) {
    AUTOFREE char *name = xasprintf(PREFIX "%s", argv[0]), *path = file_join(folder, name);
    argv[0] = name;
    execv(path, argv);
    if (errno == ENOENT) {
        execvp(name, argv);
        if (errno == EACCES) errno = ENOENT; /* a folder of PATH that we may not look into */
    }
}

/* `rhetor` with these arguments; the exit status. */
static int front(int argc, char **argv, const char *folder, const Commands *c) {
    if (argc < 2) {
        print_help(stderr, c);
        return error_exit_code(ERR_USAGE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("rhetor %s\n", RHETOR_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--settings") == 0) { /* make docs */
        AUTOFREE char *text = config_markdown();
        fputs(text, stdout);
        return 0;
    }
    bool help = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0;
    if (help && argc == 2) {
        print_help(stdout, c);
        return 0;
    }
    const char *command = argv[help ? 2 : 1];
    char *help_of[] = {argv[help ? 2 : 1], "--help", NULL};
    if (!strchr(command, '/')) {
        run_command(folder, help ? help_of : argv + 1);
        if (errno != ENOENT || is_there(c, command)) {
            fprintf(stderr, "rhetor: " PREFIX "%s cannot be started: %s\n", command,
                    strerror(errno));
            return error_exit_code(ERR_IO);
        }
    }
    AUTOFREE char *hint = nearest_hint(command, (const char *const *)c->name, c->n);
    fprintf(stderr, "rhetor: no command \"%s\"%s\n", command,
            *hint ? hint : "; rhetor --help lists them");
    return error_exit_code(ERR_USAGE);
}

int main(int argc, char **argv) {
    file_check_output();
    AUTOFREE char *folder = process_folder();
    Commands c = find_commands(folder);
    int status = front(argc, argv, folder, &c);
    file_free_list(&c.name, c.n);
    return status;
}
