"""How arrays go from GPU to GPU: by NCCL, through CuPy, as launches on the current stream.

NVIDIA's user guide, "Point-to-point communication" and "Using NCCL with CUDA Graphs".
"""

from contextlib import contextmanager

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.errors import DeviceError


class Nccl:
    """`exchange` and `broadcast` of a Communicator (communicator.py) for arrays that lie on GPUs, one for each rank.

    Like a kernel's launch they return at once: what is launched later on the same stream comes after them. A CUDA graph
    can record them, if all ranks record the same ones, but not the first: a rank connects to all others at its first
    call, and to one at the first exchange with it. The calls before a recording (kernels/cuda/graph.py) do that, on the
    stream that will be recorded. Arrays go as bytes, whatever their dtype, so that no bit can change on the way.
    """

    def __init__(self, ranks):
        self.nccl = library()
        self.connection = connect(ranks, self.nccl)

    @contextmanager
    def grouped(self):
        """Within the block nothing is sent; then all at once, as one launch."""
        self.nccl.groupStart()
        yield
        self.nccl.groupEnd()

    def exchange(self, send, receive, partner):
        stream = current_stream(send)
        with self.grouped():  # one after the other, each would wait until the partner has done the other
            self.connection.send(send.data.ptr, send.nbytes, self.nccl.NCCL_UINT8, partner, stream)
            self.connection.recv(receive.data.ptr, receive.nbytes, self.nccl.NCCL_UINT8, partner, stream)

    def broadcast(self, x, root):
        here = x.data.ptr
        self.connection.broadcast(here, here, x.nbytes, self.nccl.NCCL_UINT8, root, current_stream(x))

    def trouble(self):
        """The error that NCCL has met in what was launched, of which nobody else hears; None if there is none."""
        try:
            self.connection.check_async_error()
        except self.nccl.NcclError as error:
            return f"NCCL cannot send between GPUs any more: {error}"


def current_stream(x):
    return array_module(x).cuda.get_current_stream().ptr


def library():
    """CuPy's module of NCCL."""
    from cupy.cuda import nccl

    return nccl


def connect(ranks, nccl):
    """CuPy's communicator of these ranks, which meet under a number that rank 0 draws and their host hands round."""
    if not nccl.available:
        raise DeviceError(
            f"{ranks.size} processes on GPUs exchange arrays by NCCL, which cannot be loaded\n"
            "  hint : pip install 'tinygrad-lm[cuda13]' or cuda12, whichever CuPy is for; there is none for Windows"
        )
    drawn = nccl.get_unique_id() if ranks.rank == 0 else b""
    number = ranks.gather(np.frombuffer(drawn, np.uint8))[0].tobytes()
    try:
        return nccl.NcclCommunicator(ranks.size, number, ranks.rank)
    except nccl.NcclError as error:
        raise DeviceError(
            f"NCCL cannot connect the GPUs of {ranks.size} processes: {error}\n"
            "  rule : each process needs a GPU that no other one has\n"
            "  hint : nvidia-smi -L lists them; start as many processes, or see what NCCL_DEBUG=WARN prints"
        ) from error
