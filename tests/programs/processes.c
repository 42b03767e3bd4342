/*
 * Makes processes of every awkward kind and says, one line for each, what a truthful observer must report:
 *
 *     process <pid> <parent at start> <code> <signal> <execs> <argument>...
 *
 * "argument"s are those of the last exec, if there was one. The program is itself the reaper of its orphans,
 * so that every status comes from wait(2) and is not assumed.
 *
 * Owns nothing but its children; refuses to run a scenario it does not know (exit 2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *self;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void pause_ms(long ms) {
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Waits for one child and says what it was. */
static void reap(pid_t pid, pid_t parent, int execs, char *const argv[]) {
    int status;
    if (waitpid(pid, &status, 0) != pid) fail("waitpid");
    printf("process\t%d\t%d\t%d\t%d\t%d", pid, parent, WIFEXITED(status) ? WEXITSTATUS(status) : 0,
           WIFSIGNALED(status) ? WTERMSIG(status) : 0, execs);
    for (int i = 0; argv && argv[i]; i++) printf("\t%s", argv[i]);
    printf("\n");
}

static pid_t child(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    return pid;
}

/* Every exit code there is. */
static void codes(void) {
    for (int code = 0; code < 256; code++) {
        pid_t pid = child();
        if (pid == 0) _exit(code);
        reap(pid, getpid(), 0, NULL);
    }
}

static void signals(void) {
    int fatal[] = {SIGKILL, SIGTERM, SIGSEGV, SIGABRT, SIGPIPE, SIGUSR1};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        pid_t pid = child();
        if (pid == 0) {
            for (;;) pause();
        }
        kill(pid, fatal[i]);
        reap(pid, getpid(), 0, NULL);
    }
}

/* The classic daemon: the middle process ends first, so the last one changes parent. */
static void double_fork(void) {
    pid_t *grandchild = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t reaper = getpid();
    pid_t middle = child();
    if (middle == 0) {
        pid_t pid = fork();
        if (pid != 0) *grandchild = pid;
        if (pid == 0) {
            while (getppid() != reaper) pause_ms(1);
            _exit(7);
        }
        _exit(1);
    }
    reap(middle, reaper, 0, NULL);
    reap(*grandchild, middle, 0, NULL);
}

static void vfork_exec(void) {
    char *argv[] = {(char *)self, "exit", "9", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execv(self, argv);
        _exit(127);
    }
    reap(pid, getpid(), 1, argv);
}

static char *thread_argv[] = {NULL, "exit", "11", NULL};

static void *exec_in_thread(void *unused) {
    (void)unused;
    execv(self, thread_argv);
    _exit(127);
}

/* The thread takes over the process's id; no process starts or ends. */
static void thread_exec(void) {
    thread_argv[0] = (char *)self;
    pid_t pid = child();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, exec_in_thread, NULL);
        for (;;) pause();
    }
    reap(pid, getpid(), 1, thread_argv);
}

static void *end_later(void *how) {
    pause_ms(30);
    if (how) exit(13);
    syscall(SYS_exit, 6);
    return NULL;
}

/* The leader's code counts, unless the last thread ends the whole group. */
static void leader_first(int group) {
    pid_t pid = child();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, end_later, group ? &thread : NULL);
        syscall(SYS_exit, 5);
    }
    reap(pid, getpid(), 0, NULL);
}

static pthread_barrier_t barrier;

static void *end_together(void *unused) {
    (void)unused;
    pthread_barrier_wait(&barrier);
    syscall(SYS_exit, 3);
    return NULL;
}

/* Many threads end at the same moment, none of them on behalf of the group: still one end. */
static void threads_together(void) {
    pid_t pid = child();
    if (pid == 0) {
        enum { THREADS = 16 };
        pthread_barrier_init(&barrier, NULL, THREADS + 1);
        for (int i = 0; i < THREADS; i++) {
            pthread_t thread;
            pthread_create(&thread, NULL, end_together, NULL);
        }
        pthread_barrier_wait(&barrier);
        syscall(SYS_exit, 4);
    }
    reap(pid, getpid(), 0, NULL);
}

static void *fork_in_thread(void *out) {
    pid_t pid = fork();
    if (pid == 0) _exit(21);
    *(pid_t *)out = pid;
    return NULL;
}

/* A thread that is not the leader forks: the parent is the process. */
static void thread_fork(void) {
    pthread_t thread;
    pid_t pid = 0;
    fflush(stdout);
    pthread_create(&thread, NULL, fork_in_thread, &pid);
    pthread_join(thread, NULL);
    reap(pid, getpid(), 0, NULL);
}

/* Two execs in a row: one process, one start, one end. */
static void exec_twice(void) {
    char *first[] = {(char *)self, "exec", "exit", "17", NULL};
    char *last[] = {(char *)self, "exit", "17", NULL};
    pid_t pid = child();
    if (pid == 0) {
        execv(self, first);
        _exit(127);
    }
    reap(pid, getpid(), 2, last);
}

/* Many short processes, a few at a time. */
static void many(int count) {
    enum { AT_ONCE = 4 };
    pid_t pids[AT_ONCE];
    for (int i = 0; i < count; i += AT_ONCE) {
        int batch = count - i < AT_ONCE ? count - i : AT_ONCE;
        char code[AT_ONCE][16], number[AT_ONCE][16];
        char *argv[AT_ONCE][5];
        for (int j = 0; j < batch; j++) {
            snprintf(code[j], sizeof code[j], "%d", (i + j) % 256);
            snprintf(number[j], sizeof number[j], "%d", i + j);
            char *args[] = {(char *)self, "exit", code[j], number[j], NULL};
            memcpy(argv[j], args, sizeof args);
            if (posix_spawn(&pids[j], self, NULL, NULL, argv[j], environ) != 0) fail("posix_spawn");
        }
        for (int j = 0; j < batch; j++) reap(pids[j], getpid(), 1, argv[j]);
    }
}

static void *until_input_ends(void *unused) {
    (void)unused;
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    exit(0);
}

/* The leading thread ends at once, three others live on until the input ends. */
static void leaderless(void) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, until_input_ends, NULL);
    }
    printf("ready\n");
    fflush(stdout);
    syscall(SYS_exit, 0);
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc == 2 && strcmp(argv[1], "leaderless") == 0) leaderless();
    if (argc >= 3 && strcmp(argv[1], "exit") == 0) _exit(atoi(argv[2]));
    if (argc >= 4 && strcmp(argv[1], "exec") == 0) {
        char *rest[] = {argv[0], argv[2], argv[3], NULL};
        execv(argv[0], rest);
        _exit(127);
    }
    if (argc >= 2 && strcmp(argv[1], "wait") == 0) {
        /* Stands still, with whatever arguments it was given, until its input is closed. */
        char byte;
        printf("ready\n");
        fflush(stdout);
        while (read(0, &byte, 1) > 0) {
        }
        return 0;
    }
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (argc == 2 && strcmp(argv[1], "truth-table") == 0) {
        codes();
        signals();
        double_fork();
        vfork_exec();
        thread_exec();
        leader_first(0);
        leader_first(1);
        for (int i = 0; i < 20; i++) threads_together();
        thread_fork();
        exec_twice();
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "many") == 0) {
        many(atoi(argv[2]));
        return 0;
    }
    fprintf(stderr, "usage: %s truth-table | many COUNT | wait ARGUMENT... | leaderless | exit CODE\n", argv[0]);
    return 2;
}
