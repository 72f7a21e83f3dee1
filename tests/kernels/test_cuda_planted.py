"""Faults planted in the real CUDA sources: each must differ from the definition, or be reported by the emulator."""

import functools
from types import SimpleNamespace

import cuda_emulator
import numpy as np
import pytest
import strict_array as xp
from cuda_checks import agree, columns_agree, cotangent, expected, ids_outside_their_table, on_host, small_blocks
from cuda_emulator import LaunchError
from cuda_sizes import alone, documents
from slow import first_of_each, slow_but

from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.cuda import compile as cuda_compile
from tinygrad_lm.testing.case import Case

pytestmark = pytest.mark.skipif(cuda_emulator.UNABLE is not None, reason=str(cuda_emulator.UNABLE))

SHOW, SYNC = "        show_copies();\n", "        __syncthreads();"  # in attention.cu
WAIT, FENCE = f"        wait_for_copies();\n{SHOW}", "    fence_registers();\n#pragma unroll\n"
MARK = "// everybody's copies are there, and all warps are done with the tiles before\n"
BRING = "        if (j + TILE < end) bring(j + TILE, 1 - stage);\n"
NEXT = "        if (next_h < heads) bring(next_h, next, 1 - stage);\n"
PLANTED = [
    # file, what stands there, what is planted, on which rule's cases it is noticed
    ("common", "distance = 16", "distance = 8", "layer_norm"),
    ("common", "__syncthreads();  // others may still read what the last call left there", "", "layer_norm"),
    ("common", "__syncthreads();\n    return warp_sum", "return warp_sum", "layer_norm"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : T(0)", "of_warp[lane]", "layer_norm"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : T(0)", "lane == 0 ? of_warp[lane] : T(0)", "layer_norm"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : of_warp[0]", "of_warp[0]", "cross_entropy"),
    ("common", "lane < blockDim.x / 32 ? of_warp[lane] : of_warp[0]", "of_warp[lane]", "cross_entropy"),
    ("common", "+ threadIdx.x) * WIDTH", "+ threadIdx.x)", "silu"),
    ("activation", "if (i >= n) return;", "", "silu"),
    ("activation", "if (i >= n) return;", "if (i > n) return;", "silu"),
    ("activation", "if (i >= n) return;", "if (i >= n - 1) return;", "silu"),
    ("activation", "* ROWS + row) * (long long)C", "* ROWS) * (long long)C", "silu"),
    ("activation", "i += AT_ONCE * step", "i += step", "silu"),
    ("activation", "i += AT_ONCE * step", "i += (AT_ONCE + 1) * step", "silu"),
    ("activation", "step = gridDim.y * ROWS", "step = ROWS", "silu"),
    ("activation", "x + (i + k * step < n ? i + k * step : i)", "x + i + k * step", "silu"),
    ("activation", "dy + (i + k * step < n ? i + k * step : i)", "dy + i", "silu"),
    ("activation", "if (i + k * step >= n) break;", "", "silu"),
    ("activation", "if (i + k * step >= n) break;", "if (i + k * step >= n) continue; if (k == 2) break;", "silu"),
    ("activation", "sum[j] += d[k][j] =", "sum[j] = d[k][j] =", "silu"),
    ("activation", "if (!parts) return;", "return;", "silu"),
    ("activation", "if (!parts) return;", "", "silu"),
    ("activation", "    __syncthreads();\n", "", "silu"),
    ("activation", "row == 0 && c < C", "row == 0", "silu"),
    ("activation", "row == 0 && c < C", "c < C", "silu"),
    ("activation", "other = 1; other < ROWS", "other = 1; other < ROWS - 1", "silu"),
    ("activation", "of_row[other][lane][j];", "of_row[other][0][j];", "silu"),
    ("activation", "parts + blockIdx.y * (long long)C + c", "parts + c", "silu"),
    ("activation", "dy * (s + x * s * (1 - s));", "dy * (s + x * (1 - s));", "silu"),
    ("activation", "3 * 0.044715f", "2 * 0.044715f", "gelu_tanh"),
    ("activation", "1.59576912f * x *", "1.5957f * x *", "gelu_tanh"),
    ("activation", "0.39894228f", "0.3989f", "gelu"),
    ("activation", "return 2 * relu_gradient", "return relu_gradient", "relu_squared"),
    ("activation", "return x > 0 ? dy : 0;", "return dy;", "relu"),
    ("elementwise", "A[j] += B[j]", "A[j] += A[j]", "add"),
    ("elementwise", "if (j >= of_b) return;", "", "add"),
    ("elementwise", "blockIdx.y * of_b + j", "blockIdx.y * blockDim.x + j", "add"),
    ("elementwise", "load(b + j, B)", "load(b + i, B)", "add"),
    ("elementwise", "A[j] *= B[j]", "A[j] += B[j]", "multiply"),
    ("elementwise", "store(da + i, B);\n    store(db + i, A);", "store(da + i, A);\n    store(db + i, B);", "multiply"),
    ("elementwise", "if (i >= n) return;", "", "multiply"),
    ("elementwise", "if (i >= n) return;", "if (i >= n - 1) return;", "multiply"),
    ("normalize", "load(x + row + inside(k, C)", "load(x + row + channel(k)", "layer_norm"),
    ("normalize", "packet_at(dy + row * C + inside(k, C))", "packet_at(dy + row * C + channel(k))", "layer_norm"),
    ("normalize", "packet_at(x + row * C + inside(k, C))", "packet_at(x + row * C + channel(k))", "layer_norm"),
    ("normalize", "packet_at(total + row * C + inside(k, C))", "packet_at(total + row * C + channel(k))", "layer_norm"),
    ("normalize", "w + inside(k, C)", "w + channel(k)", "layer_norm"),
    ("normalize", "sum += channel(k) < C ?", "sum += true ?", "layer_norm"),
    ("normalize", "square += channel(k) < C ?", "square += true ?", "layer_norm"),
    ("normalize", "if (c >= C) continue;", "", "layer_norm"),
    ("normalize", "if (c >= C) continue;", "if (c > C) continue;", "layer_norm"),
    ("normalize", "if (channel(k) >= C) continue;", "", "layer_norm"),
    ("normalize", "channel(k) < C ? widened(of_dy[k].at[i]) : 0", "widened(of_dy[k].at[i])", "layer_norm"),
    ("normalize", "k < PACKETS; k++", "k < 1; k++", "layer_norm"),
    ("normalize", "row += teams", "row += teams + 1", "layer_norm"),
    ("normalize", "row += teams", "row += gridDim.x", "rms_norm"),
    ("normalize", "if (n >= N) return;", "", "rms_norm"),
    ("normalize", "+ threadIdx.x / TEAM;", ";", "rms_norm"),
    ("normalize", "k * TEAM + threadIdx.x % TEAM", "k * blockDim.x + threadIdx.x", "rms_norm"),
    ("normalize", "k / PACKETS * gridDim.x + blockIdx.x", "k / PACKETS * gridDim.x", "rms_norm"),
    ("normalize", "k / PACKETS * gridDim.x + blockIdx.x", "blockIdx.x", "layer_norm"),
    ("normalize", "widened(before[k].at[i]) + r *", "r *", "layer_norm"),
    ("normalize", "if (BIAS) sum[GAIN + 1][k][i] += d[i];", "if (BIAS) sum[GAIN + 1][k][i] += g;", "layer_norm"),
    ("normalize", "if (BIAS) sum[GAIN + 1][k][i] += d[i];", "", "layer_norm"),
    ("normalize", "k < PACKETS * SUMS", "k < PACKETS * (SUMS - 1)", "layer_norm"),
    ("normalize", "total + row * C", "total + C", "layer_norm"),
    ("normalize", "turn ? all + s[i] : s[i]", "s[i]", "rms_norm"),
    ("normalize", "turn ? all + s[i] : s[i]", "all + s[i]", "rms_norm"),
    ("normalize", "turn == teams_here - 1", "turn == 0", "rms_norm"),
    ("normalize", "        __syncthreads();\n    }\n}", "    }\n}", "rms_norm"),
    ("normalize", "[k % PACKETS][lane]", "[0][lane]", "layer_norm"),
    ("normalize", "&& c < C)\n", ")\n", "layer_norm"),
    ("normalize", "row < N; row", "row < N - 1; row", "layer_norm"),
    ("normalize", "- xhat * along_xhat", "", "layer_norm"),
    ("normalize", "- along_1 -", "-", "layer_norm"),
    ("normalize", "sum[GAIN][k][i] += g;", "sum[GAIN][k][i] += g * gain[i];", "layer_norm"),
    ("normalize", "inverse[n] = r", "inverse[0] = r", "rms_norm"),
    ("columns", "n += 4 * WARPS", "n += 3 * WARPS", "linear"),
    ("columns", "n += 4 * WARPS", "n += 5 * WARPS", "linear"),
    ("columns", "n + k * WARPS < end ?", "true ?", "linear"),
    ("columns", "n + k * WARPS < end ?", "n + k * WARPS < N ?", "linear"),
    ("columns", "min(n + k * WARPS, end - 1)", "(n + k * WARPS)", "linear"),
    ("columns", "min(n + k * WARPS, end - 1)", "n", "linear"),
    ("columns", "int end = min(N, (blockIdx.y + 1) * rows)", "int end = (blockIdx.y + 1) * rows", "linear"),
    ("columns", "y + blockIdx.y * (long long)C + c", "y + c", "linear"),
    ("columns", "if (total) sum[0] += total[c];", "", "linear"),
    ("columns", "sum[0] += total[c]", "sum[0] += *total", "linear"),
    ("columns", "other < WARPS", "other < WARPS - 1", "linear"),
    ("columns", "warp == 0 && c < C", "warp == 0", "linear"),
    ("columns", "    __syncthreads();\n", "", "linear"),
    ("philox", "round < 10", "round < 9", "dropout"),
    ("philox", "place + 1", "place", "dropout"),
    ("philox", "r.counter[0], r.counter[1]", "r.counter[1], r.counter[0]", "dropout"),
    ("philox", "r.counter[1] + r.row", "r.counter[1]", "dropout"),
    ("philox", "r.counter[1] + r.row", "r.row", "dropout"),
    ("philox", "r.counter[1] + r.row, 0", "r.counter[1], r.row", "dropout"),
    ("philox", "i % 2 * 32", "(1 - i % 2) * 32", "dropout"),
    ("philox", ">> 8 >= r.limit", ">> 8 < r.limit", "dropout"),
    ("dropout", "counter * 8 + k", "counter * 8", "dropout"),
    ("dropout", "i / of_row", "0", "dropout"),
    ("dropout", "i % of_row", "i", "dropout"),
    ("dropout", "    bits[i] = drawn;\n", "", "dropout"),
    ("dropout", "dx, n, i, bits[i]", "dx, n, i, bits[0]", "dropout"),
    ("dropout", "if (start >= n) return;", "", "dropout"),
    ("dropout", "bits >> (k + i)", "bits >> i", "dropout"),
    ("dropout", "? grown : 0", "? grown : grown * 0.01f", "dropout"),
    ("rotary", "head / H % T", "head % T", "rotary"),
    ("rotary", "if (pair >= pairs) return;", "", "rotary"),
    ("rotary", "(sign * s[j]) + x2", "s[j] + x2", "rotary"),
    ("rotary", "x + here + half", "x + here + 1", "rotary"),
    ("embedding", "k += 4 * GROUPS", "k += 4 * GROUPS + 1", "embedding"),
    ("embedding", "k + j * GROUPS < end ?", "true ?", "embedding"),
    ("embedding", "order[min(k + j * GROUPS, end - 1)]", "order[min(k + j, end - 1)]", "embedding"),
    ("embedding", "other = 1; other < GROUPS", "other = 1; other < GROUPS - 1", "embedding"),
    ("embedding", "    __syncthreads();\n", "", "embedding"),
    ("embedding", "warp == 0 && c < C", "warp == 0", "embedding"),
    ("embedding", "+ warp; k <", "; k <", "embedding"),
    ("embedding", "plus == dw && start == end", "start == end", "embedding"),
    ("embedding", "load(plus + here, before)", "load(dw + here, before)", "embedding"),
    ("embedding", "sum[i] += before[i]", "sum[i] = before[i]", "embedding"),
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
    ("embedding", "v < V && s < strips", "s < strips", "embedding"),
    ("embedding", "if (v < V) totals", "totals", "embedding"),
    ("embedding", "= blockDim.x - 1) of_block", "= 0) of_block", "embedding"),
    ("embedding", "b < blockIdx.x; b += half", "b <= blockIdx.x; b += half", "embedding"),
    ("embedding", "else if (v < V)", "else", "embedding"),
    ("embedding", "if (here >= half && v < V) starts", "if (here >= half) starts", "embedding"),
    ("embedding", "starts[v] = sum - x", "starts[v] = sum", "embedding"),
    ("embedding", "starts[V] = sum;", ";", "embedding"),
    ("embedding", "if (s + i < strips) table", "table", "embedding"),
    ("embedding", "s + i < strips ? table", "true ? table", "embedding"),
    ("embedding", "s < strips; s += 8", "s < 8; s += 8", "embedding"),
    ("embedding", "sum += count[i];", "sum = count[i];", "embedding"),
    ("embedding", "        __syncthreads();\n        int others", "        int others", "embedding"),
    ("embedding", "        __syncthreads();\n        sums[here] +=", "        sums[here] +=", "embedding"),
    ("embedding", "distance < blockDim.x", "distance < 32", "embedding"),
    ("embedding", "if (id >= 0 && id < V) order", "if (id < V) order", "embedding"),
    ("embedding", "if (id >= 0 && id < V) order", "if (id >= 0) order", "embedding"),
    ("embedding", "+ table[blockIdx.x * (long long)V + id] + ranks", "+ ranks", "embedding"),
    ("embedding", "id < V)\n        load", "true)\n        load", "embedding"),
    ("cross_entropy", "sum *= power(top - higher);", "", "cross_entropy"),
    ("cross_entropy", "block_sum(sum * power(top - largest))", "block_sum(sum)", "cross_entropy"),
    ("cross_entropy", "min(start + k * step, V - WIDTH)", "(start + k * step)", "cross_entropy"),
    ("cross_entropy", "v[k][i] = c < V ?", "v[k][i] = true ?", "cross_entropy"),
    ("cross_entropy", "start += PACKETS * step", "start += step", "cross_entropy"),
    ("cross_entropy", "c < V; c += blockDim.x * WIDTH", "c < V - 1; c += blockDim.x * WIDTH", "cross_entropy"),
    ("cross_entropy", "c < V; c += blockDim.x * WIDTH", "c <= V; c += blockDim.x * WIDTH", "cross_entropy"),
    ("cross_entropy", "c <= target && target < c + WIDTH", "c == target", "cross_entropy"),
    ("cross_entropy", "c + i == target ?", "c == target ?", "cross_entropy"),
    ("cross_entropy", "&& t[k] != ignored;", ";", "cross_entropy"),
    ("cross_entropy", "targets[min(start + k * blockDim.x, n - 1)]", "targets[start]", "linear_cross_entropy"),
    ("cross_entropy", "start + k * blockDim.x < n && t", "t", "cross_entropy"),
    ("cross_entropy", "start + k * blockDim.x < n ? v[k] : 0", "v[k]", "cross_entropy"),
    ("cross_entropy", "part = target == ignored ? 0 :", "part =", "cross_entropy"),
    ("cross_entropy", "part = target == ignored ? 0 :", "part =", "linear_cross_entropy"),
    ("cross_entropy", "share[blockIdx.x * step];", "*share;", "log_probability"),
    ("cross_entropy", "share[blockIdx.x * step];", "*share;", "linear_log_probability"),
    ("cross_entropy", "target == ignored ? 0 : logf", "logf", "cross_entropy"),
    ("cross_entropy", "__syncthreads();  // the target", "// the target", "linear_cross_entropy"),
    ("cross_entropy", "near_row : row, row,", "near_row : row, x,", "linear_cross_entropy"),
    ("cross_entropy", "KEPT ? near_row : row", "x", "linear_cross_entropy"),
    ("cross_entropy", "if (keep && c < V)", "if (keep && c < V - 1)", "linear_cross_entropy"),
    ("cross_entropy", "if (keep && c < V)", "if (keep)", "linear_cross_entropy"),
    ("cross_entropy", "(copy + c) = p[k]", "(copy + c) = p[0]", "linear_cross_entropy"),
    ("cross_entropy", "nll[blockIdx.x] = loss_of(row, target", "nll[0] = loss_of(row, target", "linear_cross_entropy"),
    ("cross_entropy", "fmaxf(counted, 1)", "(counted + 1)", "cross_entropy"),
    ("cross_entropy", "*y = sum * *share", "*y = sum", "cross_entropy"),
    ("elementwise", "X[j] *= *factor", "X[j] = X[j]", "linear_cross_entropy"),
    # the copies: none waited for, no barrier, the barrier first, too early into what is still read
    ("attention", f"{WAIT}{SYNC}  {MARK}", f"{SYNC}  {MARK}", "attention"),
    ("attention", f"{WAIT}{SYNC}\n{BRING}#pragma", f"{SYNC}\n{BRING}#pragma", "attention"),
    ("attention", f"{WAIT}{SYNC}\n        if (next", f"{SYNC}\n        if (next", "attention"),
    ("attention", f"{WAIT}{SYNC}  {MARK}", WAIT, "attention"),
    ("attention", f"{SYNC}\n{BRING}#pragma", f"{BRING}#pragma", "attention"),
    ("attention", f"{SYNC}\n        if (next", "        if (next", "attention"),
    ("attention", f"{WAIT}{SYNC}  {MARK}", f"{SYNC}\n{WAIT}", "attention"),
    ("attention", f"{WAIT}{SYNC}\n{BRING}#pragma", f"{SYNC}\n{WAIT}{BRING}#pragma", "attention"),
    ("attention", f"{WAIT}{SYNC}\n        if (next", f"{SYNC}\n{WAIT}        if (next", "attention"),
    ("attention", f"{SYNC}  {MARK}{BRING}", f"{BRING}{SYNC}\n", "attention of documents"),
    ("attention", f"{SYNC}\n{BRING}#pragma", f"{BRING}{SYNC}\n#pragma", "attention of documents"),
    ("attention", f"{SYNC}\n{NEXT}", f"{NEXT}{SYNC}\n", "attention"),
    ("attention", f"{BRING}        if (no", f"{BRING.replace('1 - stage', 'stage')}        if (no", "attention"),
    ("attention", f"{BRING}#pragma", f"{BRING.replace('1 - stage', 'stage')}#pragma", "attention"),
    ("attention", NEXT, NEXT.replace("1 - stage", "stage"), "attention"),
    ("attention", "for (int stage = 0; h < heads; stage ^= 1)", "for (int stage = 0; h < heads;)", "attention"),
    ("attention", "        fill<KEYS * 2>(values, v + key_head, key_stride, start, S);\n", "", "attention, wide heads"),
    # what is seen
    ("attention", "j >= seen.from && j + n <= seen.to", "j + n <= seen.to", "attention of documents"),
    ("attention", "j >= seen.from && j + n <= seen.to", "j >= seen.from && j < seen.to", "attention"),
    ("attention", "key < seen.low[m][i / 2] || ", "", "attention of documents"),
    ("attention", "key >= seen.high[m][i / 2]", "key > seen.high[m][i / 2]", "attention"),
    ("attention", "key >= seen.high[m][i / 2]", "key >= seen.high[m][0]", "attention"),
    ("attention", "causal ? query + S - T + 1 : S;", "causal ? query + 1 : S;", "attention with dropout"),
    ("attention", "key >= seen.last", "key >= seen.to", "attention"),
    ("attention", "key + count <= seen.first", "key + count <= seen.from", "attention of documents"),
    ("attention", "begin + together + S - T", "begin + 16 + S - T", "attention"),
    ("attention", "min(T, begin + together)) : 0", "begin + 1) : 0", "attention of documents"),
    ("attention", "i < to; i += 32", "i < to; i += 64", "attention, wide heads"),
    ("attention", "return __reduce_min_sync(0xffffffff, found)", "return found", "attention of documents"),
    ("attention", "most = max(most, low);", "most = low;", "attention, wide heads"),
    ("attention", "min(T, start + QUERIES))) / TILE", "start + QUERIES)) / TILE", "attention of documents"),
    ("attention", "min(T - 1, mine + i * 8", "(mine + i * 8", "attention of documents"),
    ("attention", "min(S, start + QUERIES + S - T)", "min(S, start + S - T)", "attention"),
    ("attention", "max(0, start - (S - T))", "start", "attention with dropout"),
    ("attention", "end = __reduce_max_sync(0xffffffff, end);", "", "attention of documents"),
    ("attention", "< start + KEYS) end", "<= start) end", "attention of documents"),
    ("attention", "starts + b * (long long)T + query", "starts + query", "attention of documents"),
    ("attention", "if (STARTS) starts += b * (long long)T;", "", "attention of documents"),
    ("attention", "STARTS || (causal && mine + 15 > future)", "causal && mine + 15 > future", "attention of documents"),
    ("attention", "causal && mine + 15 > future", "causal && mine > future", "attention"),
    ("attention", "together > future + N - 1", "together > future", "attention with dropout"),
    ("attention", "key > future + column", "key >= future + column", "attention"),
    ("attention", "key < low[stage][from + column]", "key < low[stage][column]", "attention of documents"),
    ("attention", "largest[m][r] == -INFINITE ? 0 :", "", "attention of documents"),
    # sums
    ("attention", "total[m][r] *= factor[r];", "", "attention"),
    ("attention", "factor[0] != 1 || factor[1] != 1", "factor[0] != 1", "attention"),
    ("attention", "factor[0] != 1 || factor[1] != 1", "factor[1] != 1", "attention"),
    ("attention", "sum[m][n][i] *= factor[i / 2]", "sum[m][n][i] *= factor[0]", "attention"),
    ("attention", "total[m][r] = row_sum(total[m][r])", "total[m][r] *= 4", "attention"),
    ("attention", "largest[m][r] = row_max(largest[m][r]);", "", "attention"),
    ("attention", "largest[m][r] * scale + log2f", "largest[m][r] + log2f", "attention"),
    ("attention", "d[m][i % 2] +=", "d[m][0] +=", "attention"),
    ("attention", "d[m][r] = row_sum(d[m][r]);", "", "attention"),
    ("attention", "*= dP[m][n][i] - d[m][i / 2]", "*= dP[m][n][i]", "attention"),
    ("attention", "d[stage][from + n * 8 + 2 * t + i % 2])", "d[stage][from + 2 * t + i % 2])", "attention"),
    ("attention", "query < T ? logs[row + query] : 0", "logs[row + query]", "attention"),
    ("attention", "delta + row + query", "delta + query", "attention"),
    ("attention", "group = h / (H / G)", "group = h % G", "attention"),
    ("attention", "(group + 1) * (H / G) : 0", "group * (H / G) + 1 : 0", "attention"),
    ("attention", "sum_dk[0], factor, factor)", "sum_dk[0], 1, 1)", "attention"),
    # dropout
    ("attention_dropout", "causal ? query + S - T + 1 : S", "causal ? query + S - T : S", "attention with dropout"),
    ("attention_dropout", "causal ? query + S - T + 1 : S", "causal ? query + 1 : S", "attention with dropout"),
    ("attention_dropout", "(end + 63) / 64 * 8", "end / 64 * 8", "attention with dropout"),
    ("attention_dropout", "i += blockDim.x / 8", "i += blockDim.x / 4", "attention of documents"),
    ("attention_dropout", "i += blockDim.x / 8", "i += blockDim.x", "attention of documents"),
    ("attention_dropout", "blockIdx.x * 8 + lane / 4", "blockIdx.x * 8 + lane % 8", "attention with dropout"),
    ("attention_dropout", "if (query >= T) return;", "", "attention with dropout"),
    ("attention_dropout", "row * (S / 8) + i", "row * (S / 8)", "attention with dropout"),
    ("attention_dropout", "row * (S / 8) + i", "row * words * 8 + i", "attention with dropout"),
    ("attention_dropout", "row * (S / 8) + i", "query * (S / 8) + i", "attention with dropout"),
    ("attention_dropout", "limit, word(b)}", "limit, 0}", "attention of documents"),
    ("attention_dropout", "(b * (long long)H * T + row)", "row", "attention of documents"),
    ("attention", "mask += row * ((S + 63) / 64)", "mask += h * T * ((S + 63) / 64)", "attention of documents"),
    ("attention", "mine + 16 * m + 8 * r +", "mine + 16 * m +", "attention with dropout"),
    ("attention", "j % 64 + threadIdx.x % 4 * 2", "threadIdx.x % 4 * 2", "attention with dropout"),
    ("attention", "j % 64 + threadIdx.x % 4 * 2", "j % 64 + threadIdx.x % 4", "attention with dropout"),
    ("attention", "bits[i / 2] >> (8 * k", "bits[0] >> (8 * k", "attention with dropout"),
    ("attention", "(8 * k + i % 2) & 1", "(8 * k) & 1", "attention with dropout"),
    ("attention", "mine, m, j + from, T, S", "mine, m, j, T, S", "attention with dropout"),
    ("attention", "(row + query) * ((S + 63) / 64)", "row * ((S + 63) / 64)", "attention with dropout"),
    ("attention", "drawn + key / 64", "drawn", "attention with dropout"),
    ("attention", "2 * t + i % 2][threadIdx.x / 32]", "2 * t + i % 2][0]", "attention with dropout"),
    ("attention", "(g + i / 2 * 8) & 1", "g & 1", "attention with dropout"),
    ("attention", "!DROPOUT || stay(n, i) ? P[0][n][i] : 0", "P[0][n][i]", "attention with dropout"),
    ("attention", "stay(n, i) ? dP * grown : 0", "stay(n, i) ? dP : 0", "attention with dropout"),
    ("attention", "? dP[m][n][i] * grown : 0", "? dP[m][n][i] : 0", "attention with dropout"),
    ("attention", "grown / total[m][0], grown", "1 / total[m][0], 1", "attention with dropout"),
    ("attention", "sum_dv[0], grown, grown", "sum_dv[0], 1, 1", "attention with dropout"),
    # the products
    ("attention", "[place(row + r, column)]", "[column]", "attention of warpgroups"),
    ("attention", "from + r * stride", "from", "attention, wide heads"),
    ("attention", "if (R % ROWS && row + r >= R) break;", "", "attention, 48 wide"),
    ("attention", "start + row + r < end", "true", "attention"),
    ("attention", "start + row + r < end", "start + row < end", "attention, wide heads"),
    ("matrices.", "row < end ?", "row <= end ?", "attention"),
    ("matrices.", "if (start + g + 8 < end)", "if (start + g < end)", "attention"),
    ("matrices.", "i % 2 * 8, column = k * 16 + i / 2 * 8", "i / 2 * 8, column = k * 16 + i % 2 * 8", "attention"),
    ("matrices.", "(a & 0xffff0000) * __uint", "(a << 16) * __uint", "attention"),
    ("matrices.", "if (start + i / 2 * 8 + g < end) x", "x", "attention"),
    ("matrices.", "start + i / 2 * 8 + g < end", "start + i / 4 * 16 + g < end", "attention"),
    ("matrices.", "c[i / 4][from / 8 + n]", "c[0][from / 8 + n]", "attention"),
    ("matrices.", "c[i / 4][from / 8 + n]", "c[i / 4][n]", "attention, wide heads"),
    ("matrices.", "(g & half ? high : low) + other", "low + other", "attention"),
    ("matrices.", "if (from + 2 * lane < D) of_warp", "of_warp", "attention"),
    ("matrices.", "    __syncthreads();  // others may still read what the last call left there\n", "", "attention"),
    ("matrices.", "    __syncthreads();\n    for (int i = threadIdx.x", "    for (int i = threadIdx.x", "attention"),
    ("matrices.", "warp < W", "warp < W - 1", "attention"),
    ("attention", "long long)gridDim.x + blockIdx.x", "long long)gridDim.x", "attention"),
    ("attention", "* G + group) * D;\n    __shared__", "* G) * D;\n    __shared__", "attention"),
    ("attention", "+ part, mine, S, sum_dv, grown,", "+ part, mine, S, sum_dv, 1,", "attention with dropout"),
    ("matrices_warp.", "lane / 16 * 8][k * 16 + lane / 8 % 2", "lane / 8 % 2 * 8][k * 16 + lane / 16", "attention"),
    ("matrices_warp.", "b[from + k * 16 + lane % 16]", "b[from + k * 16 + lane % 8]", "attention"),
    ("matrices_warp.", "b[from + n * 16", "b[n * 16", "attention"),
    ("matrices_warp.", "a[lane % 16]", "a[lane % 8]", "attention, wide heads"),
    ("matrices_warp.", "load_matrices<true>", "load_matrices<false>", "attention"),
    ("matrices_warp.", "[i % 2 * 2], a[m]", "[i % 2], a[m]", "attention"),
    ("matrices_warp.", "typedef bf16 line[D + 8]", "typedef bf16 line[D + 4]", "attention"),
    # a warpgroup's
    *(
        (file, there, planted, "attention of warpgroups")
        for file, there, planted in [
            ("attention", "mine / together * together", "mine"),
            ("attention", "min(T, begin + together)) : 0", "min(T, begin + 16)) : 0"),
            ("attention", "begin + together + S - T", "begin + 16 + S - T"),
            ("attention", "mine / TOGETHER * TOGETHER", "mine"),
            ("attention", f"{SHOW}{SYNC}  {MARK}", f"{SYNC}  {MARK}"),
            ("attention", f"{SHOW}{SYNC}\n{BRING}#pragma", f"{SYNC}\n{BRING}#pragma"),
            ("attention", f"{SHOW}{SYNC}\n        if (next", f"{SYNC}\n        if (next"),
            ("attention", WAIT, f"{SHOW}        wait_for_copies();\n"),
            ("attention", "        finish_products(z);\n", ""),
            ("attention", "        finish_products(sum);\n", ""),
            ("attention", "finish_products<1>(z);", ""),
            ("attention", "finish_products<1>(z);", "finish_products<2>(z);"),
            ("attention", "finish_products(dP);", ""),
            ("attention", "finish_products(dP);", "finish_products<1>(dP);"),
            ("attention", "finish_products<1>(P);", ""),
            ("attention", "finish_products<1>(P);", "finish_products<2>(P);"),
            ("attention", "finish_products<1>(dz);", ""),
            ("attention", "finish_products<1>(dz);", "finish_products<2>(dz);"),
            ("matrices_warpgroup.", "    end_group();\n}\n\n// c", "}\n\n// c"),
            ("matrices_warpgroup.", "    end_group();\n}\n\n// Wait", "}\n\n// Wait"),
            ("matrices_warpgroup.", "wait_for_groups<later>();", "wait_for_groups<later + 1>();"),
            ("attention", "finish_products(sum_dv, sum_dk);", ""),
            ("attention", "line keys[2][TILE], values", "line keys[2][TILE + 1], values"),
            ("matrices_warpgroup.", "column ^ row % 8 * 8", "column ^ row % 4 * 8"),
            ("matrices_warpgroup.", "column ^ row % 8 * 8", "column"),
            ("matrices_warpgroup.", "word(1024 / 16) << 32", "word(2048 / 16) << 32"),
            ("matrices_warpgroup.", "word(1) << 62", "word(2) << 62"),
            ("matrices_warpgroup.", "shared_address(b) / 16", "shared_address(b) / 8"),
            ("matrices_warpgroup.", "k * 32 / 16", "k * 64 / 16"),
            ("matrices_warpgroup.", "k * 2048 / 16", "k * 1024 / 16"),
            ("matrices_warpgroup.", "multiply<true, true>", "multiply<false, true>"),
            ("matrices_warpgroup.", "multiply<false, true>", "multiply<true, true>"),
            ("matrices_warpgroup.", "multiply<false, false>", "multiply<false, true>"),
            ("matrices_warpgroup.", "multiply<false, true>", "multiply<false, false>"),
            ("matrices_warpgroup.", f"{FENCE}    for (int m", "    for (int m"),
            ("matrices_warpgroup.", f"{FENCE}    for (int k", "    for (int k"),
            ("matrices_warpgroup.", "n = i / 2, r = i % 2 * 2", "n = i / 2, r = i % 2"),
        ]
    ),
]  # fmt: skip


TOGETHER = 12  # faults in one compilation
ATTENTION = {  # B, T, S, H, G, D, starts
    "attention": ((2, 65, 65, 4, 2, 16, None),),
    "attention with dropout": ((1, 20, 104, 2, 2, 32, None),),
    "attention of documents": ((2, 200, 200, 2, 1, 16, documents),),
    "attention, wide heads": ((2, 75, 130, 2, 1, 128, alone),),
    "attention, 48 wide": ((1, 40, 70, 1, 1, 48, None),),
    "attention of warpgroups": ((1, 180, 180, 1, 1, 64, alone), (1, 70, 136, 2, 1, 64, None)),
}


def sizes(name, rng):
    """A case of each kind for a rule: whole packets and single numbers, several blocks, nothing that divides."""
    numbers = lambda *shape: rng.standard_normal(shape).astype("float32")
    if name in ATTENTION:
        bf16 = pytest.importorskip("ml_dtypes").bfloat16
        for B, T, S, H, G, D, starts in ATTENTION[name]:
            q, k, v = (numbers(*shape).astype(bf16) for shape in ((B, T, H, D), (B, S, G, D), (B, S, G, D)))
            for causal in (True, False):
                options = {"causal": causal}
                if starts:
                    options |= {"document_starts": starts(rng, B, T, S, causal)}
                if S % 8 == 0 and (starts is None or (starts is documents and causal)):
                    options |= {"p": 0.3, "key": (1, "test", 2, 5)}
                yield Case((q, k, v), options)
        return
    for n, C in ((5, 260), (23, 131), (2, 4), (1, 1100)):
        match name:
            case "layer_norm":
                yield Case((numbers(n, C), numbers(C), numbers(C)))
            case "linear":
                yield Case((numbers(20 * n + 3, 3), numbers(3, C), numbers(C)))
            case "rms_norm":
                yield Case((numbers(n, C), numbers(C)))
            case "dropout":
                yield Case((numbers(n, C // 8 * 8) if C > 8 else numbers(1, C),), {"p": 0.3, "key": (1, "test", 2, 5)})
            case "rotary":
                yield Case((numbers(2, n, 3, 2 * (C // 4)),))
            case "embedding":
                V, N = {5: (4, 40), 23: (70, 700), 2: (3, 1100), 1: (1, 70)}[n]
                yield Case((numbers(V, C), rng.integers(0, max(1, V - 1), N)))  # the last does not occur
            case "cross_entropy" | "log_probability":
                targets = rng.integers(0, C, n)
                targets[1::3] = -100
                x = 5 * numbers(n, C)
                x[:, -C // 30] += 1000  # far above what most threads see
                yield Case((x, targets))
            case "linear_cross_entropy" | "linear_log_probability":
                targets = rng.integers(0, C, 4 * n)
                targets[1::3] = -100
                yield Case((numbers(4 * n, 16), numbers(16, C), targets))
            case "add" | "multiply":
                yield Case((numbers(n, C), numbers(n, C)))
                if name == "add":
                    yield Case((numbers(3, n, C), numbers(1, n, C)))
            case "silu":
                yield Case((numbers(30 * n, C),))
            case _:
                yield Case((numbers(n, C),))


@functools.cache
def known(rule):
    """(case, cotangent, value and gradients by the definition) of the cases of a rule, and the operation's name."""
    rng, name, found = np.random.default_rng(0), "attention" if rule in ATTENTION else rule, []
    for case in sizes(rule, rng):
        dy = cotangent(rng, name, case, case.inputs[0].dtype)
        found.append((case, dy, expected(name, case, dy)))
    return found, name


def looked_at(rule):
    """All that must hold of a kernel, on a few cases, in two orders; a wrong value shows before backward compiles."""
    cases, name = known(rule)
    if name == "embedding":
        ids_outside_their_table(xp)
    for case, dy, right in cases:
        dtype = str(case.inputs[0].dtype)
        for cuda_emulator.order in (1, 0):
            inputs = map(xp.asarray, case.copy().inputs)  # a faulty kernel may write on them
            y, backward = Op.registry[name].run(*inputs, **case.options)
            agree([y.get()], right[:1], case, dtype, name)
            agree([y.get(), *on_host(backward(xp.asarray(dy.copy())))], right, case, dtype, name)
            if name in ("silu", "layer_norm"):
                inputs = map(xp.asarray, case.copy().inputs)
                (dx, *_) = Op.registry[name].run(*inputs)[1](xp.asarray(dy.copy()))
                columns_agree(dx() if callable(dx) else dx, right[1])


@pytest.fixture
def emulated(rule, monkeypatch):
    """Only attention's kernels run for so long that g++ had better optimise them."""
    if rule not in ATTENTION:
        monkeypatch.setattr(cuda_emulator, "FLAGS", ["-O0" if flag == "-O1" else flag for flag in cuda_emulator.FLAGS])
    with small_blocks() as patch:
        yield patch
    cuda_emulator.order = 0


@pytest.mark.parametrize("rule", slow_but(sorted({planted[3] for planted in PLANTED}), "linear"))
def test_without_a_fault_all_is_right(emulated, rule):
    looked_at(rule)


class Texts(dict):
    """Sources by name, to be read as those of a folder."""

    def __truediv__(self, name):
        return SimpleNamespace(read_text=lambda encoding: self[name])


@functools.cache
def faulty(file, there, planted):
    """The sources with a fault, and {file: what is compiled of it}."""
    texts = Texts({path.name: path.read_text("utf-8") for path in cuda_compile.SOURCES.glob("*.cu*")})
    keys = [name for name, text in texts.items() if name.startswith(file) and there in text]
    assert keys
    texts |= {name: texts[name].replace(there, planted) for name in keys}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_compile, "SOURCES", texts)
        return texts, {name: cuda_compile.source(name.removesuffix(".cu")) for name in texts if name.endswith(".cu")}


@functools.cache
def compiled_together(*faults):
    """For `beside`: each file's texts with one of these faults."""
    found = {}
    for texts in zip(*(faulty(*fault)[1].values() for fault in faults), strict=True):
        found |= {text: list(dict.fromkeys(texts)) for text in texts}
    return found


@pytest.mark.parametrize(("file", "there", "planted", "rule"), first_of_each(PLANTED, lambda fault: "fault"))
def test_a_planted_fault_is_noticed(emulated, request, file, there, planted, rule):
    tests = [item for item in request.session.items if getattr(item, "function", None) is request.function]
    rows = [tuple(test.callspec.params[name] for name in ("file", "there", "planted", "rule")) for test in tests]
    alike = [row[:3] for row in rows if (row[0], row[3]) == (file, rule)]
    first = alike.index((file, there, planted)) // TOGETHER * TOGETHER
    emulated.setattr(cuda_emulator, "beside", compiled_together(*alike[first : first + TOGETHER]))
    emulated.setattr(cuda_compile, "SOURCES", faulty(file, there, planted)[0])
    with pytest.raises((AssertionError, LaunchError)) as found:
        looked_at(rule)
    assert "g++ refuses" not in str(found.value)
