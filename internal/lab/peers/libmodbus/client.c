/* Reads registers through libmodbus; see ../client/main.go for what is asked of
 * it. Arguments: port baud regs count list timeout-ms log(0|1); the list is a
 * file, or empty. */
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
    int timeout = atoi(argv[6]), verbose = atoi(argv[7]);
    uint16_t dst[MODBUS_MAX_READ_REGISTERS];
    FILE *list = NULL;

    if (argv[5][0] != 0 && (list = fopen(argv[5], "r")) == NULL) {
        perror(argv[5]);
        return 1;
    }
    modbus_t *m = modbus_new_rtu(argv[1], baud, 'E', 8, 1);
    if (m == NULL || modbus_connect(m) != 0 ||
        modbus_set_response_timeout(m, timeout / 1000, timeout % 1000 * 1000) != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    int answered = 0, failed = 0, device = 1, start = 200;
    long long before = cpu();
    for (int i = 0; list != NULL || i < count; i++) {
        if (list != NULL && fscanf(list, "%d %d %d", &device, &start, &regs) != 3)
            break;
        modbus_set_slave(m, device);
        long long at = monotonic();
        int n = modbus_read_registers(m, start, regs, dst);
        if (n == regs)
            answered++;
        else
            failed++;
        if (!verbose)
            continue;
        printf("%lld", at);
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
