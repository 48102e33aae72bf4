"""Calls the service as a program does that is not written with zbus: through sd-bus of libsystemd.

    sd_bus.py system|ADDRESS

Each line of standard input is a call: path, interface, method, and where the method has arguments their
signature and their values. An array's values begin with their count, a variant's with its signature, and a
descriptor is the path of a file. Each line of standard output is the answer to one: {"reply": true}, or the
error's {"name", "text"}.
"""

import ctypes
import json
import os
import sys

try:
    systemd = ctypes.CDLL("libsystemd.so.0")
except OSError as error:
    sys.exit(f"libsystemd is missing: {error}")


class Error(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("message", ctypes.c_char_p), ("need_free", ctypes.c_int)]


NUMBERS = {"i": ctypes.c_int32, "u": ctypes.c_uint32, "x": ctypes.c_int64, "t": ctypes.c_uint64}


def value(kind, word, opened):
    """One basic value as sd_bus_message_append takes it."""
    if kind == "b":
        return ctypes.c_int(word == "true")
    if kind == "d":
        return ctypes.c_double(float(word))
    if kind == "s":
        return word.encode()
    if kind == "h":
        opened.append(os.open(word, os.O_RDONLY))
        return ctypes.c_int(opened[-1])
    return NUMBERS[kind](int(word))


def values(signature, words, opened):
    """The values of a signature, taken from the words."""
    while signature:
        kind, signature = signature[0], signature[1:]
        if kind == "a":
            closing = {"{": "}", "(": ")"}.get(signature[0])
            end = signature.index(closing) + 1 if closing else 1
            element, signature = signature[:end].strip("{}()"), signature[end:]
            count = int(next(words))
            yield ctypes.c_uint(count)
            for _ in range(count):
                yield from values(element, words, opened)
        elif kind == "v":
            inner = next(words)
            yield inner.encode()
            yield from values(inner, words, opened)
        else:
            yield value(kind, next(words), opened)


def call(bus, line):
    words = iter(line.split())
    target = [next(words).encode() for _ in range(3)]
    signature = next(words, "")
    opened, error, reply = [], Error(), ctypes.c_void_p()
    arguments = list(values(signature, words, opened))
    types = signature.encode() if signature else None
    destination = b"org.coft.Coft1"
    result = systemd.sd_bus_call_method(
        bus, destination, *target, ctypes.byref(error), ctypes.byref(reply), types, *arguments
    )
    for descriptor in opened:
        os.close(descriptor)
    systemd.sd_bus_message_unref(reply)
    if result >= 0:
        return {"reply": True}
    name, text = error.name or b"", error.message or os.strerror(-result).encode()
    answer = {"name": name.decode(), "text": text.decode(errors="replace")}
    systemd.sd_bus_error_free(ctypes.byref(error))
    return answer


def main():
    systemd.sd_bus_message_unref.restype = ctypes.c_void_p
    systemd.sd_bus_message_unref.argtypes = [ctypes.c_void_p]
    bus, address = ctypes.c_void_p(), sys.argv[1]
    if address == "system":
        result = systemd.sd_bus_open_system(ctypes.byref(bus))
    else:
        systemd.sd_bus_new(ctypes.byref(bus))
        systemd.sd_bus_set_address(bus, address.encode())
        systemd.sd_bus_set_bus_client(bus, 1)
        systemd.sd_bus_negotiate_fds(bus, 1)
        result = systemd.sd_bus_start(bus)
    if result < 0:
        sys.exit(f"no connection to the bus {address}: {os.strerror(-result)}")
    for line in sys.stdin:
        print(json.dumps(call(bus, line)), flush=True)


main()
