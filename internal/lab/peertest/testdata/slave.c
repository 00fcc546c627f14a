/* A slave made of libmodbus, at address 1: usage: slave PORT BAUD. It has 400
 * holding and 400 input registers, and 400 coils and discrete inputs; register r
 * starts as 7r+1 (holding) and 5r+3 (input), bit r as r%3==0. Ends with its
 * standard input. */
#include <errno.h>
#include <modbus.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 400 };

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    modbus_t *m = modbus_new_rtu(argv[1], atoi(argv[2]), 'E', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(N, N, N, N);
    if (m == NULL || map == NULL || modbus_set_slave(m, 1) != 0 || modbus_connect(m) != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    for (int i = 0; i < N; i++) {
        map->tab_registers[i] = 7 * i + 1;
        map->tab_input_registers[i] = 5 * i + 3;
        map->tab_bits[i] = map->tab_input_bits[i] = i % 3 == 0;
    }
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        uint8_t q[MODBUS_RTU_MAX_ADU_LENGTH];
        struct pollfd p[2] = {{.fd = modbus_get_socket(m), .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 || p[1].revents)
            return 0;
        int n = modbus_receive(m, q);
        if (n > 0)
            modbus_reply(m, q, n, map);
    }
}
