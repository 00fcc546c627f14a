"""A slave made of pymodbus, at address 1: usage: slave.py PORT BAUD.

It holds what slave.c holds. Ends with its standard input."""
import asyncio
import sys
import threading
import os

try:  # pymodbus 3.0, Debian 12
    from pymodbus.server.async_io import ModbusSerialServer
    from pymodbus.transaction import ModbusRtuFramer as rtu
except ImportError:  # later ones
    from pymodbus.server import ModbusSerialServer
    from pymodbus import FramerType
    rtu = FramerType.RTU
from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSequentialDataBlock

N = 400


def block(values):
    return ModbusSequentialDataBlock(0, list(values))


async def main(port, baud):
    device = ModbusSlaveContext(
        hr=block(7 * i + 1 for i in range(N)),
        ir=block(5 * i + 3 for i in range(N)),
        co=block(i % 3 == 0 for i in range(N)),
        di=block(i % 3 == 0 for i in range(N)),
        zero_mode=True)
    context = ModbusServerContext(slaves={1: device}, single=False)
    # No parity: a pseudo-terminal has none, and pyserial takes that for an error.
    server = ModbusSerialServer(context, framer=rtu, port=port, baudrate=baud, parity="N",
                                ignore_missing_slaves=True)
    if hasattr(server, "start"):
        await server.start()
        print("ready", flush=True)
        await server.serve_forever()
    else:
        print("ready", flush=True)
        await server.serve_forever()


def until_stdin_ends():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=until_stdin_ends, daemon=True).start()
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
