/* Reads registers through libmodbus; see ../client/main.go for what is asked of
 * it. Arguments: port baud regs count step timeout-ms log(0|1). */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static long long monotonic(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static long long cpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000LL + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: %s port baud regs count step timeout-ms log\n", argv[0]);
        return 2;
    }
    int baud = atoi(argv[2]), regs = atoi(argv[3]), count = atoi(argv[4]);
    int step = atoi(argv[5]), timeout = atoi(argv[6]), verbose = atoi(argv[7]);
    uint16_t dst[MODBUS_MAX_READ_REGISTERS];

    modbus_t *m = modbus_new_rtu(argv[1], baud, 'E', 8, 1);
    if (m == NULL || modbus_set_slave(m, 1) != 0 || modbus_connect(m) != 0 ||
        modbus_set_response_timeout(m, timeout / 1000, timeout % 1000 * 1000) != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    int answered = 0, failed = 0;
    long long before = cpu();
    for (int i = 0; i < count; i++) {
        int start = 200 + i % 8 * step;
        long long at = monotonic();
        int n = modbus_read_registers(m, start, regs, dst);
        if (n == regs)
            answered++;
        else
            failed++;
        if (!verbose)
            continue;
        printf("%d %lld", start, at);
        if (n != regs)
            printf(" error");
        else
            for (int j = 0; j < regs; j++)
                printf(" %u", dst[j]);
        printf("\n");
    }
    printf("done %d %d %lld\n", answered, failed, cpu() - before);
    modbus_close(m);
    modbus_free(m);
    return 0;
}
