/* TCP traffic to be measured: both ends of it, IPv4.
 *
 *   load serve echo|sink ADDRESS CPU
 *       Listens; says "ready PORT". Sends back what it receives, or throws it away.
 *   load drive rr|mixed|crr|bulk ADDRESS PORT CONNECTIONS CPU
 *       Says "ready 0". For each line with a number of milliseconds it makes new connections and drives them for so
 *       long; then it says "done COUNT NANOSECONDS". rr: exchanges of one byte; mixed: of 1 to 16,000; crr: connect,
 *       exchange one byte, close; bulk: bytes sent.
 *
 * The end of the input ends either. CPU: where it runs, -1: anywhere.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 1024
#define EVENTS 64
#define BUFFER (1 << 18)
#define WARM_NS 50000000LL /* the first exchanges of a connection are another matter than the rest */

static char buffer[1 << 16];
static const int SIZES[] = {1, 100, 1000, 16000};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long checked(long result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	checked(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

static struct sockaddr_in address_of(const char *text, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", text);
		exit(1);
	}
	return address;
}

/* What would make two runs differ: delays, a congestion control that paces and probes, buffers that grow. */
static void steady(int fd)
{
	int on = 1, size = BUFFER;

	checked(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "TCP_NODELAY");
	checked(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), "TCP_CONGESTION");
	checked(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), "SO_SNDBUF");
	checked(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), "SO_RCVBUF");
}

static void send_all(int fd, long size)
{
	while (size > 0)
		size -= checked(send(fd, buffer, size, MSG_NOSIGNAL), "send");
}

