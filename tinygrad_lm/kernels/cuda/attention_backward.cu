// Backward of attention.cu (Dao 2023, "FlashAttention-2", algorithm 2; letters and shapes as there).
//
//   dv = (P m)ᵀ dy,  dz = P (m dy vᵀ − δ)/√D,  δ = Σ y dy over a row,  dq = dz k,  dk = dzᵀ q
//
// P is computed again from L, twice: for dq (and δ) a warp has strips of queries and goes through the keys, for dk and dv
// a strip of keys and goes through the queries of all heads that share them. Seven products instead of five, but every
// sum stays in one block: no atomic additions, so the same bits in every run.
//
// Memory: for dq: q, y, dy and dq once, k and v once for each block of queries; for dk and dv: these and k, v once, q
// and dy once for each block of keys. The products are the cost: 14 T S D operations a head, half of it if causal.
//
// Each block also leaves the sums of its rows of dq, or of dk and dv, before they are rounded: a row of parts, of which
// there are as many as blocks in a row of the grid, for each b (see columns.py).

#include "common.cuh"
#include "matrices.cuh"
#include "matrices_warp.cuh"
#include "matrices_warpgroup.cuh"
#include "attention.cuh"

const int KEYS = 64;                  // of a block for dk and dv, a warp's strip has 16
const int SHORT = D <= 64 ? 64 : 16;  // queries that are brought at once for them
const int DQ_BLOCKS = WGMMA && !(DROPOUT && STARTS) ? 3 : 2, DKV_BLOCKS = D > 64 ? 1 : WGMMA && DROPOUT ? 2 : 3;

extern "C" __global__ void __launch_bounds__(WARPS * 32, DQ_BLOCKS)
    attention_dq(const bf16* q, const bf16* k, const bf16* v, const int* starts, const bf16* y, const bf16* dy,
                 const float* logs, float* delta, bf16* dq, float* dq_parts, int T, int S, int H, int G, int causal,
                 float scale, const word* mask, float grown) {
    const int N = WGMMA ? 64 : 16;  // keys that are computed at once
    __shared__ __align__(1024) line keys[2][TILE], values[2][TILE];
    PLACE
    sight seen = look(starts, mine, T, S, causal);
    fragments Q[STRIPS], dY[STRIPS];
    float sum[STRIPS][D / 8][4] = {}, L[STRIPS][2], d[STRIPS][2] = {};
    auto bring = [&](int j, int stage) {
        fill<WARPS * 32>(keys[stage], k + key_head, key_stride, j, S);
        fill<WARPS * 32>(values[stage], v + key_head, key_stride, j, S);
    };

    if (begin < end) bring(begin, 0);
#pragma unroll
    for (int m = 0; m < STRIPS; m++) {
        fragments Y;
        fetch(Q[m], q + head, stride, mine + 16 * m, T);
        fetch(dY[m], dy + head, stride, mine + 16 * m, T);
        fetch(Y, y + head, stride, mine + 16 * m, T);
#pragma unroll
        for (int i = 0; i < D / 4; i++) d[m][i % 2] += product(Y[i / 4][i % 4], dY[m][i / 4][i % 4]);
        for (int r = 0; r < 2; r++) {
            d[m][r] = row_sum(d[m][r]);
            int query = mine + 16 * m + g + r * 8;
            L[m][r] = query < T ? logs[row + query] : 0;
            if (t == 0 && query < T) delta[row + query] = d[m][r];
        }
    }
    for (int j = begin, stage = 0; j < end; j += TILE, stage ^= 1) {
        wait_for_copies();
        show_copies();
        __syncthreads();
        if (j + TILE < end) bring(j + TILE, 1 - stage);
#pragma unroll 1
        for (int from = 0; from < TILE; from += N) {
            if (nothing(seen, j + from, N)) continue;
            float z[STRIPS][N / 8][4], dP[STRIPS][N / 8][4];
            times_transposed<STRIPS, N>(z, Q, keys[stage], from);
            times_transposed<STRIPS, N>(dP, dY, values[stage], from);
            finish_products<1>(z);
            hide<N>(z, seen, j + from);
#pragma unroll
            for (int m = 0; m < STRIPS; m++)
                for (int n = 0; n < N / 8; n++)
                    for (int i = 0; i < 4; i++) z[m][n][i] = exp2f(fmaf(z[m][n][i], scale, -L[m][i / 2]));
            finish_products(dP);
#pragma unroll
            for (int m = 0; m < STRIPS; m++) {
                if (DROPOUT) {
                    word bits[2];
                    look_up(bits, mask, seen, mine, m, j + from, T, S);
#pragma unroll
                    for (int n = 0; n < N / 8; n++)
                        for (int i = 0; i < 4; i++) dP[m][n][i] = stays(bits, n, i) ? dP[m][n][i] * grown : 0;
                }
#pragma unroll
                for (int n = 0; n < N / 8; n++)
                    for (int i = 0; i < 4; i++) z[m][n][i] *= dP[m][n][i] - d[m][i / 2];
            }
            add_product<STRIPS, N>(sum, z, keys[stage], from);
            finish_products(sum);
        }
    }
    float factor = scale / LOG2E;
#pragma unroll
    for (int m = 0; m < STRIPS; m++) put(dq + head, stride, mine + 16 * m, T, sum[m], factor, factor);
    long long part = ((b * (long long)gridDim.x + blockIdx.x) * H + h) * D;
    __shared__ float of_warp[WARPS][D];
    put_column_sums(dq_parts + part, mine, T, sum, factor, of_warp);
}

