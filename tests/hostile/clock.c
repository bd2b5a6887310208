// A wall clock that somebody sets back by a year, and right again, each second. What measures time is as it was.

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    struct timespec steady;
    if (clock == CLOCK_REALTIME && syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &steady) == 0) {
        time->tv_sec -= steady.tv_sec % 2 * 366 * 86400;
    }
    return result;
}
