/* lock.c: one owner a run directory.
 *
 * dir/lock holds host, job, pid, the process's start time and where that pid means something: the
 * boot of the machine and the pid namespace, since containers on one machine, or on two, may have
 * the same host name and pids. The file's modification time is the heartbeat. It appears complete
 * in one step: written under another name, then link()ed, which fails when the lock exists (as
 * O_EXCL does, also over NFS). When two processes find the same lock stale, the slower must not
 * remove the faster's new one: see remove_stale.
 *
 * A thread beats, so that a step, an evaluation or a save may take as long as it likes.
 *
 * Ages are measured against the modification time of our own new file: clocks of hosts differ. */
#include "base/file.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int lock_beat_ms = 10000, lock_wait_ms = 10000;

enum { STALE_S = 300, TRIES = 20, FIELD = 256, LOOK_MS = 50 };

struct FileLock {
    char *dir, *path;
    char *text; /* what the file holds while it is ours */
    dev_t device;
    ino_t inode;      /* of dir, when the lock was taken */
    atomic_bool lost; /* as the beater saw it last */
    pthread_t beater;
    sem_t end; /* of the beater */
};

typedef struct Owner {
    char host[FIELD], job[FIELD];
    long pid;
    unsigned long long started; /* clock ticks since the host booted */
    char place[FIELD];          /* boot and pid namespace; "": older than this line */
} Owner;

/* Start time of a process, 0 if it is gone (or a zombie, which does nothing any more). */
static unsigned long long started_at(long pid) {
    char path[64], *text = NULL;
    size_t len;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (file_read(path, &text, &len) < 0) return 0;
    unsigned long long when = 0;
    char state = 'Z', *p = strrchr(text, ')'); /* the name before it may hold anything */
    if (p)
        sscanf(p + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
               "%*s %llu",
               &state, &when);
    free(text);
    return state == 'Z' || state == 'X' ? 0 : when;
}

/* "slurm 123.0": what follows the last dot counts the job's lives. Slurm counts them; as others do
 * not, rhetor-pipeline --job tells itself and its stages (RHETOR_LIFE). */
static void job_name(char *out) {
    const char *id, *life = getenv("RHETOR_LIFE");
    const Queue *q = queue_of_job(&id);
    if (!life && q && q->life_variable) life = getenv(q->life_variable);
    snprintf(out, FIELD, "none");
    if (q) snprintf(out, FIELD, "%s %.100s.%.20s", q->name, id, life ? life : "0");
}

static void myself(Owner *o) {
    memset(o, 0, sizeof *o);
    if (gethostname(o->host, sizeof o->host - 1) != 0) snprintf(o->host, FIELD, "unknown");
    job_name(o->job);
    o->pid = (long)getpid();
    o->started = started_at(o->pid);
    char *boot = NULL, space[128] = "";
    size_t len;
    if (file_read("/proc/sys/kernel/random/boot_id", &boot, &len) >= 0)
        boot[strcspn(boot, "\n")] = '\0';
    if (readlink("/proc/self/ns/pid", space, sizeof space - 1) < 0) space[0] = '\0';
    snprintf(o->place, FIELD, "boot %.64s, %s", boot ? boot : "unknown", space);
    free(boot);
}

static bool parse(const char *text, Owner *o) {
    memset(o, 0, sizeof *o);
    return sscanf(text,
                  "host: %255[^\n]\njob: %255[^\n]\npid: %ld\nstarted: %llu\nplace: %255[^\n]",
                  o->host, o->job, &o->pid, &o->started, o->place) >= 4;
}

/* Does the owner's pid mean something here? */
static bool is_near(const Owner *o, const Owner *me) {
    return strcmp(o->host, me->host) == 0 && (!o->place[0] || strcmp(o->place, me->place) == 0);
}

static bool is_gone(const Owner *o) {
    const unsigned long long s = started_at(o->pid);
    return s == 0 || s != o->started;
}

/* The same job in a later life: its earlier one is over wherever it was. */
static bool requeued(const char *was, const char *is) {
    const char *then = strrchr(was, '.'), *now = strrchr(is, '.');
    return then && now && then - was == now - is &&
           strncmp(was, is, (size_t)(then - was) + 1) == 0 && atol(now + 1) > atol(then + 1);
}

