"""Faults planted in the real CUDA sources: each must fail against the rule, or be reported by the emulator."""

import cuda_emulator
import numpy as np
import pytest
import strict_array as xp
from cuda_checks import agree, cotangent, expected, ids_outside_their_table, run, small_blocks
from cuda_emulator import KERNELS, LaunchError
from op_cases import Case

from tinygrad_lm.kernels import cuda_compile

pytestmark = pytest.mark.skipif(cuda_emulator.UNABLE is not None, reason=str(cuda_emulator.UNABLE))

PLANTED = [
    # file, what stands there, what is planted, which rule notices
    ("common", "distance = 16", "distance = 8", "layer_norm"),
    ("common", "__syncthreads();  // others may still read what the last call left there", "", "layer_norm"),
    ("common", "__syncthreads();\n    return warp_sum", "return warp_sum", "layer_norm"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : 0", "of_warp[lane]", "layer_norm"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : 0", "lane == 0 ? of_warp[lane] : 0", "layer_norm"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : of_warp[0]", "of_warp[0]", "cross_entropy"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : of_warp[0]", "of_warp[lane]", "cross_entropy"),
    ("common", "+ threadIdx.x) * WIDTH", "+ threadIdx.x)", "silu"),
    ("activation", "if (i >= n) return;", "", "silu"),
    ("activation", "if (i >= n) return;", "if (i > n) return;", "silu"),
    ("activation", "if (i >= n) return;", "if (i >= n - 1) return;", "silu"),
    ("activation", "return s + x * s * (1 - s);", "return s + x * (1 - s);", "silu"),
    ("activation", "3 * 0.044715f", "2 * 0.044715f", "gelu_tanh"),
    ("activation", "1.59576912f * x *", "1.5957f * x *", "gelu_tanh"),
    ("activation", "0.39894228f", "0.3989f", "gelu"),
    ("activation", "return 2 * relu(x)", "return relu(x)", "relu_squared"),
    ("activation", "return x > 0;", "return 1;", "relu"),
    ("normalize", "if (c < C) load(x + row + c, v[k]);", "load(x + row + c, v[k]);", "layer_norm"),
    ("normalize", "square += c < C ?", "square += true ?", "layer_norm"),
    ("normalize", "if (c >= C) continue;", "", "layer_norm"),
    ("normalize", "if (c >= C) continue;", "if (c > C) continue;", "layer_norm"),
    ("normalize", "k < PACKETS; k++", "k < 1; k++", "layer_norm"),
    ("normalize", "row += teams", "row += teams + 1", "layer_norm"),
    ("normalize", "row += teams", "row += gridDim.x", "rms_norm"),
    ("normalize", "if (n >= N) return;", "", "rms_norm"),
    ("normalize", "+ threadIdx.x / TEAM;", ";", "rms_norm"),
    ("normalize", "k * TEAM + threadIdx.x % TEAM", "k * blockDim.x + threadIdx.x", "rms_norm"),
    ("normalize", "dw + team() * C", "dw + blockIdx.x * C", "rms_norm"),
    ("normalize", "row < N; row", "row < N - 1; row", "layer_norm"),
    ("normalize", "- xhat[k][i] * along_xhat", "", "layer_norm"),
    ("normalize", "- along_1 -", "-", "layer_norm"),
    ("normalize", "sum_db[k][i] += g[k][i]", "sum_db[k][i] += g[k][i] * gain[k][i]", "layer_norm"),
    ("normalize", "inverse[n] = r", "inverse[0] = r", "rms_norm"),
    ("columns", "n < end; n += 8", "n < end; n += 4", "layer_norm"),
    ("columns", "n < end; n += 8", "n < N; n += 8", "layer_norm"),
    ("columns", "int end = N < (blockIdx.y + 1) * ROWS ? N :", "int end =", "layer_norm"),
    ("columns", "y[blockIdx.y * (long long)C + c]", "y[c]", "layer_norm"),
    ("columns", "int i = 1; i < 8", "int i = 1; i < 7", "layer_norm"),
    ("columns", "warp == 0 && c < C", "warp == 0", "layer_norm"),
    ("columns", "    __syncthreads();\n", "", "layer_norm"),
    ("dropout", "round < 10", "round < 9", "dropout"),
    ("dropout", "word(thread) + 1", "word(thread)", "dropout"),
    ("dropout", "if (start >= n) return;", "", "dropout"),
    ("dropout", "(k + i) % 2 * 32", "(1 - (k + i) % 2) * 32", "dropout"),
    ("dropout", "thread * 8 + k", "thread * 8", "dropout"),
    ("dropout", "u >= p", "u < p", "dropout"),
    ("rotary", "head / H % T", "head % T", "rotary"),
    ("rotary", "if (pair >= pairs) return;", "", "rotary"),
    ("rotary", "(sign * s[j]) + x2", "s[j] + x2", "rotary"),
    ("rotary", "x + here + half", "x + here + 1", "rotary"),
    ("embedding", "k += GROUPS", "k += GROUPS + 1", "embedding"),
    ("embedding", "other = 1; other < GROUPS", "other = 1; other < GROUPS - 1", "embedding"),
    ("embedding", "    __syncthreads();\n", "", "embedding"),
    ("embedding", "warp == 0 && c < C", "warp == 0", "embedding"),
    ("embedding", "+ warp; k <", "; k <", "embedding"),
    ("embedding", "i % C, v", "0, v", "embedding"),
    ("embedding", "strip[here] = id;\n    __syncthreads();", "strip[here] = id;", "embedding"),
    ("embedding", "before += i < here", "before += i <= here", "embedding"),
    ("embedding", "before += i < here &&", "before +=", "embedding"),
    ("embedding", "i = 0; i < blockDim.x", "i = 0; i < 32", "embedding"),
    ("embedding", "if (after == 0) table", "table", "embedding"),
    ("embedding", "= before + 1;", "= before;", "embedding"),
    ("embedding", "if (id < 0 || id >= V) return;", "", "embedding"),
    ("embedding", "if (id < 0 || id >= V) return;", "if (id < 0 || id > V) return;", "embedding"),
    ("embedding", "if (id < 0 || id >= V) return;", "if (id >= V) return;", "embedding"),
    ("embedding", "if (v >= V) return;", "", "embedding"),
    ("embedding", "if (s + i < strips) table", "table", "embedding"),
    ("embedding", "s + i < strips ? table", "true ? table", "embedding"),
    ("embedding", "strips; s += 8", "8; s += 8", "embedding"),
    ("embedding", "sum += count[i];", "sum = count[i];", "embedding"),
    ("embedding", "        __syncthreads();\n        int others", "        int others", "embedding"),
    ("embedding", "        __syncthreads();\n        sums[here] +=", "        sums[here] +=", "embedding"),
    ("embedding", "distance < blockDim.x", "distance < 32", "embedding"),
    ("embedding", "min(V, (here + 1) * piece)", "(here + 1) * piece", "embedding"),
    ("embedding", "= sums[here] - sum;", "= sums[here];", "embedding"),
    ("embedding", "starts[V] = sums[here];", ";", "embedding"),
    ("embedding", "if (id >= 0 && id < V) order", "if (id < V) order", "embedding"),
    ("embedding", "if (id >= 0 && id < V) order", "if (id >= 0) order", "embedding"),
    ("embedding", "+ table[blockIdx.x * (long long)V + id] + ranks", "+ ranks", "embedding"),
    ("embedding", "id < V)\n        load", "true)\n        load", "embedding"),
    ("cross_entropy", "sum *= expf(top - higher);", "", "cross_entropy"),
    ("cross_entropy", "block_sum(sum * expf(top - largest))", "block_sum(sum)", "cross_entropy"),
    ("cross_entropy", "c < V; c += blockDim.x * WIDTH", "c < V - 1; c += blockDim.x * WIDTH", "cross_entropy"),
    ("cross_entropy", "c < V; c += blockDim.x * WIDTH", "c <= V; c += blockDim.x * WIDTH", "cross_entropy"),
    ("cross_entropy", "c + i == target ?", "c == target ?", "cross_entropy"),
    ("cross_entropy", "counted += targets[i] != ignored;", "counted += 1;", "cross_entropy"),
    ("cross_entropy", "target == ignored ? 0 : *dy", "*dy", "cross_entropy"),
    ("cross_entropy", "target == ignored ? 0 : logf", "logf", "cross_entropy"),
    ("cross_entropy", "target == ignored ? 0 : *share", "*share", "linear_cross_entropy"),
    ("cross_entropy", "__syncthreads();  // the target", "// the target", "linear_cross_entropy"),
    ("cross_entropy", "row_gradient(row, row,", "row_gradient(row, x,", "linear_cross_entropy"),
    ("cross_entropy", "nll[blockIdx.x] = loss_of(row, target", "nll[0] = loss_of(row, target", "linear_cross_entropy"),
    ("cross_entropy", "fmaxf(block_sum(counted), 1)", "block_sum(counted) + 1", "cross_entropy"),
    ("attention", "__syncthreads();  // all warps are done with the tiles before", "", "attention"),
    ("attention", "        __syncthreads();\n        float z", "        float z", "attention"),
    ("attention", "            __syncthreads();\n            fill", "            fill", "attention"),
    ("attention", "            __syncthreads();\n            float P", "            float P", "attention"),
    ("attention", "key >= S || (causal", "(causal", "attention"),
    ("attention", "key > query + S - T)) z", "key > query)) z", "attention"),
    ("attention", "key > query + S - T);", "key >= query + S - T);", "attention"),
    ("attention", "key > j + column + S - T", "key > j + column", "attention"),
    ("attention", "total[r] *= factor[r];", "", "attention"),
    ("attention", "sum[n][i] *= factor[i / 2]", "sum[n][i] *= factor[0]", "attention"),
    ("attention", "total[r] = row_sum(total[r])", "total[r] *= 4", "attention"),
    ("attention", "largest[r] = row_max(largest[r]);", "", "attention"),
    ("attention", "min(S, start + TILE + S - T)", "min(S, start + S - T)", "attention"),
    ("attention", "max(0, start - (S - T))", "start", "attention"),
    ("attention", "(dP[n][i] - d[i / 2])", "dP[n][i]", "attention"),
    ("attention", "(dz[n][i] - d[column])", "(dz[n][i] - d[column / 2])", "attention"),
    ("attention", "group = h / (H / G)", "group = h % G", "attention"),
    ("attention", "h < (group + 1) * (H / G)", "h < group * (H / G) + 1", "attention"),
    ("attention", "sum_dk, scale, scale)", "sum_dk, 1, 1)", "attention"),
    ("attention", "i / H % T] = sum", "i % T] = sum", "attention"),
    ("matrices", "if (start + row < end) p", "p", "attention"),
    ("matrices", "row < end ?", "row <= end ?", "attention"),
    ("matrices", "if (start + g + 8 < end)", "if (start + g < end)", "attention"),
    ("matrices", "lane / 16 * 8][k * 16 + lane / 8 % 2 * 8", "lane / 8 % 2 * 8][k * 16 + lane / 16 * 8", "attention"),
    ("matrices", "b[k * 16 + lane % 16]", "b[k * 16 + lane % 8]", "attention"),
    ("matrices", "load_matrices<true>", "load_matrices<false>", "attention"),
    ("matrices", "packed(a[2 * k][2], a[2 * k][3])", "packed(a[2 * k][3], a[2 * k][2])", "attention"),
    ("matrices", "i % 2 * 8, column = k * 16 + i / 2 * 8", "i / 2 * 8, column = k * 16 + i % 2 * 8", "attention"),
    ("matrices", "typedef bf16 tile[TILE][D + 8]", "typedef bf16 tile[TILE][D + 4]", "attention"),
]  # fmt: skip


