// Attention in bf16 without the weights P in memory (Dao 2023, "FlashAttention-2", algorithms 1 and 2).
//
//   y = P v,  P = exp(z/√D − lse),  z = q kᵀ,  lse = log Σ exp(z/√D)
//   dv = Pᵀ dy,  dz = P (dy vᵀ − δ)/√D,  δ = Σ y dy over a row,  dq = dz k,  dk = dzᵀ q
//
// q, y: (B, T, H, D); k, v: (B, S, G, D), H/G query heads share a key head; lse, δ: (B, H, T) float. Causal: query i
// sees keys up to i + S − T.
// Forward, a block has 64 queries of a head, a warp 16 of them, and goes through the keys 64 by 64: largest logit and
// sum are corrected whenever a larger one comes, and the output with them. Memory: q and y once, k and v once for each
// 64 queries, most of that from the L2 cache. Nothing of size T × S is written; the products are the cost, 4 T S D each
// head, half of it if causal.
// Backward computes P again from lse, twice: once with 64 queries a block for dq and once with 64 keys a block for dk
// and dv. Seven products instead of five, but every sum stays in one block's registers: no atomic additions, and so the
// same bits in every run.
//
//   D: a multiple of 16, at most 64

#include "common.cuh"
#include "matrices.cuh"

const float LOG2E = 1.44269504f;
#define INFINITE __uint_as_float(0x7f800000)

// The last of the blocks in a row of the grid, which has the most keys to see, starts first.
#define PLACE                                                                                             \
    int start = (gridDim.x - 1 - blockIdx.x) * TILE, h = blockIdx.y, b = blockIdx.z, group = h / (H / G); \
    int mine = start + threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;              \
    long long head = (b * (long long)T * H + h) * D, key_head = (b * (long long)S * G + group) * D;       \
    long long stride = H * D, key_stride = G * D, row = (b * (long long)H + h) * T;                       \
    int end = causal ? min(S, start + TILE + S - T) : S;

