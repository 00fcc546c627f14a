/* A master made of libmodbus: usage: master PORT BAUD COMMAND...
 *   read DEVICE START COUNT    function 03; prints the values, or "error TEXT"
 *   input DEVICE START COUNT   function 04
 *   write DEVICE START VALUE   function 06; prints "written"
 *   multi DEVICE START V V     function 16, two registers
 * One line of output a command. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    modbus_t *m = modbus_new_rtu(argv[1], atoi(argv[2]), 'E', 8, 1);
    if (m == NULL || modbus_connect(m) != 0 || modbus_set_response_timeout(m, 5, 0) != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    for (int i = 3; i + 3 < argc;) {
        char *what = argv[i];
        int device = atoi(argv[i + 1]), start = atoi(argv[i + 2]), arg = atoi(argv[i + 3]);
        uint16_t v[MODBUS_MAX_READ_REGISTERS];
        int n, values = 0;
        i += 4;
        modbus_set_slave(m, device);
        if (strcmp(what, "read") == 0)
            n = values = modbus_read_registers(m, start, arg, v);
        else if (strcmp(what, "input") == 0)
            n = values = modbus_read_input_registers(m, start, arg, v);
        else if (strcmp(what, "write") == 0)
            n = modbus_write_register(m, start, arg);
        else if (strcmp(what, "multi") == 0 && i < argc) {
            v[0] = arg;
            v[1] = atoi(argv[i++]);
            n = modbus_write_registers(m, start, 2, v);
        } else
            return 2;
        if (n < 0)
            printf("error %s", modbus_strerror(errno));
        else if (values == 0)
            printf("written");
        for (int j = 0; j < values; j++)
            printf("%s%u", j ? " " : "", v[j]);
        printf("\n");
    }
    modbus_close(m);
    modbus_free(m);
    return 0;
}
