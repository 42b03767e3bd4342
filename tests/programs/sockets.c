/*
 * Makes TCP connections whose every byte is known, and says what a truthful observer must report of each end:
 *
 *     socket <pid> <local port> <remote port> <bytes sent> <bytes received>
 *     failed <pid> <errno>
 *
 *     sockets serve ADDRESS PORT [prefork]      answers connections until its input ends
 *     sockets connect ADDRESS PORT SEND REPLY HOW   sends SEND bytes, gets REPLY bytes back, ends as HOW says
 *     sockets storm ADDRESS PORT CLIENTS EACH   makes CLIENTS * EACH short connections to itself, says nothing
 *
 * HOW: "client" the client ends its half first and the server answers into the half-closed connection;
 * "server" the server ends first; "client-reset", "server-reset" that end throws the connection away;
 * "hold" as "client", but only once a line was read from standard input (the first SEND bytes go at once).
 *
 * The first twelve bytes sent tell the server SEND, REPLY and HOW. Refuses anything else with exit 2.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENT, SERVER, CLIENT_RESET, SERVER_RESET, HOLD };
static const char *const names[] = {"client", "server", "client-reset", "server-reset", "hold"};

struct plan {
    uint32_t send, reply, how;
};

static void fail(const char *what) {
    printf("failed\t%d\t%d\n", getpid(), errno);
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int port_of(int fd, int remote) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if ((remote ? getpeername : getsockname)(fd, (struct sockaddr *)&a, &len) != 0) fail("getsockname");
    return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
                                        : ((struct sockaddr_in6 *)&a)->sin6_port);
}

static int open_socket(const char *address, const char *port, struct addrinfo **found) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(address, port, &hints, found);
    if (error) {
        fprintf(stderr, "%s: %s\n", address, gai_strerror(error));
        exit(2);
    }
    int fd = socket((*found)->ai_family, SOCK_STREAM, 0);
    if (fd < 0) fail("socket");
    return fd;
}

static void send_all(int fd, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0) fail("send");
        at += n;
        len -= n;
    }
}

static void send_zeros(int fd, size_t len) {
    static const char zeros[1 << 16];
    while (len > 0) {
        size_t n = len < sizeof zeros ? len : sizeof zeros;
        send_all(fd, zeros, n);
        len -= n;
    }
}

/* Receives exactly so many bytes. */
static void receive(int fd, size_t len) {
    static char sink[1 << 16];
    while (len > 0) {
        ssize_t n = recv(fd, sink, len < sizeof sink ? len : sizeof sink, 0);
        if (n <= 0) fail("recv");
        len -= n;
    }
}

/* Waits for the other end's FIN or reset. */
static void receive_end(int fd) {
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    if (n > 0 || (n < 0 && errno != ECONNRESET)) fail("end");
}

