/* process.c: a program run to its end. See process.h. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

char *process_folder(void) {
    char *path = realpath("/proc/self/exe", NULL);
    if (!path) return xstrdup(".");
    *strrchr(path, '/') = '\0';
    return path;
}

static volatile sig_atomic_t caught[4];
static const int handed_on[4] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};

static void catch_signal(int sig) {
    for (int i = 0; i < 4; i++)
        if (handed_on[i] == sig) caught[i] = 1;
}

/* All are blocked but while we wait in ppoll. */
static const int ours[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP, SIGCHLD};
static sigset_t waiting_mask;
void process_signals(void) {
    struct sigaction action = {.sa_handler = catch_signal};
    sigset_t block;
    sigemptyset(&block);
    for (int i = 0; i < 5; i++) {
        struct sigaction now;
        sigaction(ours[i], NULL, &now);
        if (ours[i] == SIGHUP && now.sa_handler == SIG_IGN) continue; /* nohup */
        sigaction(ours[i], &action, NULL);
        sigaddset(&block, ours[i]);
    }
    signal(SIGPIPE, SIG_IGN); /* our output's reader may go away; the steps go on */
    sigprocmask(SIG_BLOCK, &block, &waiting_mask);
}

/* mpirun and srun hand on SIGUSR1, but kill their ranks at once when they get one of the others:
 * that is for the second Ctrl-C. */
static void hand_on_signals(pid_t group, bool launcher, int *interrupts) {
    for (int i = 0; i < 4; i++) {
        if (!caught[i]) continue;
        caught[i] = 0;
        bool now = handed_on[i] == SIGINT && ++*interrupts > 1;
        if (launcher && !now)
            kill(group, SIGUSR1);
        else
            kill(-group, handed_on[i]);
    }
}

static void child(char *const *argv, int out) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &waiting_mask, NULL);
    if (out >= 0) {
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        close(out);
    }
    execvp(argv[0], argv);
    fprintf(stderr, "%s: cannot be started: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* What the child wrote goes to our standard output and to its log; false at its end. */
static bool copy_output(int from, FILE *log) {
    char buffer[1 << 16];
    ssize_t n = read(from, buffer, sizeof buffer);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    fwrite(buffer, 1, (size_t)n, stdout);
    fflush(stdout);
    if (log) fwrite(buffer, 1, (size_t)n, log);
    return n > 0;
}

enum { ASK = 5, PATIENCE = 30, LAST_WORDS = 10 }; /* seconds */

/* Since when the work is over, and what was sent because of it. */
typedef struct Overdue {
    double asked, since;
    int sent;
} Overdue;

static void end_overdue(Overdue *o, pid_t group, bool is_over) {
    const double now = clock_seconds();
    o->asked = now;
    if (!is_over) return;
    if (o->since <= 0) o->since = now;
    const double late = now - o->since;
    const int signal = late < PATIENCE ? 0 : late < PATIENCE + LAST_WORDS ? SIGTERM : SIGKILL;
    if (signal == o->sent || !signal) return;
    if (!o->sent)
        log_warn(
            "the work has been over for %.0f s, but its launcher is still there (is a node out of "
            "reach?): it is ended",
            late);
    kill(-group, signal);
    o->sent = signal;
}

int process_run(char *const *argv, FILE *log, bool launcher, bool (*over)(const void *ctx),
                const void *ctx, int *status) {
    int fd[2] = {-1, -1}, wstatus = 0, interrupts = 0;
    if (log && pipe(fd) != 0) return file_error("the output of a step", "pipe");
    pid_t pid = fork();
    if (pid < 0) return file_error(argv[0], "fork");
    if (pid == 0) {
        if (log) close(fd[0]);
        child(argv, fd[1]);
    }
    setpgid(pid, pid);
    if (log) close(fd[1]);
    memset((void *)(uintptr_t)caught, 0, sizeof caught);
    bool open = log != NULL, gone = false;
    Overdue late = {.asked = clock_seconds()};
    const struct timespec ask = {.tv_sec = ASK};
    while (open || !gone) {
        struct pollfd p = {.fd = fd[0], .events = POLLIN};
        int ready = gone ? 1 : ppoll(&p, open, over ? &ask : NULL, &waiting_mask);
        if (open && ready > 0) open = copy_output(fd[0], log);
        hand_on_signals(pid, launcher, &interrupts);
        if (!gone) gone = waitpid(pid, &wstatus, WNOHANG) == pid;
        if (!gone && over && clock_seconds() - late.asked >= ASK)
            end_overdue(&late, pid, over(ctx));
    }
    if (log) close(fd[0]);
    *status = WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
    return 0;
}

int process_capture(char *const *argv, const char *input, char **text, int *status) {
    int fd[2], wstatus = 0;
    if (pipe(fd) != 0) return file_error(argv[0], "pipe");
    pid_t pid = fork();
    if (pid < 0) return file_error(argv[0], "fork");
    if (pid == 0) {
        int in = open(input ? input : "/dev/null", O_RDONLY);
        if (in >= 0) dup2(in, STDIN_FILENO);
        close(fd[0]);
        child(argv, fd[1]);
    }
    close(fd[1]);
    Text out = {0};
    ssize_t n;
    while ((n = read(fd[0], text_room(&out, 4096), 4096)) != 0) {
        if (n < 0 && errno != EINTR) break;
        if (n > 0) out.n += (size_t)n;
    }
    close(fd[0]);
    while (waitpid(pid, &wstatus, 0) < 0 && errno == EINTR) {
    }
    while (out.n > 0 && out.s[out.n - 1] == '\n') out.n--;
    out.s[out.n] = '\0';
    *text = out.s;
    *status = WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
    return 0;
}

bool process_exists(const char *name) {
    const char *path = getenv("PATH");
    char *copy = xstrdup(path ? path : "/usr/bin:/bin"), *rest = copy, *dir;
    bool found = false;
    while (!found && (dir = strsep(&rest, ":"))) {
        AUTOFREE char *file = file_join(*dir ? dir : ".", name);
        found = access(file, X_OK) == 0 && !file_is_dir(file);
    }
    free(copy);
    return found;
}
