"""What a GPU is told about each kernel in machine code, an ELF file: its parameters, and what a block of it takes.

Names of sections and attributes are those that NVIDIA's `cuobjdump -elf` prints.
"""

import struct
from typing import NamedTuple

PARAMETER, THREADS, REGISTERS = 0x17, 0x05, 0x2F  # EIATTR_KPARAM_INFO, _MAX_THREADS, _REGCOUNT
WITH_SIZE = 4  # EIFMT_SVAL; attributes of other formats are four bytes in all


class Kernel(NamedTuple):
    name: str
    parameters: list  # bytes of each
    threads: int  # most in a block, as __launch_bounds__ says
    registers: int  # of a thread
    shared: int  # bytes, not counting those asked for at the launch


def kernels(code):
    """{name: Kernel} of a compiled file."""
    found = dict(sections(code))
    registers = {}
    for attribute, value in attributes(found[".nv.info"][1]):
        if attribute == REGISTERS:
            symbol, number = struct.unpack("<II", value)
            registers[symbol] = number
    texts = [name.removeprefix(".text.") for name in found if name.startswith(".text.")]
    return {name: kernel(name, found, registers) for name in texts if f".nv.info.{name}" in found}


def kernel(name, found, registers):
    sizes, threads = {}, 1024
    for attribute, value in attributes(found[f".nv.info.{name}"][1]):
        if attribute == PARAMETER:
            _, ordinal, _, bits = struct.unpack("<IHHI", value)
            sizes[ordinal] = bits >> 18
        elif attribute == THREADS:
            threads, *_ = struct.unpack("<III", value)
    symbol = found[f".text.{name}"][0][7]
    shared = found[f".nv.shared.{name}"][0][5] if f".nv.shared.{name}" in found else 0
    return Kernel(name, [sizes[i] for i in range(len(sizes))], threads, registers[symbol], shared)


def sections(code):
    """(name, (header, bytes)) of each section."""
    start, (size, number, names) = *struct.unpack_from("<Q", code, 0x28), struct.unpack_from("<HHH", code, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(number)]
    for header in headers:
        name = code[headers[names][4] + header[0] :].split(b"\0", 1)[0].decode()
        yield name, (header, code[header[4] : header[4] + header[5]])


def attributes(info):
    """(attribute, value) of each attribute that has a value of its own."""
    place = 0
    while place < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, place)
        place += 4
        if form == WITH_SIZE:
            yield attribute, info[place : place + size]
            place += size
