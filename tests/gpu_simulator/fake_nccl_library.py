"""A libnccl for the real CuPy's module of NCCL, on fake_cuda.py: it notes what CuPy asks of it, and moves nothing."""

import ctypes
import subprocess
from importlib import import_module
from pathlib import Path

from fake_cuda import note, owned

SOURCE = """
#include <stddef.h>
#include <string.h>
typedef struct { char bytes[128]; } Id;
int broken = 0;
static void (*report)(const char*, const void*, size_t, int, int, void*);
void report_to(void* function) { report = function; }
const char* ncclGetErrorString(int error) { return "refused"; }
int ncclGetVersion(int* version) { *version = 22707; return 0; }
int ncclGetUniqueId(Id* id) { memset(id->bytes, 7, 128); return 0; }
int ncclCommInitRankConfig(void** comm, int size, Id id, int rank, void* config) {
    report("ncclCommInitRank", 0, size, id.bytes[127], rank, 0);
    *comm = comm;
    return 0;
}
int ncclCommGetAsyncError(void* comm, int* error) { *error = broken; return 0; }
int ncclGroupStart(void) { report("ncclGroupStart", 0, 0, 0, 0, 0); return 0; }
int ncclGroupEnd(void) { report("ncclGroupEnd", 0, 0, 0, 0, 0); return 0; }
int ncclSend(const void* x, size_t count, int type, int peer, void* comm, void* stream) {
    report("ncclSend", x, count, type, peer, stream);
    return 0;
}
int ncclRecv(void* x, size_t count, int type, int peer, void* comm, void* stream) {
    report("ncclRecv", x, count, type, peer, stream);
    return 0;
}
int ncclBroadcast(const void* x, void* y, size_t count, int type, int root, void* comm, void* stream) {
    report(x == y ? "ncclBroadcast" : "ncclBroadcast elsewhere", x, count, type, root, stream);
    return 0;
}
"""
OTHERS = "AllGather AllReduce Bcast CommAbort CommCount CommCuDevice CommDestroy CommInitAll"
OTHERS += " CommSplit CommUserRank Reduce ReduceScatter"
Report = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_void_p
)
TYPES = {0: 1, 1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 2, 7: 4, 8: 8, 9: 2}  # bytes of an entry, by ncclDataType_t


@Report
def report(name, address, count, datatype, peer, stream):
    size = count * TYPES[datatype] if address else 0
    if address:
        assert size, f"{name}: nothing"
        assert owned(address), f"{name}: not of the GPU"
        assert owned(address + size - 1), f"{name}: beyond the end of its memory"
    note(name.decode(), stream or 0, pointers=(address,) if address else (), numbers=(count, datatype, peer))


def load(folder):
    """CuPy's module of NCCL, with this library."""
    global loaded
    source, library = Path(folder, "nccl.c"), Path(folder, "libnccl.so.2")
    source.write_text(SOURCE + "".join(f"int nccl{name}(void) {{ return 1; }}\n" for name in OTHERS.split()))
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-Wl,-soname,libnccl.so.2", "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    loaded.report_to(report)
    return import_module("cupy.cuda.nccl")


def breaks():
    """From now on a connection has met NCCL's remote error."""
    ctypes.c_int.in_dll(loaded, "broken").value = 6