static void throw_away(int fd) {
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void say(int local, int remote, uint32_t sent, uint32_t received) {
    printf("socket\t%d\t%d\t%d\t%u\t%u\n", getpid(), local, remote, sent, received);
    fflush(stdout);
}

static void answer(int fd) {
    int local = port_of(fd, 0), remote = port_of(fd, 1);
    struct plan plan;
    if (recv(fd, &plan, sizeof plan, MSG_WAITALL) != sizeof plan) fail("plan");
    receive(fd, plan.send - sizeof plan);
    uint32_t sent = plan.reply;
    switch (plan.how) {
    case CLIENT:
    case HOLD:
        receive_end(fd);
        send_zeros(fd, plan.reply);
        break;
    case SERVER:
        send_zeros(fd, plan.reply);
        shutdown(fd, SHUT_WR);
        receive_end(fd);
        break;
    case CLIENT_RESET:
        send_zeros(fd, plan.reply);
        receive_end(fd);
        break;
    case SERVER_RESET:
        sent = 0;
        throw_away(fd);
        break;
    }
    close(fd);
    say(local, remote, sent, plan.send);
}

static void serve(const char *address, const char *port, int prefork) {
    struct addrinfo *at;
    int fd = open_socket(address, port, &at), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0) fail("bind");
    if (listen(fd, 77) != 0) fail("listen");
    printf("listening\t%d\t%d\n", getpid(), port_of(fd, 0));
    fflush(stdout);
    /* A helper that ends this program when the input does, as accept(2) does not watch it. */
    pid_t server = getpid();
    if (fork() == 0) {
        char byte;
        close(fd);
        while (read(0, &byte, 1) > 0) {
        }
        kill(server, SIGTERM);
        _exit(0);
    }
    if (prefork) {
        if (fork() > 0) {
            for (;;) wait(NULL);
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    for (;;) {
        int one = accept(fd, NULL, NULL);
        if (one < 0) fail("accept");
        answer(one);
    }
}

static void connect_to(char **argv) {
    struct addrinfo *at;
    int fd = open_socket(argv[0], argv[1], &at);
    struct plan plan = {atoi(argv[2]), atoi(argv[3]), 0};
    while (plan.how < 5 && strcmp(argv[4], names[plan.how]) != 0) plan.how++;
    if (plan.how == 5 || plan.send < sizeof plan) exit(2);
    if (connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
        printf("failed\t%d\t%d\n", getpid(), errno);
        exit(0);
    }
    int local = port_of(fd, 0), remote = port_of(fd, 1);
    uint32_t received = plan.reply;
    send_all(fd, &plan, sizeof plan);
    send_zeros(fd, plan.send - sizeof plan);
    switch (plan.how) {
    case HOLD: {
        char line[16];
        printf("holding\t%d\t%d\n", getpid(), local);
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin)) exit(1);
    } /* fall through */
    case CLIENT:
        shutdown(fd, SHUT_WR);
        receive(fd, plan.reply);
        receive_end(fd);
        break;
    case SERVER:
        receive(fd, plan.reply);
        receive_end(fd);
        break;
    case CLIENT_RESET:
        receive(fd, plan.reply);
        throw_away(fd);
        break;
    case SERVER_RESET:
        received = 0;
        receive_end(fd);
        break;
    }
    close(fd);
    say(local, remote, plan.send, received);
}

/* Connections one after another from several clients at once; client C sends C + 1 bytes on each. */
static void storm(const char *address, const char *port, int clients, int each) {
    struct addrinfo *at;
    int fd = open_socket(address, port, &at);
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0) fail("bind");
    if (listen(fd, 128) != 0) fail("listen");
    pid_t server = fork();
    if (server == 0) {
        for (;;) {
            char sink[64];
            int one = accept(fd, NULL, NULL);
            if (one < 0) fail("accept");
            while (recv(one, sink, sizeof sink, 0) > 0) {
            }
            close(one);
        }
    }
    for (int c = 0; c < clients; c++) {
        if (fork() > 0) continue;
        for (int i = 0; i < each; i++) {
            char byte;
            int one = socket(at->ai_family, SOCK_STREAM, 0);
            if (connect(one, at->ai_addr, at->ai_addrlen) != 0) fail("connect");
            send_zeros(one, c + 1);
            shutdown(one, SHUT_WR);
            if (recv(one, &byte, 1, 0) != 0) fail("end");
            close(one);
        }
        _exit(0);
    }
    for (int c = 0; c < clients; c++) {
        int status;
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == server || status != 0) fail("storm");
    }
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

int main(int argc, char **argv) {
    if (argc >= 4 && strcmp(argv[1], "serve") == 0) {
        serve(argv[2], argv[3], argc == 5 && strcmp(argv[4], "prefork") == 0);
        return 0;
    }
    if (argc == 7 && strcmp(argv[1], "connect") == 0) {
        connect_to(argv + 2);
        return 0;
    }
    if (argc == 6 && strcmp(argv[1], "storm") == 0) {
        storm(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
        return 0;
    }
    fprintf(stderr, "usage: %s serve ADDRESS PORT [prefork] | connect ADDRESS PORT SEND REPLY HOW | storm ...\n", argv[0]);
    return 2;
}