/* Is the owner gone? Says why in `why`. */
static bool is_stale(const Owner *o, bool readable, const Owner *me, double age, char why[FIELD]) {
    if (readable && is_near(o, me)) {
        snprintf(why, FIELD, "that process is gone");
        return is_gone(o);
    }
    if (readable && requeued(o->job, me->job)) {
        snprintf(why, FIELD, "that job was requeued");
        return true;
    }
    snprintf(why, FIELD, "no sign of life for %.0f s", age);
    return age > STALE_S;
}

static int refuse(const char *path, const Owner *o, bool readable, double age) {
    if (!readable)
        return error_set(ERR_CONFIG,
                         "%s: unreadable lock, %.0f s old: another run may own this folder; choose "
                         "another run.dir, or remove the file if no run is alive",
                         path, age);
    return error_set(
        ERR_CONFIG,
        "%s: this run directory belongs to process %ld on host %s (job %s), whose last "
        "sign of life is %.0f s old; stop that run, wait for it, or choose another "
        "run.dir",
        path, o->pid, o->host, o->job, age < 0 ? 0 : age);
}

static double mtime(const struct stat *st) {
    return (double)st->st_mtim.tv_sec + 1e-9 * (double)st->st_mtim.tv_nsec;
}

/* Removes the lock that is open as fd, unless path names another by now. The file's own advisory
 * lock (released when a process ends, also over NFS) makes looking and removing one step; on a file
 * system that has none, two takers in the same instant remain possible. */
static int remove_stale(const char *path, int fd) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(fd, F_OFD_SETLKW, &whole) != 0 && errno == EINTR) {
    }
    struct stat judged, there;
    if (fstat(fd, &judged) != 0 || stat(path, &there) != 0 || judged.st_dev != there.st_dev ||
        judged.st_ino != there.st_ino)
        return 0;
    return file_remove(path);
}

/* A process that was killed or asked to stop takes a while to end, and so do the ranks of an mpirun
 * that was killed: who gives the same command at once need not give it again. Is it gone? */
static bool wait_for_end(const char *path, const Owner *o) {
    if (o->pid == (long)getpid()) return false;
    if (lock_wait_ms >= 1000)
        log_info("%s: process %ld has this folder; waiting up to %d s for it to end", path, o->pid,
                 lock_wait_ms / 1000);
    for (int ms = 0; ms < lock_wait_ms && !is_gone(o); ms += LOOK_MS) usleep(LOOK_MS * 1000);
    return is_gone(o);
}

/* 0: the lock open as fd was stale and is gone, try again; negative: refused. */
static int judge(const char *path, int fd, const char *mine, const Owner *me) {
    char text[4 * FIELD], why[FIELD];
    struct stat own, other;
    if (stat(mine, &own) != 0) return file_error(mine, "stat");
    if (fstat(fd, &other) != 0) return file_error(path, "stat");
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n < 0) return file_error(path, "read");
    text[n] = '\0';
    Owner o;
    bool readable = parse(text, &o);
    double age = mtime(&own) - mtime(&other);
    if (!is_stale(&o, readable, me, age, why)) {
        if (!readable || !is_near(&o, me) || !wait_for_end(path, &o))
            return refuse(path, &o, readable, age);
        snprintf(why, FIELD, "it has ended");
    }
    log_warn("%s: taking over the run directory from process %ld on host %s: %s", path, o.pid,
             readable ? o.host : "unknown", why);
    return remove_stale(path, fd);
}

/* 1: taken, 0: try again, negative: refused. `mine` is our complete lock under another name. */
static int try_once(const char *path, const char *mine, const Owner *me) {
    if (link(mine, path) == 0) return 1;
    if (errno != EEXIST) return file_error(path, "create lock");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : file_error(path, "open");
    int rc = judge(path, fd, mine, me);
    close(fd);
    return rc;
}

bool lock_held(const char *dir, char who[256]) {
    char *path = file_join(dir, "lock"), *text = NULL, why[FIELD];
    size_t len;
    struct stat st;
    Owner o, me;
    bool held = false;
    myself(&me);
    if (stat(path, &st) == 0 && file_read(path, &text, &len) >= 0) {
        const bool readable = parse(text, &o);
        held = !is_stale(&o, readable, &me, (double)time(NULL) - mtime(&st), why);
        if (who)
            snprintf(who, 256, "process %ld on host %.100s (job %.100s)", o.pid, o.host, o.job);
    }
    free(text);
    free(path);
    return held;
}

