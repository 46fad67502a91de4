/* A wall clock that is wrong by as many seconds as a file says, for a program that is started with LD_PRELOAD.
 *
 * The file holds one 64-bit number and is mapped, so that whoever writes it puts the clock wrong at once, while the
 * program runs. Debian's libfaketime 0.9.10 does the same for most programs and not for Envoy 1.40: it looks symbols up
 * as it starts, that allocates, and Envoy's allocator asks for the time within, which waits for ever. Nothing here
 * allocates or looks anything up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void map_file(void) {
    const char *path = getenv("WRONG_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        ahead = page;
    close(file);
}

static long kernel(long number, const long *arguments) {
    register long fourth __asm__("r10") = arguments[3];
    register long fifth __asm__("r8") = arguments[4];
    register long sixth __asm__("r9") = arguments[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(fourth), "r"(fifth),
                       "r"(sixth)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    const long arguments[6] = {clock, (long)now};
    int result = (int)kernel(SYS_clock_gettime, arguments);
    if (!result && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        now->tv_sec += *ahead;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

/* Waits until a moment of the wall clock (absl's mutexes do that) are until that moment as the program sees it. */
long syscall(long number, ...) {
    long arguments[6];
    struct timespec moment;
    va_list more;
    va_start(more, number);
    for (int each = 0; each < 6; each++)
        arguments[each] = va_arg(more, long);
    va_end(more);
    if (number == SYS_futex && (arguments[1] & FUTEX_CLOCK_REALTIME) && arguments[3] && ahead) {
        moment = *(const struct timespec *)arguments[3];
        moment.tv_sec -= *ahead;
        arguments[3] = (long)&moment;
    }
    return kernel(number, arguments);
}