// The same with rows and columns changed: here z is k qᵀ, a block has keys and goes through its queries.
extern "C" __global__ void __launch_bounds__(KEYS * 2, DKV_BLOCKS)
    attention_dkv(const bf16* q, const bf16* k, const bf16* v, const int* starts, const bf16* dy, const float* logs,
                  const float* delta, bf16* dk, bf16* dv, float* dk_parts, float* dv_parts, int T, int S, int H, int G,
                  int causal, float scale, const word* mask, float grown) {
    const int N = !WGMMA ? 16 : DROPOUT ? 64 : 32;  // queries that are computed at once, as the registers allow
    __shared__ __align__(1024) line queries[2][SHORT], outputs[2][SHORT];
    const int WHOLE = 64;  // SHORT are needed, but two whole warps fill them
    __shared__ float L[2][WHOLE], d[2][WHOLE];
    __shared__ int low[2][WHOLE];
    __shared__ __align__(8) unsigned short stays[2][WHOLE][KEYS / 16];  // the mask of attention_dropout.cu
    int start = blockIdx.x * KEYS, group = blockIdx.y, b = blockIdx.z;  // the first keys are seen by most queries
    int mine = start + threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int together = mine / TOGETHER * TOGETHER;  // the first key of those that compute together
    long long key_head = (b * (long long)S * G + group) * D, key_stride = G * D;
    fragments K[1];
    fetch(K[0], k + key_head, key_stride, mine, S);
#if D > 64  // the registers do not hold V too
    __shared__ __align__(16) line values[KEYS];
    const line* V[1] = {values + threadIdx.x / 32 * 16};
#else
    fragments V[1];
    fetch(V[0], v + key_head, key_stride, mine, S);
#endif
    float sum_dk[1][D / 8][4] = {}, sum_dv[1][D / 8][4] = {};
    int begin = causal ? max(0, start - (S - T)) / SHORT * SHORT : 0, end = T;
    if (STARTS) {  // the last query that sees one of the keys
        end = 0;
        for (int i = begin + threadIdx.x % 32; i < T; i += 32)
            if (starts[b * (long long)T + i] < start + KEYS) end = i + 1;
        end = __reduce_max_sync(0xffffffff, end);
    }
    int heads = end > begin ? (group + 1) * (H / G) : 0;
    auto bring = [&](int h, int j, int stage) {
        int query = j + threadIdx.x;
        long long head = (b * (long long)T * H + h) * D, row = (b * (long long)H + h) * T;
        fill<KEYS * 2>(queries[stage], q + head, H * D, j, T);
        fill<KEYS * 2>(outputs[stage], dy + head, H * D, j, T);
        if (threadIdx.x >= WHOLE) return;
        copy_later_4(&L[stage][threadIdx.x], logs + row + query, query < T);  // P = 1 where there is none, times zeros
        copy_later_4(&d[stage][threadIdx.x], delta + row + query, query < T);
        if (STARTS) copy_later_4(&low[stage][threadIdx.x], starts + b * (long long)T + query, query < T);
        const word* drawn = mask + (row + query) * ((S + 63) / 64);
        for (int key = start; DROPOUT && key < start + KEYS; key += 64) {
            bool there = query < T && key < S && (!causal || key <= query + S - T);
            copy_later_8(&stays[stage][threadIdx.x][(key - start) / 16], drawn + key / 64, there);
        }
    };

    int h = group * (H / G), j = begin;
    if (h < heads) {
        bring(h, j, 0);
#if D > 64
        fill<KEYS * 2>(values, v + key_head, key_stride, start, S);
#endif
    }
    for (int stage = 0; h < heads; stage ^= 1) {
        int next = j + SHORT < end ? j + SHORT : begin, next_h = h + (next == begin);
        wait_for_copies();
        show_copies();
        __syncthreads();
        if (next_h < heads) bring(next_h, next, 1 - stage);
#pragma unroll 1
        for (int from = 0; from < SHORT; from += N) {
            int query = j + from, future = query + S - T;  // the first query's last key, if causal
            if (together >= S || query >= T || (causal && together > future + N - 1)) continue;
            float P[1][N / 8][4], dz[1][N / 8][4];
            times_transposed<1, N>(P, K, queries[stage], from);
            times_transposed<1, N>(dz, V, outputs[stage], from);
            finish_products<1>(P);
            if (STARTS || (causal && mine + 15 > future))
#pragma unroll
                for (int n = 0; n < N / 8; n++)
                    for (int i = 0; i < 4; i++) {
                        int column = n * 8 + 2 * t + i % 2, key = mine + g + i / 2 * 8;
                        bool hidden = (causal && key > future + column) || (STARTS && key < low[stage][from + column]);
                        if (hidden) P[0][n][i] = -INFINITE;
                    }
            float kept[1][N / 8][4];
            auto stay = [&](int n, int i) {
                return stays[stage][from + n * 8 + 2 * t + i % 2][threadIdx.x / 32] >> (g + i / 2 * 8) & 1;
            };
#pragma unroll
            for (int n = 0; n < N / 8; n++)
                for (int i = 0; i < 4; i++) {
                    P[0][n][i] = exp2f(fmaf(P[0][n][i], scale, -L[stage][from + n * 8 + 2 * t + i % 2]));
                    kept[0][n][i] = !DROPOUT || stay(n, i) ? P[0][n][i] : 0;
                }
            add_product<1, N>(sum_dv, kept, outputs[stage], from);
            finish_products<1>(dz);
#pragma unroll
            for (int n = 0; n < N / 8; n++)
                for (int i = 0; i < 4; i++) {
                    float& dP = dz[0][n][i];
                    if (DROPOUT) dP = stay(n, i) ? dP * grown : 0;
                    dP = P[0][n][i] * (dP - d[stage][from + n * 8 + 2 * t + i % 2]);
                }
            add_product<1, N>(sum_dk, dz, queries[stage], from);
            finish_products(sum_dv, sum_dk);
        }
        h = next_h, j = next;
    }
    float factor = scale / LOG2E;
    put(dk + key_head, key_stride, mine, S, sum_dk[0], factor, factor);
    put(dv + key_head, key_stride, mine, S, sum_dv[0], grown, grown);
    long long part = ((b * (long long)gridDim.x + blockIdx.x) * G + group) * D;
    __shared__ float of_warp[KEYS / 16][D];
    put_column_sums(dk_parts + part, mine, S, sum_dk, factor, of_warp);
    put_column_sums(dv_parts + part, mine, S, sum_dv, grown, of_warp);
}