extern "C" __global__ void __launch_bounds__(128)
    attention_forward(const bf16* q, const bf16* k, const bf16* v, bf16* y, float* lse, int T, int S, int H, int G,
                      int causal, float scale) {
    __shared__ __align__(16) tile keys, values;
    PLACE
    fragments Q;
    fetch(Q, q + head, stride, mine, T);
    float sum[D / 8][4] = {}, largest[2] = {-INFINITE, -INFINITE}, total[2] = {};

    for (int j = 0; j < end; j += TILE) {
        __syncthreads();  // all warps are done with the tiles before
        fill(keys, k + key_head, key_stride, j, S);
        fill(values, v + key_head, key_stride, j, S);
        __syncthreads();
        float z[TILE / 8][4];
        times_transposed(z, Q, keys);
        float before[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
            for (int i = 0; i < 4; i++) {
                int key = j + n * 8 + 2 * t + i % 2, query = mine + g + i / 2 * 8;
                if (key >= S || (causal && key > query + S - T)) z[n][i] = -INFINITE;
                largest[i / 2] = fmaxf(largest[i / 2], z[n][i]);
            }
        float factor[2];
        for (int r = 0; r < 2; r++) {
            largest[r] = row_max(largest[r]);
            factor[r] = exp2f((before[r] - largest[r]) * scale * LOG2E);
            total[r] *= factor[r];
        }
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
            for (int i = 0; i < 4; i++) {
                z[n][i] = exp2f((z[n][i] - largest[i / 2]) * scale * LOG2E);
                total[i / 2] += z[n][i];
            }
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            for (int i = 0; i < 4; i++) sum[n][i] *= factor[i / 2];
        add_product(sum, z, values);
    }

    for (int r = 0; r < 2; r++) total[r] = row_sum(total[r]);
    put(y + head, stride, mine, T, sum, 1 / total[0], 1 / total[1]);
    for (int r = 0; r < 2; r++) {
        int query = mine + g + r * 8;
        if (t == 0 && query < T) lse[row + query] = largest[r] * scale + logf(total[r]);
    }
}

// δ, one warp a row of y: row i of (B, T, H) goes to its place in (B, H, T).
extern "C" __global__ void row_products(const bf16* y, const bf16* dy, float* delta, long long rows, int T, int H) {
    long long i = blockIdx.x * (long long)(blockDim.x / 32) + threadIdx.x / 32;
    if (i >= rows) return;
    float sum = 0;
    for (int c = threadIdx.x % 32; c < D; c += 32) sum += widened(y[i * D + c]) * widened(dy[i * D + c]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[(i / H / T * H + i % H) * T + i / H % T] = sum;
}

extern "C" __global__ void __launch_bounds__(128)
    attention_dq(const bf16* q, const bf16* k, const bf16* v, const bf16* dy, const float* lse, const float* delta,
                 bf16* dq, int T, int S, int H, int G, int causal, float scale) {
    __shared__ __align__(16) tile keys, values;
    PLACE
    fragments Q, dY;
    fetch(Q, q + head, stride, mine, T);
    fetch(dY, dy + head, stride, mine, T);
    float sum[D / 8][4] = {}, log_sum[2], d[2];
    for (int r = 0; r < 2; r++) {
        int query = mine + g + r * 8;
        log_sum[r] = query < T ? lse[row + query] : INFINITE;  // P is 0 then
        d[r] = query < T ? delta[row + query] : 0;
    }

    for (int j = 0; j < end; j += TILE) {
        __syncthreads();
        fill(keys, k + key_head, key_stride, j, S);
        fill(values, v + key_head, key_stride, j, S);
        __syncthreads();
        float z[TILE / 8][4], dP[TILE / 8][4];
        times_transposed(z, Q, keys);
        times_transposed(dP, dY, values);
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
            for (int i = 0; i < 4; i++) {
                int key = j + n * 8 + 2 * t + i % 2, query = mine + g + i / 2 * 8;
                bool seen = key < S && !(causal && key > query + S - T);
                float P = seen ? exp2f((z[n][i] * scale - log_sum[i / 2]) * LOG2E) : 0;
                z[n][i] = P * (dP[n][i] - d[i / 2]);
            }
        add_product(sum, z, keys);
    }
    put(dq + head, stride, mine, T, sum, scale, scale);
}

// The same with rows and columns changed: here z is k qᵀ, a block has 64 keys and goes through its queries.
extern "C" __global__ void __launch_bounds__(128)
    attention_dkv(const bf16* q, const bf16* k, const bf16* v, const bf16* dy, const float* lse, const float* delta,
                  bf16* dk, bf16* dv, int T, int S, int H, int G, int causal, float scale) {
    __shared__ __align__(16) tile queries, outputs;
    __shared__ float log_sum[TILE], d[TILE];
    int start = blockIdx.x * TILE, group = blockIdx.y, b = blockIdx.z;  // the first keys are seen by most queries
    int mine = start + threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    long long key_head = (b * (long long)S * G + group) * D, stride = H * D, key_stride = G * D;
    fragments K, V;
    fetch(K, k + key_head, key_stride, mine, S);
    fetch(V, v + key_head, key_stride, mine, S);
    float sum_dk[D / 8][4] = {}, sum_dv[D / 8][4] = {};
    int first = causal ? max(0, start - (S - T)) / TILE * TILE : 0;

    for (int h = group * (H / G); h < (group + 1) * (H / G); h++) {
        long long head = (b * (long long)T * H + h) * D, row = (b * (long long)H + h) * T;
        for (int j = first; j < T; j += TILE) {
            __syncthreads();
            fill(queries, q + head, stride, j, T);
            fill(outputs, dy + head, stride, j, T);
            if (threadIdx.x < TILE) {
                int query = j + threadIdx.x;
                log_sum[threadIdx.x] = query < T ? lse[row + query] : INFINITE;
                d[threadIdx.x] = query < T ? delta[row + query] : 0;
            }
            __syncthreads();
            float P[TILE / 8][4], dz[TILE / 8][4];
            times_transposed(P, K, queries);
            times_transposed(dz, V, outputs);
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
                for (int i = 0; i < 4; i++) {
                    int column = n * 8 + 2 * t + i % 2, key = mine + g + i / 2 * 8;
                    bool seen = !(causal && key > j + column + S - T);
                    P[n][i] = seen ? exp2f((P[n][i] * scale - log_sum[column]) * LOG2E) : 0;
                    dz[n][i] = P[n][i] * (dz[n][i] - d[column]);
                }
            add_product(sum_dv, P, outputs);
            add_product(sum_dk, dz, queries);
        }
    }
    put(dk + key_head, key_stride, mine, S, sum_dk, scale, scale);
    put(dv + key_head, key_stride, mine, S, sum_dv, 1, 1);
}