static bool is_ours(const FileLock *l) {
    AUTOFREE char *text = NULL;
    size_t len;
    if (file_read(l->path, &text, &len) < 0) return false;
    return strcmp(text, l->text) == 0;
}

int lock_check(const FileLock *l) {
    struct stat st;
    if (!l) return 0;
    if (stat(l->dir, &st) != 0 || st.st_dev != l->device || st.st_ino != l->inode)
        return error_set(ERR_IO,
                         "%s: the folder of this run was deleted, moved or replaced while it ran, "
                         "so nothing more is saved; if it was moved, put it back, and the same "
                         "command goes on from its last checkpoint",
                         l->dir);
    if (is_ours(l)) return 0;
    return error_set(
        ERR_CONFIG,
        "%s: the lock of this run was removed or taken by another run, so nothing more "
        "is saved: two runs in one folder destroy each other's checkpoints; stop one "
        "of them, or choose another run.dir",
        l->path);
}

bool lock_lost(const FileLock *l) { return l && atomic_load(&l->lost); }

/* Waits for the next beat; false: there shall be none. */
static bool wait_for_beat(FileLock *l) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    const long ns = at.tv_nsec + lock_beat_ms % 1000 * 1000000L;
    at.tv_sec += lock_beat_ms / 1000 + ns / 1000000000L;
    at.tv_nsec = ns % 1000000000L;
    while (sem_clockwait(&l->end, CLOCK_MONOTONIC, &at) != 0)
        if (errno != EINTR) return true;
    return false;
}

static void *beat(void *lock) {
    FileLock *l = lock;
    while (wait_for_beat(l)) {
        if (lock_check(l) < 0) {
            log_warn("%s", error_message());
            atomic_store(&l->lost, true);
            return NULL;
        }
        utimensat(AT_FDCWD, l->path, NULL, 0); /* a beat that fails is made up for by the next */
    }
    return NULL;
}

/* Signals stay with the threads that wait for them. */
static int start_beating(FileLock *l) {
    sigset_t all, before;
    sigfillset(&all);
    sem_init(&l->end, 0, 0);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&l->beater, NULL, beat, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? error_set(ERR_INTERNAL, "%s: no thread can be started: %s", l->path,
                              strerror(failed))
                  : 0;
}

static void free_lock(FileLock *l) {
    free(l->dir);
    free(l->path);
    free(l->text);
    free(l);
}

int lock_take(FileLock **out, const char *dir) {
    *out = NULL;
    Owner me;
    myself(&me);
    char *path = file_join(dir, "lock");
    char *text = xasprintf("host: %s\njob: %s\npid: %ld\nstarted: %llu\nplace: %s\n", me.host,
                           me.job, me.pid, me.started, me.place);
    AUTOFREE char *mine =
        xasprintf("%s.%s.%ld.%016" PRIx64, path, me.host, me.pid, hash_text(text));
    int rc = file_write_durable(mine, text, strlen(text));
    for (int i = 0; rc == 0 && i < TRIES; i++) rc = try_once(path, mine, &me);
    if (rc == 0)
        rc = error_set(ERR_CONFIG,
                       "%s: several runs fight for this run directory; choose another "
                       "run.dir",
                       path);
    unlink(mine);
    struct stat st;
    if (rc > 0 && stat(dir, &st) != 0) rc = file_error(dir, "stat");
    if (rc < 0) {
        free(path);
        free(text);
        return rc;
    }
    FileLock *l = xcalloc(1, sizeof *l);
    *l = (FileLock){
        .dir = xstrdup(dir), .path = path, .text = text, .device = st.st_dev, .inode = st.st_ino};
    rc = start_beating(l);
    if (rc < 0) {
        unlink(path);
        free_lock(l);
        return rc;
    }
    *out = l;
    return 0;
}

void lock_drop(FileLock **l) {
    if (!*l) return;
    sem_post(&(*l)->end);
    pthread_join((*l)->beater, NULL);
    sem_destroy(&(*l)->end);
    if (is_ours(*l)) unlink((*l)->path);
    free_lock(*l);
    *l = NULL;
}