static void watch(int poll, int fd, unsigned events, unsigned data)
{
	struct epoll_event event = {.events = events, .data.u32 = data};

	checked(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* --- the server */

static void serve_one(int fd, int echo)
{
	long got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	long left = echo ? got : 0, sent = 0;

	for (; left > 0 && sent >= 0; left -= sent)
		sent = send(fd, buffer, left, MSG_NOSIGNAL);
	/* At the end of a run clients close without waiting for their answers: that is no failure. */
	if (sent < 0 || got == 0 || (got < 0 && errno != EAGAIN))
		close(fd);
}

static void serve(int echo, const char *where)
{
	struct sockaddr_in address = address_of(where, 0);
	struct epoll_event events[EVENTS];
	socklen_t length = sizeof(address);
	int poll = checked(epoll_create1(0), "epoll_create1");
	int door = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");

	steady(door); /* those that it accepts are like it */
	checked(bind(door, (struct sockaddr *)&address, sizeof(address)), "bind");
	checked(listen(door, 4096), "listen");
	checked(getsockname(door, (struct sockaddr *)&address, &length), "getsockname");
	watch(poll, door, EPOLLIN, door);
	watch(poll, 0, EPOLLIN, 0);
	printf("ready %d\n", ntohs(address.sin_port));
	for (;;) {
		int count = epoll_wait(poll, events, EVENTS, -1);

		if (count < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < count; i++) {
			int fd = events[i].data.u32;

			if (fd == 0)
				exit(0);
			if (fd == door) {
				fd = checked(accept(door, NULL, NULL), "accept");
				watch(poll, fd, EPOLLIN, fd);
			} else {
				serve_one(fd, echo);
			}
		}
	}
}

/* --- the client */

static int connected(const struct sockaddr_in *address)
{
	int fd = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");

	steady(fd);
	checked(connect(fd, (const struct sockaddr *)address, sizeof(*address)), "connect");
	return fd;
}

static void receive_all(int fd, long size)
{
	while (size > 0) {
		long got = checked(recv(fd, buffer, size, 0), "recv");

		if (got == 0) {
			fprintf(stderr, "the server closed a connection\n");
			exit(1);
		}
		size -= got;
	}
}

struct run {
	long long start, end; /* what happens between them counts, and one thing at least */
	long long count;
	int begun;
};

/* Adds what was done; false when time is up. */
static int goes_on(struct run *run, long long done)
{
	long long now = now_ns();

	if (run->begun) {
		run->count += done;
	} else if (now >= run->start) {
		run->begun = 1;
		run->start = now;
	}
	if (now < run->end || !run->count)
		return 1;
	run->end = now;
	return 0;
}

static int answered(int poll, struct epoll_event *events)
{
	int count = checked(epoll_wait(poll, events, EVENTS, 10000), "epoll_wait");

	if (count == 0) {
		fprintf(stderr, "no answer for ten seconds\n");
		exit(1);
	}
	return count;
}

static void exchange_one(struct run *run, int fd)
{
	do {
		send_all(fd, 1);
		receive_all(fd, 1);
	} while (goes_on(run, 1));
}

static void exchange_many(struct run *run, const int *fds, int connections, int mixed)
{
	struct epoll_event events[EVENTS];
	long left[MOST];
	unsigned turn = 0;
	int poll = checked(epoll_create1(0), "epoll_create1");

	for (int i = 0; i < connections; i++) {
		watch(poll, fds[i], EPOLLIN, i);
		left[i] = mixed ? SIZES[turn++ % 4] : 1;
		send_all(fds[i], left[i]);
	}
	for (;;) {
		int count = answered(poll, events);

		for (int e = 0; e < count; e++) {
			int i = events[e].data.u32;
			long got = checked(recv(fds[i], buffer, sizeof(buffer), 0), "recv");

			if (got == 0) {
				fprintf(stderr, "the server closed a connection\n");
				exit(1);
			}
			left[i] -= got;
			if (left[i] > 0)
				continue;
			if (!goes_on(run, 1)) {
				close(poll);
				return;
			}
			left[i] = mixed ? SIZES[turn++ % 4] : 1;
			send_all(fds[i], left[i]);
		}
	}
}

static void bulk(struct run *run, const int *fds, int connections)
{
	struct epoll_event events[EVENTS];
	int poll = checked(epoll_create1(0), "epoll_create1");

	for (int i = 0; i < connections; i++)
		watch(poll, fds[i], EPOLLOUT, i);
	for (;;) {
		int count = answered(poll, events);

		for (int e = 0; e < count; e++) {
			long sent = send(fds[events[e].data.u32], buffer, sizeof(buffer), MSG_NOSIGNAL | MSG_DONTWAIT);

			if (sent < 0 && errno != EAGAIN)
				fail("send");
			if (!goes_on(run, sent > 0 ? sent : 0)) {
				close(poll);
				return;
			}
		}
	}
}

static void connect_request_close(struct run *run, const struct sockaddr_in *address)
{
	int fd;

	do {
		fd = connected(address);
		send_all(fd, 1);
		receive_all(fd, 1);
		close(fd);
	} while (goes_on(run, 1));
}

static void drive(const char *mode, const struct sockaddr_in *address, int connections, long milliseconds)
{
	int fds[MOST];
	int many = strcmp(mode, "crr") ? connections : 0;
	struct run run = {0};

	for (int i = 0; i < many; i++)
		fds[i] = connected(address);
	run.start = now_ns() + WARM_NS;
	run.end = run.start + milliseconds * 1000000LL;
	if (!many)
		connect_request_close(&run, address);
	else if (!strcmp(mode, "bulk"))
		bulk(&run, fds, many);
	else if (many == 1)
		exchange_one(&run, fds[0]);
	else
		exchange_many(&run, fds, many, !strcmp(mode, "mixed"));
	for (int i = 0; i < many; i++)
		close(fds[i]);
	printf("done %lld %lld\n", run.count, run.end - run.start);
}

int main(int argc, char **argv)
{
	char line[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 5 && !strcmp(argv[1], "serve")) {
		pin(atoi(argv[4]));
		serve(!strcmp(argv[2], "echo"), argv[3]);
	}
	if (argc == 7 && !strcmp(argv[1], "drive")) {
		struct sockaddr_in address = address_of(argv[3], atoi(argv[4]));
		int connections = atoi(argv[5]);

		if (connections < 1 || connections > MOST)
			return 2;
		pin(atoi(argv[6]));
		puts("ready 0");
		while (fgets(line, sizeof(line), stdin))
			drive(argv[2], &address, connections, atol(line));
		return 0;
	}
	fprintf(stderr, "load serve|drive ...: see its first lines\n");
	return 2;
}