def sizes(name, rng):
    """A case of each kind for a rule: whole packets and single numbers, several blocks, nothing that divides."""
    numbers = lambda *shape: rng.standard_normal(shape).astype("float32")
    if name == "attention":
        bf16 = pytest.importorskip("ml_dtypes").bfloat16
        for B, T, S, H, G, D in ((2, 65, 65, 4, 2, 16), (1, 20, 100, 2, 2, 32)):
            q, k, v = (numbers(*shape).astype(bf16) for shape in ((B, T, H, D), (B, S, G, D), (B, S, G, D)))
            yield from (Case((q, k, v), {"causal": causal}) for causal in (True, False))
        return
    for n, C in ((5, 260), (23, 131), (2, 4), (1, 1100)):
        match name:
            case "layer_norm":
                yield Case((numbers(n, C), numbers(C), numbers(C)))
            case "rms_norm":
                yield Case((numbers(n, C), numbers(C)))
            case "dropout":
                yield Case((numbers(n, C),), {"p": 0.3, "key": (1, "test", 2)})
            case "rotary":
                yield Case((numbers(2, n, 3, 2 * (C // 4)),))
            case "embedding":
                V, N = {5: (4, 40), 23: (70, 700), 2: (3, 1100), 1: (1, 70)}[n]
                yield Case((numbers(V, C), rng.integers(0, V, N)))
            case "cross_entropy":
                targets = rng.integers(0, C, n)
                targets[::3] = -100
                x = 5 * numbers(n, C)
                x[:, -C // 7] += 1000  # far above what most threads see
                yield Case((x, targets))
            case "linear_cross_entropy":
                targets = rng.integers(0, C, 4 * n)
                targets[::3] = -100
                yield Case((numbers(4 * n, 16), numbers(16, C), targets))
            case _:
                yield Case((numbers(n, C),))


def looked_at(name):
    """All that must hold of a kernel, on a few cases, in two orders."""
    rng = np.random.default_rng(0)
    if name == "embedding":
        ids_outside_their_table(xp)
    for case in sizes(name, rng):
        dtype = case.inputs[0].dtype
        dy = cotangent(rng, name, case, dtype)
        for cuda_emulator.order in (1, 0):
            agree(run(xp, KERNELS[name], case, dy), expected(name, case, dy), case, str(dtype))


@pytest.fixture
def emulated():
    with small_blocks() as patch:
        yield patch
    cuda_emulator.order = 0


@pytest.mark.parametrize("name", sorted({planted[3] for planted in PLANTED}))
def test_without_a_fault_all_is_right(emulated, name):
    looked_at(name)


@pytest.mark.parametrize(("file", "there", "planted", "rule"), PLANTED)
def test_a_planted_fault_is_noticed(emulated, tmp_path, file, there, planted, rule):
    texts = {path.name: path.read_text() for path in cuda_compile.SOURCES.iterdir()}
    key = f"{file}.cuh" if file in ("common", "matrices") else f"{file}.cu"
    assert there in texts[key]
    for name, text in texts.items():
        (tmp_path / name).write_text(text.replace(there, planted) if name == key else text)
    emulated.setattr(cuda_compile, "SOURCES", tmp_path)
    with pytest.raises((AssertionError, LaunchError)) as found:
        looked_at(rule)
    assert "g++ refuses" not in str(found.value)
